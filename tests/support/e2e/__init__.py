"""Shared code of the tests on real nodes."""
