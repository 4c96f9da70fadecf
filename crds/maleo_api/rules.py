"""Validation rules that the types of the schema cannot express: constraints across fields, and keyed lists.

Each rule is written twice: in CEL, checked by the API server, and in Python, for manifests read without a cluster.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from maleo_api.device import (
    ComputeUnit,
    DeviceProfileSpec,
    DeviceSpec,
    DeviceStatus,
    Efficiency,
    Inventory,
    LinkSpec,
    Memory,
    Peak,
    Place,
    WeightWriting,
)
from maleo_api.meta import Schema
from maleo_api.mission import (
    MIN_TAIL_REQUESTS,
    AccuracyObjective,
    Demand,
    EnergyObjective,
    InputSource,
    LatencyObjective,
    Mission,
    MissionSpec,
    ModelReference,
    Objectives,
    Weights,
)
from maleo_api.model import (
    MAX_DIMENSIONS,
    AccuracyFigure,
    Artifact,
    Codec,
    Cut,
    Exit,
    MeasuredLatency,
    ModelSpec,
    Tensor,
    Variant,
    size_of,
)
from maleo_api.placement import Placement, PlacementSpec, PlacementStatus, Span
from maleo_api.quantities import BYTES, DURATION, RATIO, UnitOfMeasure, parse, show

_SIZE_TOLERANCE: Final = 0.05
"""Relative tolerance of a stated size, so that a size with two digits does not contradict its tensors."""
_MAX_CHOICES: Final = 8192
"""Maximum choices of a model. Planning one of this size among 16 different units takes less than half its budget."""


@dataclass(frozen=True, slots=True)
class Rule:
    """Rule on one object: `cel` must hold for it; `message` says what is wrong and what to write instead.

    holds: the same predicate on the parsed object; None for a rule on updates, which one manifest cannot violate.
    at: the field that the message is about; empty for the object itself. secret: messages do not repeat the value.
    detail: additional text computed from the parsed object.
    """

    cel: str
    message: str
    holds: Callable[[Any], bool] | None = None
    at: str = ""
    secret: bool = False
    detail: Callable[[Any], str] | None = None


def _if_well_formed(cel: str, unit: UnitOfMeasure, *fields: str) -> str:
    """Return the CEL rule restricted to fields that match the pattern of `unit`: the schema rejects the others."""
    pattern = unit.pattern.replace("\\", "\\\\")
    return " || ".join([*(f"!self.{field}.matches('{pattern}')" for field in fields), cel])


def _above_zero(field: str, name: str, message: str) -> Rule:
    """Return the rule that a quantity is above zero or absent. field: name in the API; name: in Python."""
    cel = f"!has(self.{field}) || self.{field}.matches('[1-9]')"
    return Rule(cel, message, lambda item: _is_above_zero(getattr(item, name)), field)


def _is_above_zero(text: str | None) -> bool:
    return text is None or any(digit in text for digit in "123456789")


def _at_most_one(field: str, name: str, message: str) -> Rule:
    # A pattern instead of double(), which fails before the pattern of the type can report and exceeds CEL's cost limit.
    cel = f"!has(self.{field}) || self.{field}.matches('^0*(..?[.%]|100([.]0+)?%)')"
    return Rule(cel, message, lambda item: (text := getattr(item, name)) is None or parse(RATIO, text) <= 1, field)


def _has_usable_mode(spec: MissionSpec) -> bool:
    egress, modes = spec.egress, spec.modes
    remote, split = egress.input != "Device", egress.features != "Device"
    return "Local" in modes or ("Remote" in modes and remote) or ("Split" in modes and split)


def _size_rule() -> Rule:
    """Return the rule that the size of a cut equals the size of its tensors; free dimensions count one.

    If a dimension other than the first, the batch, is free, the size may be larger. CEL has no product of a list, and
    its cost estimate of list construction is high: lengths are multiplied one by one, -1 by its absolute value.
    """
    item = "1.0"
    for suffix, size in (("16", 2), ("32", 4), ("64", 8)):
        item = f"tensor.datatype.endsWith('{suffix}') ? {size}.0 : ({item})"
    shape = "tensor.shape"
    lengths = [f"({shape}.size() > {i} ? double({shape}[{i}]) : 1.0)" for i in range(MAX_DIMENSIONS)]
    tensor_bytes = f"self.tensors.map(tensor, [{' * '.join(lengths)}].map(n, (n < 0.0 ? -n : n) * ({item}))[0]).sum()"
    batch = f"{shape}[0] < 0 && {shape}.exists_one(length, length < 0)"
    is_open = f"self.tensors.exists(tensor, {shape}.exists(length, length < 0) && !({batch}))"
    stated = "quantity(self.size).asApproximateFloat()"
    lower, upper = f"{stated} >= known * {1 - _SIZE_TOLERANCE}", f"{stated} <= known * {1 + _SIZE_TOLERANCE}"
    return Rule(
        f"!isQuantity(self.size) || [{tensor_bytes}].all(known, {lower} && ({upper} || {is_open}))",
        f"the size of a cut must match its tensors by shapes and datatypes, within {_SIZE_TOLERANCE:.0%}: "
        "correct the size or the tensors",
        is_size_consistent,
        "size",
        detail=format_size,
    )


def is_size_consistent(form: Cut | Codec) -> bool:
    """Return True if the stated size is that of the tensors, or larger if an inner dimension is free."""
    stated, tensor_bytes = parse(BYTES, form.size), size_of(form.tensors)
    return stated >= tensor_bytes * (1 - _SIZE_TOLERANCE) and (
        _has_free_dimension(form) or stated <= tensor_bytes * (1 + _SIZE_TOLERANCE)
    )


def _has_free_dimension(form: Cut | Codec) -> bool:
    return any(-1 in tensor.shape[1:] for tensor in form.tensors)


def format_size(form: Cut | Codec) -> str:
    """Return `the tensors have 1.95Ki`, with `at least` if an inner dimension is free."""
    return f"the tensors have {'at least ' if _has_free_dimension(form) else ''}{show(BYTES, size_of(form.tensors))}"


def _count_choices(model: ModelSpec) -> int:
    """Return the size of the planning problem: blocks x (1 + exits) x (1 + most codecs of a cut), over all variants."""
    return sum(
        len(variant.blocks)
        * (1 + len(variant.exits))
        * (1 + max(len(block.cut.codecs) if block.cut is not None else 0 for block in variant.blocks))
        for variant in model.variants
    )


RULES: Final[dict[type[Schema], tuple[Rule, ...]]] = {
    Mission: (
        Rule(
            "self.metadata.name.size() <= 40",
            "a Mission name must have at most 40 characters: names of the Pods and the Service are derived from it",
            lambda mission: len(mission.metadata.name) <= 40,  # noqa: PLR2004 - as in CEL
            "metadata.name",
        ),
        Rule(
            "self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')",
            "a Mission name must start with a letter and contain only a-z, 0-9 and -: the Service has the same name",
            lambda mission: re.fullmatch("[a-z]([-a-z0-9]*[a-z0-9])?", mission.metadata.name) is not None,
            "metadata.name",
        ),
    ),
    Objectives: (
        Rule(
            "has(self.accuracy) || has(self.latency) || has(self.energy)",
            "at least one objective is required: accuracy, latency or energy",
            lambda objectives: bool(objectives.accuracy or objectives.latency or objectives.energy),
        ),
    ),
    LatencyObjective: (
        Rule(
            _if_well_formed("duration(self.atMost) < duration(self.window)", DURATION, "atMost", "window"),
            "latency.atMost must be less than latency.window: increase the window",
            lambda latency: parse(DURATION, latency.at_most) < parse(DURATION, latency.window),
            "atMost",
        ),
        Rule(
            f"!has(self.minSamples) || self.minSamples * (100 - self.percentile) >= {MIN_TAIL_REQUESTS}",
            "too few samples for this percentile: omit minSamples, or increase it until "
            f"minSamples x (100 - percentile) is at least {MIN_TAIL_REQUESTS}",
            lambda latency: latency.required_samples * (100 - latency.percentile) >= MIN_TAIL_REQUESTS,
            "minSamples",
        ),
        _above_zero("atMost", "at_most", "latency.atMost must be greater than zero"),
    ),
    EnergyObjective: (
        Rule(
            "has(self.perInference) || has(self.power)",
            "an energy objective requires perInference (such as 350mJ) or power (such as 10W)",
            lambda energy: bool(energy.per_inference or energy.power),
        ),
        _above_zero("perInference", "per_inference", "energy.perInference must be greater than zero"),
        _above_zero("power", "power", "energy.power must be greater than zero"),
    ),
    AccuracyObjective: (_at_most_one("atLeast", "at_least", "accuracy.atLeast must be at most 100%"),),
    MissionSpec: (
        Rule(
            "'Local' in self.modes || ('Remote' in self.modes && self.egress.input != 'Device') ||"
            " ('Split' in self.modes && self.egress.features != 'Device')",
            "no usable mode: Remote sends the input and Split the features, but egress keeps them on the Device: "
            "add mode Local, or relax egress",
            _has_usable_mode,
            "modes",
        ),
    ),
    ModelReference: (
        _above_zero(
            "updatedEvery",
            "updated_every",
            "model.updatedEvery must be greater than zero: omit it if the model is never updated",
        ),
    ),
    Demand: (
        _above_zero(
            "rate", "rate", "demand.rate must be greater than zero: for rare requests use a low rate such as 1/h"
        ),
    ),
    InputSource: (
        Rule(
            "has(self.node) != has(self.selector)",
            "input requires exactly one of node and selector",
            lambda source: (source.node is None) != (source.selector is None),
        ),
    ),
    Weights: (
        Rule(
            "self.accuracy + self.latency + self.energy > 0",
            "at least one weight must be greater than zero",
            lambda weights: weights.accuracy + weights.latency + weights.energy > 0,
        ),
    ),
    LinkSpec: (
        Rule(
            "!has(self.between[0].node) || self.between[0] != self.between[1]",
            "a link must not join a node to itself: name another node, or one site twice for the network inside it",
            lambda link: link.between[0].node is None or link.between[0] != link.between[1],
            "between",
        ),
        Rule(
            "has(self.bandwidth) ? !has(self.up) && !has(self.down) : has(self.up) && has(self.down)",
            "a link requires either bandwidth, for both directions, or both up and down",
            lambda link: [link.up is None, link.down is None] == [link.bandwidth is not None] * 2,
        ),
        Rule(
            "!has(self.up) || self.between[0] != self.between[1]",
            "up and down require two different ends: use bandwidth for the network inside a site",
            lambda link: link.up is None or link.between[0] != link.between[1],
            "between",
        ),
        *(
            _above_zero(field, field, f"{field} must be greater than zero: delete the Link if there is no connection")
            for field in ("bandwidth", "up", "down")
        ),
    ),
    Place: (
        Rule(
            "[has(self.node), has(self.site), has(self.tier)].filter(given, given).size() == 1",
            "an end of a link requires exactly one of node, site and tier",
            lambda place: [place.node, place.site, place.tier].count(None) == 2,  # noqa: PLR2004 - of three
        ),
    ),
    Artifact: (
        Rule(
            "!self.uri.matches('//[^/]*@')",
            "uri must not contain credentials (user:password@): everyone who can read the Model would see them",
            lambda artifact: re.search("//[^/]*@", artifact.uri) is None,
            "uri",
            secret=True,
        ),
        Rule(
            "!self.uri.contains('?') && !self.uri.contains('#')",
            "uri must not have a query or a fragment, which may contain a token: the digest identifies the artifact",
            lambda artifact: "?" not in artifact.uri and "#" not in artifact.uri,
            "uri",
            secret=True,
        ),
        Rule(
            "!self.uri.startsWith('oci://') || self.uri.endsWith('@' + self.digest)",
            "the uri of an OCI artifact must end with @ and the artifact's digest (@sha256:...)",
            lambda artifact: not artifact.uri.startswith("oci://") or artifact.uri.endswith(f"@{artifact.digest}"),
            "uri",
        ),
    ),
    WeightWriting: (
        Rule(
            "has(self.throughput) || has(self.energyPerByte)",
            "an entry of weightWriting requires throughput (such as 2MB/s) or energyPerByte (such as 3uJ)",
            lambda row: bool(row.throughput or row.energy_per_byte),
        ),
        _above_zero("throughput", "throughput", "throughput must be greater than zero: omit it if it is unknown"),
    ),
    Peak: (
        _above_zero("rate", "rate", "a peak rate must be greater than zero: omit peaks that the unit does not support"),
    ),
    Efficiency: (
        _above_zero("value", "value", "an efficiency must be greater than zero: omit it if it is unknown"),
        _at_most_one("value", "value", "an efficiency must be at most 100% of the peak"),
    ),
    Memory: (
        _above_zero("size", "size", "a memory size must be greater than zero: omit it if it is unknown"),
        _above_zero("bandwidth", "bandwidth", "a memory bandwidth must be greater than zero: omit it if it is unknown"),
    ),
    AccuracyFigure: (_at_most_one("value", "value", "an accuracy must be at most 100%"),),
    Tensor: (
        Rule(
            "self.shape.all(size, size == -1 || size > 0)",
            "a dimension must be greater than zero, or -1 if it is dynamic",
            lambda tensor: all(size == -1 or size > 0 for size in tensor.shape),
            "shape",
        ),
    ),
    Variant: (
        Rule(
            "self.exits.all(exit, self.blocks.exists(block, block.name == exit.after))",
            "exits.after must be the name of a block of the variant",
            lambda variant: {end.after for end in variant.exits} <= {block.name for block in variant.blocks},
            "exits",
        ),
        Rule(
            "self.exits.all(exit, !self.blocks.exists(block, block.name == exit.name))",
            "an exit must not have the name of a block: its head is an additional block",
            lambda variant: not {end.name for end in variant.exits} & {block.name for block in variant.blocks},
            "exits",
        ),
        Rule(
            "self.blocks.exists(block, block.work.matches('[1-9]'))",
            "at least one block must have work greater than zero",
            lambda variant: any(_is_above_zero(block.work) for block in variant.blocks),
            "blocks",
        ),
        Rule(
            "!has(self.blocks[size(self.blocks) - 1].cut)",
            "the last block must not have a cut: no block follows it",
            lambda variant: variant.blocks[-1].cut is None,
            "blocks",
        ),
    ),
    ModelSpec: (
        Rule(
            "self.variants.map(v, v.blocks.size() * (1 + (has(v.exits) ? v.exits.size() : 0)) * (1 + v.blocks.map(b, "
            f"has(b.cut) && has(b.cut.codecs) ? b.cut.codecs.size() : 0).max())).sum() <= {_MAX_CHOICES}",
            "the model is too large to plan: blocks x (1 + exits) x (1 + codecs of a cut) must be at most "
            f"{_MAX_CHOICES} over all variants: remove variants, exits or codecs, or merge blocks",
            lambda model: _count_choices(model) <= _MAX_CHOICES,
            "variants",
            detail=lambda model: f"it is {_count_choices(model)}",
        ),
    ),
    Cut: (_size_rule(), _at_most_one("deviation", "deviation", "a deviation must be at most 100%")),
    Exit: (_above_zero("work", "work", "the head of an exit must have work greater than zero"),),
    MeasuredLatency: (
        _above_zero("p50", "p50", "a measured latency must be greater than zero"),
        Rule(
            _if_well_formed("duration(self.p50) <= duration(self.p95)", DURATION, "p50", "p95"),
            "p95 must not be less than p50: the values may be swapped",
            lambda latency: parse(DURATION, latency.p50) <= parse(DURATION, latency.p95),
            "p95",
        ),
    ),
    Span: (
        Rule(
            "self.first <= self.last",
            "a span must not end before the block where it starts",
            lambda span: span.first <= span.last,
            "last",
        ),
    ),
    Placement: (
        Rule("self.spec == oldSelf.spec", "the spec of a Placement is immutable: a new plan requires a new Placement"),
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
"""Keyed lists: model -> field -> key. The API server rejects duplicate keys. Conditions are keyed by `type`."""
