"""Kubernetes I/O of decisions: the informer cache and the writer."""
