"""Pure reconcilers, one module per kind: `decide(scope) -> Outcome`, without a clock and without I/O."""
