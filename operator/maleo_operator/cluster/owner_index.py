"""Incremental index of objects by owning mission, so that a decision reads only the objects of its mission."""

from typing import Generic, TypeVar

Item = TypeVar("Item")


class Grouping(Generic[Item]):
    """Items indexed by mission, then by their own key."""

    def __init__(self) -> None:
        self._groups: dict[str, dict[str, Item]] = {}

    def move(self, key: str, before: str, after: str, item: Item | None) -> None:
        """Move `item` from mission `before` to mission `after`, or remove it if None. The two may be equal or empty."""
        self._groups.get(before, {}).pop(key, None)
        if item is not None:
            self._groups.setdefault(after, {})[key] = item
        if not self._groups.get(before):
            self._groups.pop(before, None)

    def of(self, mission: str) -> list[Item]:
        """Return the items of `mission`, sorted by key."""
        group = self._groups.get(mission, {})
        return [group[key] for key in sorted(group)]
