"""An independent model of one mission: what its manifests mean, as a mixed-integer program and as an enumeration.

No module here imports an algorithm of the planner.
"""
