"""Manifests that a mission owns: Placements, slot pods, Service and Secret."""
