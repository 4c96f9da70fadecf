"""A mission and one variant of its model as numbers, read from manifests without code of the planner."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import NormalDist
from typing import Any, Final

import numpy as np

from maleo_api.device import ComputeUnit
from maleo_api.meta import Basis
from maleo_api.mission import Mission
from maleo_api.model import AccuracyFigure, Codec, Model, Tensor, Variant
from maleo_api.quantities import BYTES, DURATION, ENERGY, POWER, RATE, RATIO, WORK, parse
from maleo_planner.types.problem import NodeFacts, Plan, Snapshot
from support.oracle import datasheet, inventory, links, reservations

Spot = tuple[str, str]
"""(node, unit)."""

_PRESETS: Final = {
    "balanced": (1, 1, 1),
    "latency-first": (1, 7, 2),
    "accuracy-first": (6, 3, 1),
    "energy-first": (2, 1, 7),
}
_RANK: Final = {"Safety": 0, "Mission": 1, "BestEffort": 2}


def read(snapshot: Snapshot, key: str) -> Iterator["Meaning"]:
    """Yield a reading for each allowed variant and exit that keeps a Hard accuracy floor."""
    mission = snapshot.missions[key]
    model = snapshot.models[f"{mission.metadata.namespace}/{mission.spec.model.name}"]
    for variant, exit_ in inventory.list_variants(model) if inventory.find_sources(snapshot, mission) else ():
        if not mission.spec.model.variants or variant.name in mission.spec.model.variants:
            found = Meaning(snapshot, mission, model, variant, exit_)
            if found.is_accurate and found.units:
                yield found


@dataclass(frozen=True, slots=True)
class Unit:
    node: NodeFacts
    name: str
    profile: str
    facts: ComputeUnit
    share: float  # of its time that others use
    wait: float  # seconds behind their requests, and their deviation
    unsure: float
    free: float  # bytes of memory
    max_seconds: float  # of a request here, so that no other mission violates its latency limit
    reconfiguration: float  # seconds of reconfiguration that each request pays

    @property
    def spot(self) -> Spot:
        return self.node.name, self.name


@dataclass(frozen=True, slots=True)
class Crossing:
    """Figures of a transfer between two units.

    mean: seconds; sigma: their deviation; joules: None if unknown; loss: share of accuracy; wire: shared capacity, and
    the share of its free time that is used at the mission's rate.
    """

    mean: float
    sigma: float
    joules: float | None
    loss: float = 0.0
    wire: tuple[frozenset[str], float] | None = None
    sides: tuple[tuple[str, float | None], ...] = ()  # nodes that code, and their joules


@dataclass(frozen=True)
class Meaning:
    snapshot: Snapshot
    mission: Mission
    model: Model
    variant: Variant
    exit: str = ""

    @cached_property
    def units(self) -> list[Unit]:
        """Units that can run the variant."""
        found = []
        for node, name, profile, facts, device in inventory.list_units(self.snapshot):
            digest = self.variant.artifacts[0].digest
            spot = (node.name, name)
            switch = reservations.reconfiguration(self.snapshot, self.mission, spot, facts, digest)
            share, wait, sigma, memory = _load(self.snapshot, self.mission, spot, switch or 0.0)
            occupied = facts.access.sharing == "Exclusive" and (share > 0 or memory > 0)
            measured = bool(self._measured(profile, facts.name))
            runs = datasheet.runs(self.variant, facts, device, measured=measured) and self._is_exact(facts)
            if runs and not occupied and switch is not None and share < 1:
                free = inventory.memory(self.snapshot, spot, facts) - memory
                longest = _max_seconds(self.snapshot, self.mission, spot, switch)
                found.append(Unit(node, name, profile, facts, share, wait, sigma, free, longest, switch))
        return found

    @cached_property
    def costs(self) -> list[tuple[list[float], float, float]]:
        """Per unit: seconds of each block, seconds of a launch, and the relative standard deviation."""
        found = []
        for unit in self.units:
            facts, measured = unit.facts, self._measured(unit.profile, unit.facts.name)
            reached = datasheet.speed(self.variant, facts)
            if reached is None:
                found.append(self._shared_out(unit, measured))
                continue
            reads = datasheet.bandwidth(facts)
            seconds = [
                max(
                    parse(WORK, b.work) / reached[0], (parse(BYTES, b.parameters) + parse(BYTES, b.activations)) / reads
                )
                for b in self.variant.blocks
            ]
            launch = parse(DURATION, facts.overhead) if facts.overhead else 0.0
            whole = measured.get((0, len(self.variant.blocks) - 1))
            scale = (whole[0] / (sum(seconds) + launch) if whole else 1.0) * self._slowness(unit)
            spread = max(datasheet.SPREAD, whole[1] / whole[0]) if whole else reached[1]
            found.append(([s * scale for s in seconds], launch * scale, self._seen_spread(unit) or spread))
        return found

    def _shared_out(
        self, unit: Unit, measured: Mapping[tuple[int, int], tuple[float, float, float | None]]
    ) -> tuple[list[float], float, float]:
        """Return times without a stated peak: a measured whole, distributed by operations; see `bare` without one."""
        whole = measured.get((0, len(self.variant.blocks) - 1))
        work = [parse(WORK, block.work) for block in self.variant.blocks]
        work = work if sum(work) else [1.0] * len(work)
        slow = self._slowness(unit)
        launch = parse(DURATION, unit.facts.overhead) if unit.facts.overhead else 0.0
        launch = min(launch, whole[0]) if whole else 0.0
        total = whole[0] - launch if whole else 0.0
        spread = self._seen_spread(unit) or datasheet.PRIOR_SPREAD
        return [w / sum(work) * total * slow for w in work], launch * slow, spread

    @cached_property
    def bare(self) -> frozenset[int]:
        """Units that run measured spans only: no peak is stated, and the whole model was not measured."""
        whole = (0, len(self.variant.blocks) - 1)
        return frozenset(
            u
            for u, unit in enumerate(self.units)
            if datasheet.speed(self.variant, unit.facts) is None
            and whole not in self._measured(unit.profile, unit.facts.name)
        )

    @cached_property
    def spans(self) -> list[tuple[int, int, int, float, float, float | None]]:
        """(unit, first, last, seconds, standard deviation, joules) of each measured span."""
        return [
            (u, first, last, mean * slow, (spread * mean if spread else sigma) * slow, joules)
            for u, unit in enumerate(self.units)
            for slow, spread in [(self._slowness(unit), self._seen_spread(unit))]
            for (first, last), (mean, sigma, joules) in self._measured(unit.profile, unit.facts.name).items()
        ]

    def _measured(self, profile: str, name: str) -> dict[tuple[int, int], tuple[float, float, float | None]]:
        names = [block.name for block in self.variant.blocks]
        digests = {artifact.digest for artifact in self.variant.artifacts}
        found = dict[tuple[int, int], tuple[float, float, float | None]]()
        of_unit = (profile, name, self.variant.requires.runtime)
        for each in (stated.spec for stated in self.snapshot.model_profiles.values()):
            if each.variant_digest not in digests or (each.profile, each.unit, each.runtime) != of_unit:
                continue
            for span in each.spans:
                if set(span.blocks) <= set(names):
                    p50, p95 = parse(DURATION, span.latency.p50), parse(DURATION, span.latency.p95)
                    mean = min(p95, p50 * float(np.exp(np.square(np.log(p95 / p50) / 1.645) / 2)))
                    joules = parse(ENERGY, span.energy) if span.energy else None
                    place = names.index(span.blocks[0]), names.index(span.blocks[1])
                    found.setdefault(place, (mean, (p95 - mean) / 1.645, joules))
        return found

    def _slowness(self, unit: Unit) -> float:
        """Return the factor on times: online correction and throttling."""
        seen = self.snapshot.observations
        correction = seen.correction.get((self.variant.artifacts[0].digest, *unit.spot))
        return (correction.value if correction else 1.0) / seen.capacity.get(unit.spot, 1.0)

    def _seen_spread(self, unit: Unit) -> float:
        """Return the relative standard deviation of single requests as slots measured it; 0 if unknown."""
        correction = self.snapshot.observations.correction.get((self.variant.artifacts[0].digest, *unit.spot))
        return correction.sigma / correction.value if correction else 0.0

    @cached_property
    def source(self) -> NodeFacts:
        """The input node."""
        (found,) = inventory.find_sources(self.snapshot, self.mission)
        return found

    def may_go(self, what: str, target: Unit) -> bool:
        reach = getattr(self.mission.spec.egress, what)
        same_site = self.source.site != "" and self.source.site == target.node.site
        return target.node.name == self.source.name or reach == "Any" or (reach == "Site" and same_site)

    def data(self, after: int) -> str:
        """Return the egress rule for the cut after a block; -1 is the input."""
        cut = self.variant.blocks[after].cut if after >= 0 else None
        return "input" if after < 0 or (cut is not None and cut.raw) else "features"

    def hop(self, source: NodeFacts, target: NodeFacts, after: int) -> Crossing | None:
        """Return the uncoded crossing after a block (-1: of the input); None without a link or enough free capacity."""
        cut = self.variant.blocks[after].cut if after >= 0 else None
        if after >= 0 and cut is None:
            return None
        return self._cross(source, target, cut.tensors if cut else self.model.spec.inputs)

    def _cross(self, source: NodeFacts, target: NodeFacts, tensors: Sequence[Tensor]) -> Crossing | None:
        """Return the crossing of `size` bytes and of the answer."""
        if source.name == target.name:
            return Crossing(0.0, 0.0, 0.0)
        wire = links.find(self.snapshot, source, target)
        if wire is None:
            return None
        free = 1 - reservations.taken(self.snapshot, self.mission, wire)
        asked, answered = _bytes(tensors), _bytes(self.model.spec.outputs)
        carried = asked + answered
        seconds = asked / wire.rate + answered / wire.back
        if self.rate * seconds > max(free, 0.0) * (1 + 1e-9):
            return None
        took = (wire.shared, self.rate * seconds / free if seconds else 0.0)
        return Crossing(seconds + wire.delay, seconds * wire.spread, carried * wire.joules, wire=took)

    def codecs(self, after: int) -> list[Codec]:
        """Return the codecs of the cut after a block."""
        cut = self.variant.blocks[after].cut
        return cut.codecs if cut is not None else []

    def coded(self, sender: Unit, receiver: Unit, codec: Codec) -> Crossing | None:
        """Return the crossing by a codec; None as for an uncoded one, or if a side is too slow or its cost unknown."""
        loss, plain = self._loss(codec), self._cross(sender.node, receiver.node, codec.tensors)
        if plain is None or loss is None or sender.node.name == receiver.node.name:
            return None
        mean, sigma, joules, sides = plain.mean, plain.sigma, plain.joules, []
        for work, unit in ((codec.encode, sender), (codec.decode, receiver)):
            processor = self._codec_processor(unit)
            if processor is None:
                return None
            reached, slowness, watts = processor
            seconds = parse(WORK, work) / reached[0] * slowness
            if self.rate * seconds > 1 + 1e-9:
                return None
            mean, sigma = mean + seconds, sigma + seconds * reached[1]
            joules = joules + watts * seconds if joules is not None and watts is not None else None
            sides.append((unit.node.name, None if watts is None else watts * seconds))
        return Crossing(mean, sigma, joules, loss, plain.wire, tuple(sides))

    def _codec_processor(self, partner: Unit) -> tuple[tuple[float, float], float, float | None] | None:
        """Return the processor of codecs: the node's CPU if its profile states a peak for it, else the unit itself.

        As operations/s with their relative deviation, the present slowdown, and watts; None if no peak is stated.
        """
        spots = [
            (unit, (node.name, name))
            for node, name, _, unit, _ in inventory.list_units(self.snapshot)
            if node.name == partner.node.name and unit.type == "CPU"
        ][:1]
        unit, spot = next(
            (row for row in spots if datasheet.speed(self.variant, row[0])), (partner.facts, partner.spot)
        )
        reached = datasheet.speed(self.variant, unit)
        if reached is None:
            return None
        return reached, 1 / self.snapshot.observations.capacity.get(spot, 1.0), datasheet.watts(unit)

    def joules(self, node: str) -> float:
        """Return the joules of one request that the power cap of a node still allows; infinite without a cap."""
        caps = [d.spec.power_cap for d in self.snapshot.devices.values() if d.spec.node_name == node]
        left = [parse(POWER, cap) - reservations.watts(self.snapshot, self.mission, node) for cap in caps if cap]
        return max(0.0, *left) / self.rate if left else np.inf

    def writing(self, unit: Unit) -> float | None:
        """Return the joules per request and byte of weights for updates of the model; None if unknown."""
        every = self.mission.spec.model.updated_every
        each = datasheet.write_energy(unit.facts)
        return 0.0 if every is None else None if each is None else each / (self.rate * parse(DURATION, every))

    @cached_property
    def incumbent(self) -> tuple[tuple[Spot, ...], tuple[str, ...]] | None:
        """Units and codecs of the incumbent plan; None if this variant cannot keep it."""
        incumbent = self.snapshot.current_plans.get(self.mission.key)
        if incumbent is None or (incumbent.variant, incumbent.exit) != (self.variant.name, self.exit):
            return None
        places, forms = places_of(incumbent, len(self.variant.blocks)), forms_of(incumbent, len(self.variant.blocks))
        return (places, forms) if set(places) <= {unit.spot for unit in self.units} else None

    @property
    def latency(self) -> tuple[float | None, bool]:
        stated = self.mission.spec.objectives.latency
        return (parse(DURATION, stated.at_most), stated.enforcement == "Hard") if stated else (None, False)

    @property
    def energy(self) -> tuple[float | None, bool]:
        """Energy limit of one request in joules: as stated, or by the power limit at the demanded rate."""
        stated, most = self.mission.spec.objectives.energy, []
        if stated is not None and stated.per_inference is not None:
            most.append(parse(ENERGY, stated.per_inference))
        if stated is not None and stated.power is not None:
            most.append(parse(POWER, stated.power) / self.rate)
        return (min(most), stated.enforcement == "Hard") if stated is not None and most else (None, False)

    @property
    def floor(self) -> tuple[float | None, bool]:
        """Accuracy floor; infinite if the accuracy of its reference is unknown."""
        stated = self.mission.spec.objectives.accuracy
        if stated is None:
            return None, False
        rows = [row for v in self.model.spec.variants if v.name == stated.relative_to for row in v.accuracy]
        whole = self._figure(rows) if stated.relative_to else 1.0
        return np.inf if whole is None else whole * parse(RATIO, stated.at_least), stated.enforcement == "Hard"

    @cached_property
    def accuracy(self) -> float | None:
        """Accuracy of the variant; None if it is unknown or not an objective."""
        return self._figure(self.variant.accuracy)

    @property
    def is_accurate(self) -> bool:
        """Whether the variant keeps a Hard floor without losses on its path."""
        floor, hard = self.floor
        return floor is None or not hard or (self.accuracy is not None and self.accuracy >= floor - 1e-9)

    def _figure(self, rows: Sequence[AccuracyFigure]) -> float | None:
        stated = self.mission.spec.objectives.accuracy
        if stated is None:
            return None
        wanted = (stated.metric, stated.dataset)
        row = datasheet.firmest([r for r in rows if (r.metric, r.dataset) == wanted and r.basis is not Basis.UNKNOWN])
        return parse(RATIO, row.value) if row else None

    def _loss(self, codec: Codec) -> float | None:
        """Return the accuracy lost by a codec; None if it is an objective and the loss is unknown."""
        if self.floor[0] is None:
            return 0.0
        coded = self._figure(codec.accuracy)
        return max(0.0, self.accuracy - coded) if self.accuracy is not None and coded is not None else None

    def _is_exact(self, facts: ComputeUnit) -> bool:
        """Return True if a Hard accuracy floor can be kept on the unit."""
        floor, hard = self.floor
        missed = datasheet.tolerance(facts)
        if floor is None or not hard or self.accuracy is None:
            return True
        return missed is not None and self.accuracy - missed >= floor - 1e-9

    @property
    def weights(self) -> tuple[float, float, float]:
        chosen = self.mission.spec.preference.weights
        shares = (chosen.accuracy, chosen.latency, chosen.energy) if chosen else (0, 0, 0)
        if not any(shares):
            shares = _PRESETS["balanced" if chosen else self.mission.spec.preference.preset]
        accuracy, latency, energy = (share / sum(shares) for share in shares)
        return accuracy, latency, energy

    @property
    def rate(self) -> float:
        return parse(RATE, self.mission.spec.demand.rate)

    @property
    def z(self) -> float:
        stated = self.mission.spec.objectives.latency
        return NormalDist().inv_cdf((stated.percentile if stated else 95) / 100)


def places_of(plan: Plan, blocks: int) -> tuple[Spot, ...]:
    """Return the unit of every block of a plan."""
    places = [("", "")] * blocks
    for part in plan.partitions:
        places[part.first : part.last + 1] = [(part.node, part.unit)] * (part.last + 1 - part.first)
    return tuple(places)


def forms_of(plan: Plan, blocks: int) -> tuple[str, ...]:
    """Return the codec in which the input of every block arrives; empty for none."""
    forms = [""] * blocks
    for part in plan.partitions:
        forms[part.first] = part.codec.name if part.codec else ""
    return tuple(forms)


def _load(snapshot: Snapshot, mission: Mission, spot: Spot, switch: float) -> tuple[float, float, float, float]:
    """Return reservations on a unit by missions of the same or higher criticality.

    These are the share of its time, mean and standard deviation of the waiting time, and bytes.

    switch: seconds of reconfiguration that they pay from now on.
    """
    rows = []
    for key, plan in snapshot.current_plans.items():
        other = snapshot.missions[key]
        if key != mission.key and _RANK[other.spec.criticality] <= _RANK[mission.spec.criticality]:
            rate = parse(RATE, other.spec.demand.rate)
            there = [p for p in plan.partitions if (p.node, p.unit) == spot]
            times = [p.compute.value + (0.0 if p.turn else switch) for p in there]
            rows += [(rate * time, time, p.memory) for time, p in zip(times, there, strict=True)]
            fallback = plan.fallback.partition if plan.fallback else None
            if fallback is not None and (fallback.node, fallback.unit) == spot:
                rows.append((0.0, 0.0, fallback.memory))
    share = sum(row[0] for row in rows)
    wait, sigma = _queue([row[:2] for row in rows])
    return share, wait, sigma, sum(row[2] for row in rows)


def _queue(rows: list[tuple[float, float]]) -> tuple[float, float]:
    """Return mean and standard deviation of the waiting time (M/G/1) from (share of time, seconds) of each mission."""
    share = sum(row[0] for row in rows)
    if not share or share >= 1:
        return (np.inf, np.inf) if share else (0.0, 0.0)
    rate = sum(time / seconds for time, seconds in rows if time)
    second, third = (sum(time / seconds * seconds**k for time, seconds in rows if time) / rate for k in (2, 3))
    mean = rate * second / (2 * (1 - share))
    return mean, float(np.sqrt(mean**2 + rate * third / (3 * (1 - share))))


def _max_seconds(snapshot: Snapshot, mission: Mission, spot: Spot, switch: float) -> float:
    """Return the longest request, by trial, that keeps the tails of others within their Hard limits."""
    longest, rate = np.inf, parse(RATE, mission.spec.demand.rate)
    for key, plan in snapshot.current_plans.items():
        other = snapshot.missions[key]
        limit = other.spec.objectives.latency
        there = [p for p in plan.partitions if (p.node, p.unit) == spot]
        below = _RANK[other.spec.criticality] > _RANK[mission.spec.criticality]
        if key == mission.key or below or not there or limit is None or limit.enforcement == "Soft":
            continue
        z = NormalDist().inv_cdf(limit.percentile / 100)
        alone = plan.latency.value - sum(p.wait.value + z * p.wait.sigma for p in plan.partitions)
        alone += sum(switch for p in there if not p.turn)
        present, deviation = _queue([])
        before = plan.latency.value - sum(p.wait.value + z * p.wait.sigma for p in plan.partitions)
        if before + present + z * deviation > parse(DURATION, limit.at_most) + 1e-9:
            continue  # late already
        low, high = 0.0, 1 / rate
        for _ in range(100):
            middle = (low + high) / 2
            wait, sigma = _queue([(rate * middle, middle)])
            low, high = (middle, high) if alone + wait + z * sigma <= parse(DURATION, limit.at_most) else (low, middle)
        longest = min(longest, low)
    return longest


def _bytes(tensors: Sequence[Tensor]) -> float:
    size: Mapping[str, Any] = {"FP32": 4, "INT8": 1}
    return float(sum(size[t.datatype] * np.prod(t.shape) for t in tensors))
