"""Kubernetes: watching EndpointSlices at the API server."""
