"""Loader of manifests: reads YAML files and folders into the API models without a cluster.

Clients of the API ignore unknown fields; in a file written by a user an unknown field is an error.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar

import yaml
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from maleo_api.checks import check_metadata, check_references, find_rule_violations, show_value
from maleo_api.documents import DocumentError, parse_documents
from maleo_api.fields import annotation_at, fields_of
from maleo_api.kinds import KINDS, KindInfo
from maleo_api.meta import API_VERSION, GROUP, Resource, Schema, TextFormat
from maleo_api.quantities import UnitOfMeasure
from maleo_api.spelling import suggest

_SUFFIXES: Final = (".yaml", ".yml", ".json")
STANDARD_INPUT: Final = "-"
_FREE_FORM: Final = "metadata"  # defined by Kubernetes; only a part of it is modelled here

AnyResource = TypeVar("AnyResource", bound=Resource)


class Taint(Schema):
    """Taint of a Node."""

    key: str
    value: str = ""
    effect: str


class NodeSpec(Schema):
    """Fields of a Node's spec that decide whether it is schedulable."""

    unschedulable: bool = False
    taints: list[Taint] = []


class NodeCondition(Schema):
    """Type and status of a condition of a Node."""

    type: str
    status: str


class NodeStatus(Schema):
    """Conditions of a Node."""

    conditions: list[NodeCondition] = []


class Node(Resource):
    """The fields of a Kubernetes Node that planning without a cluster needs; labels give tier and site."""

    spec: NodeSpec = NodeSpec()
    status: NodeStatus = NodeStatus()

    @property
    def is_ready(self) -> bool:
        """True if condition Ready is True, or absent, as in a hand-written Node."""
        return all(condition.status == "True" for condition in self.status.conditions if condition.type == "Ready")


class PriorityClass(Resource):
    """The fields of a Kubernetes PriorityClass; its value ranks missions of the same criticality."""

    value: int
    global_default: bool = False


@dataclass(frozen=True, slots=True, repr=False)  # asyncio.run formats its result: 0.2 s for the manifests of a cluster
class Manifests:
    """All loaded objects by kind and key (`namespace/name`, or `name` for cluster-scoped kinds)."""

    resources: Mapping[str, dict[str, Resource]] = field(default_factory=dict)
    nodes: Mapping[str, Node] = field(default_factory=dict)
    positions: Mapping[tuple[str, str], str] = field(default_factory=dict)
    """(kind, key) -> source position `file: doc N Kind/name`; empty for objects of a cluster."""
    priority_classes: Mapping[str, PriorityClass] = field(default_factory=dict)
    tolerations: tuple[Mapping[str, Any], ...] = ()
    """Tolerations of all slots, from the chart value `slots.tolerations`: no manifest contains them."""

    def of(self, kind: type[AnyResource]) -> dict[str, AnyResource]:
        """Return the resources of one kind: `manifests.of(Mission)["default/cctv"]`."""
        found = self.resources.get(kind.__name__, {})
        return {key: resource for key, resource in found.items() if isinstance(resource, kind)}

    def check(self, cluster: "Manifests | None" = None) -> None:
        """Raise ManifestError for dangling references, contradictions and duplicates.

        cluster: objects of a cluster, which may be referred to but are not themselves reported.
        """
        others = cluster or Manifests()
        kinds = {*self.resources, *others.resources}
        resources = {kind: others.resources.get(kind, {}) | self.resources.get(kind, {}) for kind in kinds}
        nodes = {**others.nodes, **self.nodes}
        found = [
            (self.positions.get((item.kind, item.key)), message) for item, message in check_references(resources, nodes)
        ]
        mistakes = [f"{position}: {message}" for position, message in found if position is not None]
        if mistakes:
            raise ManifestError(mistakes)


class ManifestError(Exception):
    """All mistakes found, one line each: `file: doc N kind/name: field.path: value: what and remedy`."""

    def __init__(self, mistakes: list[str]) -> None:
        super().__init__("\n".join(mistakes))
        self.mistakes = mistakes


class Dumper(yaml.SafeDumper):
    """YAML dumper that quotes `y` and `n`, for example as tensor names: by YAML 1.1 kubectl reads them as booleans."""


Dumper.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"^[yYnN]$"), list("yYnN"))


def dump(documents: Iterable[Mapping[str, Any]]) -> str:
    """Return the documents as YAML that PyYAML and kubectl read identically."""
    return yaml.dump_all(documents, Dumper=Dumper, sort_keys=False)


