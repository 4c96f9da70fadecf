"""Desired state of every agent, assembled from the decisions for all missions and published by the leader only."""

from collections.abc import Iterable, Mapping

from maleo_wire.messages import AgentDesired, SlotDesired
from maleo_wire.server_session import ControlServer


class DesiredStatePublisher:
    """Desired-state publisher.

    Call `lead` only after the first full pass over all missions: a partial desired state would stop running slots.
    """

    def __init__(self, server: ControlServer) -> None:
        self._server = server
        self._by_mission: dict[str, tuple[tuple[str, SlotDesired], ...]] = {}
        self._epoch: int | None = None  # None while this replica may not publish

    def lead(self, epoch: int, nodes: Iterable[str]) -> None:
        """Start publishing with `epoch`, and publish the desired state of every node."""
        self._epoch = epoch
        for node in sorted({*nodes, *self._nodes(self._by_mission)}):
            self._publish(node)

    def resign(self) -> None:
        """Stop publishing and drop all desired states, after leadership was lost."""
        self._epoch = None
        self._by_mission.clear()

    def set_desired(self, mission: str, slots: tuple[tuple[str, SlotDesired], ...]) -> None:
        """Replace the (node, slot) pairs of one mission; slots that are no longer among them are removed."""
        previous = self._by_mission.get(mission, ())
        if previous == slots:
            return
        if slots:
            self._by_mission[mission] = slots
        else:
            self._by_mission.pop(mission, None)
        for node in sorted({node for node, _ in (*previous, *slots)}):
            self._publish(node)

    def _publish(self, node: str) -> None:
        if self._epoch is None:
            return
        assigned = [slot for slots in self._by_mission.values() for target, slot in slots if target == node]
        ordered = tuple(sorted(assigned, key=lambda slot: slot.slot))
        self._server.push(node, AgentDesired(node=node, slots=ordered), epoch=self._epoch)

    @staticmethod
    def _nodes(by_mission: Mapping[str, tuple[tuple[str, SlotDesired], ...]]) -> set[str]:
        return {node for slots in by_mission.values() for node, _ in slots}
