"""PURE: decide(scope) -> Outcome, one file per kind."""
