"""The only room where time passes: success path, call machine, drivers, clusters and the worker."""
