"""Generated CRDs match the models and are structural."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from maleo_api import quantities
from maleo_api.columns import COLUMNS
from maleo_api.crd import definition, files
from maleo_api.kinds import KINDS
from support.paths import ROOT

_QUANTITIES = {unit.pattern for unit in vars(quantities).values() if isinstance(unit, quantities.UnitOfMeasure)}
_NOT_STRUCTURAL = {"$ref", "anyOf", "const", "title", "prefixItems", "exclusiveMinimum", "exclusiveMaximum", "$defs"}


@pytest.mark.parametrize("folder", ["crds", "charts/maleo-crds/templates"])
def test_committed_files__match_the_models(folder: str) -> None:
    there = {path.name: path.read_text(encoding="utf-8") for path in (ROOT / folder).glob("*.yaml")}
    assert there == files(), f"run `python -m maleo_api.crd --write {folder}`"


def _schemas(schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield schema
    below = [*schema.get("properties", {}).values()]
    below += [schema[key] for key in ("items", "additionalProperties") if key in schema]
    for inner in below:
        yield from _schemas(inner)


@pytest.mark.parametrize("kind", KINDS)
def test_schema__is_structural_and_bounded(kind: str) -> None:
    root = definition(KINDS[kind])["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    del root["properties"]["apiVersion"], root["properties"]["kind"]
    for schema in _schemas(root):
        assert not _NOT_STRUCTURAL & schema.keys()
        assert "type" in schema
        if schema["type"] == "array":
            assert "maxItems" in schema
        if schema["type"] == "string":
            assert "maxLength" in schema or "enum" in schema


@pytest.mark.parametrize("kind", KINDS)
def test_columns__are_few_enough_to_read(kind: str) -> None:
    shown = [column for column in COLUMNS[kind] if column.priority == 0]
    assert len(shown) <= 8
    assert shown[-1].name == "Age"


def _schema(file: str) -> dict[str, Any]:
    schema: dict[str, Any] = yaml.safe_load(files()[file])["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return schema


def test_descriptions__come_from_the_text_below_a_field() -> None:
    status = _schema("missions.yaml")["properties"]["status"]
    assert status["properties"]["nodes"]["description"].startswith("Nodes of the active revision")
    assert "default" not in status


def _fields(schema: dict[str, Any], path: str, *, required: bool = True) -> Iterator[tuple[str, dict[str, Any], bool]]:
    """Yield (path, schema, whether it is required) of a kind and of its fields at any depth."""
    yield path, schema, required
    below = schema
    while "items" in below or "additionalProperties" in below:
        below = below["items"] if "items" in below else below["additionalProperties"]
    for name, field in below.get("properties", {}).items():
        if name != "metadata":  # the API server describes it
            yield from _fields(field, f"{path}.{name}", required=name in below.get("required", ()))


@pytest.mark.parametrize("kind", KINDS)
def test_descriptions__exist_for_every_field(kind: str) -> None:
    fields = _fields(_schema(f"{KINDS[kind].plural}.yaml"), kind)
    assert [path for path, schema, _ in fields if not schema.get("description")] == []


@pytest.mark.parametrize("kind", KINDS)
def test_descriptions__explain_what_an_omitted_field_means(kind: str) -> None:
    spec = _schema(f"{KINDS[kind].plural}.yaml")["properties"]["spec"]
    explanation = re.compile(r"left out|empty|absent|without|default|states? none|no row|none is stated", re.IGNORECASE)
    optional = ((path, schema["description"]) for path, schema, required in _fields(spec, kind) if not required)
    assert [path for path, description in optional if not explanation.search(description)] == []


@pytest.mark.parametrize("kind", KINDS)
def test_descriptions__show_a_quantity_with_its_unit(kind: str) -> None:
    def shows_one(schema: dict[str, Any]) -> bool:
        return any(re.search(schema["pattern"], text) for text in re.findall(r"`([^`]+)`", schema["description"]))

    fields = _fields(_schema(f"{KINDS[kind].plural}.yaml"), kind)
    rows = [(path, schema) for path, schema, _ in fields if schema.get("pattern") in _QUANTITIES]
    assert [path for path, schema in rows if not shows_one(schema)] == []
