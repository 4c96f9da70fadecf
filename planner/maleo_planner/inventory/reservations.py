"""Resource reservations of missions on units, nodes and links, updated incrementally as plans come and go.

A mission sees only the reservations of missions of its own rank or a higher one (`Loads`): those of a lower rank are
preempted. `Holdings.load` aggregates the reservations of one unit to the moments of its M/G/1 queue
(Pollaczek-Khinchine, see `mg1`), and to the wait budgets of the missions admitted there.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import fsum, inf
from typing import Any, Final
from weakref import WeakKeyDictionary

from maleo_api.mission import Mission
from maleo_planner.cost_model.load import Load
from maleo_planner.cost_model.mg1 import Leeway, Queue, cover, list_tightest
from maleo_planner.cost_model.units import UnitFacts
from maleo_planner.inventory.fleet_index import FleetIndex, Wire
from maleo_planner.inventory.unit_classes import UnitClass
from maleo_planner.types.problem import Plan, Snapshot
from maleo_planner.types.requirements import Demand

UnitKey = tuple[str, str]
"""(node name, unit name)."""
Rank = tuple[int, int]
"""Preemption rank of a mission, the smallest first: reservations of a larger rank do not count for a smaller one."""

_CRITICALITY: Final = {"Safety": 0, "Mission": 1, "BestEffort": 2}
_FINE: Final = 1e-9
"""Tolerance of a latency comparison, in seconds and relative."""
_IDLE: Final = Load()
_NOTHING: Final[Mapping[str, Any]] = {}


def rank_of(mission: Mission, priorities: Mapping[str, int]) -> Rank:
    """Return the mission's rank: by criticality, then by the value of its PriorityClass, the larger first."""
    return _CRITICALITY[mission.spec.criticality], -priorities.get(mission.spec.priority_class_name, 0)


def uses(plan: Plan) -> Iterator[tuple[UnitKey, float, float]]:
    """Yield (unit, bytes, seconds per request) for each partition, and for the fallback, which takes no time."""
    for partition in plan.partitions:
        yield (partition.node, partition.unit), partition.memory, partition.compute.value
    if plan.fallback is not None:
        spare = plan.fallback.partition
        yield (spare.node, spare.unit), spare.memory, 0.0


def spends(plan: Plan) -> Iterator[tuple[str, float]]:
    """Yield (node, joules per request) for each partition and for both sides of each codec.

    The sides of a codec are on nodes of partitions, so these are no other nodes than those of `uses`.
    """
    yield from ((part.node, part.energy.value) for part in plan.partitions)
    for each in (transfer for transfer in plan.transfers if transfer.codec):
        yield from zip((each.source, each.target), each.coding, strict=True)


@dataclass(frozen=True, slots=True)
class _Share:
    """Reservation of one mission on one unit by one partition or fallback.

    time: share of the unit's time; service: seconds per request; memory: bytes; bearable: wait budget in seconds at
    percentile `z`, over all units of the plan together, that the mission's Hard latency limit leaves; `rate`, `slack`,
    `artifacts`: see `Load`.
    """

    rank: Rank
    time: float
    service: float
    memory: float
    artifacts: frozenset[str]
    rate: float
    slack: float
    bearable: float
    z: float

    def turning(self, turn: float) -> tuple[float, float]:
        """Return (share of time, seconds per request) with a reconfiguration of `turn` seconds in each request.

        It is added only where the requests do not pay a reconfiguration already.
        """
        return self.time + self.rate * turn, self.service + (turn if self.rate else 0.0)


_Burden = tuple[float, float, float, float, float]
"""Dimensions of a load that are compared: share, work and third of its queue, bytes, watts."""
_Burdened = tuple[_Burden, UnitFacts, Sequence[Leeway]]


