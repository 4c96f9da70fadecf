"""Semantic validation of manifests: rules of one object, and references between objects.

The planner silently ignores most of these mistakes: it drops a Device with an unknown profile and a Link with an
unknown end. They are therefore reported here.
"""

import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from functools import cache
from typing import Any, Final, TypeVar

from maleo_api.device import Device, DeviceProfile, Link, Place
from maleo_api.fields import fields_of
from maleo_api.labels import SITE, TIER
from maleo_api.meta import Metadata, Resource, Schema, Tier
from maleo_api.model import MeasuredSpan, Model, ModelProfile, Variant
from maleo_api.rules import KEYS, RULES, format_size, is_size_consistent
from maleo_api.spelling import suggest

_MAX_SHOWN: Final = 80
# Name and label formats of the API server (k8s.io/apimachinery, util/validation).
_DNS_LABEL: Final = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_SUBDOMAIN: Final = re.compile(rf"{_DNS_LABEL.pattern}(\.{_DNS_LABEL.pattern})*")
_LABEL: Final = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?")

Kind = TypeVar("Kind", bound=Resource)
Key = TypeVar("Key")
Ends = frozenset[tuple[str | None, str | None, str | None]]


def find_rule_violations(item: Schema, path: str = "") -> Iterator[str]:
    """Yield `field.path: value: what and remedy` for every rule violated by `item` or an object nested in it."""
    for rule in RULES.get(type(item), ()):
        if rule.holds is not None and not rule.holds(item):
            location = _join(path, rule.at)
            message = f"{rule.message} ({rule.detail(item)})" if rule.detail is not None else rule.message
            yield (
                f"{location}: {message}"
                if rule.secret
                else _format_mistake(location, _value_at(item, rule.at), message)
            )
    keys = KEYS.get(type(item), {})
    for alias, below in fields_of(type(item)).items():
        if alias not in keys and (below.model is None or not _has_rules(below.model)):
            continue
        value = getattr(item, below.name)
        if isinstance(value, list):
            yield from _find_duplicates(value, keys.get(alias), _join(path, alias))
            for index, inner in enumerate(value):
                if isinstance(inner, Schema):
                    yield from find_rule_violations(inner, f"{_join(path, alias)}[{index}]")
        elif isinstance(value, Schema):
            yield from find_rule_violations(value, _join(path, alias))


@cache
def _has_rules(model: type[Schema]) -> bool:
    """Return True if a rule or a list key applies to this model or to a model nested in it."""
    return model in RULES or model in KEYS or any(f.model and _has_rules(f.model) for f in fields_of(model).values())


def check_metadata(metadata: Metadata) -> Iterator[str]:
    """Yield a mistake for every name, namespace and label that Kubernetes rejects for any kind."""
    if not _is_match(_SUBDOMAIN, metadata.name, 253):
        message = "invalid name: use lowercase letters, digits, - and ., starting and ending with a letter or digit"
        yield _format_mistake("metadata.name", metadata.name, f"{message}, at most 253 characters")
    if metadata.namespace and not _is_match(_DNS_LABEL, metadata.namespace, 63):
        message = "invalid namespace: use lowercase letters, digits and -, starting and ending with a letter or digit"
        yield _format_mistake("metadata.namespace", metadata.namespace, f"{message}, at most 63 characters")
    for key, value in metadata.labels.items():
        prefix, slash, name = key.rpartition("/")
        if not _is_match(_LABEL, name, 63) or (slash and not _is_match(_SUBDOMAIN, prefix, 253)):
            yield _format_mistake("metadata.labels", key, "invalid label key: use [domain/]name")
        if value and not _is_match(_LABEL, value, 63):
            message = "invalid label value: use letters, digits, -, _ and ., starting and ending with a letter or digit"
            yield _format_mistake(f"metadata.labels[{key}]", value, f"{message}, at most 63 characters")


def _is_match(pattern: re.Pattern[str], text: str, max_length: int) -> bool:
    return len(text) <= max_length and pattern.fullmatch(text) is not None


def _find_duplicates(items: list[Any], key: str | None, path: str) -> Iterator[str]:
    seen = set[str]()
    for index, item in enumerate(items) if key is not None else ():
        name = str(getattr(item, str(key)))
        if name in seen:
            yield _format_mistake(f"{path}[{index}].{key}", name, "duplicate in this list: use a unique value")
        seen.add(name)


