"""Policies: when to plan a mission, and how long to wait before a retry."""
