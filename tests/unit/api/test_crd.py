"""The generated files are those of the models, and structural."""

from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from maleo_api.columns import COLUMNS
from maleo_api.crd import definition, files
from maleo_api.kinds import KINDS
from support.paths import ROOT

_NOT_STRUCTURAL = {"$ref", "anyOf", "const", "title", "prefixItems", "exclusiveMinimum", "exclusiveMaximum", "$defs"}


@pytest.mark.parametrize("folder", ["crds", "charts/maleo-crds/templates"])
def test_files__are_committed_as_the_models_say(folder: str) -> None:
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


def _undescribed(schema: dict[str, Any], path: str) -> Iterator[str]:
    """Yield the path of each kind and field that `kubectl explain` would show without a description."""
    if "description" not in schema:
        yield path
    below = schema.get("items") or schema
    for name, field in below.get("properties", {}).items():
        if name != "metadata":  # the API server describes it
            yield from _undescribed(field, f"{path}.{name}")


@pytest.mark.parametrize("kind", KINDS)
def test_descriptions__are_there_for_every_field(kind: str) -> None:
    assert list(_undescribed(_schema(f"{KINDS[kind].plural}.yaml"), kind)) == []
