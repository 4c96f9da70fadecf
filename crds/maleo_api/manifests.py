"""Manifests as people write them: YAML files and folders, read into the API models without a cluster.

Readers of the API ignore unknown fields; a person's file deserves to hear of them, so here they are errors.
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

from maleo_api.checks import broken_rules, dangling_names, show_value, unfit_metadata
from maleo_api.documents import DocumentError, parse_documents
from maleo_api.fields import fields_of, note_at
from maleo_api.kinds import KINDS, KindInfo
from maleo_api.meta import API_VERSION, GROUP, Form, Metadata, Resource, Schema
from maleo_api.quantities import Unit
from maleo_api.spelling import suggest

_SUFFIXES: Final = (".yaml", ".yml", ".json")
STANDARD_INPUT: Final = "-"
_FREE_FORM: Final = "metadata"  # Kubernetes' own, Maleo models only a part of it

AnyResource = TypeVar("AnyResource", bound=Resource)


class Taint(Schema):
    key: str
    value: str = ""
    effect: str


class NodeSpec(Schema):
    unschedulable: bool = False
    taints: list[Taint] = []


class NodeCondition(Schema):
    type: str
    status: str


class NodeStatus(Schema):
    conditions: list[NodeCondition] = []


class Node(Resource):
    """A Kubernetes Node, as far as planning without a cluster needs it: labels give tier and site."""

    spec: NodeSpec = NodeSpec()
    status: NodeStatus = NodeStatus()

    @property
    def is_ready(self) -> bool:
        """Whether its kubelet says so; True for a Node that was written by hand and has no such condition."""
        return all(each.status == "True" for each in self.status.conditions if each.type == "Ready")


class PriorityClass(Resource):
    """Kubernetes' own: a mission names it, and its value ranks missions of the same criticality."""

    value: int
    global_default: bool = False


@dataclass(frozen=True, slots=True, repr=False)  # asyncio.run describes its result: a cluster's takes 0.2 s
class Manifests:
    """Everything that was read, by kind and key (`namespace/name`, or `name` for cluster-scoped kinds)."""

    resources: Mapping[str, dict[str, Resource]] = field(default_factory=dict)
    nodes: Mapping[str, Node] = field(default_factory=dict)
    places: Mapping[tuple[str, str], str] = field(default_factory=dict)
    """(kind, key) -> where it was read: `file: doc N Kind/name`; empty for what comes from a cluster."""
    priority_classes: Mapping[str, PriorityClass] = field(default_factory=dict)
    tolerations: tuple[Mapping[str, Any], ...] = ()
    """Of all slots, as the chart's value `slots.tolerations` has them: no manifest says it."""

    def of(self, kind: type[AnyResource]) -> dict[str, AnyResource]:
        """The resources of one kind: `manifests.of(Mission)["default/cctv"]`."""
        found = self.resources.get(kind.__name__, {})
        return {key: resource for key, resource in found.items() if isinstance(resource, kind)}

    def check(self, there: "Manifests | None" = None) -> None:
        """ManifestError for names that lead nowhere, here or `there` in a cluster, contradictions, and repetitions."""
        others = there or Manifests()
        kinds = {*self.resources, *others.resources}
        resources = {kind: others.resources.get(kind, {}) | self.resources.get(kind, {}) for kind in kinds}
        nodes = {**others.nodes, **self.nodes}
        found = [(self.places.get((item.kind, item.key)), told) for item, told in dangling_names(resources, nodes)]
        mistakes = [f"{place}: {told}" for place, told in found if place is not None]
        if mistakes:
            raise ManifestError(mistakes)


class ManifestError(Exception):
    """Every mistake that was found, one line each: `file: doc N kind/name: field.path: value: what and remedy`."""

    def __init__(self, mistakes: list[str]) -> None:
        super().__init__("\n".join(mistakes))
        self.mistakes = mistakes


class Dumper(yaml.SafeDumper):
    """Quotes what kubectl, which reads YAML 1.1 to the letter, takes for a boolean: a tensor named `y`."""


Dumper.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"^[yYnN]$"), list("yYnN"))


def dump(documents: Iterable[Mapping[str, Any]]) -> str:
    """YAML that every reader reads alike."""
    return yaml.dump_all(documents, Dumper=Dumper, sort_keys=False)


