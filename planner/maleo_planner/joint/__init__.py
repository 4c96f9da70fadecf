"""Joint planning of many missions."""
