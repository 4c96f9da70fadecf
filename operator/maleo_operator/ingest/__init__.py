"""Telemetry from agents: authenticated, bounded, and aggregated in windows."""