def check_references(
    resources: Mapping[str, Mapping[str, Resource]], nodes: Mapping[str, Resource]
) -> Iterator[tuple[Resource, str]]:
    """Yield (object, mistake) for dangling references, contradictions and duplicates.

    The model and input of a mission are not checked: the planner waits for them and reports that they are missing.
    """
    labels = {name: node.metadata.labels for name, node in nodes.items()}
    for _, node in sorted(nodes.items()):
        yield from ((node, mistake) for mistake in _check_node(node))
    models = _resources_of(resources, Model)
    for model in models:
        for index, variant in enumerate(model.spec.variants):
            yield from ((model, mistake) for mistake in _check_variant(variant, f"spec.variants[{index}]"))
    devices = _resources_of(resources, Device)
    device_by_node = _first_of((device.spec.node_name, device) for device in devices)
    profiles = {profile.key: profile for profile in _resources_of(resources, DeviceProfile)}
    for device in devices:
        yield from ((device, mistake) for mistake in _check_device(device, device_by_node, profiles, labels))
    links = _resources_of(resources, Link)
    link_by_ends = _first_of((_ends(link), link) for link in links)
    sites = {found[SITE] for found in labels.values() if SITE in found}
    for link in links:
        yield from ((link, mistake) for mistake in _check_link(link, link_by_ends, labels, sites))
    variants = {a.digest: v for model in models for v in model.spec.variants for a in v.artifacts}
    measured_at: dict[tuple[str, ...], str] = {}
    for measured in _resources_of(resources, ModelProfile):
        yield from ((measured, mistake) for mistake in _check_model_profile(measured, variants, profiles))
        yield from ((measured, mistake) for mistake in _find_duplicate_measurements(measured, measured_at))


def _resources_of(resources: Mapping[str, Mapping[str, Resource]], kind: type[Kind]) -> list[Kind]:
    return [item for _, item in sorted(resources.get(kind.__name__, {}).items()) if isinstance(item, kind)]


def _first_of(items: Iterable[tuple[Key, Kind]]) -> dict[Key, Kind]:
    """Return the first item of each key, in input order."""
    found: dict[Key, Kind] = {}
    for key, item in items:
        found.setdefault(key, item)
    return found


def _check_node(node: Resource) -> Iterator[str]:
    tier = node.metadata.labels.get(TIER)
    if tier is not None and tier not in set(Tier):
        yield _format_mistake(f"metadata.labels[{TIER}]", tier, f"unknown tier{_suggestion(tier, Tier)}")


def _check_variant(variant: Variant, path: str) -> Iterator[str]:
    versions = variant.requires.version
    if versions and not _is_satisfiable(versions):
        message = "no version is in this range: the lower bound must be below the upper bound, such as >=1.17,<2"
        yield _format_mistake(f"{path}.requires.version", versions, message)
    for index, block in enumerate(variant.blocks):
        for number, codec in enumerate(block.cut.codecs if block.cut is not None else ()):
            if not is_size_consistent(codec):  # not a CEL rule: for every codec it exceeds CEL's cost limit
                location = f"{path}.blocks[{index}].cut.codecs[{number}].size"
                message = f"does not match its tensors by shapes and datatypes ({format_size(codec)})"
                yield _format_mistake(location, codec.size, f"{message}: correct the size or the tensors")


def _is_satisfiable(versions: str) -> bool:
    bounds = versions.split(",")
    minimum = max([_version(b.removeprefix(">=")) for b in bounds if b.startswith(">=")], default=[0])
    return all(minimum < _version(b.removeprefix("<")) for b in bounds if not b.startswith(">="))


def _version(text: str) -> list[int]:
    """Return the numeric parts of a version without trailing zeros: 2.0 equals 2."""
    parts = [int(part) for part in text.split(".")]
    while len(parts) > 1 and parts[-1] == 0:
        parts.pop()
    return parts


def _check_device(
    device: Device,
    device_by_node: Mapping[str, Device],
    profiles: Mapping[str, DeviceProfile],
    nodes: Mapping[str, object],
) -> Iterator[str]:
    node = device.spec.node_name
    if node not in nodes:
        yield _format_mistake("spec.nodeName", node, f"Node not found{_suggestion(node, nodes)}")
    first = device_by_node[node]
    if first is not device:
        yield _format_mistake(
            "spec.nodeName", node, f"already described by Device/{first.key}: a Node must have only one Device"
        )
    for index, accelerator in enumerate(device.spec.declared):
        if accelerator.profile not in profiles:
            message = f"DeviceProfile not found{_suggestion(accelerator.profile, profiles)}"
            yield _format_mistake(f"spec.declared[{index}].profile", accelerator.profile, message)


