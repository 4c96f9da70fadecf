"""Incremental index of objects by owning mission, so that a decision reads only the objects of its mission."""

from typing import Generic, TypeVar

Item = TypeVar("Item")


class OwnerIndex(Generic[Item]):
    """Items indexed by mission, then by their own key."""

    def __init__(self) -> None:
        self._by_owner: dict[str, dict[str, Item]] = {}

    def move(self, key: str, old_owner: str, new_owner: str, item: Item | None) -> None:
        """Move `item` from `old_owner` to `new_owner`, or remove it if None. The two may be equal or empty."""
        self._by_owner.get(old_owner, {}).pop(key, None)
        if item is not None:
            self._by_owner.setdefault(new_owner, {})[key] = item
        if not self._by_owner.get(old_owner):
            self._by_owner.pop(old_owner, None)

    def of(self, mission: str) -> list[Item]:
        """Return the items of `mission`, sorted by key."""
        items = self._by_owner.get(mission, {})
        return [items[key] for key in sorted(items)]
