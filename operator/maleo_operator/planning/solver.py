"""One mission, exactly: every variant, every sequence of up to three units (by equivalence class), every cut.

For one sequence all cuts are judged at once, as numpy arrays over the ways to cut: costs of spans are looked up,
transfers added, limits compared. Nothing is pruned but what cannot be: so the best is the best.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise, permutations
from typing import Final

import numpy as np
from numpy.typing import NDArray

from maleo_api.mission import Mode
from maleo_api.model import Model, Variant
from maleo_operator.planning.cost import LinkFacts, SpanCosts, cost_spans, find_link, size_of
from maleo_operator.planning.demand import Demand
from maleo_operator.planning.problem import NodeFacts, Plan, Snapshot
from maleo_operator.planning.units import UnitFacts

Array = NDArray[np.float64]
MOST_PARTITIONS: Final = 3
_MOVE_COST: Final = 0.05
_UNCERTAINTY: Final = 0.1
_TIE: Final = 1e-9


@dataclass(frozen=True, slots=True)
class Load:
    """What others hold of a unit: share of its time, mean seconds of one of their requests, bytes."""

    share: float = 0.0
    service: float = 0.0
    memory: float = 0.0


@dataclass(frozen=True, slots=True)
class Piece:
    unit: UnitFacts
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Candidate:
    """One way, judged. `shortfalls`: Hard limits that it breaks -> relative amount; empty = feasible."""

    variant: Variant
    mode: Mode
    pieces: tuple[Piece, ...]
    objective: float
    shortfalls: Mapping[str, float]
    latency: float
    energy: float
    moves: int

    @property
    def order(self) -> tuple[object, ...]:
        """Better is smaller: feasible, objective, fewer moves, energy, names."""
        energy = np.inf if np.isnan(self.energy) else self.energy
        names = tuple((p.unit.node.name, p.unit.name, p.first) for p in self.pieces)
        short = round(sum(self.shortfalls.values()), 9)
        return short, -round(self.objective / _TIE) * _TIE, self.moves, round(energy, 9), self.variant.name, names


@dataclass(frozen=True, slots=True)
class Refused:
    """A class of candidates that breaks a structural rule."""

    candidate: str
    code: str
    example: str


class Search:
    """The question of one mission in one snapshot."""

    def __init__(
        self, snapshot: Snapshot, demand: Demand, model: Model, source: NodeFacts, units: Sequence[UnitFacts]
    ) -> None:
        self.demand = demand
        self.model = model
        self.source = source
        self.units = [unit for unit in units if unit.available]
        self.loads = _loads(snapshot, demand)
        self.refused: list[Refused] = [_unavailable(unit) for unit in units if not unit.available]
        self._snapshot = snapshot
        self._held = snapshot.held.get(demand.mission.key)
        self._links: dict[tuple[str, str], LinkFacts | None] = {}
        self._costs: dict[tuple[str, tuple[str, str]], SpanCosts | None] = {}

    def run(self) -> list[Candidate]:
        """The best candidate of every variant and sequence, best first."""
        found: list[Candidate] = []
        for variant in self.variants():
            usable = [unit for unit in self._members() if self._is_usable(variant, unit)]
            for chain in self._chains(variant, usable):
                best = self._judge(variant, chain)
                if best is not None:
                    found.append(best)
        return sorted(found, key=lambda candidate: candidate.order)

    def variants(self) -> list[Variant]:
        wanted = self.demand.mission.spec.model.variants
        return [v for v in self.model.spec.variants if not wanted or v.name in wanted]

    def costs(self, variant: Variant, unit: UnitFacts) -> SpanCosts | None:
        key = (variant.name, unit.key)
        if key not in self._costs:
            self._costs[key] = cost_spans(self._snapshot, variant, unit)
        return self._costs[key]

    def link(self, source: NodeFacts, target: NodeFacts) -> LinkFacts | None:
        key = (source.name, target.name)
        if key not in self._links:
            self._links[key] = find_link(self._snapshot, source, target)
        return self._links[key]

    # ------------------------------------------------------------------------------------------------ structure

    def _members(self) -> list[UnitFacts]:
        """Up to three of each equivalence class, by name; the input's node and nodes named in links are their own."""
        named = {p.node for link in self._snapshot.links.values() for p in link.spec.between if p.node}
        named |= {node for pair in self._snapshot.observations.bandwidth for node in pair}
        named |= {node for _, node, _ in self._snapshot.observations.correction}
        named |= {p.node for p in self._held.partitions} if self._held else set()
        classes: dict[tuple[object, ...], list[UnitFacts]] = {}
        for unit in self.units:
            load = self.loads.get(unit.key, Load())
            own = unit.node.name if unit.node.name in named or unit.node.name == self.source.name else ""
            key = (own, unit.profile, unit.name, unit.node.site, unit.node.tier, unit.capacity, unit.memory, load)
            classes.setdefault(key, []).append(unit)
        return [unit for members in classes.values() for unit in sorted(members, key=lambda u: u.key)[:MOST_PARTITIONS]]

    def _is_usable(self, variant: Variant, unit: UnitFacts) -> bool:
        """Whether the unit can run this variant at all; if not it is noted why."""
        load = self.loads.get(unit.key, Load())
        code = ""
        if unit.providers(variant) is None:
            code = "FormatUnsupported"
        elif unit.lacks(variant):
            code = "FeatureMissing"
        elif self.costs(variant, unit) is None:
            code = "PrecisionUnsupported"
        elif unit.exclusive and (load.share or load.memory):
            code = "UnitOccupied"
        if code:
            example = f"{variant.name} on {unit.node.name} {unit.name} ({unit.profile})"
            self.refused.append(Refused(candidate=f"{unit.profile} {unit.unit.name}", code=code, example=example))
        return not code

    def _chains(self, variant: Variant, units: Sequence[UnitFacts]) -> Iterator[tuple[UnitFacts, ...]]:
        most = MOST_PARTITIONS if variant.cutting == "Graph" else 1
        if most == 1 and "Split" in self.demand.mission.spec.modes:
            self.refused.append(Refused("Split", "NoLegalCut", f"{variant.name} runs as one piece"))
        for length in range(1, min(most, len(variant.blocks)) + 1):
            for chain in permutations(units, length):
                code = self._refusal(chain)
                if code == "":
                    yield chain
                elif code is not None:
                    names = ">".join(dict.fromkeys(u.node.name for u in chain))
                    self.refused.append(
                        Refused(candidate=f"{self.mode_of(chain)} {names}", code=code, example=variant.name)
                    )

    def _refusal(self, chain: Sequence[UnitFacts]) -> str | None:
        """Empty: allowed; None: pointless, not worth a word; else the code of the rule it breaks."""
        source, spec = self.source, self.demand.mission.spec
        if any(unit.node.name == source.name for unit in chain[1:]) and chain[0].node.name != source.name:
            return None  # the data is born here: a part that runs here comes first
        if self.mode_of(chain) not in spec.modes:
            return "ModeNotAllowed"
        if not self.demand.may_receive(spec.egress.input, source, chain[0].node):
            return "EgressForbidden"
        if any(not self.demand.may_receive(spec.egress.features, source, unit.node) for unit in chain[1:]):
            return "EgressForbidden"
        nodes = [source, *(unit.node for unit in chain)]
        hops = [(a, b) for a, b in pairwise(nodes) if a.name != b.name]
        return "NoLink" if any(self.link(a, b) is None for a, b in hops) else ""

    def mode_of(self, chain: Sequence[UnitFacts]) -> Mode:
        here = [unit.node.name == self.source.name for unit in chain]
        return "Local" if all(here) else "Split" if any(here) else "Remote"

    # ------------------------------------------------------------------------------------------------ judgement

    def _judge(self, variant: Variant, chain: tuple[UnitFacts, ...]) -> Candidate | None:
        """The best cuts of this sequence; None when it does not fit into memory anywhere."""
        spans = _spans(variant, len(chain))
        if spans.shape[0] == 0:
            return None
        mean, tail, energy, bottleneck, fits = self._sum_up(variant, chain, spans)
        if not fits.any():
            names = ">".join(f"{u.node.name} {u.name}" for u in chain)
            self.refused.append(Refused(f"{self.mode_of(chain)} {names}", "MemoryTooSmall", variant.name))
            return None
        shortfalls, margins = self._compare(variant, tail, energy, bottleneck)
        short = np.sum([np.maximum(0.0, s) for s in shortfalls.values()], axis=0) if shortfalls else np.zeros_like(mean)
        moves = self._moves(variant, chain, spans)
        # Of the limit, not of the tail: a certain delay added to a way must not make it look surer.
        uncertainty = (tail - mean) / (self.demand.latency.value if self.demand.latency else np.maximum(tail, _TIE))
        objective = _weigh(self.demand.weights, margins, mean.shape) - _MOVE_COST * moves - _UNCERTAINTY * uncertainty
        rank = np.lexsort(
            (np.nan_to_num(energy, nan=np.inf).round(9), moves, -objective.round(9), short.round(9), ~fits)
        )
        best = int(rank[0])
        pieces = tuple(Piece(u, int(f), int(t)) for u, (f, t) in zip(chain, spans[best], strict=True))
        return Candidate(
            variant=variant,
            mode=self.mode_of(chain),
            pieces=pieces,
            objective=float(objective[best]),
            shortfalls={name: float(s[best]) for name, s in shortfalls.items() if s[best] > 0},
            latency=float(tail[best]),
            energy=float(energy[best]),
            moves=int(moves[best]),
        )

    def _sum_up(
        self, variant: Variant, chain: Sequence[UnitFacts], spans: NDArray[np.int64]
    ) -> tuple[Array, Array, Array, Array, NDArray[np.bool_]]:
        """Mean and tail latency, energy, sustainable rate, and whether everything fits, for every cut."""
        count, z = spans.shape[0], self.demand.z
        mean, tail, energy = np.zeros(count), np.zeros(count), np.zeros(count)
        busiest, fits = np.full(count, _TIE), np.ones(count, dtype=bool)
        answer, crossing = size_of(self.model.spec.outputs), self._crossing(variant)
        before = self.source
        for position, unit in enumerate(chain):
            first, last = spans[:, position, 0], spans[:, position, 1]
            costs, load = self.costs(variant, unit), self.loads.get(unit.key, Load())
            assert costs is not None
            own, sigma = costs.mean[first, last], costs.sigma[first, last]
            wait = load.share * load.service / (2 * (1 - load.share)) if load.share < 1 else np.inf
            mean += own + wait
            tail += own + wait + z * (sigma + wait)
            energy += costs.energy[first, last]
            busiest = np.maximum(busiest, own / max(1 - load.share, _TIE))
            if unit.memory is not None:
                fits &= costs.memory[first, last] + load.memory <= unit.memory
            if unit.node.name != before.name:
                link = self.link(before, unit.node)
                assert link is not None
                size = size_of(self.model.spec.inputs) if position == 0 else crossing[first - 1]
                wire = (size + answer) / link.bandwidth.value
                overhead = link.time(0.0, 0.0).value
                spread = link.bandwidth.sigma / link.bandwidth.value
                mean += wire + overhead
                tail += wire * (1 + z * spread) + overhead
                energy += (size + answer) * link.energy_per_byte
                busiest = np.maximum(busiest, wire)
            before = unit.node
        return mean, tail, energy, 1 / busiest, fits & np.isfinite(mean)

    def _crossing(self, variant: Variant) -> Array:
        """Bytes that cross after each block; infinite where the model may not be cut."""
        return np.array([size_of(b.cut.tensors) if b.cut else np.inf for b in variant.blocks])

    def _compare(
        self, variant: Variant, tail: Array, energy: Array, bottleneck: Array
    ) -> tuple[dict[str, Array], dict[str, Array]]:
        """Shortfalls of Hard limits (relative, positive = broken), and margins of every objective."""
        demand, shortfalls, margins = self.demand, {}, {}
        if demand.latency is not None:
            margins["latency"] = (demand.latency.value - tail) / demand.latency.value
            if demand.latency.hard:
                shortfalls["latency"] = -margins["latency"]
        if demand.energy is not None:
            known = np.nan_to_num((demand.energy.value - energy) / demand.energy.value, nan=-1.0)
            margins["energy"] = known
            if demand.energy.hard:
                shortfalls["energy"] = np.where(np.isnan(energy), 1.0, -known)
        if demand.accuracy is not None:
            figure = demand.accuracy_of(variant)
            margin = _accuracy_margin(figure.value, demand.accuracy.value) if figure else -1.0
            margins["accuracy"] = np.full_like(tail, margin)
            if demand.accuracy.hard:
                shortfalls["accuracy"] = np.full_like(tail, -margin)
        shortfalls["rate"] = demand.rate / bottleneck - 1
        return shortfalls, margins

    def _moves(self, variant: Variant, chain: Sequence[UnitFacts], spans: NDArray[np.int64]) -> Array:
        """1 where the plan differs from the one held."""
        held, count = self._held, spans.shape[0]
        if held is None:
            return np.zeros(count)
        places = [(p.node, p.unit) for p in held.partitions]
        if held.variant != variant.name or places != [unit.key for unit in chain]:
            return np.ones(count)
        kept = np.array([[p.first, p.last] for p in held.partitions])
        changed: Array = np.any(spans != kept[None], axis=(1, 2)).astype(np.float64)
        return changed


