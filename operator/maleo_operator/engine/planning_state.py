"""Planning state of a term: the session with its reservations, and what each mission was planned on."""

import logging
import time
from collections.abc import Mapping
from typing import Final

from maleo_api.mission import Mission
from maleo_operator.cluster.cache import Dirty
from maleo_operator.engine.components import Components
from maleo_operator.engine.memory import MissionMemory, Versions
from maleo_operator.reconcilers.revisions import is_active, is_finished
from maleo_operator.reconcilers.scope import MissionScope, Outcome
from maleo_planner import (
    Budgets,
    Observations,
    PlanningSession,
    list_equal_links,
    list_unit_usage,
    rank_of,
    restore_plan,
)

log: Final = logging.getLogger("maleo.cycle")
BUDGETS: Final = Budgets(advice=5e7)
"""Work budgets per mission. `advice` is far below that of `maleo explain --plan`: other missions are waiting."""


class PlanningState:
    """Assumed plans and their reservations, refreshed from the cluster. It is a cache: losing it is safe.

    Plans are assumed before they are written, as kube-scheduler assumes pods, so that the next mission is planned
    around them.
    """

    def __init__(self, components: Components, lost: Mapping[str, float], *, since: float) -> None:
        """Create the state of a term.

        Args:
            components: Components of the replica.
            lost: Node -> monotonic time since which it is lost.
            since: Monotonic time at which the term began.
        """
        self._components = components
        self.lost = lost
        self._since = since
        self._memories: dict[str, MissionMemory] = {}
        self._session: PlanningSession | None = None
        self._session_inputs: tuple[int, frozenset[str]] = (-1, frozenset())
        self._capacity_version = 0
        self._measurement_version = 0
        self._last_measurements: tuple[object, ...] = ()
        self._checked_links: tuple[object, ...] = ()

    def memory_of(self, key: str) -> MissionMemory:
        """Return the memory of a mission. A mission that this term has not planned counts as planned at its start."""
        return self._memories.setdefault(key, MissionMemory(planned_at=self._since))

    def expire(self) -> None:
        """Let the next `refresh` take in new measurements, even if the cluster has not changed."""
        self._session_inputs = (-1, frozenset())

    def refresh(self) -> PlanningSession:
        """Return the planning state, refreshed if the cluster (missions excepted) or the lost nodes have changed."""
        inputs = (self._components.cache.version, frozenset(self.lost))
        if self._session is None or inputs != self._session_inputs:
            self._session_inputs = inputs
            held = {k: plan for k in self._components.cache.missions if (plan := self.memory_of(k).plan)}
            observations = self._components.telemetry.observe(time.monotonic(), self._fixed_delay)
            self._update_measurement_version(observations)
            self._components.metrics.set_links({pair: figure.value for pair, figure in observations.bandwidth.items()})
            snapshot = self._components.cache.snapshot(observations, held, self.lost)
            if self._session is None:
                self._session = PlanningSession(snapshot, budgets=BUDGETS)
            else:
                self._session.update(snapshot)
            for key, declared in snapshot.missions.items():
                if key not in held:
                    self._restore(declared, self._session)
            self._warn_of_links(self._session)
        return self._session

    def versions_for(self, declared: Mission) -> Versions:
        """Return the versions of the inputs that planning this mission reads."""
        cluster, namespace = self._components.cache.version_for(declared.metadata.namespace)
        return Versions(
            cluster=cluster,
            namespace=namespace,
            measurements=self._measurement_version,
            capacity=self._capacity_version,
        )

    def assume(self, scope: MissionScope, outcome: Outcome, memory: MissionMemory) -> None:
        """Reserve the units of a plan that becomes a Placement before the write, as kube-scheduler assumes pods."""
        placements = [body for body in outcome.create if body["kind"] == "Placement"]
        if not placements or self._session is None:
            return
        verdict, previous = scope.verdict, memory.plan
        memory.plan = verdict.chosen if verdict else None
        memory.plan_revision = int(placements[-1]["spec"]["revision"])
        self._session.assume(scope.mission.key, memory.plan)
        self._displace(scope)
        if previous is not None:
            self._release_capacity()

    def release(self, key: str, memory: MissionMemory) -> None:
        """Release the assumed reservations of a plan whose Placement was not written."""
        declared = self._components.cache.missions.get(key)
        stored = self._components.cache.placements(declared) if declared is not None else ()
        if all(p.spec.revision != memory.plan_revision for p in stored):
            memory.plan, memory.plan_revision = None, 0
            self.expire()
            self._release_capacity()

    def forget_deleted(self, existing: set[str]) -> set[str]:
        """Drop the memory of missions that are not in `existing`, and return their keys."""
        deleted = self._memories.keys() - existing
        for key in deleted:
            if self._memories.pop(key).plan is not None:
                self._release_capacity()
        return deleted

    def _release_capacity(self) -> None:
        """Mark missions dirty that failed for lack of free capacity, after another mission released a plan."""
        self._capacity_version += 1
        self._components.queue.mark_missions(
            [key for key in self._components.cache.missions if self.memory_of(key).lacks_capacity]
        )

    def _displace(self, scope: MissionScope) -> None:
        """Mark lower-ranked missions that share a unit with the plan just assumed as displaced and dirty."""
        verdict, priorities = scope.verdict, self._components.cache.priorities
        plan = verdict.chosen if verdict is not None else None
        if plan is None:
            return
        units, rank = {unit for unit, _, _ in list_unit_usage(plan)}, rank_of(scope.mission, priorities)
        for key, declared in self._components.cache.missions.items():
            memory = self.memory_of(key)
            held = {unit for unit, _, _ in list_unit_usage(memory.plan)} if memory.plan is not None else set()
            if units & held and rank_of(declared, priorities) > rank:
                memory.displaced = True
                self._components.queue.mark(Dirty("mission", key))

    def _restore(self, declared: Mission, session: PlanningSession) -> None:
        """Restore the reservations of a mission from its newest live Placement, after a restart or a rejected write."""
        active = declared.status.active
        live = [p for p in self._components.cache.placements(declared) if not is_finished(p) or is_active(p, active)]
        if live:
            memory = self.memory_of(declared.key)
            memory.plan = restore_plan(session.snapshot, declared.key, live[-1], index=session.index)
            memory.plan_revision = live[-1].spec.revision
            session.assume(declared.key, memory.plan)

    def _update_measurement_version(self, observations: Observations) -> None:
        """Advance the measurement version when banded figures or the set of lost nodes have changed.

        Capacity is left out because it changes with every reading; the versions of Devices cover it.
        """
        measurements = (observations.bandwidth, observations.correction, frozenset(self.lost))
        if measurements != self._last_measurements:
            self._last_measurements = measurements
            self._measurement_version += 1

    def _fixed_delay(self, source: str, target: str) -> float:
        """Return the fixed delay of a transfer between two nodes, in seconds, as in the last snapshot."""
        if self._session is None:
            return 0.0
        nodes, index = self._session.snapshot.nodes, self._session.index
        link = index.link(nodes[source], nodes[target]) if source in nodes and target in nodes else None
        return link.fixed_seconds if link is not None else 0.0

    def _warn_of_links(self, session: PlanningSession) -> None:
        """Log notices about suspicious Links, once per change of the Links or of node sites and tiers."""
        nodes, links = session.snapshot.nodes.values(), session.snapshot.links.values()
        checked = (
            frozenset((node.name, node.site, node.tier) for node in nodes),
            frozenset(
                (link.metadata.name, *(place.model_dump_json() for place in link.spec.between)) for link in links
            ),
        )
        if checked != self._checked_links:
            self._checked_links = checked
            for notice in list_equal_links(session.snapshot, session.index):
                log.warning("%s", notice)
