"""What missions hold of every unit, kept as plans come and go, and how much of it counts for one of them."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import fsum, inf
from typing import Final

from maleo_api.mission import Mission
from maleo_operator.planning.demand import Demand
from maleo_operator.planning.lattice import Load
from maleo_operator.planning.problem import Plan, Snapshot

UnitKey = tuple[str, str]
"""node, unit."""
Rank = int
"""Of a mission: the smaller goes first, and gives way to none with a larger one."""

_TIERS: Final = {"Safety": 0, "Mission": 1, "BestEffort": 2}


def rank_of(mission: Mission) -> Rank:
    return _TIERS[mission.spec.criticality]


def holders(snapshot: Snapshot, mission: Mission) -> dict[str, Plan]:
    """Plans of others that this mission must leave room for; those of a larger rank give way to it."""
    rank, missions = rank_of(mission), snapshot.missions
    others = {key: plan for key, plan in sorted(snapshot.held.items()) if key in missions and key != mission.key}
    return {key: plan for key, plan in others.items() if rank_of(missions[key]) <= rank}


def uses(plan: Plan) -> Iterator[tuple[UnitKey, float, float]]:
    """(unit, bytes, seconds of a request) of each partition, and of the fallback that takes no time."""
    for partition in plan.partitions:
        yield (partition.node, partition.unit), partition.memory, partition.compute.value
    if plan.fallback is not None:
        spare = plan.fallback.partition
        yield (spare.node, spare.unit), spare.memory, 0.0


@dataclass(frozen=True, slots=True)
class _Share:
    """Of one unit, by one mission. `time`: share of its seconds; the rest: see Load."""

    rank: Rank
    time: float
    service: float
    memory: float
    artifacts: frozenset[str]
    rate: float
    slack: float


class Holdings:
    """Sums are exact whatever the order in which plans came: so what is kept equals what is counted anew."""

    def __init__(self) -> None:
        self.plans: dict[str, Plan] = {}
        self._units: dict[UnitKey, dict[str, list[_Share]]] = {}
        self._loads: dict[UnitKey, dict[Rank, Load]] = {}

    @classmethod
    def of(cls, snapshot: Snapshot) -> "Holdings":
        """Of the plans that the snapshot's missions hold."""
        found = cls()
        for key, plan in snapshot.held.items():
            if key in snapshot.missions:
                found.put(snapshot.missions[key], plan)
        return found

    def put(self, mission: Mission, plan: Plan) -> None:
        """In place of what the mission held."""
        self.drop(mission.key)
        self.plans[mission.key] = plan
        for unit, share in _shares(rank_of(mission), Demand.of(mission), plan):
            self._units.setdefault(unit, {}).setdefault(mission.key, []).append(share)
            self._loads.pop(unit, None)

    def drop(self, key: str) -> None:
        plan = self.plans.pop(key, None)
        for unit, _, _ in uses(plan) if plan is not None else ():
            self._units.get(unit, {}).pop(key, None)
            self._loads.pop(unit, None)

    def load(self, unit: UnitKey, rank: Rank, *, but: str = "") -> Load:
        """What missions of this rank and those before it hold of the unit; without mission `but`."""
        held = self._units.get(unit)
        if not held:
            return _IDLE
        if but in held:
            return _sum([share for key, shares in held.items() if key != but for share in shares if share.rank <= rank])
        known = self._loads.setdefault(unit, {})
        if rank not in known:
            known[rank] = _sum([share for shares in held.values() for share in shares if share.rank <= rank])
        return known[rank]

    def seen_by(self, mission: Mission) -> "Loads":
        return Loads(self, rank_of(mission), mission.key)


@dataclass(frozen=True, slots=True)
class Loads:
    """What others hold, as one mission sees it: those of a lower rank give way and do not count."""

    holdings: Holdings
    rank: Rank
    key: str

    def __getitem__(self, unit: UnitKey) -> Load:
        return self.holdings.load(unit, self.rank, but=self.key)


_IDLE: Final = Load()


def _shares(rank: Rank, demand: Demand, plan: Plan) -> Iterator[tuple[UnitKey, _Share]]:
    limit = demand.latency
    spare = limit.value - plan.latency.value if limit is not None and limit.hard else inf
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
                slack=spare + part.turn,
            ),
        )
    if plan.fallback is not None:
        part = plan.fallback.partition
        yield (part.node, part.unit), _Share(rank, 0.0, 0.0, part.memory, frozenset(), 0.0, inf)


def _sum(shares: list[_Share]) -> Load:
    time = fsum(share.time for share in shares)
    return Load(
        share=time,
        service=fsum(share.time * share.service for share in shares) / time if time else 0.0,
        memory=fsum(share.memory for share in shares),
        artifacts=frozenset().union(*(share.artifacts for share in shares)),
        rate=fsum(share.rate for share in shares),
        slack=min((share.slack for share in shares), default=inf),
    )
