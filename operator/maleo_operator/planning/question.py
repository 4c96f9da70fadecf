"""What is asked of a lattice: the way that costs least within limits."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from maleo_operator.planning.amount import Amount, Frame
from maleo_operator.planning.lattice import Lattice

Way = tuple[tuple[int, int], ...]
"""(place, boundary that it ends at) in the order of the data."""


@dataclass(frozen=True, slots=True)
class Limit:
    """A way's `amount`, summed over its steps or (`peak`) the largest of them, must not exceed `most`."""

    amount: Amount
    most: float
    peak: bool = False


@dataclass(frozen=True, slots=True)
class Question:
    """Minimise the sum of `cost` within limits; if not `strict`, the least relative shortfall first."""

    cost: Amount
    limits: tuple[Limit, ...]
    most: int  # partitions
    strict: bool = True

    def within(self, frame: Frame) -> "Question":
        limits = tuple(replace(limit, amount=limit.amount.within(frame)) for limit in self.limits)
        return replace(self, cost=self.cost.within(frame), limits=limits)


def total(amount: Amount, lattice: Lattice, way: Sequence[tuple[int, int]], *, peak: bool = False) -> float:
    """What a complete way amounts to; infinite where it is not possible."""
    place, boundary, steps = lattice.source, 0, []
    for unit, end in way:
        steps += [amount.hop(place, unit, boundary), amount.span(unit, boundary, end)]
        place, boundary = unit, end
    return max(steps) if peak else sum(steps)
