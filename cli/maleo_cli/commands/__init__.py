"""Commands of `maleo`."""
