"""Parsed requirements of one mission: objectives as numbers, weights, candidates for its input node."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from statistics import NormalDist
from typing import Final

from maleo_api.mission import Mission
from maleo_api.model import AccuracyFigure, Codec, Model, Variant
from maleo_api.quantities import DURATION, ENERGY, POWER, RATE, RATIO, parse
from maleo_planner.types.accuracy_floor import find_accuracy, find_floor
from maleo_planner.types.problem import Estimate, Snapshot

WEIGHT_PRESETS: Final = {  # accuracy, latency, energy
    "balanced": (1 / 3, 1 / 3, 1 / 3),
    "accuracy-first": (0.6, 0.3, 0.1),
    "latency-first": (0.1, 0.7, 0.2),
    "energy-first": (0.2, 0.1, 0.7),
}


@dataclass(frozen=True, slots=True)
class ObjectiveLimit:
    """A limit in SI units. A Hard limit decides feasibility, a Soft one only the objective."""

    value: float
    hard: bool


@dataclass(frozen=True, slots=True)
class Requirements:
    """Requirements of a mission."""

    mission: Mission
    accuracy: ObjectiveLimit | None
    latency: ObjectiveLimit | None
    energy: ObjectiveLimit | None  # joules per inference; a power objective is converted at the demanded rate
    z: float  # standard deviations of the latency percentile above the mean
    rate: float  # requests per second
    updates_per_request: float  # updates of the model's weights per request
    weights: tuple[float, float, float]

    @classmethod
    def parse_mission(cls, mission: Mission, model: Model | None = None) -> "Requirements":
        """Parse the mission's requirements.

        model: of the mission; without it an accuracy floor relative to a variant is unknown (infinite).
        """
        objectives, rate = mission.spec.objectives, parse(RATE, mission.spec.demand.rate)
        accuracy, latency, energy = objectives.accuracy, objectives.latency, objectives.energy
        period = mission.spec.model.updated_every
        joules = []
        if energy is not None and energy.per_inference is not None:
            joules.append(parse(ENERGY, energy.per_inference))
        if energy is not None and energy.power is not None:
            joules.append(parse(POWER, energy.power) / rate if rate > 0 else float("inf"))
        return cls(
            mission=mission,
            accuracy=ObjectiveLimit(find_floor(accuracy, model), accuracy.enforcement == "Hard") if accuracy else None,
            latency=ObjectiveLimit(parse(DURATION, latency.at_most), latency.enforcement == "Hard")
            if latency
            else None,
            energy=ObjectiveLimit(min(joules), energy.enforcement == "Hard") if energy and joules else None,
            z=NormalDist().inv_cdf((latency.percentile if latency else 95) / 100),
            rate=rate,
            updates_per_request=1 / (rate * parse(DURATION, period)) if period and rate > 0 else 0.0,
            weights=_weights(mission),
        )

    def accuracy_of(self, variant: Variant) -> Estimate | None:
        """Return the variant's accuracy in the objective's metric on its data set; None where it is not stated."""
        return self._find_accuracy(variant.accuracy, f"Model, variant {variant.name}")

    def accuracy_loss(self, variant: Variant, block: int, codec: Codec | None = None) -> float:
        """Return the share of accuracy that the cut after `block` costs, transferred by this codec or uncoded.

        A codec's accuracy is stated for the model cut there, so it includes the cut's own deviation, and the larger of
        both losses counts. Infinite where the mission has an accuracy objective and the codec's accuracy is unknown.
        """
        cut = variant.blocks[block].cut
        if self.accuracy is None or cut is None:
            return 0.0
        deviation = parse(RATIO, cut.deviation) if cut.deviation is not None else 0.0
        if codec is None:
            return deviation
        plain, coded = self.accuracy_of(variant), self._find_accuracy(codec.accuracy, f"Model, codec {codec.name}")
        return max(deviation, plain.value - coded.value) if plain and coded else float("inf")

    def _find_accuracy(self, rows: Sequence[AccuracyFigure], default_source: str) -> Estimate | None:
        """Return the accuracy in the objective's metric and data set, None where it is not stated.

        default_source: source of the figure if the row states none.
        """
        objective = self.mission.spec.objectives.accuracy
        if objective is None:
            return None
        figure = find_accuracy(rows, objective)
        return (
            Estimate(parse(RATIO, figure.value), 0.0, figure.basis, figure.source or default_source) if figure else None
        )


def accuracy_margin(value: float, floor: float) -> float:
    """Return the relative margin of an accuracy in 0..1 above its floor; -1 where the floor is unknown (infinite)."""
    if floor == inf:
        return -1.0
    return (value - floor) / (1 - floor) if floor < 1 else value - floor


def _weights(mission: Mission) -> tuple[float, float, float]:
    """Return the weights of accuracy, latency and energy, normalised to a sum of 1."""
    weights = mission.spec.preference.weights
    if weights is None:
        return WEIGHT_PRESETS[mission.spec.preference.preset]
    total = weights.accuracy + weights.latency + weights.energy
    if total == 0:
        return WEIGHT_PRESETS["balanced"]
    return weights.accuracy / total, weights.latency / total, weights.energy / total


def find_input_nodes(snapshot: Snapshot, mission: Mission) -> list[str]:
    """Return the names of the nodes that match the mission's input; only exactly one match makes the input valid."""
    source = mission.spec.input
    if source.node is not None:
        return [source.node] if source.node in snapshot.nodes else []
    labels = (source.selector or {}).items()
    return sorted(n for n, facts in snapshot.nodes.items() if labels and labels <= facts.labels.items())
