"""Partition graph of one variant, and the cheapest path through it within limits."""
