"""What missions hold of every unit, kept as plans come and go, and how much of it counts for one of them."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import fsum, inf
from typing import Any, Final

from maleo_api.mission import Mission
from maleo_operator.planning.classes import UnitClass
from maleo_operator.planning.demand import Demand
from maleo_operator.planning.index import Index, Wire
from maleo_operator.planning.lattice import Load
from maleo_operator.planning.problem import Plan, Snapshot
from maleo_operator.planning.queueing import Leeway, Queue, cover, list_tightest
from maleo_operator.planning.units import UnitFacts

UnitKey = tuple[str, str]
"""node, unit."""
Rank = tuple[int, int]
"""Of a mission: the smaller goes first, and what those with a larger one hold does not count for it."""

_CRITICALITY: Final = {"Safety": 0, "Mission": 1, "BestEffort": 2}
_FINE: Final = 1e-9
"""Seconds, and relative: what is late by less is in time."""
_IDLE: Final = Load()
_NOTHING: Final[Mapping[str, Any]] = {}


def rank_of(mission: Mission, priorities: Mapping[str, int]) -> Rank:
    """By criticality, then by the value of the mission's PriorityClass."""
    return _CRITICALITY[mission.spec.criticality], -priorities.get(mission.spec.priority_class_name, 0)


def uses(plan: Plan) -> Iterator[tuple[UnitKey, float, float]]:
    """(unit, bytes, seconds of a request) of each partition, and of the fallback that takes no time."""
    for partition in plan.partitions:
        yield (partition.node, partition.unit), partition.memory, partition.compute.value
    if plan.fallback is not None:
        spare = plan.fallback.partition
        yield (spare.node, spare.unit), spare.memory, 0.0


def spends(plan: Plan) -> Iterator[tuple[str, float]]:
    """(node, joules of a request) of each partition, and of both sides of each codec; these are on the same nodes."""
    yield from ((part.node, part.energy.value) for part in plan.partitions)
    for each in (transfer for transfer in plan.transfers if transfer.codec):
        yield from zip((each.source, each.target), each.coding, strict=True)


