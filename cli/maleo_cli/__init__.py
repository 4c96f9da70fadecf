"""The `maleo` command."""
