"""The only Kubernetes I/O of the operator: cache, writes."""
