"""Multi-node Kubernetes cluster on one Linux machine, without Docker."""