def _accuracy_margin(value: float, floor: float) -> float:
    return (value - floor) / (1 - floor) if floor < 1 else value - floor


def _weigh(weights: tuple[float, float, float], margins: Mapping[str, Array], shape: tuple[int, ...]) -> Array:
    total = np.zeros(shape)
    for name, weight in zip(("accuracy", "latency", "energy"), weights, strict=True):
        if name in margins:
            total += weight * np.clip(margins[name], -1.0, 1.0)
    return total


def _spans(variant: Variant, length: int) -> NDArray[np.int64]:
    """Every way to cut the chain of blocks into `length` spans at legal cuts: (ways, length, 2), ends included."""
    last = len(variant.blocks) - 1
    cuts = [i for i, block in enumerate(variant.blocks[:-1]) if block.cut is not None]
    if length == 1:
        return np.array([[[0, last]]])
    if length == 2:  # noqa: PLR2004 - two spans
        return np.array([[[0, c], [c + 1, last]] for c in cuts], dtype=np.int64).reshape(-1, 2, 2)
    pairs = [(a, b) for i, a in enumerate(cuts) for b in cuts[i + 1 :]]
    ways = [[[0, a], [a + 1, b], [b + 1, last]] for a, b in pairs]
    return np.array(ways, dtype=np.int64).reshape(-1, 3, 2)