class Holdings:
    """Reservations of all missions, with a view per mission (`seen_by`).

    Sums are exact in every order of arrival (`fsum`), so that incremental updates give the figures of a full rebuild.
    The reservations belong to one `FleetIndex`: of each of its unit classes the least loaded members are cached
    (`front`).
    """

    def __init__(self, index: FleetIndex) -> None:
        self.plans: dict[str, Plan] = {}
        self._index = index
        self._units: dict[UnitKey, dict[str, list[_Share]]] = {}
        self._wires: dict[Wire, dict[str, list[tuple[Rank, float]]]] = {}
        self._watts: dict[str, dict[str, list[tuple[Rank, float]]]] = {}  # node -> mission -> ...
        self._held_wires: dict[str, list[Wire]] = {}
        self._at: dict[str, set[str]] = {}  # node -> missions
        self._loads: dict[UnitKey, dict[Rank, Load]] = {}
        # Weak keys, so that a class that the index no longer has takes its entries with it.
        self._fronts = WeakKeyDictionary[UnitClass, dict[tuple[Rank, int], list[UnitFacts]]]()
        self._versions = WeakKeyDictionary[UnitClass, int]()

    @classmethod
    def of(cls, snapshot: Snapshot, index: FleetIndex) -> "Holdings":
        """Build the reservations of the plans that the missions of the snapshot hold."""
        found = cls(index)
        for key, plan in snapshot.held.items():
            if key in snapshot.missions:
                found.put(snapshot.missions[key], plan)
        return found

    def put(self, mission: Mission, plan: Plan) -> None:
        """Reserve what the plan uses, in place of the mission's previous reservations."""
        self.drop(mission.key)
        self.plans[mission.key] = plan
        for node in plan.nodes:
            self._at.setdefault(node, set()).add(mission.key)
        rank, demand = rank_of(mission, self._index.priorities), Demand.of(mission)
        rate = demand.rate
        for unit, share in _shares(rank, demand, plan):
            self._units.setdefault(unit, {}).setdefault(mission.key, []).append(share)
            self._touch(unit)
        for node, joules in spends(plan):
            self._watts.setdefault(node, {}).setdefault(mission.key, []).append((rank, rate * joules))
        for transfer in plan.transfers:
            wire = self._index.wire_between(transfer.source, transfer.target)
            if wire is not None:
                self._wires.setdefault(wire, {}).setdefault(mission.key, []).append((rank, rate * transfer.wire))
                self._held_wires.setdefault(mission.key, []).append(wire)

    def drop(self, key: str) -> None:
        """Release all reservations of the mission; do nothing if it has none."""
        plan = self.plans.pop(key, None)
        for node in plan.nodes if plan is not None else ():
            self._at[node].discard(key)
        for unit, _, _ in uses(plan) if plan is not None else ():
            self._units.get(unit, {}).pop(key, None)
            self._watts.get(unit[0], {}).pop(key, None)
            self._touch(unit)
        for wire in self._held_wires.pop(key, ()):
            self._wires[wire].pop(key, None)

    def renew(self, nodes: Collection[str] | None, missions: Mapping[str, Mission]) -> None:
        """Recompute the reservations on these nodes after a change of the index; None: all reservations."""
        if nodes is None:
            self._fronts.clear()
            self._loads.clear()
        else:
            for node in nodes:
                for unit in self._index.on(node):
                    self._loads.pop(unit.key, None)
        for key in list(self.plans) if nodes is None else {key for node in nodes for key in self._at.get(node, ())}:
            if key in missions:
                self.put(missions[key], self.plans[key])

    def _touch(self, unit: UnitKey) -> None:
        """Invalidate the cached loads and fronts that depend on the unit.

        Units of a node with a power cap depend on each other, and so do all units of one plan, because its wait budget
        is shared by all queues that its requests pass.
        """
        touched = {unit}
        facts = self._index.unit(unit)
        if facts is not None and facts.cap is not None:
            touched |= {each.key for each in self._index.on(unit[0])}
        for key in self._units.get(unit, _NOTHING):
            touched |= {(part.node, part.unit) for part in self.plans[key].partitions} if key in self.plans else set()
        for each in touched:
            self._loads.pop(each, None)
            if (facts := self._index.unit(each)) is not None:
                self._fronts.pop(self._index.classes.of(facts), None)

    def load(self, unit: UnitKey, rank: Rank, *, but: str = "") -> Load:
        """Return the load of the unit by missions of this rank and of smaller ones, without mission `but`."""
        held, near = self._units.get(unit, _NOTHING), self._watts.get(unit[0], _NOTHING)
        if but in held or but in near:
            return self._sum(unit, rank, but)
        known = self._loads.setdefault(unit, {})
        if rank not in known:
            known[rank] = self._sum(unit, rank, "") if held or near else _IDLE
        return known[rank]

    def _sum(self, unit: UnitKey, rank: Rank, but: str, turn: float = 0.0) -> Load:
        """Aggregate the load of the unit.

        turn: seconds of reconfiguration added to each request that does not pay one yet.
        """
        shares = [s for k, each in self._units.get(unit, _NOTHING).items() if k != but for s in each if s.rank <= rank]
        queue, facts, watts = Queue.of(share.turning(turn) for share in shares), self._index.unit(unit), 0.0
        if facts is not None and facts.cap is not None:
            watts = _total(self._watts.get(unit[0], {}), rank, but)
        found = Load(
            queue=queue,
            memory=fsum(share.memory for share in shares),
            watts=watts,
            artifacts=frozenset[str]().union(*(share.artifacts for share in shares)),
            rate=fsum(share.rate for share in shares),
            slack=min((share.slack for share in shares), default=inf),
            leeways=list_tightest(self._leeways(unit, rank, but, turn, queue)),
        )
        if facts is not None and facts.reconfiguration and found.rate and not turn:
            found = replace(found, turning=self._sum(unit, rank, but, facts.reconfiguration))
        return _IDLE if found == _IDLE else found

    def _leeways(self, unit: UnitKey, rank: Rank, but: str, turn: float, turning: Queue) -> Iterator[Leeway]:
        """Yield the remaining wait budget of each mission on this unit that has a Hard latency limit.

        That is its budget less its wait on the other units of its plan, at its percentile. A mission that exceeds its
        budget already yields nothing. Where a plan uses several units, each of them gets an equal part of what is left,
        so that newcomers on all of them together keep the limit.

        turn: as of `_sum`; turning: the whole queue of the unit when each request pays such a reconfiguration.
        """
        everyone = self._queue(unit, rank, {but}) if turn else turning
        for key, shares in self._units.get(unit, _NOTHING).items():
            bearing = next((share for share in shares if share.rank <= rank and share.time), None)
            if key == but or bearing is None or bearing.bearable == inf:
                continue
            own = [share for share in shares if share.rank <= rank]
            others, here = everyone.without([(share.time, share.service) for share in own]), bearing.bearable
            elsewhere = {(p.node, p.unit) for p in self.plans[key].partitions} - {unit}
            wait = others.tail(bearing.z)
            waits = wait + fsum(self._queue(other, rank, {key, but}).tail(bearing.z) for other in elsewhere)
            if waits > here * (1 + _FINE) + _FINE:
                continue  # the limit is missed with the present load already: there is no budget to protect
            if elsewhere:
                # A later plan may load all of these units, so each may use up only its part of the rest.
                here = wait + (here - waits) / (1 + len(elsewhere))
            if turn:
                others = turning.without([share.turning(turn) for share in own])
            yield Leeway(here - (turn if bearing.rate else 0.0), bearing.z, others)

    def _queue(self, unit: UnitKey, rank: Rank, without: Collection[str]) -> Queue:
        """Return the queue of the unit without these missions."""
        held = self._units.get(unit, _NOTHING).items()
        rows = (s for key, each in held if key not in without for s in each if s.rank <= rank)
        return Queue.of((share.time, share.service) for share in rows)

    @property
    def cross(self) -> bool:
        """Whether any held plan crosses a link."""
        return bool(self._held_wires)

    def taken(self, wire: Wire, rank: Rank, *, but: str = "") -> float:
        """Return the share of the wire's time that is reserved by missions of this rank and of smaller ones."""
        held = self._wires.get(wire)
        return _total(held, rank, but) if held else 0.0

    def front(self, each: UnitClass, rank: Rank, most: int) -> Sequence[UnitFacts]:
        """Return the members that can be among the best `most` for a mission of this rank: the `most`-skyband of loads.

        Idle members come first, by name; a loaded member is kept while fewer than `most` others dominate it, that is
        have no larger load in any dimension and no tighter wait budgets. Cached until the class or a load in it
        changes.
        """
        if self._versions.get(each) != each.version:
            self._versions[each] = each.version
            self._fronts.pop(each, None)
        known = self._fronts.setdefault(each, {})
        if (rank, most) not in known:
            known[rank, most] = self._find_front(each.members, rank, most)
        return known[rank, most]

    def _find_front(self, members: Sequence[UnitFacts], rank: Rank, most: int) -> list[UnitFacts]:
        """Compute the front; at most quadratic in the number of loaded members."""
        idle, loaded = list[UnitFacts](), list[_Burdened]()
        for unit in members:
            load = self.load(unit.key, rank)
            if load is _IDLE:
                idle.append(unit)
                if len(idle) == most:
                    return idle
            else:
                queue = load.queue
                burden = queue.share, queue.work, queue.third, load.memory, load.watts
                loaded.append((burden, unit, load.leeways))
        kept: list[_Burdened] = []
        for burden, unit, leeways in sorted(loaded, key=lambda row: (row[0], row[1].key)):
            better = sum(_is_lighter(other, burden) and cover(left, leeways) for other, _, left in kept)
            if better + len(idle) < most:
                kept.append((burden, unit, leeways))
        return [*idle, *(unit for _, unit, _ in kept)]

    def seen_by(self, mission: Mission) -> "Loads":
        """Return the reservations of the other missions as this mission sees them."""
        return Loads(self, rank_of(mission, self._index.priorities), mission.key)


