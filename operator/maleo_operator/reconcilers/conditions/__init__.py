"""What is written to a mission's status: conditions, margins, events."""
