"""What a mission's manifests mean for one variant of its model, in numbers: no code of the planner in it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from statistics import NormalDist
from typing import Any, Final

import numpy as np

from maleo_api.device import ComputeUnit, Place
from maleo_api.mission import Mission
from maleo_api.model import Model, Tensor, Variant
from maleo_api.quantities import (
    BANDWIDTH,
    BYTES,
    COMPUTE,
    DURATION,
    ENERGY,
    ENERGY_PER_BYTE,
    POWER,
    RATE,
    RATIO,
    THROUGHPUT,
    WORK,
    parse,
)
from maleo_operator.planning.problem import NodeFacts, Plan, Snapshot

Spot = tuple[str, str]
"""(node, unit)."""

_SPREAD, _PRIOR_SPREAD = 0.05, 0.15  # of what was measured, of what was declared
_MESSAGE_S: Final = 0.001
_PRESETS: Final = {
    "balanced": (1, 1, 1),
    "latency-first": (1, 7, 2),
    "accuracy-first": (6, 3, 1),
    "energy-first": (2, 1, 7),
}
_RANK: Final = {"Safety": 0, "Mission": 1, "BestEffort": 2}


def read(snapshot: Snapshot, key: str) -> Iterator["Meaning"]:
    """One for each variant that the mission allows and that keeps a Hard floor of accuracy."""
    mission = snapshot.missions[key]
    model = snapshot.models[f"{mission.metadata.namespace}/{mission.spec.model.name}"]
    for variant in model.spec.variants:
        if not mission.spec.model.variants or variant.name in mission.spec.model.variants:
            found = Meaning(snapshot, mission, model, variant)
            if found.accuracy is not None and found.units:
                yield found


@dataclass(frozen=True, slots=True)
class Unit:
    node: NodeFacts
    name: str
    profile: str
    facts: ComputeUnit
    share: float  # of its time that others take
    wait: float  # seconds behind one of their requests
    room: float  # bytes
    patience: float  # seconds that a request may take here, so that no other is late by it

    @property
    def spot(self) -> Spot:
        return self.node.name, self.name


@dataclass(frozen=True)
class Meaning:
    snapshot: Snapshot
    mission: Mission
    model: Model
    variant: Variant

    @cached_property
    def units(self) -> list[Unit]:
        """Those that can run the variant at all."""
        found = []
        for node, name, profile, facts in _installed(self.snapshot):
            share, service, memory = _load(self.snapshot, self.mission, (node.name, name))
            runs = any(r.name == self.variant.requires.runtime and "onnx" in r.formats for r in facts.runtimes)
            known = any(p.precision == self.variant.precision for p in facts.peak)
            occupied = facts.access.sharing == "Exclusive" and (share > 0 or memory > 0)
            if runs and known and not occupied and share < 1:
                wait = share * service / (2 * (1 - share))
                sizes = [parse(BYTES, m.size) for m in facts.memory if m.size]
                room = (sizes[0] if sizes else np.inf) - memory
                patience = _patience(self.snapshot, self.mission, (node.name, name))
                found.append(Unit(node, name, profile, facts, share, wait, room, patience))
        return found

    @cached_property
    def costs(self) -> list[tuple[list[float], float, float]]:
        """Per unit: seconds of each block, of a launch, and the relative deviation."""
        found = []
        for unit in self.units:
            facts = unit.facts
            peak = next(parse(COMPUTE, p.rate) for p in facts.peak if p.precision == self.variant.precision)
            speed = peak * next(
                parse(RATIO, e.value) for e in facts.efficiency if e.precision == self.variant.precision
            )
            reads = next((parse(THROUGHPUT, m.bandwidth) for m in facts.memory if m.bandwidth), np.inf)
            seconds = [
                max(parse(WORK, b.work) / speed, (parse(BYTES, b.parameters) + parse(BYTES, b.activations)) / reads)
                for b in self.variant.blocks
            ]
            launch = parse(DURATION, facts.overhead) if facts.overhead else 0.0
            whole = self._measured(unit).get((0, len(self.variant.blocks) - 1))
            scale = (whole[0] / (sum(seconds) + launch) if whole else 1.0) * self._slowness(unit)
            found.append(
                ([s * scale for s in seconds], launch * scale, max(_SPREAD, whole[1] / whole[0] if whole else 0))
            )
        return found

    @cached_property
    def spans(self) -> list[tuple[int, int, int, float, float]]:
        """(unit, first, last, seconds, deviation) of each span that was measured."""
        return [
            (u, first, last, mean * self._slowness(unit), sigma * self._slowness(unit))
            for u, unit in enumerate(self.units)
            for (first, last), (mean, sigma) in self._measured(unit).items()
        ]

    def _measured(self, unit: Unit) -> dict[tuple[int, int], tuple[float, float]]:
        names = [block.name for block in self.variant.blocks]
        digests = {artifact.digest for artifact in self.variant.artifacts}
        found = {}
        of_unit = (unit.profile, unit.facts.name)
        for each in (profile.spec for profile in self.snapshot.model_profiles.values()):
            for span in each.spans if each.variant_digest in digests and (each.profile, each.unit) == of_unit else ():
                p50, p95 = parse(DURATION, span.latency.p50), parse(DURATION, span.latency.p95)
                mean = min(p95, p50 * float(np.exp(np.square(np.log(p95 / p50) / 1.645) / 2)))
                found.setdefault(
                    (names.index(span.blocks[0]), names.index(span.blocks[1])), (mean, (p95 - mean) / 1.645)
                )
        return found

    def _slowness(self, unit: Unit) -> float:
        """What was learned online, and throttling."""
        seen = self.snapshot.observations
        correction = seen.correction.get((self.variant.artifacts[0].digest, *unit.spot))
        return (correction.value if correction else 1.0) / seen.capacity.get(unit.spot, 1.0)

    @cached_property
    def source(self) -> NodeFacts:
        return self.snapshot.nodes[str(self.mission.spec.input.node)]

    def may_go(self, what: str, target: Unit) -> bool:
        reach = getattr(self.mission.spec.egress, what)
        same_site = self.source.site != "" and self.source.site == target.node.site
        return target.node.name == self.source.name or reach == "Any" or (reach == "Site" and same_site)

    def hop(self, source: NodeFacts, target: NodeFacts, after: int) -> tuple[float, float, float] | None:
        """Mean seconds, deviation and joules after a block; None: no link, or the link is too slow for the rate."""
        if source.name == target.name:
            return 0.0, 0.0, 0.0
        key = _link(self.snapshot, source, target)
        cut = self.variant.blocks[after].cut if after >= 0 else None
        if key is None or (after >= 0 and cut is None):
            return None
        spec = self.snapshot.links[key].spec
        seen = self.snapshot.observations.bandwidth.get((source.name, target.name))
        rate = seen.value if seen else parse(BANDWIDTH, spec.bandwidth)
        spread = seen.sigma / seen.value if seen else _PRIOR_SPREAD
        carried = _bytes(cut.tensors if cut else self.model.spec.inputs) + _bytes(self.model.spec.outputs)
        wire = carried / rate
        if self.rate * wire > 1 + 1e-9:
            return None
        joules = carried * parse(ENERGY_PER_BYTE, spec.energy_per_byte) if spec.energy_per_byte else 0.0
        return wire + parse(DURATION, spec.round_trip) + _MESSAGE_S, wire * spread, joules

    @cached_property
    def held(self) -> tuple[Spot, ...] | None:
        """Where each block is held, if it could stay there."""
        held = self.snapshot.held.get(self.mission.key)
        if held is None or held.variant != self.variant.name:
            return None
        places = places_of(held, len(self.variant.blocks))
        return places if set(places) <= {unit.spot for unit in self.units} else None

    @property
    def latency(self) -> tuple[float | None, bool]:
        stated = self.mission.spec.objectives.latency
        return (parse(DURATION, stated.at_most), stated.enforcement == "Hard") if stated else (None, False)

    @property
    def energy(self) -> tuple[float | None, bool]:
        """Joules of one request: what is stated, and what the stated power leaves at the rate."""
        stated, most = self.mission.spec.objectives.energy, []
        if stated is not None and stated.per_inference is not None:
            most.append(parse(ENERGY, stated.per_inference))
        if stated is not None and stated.power is not None:
            most.append(parse(POWER, stated.power) / self.rate)
        return (min(most), stated.enforcement == "Hard") if stated is not None and most else (None, False)

    @cached_property
    def accuracy(self) -> float | None:
        """The margin of the variant, no lower than -1; None when a Hard floor is not kept."""
        stated = self.mission.spec.objectives.accuracy
        if stated is None:
            return 0.0
        rows = [a for a in self.variant.accuracy if (a.metric, a.dataset) == (stated.metric, stated.dataset)]
        floor = parse(RATIO, stated.at_least)
        margin = (parse(RATIO, rows[0].value) - floor) / (1 - floor) if rows else -1.0
        return None if stated.enforcement == "Hard" and margin < -1e-9 else max(-1.0, margin)

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
    """The unit of every block of a plan."""
    places = [("", "")] * blocks
    for part in plan.partitions:
        places[part.first : part.last + 1] = [(part.node, part.unit)] * (part.last + 1 - part.first)
    return tuple(places)


def _installed(snapshot: Snapshot) -> Iterator[tuple[NodeFacts, str, str, ComputeUnit]]:
    for _, device in sorted(snapshot.devices.items()):
        for declared in device.spec.declared:
            for unit in snapshot.profiles[declared.profile].spec.compute_units:
                node = snapshot.nodes[device.spec.node_name]
                yield node, f"{declared.name}/{unit.name}", declared.profile, unit


def _load(snapshot: Snapshot, mission: Mission, spot: Spot) -> tuple[float, float, float]:
    """Share of time, mean seconds of a request and bytes that missions of no lower criticality hold of a unit."""
    rows = []
    for key, plan in snapshot.held.items():
        other = snapshot.missions[key]
        if key != mission.key and _RANK[other.spec.criticality] <= _RANK[mission.spec.criticality]:
            rate = parse(RATE, other.spec.demand.rate)
            rows += [
                (rate * p.compute.value, p.compute.value, p.memory) for p in plan.partitions if (p.node, p.unit) == spot
            ]
            spare = plan.fallback.partition if plan.fallback else None
            if spare is not None and (spare.node, spare.unit) == spot:
                rows.append((0.0, 0.0, spare.memory))
    share = sum(row[0] for row in rows)
    service = sum(row[0] * row[1] for row in rows) / share if share else 0.0
    return share, service, sum(row[2] for row in rows)


def _patience(snapshot: Snapshot, mission: Mission, spot: Spot) -> float:
    """By trying how long a request may take before another's tail is over its Hard limit; one mission holds a unit."""
    least, rate = np.inf, parse(RATE, mission.spec.demand.rate)
    for key, plan in snapshot.held.items():
        other = snapshot.missions[key]
        limit = other.spec.objectives.latency
        there = spot in [(p.node, p.unit) for p in plan.partitions]
        below = _RANK[other.spec.criticality] > _RANK[mission.spec.criticality]
        if key == mission.key or below or not there or limit is None or limit.enforcement == "Soft":
            continue
        z = NormalDist().inv_cdf(limit.percentile / 100)
        alone = plan.latency.value - sum(p.wait.value * (1 + z) for p in plan.partitions)
        low, high = 0.0, 1 / rate
        for _ in range(100):
            middle = (low + high) / 2
            wait = rate * middle**2 / (2 * (1 - rate * middle))
            low, high = (middle, high) if alone + (1 + z) * wait <= parse(DURATION, limit.at_most) else (low, middle)
        least = min(least, low)
    return least


def _link(snapshot: Snapshot, source: NodeFacts, target: NodeFacts) -> str | None:
    """The most specific Link between two nodes, the first by name."""
    found = []
    for key, link in snapshot.links.items():
        one, other = link.spec.between
        for a, b in ((one, other), (other, one)):
            ranks = _matches(a, source), _matches(b, target)
            if all(ranks):
                found.append((-sum(ranks), key))
    return min(found)[1] if found else None


def _matches(place: Place, node: NodeFacts) -> int:
    """3: names the node, 2: its site, 1: its tier, 0: another place."""
    if place.node is not None:
        return 3 * (place.node == node.name)
    return 2 * (place.site == node.site) if place.site is not None else int(place.tier == node.tier)


def watts(unit: Unit) -> float | None:
    return next((parse(POWER, row.value) for row in unit.facts.power if row.state == "Typical"), None)


def _bytes(tensors: list[Tensor]) -> float:
    size: Mapping[str, Any] = {"FP32": 4, "INT8": 1}
    return float(sum(size[t.datatype] * np.prod(t.shape) for t in tensors))
