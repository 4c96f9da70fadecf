"""Deterministic work budget of a decision: work is counted, not timed, so that equal inputs give equal plans.

One unit of work is about one array cell that is read, computed and written; a call of a numpy kernel on small arrays
counts as `CALL`. `benchmarks/planning.py budget` measures how long a unit takes.
"""

from typing import Final, NamedTuple

CALL: Final = 5_000.0
"""Units of work of a few numpy calls on arrays so small that call overhead dominates."""
STANDARD: Final = 2.5e9
"""Units of work for planning one mission."""
ADVICE: Final = 1.5e9
"""Units of work for explaining one decision: blockers and relaxations, or rejected alternatives."""


class Budgets(NamedTuple):
    """Units of work of one decision: for the plan, and for its explanation."""

    plan: float = STANDARD
    advice: float = ADVICE


class Budget:
    """Remaining units of work. Every loop of the planner spends before a step, and stops when nothing is left."""

    __slots__ = ("left",)

    def __init__(self, work: float = STANDARD) -> None:
        self.left = work

    def spend(self, work: float) -> bool:
        """Subtract `work`; return True if anything is left."""
        self.left -= work
        return self.left > 0

    @property
    def is_exhausted(self) -> bool:
        """Whether nothing is left."""
        return self.left <= 0
