"""Equivalence classes of units: those of one class differ in their names and in what is held of them, no more."""

from bisect import insort
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice

from maleo_operator.planning.holdings import Loads
from maleo_operator.planning.lattice import Load, waiting
from maleo_operator.planning.units import UnitFacts

ClassKey = tuple[object, ...]


@dataclass(slots=True)
class UnitClass:
    """members: by name."""

    key: ClassKey
    members: list[UnitFacts] = field(default_factory=list)

    def front(self, loads: Loads, most: int, *, but: str) -> list[UnitFacts]:
        """The members that can be among the best `most` of a plan: idle ones by name, else those that fewer than `most`
        others leave more of in every way. Not those of node `but`.
        """
        others = [unit for unit in self.members if unit.node.name != but]
        idle = list(islice((unit for unit in others if loads[unit.key] == _IDLE), most))
        if len(idle) == most:
            return idle
        loaded = sorted(
            ((_burden(loads[unit.key]), unit) for unit in others if loads[unit.key] != _IDLE),
            key=lambda row: (row[0], row[1].key),
        )
        kept: list[tuple[tuple[float, ...], UnitFacts]] = []
        for burden, unit in loaded:
            better = sum(all(a <= b for a, b in zip(other, burden, strict=True)) for other, _ in kept)
            if better + len(idle) < most:
                kept.append((burden, unit))
        return [*idle, *(unit for _, unit in kept)]


class Classes:
    """All units by class. `named`: nodes that something is said about by name, each a class of its own."""

    def __init__(self, units: Iterable[UnitFacts], named: frozenset[str]) -> None:
        self.named = named
        self._classes: dict[ClassKey, UnitClass] = {}
        for unit in units:
            self.add(unit)

    def __iter__(self) -> Iterator[UnitClass]:
        return iter(self._classes.values())

    def add(self, unit: UnitFacts) -> None:
        key = self.key(unit)
        insort(self._classes.setdefault(key, UnitClass(key)).members, unit, key=lambda u: u.key)

    def key(self, unit: UnitFacts) -> ClassKey:
        apart = unit.node.name in self.named or unit.reconfiguration != 0  # it matters what is held there, not how much
        own = unit.node.name if apart else ""
        return (
            own,
            unit.profile,
            unit.power_mode,
            unit.name,
            unit.node.site,
            unit.node.tier,
            unit.capacity,
            unit.memory,
            unit.simulated,
        )


_IDLE = Load()


def _burden(load: Load) -> tuple[float, float, float]:
    return load.share, waiting(load), load.memory
