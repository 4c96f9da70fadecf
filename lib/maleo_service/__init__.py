"""What operator, agent and slot share as processes: life cycle, settings, logs and health server."""