@dataclass(frozen=True, slots=True)
class Loads:
    """Reservations of other missions as one mission sees them, without those of a larger rank, which it preempts."""

    holdings: Holdings
    rank: Rank
    key: str

    def __getitem__(self, unit: UnitKey) -> Load:
        """Return the load of the unit by other missions."""
        return self.holdings.load(unit, self.rank, but=self.key)

    def taken(self, wire: Wire) -> float:
        """Return the share of the wire's time that other missions reserve."""
        return self.holdings.taken(wire, self.rank, but=self.key)

    def front(self, each: UnitClass, most: int) -> Sequence[UnitFacts]:
        """Return the front of the class for this mission's rank.

        The mission's own reservations count as load here: the units of its held plan are always candidates in addition.
        """
        return self.holdings.front(each, self.rank, most)


def holders(snapshot: Snapshot, mission: Mission) -> dict[str, Plan]:
    """Return the plans of other missions that this mission must leave room for, by mission key.

    These are the missions of its own rank and of smaller ones; those of a larger rank are preempted.
    """
    rank, missions = rank_of(mission, snapshot.priorities), snapshot.missions
    others = {key: plan for key, plan in sorted(snapshot.held.items()) if key in missions and key != mission.key}
    return {key: plan for key, plan in others.items() if rank_of(missions[key], snapshot.priorities) <= rank}


