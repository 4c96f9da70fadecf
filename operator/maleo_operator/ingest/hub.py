"""What every agent is to run, put together from all missions' decisions, and told by the leader alone."""

from collections.abc import Iterable, Mapping

from maleo_wire.messages import AgentDesired, SlotDesired
from maleo_wire.parent import Parent


class Hub:
    """Nothing is told before every mission was decided once under this leader: half the truth would stop the rest."""

    def __init__(self, parent: Parent) -> None:
        self._parent = parent
        self._by_mission: dict[str, tuple[tuple[str, SlotDesired], ...]] = {}
        self._epoch: int | None = None  # None while this replica may not tell anything

    def lead(self, epoch: int, nodes: Iterable[str]) -> None:
        """From now on; tells every node all that was decided so far."""
        self._epoch = epoch
        for node in sorted({*nodes, *self._nodes(self._by_mission)}):
            self._tell(node)

    def resign(self) -> None:
        self._epoch = None
        self._by_mission.clear()

    def desire(self, mission: str, slots: tuple[tuple[str, SlotDesired], ...]) -> None:
        """All slots of one mission; those that were desired before and are not any more are gone."""
        before = self._by_mission.get(mission, ())
        if before == slots:
            return
        if slots:
            self._by_mission[mission] = slots
        else:
            self._by_mission.pop(mission, None)
        for node in sorted({node for node, _ in (*before, *slots)}):
            self._tell(node)

    def _tell(self, node: str) -> None:
        if self._epoch is None:
            return
        mine = [slot for slots in self._by_mission.values() for where, slot in slots if where == node]
        ordered = tuple(sorted(mine, key=lambda slot: slot.slot))
        self._parent.push(node, AgentDesired(node=node, slots=ordered), epoch=self._epoch)

    @staticmethod
    def _nodes(by_mission: Mapping[str, tuple[tuple[str, SlotDesired], ...]]) -> set[str]:
        return {node for slots in by_mission.values() for node, _ in slots}