def load(
    paths: Iterable[Path], *, standard_input: Callable[[], str] | None = None, namespace: str = "default"
) -> Manifests:
    """Read files and, recursively, folders; objects of other API groups are skipped.

    standard_input: its result is read for the path `-`. namespace: of objects that name none. Raise ManifestError with
    all mistakes of all files: there is no partial result.
    """
    collector = _Collector(namespace)
    for file in _files(paths, collector):
        if standard_input is not None and str(file) == STANDARD_INPUT:
            collector.read("standard input", standard_input)
        else:
            collector.read(str(file), lambda file=file: file.read_text(encoding="utf-8"))  # type: ignore[misc]
    if collector.mistakes:
        raise ManifestError(collector.mistakes)
    return Manifests(collector.resources, collector.nodes, collector.positions, collector.priority_classes)


def revise(resource: AnyResource, changes: Mapping[str, Any]) -> AnyResource:
    """Return a validated copy of the resource with changed values. Raise ManifestError if the copy is invalid.

    changes: dotted path below `spec` -> new value.
    """
    document = resource.to_api()
    for path, value in changes.items():
        *parents, last = path.split(".")
        target = document["spec"]
        for parent in parents:
            target = target.setdefault(parent, {})
            if not isinstance(target, dict):
                raise ManifestError([f"spec.{path}: {parent} has no fields"])
        target[last] = value
    found, mistakes = _parse(document, type(resource))
    if found is None or mistakes:
        raise ManifestError(mistakes)
    return found


def check(document: dict[str, Any], model: type[AnyResource]) -> list[str]:
    """Return the mistakes of one object, as for one read from a file: `field.path: value: what and remedy`."""
    return _parse(document, model)[1]


def _parse(document: dict[str, Any], model: type[AnyResource]) -> tuple[AnyResource | None, list[str]]:
    """Return the resource, None if it cannot be parsed, and its mistakes: `field.path: value: what and remedy`."""
    mistakes = [] if model in {Node, PriorityClass} else list(_unknown_fields(document, model))
    try:
        # Strict JSON validation rejects what the API server rejects, such as a number for a string.
        resource = model.model_validate_json(json.dumps(document, default=str), strict=True)
    except ValidationError as error:
        return None, [*mistakes, *(_describe(detail, model) for detail in error.errors())]
    return resource, mistakes or [*check_metadata(resource.metadata), *find_rule_violations(resource)]


def _files(paths: Iterable[Path], collector: "_Collector") -> Iterator[Path]:
    for path in paths:
        if path.is_dir():
            found = sorted(file for file in path.rglob("*") if file.suffix in _SUFFIXES and file.is_file())
            if not found:
                collector.mistakes.append(f"{path}: no {', '.join(_SUFFIXES)} file in this directory")
            yield from found
        elif path.is_file() or str(path) == STANDARD_INPUT:
            yield path
        else:
            collector.mistakes.append(f"{path}: no such file or directory")


