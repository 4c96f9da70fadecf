"""Deterministic work budgets: work is counted, not timed, so that equal inputs give equal plans.

One unit of work is about one array cell that is read, computed and written. A few numpy calls on small arrays count as
`CALL_WORK`. `benchmarks/planning.py budget` measures how long a unit takes.
"""

from typing import Final, NamedTuple

CALL_WORK: Final = 5_000.0
"""Work of a few numpy calls on arrays so small that call overhead dominates."""
DEFAULT_PLAN_WORK: Final = 2.5e9
"""Default work for planning one mission."""
DEFAULT_ADVICE_WORK: Final = 1.5e9
"""Default work for explaining one decision: blockers and relaxations, or alternatives."""


class Budgets(NamedTuple):
    """Work budgets of one decision: for the plan, and for its explanation."""

    plan: float = DEFAULT_PLAN_WORK
    advice: float = DEFAULT_ADVICE_WORK


class Budget:
    """Remaining work. Every loop of the planner calls `spend` before a step, and stops when the budget is exhausted."""

    __slots__ = ("remaining",)

    def __init__(self, work: float = DEFAULT_PLAN_WORK) -> None:
        self.remaining = work

    def spend(self, work: float) -> bool:
        """Subtract `work`; return True if any is left."""
        self.remaining -= work
        return self.remaining > 0

    @property
    def is_exhausted(self) -> bool:
        """Return True if no work is left."""
        return self.remaining <= 0
