"""CustomResourceDefinitions from the pydantic models: `python -m maleo_api.crd (--write | --check) DIR ...`.

pydantic's JSON Schema is not structural: references are resolved here, nullable unions become optional fields,
titles are removed, and rules, list keys and descriptions of fields (the texts below them in the source) are added.
"""

import argparse
import ast
import inspect
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import yaml

from maleo_api.columns import COLUMNS, Column
from maleo_api.fields import fields_of
from maleo_api.kinds import KINDS, KindInfo
from maleo_api.meta import GROUP, VERSION, Schema
from maleo_api.rules import KEYS, RULES

JsonObject = dict[str, Any]

_HEADER: Final = "# Generated from crds/maleo_api by `python -m maleo_api.crd`; do not edit.\n"
_COPIED_KEYWORDS: Final[tuple[str, ...]] = (
    "type", "enum", "pattern", "maxLength", "minLength", "maxItems", "minItems", "minimum", "maximum", "maxProperties",
)  # fmt: skip
_TOP_LEVEL: Final[JsonObject] = {
    "apiVersion": {"type": "string", "description": f"{GROUP}/{VERSION}."},
    "kind": {"type": "string", "description": "The kind of this resource."},
    "metadata": {"type": "object"},
}


def definition(info: KindInfo) -> JsonObject:
    """Return the CustomResourceDefinition of one kind."""
    schema = info.model.model_json_schema(by_alias=True)
    root = _Structure(info.model, schema.get("$defs", {})).of(schema, default=True)
    has_status = "status" in root["properties"]
    root["properties"] |= _TOP_LEVEL
    root["required"] = ["spec"]
    version: JsonObject = {
        "name": VERSION,
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": root},
        "additionalPrinterColumns": [_column(column) for column in COLUMNS[info.kind]],
    }
    if has_status:
        version["subresources"] = {"status": {}}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        # Uninstalling the chart must not delete every mission of the cluster.
        "metadata": {"name": f"{info.plural}.{GROUP}", "annotations": {"helm.sh/resource-policy": "keep"}},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced" if info.namespaced else "Cluster",
            "names": {
                "kind": info.kind,
                "listKind": f"{info.kind}List",
                "plural": info.plural,
                "singular": info.kind.lower(),
                "shortNames": [info.short],
                "categories": ["maleo"],
            },
            "versions": [version],
        },
    }


def files() -> dict[str, str]:
    """Return file name -> YAML text for every kind."""
    return {f"{info.plural}.yaml": _HEADER + _dump(definition(info)) for info in KINDS.values()}


