"""An API server for tests: EndpointSlices by list and watch, as Kubernetes means them, and nothing else."""
