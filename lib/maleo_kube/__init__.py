"""Thin asyncio client of the Kubernetes API server: list, watch, apply, status, delete."""
