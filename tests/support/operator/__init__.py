"""Builders and a simulation for tests of the operator."""
