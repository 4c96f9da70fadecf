"""Planning of one mission: candidates, objective, rejections, and the construction of plans."""
