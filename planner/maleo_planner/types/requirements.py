"""Requirements of one mission, parsed: objectives in SI units, weights, and the nodes that match its input."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from statistics import NormalDist
from typing import Final

from maleo_api.accuracy_floor import find_accuracy, find_floor
from maleo_api.mission import Mission
from maleo_api.model import AccuracyFigure, Codec, Model, Variant
from maleo_api.quantities import DURATION, ENERGY, POWER, RATE, RATIO, parse
from maleo_planner.types.problem import Estimate, Snapshot

WEIGHT_PRESETS: Final = {  # accuracy, latency, energy
    "balanced": (1 / 3, 1 / 3, 1 / 3),
    "accuracy-first": (0.6, 0.3, 0.1),
    "latency-first": (0.1, 0.7, 0.2),
    "energy-first": (0.2, 0.1, 0.7),
}


@dataclass(frozen=True, slots=True)
class ObjectiveLimit:
    """Limit of one objective in SI units. A Hard limit decides feasibility, a Soft limit only the objective value."""

    value: float
    hard: bool


@dataclass(frozen=True, slots=True)
class Requirements:
    """Requirements of one mission in SI units."""

    mission: Mission
    accuracy: ObjectiveLimit | None
    latency: ObjectiveLimit | None
    energy: ObjectiveLimit | None  # joules per inference; a power objective is converted at the demanded rate
    z: float  # z-score of the latency percentile
    rate: float  # requests per second
    updates_per_request: float  # updates of the model weights per request
    weights: tuple[float, float, float]  # of accuracy, latency and energy

    @classmethod
    def parse_mission(cls, mission: Mission, model: Model | None = None) -> "Requirements":
        """Parse the requirements of a mission.

        Args:
            mission: Mission to parse.
            model: Model of the mission. Without it an accuracy floor relative to a variant is unknown (infinite).
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
        """Return the accuracy of the variant for metric and data set of the objective; None if not declared."""
        return self._find_accuracy(variant.accuracy, f"Model, variant {variant.name}")

    def accuracy_loss(self, variant: Variant, block: int, codec: Codec | None = None) -> float:
        """Return the accuracy, 0 to 1, that is lost at the cut after `block`, uncoded or with a codec.

        The accuracy declared for a codec includes the deviation of the cut itself, so the larger of both losses counts.
        Infinite if the mission has an accuracy objective and the accuracy of the codec is unknown.
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
        """Return the accuracy for the metric and data set of the objective; None if it is not declared.

        Args:
            rows: Declared accuracies.
            default_source: Source of the estimate if the row declares none.
        """
        objective = self.mission.spec.objectives.accuracy
        if objective is None:
            return None
        figure = find_accuracy(rows, objective)
        return (
            Estimate(parse(RATIO, figure.value), 0.0, figure.basis, figure.source or default_source) if figure else None
        )


def accuracy_margin(value: float, floor: float) -> float:
    """Return the margin of an accuracy above its floor, relative to the range above the floor.

    -1 if the floor is unknown (infinite).
    """
    if floor == inf:
        return -1.0
    return (value - floor) / (1 - floor) if floor < 1 else value - floor


def _weights(mission: Mission) -> tuple[float, float, float]:
    """Return the weights of accuracy, latency and energy; they sum to 1."""
    weights = mission.spec.preference.weights
    if weights is None:
        return WEIGHT_PRESETS[mission.spec.preference.preset]
    total = weights.accuracy + weights.latency + weights.energy
    if total == 0:
        return WEIGHT_PRESETS["balanced"]
    return weights.accuracy / total, weights.latency / total, weights.energy / total


def find_input_nodes(snapshot: Snapshot, mission: Mission) -> list[str]:
    """Return the names of the nodes that match the input of the mission. The input is valid if exactly one matches."""
    source = mission.spec.input
    if source.node is not None:
        return [source.node] if source.node in snapshot.nodes else []
    labels = (source.selector or {}).items()
    return sorted(n for n, facts in snapshot.nodes.items() if labels and labels <= facts.labels.items())