class _Structure:
    """Converter from pydantic's JSON Schema of one kind to a structural schema."""

    def __init__(self, kind: type[Schema], definitions: Mapping[str, JsonObject]) -> None:
        self._definitions = definitions
        self._models = {model.__name__: model for model in _models_of(kind)}  # a definition's title is the class name

    def of(self, schema: JsonObject, *, default: bool) -> JsonObject:
        """Return the structural schema of `schema`.

        default: include default values. A status has none: only its writers fill it.
        """
        source = self._resolve(schema)
        result: JsonObject = {key: source[key] for key in _COPIED_KEYWORDS if key in source}
        if source.get("type") == "integer":
            result["format"] = "int64"
        if description := schema.get("description", source.get("description")):
            result["description"] = " ".join(description.split())
        if default and "default" in schema and schema["default"] is not None:
            result["default"] = _without_nulls(schema["default"])
        if "items" in source:
            result["items"] = self.of(source["items"], default=default)
        if "properties" in source:
            result |= self._object(source, default=default)
        elif isinstance(source.get("additionalProperties"), dict):
            result["additionalProperties"] = self.of(source["additionalProperties"], default=default)
        return result

    def _object(self, source: JsonObject, *, default: bool) -> JsonObject:
        model = self._models[source["title"]]
        texts = _field_texts(model)
        properties = {}
        for name, field in source["properties"].items():
            described = {**field, "description": texts[name]} if name in texts else field
            properties[name] = self._property(model, name, described, default=default and name != "status")
        result: JsonObject = {"properties": properties}
        if required := source.get("required"):
            result["required"] = required
        if rules := RULES.get(model):
            result["x-kubernetes-validations"] = [{"rule": rule.cel, "message": rule.message} for rule in rules]
        return result

    def _property(self, model: type[Schema], name: str, field: JsonObject, *, default: bool) -> JsonObject:
        if name == "metadata":
            return {"type": "object"}
        result = self.of(field, default=default)
        key = "type" if name == "conditions" else KEYS.get(model, {}).get(name)
        if key is not None:
            result |= {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": [key]}
        elif result.get("type") == "array":
            result["x-kubernetes-list-type"] = "atomic"
        return result

    def _resolve(self, schema: JsonObject) -> JsonObject:
        """Return the target of a reference, or the only alternative of a union that is not null."""
        if "anyOf" in schema:
            (schema,) = (choice for choice in schema["anyOf"] if choice.get("type") != "null")
            return self._resolve(schema)
        if "$ref" in schema:
            return self._definitions[schema["$ref"].rpartition("/")[2]]
        return schema


def _models_of(model: type[Schema]) -> Iterator[type[Schema]]:
    """Yield the model and the models nested in its fields, at any depth."""
    yield model
    for nested in fields_of(model).values():
        if nested.model is not None:
            yield from _models_of(nested.model)


@cache
def _field_texts(model: type[Schema]) -> dict[str, str]:
    """Return field name in the API -> string literal below the field in the source."""
    classes = (node for node in ast.walk(_source(model.__module__)) if isinstance(node, ast.ClassDef))
    body = next(node.body for node in classes if node.name == model.__name__)
    texts: dict[str, str] = {}
    for statement, following in pairwise(body):
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            match following:
                case ast.Expr(value=ast.Constant(value=str(text))):
                    alias = model.model_fields[statement.target.id].alias
                    texts[alias or statement.target.id] = text
    return texts


@cache
def _source(module: str) -> ast.Module:
    return ast.parse(inspect.getsource(sys.modules[module]))


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    return value


def _column(column: Column) -> JsonObject:
    result: JsonObject = {"name": column.name, "type": column.type, "jsonPath": column.path}
    if column.priority:
        result["priority"] = column.priority
    if column.description:
        result["description"] = column.description
    return result


def _dump(document: JsonObject) -> str:
    return yaml.dump(document, Dumper=_PlainDumper, sort_keys=False, width=120, allow_unicode=True)


class _PlainDumper(yaml.SafeDumper):
    """YAML dumper without anchors and aliases: equal lists are written out."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 - the interface of yaml
        return True


def main() -> int:
    """Write or check the CRD files; return exit code 1 if --check found a difference."""
    parser = argparse.ArgumentParser(prog="python -m maleo_api.crd", description=__doc__)
    action = parser.add_mutually_exclusive_group(required=True)
    action.add_argument("--write", nargs="+", type=Path, metavar="DIR")
    action.add_argument("--check", nargs="+", type=Path, metavar="DIR")
    arguments = parser.parse_args()
    for folder in arguments.write or ():
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in files().items():
            (folder / name).write_text(text, encoding="utf-8")
    different = [path for folder in arguments.check or () for path in _differences(folder)]
    for path in different:
        sys.stderr.write(f"{path} differs from the models: run `python -m maleo_api.crd --write {path.parent}`\n")
    return 1 if different else 0


def _differences(folder: Path) -> list[Path]:
    expected = files()
    actual = {path.name: path.read_text(encoding="utf-8") for path in folder.glob("*.yaml")}
    return [folder / name for name in sorted(expected.keys() | actual.keys()) if expected.get(name) != actual.get(name)]


if __name__ == "__main__":
    sys.exit(main())
