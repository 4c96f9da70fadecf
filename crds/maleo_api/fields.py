"""Introspection of API models: the nested model of a field, and the metadata of its annotation."""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import NamedTuple, TypeVar, get_args

from pydantic.fields import FieldInfo

from maleo_api.meta import Schema

Kind = TypeVar("Kind")


def of_model(annotation: object) -> type[Schema] | None:
    """Return the API model inside `Model`, `Model | None`, `list[Model]` or an annotated form of these, else None."""
    if isinstance(annotation, type) and issubclass(annotation, Schema):
        return annotation
    return next((model for inner in get_args(annotation) if (model := of_model(inner))), None)


class FieldModel(NamedTuple):
    """Python name of a field, and the API model nested in it, if any."""

    name: str
    model: type[Schema] | None


@cache  # a file can contain thousands of objects of one model
def fields_of(model: type[Schema]) -> Mapping[str, FieldModel]:
    """Return API name -> field of a model."""
    return {
        info.alias or name: FieldModel(name, of_model(info.annotation)) for name, info in model.model_fields.items()
    }


def annotation_at(model: type[Schema], path: Sequence[str | int], kind: type[Kind]) -> Kind | None:
    """Return the annotation metadata of class `kind` of the field at `path` (aliases and list indices), else None."""
    current: type[Schema] | None = model
    found: FieldInfo | None = None
    for part in path:
        if isinstance(part, str) and current is not None:
            found = next((f for name, f in current.model_fields.items() if part in (f.alias, name)), None)
            current = of_model(found.annotation) if found else None
    return _annotation_of(found, kind) if found else None


def _annotation_of(field: FieldInfo, kind: type[Kind]) -> Kind | None:
    metadata = [*field.metadata, *(arg for inner in get_args(field.annotation) for arg in get_args(inner))]
    return next((item for item in metadata if isinstance(item, kind)), None)
