"""What the planner is given and answers: problems, requirements, variants, figures and their order."""
