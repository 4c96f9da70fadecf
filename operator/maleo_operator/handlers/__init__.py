"""kopf: parse, mark keys dirty."""
