"""Partition graph of a variant, and the cheapest path through it within limits."""
