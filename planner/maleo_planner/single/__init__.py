"""Planning of one mission: candidates, objective, rejections, and the plan with all its figures."""
