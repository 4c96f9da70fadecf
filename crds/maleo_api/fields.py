"""Questions about the fields of API models: which model is below a field, which quantity or form it holds."""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import NamedTuple, TypeVar, get_args

from pydantic.fields import FieldInfo

from maleo_api.meta import Schema

Kind = TypeVar("Kind")


def of_model(annotation: object) -> type[Schema] | None:
    """The API model inside `Model`, `Model | None`, `list[Model]` and annotated forms of them, if there is one."""
    if isinstance(annotation, type) and issubclass(annotation, Schema):
        return annotation
    return next((model for inner in get_args(annotation) if (model := of_model(inner))), None)


class Below(NamedTuple):
    """A field: its name in Python, and the API model inside it, if there is one."""

    name: str
    model: type[Schema] | None


@cache  # a file may hold thousands of objects of one model
def fields_of(model: type[Schema]) -> Mapping[str, Below]:
    """Return the fields of a model by their names in the API."""
    return {info.alias or name: Below(name, of_model(info.annotation)) for name, info in model.model_fields.items()}


def note_at(model: type[Schema], path: Sequence[str | int], kind: type[Kind]) -> Kind | None:
    """What the type of the field at `path` (aliases and list indices) is annotated with of this `kind`, if anything."""
    current: type[Schema] | None = model
    found: FieldInfo | None = None
    for part in path:
        if isinstance(part, str) and current is not None:
            found = next((f for name, f in current.model_fields.items() if part in (f.alias, name)), None)
            current = of_model(found.annotation) if found else None
    return _note_of(found, kind) if found else None


def _note_of(field: FieldInfo, kind: type[Kind]) -> Kind | None:
    metadata = [*field.metadata, *(arg for inner in get_args(field.annotation) for arg in get_args(inner))]
    return next((item for item in metadata if isinstance(item, kind)), None)
