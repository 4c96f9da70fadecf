"""Nodes as plain processes: a double of the kubelet that needs no root and no container runtime."""