def load(paths: Iterable[Path], *, standard_input: Callable[[], str] | None = None) -> Manifests:
    """Read files and, recursively, folders; objects of other API groups are passed over.

    `-` stands for what `standard_input` returns, where it is given. Raise ManifestError with all mistakes of all
    files: nothing is returned half read.
    """
    reading = _Reading()
    for file in _files(paths, reading):
        if standard_input is not None and str(file) == STANDARD_INPUT:
            reading.read("standard input", standard_input)
        else:
            reading.read(str(file), lambda file=file: file.read_text(encoding="utf-8"))  # type: ignore[misc]
    if reading.mistakes:
        raise ManifestError(reading.mistakes)
    return Manifests(reading.resources, reading.nodes, reading.places, reading.priority_classes)


def revise(resource: AnyResource, changes: Mapping[str, Any]) -> AnyResource:
    """The resource with other values at paths below `spec`; ManifestError as if a file had said so."""
    document = resource.to_api()
    for path, value in changes.items():
        *parents, last = path.split(".")
        place = document["spec"]
        for parent in parents:
            place = place.setdefault(parent, {})
            if not isinstance(place, dict):
                raise ManifestError([f"spec.{path}: {parent} holds no fields"])
        place[last] = value
    found, mistakes = _parse(document, type(resource))
    if found is None or mistakes:
        raise ManifestError(mistakes)
    return found


def check(document: dict[str, Any], model: type[AnyResource]) -> list[str]:
    """Return every mistake of one object, as if it was read from a file: `field.path: value: what and remedy`."""
    return _parse(document, model)[1]


def _parse(document: dict[str, Any], model: type[AnyResource]) -> tuple[AnyResource | None, list[str]]:
    """The resource, and every mistake in it: `field.path: value: what and remedy`."""
    mistakes = [] if model in {Node, PriorityClass} else list(_unknown_fields(document, model))
    try:
        # As JSON and strict: what the API server would refuse (a number as text) is refused here too.
        resource = model.model_validate_json(json.dumps(document, default=str), strict=True)
    except ValidationError as error:
        return None, [*mistakes, *(_describe(detail, model) for detail in error.errors())]
    return resource, mistakes or [*unfit_metadata(resource.metadata), *broken_rules(resource)]


def _files(paths: Iterable[Path], reading: "_Reading") -> Iterator[Path]:
    for path in paths:
        if path.is_dir():
            found = sorted(file for file in path.rglob("*") if file.suffix in _SUFFIXES and file.is_file())
            if not found:
                reading.mistakes.append(f"{path}: no {', '.join(_SUFFIXES)} file in this folder")
            yield from found
        elif path.is_file() or str(path) == STANDARD_INPUT:
            yield path
        else:
            reading.mistakes.append(f"{path}: no such file or folder")


