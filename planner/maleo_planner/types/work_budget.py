"""Deterministic work budget of a decision: work is counted, not timed, so that equal inputs give equal plans.

One unit of work is about one array cell that is read, computed and written; a call of a numpy kernel on small arrays
counts as `CALL_WORK`. `benchmarks/planning.py budget` measures how long a unit takes.
"""

from typing import Final, NamedTuple

CALL_WORK: Final = 5_000.0
"""Units of work of a few numpy calls on arrays so small that call overhead dominates."""
DEFAULT_PLAN_WORK: Final = 2.5e9
"""Units of work for planning one mission."""
DEFAULT_ADVICE_WORK: Final = 1.5e9
"""Units of work for explaining one decision: blockers and relaxations, or rejected alternatives."""


class Budgets(NamedTuple):
    """Units of work of one decision: for the plan, and for its explanation."""

    plan: float = DEFAULT_PLAN_WORK
    advice: float = DEFAULT_ADVICE_WORK


class Budget:
    """Remaining units of work. Every loop of the planner spends before a step, and stops when nothing is left."""

    __slots__ = ("remaining",)

    def __init__(self, work: float = DEFAULT_PLAN_WORK) -> None:
        self.remaining = work

    def spend(self, work: float) -> bool:
        """Subtract `work`; return True if anything is left."""
        self.remaining -= work
        return self.remaining > 0

    @property
    def is_exhausted(self) -> bool:
        """Whether nothing is left."""
        return self.remaining <= 0
