"""Reconciler of Devices: status, node labels, and loss of nodes."""

import time
from typing import Final

from maleo_api.labels import TIER
from maleo_operator.cluster.cache import ALL_MISSIONS, Dirty
from maleo_operator.engine.components import Components
from maleo_operator.reconcilers import device
from maleo_operator.reconcilers.scope import DeviceScope

_CHECK_S: Final = 10.0
"""Longest time until a Device is checked again, because nothing reports that a report is missing."""


class DeviceReconciler:
    """Reconciler of Devices in one term of the leader.

    lost: node -> monotonic time since which it is lost.
    """

    def __init__(self, components: Components) -> None:
        self._components = components
        self.lost: dict[str, float] = {}

    async def reconcile(self, name: str) -> None:
        """Decide the status and the node labels of a Device, and whether its node is lost. Raise ApiError."""
        now = time.time()
        facts = self._components.cache.nodes.get(name)
        scope = DeviceScope(
            name=name,
            node=facts,
            device=self._components.cache.devices.get(name),
            profiles=self._components.cache.profiles,
            connected=name in self._components.connected(),
            lease_fresh=self._components.cache.lease_ends_at(name, self._components.namespace) > time.monotonic(),
            telemetry_fresh=self._components.telemetry.is_fresh(name, time.monotonic()),
            now=now,
        )
        self._track_loss(scope)
        outcome = device.decide(scope)
        await self._components.writer.apply_device(name, outcome)
        if facts is not None and TIER in facts.labels:
            self._components.queue.mark(Dirty("device", name), after_s=outcome.requeue_s or _CHECK_S)

    def _track_loss(self, scope: DeviceScope) -> None:
        """Track lost nodes, and mark all missions dirty when a node becomes lost or returns.

        A node is lost if it is missing or not Ready, or if an agent that once reported has neither a stream nor a fresh
        Lease.
        """
        unreachable = not scope.connected and not scope.lease_fresh
        lost = scope.node is None or not scope.node.ready or (unreachable and _has_reported(scope))
        if lost and scope.name not in self.lost:
            self.lost[scope.name] = time.monotonic()
            self._components.queue.mark(ALL_MISSIONS)
        elif not lost and self.lost.pop(scope.name, None) is not None:
            self._components.queue.mark(ALL_MISSIONS)


def _has_reported(scope: DeviceScope) -> bool:
    """Return True if the agent has ever reported: missing reports mean a loss only on a node that has an agent."""
    return scope.device is not None and scope.device.status.inventory is not None