class _Reading:
    def __init__(self) -> None:
        self.mistakes: list[str] = []
        self.resources: dict[str, dict[str, Resource]] = {}
        self.nodes: dict[str, Node] = {}
        self.places: dict[tuple[str, str], str] = {}
        self.priority_classes: dict[str, PriorityClass] = {}

    def read(self, name: str, text: Callable[[], str]) -> None:
        """Take all documents of a file. Documents are counted as kubectl does, without those that are empty."""
        try:
            documents = [document for document in parse_documents(text()) if document is not None]
        except (DocumentError, UnicodeDecodeError, OSError) as error:
            self.mistakes.append(f"{name}: not readable as YAML: {' '.join(str(error).split())}")
            return
        for number, document in enumerate(documents, start=1):
            self._take(f"{name}: doc {number}", document)

    def _take(self, place: str, document: object) -> None:
        if not isinstance(document, dict) or not isinstance(document.get("kind"), str):
            self.mistakes.append(f"{place}: no Kubernetes object: apiVersion, kind and metadata.name are needed")
        elif document["kind"].endswith("List") and ("items" in document or document["kind"] == "List"):
            self._take_list(f"{place} {document['kind']}", document.get("items") or [])
        elif document["kind"] == "Node" and document.get("apiVersion") == "v1":
            self._keep(f"{place} Node", document, Node, namespaced=False)
        elif document["kind"] == "PriorityClass" and document.get("apiVersion") == "scheduling.k8s.io/v1":
            self._keep(f"{place} PriorityClass", document, PriorityClass, namespaced=False)
        elif str(document.get("apiVersion", "")).partition("/")[0] == GROUP:
            self._take_own(place, document)
        elif document["kind"] in KINDS:
            self.mistakes.append(
                f"{place} {document['kind']}: apiVersion: {document.get('apiVersion')}: write {API_VERSION}"
            )

    def _take_list(self, place: str, items: object) -> None:
        if not isinstance(items, list):
            told = "not a list: write the objects of the list below it"
            self.mistakes.append(f"{place}: items: {show_value(items)}: {told}")
            return
        for index, item in enumerate(items):
            self._take(f"{place}: items[{index}]", item)

    def _take_own(self, place: str, document: dict[str, Any]) -> None:
        kind = document["kind"]
        info: KindInfo | None = KINDS.get(kind)
        if info is None:
            self.mistakes.append(f"{place}: kind: {kind}: no kind of {GROUP}: {suggest(kind, KINDS)}")
        elif document["apiVersion"] != API_VERSION:
            self.mistakes.append(f"{place} {kind}: apiVersion: {document['apiVersion']}: write {API_VERSION}")
        else:
            self._keep(f"{place} {kind}", document, info.model, namespaced=info.namespaced)

    def _keep(self, place: str, document: dict[str, Any], model: type[Resource], *, namespaced: bool) -> None:
        metadata = document.get("metadata")
        name = metadata.get("name") if isinstance(metadata, dict) else None
        place = f"{place}/{name}" if name else place
        resource, mistakes = _parse(document, model)
        self.mistakes += [f"{place}: {mistake}" for mistake in mistakes]
        if resource is None:
            return
        if namespaced and not resource.metadata.namespace:
            resource = resource.model_copy(update={"metadata": _in_default_namespace(resource.metadata)})
        self._store(place, resource)

    def _store(self, place: str, resource: Resource) -> None:
        first = self.places.setdefault((resource.kind, resource.key), place)
        if first is not place:
            self.mistakes.append(
                f"{place}: metadata.name: {resource.key}: already defined in {first}: rename or remove it"
            )
        elif isinstance(resource, Node):
            self.nodes[resource.key] = resource
        elif isinstance(resource, PriorityClass):
            self.priority_classes[resource.key] = resource
        else:
            self.resources.setdefault(resource.kind, {})[resource.key] = resource


def _in_default_namespace(metadata: Metadata) -> Metadata:
    return metadata.model_copy(update={"namespace": "default"})


def _unknown_fields(value: object, model: type[Schema], path: str = "") -> Iterator[str]:
    """Fields that the model does not have, anywhere below `value`, each with the nearest name that it has."""
    if isinstance(value, list):
        for index, item in enumerate(value):
            yield from _unknown_fields(item, model, f"{path}[{index}]")
    elif isinstance(value, dict):
        known = fields_of(model)
        for name, item in value.items():
            here = f"{path}.{name}" if path else str(name)
            below = known.get(name)
            if below is None:
                yield f"{here}: unknown field: {suggest(str(name), known)}"
            elif below.model is not None and here != _FREE_FORM:
                yield from _unknown_fields(item, below.model, here)


def tell_yaml_error(error: Exception) -> str:
    """On one line, by the place in the text: what was read has no name but its file's."""
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        mark, while_ = error.problem_mark, f" ({error.context})" if error.context else ""
        return f"line {mark.line + 1}, column {mark.column + 1}: {error.problem}{while_}"
    return " ".join(str(error).split()).replace('in "<unicode string>", ', "")


def _describe(detail: ErrorDetails, model: type[Schema]) -> str:
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in detail["loc"]).lstrip(".")
    if detail["type"] == "missing":
        return f"{path}: missing: this field is required"
    shown = show_value(detail["input"])
    if detail["type"] == "string_type" and isinstance(detail["input"], bool):
        return f"{path}: {shown}: a boolean: quote the text, since YAML takes y, yes, on, n, no and off for booleans"
    if (unit := note_at(model, detail["loc"], Unit)) is not None:
        text = detail["input"] if isinstance(detail["input"], str) else ""
        return f"{path}: {shown}: no {unit.name}: {unit.correct(text)}"
    form = note_at(model, detail["loc"], Form)
    if form is not None and detail["type"] == "string_pattern_mismatch":
        return f"{path}: {shown}: no {form.name}: write for example {form.example}"
    return f"{path}: {shown}: {detail['msg'][:1].lower()}{detail['msg'][1:]}"
