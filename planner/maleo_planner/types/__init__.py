"""Input and output types of the planner: snapshot, requirements, runnable variants, plans and stored problems."""
