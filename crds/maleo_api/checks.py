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
from maleo_api.rules import KEYS, RULES, states_its_size, tell_size
from maleo_api.spelling import suggest

_MOST_SHOWN: Final = 80
# Name and label formats of the API server (k8s.io/apimachinery, util/validation).
_DNS_LABEL: Final = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_SUBDOMAIN: Final = re.compile(rf"{_DNS_LABEL.pattern}(\.{_DNS_LABEL.pattern})*")
_LABEL: Final = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?")

Kind = TypeVar("Kind", bound=Resource)
Key = TypeVar("Key")
Ends = frozenset[tuple[str | None, str | None, str | None]]


def broken_rules(item: Schema, path: str = "") -> Iterator[str]:
    """Yield `field.path: value: what and remedy` for every rule violated by `item` or an object nested in it."""
    for rule in RULES.get(type(item), ()):
        if rule.holds is not None and not rule.holds(item):
            where = _join(path, rule.at)
            told = f"{rule.message} ({rule.detail(item)})" if rule.detail is not None else rule.message
            yield f"{where}: {told}" if rule.secret else _mistake(where, _value_at(item, rule.at), told)
    keys = KEYS.get(type(item), {})
    for alias, below in fields_of(type(item)).items():
        if alias not in keys and (below.model is None or not _has_rules(below.model)):
            continue
        value = getattr(item, below.name)
        if isinstance(value, list):
            yield from _repeated(value, keys.get(alias), _join(path, alias))
            for index, inner in enumerate(value):
                if isinstance(inner, Schema):
                    yield from broken_rules(inner, f"{_join(path, alias)}[{index}]")
        elif isinstance(value, Schema):
            yield from broken_rules(value, _join(path, alias))


@cache
def _has_rules(model: type[Schema]) -> bool:
    """Return True if a rule or a list key applies to this model or to a model nested in it."""
    return model in RULES or model in KEYS or any(f.model and _has_rules(f.model) for f in fields_of(model).values())


def unfit_metadata(metadata: Metadata) -> Iterator[str]:
    """Yield a mistake for every name, namespace and label that Kubernetes rejects for any kind."""
    if not _is_match(_SUBDOMAIN, metadata.name, 253):
        told = "invalid name: use lowercase letters, digits, - and ., starting and ending with a letter or digit"
        yield _mistake("metadata.name", metadata.name, f"{told}, at most 253 characters")
    if metadata.namespace and not _is_match(_DNS_LABEL, metadata.namespace, 63):
        told = "invalid namespace: use lowercase letters, digits and -, starting and ending with a letter or digit"
        yield _mistake("metadata.namespace", metadata.namespace, f"{told}, at most 63 characters")
    for key, value in metadata.labels.items():
        prefix, slash, name = key.rpartition("/")
        if not _is_match(_LABEL, name, 63) or (slash and not _is_match(_SUBDOMAIN, prefix, 253)):
            yield _mistake("metadata.labels", key, "invalid label key: use [domain/]name")
        if value and not _is_match(_LABEL, value, 63):
            told = "invalid label value: use letters, digits, -, _ and ., starting and ending with a letter or digit"
            yield _mistake(f"metadata.labels[{key}]", value, f"{told}, at most 63 characters")


def _is_match(pattern: re.Pattern[str], text: str, most: int) -> bool:
    return len(text) <= most and pattern.fullmatch(text) is not None


def _repeated(items: list[Any], key: str | None, path: str) -> Iterator[str]:
    seen = set[str]()
    for index, item in enumerate(items) if key is not None else ():
        name = str(getattr(item, str(key)))
        if name in seen:
            yield _mistake(f"{path}[{index}].{key}", name, "duplicate in this list: use a unique value")
        seen.add(name)


