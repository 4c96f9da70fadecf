"""Builders and generators of planning problems."""
