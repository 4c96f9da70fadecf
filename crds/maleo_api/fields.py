"""Questions about the fields of API models: which model is below a field, which quantity it holds."""

from collections.abc import Sequence
from typing import get_args

from pydantic.fields import FieldInfo

from maleo_api.meta import Schema
from maleo_api.quantities import Unit


def of_model(annotation: object) -> type[Schema] | None:
    """The API model inside `Model`, `Model | None`, `list[Model]` and annotated forms of them, if there is one."""
    if isinstance(annotation, type) and issubclass(annotation, Schema):
        return annotation
    return next((model for inner in get_args(annotation) if (model := of_model(inner))), None)


def unit_at(model: type[Schema], path: Sequence[str | int]) -> Unit | None:
    """The unit of the quantity at `path` (aliases and list indices), None where no quantity is."""
    current: type[Schema] | None = model
    found: FieldInfo | None = None
    for part in path:
        if isinstance(part, str) and current is not None:
            found = next((f for name, f in current.model_fields.items() if part in (f.alias, name)), None)
            current = of_model(found.annotation) if found else None
    return _unit_of(found) if found else None


def _unit_of(field: FieldInfo) -> Unit | None:
    metadata = [*field.metadata, *(arg for inner in get_args(field.annotation) for arg in get_args(inner))]
    return next((item for item in metadata if isinstance(item, Unit)), None)