def _check_link(
    link: Link, link_by_ends: Mapping[Ends, Link], labels: Mapping[str, Mapping[str, str]], sites: Collection[str]
) -> Iterator[str]:
    for index, end in enumerate(link.spec.between):
        if end.node is not None and end.node not in labels:
            message = f"Node not found{_suggestion(end.node, labels)}"
            yield _format_mistake(f"spec.between[{index}].node", end.node, message)
        if end.site is not None and end.site not in sites:
            message = f"no Node has this value of label {SITE}{_suggestion(end.site, sites)}"
            yield _format_mistake(f"spec.between[{index}].site", end.site, message)
    first = link_by_ends[_ends(link)]
    if first is not link:
        message = f"ends already joined by Link/{first.key}: remove one of them"
        yield _format_mistake("spec.between", [link_end.to_api() for link_end in link.spec.between], message)


def _ends(link: Link) -> Ends:
    def name(end: Place) -> tuple[str | None, str | None, str | None]:
        return end.node, end.site, end.tier

    return frozenset(name(end) for end in link.spec.between)


def _check_model_profile(
    measured: ModelProfile, variants: Mapping[str, Variant], profiles: Mapping[str, DeviceProfile]
) -> Iterator[str]:
    spec = measured.spec
    profile = profiles.get(spec.profile)
    if profile is None:
        yield _format_mistake(
            "spec.profile", spec.profile, f"DeviceProfile not found{_suggestion(spec.profile, profiles)}"
        )
    elif spec.unit not in (units := [unit.name for unit in profile.spec.compute_units]):
        yield _format_mistake(
            "spec.unit", spec.unit, f"DeviceProfile {spec.profile} has no such unit{_suggestion(spec.unit, units)}"
        )
    variant = variants.get(spec.variant_digest)
    if variant is None:
        message = "no variant of a Model has an artifact with this digest: add the Model, or remove this ModelProfile"
        yield _format_mistake("spec.variantDigest", spec.variant_digest, message)
        return
    indices = {block.name: number for number, block in enumerate(variant.blocks)}
    for index, span in enumerate(spec.spans):
        yield from _check_span(span, indices, f"spec.spans[{index}].blocks")


def _find_duplicate_measurements(measured: ModelProfile, measured_at: dict[tuple[str, ...], str]) -> Iterator[str]:
    """Yield a mistake for every span that another ModelProfile has measured; record its own in `measured_at`.

    measured_at: (variant digest, profile, unit, runtime, first block, last block) -> where it was first measured.
    """
    spec = measured.spec
    for index, span in enumerate(spec.spans):
        key = (spec.variant_digest, spec.profile, spec.unit, spec.runtime, *span.blocks)
        location = f"ModelProfile/{measured.key} spans[{index}]"
        if (first := measured_at.setdefault(key, location)) != location:
            yield _format_mistake(
                f"spec.spans[{index}].blocks", span.blocks, f"already measured in {first}: remove one of them"
            )


def _check_span(span: MeasuredSpan, indices: Mapping[str, int], path: str) -> Iterator[str]:
    """Yield the mistakes in the block names of one span. indices: block name -> index in the variant."""
    unknown = [name for name in span.blocks if name not in indices]
    for name in unknown:
        yield _format_mistake(path, name, f"the variant has no such block{_suggestion(name, indices)}")
    if not unknown and indices[span.blocks[0]] > indices[span.blocks[1]]:
        yield _format_mistake(path, span.blocks, "ends before it starts: name the first block, then the last")


def _format_mistake(path: str, value: Any, message: str) -> str:
    return ": ".join(filter(None, (path, show_value(value), message)))


def show_value(value: Any) -> str:
    """Return the value as JSON of at most 80 characters, so that the message after it stays visible."""
    shown = json.dumps(value, default=str)
    return shown if len(shown) <= _MAX_SHOWN else f"{shown[: _MAX_SHOWN - 3]}..."


def _value_at(item: Schema, path: str) -> Any:
    value: Any = item.to_api()
    for part in path.split(".") if path else ():
        value = value.get(part)
    return value


def _join(path: str, name: str) -> str:
    return ".".join(filter(None, (path, name)))


def _suggestion(name: str, candidates: Iterable[str]) -> str:
    suggestion = suggest(name, sorted(candidates))
    return f": {suggestion}" if suggestion else ""