def dangling_names(
    resources: Mapping[str, Mapping[str, Resource]], nodes: Mapping[str, Resource]
) -> Iterator[tuple[Resource, str]]:
    """Yield (object, mistake) for dangling references, contradictions and duplicates.

    The model and input of a mission are not checked: the planner waits for them and reports that they are missing.
    """
    labels = {name: node.metadata.labels for name, node in nodes.items()}
    for _, node in sorted(nodes.items()):
        yield from ((node, mistake) for mistake in _node(node))
    models = _of(resources, Model)
    for model in models:
        for index, variant in enumerate(model.spec.variants):
            yield from ((model, mistake) for mistake in _variant(variant, f"spec.variants[{index}]"))
    devices = _of(resources, Device)
    describing = _first_of((device.spec.node_name, device) for device in devices)
    profiles = {profile.key: profile for profile in _of(resources, DeviceProfile)}
    for device in devices:
        yield from ((device, mistake) for mistake in _device(device, describing, profiles, labels))
    links = _of(resources, Link)
    joining = _first_of((_ends(link), link) for link in links)
    sites = {found[SITE] for found in labels.values() if SITE in found}
    for link in links:
        yield from ((link, mistake) for mistake in _link(link, joining, labels, sites))
    variants = {a.digest: v for model in models for v in model.spec.variants for a in v.artifacts}
    taken: dict[tuple[str, ...], str] = {}
    for measured in _of(resources, ModelProfile):
        yield from ((measured, mistake) for mistake in _model_profile(measured, variants, profiles))
        yield from ((measured, mistake) for mistake in _measured_twice(measured, taken))


def _of(resources: Mapping[str, Mapping[str, Resource]], kind: type[Kind]) -> list[Kind]:
    return [item for _, item in sorted(resources.get(kind.__name__, {}).items()) if isinstance(item, kind)]


def _first_of(items: Iterable[tuple[Key, Kind]]) -> dict[Key, Kind]:
    """Return the first item of each key, in input order."""
    found: dict[Key, Kind] = {}
    for key, item in items:
        found.setdefault(key, item)
    return found


def _node(node: Resource) -> Iterator[str]:
    tier = node.metadata.labels.get(TIER)
    if tier is not None and tier not in set(Tier):
        yield _mistake(f"metadata.labels[{TIER}]", tier, f"unknown tier{_nearest(tier, Tier)}")


def _variant(variant: Variant, path: str) -> Iterator[str]:
    wanted = variant.requires.version
    if wanted and not _is_satisfiable(wanted):
        told = "no version is in this range: the lower bound must be below the upper bound, such as >=1.17,<2"
        yield _mistake(f"{path}.requires.version", wanted, told)
    for index, block in enumerate(variant.blocks):
        for place, codec in enumerate(block.cut.codecs if block.cut is not None else ()):
            if not states_its_size(codec):  # not a CEL rule: for every codec it exceeds CEL's cost limit
                where = f"{path}.blocks[{index}].cut.codecs[{place}].size"
                told = f"does not match its tensors by shapes and datatypes ({tell_size(codec)})"
                yield _mistake(where, codec.size, f"{told}: correct the size or the tensors")


def _is_satisfiable(versions: str) -> bool:
    bounds = versions.split(",")
    least = max([_version(b.removeprefix(">=")) for b in bounds if b.startswith(">=")], default=[0])
    return all(least < _version(b.removeprefix("<")) for b in bounds if not b.startswith(">="))


def _version(text: str) -> list[int]:
    """Return the numeric parts of a version without trailing zeros: 2.0 equals 2."""
    parts = [int(part) for part in text.split(".")]
    while len(parts) > 1 and parts[-1] == 0:
        parts.pop()
    return parts


def _device(
    device: Device, describing: Mapping[str, Device], profiles: Mapping[str, DeviceProfile], nodes: Mapping[str, object]
) -> Iterator[str]:
    node = device.spec.node_name
    if node not in nodes:
        yield _mistake("spec.nodeName", node, f"Node not found{_nearest(node, nodes)}")
    first = describing[node]
    if first is not device:
        yield _mistake(
            "spec.nodeName", node, f"already described by Device/{first.key}: a Node must have only one Device"
        )
    for index, accelerator in enumerate(device.spec.declared):
        if accelerator.profile not in profiles:
            told = f"DeviceProfile not found{_nearest(accelerator.profile, profiles)}"
            yield _mistake(f"spec.declared[{index}].profile", accelerator.profile, told)