_TIERS: Final = {"Safety": 0, "Mission": 1, "BestEffort": 2}


def _loads(snapshot: Snapshot, demand: Demand) -> dict[tuple[str, str], Load]:
    """What other missions hold; those of a lower criticality give way and do not count."""
    rank = _TIERS[demand.mission.spec.criticality]
    loads: dict[tuple[str, str], Load] = {}
    for key, plan in sorted(snapshot.held.items()):
        other = snapshot.missions.get(key)
        if key == demand.mission.key or other is None or _TIERS[other.spec.criticality] > rank:
            continue
        for unit, memory, service in _uses(plan):
            before = loads.get(unit, Load())
            share = Demand.of(other).rate * service
            total = before.share + share
            mean = (before.share * before.service + share * service) / total if total else 0.0
            loads[unit] = Load(share=total, service=mean, memory=before.memory + memory)
    return loads


def _uses(plan: Plan) -> Iterator[tuple[tuple[str, str], float, float]]:
    for partition in plan.partitions:
        yield (partition.node, partition.unit), partition.memory, partition.compute.value
    if plan.fallback is not None:
        spare = plan.fallback.partition
        yield (spare.node, spare.unit), spare.memory, 0.0


def _unavailable(unit: UnitFacts) -> Refused:
    return Refused(f"{unit.profile} {unit.unit.name}", "NotAvailable", f"{unit.node.name} {unit.name}")
