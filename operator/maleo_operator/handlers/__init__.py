"""kopf watch handlers, one module per kind that users write: each passes the object to the cache."""
