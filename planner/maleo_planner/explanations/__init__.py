"""Explanations: why a mission has no plan or this one, and what would change that."""
