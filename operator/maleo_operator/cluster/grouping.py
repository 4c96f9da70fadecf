"""What belongs to each mission, renewed with every change, so that a decision looks at its own and not at all."""

from typing import Generic, TypeVar

Item = TypeVar("Item")


class Grouping(Generic[Item]):
    """Items by mission and by their own key."""

    def __init__(self) -> None:
        self._groups: dict[str, dict[str, Item]] = {}

    def move(self, key: str, before: str, after: str, item: Item | None) -> None:
        """The item is `after`'s now, or there is none; the missions may be the same, or empty."""
        self._groups.get(before, {}).pop(key, None)
        if item is not None:
            self._groups.setdefault(after, {})[key] = item
        if not self._groups.get(before):
            self._groups.pop(before, None)

    def of(self, mission: str) -> list[Item]:
        """In the order of their keys."""
        group = self._groups.get(mission, {})
        return [group[key] for key in sorted(group)]
