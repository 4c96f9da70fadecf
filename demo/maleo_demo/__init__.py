"""Demonstration of Maleo on a real cluster: `make demo`."""