def _shares(rank: Rank, demand: Demand, plan: Plan) -> Iterator[tuple[UnitKey, _Share]]:
    """Yield (unit, share) for each partition of the plan and for its fallback."""
    limit = demand.latency
    spare = limit.value - plan.latency.value if limit is not None and limit.hard else inf
    waits = fsum(part.wait.value + demand.z * part.wait.sigma for part in plan.partitions)
    bearable = spare + waits if waits < inf else 0.0
    for part in plan.partitions:
        yield (
            (part.node, part.unit),
            _Share(
                rank=rank,
                time=demand.rate * part.compute.value,
                service=part.compute.value,
                memory=part.memory,
                artifacts=frozenset({plan.artifact.digest}),
                rate=0.0 if part.turn else demand.rate,
                slack=spare + part.turn if spare >= -_FINE else inf,
                bearable=bearable,
                z=demand.z,
            ),
        )
    if plan.fallback is not None:
        part = plan.fallback.partition
        yield (part.node, part.unit), _Share(rank, 0.0, 0.0, part.memory, frozenset(), 0.0, inf, inf, 0.0)


def _is_lighter(one: _Burden, other: _Burden) -> bool:
    """Return True if `one` is no larger in any dimension; written out as the innermost comparison of `front`."""
    a, b, c, d, e = one
    v, w, x, y, z = other
    return a <= v and b <= w and c <= x and d <= y and e <= z


def _total(held: Mapping[str, Sequence[tuple[Rank, float]]], rank: Rank, but: str) -> float:
    """Return the exact sum of the amounts of missions of this rank and of smaller ones, without mission `but`."""
    return fsum(amount for key, rows in held.items() if key != but for each, amount in rows if each <= rank)
