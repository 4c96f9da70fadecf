"""Builders of a mission's status: conditions, margins and events."""
