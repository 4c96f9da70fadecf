"""Telemetry from agents: authenticated, bounded, windowed."""