class _Collector:
    def __init__(self, namespace: str) -> None:
        self._namespace = namespace
        self.mistakes: list[str] = []
        self.resources: dict[str, dict[str, Resource]] = {}
        self.nodes: dict[str, Node] = {}
        self.positions: dict[tuple[str, str], str] = {}
        self.priority_classes: dict[str, PriorityClass] = {}

    def read(self, name: str, text: Callable[[], str]) -> None:
        """Read all documents of a file. Document numbers skip empty documents, as in kubectl."""
        try:
            documents = [document for document in parse_documents(text()) if document is not None]
        except (DocumentError, UnicodeDecodeError, OSError) as error:
            self.mistakes.append(f"{name}: invalid YAML: {' '.join(str(error).split())}")
            return
        for number, document in enumerate(documents, start=1):
            self._add(f"{name}: doc {number}", document)

    def _add(self, position: str, document: object) -> None:
        if not isinstance(document, dict) or not isinstance(document.get("kind"), str):
            self.mistakes.append(
                f"{position}: not a Kubernetes object: apiVersion, kind and metadata.name are required"
            )
        elif document["kind"].endswith("List") and ("items" in document or document["kind"] == "List"):
            self._add_list(f"{position} {document['kind']}", document.get("items") or [])
        elif document["kind"] == "Node" and document.get("apiVersion") == "v1":
            self._parse_object(f"{position} Node", document, Node, namespaced=False)
        elif document["kind"] == "PriorityClass" and document.get("apiVersion") == "scheduling.k8s.io/v1":
            self._parse_object(f"{position} PriorityClass", document, PriorityClass, namespaced=False)
        elif str(document.get("apiVersion", "")).partition("/")[0] == GROUP:
            self._add_maleo_object(position, document)
        elif document["kind"] in KINDS:
            self.mistakes.append(
                f"{position} {document['kind']}: apiVersion: {document.get('apiVersion')}: use {API_VERSION}"
            )

    def _add_list(self, position: str, items: object) -> None:
        if not isinstance(items, list):
            message = "not a list: put the objects of the list under items"
            self.mistakes.append(f"{position}: items: {show_value(items)}: {message}")
            return
        for index, item in enumerate(items):
            self._add(f"{position}: items[{index}]", item)

    def _add_maleo_object(self, position: str, document: dict[str, Any]) -> None:
        kind = document["kind"]
        info: KindInfo | None = KINDS.get(kind)
        if info is None:
            self.mistakes.append(f"{position}: kind: {kind}: unknown kind of {GROUP}: {suggest(kind, KINDS)}")
        elif document["apiVersion"] != API_VERSION:
            self.mistakes.append(f"{position} {kind}: apiVersion: {document['apiVersion']}: use {API_VERSION}")
        else:
            self._parse_object(f"{position} {kind}", document, info.model, namespaced=info.namespaced)

    def _parse_object(
        self, position: str, document: dict[str, Any], model: type[Resource], *, namespaced: bool
    ) -> None:
        metadata = document.get("metadata")
        name = metadata.get("name") if isinstance(metadata, dict) else None
        position = f"{position}/{name}" if name else position
        resource, mistakes = _parse(document, model)
        self.mistakes += [f"{position}: {mistake}" for mistake in mistakes]
        if resource is None:
            return
        if namespaced and not resource.metadata.namespace:
            metadata = resource.metadata.model_copy(update={"namespace": self._namespace})
            resource = resource.model_copy(update={"metadata": metadata})
        self._store(position, resource)

    def _store(self, position: str, resource: Resource) -> None:
        first = self.positions.setdefault((resource.kind, resource.key), position)
        if first is not position:
            self.mistakes.append(
                f"{position}: metadata.name: {resource.key}: already defined in {first}: rename or remove it"
            )
        elif isinstance(resource, Node):
            self.nodes[resource.key] = resource
        elif isinstance(resource, PriorityClass):
            self.priority_classes[resource.key] = resource
        else:
            self.resources.setdefault(resource.kind, {})[resource.key] = resource


def _unknown_fields(value: object, model: type[Schema], path: str = "") -> Iterator[str]:
    """Yield a mistake for each unknown field at any depth of `value`, with the closest known name."""
    if isinstance(value, list):
        for index, item in enumerate(value):
            yield from _unknown_fields(item, model, f"{path}[{index}]")
    elif isinstance(value, dict):
        known = fields_of(model)
        for name, item in value.items():
            location = f"{path}.{name}" if path else str(name)
            field_model = known.get(name)
            if field_model is None:
                yield f"{location}: unknown field: {suggest(str(name), known)}"
            elif field_model.model is not None and location != _FREE_FORM:
                yield from _unknown_fields(item, field_model.model, location)


def format_yaml_error(error: Exception) -> str:
    """Return the YAML error on one line, with its line and column but without the name of the stream."""
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        mark, context = error.problem_mark, f" ({error.context})" if error.context else ""
        return f"line {mark.line + 1}, column {mark.column + 1}: {error.problem}{context}"
    return " ".join(str(error).split()).replace('in "<unicode string>", ', "")


def _describe(detail: ErrorDetails, model: type[Schema]) -> str:
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in detail["loc"]).lstrip(".")
    if detail["type"] == "missing":
        return f"{path}: required field is missing"
    shown = show_value(detail["input"])
    if detail["type"] == "string_type" and isinstance(detail["input"], bool):
        return f"{path}: {shown}: must be a string: quote it, because YAML reads y, yes, on, n, no and off as booleans"
    if (unit := annotation_at(model, detail["loc"], UnitOfMeasure)) is not None:
        text = detail["input"] if isinstance(detail["input"], str) else ""
        return f"{path}: {shown}: invalid {unit.name}: {unit.remedy(text)}"
    form = annotation_at(model, detail["loc"], TextFormat)
    if form is not None and detail["type"] == "string_pattern_mismatch":
        return f"{path}: {shown}: invalid {form.name}: use for example {form.example}"
    return f"{path}: {shown}: {detail['msg'][:1].lower()}{detail['msg'][1:]}"
