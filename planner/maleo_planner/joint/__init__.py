"""Planning of many missions together."""
