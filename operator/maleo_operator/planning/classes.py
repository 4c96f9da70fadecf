"""Equivalence classes of units: those of one class differ in their names and in what is held of them, no more."""

from bisect import bisect_left, insort
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from maleo_operator.planning.units import UnitFacts

ClassKey = tuple[object, ...]


@dataclass(slots=True, eq=False)
class UnitClass:
    """members: that can be planned with, by name. version: another one whenever they change."""

    key: ClassKey
    members: list[UnitFacts] = field(default_factory=list)
    version: int = 0

    def add(self, unit: UnitFacts) -> None:
        insort(self.members, unit, key=lambda u: u.key)
        self.version += 1

    def remove(self, unit: UnitFacts) -> None:
        del self.members[bisect_left(self.members, unit.key, key=lambda u: u.key)]
        self.version += 1


class Classes:
    """Available units by class. `apart`: what sets a unit apart at present besides its own figures."""

    def __init__(self, units: Iterable[UnitFacts], apart: Callable[[UnitFacts], object]) -> None:
        self._apart = apart
        self._classes: dict[ClassKey, UnitClass] = {}
        self._keys: dict[tuple[str, str], ClassKey] = {}
        self.replace((), units)

    def __iter__(self) -> Iterator[UnitClass]:
        return iter(self._classes.values())

    def __len__(self) -> int:
        return len(self._classes)

    def of(self, unit: UnitFacts) -> UnitClass:
        return self._classes[self._keys[unit.key]]

    def key(self, unit: UnitFacts) -> ClassKey:
        """Also of a unit that is not available."""
        node, kind = unit.node, (unit.profile, unit.power_mode, unit.name, unit.simulated)
        return self._apart(unit), *kind, node.site, node.tier, unit.capacity, unit.memory, unit.cap

    def replace(self, old: Iterable[UnitFacts], new: Iterable[UnitFacts]) -> bool:
        """Whether there are other classes now, not only other members."""
        touched: set[ClassKey] = set()
        for unit in old:
            if unit.available:
                key = self._keys.pop(unit.key)
                self._classes[key].remove(unit)
                touched.add(key)
        made = False
        for unit in new:
            if unit.available:
                key = self._keys[unit.key] = self.key(unit)
                made |= key not in self._classes
                self._classes.setdefault(key, UnitClass(key)).add(unit)
        gone = [key for key in touched if not self._classes[key].members]
        for key in gone:
            del self._classes[key]
        return made or bool(gone)
