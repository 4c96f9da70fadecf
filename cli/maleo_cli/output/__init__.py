"""Output of plans: tables, text, JSON and SVG."""
