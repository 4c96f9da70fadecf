"""One mission, exactly: the best way of every variant and mode, and what becomes of every unit that is not taken."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Final, Literal

import numpy as np

from maleo_api.mission import Mode
from maleo_api.model import Model, Variant
from maleo_operator.planning import lattice
from maleo_operator.planning.cost import LinkFacts, SpanCosts, size_of
from maleo_operator.planning.demand import Demand
from maleo_operator.planning.holdings import Holdings
from maleo_operator.planning.index import Index, Wire
from maleo_operator.planning.lattice import Amount, Crossing, Lattice, Prices
from maleo_operator.planning.problem import NodeFacts, Plan, Snapshot
from maleo_operator.planning.reach import Reach, find_reach
from maleo_operator.planning.search import TIE, Found, Limit, Question, Searcher, Way, total
from maleo_operator.planning.units import UnitFacts

Aim = Literal["margins", "latency", "energy", "rate"]
"""What is made best: the weighted margins; the tail latency or the energy of a request; the sustained rate."""

MOST_PARTITIONS: Final = 4
_MOST_STAGES: Final = 8
"""Of a pipeline that is made for its rate."""
_PER_CLASS: Final = MOST_PARTITIONS
MOVE_COST: Final = 0.05
UNCERTAINTY: Final = 0.1
_MOST_UNITS: Final = 64
MODES: Final[tuple[Mode, ...]] = ("Local", "Split", "Remote")


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
    bound: float = np.inf
    """No way of this variant and mode has a higher objective."""

    @property
    def order(self) -> tuple[object, ...]:
        """Better is smaller: feasible, objective, fewer moves, energy, latency, names."""
        names = tuple((p.unit.node.name, p.unit.name, p.first) for p in self.pieces)
        short = round(sum(self.shortfalls.values()), 9)
        objective = -round(self.objective / TIE) * TIE
        figures = (self.moves, round(self.energy, 9), round(self.latency, 9))
        return short, objective, *figures, self.variant.name, names


@dataclass(frozen=True, slots=True)
class Refused:
    """A class of candidates that breaks a structural rule."""

    candidate: str
    code: str
    example: str


class Search:
    """The question of one mission in one snapshot."""

    def __init__(
        self,
        snapshot: Snapshot,
        demand: Demand,
        model: Model,
        source: NodeFacts,
        index: Index,
        aim: Aim = "margins",
        holdings: Holdings | None = None,
    ) -> None:
        self.demand = demand
        self.model = model
        self.source = source
        self.aim = aim
        self.units = index.available
        holdings = holdings or Holdings.of(snapshot, index)
        self.loads = holdings.seen_by(demand.mission)
        self.refused: list[Refused] = [_unavailable(unit) for unit in index.unavailable]
        self.only: frozenset[tuple[str, str]] | None = None  # besides the input's node and what is held; None = all
        self.far = False  # with `only`: also of classes that are more than one hop away
        self.held = snapshot.held.get(demand.mission.key)
        self.index = index
        self._made: list[tuple[Variant, Lattice]] | None = None

    def run(self) -> list[Candidate]:
        """The best of every variant and mode, what is held, and the best over each unit; best first."""
        lattices = list(self.lattices())
        found = [c for variant, made in lattices for c in self._solve(variant, made, strict=True)]
        if not found:
            found = [c for variant, made in lattices for c in self._solve(variant, made, strict=False)]
        for variant, made in lattices:
            found += self._survey(variant, made)
        return sorted({_identity(c): c for c in reversed(found)}.values(), key=lambda candidate: candidate.order)

    def lattices(self) -> Iterator[tuple[Variant, Lattice]]:
        """All ways of each variant that some unit can run; what no way can use is noted in `refused`."""
        members = self._members()
        for variant in self.variants():
            made = self._build(variant, members)
            if made is not None:
                yield variant, made

    def best(self, prices: Prices) -> list[tuple[float, Candidate]]:
        """Per mode the feasible plan of the highest objective less what its steps cost by `prices`; that, and the plan.

        What a fallback holds is not a step, so it has no price here.
        """
        if self._made is None:
            self._made = [(variant, made) for variant, made in self.lattices()]
        found: dict[Mode, tuple[float, Candidate]] = {}
        for variant, made in self._made:
            price = made.price(prices)
            candidates = [*self._solve(variant, made, strict=True, price=price), *self._held_again(variant, made)]
            for candidate in candidates:
                way = made.find([(p.unit.node.name, p.unit.name, p.last) for p in candidate.pieces])
                assert way is not None
                net = candidate.objective - total(price, made, way)
                if candidate.mode not in found or net > found[candidate.mode][0]:
                    found[candidate.mode] = net, candidate
        return list(found.values())

    def find(self, plan: Plan) -> Candidate | None:
        """The plan as it is judged here and now; None when it is not possible any more."""
        variant = next((v for v in self.variants() if v.name == plan.variant), None)
        named = [self.index.unit(key) for key in dict.fromkeys((p.node, p.unit) for p in plan.partitions)]
        made = self._build(variant, [unit for unit in named if unit is not None]) if variant else None
        way = made.find([(p.node, p.unit, p.last) for p in plan.partitions]) if made else None
        if variant is None or made is None or way is None or not np.isfinite(total(made.tail, made, way)):
            return None
        judged = self.judge(variant, made, way)
        return judged if judged.mode in self.demand.mission.spec.modes else None

    @property
    def here(self) -> list[UnitFacts]:
        """Units of the node where the data is born."""
        return self.index.on(self.source.name)

    @property
    def sees_all(self) -> bool:
        """Else only what is one hop away is looked at; what lies beyond is bounded."""
        return sum(min(len(each.members), _PER_CLASS) for each in self.index.classes) <= _MOST_UNITS

    @property
    def reach(self) -> Reach:
        egress = self.demand.mission.spec.egress
        return find_reach(self.index, self.source, egress.input, egress.features)

    def takes(self, variant: Variant, unit: UnitFacts) -> bool:
        """Whether the unit can run this variant, and is not another's."""
        return self.obstacle(variant, unit) == "" and not (unit.exclusive and self.is_taken(unit))

    def is_taken(self, unit: UnitFacts) -> bool:
        load = self.loads[unit.key]
        return bool(load.share or load.memory)

    def obstacle(self, variant: Variant, unit: UnitFacts) -> str:
        """Why the unit cannot run this variant, whoever holds it; empty if it can."""
        key = ("obstacle", self.model.key, variant.name, unit.profile, unit.unit.name)
        if key not in self.index.memo:
            self.index.memo[key] = self._find_obstacle(variant, unit)
        return str(self.index.memo[key])

    def _find_obstacle(self, variant: Variant, unit: UnitFacts) -> str:
        if unit.providers(variant) is None:
            return "FormatUnsupported"
        if unit.lacks(variant):
            return "FeatureMissing"
        return "PrecisionUnsupported" if self.costs(variant, unit) is None else ""

    def cap_of(self, unit: tuple[str, str]) -> float | None:
        """Watts of its node; None where there is no cap."""
        found = self.index.unit(unit)
        return found.cap if found is not None else None

    def memory_of(self, unit: tuple[str, str]) -> float:
        """Bytes; infinite where it is not limited."""
        found = self.index.unit(unit)
        return np.inf if found is None or found.memory is None else found.memory

    def variants(self) -> list[Variant]:
        wanted = self.demand.mission.spec.model.variants
        return [v for v in self.model.spec.variants if not wanted or v.name in wanted]

    def costs(self, variant: Variant, unit: UnitFacts) -> SpanCosts | None:
        return self.index.costs(self.model, variant, unit)

    def link(self, source: NodeFacts, target: NodeFacts) -> LinkFacts | None:
        return self.index.link(source, target)

    def mode_of(self, chain: Sequence[UnitFacts]) -> Mode:
        here = [unit.node.name == self.source.name for unit in chain]
        return "Local" if all(here) else "Split" if any(here) else "Remote"

    # ------------------------------------------------------------------------------------------------ structure

    def _members(self) -> list[UnitFacts]:
        """A few of each equivalence class, the least loaded first; and all of the input's node and of what is held."""
        held = [(p.node, p.unit) for p in self.held.partitions] if self.held else []
        chosen = {unit.key: unit for unit in self.index.on(self.source.name)}
        chosen |= {key: unit for key in held if (unit := self.index.unit(key)) is not None}
        here = Counter(id(self.index.classes.of(unit)) for unit in chosen.values())
        for each in (
            self.index.classes if self.sees_all or self.far else (target.units for target in self.reach.targets)
        ):
            # Besides those that are looked at anyway, as many as a plan can take.
            chosen |= {unit.key: unit for unit in self.loads.front(each, _PER_CLASS + here[id(each)])}
        if self.only is None:
            return list(chosen.values())
        return [unit for key, unit in chosen.items() if key in self.only or key in held or key[0] == self.source.name]

    def _is_usable(self, variant: Variant, unit: UnitFacts) -> bool:
        """Whether the unit can run this variant at all; if not it is noted why."""
        code = self.obstacle(variant, unit)
        if not code and unit.exclusive and self.is_taken(unit):
            code = "UnitOccupied"
        if code:
            example = f"{variant.name} on {unit.node.name} {unit.name} ({unit.profile})"
            self.refused.append(Refused(candidate=f"{unit.profile} {unit.unit.name}", code=code, example=example))
        return not code

    def _build(self, variant: Variant, members: Sequence[UnitFacts]) -> Lattice | None:
        usable = [unit for unit in members if self._is_usable(variant, unit)]
        costs = [cost for unit in usable if (cost := self.costs(variant, unit)) is not None]
        if not usable:
            return None
        made = lattice.build(
            variant,
            usable,
            costs,
            [self.loads[unit.key] for unit in usable],
            Crossing(
                link=self.index.link,
                input_bytes=size_of(self.model.spec.inputs),
                answer_bytes=size_of(self.model.spec.outputs),
                may_receive=self._may_receive,
                taken=self.taken,
            ),
            source=self.source,
            z=self.demand.z,
            rate=self.demand.rate,
        )
        self._note_rules(variant, made)
        return made

    def taken(self, origin: NodeFacts, target: NodeFacts) -> float:
        """Share of the time of the link between two nodes that others hold."""
        wire = self.index.wire(origin, target)
        return self.loads.taken(wire) if wire is not None else 0.0

    def _may_receive(self, node: NodeFacts, raw: bool) -> bool:
        egress = self.demand.mission.spec.egress
        return self.demand.may_receive(egress.input if raw else egress.features, self.source, node)

    def _note_rules(self, variant: Variant, made: Lattice) -> None:
        """Structural rules that stop a unit, by code: egress, link, memory; and modes that are not to be had."""
        modes, last = self.demand.mission.spec.modes, len(variant.blocks) - 1
        if made.last == 1 and "Split" in modes:
            self.refused.append(Refused("Split", "NoLegalCut", f"{variant.name} runs as one piece"))
        for mode in MODES:
            if mode not in modes:
                self.refused.append(Refused(mode, "ModeNotAllowed", variant.name))
        for i, unit in enumerate(made.units):
            name = unit.node.name
            if not made.local[i]:
                kinds = (("input", True), ("features", False))
                barred = [kind for kind, raw in kinds if not self._may_receive(unit.node, raw)]
                if barred:
                    self.refused.append(Refused(f"{' and '.join(barred)} to {name}", "EgressForbidden", variant.name))
                if self.link(self.source, unit.node) is None:
                    self.refused.append(Refused(f"{self.source.name}>{name}", "NoLink", variant.name))
            if not made.fits[i, 0, made.last]:
                part = f"{variant.name} [0..{last}]"
                self.refused.append(Refused(f"all on {name} {unit.name}", "MemoryTooSmall", part))
            if not made.powers[i, 0, made.last]:
                part = f"{variant.name} [0..{last}]"
                self.refused.append(Refused(f"all on {name} {unit.name}", "PowerCapExceeded", part))

    # ------------------------------------------------------------------------------------------------ judgement

    def _solve(
        self, variant: Variant, made: Lattice, *, strict: bool, price: Amount | None = None
    ) -> Iterator[Candidate]:
        """The best ways of each allowed mode, by each of the sums that are minimised."""
        if strict and self.accuracy_shortfall(variant) > 0:
            return
        modes = [mode for mode in MODES if mode in self.demand.mission.spec.modes]
        for question in self._questions(made, strict=strict, price=price):
            searcher = Searcher(made, question)
            for mode in modes:
                yield from self._candidates(variant, made, searcher.run(mode))

    def _candidates(self, variant: Variant, made: Lattice, found: Found) -> Iterator[Candidate]:
        gap = found.ways[0][0] - found.bound if found.ways else 0.0
        for _, way in found.ways:
            yield self.judge(variant, made, way, gap=gap)

    def _held_again(self, variant: Variant, made: Lattice) -> list[Candidate]:
        """What is held, while it is feasible: staying is no move."""
        held = self._held_way(variant, made)
        again = self.judge(variant, made, held) if held else None
        return [again] if again is not None and not again.shortfalls else []

    def _questions(self, made: Lattice, *, strict: bool, price: Amount | None = None) -> Iterator[Question]:
        """What is minimised is the least of a few sums: each is asked for by itself."""
        limits = tuple(self.limits(made))
        if self.aim == "rate":
            fastest = _best_rate(made, limits, strict=strict)
            limits = (*limits, Limit(made.busy, fastest, peak=True))
        most = MOST_PARTITIONS if self.aim != "rate" else min(_MOST_STAGES, len(made.units))
        for cost in self._costs_of_way(made):
            priced = _sum([(1.0, cost), (1.0, price)], made) if price else cost
            yield Question(priced, limits, most, strict=strict)

    def limits(self, made: Lattice) -> Iterator[Limit]:
        demand = self.demand
        if demand.latency is not None and demand.latency.hard:
            yield Limit(made.tail, demand.latency.value)
        if demand.energy is not None and demand.energy.hard:
            yield Limit(self._energy(made), demand.energy.value)
        if demand.rate > 0 and np.max(made.busy.spans, where=np.isfinite(made.busy.spans), initial=0.0) > 0:
            yield Limit(made.busy, 1 / demand.rate, peak=True)

    def _costs_of_way(self, made: Lattice) -> Iterator[Amount]:
        """Weighted latency and energy, each as it is or, where a Soft limit lets it be more than twice over, as two."""
        demand, (_, by_latency, by_energy) = self.demand, self.demand.weights
        if self.aim == "latency":
            yield made.tail
            return
        if self.aim == "energy":
            yield self._energy(made)
            return
        latency, energy = demand.latency, demand.energy
        soft = [limit is not None and not limit.hard for limit in (latency, energy)]
        for over in product(*((False, True) if each else (False,) for each in soft)):
            parts = []
            if latency is not None:
                weight = 0.0 if over[0] else by_latency
                parts += [
                    ((weight + UNCERTAINTY) / latency.value, made.tail),
                    (-UNCERTAINTY / latency.value, made.mean),
                ]
            if energy is not None and not over[1]:
                parts.append((by_energy / energy.value, self._energy(made)))
            yield _sum(parts, made)

    def _energy(self, made: Lattice) -> Amount:
        """Unknown power counts as twice what is allowed: it satisfies no Hard limit, and is never better than known."""
        limit = self.demand.energy
        if limit is None:
            return made.energy
        unknown = ~made.powered[:, None, None] & np.isfinite(made.mean.spans)
        return Amount(np.where(unknown, 2 * limit.value, made.energy.spans), made.energy.hops)

    def judge(self, variant: Variant, made: Lattice, way: Way, *, gap: float = 0.0) -> Candidate:
        """A way with its true figures: margins clipped, shortfalls of Hard limits, whether it is a move."""
        demand, figures = self.demand, {n: total(getattr(made, n), made, way) for n in ("mean", "tail")}
        energy = total(self._energy(made), made, way)
        busy = total(made.busy, made, way, peak=True)
        margins, shortfalls = {}, {}
        rows = (("latency", demand.latency, figures["tail"]), ("energy", demand.energy, energy))
        for name, limit, value in rows:
            if limit is not None:
                margins[name] = max(-1.0, min(1.0, (limit.value - value) / limit.value))
                shortfalls[name] = value / limit.value - 1 if limit.hard else 0.0
        if demand.accuracy is not None:
            figure = demand.accuracy_of(variant)
            margins["accuracy"] = accuracy_margin(figure.value, demand.accuracy.value) if figure else -1.0
            shortfalls["accuracy"] = self.accuracy_shortfall(variant)
        pieces = tuple(Piece(*piece) for piece in made.pieces(way))
        shared = self._shared(made, way)
        shortfalls["rate"] = max(demand.rate * busy - 1, shared["rate"])
        shortfalls["power"] = shared["power"]
        moves = self._moves(variant, pieces)
        objective = self._value(margins, figures, energy, busy) - MOVE_COST * moves
        return Candidate(
            variant=variant,
            mode=self.mode_of([piece.unit for piece in pieces]),
            pieces=pieces,
            objective=objective,
            shortfalls={name: short for name, short in shortfalls.items() if short > TIE},
            latency=figures["tail"],
            energy=energy,
            moves=moves,
            bound=objective + gap,
        )

    def _shared(self, made: Lattice, way: Way) -> dict[str, float]:
        """Where several steps of a way share one link or one node's power cap, each alone being within it."""
        place, boundary, seconds, joules = made.source, 0, dict[Wire, float](), dict[str, float]()
        least = {"rate": -1.0, "power": -1.0}
        for unit, end in way:
            facts = made.units[unit]
            origin = made.units[place].node if place < made.source else self.source
            wire = self.index.wire(origin, facts.node)
            if wire is not None:
                seconds[wire] = seconds.get(wire, 0.0) + float(made.busy.hops[place, unit, boundary])
                least["rate"] = max(least["rate"], self.demand.rate * seconds[wire] - 1)
            allowed = lattice.allowance(facts, self.loads[facts.key], self.demand.rate)
            if np.isfinite(allowed):
                spent = joules.get(facts.node.name, 0.0) + float(made.energy.spans[unit, boundary, end])
                joules[facts.node.name] = spent
                least["power"] = max(least["power"], spent / allowed - 1 if allowed > 0 else float(spent > 0))
            place, boundary = unit, end
        return least

    def _value(self, margins: Mapping[str, float], figures: Mapping[str, float], energy: float, busy: float) -> float:
        """What is made as large as possible, by aim: weighted margins, or minus seconds, minus joules, requests/s."""
        if self.aim == "latency":
            return -figures["tail"]
        if self.aim == "energy":
            return -energy
        if self.aim == "rate":
            return 1 / busy
        weights = zip(("accuracy", "latency", "energy"), self.demand.weights, strict=True)
        value = sum(weight * margins[name] for name, weight in weights if name in margins)
        if self.demand.latency is None:
            return value
        # Of the limit, not of the tail: a certain delay added to a way must not make it look surer.
        return value - UNCERTAINTY * (figures["tail"] - figures["mean"]) / self.demand.latency.value

    def accuracy_shortfall(self, variant: Variant) -> float:
        limit, figure = self.demand.accuracy, self.demand.accuracy_of(variant)
        if limit is None or not limit.hard:
            return 0.0
        return max(0.0, -accuracy_margin(figure.value, limit.value)) if figure else 1.0

    def _moves(self, variant: Variant, pieces: Sequence[Piece]) -> int:
        """1 when the plan differs from the one held."""
        held = self.held
        if held is None:
            return 0
        kept = [(p.node, p.unit, p.first, p.last) for p in held.partitions]
        same = [(p.unit.node.name, p.unit.name, p.first, p.last) for p in pieces]
        return int(held.variant != variant.name or kept != same)

    # ------------------------------------------------------------------------------------------------ surveying

    def _survey(self, variant: Variant, made: Lattice) -> Iterable[Candidate]:
        """What is held, and per unit the best way that is it alone, or it after a part where the data is born."""
        held = self._held_way(variant, made)
        ways = [held] if held is not None else []
        modes = self.demand.mission.spec.modes
        question = next(iter(self._questions(made, strict=False)), None)
        for unit in range(len(made.units)):
            alone: Way = ((unit, made.last),)
            mode: Mode = "Local" if made.local[unit] else "Remote"
            if mode in modes:
                ways.append(alone)
            if question is not None and "Split" in modes and not made.local[unit]:
                ways += _best_splits(made, question, unit)
        for way in ways:
            if np.isfinite(total(made.tail, made, way)):
                yield self.judge(variant, made, way)

    def _held_way(self, variant: Variant, made: Lattice) -> Way | None:
        """None where it is not possible any more, or not allowed."""
        held = self.held
        if held is None or held.variant != variant.name or held.mode not in self.demand.mission.spec.modes:
            return None
        way = made.find([(p.node, p.unit, p.last) for p in held.partitions])
        return way if way is not None and np.isfinite(total(made.tail, made, way)) else None


