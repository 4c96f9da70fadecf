"""What the schema's types cannot say: rules between fields (CEL, checked by the API server), and lists with keys."""

from dataclasses import dataclass
from typing import Final

from maleo_api.device import ComputeUnit, DeviceProfileSpec, DeviceSpec, DeviceStatus, Inventory, LinkSpec, Place
from maleo_api.meta import Schema
from maleo_api.mission import (
    EnergyObjective,
    InputSource,
    LatencyObjective,
    Mission,
    Objectives,
    Weights,
)
from maleo_api.model import Artifact, Cut, ModelSpec, Variant
from maleo_api.placement import Placement, PlacementSpec, PlacementStatus, Span


@dataclass(frozen=True, slots=True)
class Rule:
    """`cel` must hold for the object it is attached to; `message` says what is wrong and what to write instead."""

    cel: str
    message: str


RULES: Final[dict[type[Schema], tuple[Rule, ...]]] = {
    Mission: (
        Rule(
            "self.metadata.name.size() <= 40",
            "a mission's name has at most 40 characters: names of its pods and Service are made from it",
        ),
    ),
    Objectives: (
        Rule(
            "has(self.accuracy) || has(self.latency) || has(self.energy)",
            "a mission needs at least one objective: accuracy, latency or energy",
        ),
    ),
    LatencyObjective: (
        Rule(
            "duration(self.atMost) < duration(self.window)",
            "latency.atMost must be shorter than latency.window: raise the window",
        ),
        Rule(
            "self.minSamples * (100 - self.percentile) >= 300",
            "too few samples to judge this percentile: minSamples x (100 - percentile) must be at least 300",
        ),
    ),
    EnergyObjective: (
        Rule(
            "has(self.perInference) || has(self.power)",
            "an energy objective needs perInference (such as 350mJ) or power (such as 10W)",
        ),
    ),
    InputSource: (Rule("has(self.node) != has(self.selector)", "input needs exactly one of node and selector"),),
    Weights: (
        Rule("self.accuracy + self.latency + self.energy > 0", "weights cannot all be 0: one of them must count"),
    ),
    LinkSpec: (Rule("self.between[0] != self.between[1]", "the two ends of a link must differ"),),
    Place: (
        Rule(
            "[has(self.node), has(self.site), has(self.tier)].filter(given, given).size() == 1",
            "an end of a link is exactly one of node, site and tier",
        ),
    ),
    Variant: (
        Rule(
            "self.exits.all(exit, self.blocks.exists(block, block.name == exit.after))",
            "an exit comes after a block of this variant: name it in after",
        ),
        Rule(
            "self.exits.all(exit, !self.blocks.exists(block, block.name == exit.name))",
            "an exit needs a name of its own: it is one more block",
        ),
    ),
    Artifact: (
        Rule(
            "!self.uri.startsWith('oci://') || self.uri.endsWith('@' + self.digest)",
            "the uri of an oci artifact ends with @ and the artifact's digest (@sha256:...)",
        ),
    ),
    Span: (Rule("self.first <= self.last", "a span ends at or after the block where it starts"),),
    Placement: (
        Rule("self.spec == oldSelf.spec", "the spec of a placement never changes: a new plan is a new revision"),
    ),
}

KEYS: Final[dict[type[Schema], dict[str, str]]] = {
    DeviceProfileSpec: {"computeUnits": "name"},
    ComputeUnit: {"runtimes": "name"},
    DeviceSpec: {"declared": "name"},
    Inventory: {"accelerators": "name"},
    DeviceStatus: {"units": "name"},
    ModelSpec: {"variants": "name", "inputs": "name", "outputs": "name"},
    Variant: {"blocks": "name", "exits": "name"},
    Cut: {"codecs": "name"},
    PlacementSpec: {"partitions": "name"},
    PlacementStatus: {"slots": "unit"},
}
"""Lists whose items are told apart by a field: the API server refuses two with the same. Conditions have `type`."""