def _link(
    link: Link, joining: Mapping[Ends, Link], labels: Mapping[str, Mapping[str, str]], sites: Collection[str]
) -> Iterator[str]:
    for index, place in enumerate(link.spec.between):
        if place.node is not None and place.node not in labels:
            told = f"Node not found{_nearest(place.node, labels)}"
            yield _mistake(f"spec.between[{index}].node", place.node, told)
        if place.site is not None and place.site not in sites:
            told = f"no Node has this value of label {SITE}{_nearest(place.site, sites)}"
            yield _mistake(f"spec.between[{index}].site", place.site, told)
    first = joining[_ends(link)]
    if first is not link:
        told = f"ends already joined by Link/{first.key}: remove one of them"
        yield _mistake("spec.between", [end.to_api() for end in link.spec.between], told)


def _ends(link: Link) -> Ends:
    def name(end: Place) -> tuple[str | None, str | None, str | None]:
        return end.node, end.site, end.tier

    return frozenset(name(end) for end in link.spec.between)


def _model_profile(
    measured: ModelProfile, variants: Mapping[str, Variant], profiles: Mapping[str, DeviceProfile]
) -> Iterator[str]:
    spec = measured.spec
    profile = profiles.get(spec.profile)
    if profile is None:
        yield _mistake("spec.profile", spec.profile, f"DeviceProfile not found{_nearest(spec.profile, profiles)}")
    elif spec.unit not in (units := [unit.name for unit in profile.spec.compute_units]):
        yield _mistake(
            "spec.unit", spec.unit, f"DeviceProfile {spec.profile} has no such unit{_nearest(spec.unit, units)}"
        )
    variant = variants.get(spec.variant_digest)
    if variant is None:
        told = "no variant of a Model has an artifact with this digest: add the Model, or remove this ModelProfile"
        yield _mistake("spec.variantDigest", spec.variant_digest, told)
        return
    places = {block.name: place for place, block in enumerate(variant.blocks)}
    for index, span in enumerate(spec.spans):
        yield from _span(span, places, f"spec.spans[{index}].blocks")


def _measured_twice(measured: ModelProfile, taken: dict[tuple[str, ...], str]) -> Iterator[str]:
    """Yield a mistake for every span that another ModelProfile has measured; record the spans of this one in `taken`.

    taken: (variant digest, profile, unit, runtime, first block, last block) -> where it was first measured.
    """
    spec = measured.spec
    for index, span in enumerate(spec.spans):
        what = (spec.variant_digest, spec.profile, spec.unit, spec.runtime, *span.blocks)
        here = f"ModelProfile/{measured.key} spans[{index}]"
        if (first := taken.setdefault(what, here)) != here:
            yield _mistake(
                f"spec.spans[{index}].blocks", span.blocks, f"already measured in {first}: remove one of them"
            )


def _span(span: MeasuredSpan, places: Mapping[str, int], path: str) -> Iterator[str]:
    """Yield the mistakes in the block names of one span. places: block name -> index in the variant."""
    unknown = [name for name in span.blocks if name not in places]
    for name in unknown:
        yield _mistake(path, name, f"the variant has no such block{_nearest(name, places)}")
    if not unknown and places[span.blocks[0]] > places[span.blocks[1]]:
        yield _mistake(path, span.blocks, "ends before it starts: name the first block, then the last")


def _mistake(path: str, value: Any, told: str) -> str:
    return ": ".join(filter(None, (path, show_value(value), told)))


def show_value(value: Any) -> str:
    """Return the value as JSON of at most 80 characters, so that the message after it stays visible."""
    shown = json.dumps(value, default=str)
    return shown if len(shown) <= _MOST_SHOWN else f"{shown[: _MOST_SHOWN - 3]}..."


def _value_at(item: Schema, path: str) -> Any:
    value: Any = item.to_api()
    for part in path.split(".") if path else ():
        value = value.get(part)
    return value


def _join(path: str, name: str) -> str:
    return ".".join(filter(None, (path, name)))


def _nearest(name: str, known: Iterable[str]) -> str:
    meant = suggest(name, sorted(known))
    return f": {meant}" if meant else ""