def _best_splits(made: Lattice, question: Question, unit: int) -> list[Way]:
    """For each unit where the data is born, the best cut between it and `unit`."""
    found: list[Way] = []
    for here in np.flatnonzero(made.local):
        first = question.cost.hops[made.source, here, 0] + question.cost.spans[here, 0, :]
        cost = first + question.cost.hops[here, unit, :] + question.cost.spans[unit, :, made.last]
        cut = int(np.argmin(cost))
        if np.isfinite(cost[cut]):
            found.append(((int(here), cut), (unit, made.last)))
    return found


def _best_rate(made: Lattice, limits: tuple[Limit, ...], *, strict: bool) -> float:
    """Seconds of the slowest stage of the pipeline whose slowest stage is the quickest."""
    most = min(_MOST_STAGES, len(made.units))
    searcher = Searcher(made, Question(made.busy, limits, most, peak=True, strict=strict))
    return min(searcher.run(mode).bound for mode in MODES) * (1 + TIE)


def _sum(parts: Sequence[tuple[float, Amount]], made: Lattice) -> Amount:
    """The weighted sum of amounts; infinite where a step is impossible."""
    spans, hops = np.zeros_like(made.mean.spans), np.zeros_like(made.mean.hops)
    possible, crossable = np.isfinite(made.mean.spans), np.isfinite(made.mean.hops)
    for weight, amount in parts:
        if weight:
            spans += weight * np.where(possible, amount.spans, 0.0)
            hops += weight * np.where(crossable, amount.hops, 0.0)
    return Amount(np.where(possible, spans, np.inf), np.where(crossable, hops, np.inf))


def _identity(candidate: Candidate) -> tuple[object, ...]:
    return candidate.variant.name, tuple((p.unit.key, p.first, p.last) for p in candidate.pieces)


def accuracy_margin(value: float, floor: float) -> float:
    return (value - floor) / (1 - floor) if floor < 1 else value - floor


def _unavailable(unit: UnitFacts) -> Refused:
    return Refused(f"{unit.profile} {unit.unit.name}", "NotAvailable", f"{unit.node.name} {unit.name}")
