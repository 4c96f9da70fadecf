"""Reservations of missions on units, nodes and links, updated incrementally, with a view per mission.

A mission sees only the reservations of missions of its own rank or a smaller one (`ReservationView`): those of a larger
rank are preempted. `Reservations.load` aggregates the reservations on one unit to the moments of its M/G/1 queue
(Pollaczek-Khinchine, see `mg1`) and the wait budgets of the missions admitted there.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import fsum, inf
from typing import Any, Final
from weakref import WeakKeyDictionary

from maleo_api.mission import Mission
from maleo_planner.cost_model.load import Load
from maleo_planner.cost_model.mg1 import Queue, WaitBudget, dominates_all, drop_redundant
from maleo_planner.cost_model.units import UnitFacts
from maleo_planner.inventory.fleet_index import FleetIndex, LinkSegment
from maleo_planner.inventory.unit_classes import UnitClass
from maleo_planner.types.problem import Plan, Snapshot
from maleo_planner.types.requirements import Requirements

UnitKey = tuple[str, str]
"""(node name, unit name)."""
Rank = tuple[int, int]
"""Preemption rank of a mission: a mission preempts those of larger rank, and their reservations do not count for it."""

_CRITICALITY: Final = {"Safety": 0, "Mission": 1, "BestEffort": 2}
_LATENCY_TOLERANCE: Final = 1e-9
"""Tolerance of latency comparisons, absolute in seconds and relative."""
_IDLE: Final = Load()
_EMPTY: Final[Mapping[str, Any]] = {}


def rank_of(mission: Mission, priorities: Mapping[str, int]) -> Rank:
    """Return the rank of the mission: by criticality, then by descending value of its PriorityClass."""
    return _CRITICALITY[mission.spec.criticality], -priorities.get(mission.spec.priority_class_name, 0)


def list_unit_usage(plan: Plan) -> Iterator[tuple[UnitKey, float, float]]:
    """Yield (unit, bytes, seconds per request) of each partition and of the fallback, which takes no time."""
    for partition in plan.partitions:
        yield (partition.node, partition.unit), partition.memory, partition.compute.value
    if plan.fallback is not None:
        fallback = plan.fallback.partition
        yield (fallback.node, fallback.unit), fallback.memory, 0.0


def list_energy_usage(plan: Plan) -> Iterator[tuple[str, float]]:
    """Yield (node, joules per request) of each partition and of both ends of each codec.

    Codecs run on nodes of partitions, so these nodes are those of `list_unit_usage`.
    """
    yield from ((partition.node, partition.energy.value) for partition in plan.partitions)
    for transfer in (transfer for transfer in plan.transfers if transfer.codec):
        yield from zip((transfer.source, transfer.target), transfer.coding, strict=True)


@dataclass(frozen=True, slots=True)
class _UnitReservation:
    """Reservation on one unit for a partition or a fallback of one mission.

    Attributes:
        rank: Rank of the mission.
        utilisation: Share of the time of the unit.
        service_time: Seconds per request.
        memory: Bytes.
        artifacts: See `Load`.
        rate: See `Load`.
        latency_slack: See `Load`.
        wait_budget: Seconds of waiting on all units of the plan together that the Hard latency limit of the mission
            allows, at its percentile; infinite without such a limit.
        z: z-score of that percentile.
    """

    rank: Rank
    utilisation: float
    service_time: float
    memory: float
    artifacts: frozenset[str]
    rate: float
    latency_slack: float
    wait_budget: float
    z: float

    def with_reconfiguration(self, seconds: float) -> tuple[float, float]:
        """Return (utilisation, seconds per request) with a reconfiguration of `seconds` in each request.

        Requests that pay for a reconfiguration already stay unchanged.
        """
        return self.utilisation + self.rate * seconds, self.service_time + (seconds if self.rate else 0.0)


_LoadVector = tuple[float, float, float, float, float]
"""Dimensions by which loads are compared: utilisation, second and third moment of the queue, bytes, watts."""
_LoadedUnit = tuple[_LoadVector, UnitFacts, Sequence[WaitBudget]]


class Reservations:
    """Reservations of all missions in one `FleetIndex`, with a view per mission (`view_for`).

    Sums are exact in any order (`fsum`), so incremental updates give the same values as a full rebuild. The least
    loaded members of each unit class are cached (`least_loaded`).
    """

    def __init__(self, index: FleetIndex) -> None:
        self.plans: dict[str, Plan] = {}
        self._index = index
        self._units: dict[UnitKey, dict[str, list[_UnitReservation]]] = {}
        self._segments: dict[LinkSegment, dict[str, list[tuple[Rank, float]]]] = {}
        self._watts: dict[str, dict[str, list[tuple[Rank, float]]]] = {}  # node -> mission -> (rank, watts)
        self._segments_of: dict[str, list[LinkSegment]] = {}
        self._missions_on: dict[str, set[str]] = {}  # node -> missions
        self._loads: dict[UnitKey, dict[Rank, Load]] = {}
        # Weak keys: entries vanish with the class when the index drops it.
        self._least_loaded = WeakKeyDictionary[UnitClass, dict[tuple[Rank, int], list[UnitFacts]]]()
        self._versions = WeakKeyDictionary[UnitClass, int]()

    @classmethod
    def from_snapshot(cls, snapshot: Snapshot, index: FleetIndex) -> "Reservations":
        """Build the reservations of the current plans of the snapshot."""
        found = cls(index)
        for key, plan in snapshot.current_plans.items():
            if key in snapshot.missions:
                found.reserve(snapshot.missions[key], plan)
        return found

    def reserve(self, mission: Mission, plan: Plan) -> None:
        """Reserve the resources of the plan, replacing the previous reservations of the mission."""
        self.release(mission.key)
        self.plans[mission.key] = plan
        for node in plan.nodes:
            self._missions_on.setdefault(node, set()).add(mission.key)
        rank, requirements = rank_of(mission, self._index.priorities), Requirements.parse_mission(mission)
        rate = requirements.rate
        for unit, reservation in _list_unit_reservations(rank, requirements, plan):
            self._units.setdefault(unit, {}).setdefault(mission.key, []).append(reservation)
            self._invalidate(unit)
        for node, joules in list_energy_usage(plan):
            self._watts.setdefault(node, {}).setdefault(mission.key, []).append((rank, rate * joules))
        for transfer in plan.transfers:
            segment = self._index.segment_between(transfer.source, transfer.target)
            if segment is not None:
                self._segments.setdefault(segment, {}).setdefault(mission.key, []).append((rank, rate * transfer.wire))
                self._segments_of.setdefault(mission.key, []).append(segment)

    def release(self, key: str) -> None:
        """Release all reservations of the mission, if any."""
        plan = self.plans.pop(key, None)
        for node in plan.nodes if plan is not None else ():
            self._missions_on[node].discard(key)
        for unit, _, _ in list_unit_usage(plan) if plan is not None else ():
            self._units.get(unit, {}).pop(key, None)
            self._watts.get(unit[0], {}).pop(key, None)
            self._invalidate(unit)
        for segment in self._segments_of.pop(key, ()):
            self._segments[segment].pop(key, None)

    def recompute(self, nodes: Collection[str] | None, missions: Mapping[str, Mission]) -> None:
        """Recompute the reservations on these nodes, or all if None, after a change of the index."""
        if nodes is None:
            self._least_loaded.clear()
            self._loads.clear()
        else:
            for node in nodes:
                for unit in self._index.units_on(node):
                    self._loads.pop(unit.key, None)
        for key in (
            list(self.plans) if nodes is None else {key for node in nodes for key in self._missions_on.get(node, ())}
        ):
            if key in missions:
                self.reserve(missions[key], self.plans[key])

    def _invalidate(self, unit: UnitKey) -> None:
        """Invalidate the cached loads and least loaded members that depend on the unit.

        Units of a node with a power cap depend on each other, and so do all units of a plan, because its requests share
        one wait budget over all their queues.
        """
        affected = {unit}
        facts = self._index.unit(unit)
        if facts is not None and facts.power_cap is not None:
            affected |= {other.key for other in self._index.units_on(unit[0])}
        for key in self._units.get(unit, _EMPTY):
            affected |= {(part.node, part.unit) for part in self.plans[key].partitions} if key in self.plans else set()
        for other in affected:
            self._loads.pop(other, None)
            if (facts := self._index.unit(other)) is not None:
                self._least_loaded.pop(self._index.classes.class_of(facts), None)

    def load(self, unit: UnitKey, rank: Rank, *, exclude: str = "") -> Load:
        """Return the load of the unit by missions of this or a smaller rank, without mission `exclude`."""
        on_unit, on_node = self._units.get(unit, _EMPTY), self._watts.get(unit[0], _EMPTY)
        if exclude in on_unit or exclude in on_node:
            return self._aggregate(unit, rank, exclude)
        known = self._loads.setdefault(unit, {})
        if rank not in known:
            known[rank] = self._aggregate(unit, rank, "") if on_unit or on_node else _IDLE
        return known[rank]

    def _aggregate(self, unit: UnitKey, rank: Rank, exclude: str, reconfiguration: float = 0.0) -> Load:
        """Aggregate the load of the unit by missions of this or a smaller rank.

        Args:
            unit: Unit.
            rank: Largest rank that counts.
            exclude: Mission that does not count.
            reconfiguration: Seconds of reconfiguration added to each request that does not pay for one yet.
        """
        reserved = [
            s for k, rows in self._units.get(unit, _EMPTY).items() if k != exclude for s in rows if s.rank <= rank
        ]
        queue = Queue.from_parts(reservation.with_reconfiguration(reconfiguration) for reservation in reserved)
        facts = self._index.unit(unit)
        watts = 0.0
        if facts is not None and facts.power_cap is not None:
            watts = _total(self._watts.get(unit[0], {}), rank, exclude)
        found = Load(
            queue=queue,
            memory=fsum(reservation.memory for reservation in reserved),
            watts=watts,
            artifacts=frozenset[str]().union(*(reservation.artifacts for reservation in reserved)),
            rate=fsum(reservation.rate for reservation in reserved),
            latency_slack=min((reservation.latency_slack for reservation in reserved), default=inf),
            wait_budgets=drop_redundant(self._wait_budgets(unit, rank, exclude, reconfiguration, queue)),
        )
        if facts is not None and facts.reconfiguration and found.rate and not reconfiguration:
            found = replace(found, with_reconfiguration=self._aggregate(unit, rank, exclude, facts.reconfiguration))
        return _IDLE if found == _IDLE else found

    def _wait_budgets(
        self, unit: UnitKey, rank: Rank, exclude: str, reconfiguration: float, whole: Queue
    ) -> Iterator[WaitBudget]:
        """Yield the remaining wait budget of each mission on this unit that has a Hard latency limit.

        It is the budget less the wait on the other units of the plan, at the percentile of the mission. If a plan uses
        several units, each gets an equal part of the remainder, so that additional load on all of them together keeps
        the limit. A mission that exceeds its budget already has none to protect.

        Args:
            unit: Unit.
            rank: Largest rank that counts.
            exclude: Mission that does not count.
            reconfiguration: As for `_aggregate`.
            whole: Queue of the unit, with such a reconfiguration in each request.
        """
        present = self._queue(unit, rank, {exclude}) if reconfiguration else whole
        for key, reserved in self._units.get(unit, _EMPTY).items():
            limited = next(
                (reservation for reservation in reserved if reservation.rank <= rank and reservation.utilisation), None
            )
            if key == exclude or limited is None or limited.wait_budget == inf:
                continue
            own = [reservation for reservation in reserved if reservation.rank <= rank]
            others = present.without([(reservation.utilisation, reservation.service_time) for reservation in own])
            budget = limited.wait_budget
            elsewhere = {(p.node, p.unit) for p in self.plans[key].partitions} - {unit}
            wait = others.tail(limited.z)
            total_wait = wait + fsum(self._queue(other, rank, {key, exclude}).tail(limited.z) for other in elsewhere)
            if total_wait > budget * (1 + _LATENCY_TOLERANCE) + _LATENCY_TOLERANCE:
                continue  # the present load exceeds the budget already
            if elsewhere:
                # A later plan may load all of these units, so each may use only its part of the remainder.
                budget = wait + (budget - total_wait) / (1 + len(elsewhere))
            if reconfiguration:
                others = whole.without([reservation.with_reconfiguration(reconfiguration) for reservation in own])
            yield WaitBudget(budget - (reconfiguration if limited.rate else 0.0), limited.z, others)

    def _queue(self, unit: UnitKey, rank: Rank, exclude: Collection[str]) -> Queue:
        """Return the queue of the unit without these missions."""
        reserved = self._units.get(unit, _EMPTY).items()
        rows = (s for key, own in reserved if key not in exclude for s in own if s.rank <= rank)
        return Queue.from_parts((reservation.utilisation, reservation.service_time) for reservation in rows)

    @property
    def uses_links(self) -> bool:
        """Return True if any plan reserves time of a link."""
        return bool(self._segments_of)

    def reserved_share(self, segment: LinkSegment, rank: Rank, *, exclude: str = "") -> float:
        """Return the share of the time of the segment that missions of this or a smaller rank reserve."""
        reserved = self._segments.get(segment)
        return _total(reserved, rank, exclude) if reserved else 0.0

    def least_loaded(self, unit_class: UnitClass, rank: Rank, count: int) -> Sequence[UnitFacts]:
        """Return the members that can be among the best `count` for a mission of this rank (a skyband of loads).

        Idle members come first, by name. A loaded member is kept if fewer than `count` others dominate it: those with
        no larger load in any dimension and no tighter wait budgets. Cached until the class or one of its loads changes.
        """
        if self._versions.get(unit_class) != unit_class.version:
            self._versions[unit_class] = unit_class.version
            self._least_loaded.pop(unit_class, None)
        known = self._least_loaded.setdefault(unit_class, {})
        if (rank, count) not in known:
            known[rank, count] = self._find_least_loaded(unit_class.members, rank, count)
        return known[rank, count]

    def _find_least_loaded(self, members: Sequence[UnitFacts], rank: Rank, count: int) -> list[UnitFacts]:
        """Compute the result of `least_loaded`, in time quadratic in the number of loaded members."""
        idle, loaded = list[UnitFacts](), list[_LoadedUnit]()
        for unit in members:
            load = self.load(unit.key, rank)
            if load is _IDLE:
                idle.append(unit)
                if len(idle) == count:
                    return idle
            else:
                queue = load.queue
                vector = queue.utilisation, queue.second_moment, queue.third_moment, load.memory, load.watts
                loaded.append((vector, unit, load.wait_budgets))
        kept: list[_LoadedUnit] = []
        for vector, unit, budgets in sorted(loaded, key=lambda row: (row[0], row[1].key)):
            dominating = sum(
                _is_no_larger(other, vector) and dominates_all(other_budgets, budgets)
                for other, _, other_budgets in kept
            )
            if dominating + len(idle) < count:
                kept.append((vector, unit, budgets))
        return [*idle, *(unit for _, unit, _ in kept)]

    def view_for(self, mission: Mission) -> "ReservationView":
        """Return the view of one mission on the reservations of the others."""
        return ReservationView(self, rank_of(mission, self._index.priorities), mission.key)


@dataclass(frozen=True, slots=True)
class ReservationView:
    """View of one mission on the reservations of others, without missions of larger rank, which it preempts."""

    reservations: Reservations
    rank: Rank
    key: str

    def __getitem__(self, unit: UnitKey) -> Load:
        """Return the load of the unit by other missions."""
        return self.reservations.load(unit, self.rank, exclude=self.key)

    def reserved_share(self, segment: LinkSegment) -> float:
        """Return the share of the time of the segment that other missions reserve."""
        return self.reservations.reserved_share(segment, self.rank, exclude=self.key)

    def least_loaded(self, unit_class: UnitClass, count: int) -> Sequence[UnitFacts]:
        """Return the least loaded members of the class for the rank of this mission.

        Its own reservations count as load here: the units of its current plan are candidates in any case.
        """
        return self.reservations.least_loaded(unit_class, self.rank, count)


def competing_plans(snapshot: Snapshot, mission: Mission) -> dict[str, Plan]:
    """Return the current plans that this mission cannot preempt, by mission key.

    They are those of other missions of its own or a smaller rank.
    """
    rank, missions = rank_of(mission, snapshot.priorities), snapshot.missions
    others = {
        key: plan for key, plan in sorted(snapshot.current_plans.items()) if key in missions and key != mission.key
    }
    return {key: plan for key, plan in others.items() if rank_of(missions[key], snapshot.priorities) <= rank}


def _list_unit_reservations(
    rank: Rank, requirements: Requirements, plan: Plan
) -> Iterator[tuple[UnitKey, _UnitReservation]]:
    """Yield (unit, reservation) of each partition of the plan and of its fallback."""
    limit = requirements.latency
    latency_slack = limit.value - plan.latency.value if limit is not None and limit.hard else inf
    waits = fsum(part.wait.value + requirements.z * part.wait.sigma for part in plan.partitions)
    wait_budget = latency_slack + waits if waits < inf else 0.0
    for part in plan.partitions:
        yield (
            (part.node, part.unit),
            _UnitReservation(
                rank=rank,
                utilisation=requirements.rate * part.compute.value,
                service_time=part.compute.value,
                memory=part.memory,
                artifacts=frozenset({plan.artifact.digest}),
                rate=0.0 if part.turn else requirements.rate,
                latency_slack=latency_slack + part.turn if latency_slack >= -_LATENCY_TOLERANCE else inf,
                wait_budget=wait_budget,
                z=requirements.z,
            ),
        )
    if plan.fallback is not None:
        part = plan.fallback.partition
        yield (part.node, part.unit), _UnitReservation(rank, 0.0, 0.0, part.memory, frozenset(), 0.0, inf, inf, 0.0)


def _is_no_larger(vector: _LoadVector, other: _LoadVector) -> bool:
    """Return True if `vector` is no larger in any dimension; unrolled, as the innermost loop of `least_loaded`."""
    a, b, c, d, e = vector
    v, w, x, y, z = other
    return a <= v and b <= w and c <= x and d <= y and e <= z


def _total(reserved: Mapping[str, Sequence[tuple[Rank, float]]], rank: Rank, exclude: str) -> float:
    """Return the exact sum over missions of this or a smaller rank, without mission `exclude`."""
    return fsum(amount for key, rows in reserved.items() if key != exclude for other, amount in rows if other <= rank)