@dataclass(frozen=True, slots=True)
class _Share:
    """Of one unit, by one mission. time: share of its seconds; service: seconds of one request; bearable: seconds of
    waiting, on all units together, that its latency limit leaves at its percentile, z; the rest: see Load.
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
        """Share of time and seconds of a request, where each pays such a reconfiguration if none does yet."""
        return self.time + self.rate * turn, self.service + (turn if self.rate else 0.0)


_Burden = tuple[float, float, float, float, float]
_Burdened = tuple[_Burden, UnitFacts, Sequence[Leeway]]


class Holdings:
    """Sums are exact whatever the order in which plans came: so what is kept equals what is counted anew.

    Belongs to an index: of its classes the members that most is left of are kept at hand.
    """

    def __init__(self, index: Index) -> None:
        self.plans: dict[str, Plan] = {}
        self._index = index
        self._units: dict[UnitKey, dict[str, list[_Share]]] = {}
        self._wires: dict[Wire, dict[str, list[tuple[Rank, float]]]] = {}
        self._watts: dict[str, dict[str, list[tuple[Rank, float]]]] = {}  # node -> mission -> ...
        self._held_wires: dict[str, list[Wire]] = {}
        self._at: dict[str, set[str]] = {}  # node -> missions
        self._loads: dict[UnitKey, dict[Rank, Load]] = {}
        self._fronts: dict[UnitClass, dict[tuple[Rank, int], list[UnitFacts]]] = {}
        self._versions: dict[UnitClass, int] = {}

    @classmethod
    def of(cls, snapshot: Snapshot, index: Index) -> "Holdings":
        """Of the plans that the snapshot's missions hold."""
        found = cls(index)
        for key, plan in snapshot.held.items():
            if key in snapshot.missions:
                found.put(snapshot.missions[key], plan)
        return found

    def put(self, mission: Mission, plan: Plan) -> None:
        """In place of what the mission held."""
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
        """After a change of the index: what is held on these nodes is counted anew; None: everything."""
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
        """Units of a node with a power cap are each other's neighbours; so are those of a plan: it waits on each."""
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
        """What missions of this rank and those before it hold of the unit; without mission `but`."""
        held, near = self._units.get(unit, _NOTHING), self._watts.get(unit[0], _NOTHING)
        if but in held or but in near:
            return self._sum(unit, rank, but)
        known = self._loads.setdefault(unit, {})
        if rank not in known:
            known[rank] = self._sum(unit, rank, "") if held or near else _IDLE
        return known[rank]

    def _sum(self, unit: UnitKey, rank: Rank, but: str, turn: float = 0.0) -> Load:
        """turn: seconds of reconfiguration that those pay, too, who do not yet."""
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
        """Of the queue here: what those who were promised a latency can bear, less what they wait for elsewhere.

        turning: all of the queue, once each pays such a `turn`.
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
                continue  # late already, beside those who are there: a newcomer takes nothing from it that it still has
            if elsewhere:
                # Of what is left each unit may take its part: a plan may well meet it on all of them.
                here = wait + (here - waits) / (1 + len(elsewhere))
            if turn:
                others = turning.without([share.turning(turn) for share in own])
            yield Leeway(here - (turn if bearing.rate else 0.0), bearing.z, others)

    def _queue(self, unit: UnitKey, rank: Rank, without: Collection[str]) -> Queue:
        """Of all but these missions."""
        held = self._units.get(unit, _NOTHING).items()
        rows = (s for key, each in held if key not in without for s in each if s.rank <= rank)
        return Queue.of((share.time, share.service) for share in rows)

    @property
    def cross(self) -> bool:
        """Whether anything that is held crosses a wire."""
        return bool(self._held_wires)

    def taken(self, wire: Wire, rank: Rank, *, but: str = "") -> float:
        """Share of its time."""
        held = self._wires.get(wire)
        return _total(held, rank, but) if held else 0.0

    def front(self, each: UnitClass, rank: Rank, most: int) -> Sequence[UnitFacts]:
        """The members that can be among the best `most` for a mission of this rank: idle ones by name, else those that
        fewer than `most` others leave more of in every way.
        """
        if self._versions.get(each) != each.version:
            self._versions[each] = each.version
            self._fronts.pop(each, None)
        known = self._fronts.setdefault(each, {})
        if (rank, most) not in known:
            known[rank, most] = self._find_front(each.members, rank, most)
        return known[rank, most]

    def _find_front(self, members: Sequence[UnitFacts], rank: Rank, most: int) -> list[UnitFacts]:
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
        return Loads(self, rank_of(mission, self._index.priorities), mission.key)


@dataclass(frozen=True, slots=True)
class Loads:
    """What others hold, as one mission sees it: those of a lower rank give way and do not count."""

    holdings: Holdings
    rank: Rank
    key: str

    def __getitem__(self, unit: UnitKey) -> Load:
        return self.holdings.load(unit, self.rank, but=self.key)

    def taken(self, wire: Wire) -> float:
        """Share of a wire's time."""
        return self.holdings.taken(wire, self.rank, but=self.key)

    def front(self, each: UnitClass, most: int) -> Sequence[UnitFacts]:
        """What the mission holds itself counts here: what it holds is always looked at besides."""
        return self.holdings.front(each, self.rank, most)


def holders(snapshot: Snapshot, mission: Mission) -> dict[str, Plan]:
    """Plans of others that this mission must leave room for; those of a larger rank give way to it."""
    rank, missions = rank_of(mission, snapshot.priorities), snapshot.missions
    others = {key: plan for key, plan in sorted(snapshot.held.items()) if key in missions and key != mission.key}
    return {key: plan for key, plan in others.items() if rank_of(missions[key], snapshot.priorities) <= rank}


def _shares(rank: Rank, demand: Demand, plan: Plan) -> Iterator[tuple[UnitKey, _Share]]:
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
    """In every way, or the same: written out, for it is asked most of all."""
    a, b, c, d, e = one
    v, w, x, y, z = other
    return a <= v and b <= w and c <= x and d <= y and e <= z


def _total(held: Mapping[str, Sequence[tuple[Rank, float]]], rank: Rank, but: str) -> float:
    return fsum(amount for key, rows in held.items() if key != but for each, amount in rows if each <= rank)
