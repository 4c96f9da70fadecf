"""Equivalence classes of units: the units of a class differ only in their names and their reservations."""

from bisect import bisect_left, insort
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from maleo_planner.cost_model.units import UnitFacts

ClassKey = tuple[object, ...]


@dataclass(slots=True, eq=False, weakref_slot=True)
class UnitClass:
    """Class of equivalent units.

    Attributes:
        key: Properties that all members have in common.
        members: Available units, sorted by key.
        version: Number of changes of the members.
    """

    key: ClassKey
    members: list[UnitFacts] = field(default_factory=list)
    version: int = 0

    def add(self, unit: UnitFacts) -> None:
        """Insert a unit in sorted order."""
        insort(self.members, unit, key=lambda u: u.key)
        self.version += 1

    def remove(self, unit: UnitFacts) -> None:
        """Remove a member."""
        del self.members[bisect_left(self.members, unit.key, key=lambda u: u.key)]
        self.version += 1


class UnitClasses:
    """Available units by class.

    Args:
        units: Initial units.
        discriminate: Returns the part of the class key of a unit that depends on the fleet.
    """

    def __init__(self, units: Iterable[UnitFacts], discriminate: Callable[[UnitFacts], object]) -> None:
        self._discriminate = discriminate
        self._classes: dict[ClassKey, UnitClass] = {}
        self._keys: dict[tuple[str, str], ClassKey] = {}
        self.replace((), units)

    def __iter__(self) -> Iterator[UnitClass]:
        return iter(self._classes.values())

    def __len__(self) -> int:
        return len(self._classes)

    def class_of(self, unit: UnitFacts) -> UnitClass:
        """Return the class of an available unit."""
        return self._classes[self._keys[unit.key]]

    def key(self, unit: UnitFacts) -> ClassKey:
        """Return the class key of a unit, also of one that is not available."""
        node, kind = unit.node, (unit.profile, unit.power_mode, unit.name, unit.simulated)
        return self._discriminate(unit), *kind, node.site, node.tier, unit.capacity, unit.memory, unit.power_cap

    def replace(self, old: Iterable[UnitFacts], new: Iterable[UnitFacts]) -> bool:
        """Replace the units `old`, as they were added, by `new`; return True if a class was added or removed."""
        affected: set[ClassKey] = set()
        for unit in old:
            if unit.available:
                key = self._keys.pop(unit.key)
                self._classes[key].remove(unit)
                affected.add(key)
        has_added = False
        for unit in new:
            if unit.available:
                key = self._keys[unit.key] = self.key(unit)
                has_added |= key not in self._classes
                self._classes.setdefault(key, UnitClass(key)).add(unit)
        empty = [key for key in affected if not self._classes[key].members]
        for key in empty:
            del self._classes[key]
        return has_added or bool(empty)
