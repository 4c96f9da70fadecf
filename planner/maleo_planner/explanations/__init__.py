"""Explanations: why a mission has no plan or this plan, and which changes would help."""
