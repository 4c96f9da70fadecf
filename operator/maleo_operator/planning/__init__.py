"""Pure planner: computes a plan from a frozen snapshot, or the reasons why none exists."""
