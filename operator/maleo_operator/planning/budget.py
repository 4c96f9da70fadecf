"""Work budget of one plan, counted and not timed: the same input and the same budget give the same plan.

One unit of work is about one cell of an array that is read, computed and written; a call of a numpy kernel on small
arrays counts as `CALL`. `benchmarks/planning.py budget` measures how long a unit takes.
"""

from typing import Final, NamedTuple

CALL: Final = 5_000.0
"""Units of work of a few numpy calls on arrays so small that the calls themselves are what takes time."""
STANDARD: Final = 2.5e9
"""Units of work of planning one mission."""
ADVICE: Final = 1.5e9
"""Units of work of telling what is in the way and what would do, or what else there was."""


class Budgets(NamedTuple):
    """Units of work of one decision: of the plan, and of telling what is in the way and what would do."""

    plan: float = STANDARD
    advice: float = ADVICE


class Budget:
    """Counts work down. Every loop of the planner spends before a step, and stops when nothing is left."""

    __slots__ = ("left",)

    def __init__(self, work: float = STANDARD) -> None:
        self.left = work

    def spend(self, work: float) -> bool:
        """Take `work` off; return whether anything is left."""
        self.left -= work
        return self.left > 0

    @property
    def is_exhausted(self) -> bool:
        return self.left <= 0
