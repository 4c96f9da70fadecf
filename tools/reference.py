"""Generate or check the reference pages in docs/reference: `python tools/reference.py (--write | --check)`.

Kinds, fields and conditions come from the API models, metrics from the registries of operator and agent, commands from
the command line.
"""

import argparse
import inspect
import json
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar

import typer
from prometheus_client.core import Metric
from prometheus_client.metrics import MetricWrapperBase
from typer.core import TyperArgument, TyperGroup, TyperOption

from maleo_agent.metrics import NodeMetrics
from maleo_api import quantities
from maleo_api.columns import COLUMNS, Column
from maleo_api.crd import definition
from maleo_api.fields import annotation_at, fields_of
from maleo_api.kinds import KINDS, KindInfo
from maleo_api.meta import API_VERSION, Basis, Schema, TextFormat
from maleo_api.reasons import ConditionReason
from maleo_api.rules import RULES
from maleo_cli.errors import EXIT_CODES
from maleo_cli.main import COMMANDS, load_command
from maleo_operator.metrics import Metrics

ROOT: Final = Path(__file__).resolve().parents[1]
FOLDER: Final = ROOT / "docs/reference"
_GENERATED: Final = "Generated from {source} by `make references`; do not edit."
_Row = Sequence[str]
Note = TypeVar("Note")


def pages() -> dict[str, str]:
    """Return file name in docs/reference -> text of every generated page."""
    return {"crds.md": _kinds(), "conditions.md": _conditions(), "metrics.md": _metrics(), "cli.md": _commands()}


def _page(title: str, source: str, *parts: str) -> str:
    return "\n\n".join([f"# {title}", _GENERATED.format(source=source), *(part for part in parts if part)]) + "\n"


def _table(heads: _Row, rows: Iterable[_Row]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)


# Kinds and their fields


class _Field(NamedTuple):
    """One field of a kind: its path, its schema in the CRD, and the kind's model, which has the types of quantities."""

    path: tuple[str, ...]
    schema: dict[str, Any]
    required: bool
    root: type[Schema]

    @property
    def item(self) -> dict[str, Any]:
        """Schema of the items of a list or the values of a map, otherwise of the field."""
        schema: dict[str, Any] = self.schema.get("items") or self.schema.get("additionalProperties") or self.schema
        return schema

    @property
    def model(self) -> type[Schema] | None:
        """Model of the field or of its items; None if it is not an object."""
        found: type[Schema] | None = self.root
        for part in self.path:
            found = fields_of(found)[part].model if found is not None else None
        return found


def _kinds() -> str:
    shared = _shared_models()
    return _page(
        "Custom resources",
        "`crds/maleo_api`",
        f"The kinds of `{API_VERSION}`. `kubectl explain KIND --recursive` shows the same descriptions. Paths are "
        "relative to `spec` or `status`; `[]` stands for the items of a list. The description of an optional field "
        "says what applies if it is left out.",
        _table(
            ["kind", "short name", "scope", "purpose"],
            (
                [f"[{kind}](#{kind.lower()})", f"`{info.short}`", _scope(info), _first_sentence(_schema(info))]
                for kind, info in KINDS.items()
            ),
        ),
        *(_kind(info, shared) for info in KINDS.values()),
        "## Shared types",
        "Objects that occur in several places.",
        *(_shared_type(model, shared) for model in sorted(shared, key=lambda model: model.__name__)),
        _bases(),
        _formats(),
        _quantities(),
    )


def _schema(info: KindInfo) -> dict[str, Any]:
    schema: dict[str, Any] = definition(info)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return schema


def _scope(info: KindInfo) -> str:
    return "namespace" if info.namespaced else "cluster"


def _first_sentence(schema: dict[str, Any]) -> str:
    first: str = schema["description"].split(". ")[0]
    return f"{first.rstrip('.')}."


def _kind(info: KindInfo, shared: dict[type[Schema], _Field]) -> str:
    schema = _schema(info)
    parts = [f"## {info.kind}", schema["description"]]
    for name in ("spec", "status"):
        if name in schema["properties"]:
            top = _Field((name,), schema["properties"][name], required=True, root=info.model)
            parts += [f"### {info.kind}.{name}", top.schema["description"], _fields_table(top, shared)]
    if rules := [*_rules(_Field((), schema, required=True, root=info.model), shared)]:
        parts += [
            f"### Rules of {info.kind}",
            "The API server rejects an object that violates one of them.",
            "\n".join(rules),
        ]
    columns = ([column.name, column.description or f"`{column.path}`", _width(column)] for column in COLUMNS[info.kind])
    table = _table(["column", "content", "shown"], columns)
    return "\n\n".join([*parts, f"### Columns of {info.kind}", table])


def _width(column: Column) -> str:
    return "with `-o wide`" if column.priority else "always"


def _below(field: _Field) -> Iterator[_Field]:
    """Yield the fields of an object, or of the objects in a list."""
    for name, schema in field.item.get("properties", {}).items():
        if name not in ("apiVersion", "kind", "metadata"):
            yield _Field((*field.path, name), schema, name in field.item.get("required", ()), field.root)


def _shared_models() -> dict[type[Schema], _Field]:
    """Return the models that more than one field refers to, each with one of these fields."""
    found: dict[type[Schema], dict[tuple[type[Schema] | None, str], _Field]] = {}

    def visit(field: _Field) -> None:
        for below in _below(field):
            if (model := below.model) is not None:
                found.setdefault(model, {})[field.model, below.path[-1]] = below
                visit(below)

    for info in KINDS.values():
        visit(_Field((), _schema(info), required=True, root=info.model))
    return {model: next(iter(places.values())) for model, places in found.items() if len(places) > 1}


def _shared_type(model: type[Schema], shared: dict[type[Schema], _Field]) -> str:
    top = shared[model]
    own = {other: field for other, field in shared.items() if other is not model}
    parts = [f"### {model.__name__}", " ".join((model.__doc__ or "").split()), _fields_table(top, own)]
    return "\n\n".join([*parts, *(["\n".join(rules)] if (rules := [*_rules(top, own, inside=len(top.path))]) else [])])


def _fields_table(top: _Field, shared: dict[type[Schema], _Field]) -> str:
    def rows(field: _Field, prefix: str) -> Iterator[_Row]:
        for below in _below(field):
            path = f"{prefix}{below.path[-1]}"
            yield [f"`{path}`", _type(below, shared), _default(below), below.schema["description"]]
            if below.model not in shared:
                yield from rows(below, f"{path}[]." if below.schema["type"] == "array" else f"{path}.")

    return _table(["field", "type", "default", "description"], rows(top, ""))


def _type(field: _Field, shared: dict[type[Schema], _Field]) -> str:
    schema, item = field.schema, field.item
    name = (
        f"[{field.model.__name__}](#{field.model.__name__.lower()})" if field.model in shared else _scalar(field, item)
    )
    if schema["type"] == "array":
        name = f"list{_bounds(schema, 'minItems', 'maxItems', ' ({})')} of {name}"
    elif "additionalProperties" in schema:
        name = f"map{_bounds(schema, 'minProperties', 'maxProperties', ' ({})')} of {name}"
    keys = schema.get("x-kubernetes-list-map-keys")
    return f"{name}, unique by {' and '.join(f'`{key}`' for key in keys)}" if keys else name


def _scalar(field: _Field, schema: dict[str, Any]) -> str:
    if (unit := annotation_at(field.root, field.path, quantities.UnitOfMeasure)) is not None:
        return f"[{unit.name}](#quantities)"
    if (form := annotation_at(field.root, field.path, TextFormat)) is not None:
        return f"[{form.name}](#formats)"
    if (values := schema.get("enum")) is not None:
        return "[basis](#basis)" if values == [*Basis] else f"one of {', '.join(f'`{value}`' for value in values)}"
    if schema["type"] == "string":
        return f"string{_bounds(schema, 'minLength', 'maxLength', ', {} characters')}"
    name: str = schema["type"]
    return f"{name}{_bounds(schema, 'minimum', 'maximum', ', {}')}"


def _bounds(schema: dict[str, Any], low: str, high: str, form: str) -> str:
    """Return the bounds that the schema states, in `form`; an empty string if it states none."""
    least, most = schema.get(low), schema.get(high)
    if least is None and most is None:
        return ""
    if least == most:
        text = f"exactly {most}"
    elif least is None:
        text = f"at most {most}"
    else:
        text = f"at least {least}" if most is None else f"{least} to {most}"
    return form.format(text)


def _default(field: _Field) -> str:
    if field.required:
        return "required"
    value = field.schema.get("default")
    if isinstance(value, dict):
        return "those of its fields"
    return "" if value is None else f"`{value if isinstance(value, str) and value else json.dumps(value)}`"


def _rules(top: _Field, shared: dict[type[Schema], _Field], inside: int = 0) -> Iterator[str]:
    """Yield the validation rules of an object and the objects below it, each with the path that it is about.

    inside: number of leading parts of the path to omit.
    """
    for rule in RULES.get(top.model, ()) if top.model is not None else ():
        path = ".".join([*top.path[inside:], *([rule.at] if rule.at else [])])
        yield f"- `{path}`: {rule.message}." if path else f"- {rule.message}."
    for below in _below(top):
        if below.model is not None and below.model not in shared:
            yield from _rules(below, shared, inside)


def _bases() -> str:
    return "\n\n".join(["## Basis", _text(Basis.__doc__), "\n".join(f"1. `{basis}`" for basis in Basis)])


def _formats() -> str:
    forms = {form.name: form.example for form in _notes(TextFormat)}
    return f"## Formats\n\n{_table(['format', 'such as'], sorted(forms.items()))}"


def _quantities() -> str:
    units = {unit.name: unit for unit in _notes(quantities.UnitOfMeasure)}
    rows = (
        [
            name,
            f"`{unit.example}`",
            ", ".join(f"`{spelling}`" for spelling in unit.factors if spelling) + _or_none(unit),
        ]
        for name, unit in sorted(units.items())
    )
    rule = (
        "Strings: a decimal number, directly followed by a unit. The number has at most nine digits before the decimal "
        "point, six in a duration in `m` or `h`, and at most six after it."
    )
    return "\n\n".join(["## Quantities", rule, _table(["quantity", "such as", "units"], rows)])


def _notes(kind: type[Note]) -> Iterator[Note]:
    """Yield the annotation metadata of class `kind` of all fields of all kinds."""

    def visit(field: _Field) -> Iterator[Note]:
        if field.path and (note := annotation_at(field.root, field.path, kind)) is not None:
            yield note
        for below in _below(field):
            yield from visit(below)

    for info in KINDS.values():
        yield from visit(_Field((), _schema(info), required=True, root=info.model))


def _or_none(unit: quantities.UnitOfMeasure) -> str:
    return f", or none ({unit.si})" if "" in unit.factors else ""


def _text(docstring: str | None) -> str:
    return " ".join((docstring or "").split())


# Conditions


def _conditions() -> str:
    parts: list[str] = []
    for kind, groups in groupby(_reason_groups(), key=lambda group: group.kind):
        status = _schema(KINDS[kind])["properties"]["status"]
        parts += [f"## Conditions of {kind}", status["properties"]["conditions"]["description"]]
        for group in groups:
            rows = ([f"`{reason.value}`", reason.description] for reason in group.reasons)
            parts += [*([f"### {group.title}"] if group.title else []), _table(["reason", "meaning"], rows)]
    return _page(
        "Conditions",
        "`crds/maleo_api/reasons.py`",
        "The conditions in the status of a Mission, a Placement or a Device, and the reasons of their status. "
        "`kubectl get` and `kubectl wait --for=condition=Ready` read them; `message` explains the reason with names "
        "and figures. A reason is listed once: Ready and Degraded of a Mission repeat the reason of the condition that "
        "causes them.",
        *parts,
        "## Infeasible missions",
        "If no plan is feasible, condition Placed of a Mission has the code of the first blocker, such as "
        "`LatencyTooTight` or `NoDevice`; see [Planning](../concepts/planning.md#infeasible-missions).",
    )


class _ReasonGroup(NamedTuple):
    """Reasons below one comment of the enum, which names the kind and, unless it means all of them, the conditions."""

    kind: str
    title: str
    reasons: list[ConditionReason]


_GROUP: Final = re.compile(r" +# conditions? (?P<title>.*?) ?of a (?P<kind>\w+)\n")
_MEMBER: Final = re.compile(r" +(?P<name>[A-Z][A-Z_]+) = ")


def _reason_groups() -> list[_ReasonGroup]:
    """Return the groups of the enum in the order of its source."""
    groups: list[_ReasonGroup] = []
    for line in inspect.getsource(ConditionReason).splitlines(keepends=True):
        if (heading := _GROUP.fullmatch(line)) is not None:
            groups.append(_ReasonGroup(heading["kind"], heading["title"], []))
        elif (member := _MEMBER.match(line)) is not None:
            groups[-1].reasons.append(ConditionReason[member["name"]])
    return groups


# Metrics


def _metrics() -> str:
    operator = (item for item in vars(Metrics()).values() if isinstance(item, MetricWrapperBase))
    agent = NodeMetrics().collect()
    return _page(
        "Metrics",
        "the registries of operator and agent",
        "Prometheus metrics, in base units. A series is absent while its value is unknown. For what the figures mean "
        "and which decisions depend on them see [Telemetry and drift](../concepts/telemetry.md). The chart contains "
        "dashboards and alerts that use them.",
        "## Operator",
        "Every replica serves `/metrics` on port 8082; only the leader exports the series of missions and links. "
        "Metrics of a mission have the labels `namespace` and `mission`.",
        _table(_METRIC_HEADS, (_metric(next(iter(item.describe())), item) for item in operator)),
        "## Agent",
        "Each agent serves `/metrics` of its node on port 9808. No label has a name that a tenant chose, because "
        "everybody who reaches the node can read the page.",
        _table(_METRIC_HEADS, (_metric(item, item) for item in agent)),
        "## Slots",
        "A slot exports no metrics. It reports to the agent of its node; its figures are part of the metrics of the "
        "operator, by mission, and of the agent, as sums over the node.",
    )


_METRIC_HEADS: Final = ("metric", "type", "labels", "description")


def _metric(family: Metric, owner: Any) -> _Row:
    """Return the row of a family. owner: the object that has the names of its labels."""
    name = f"{family.name}_total" if family.type == "counter" else family.name
    labels = ", ".join(f"`{label}`" for label in owner._labelnames)  # noqa: SLF001 - there is no public way
    return [f"`{name}`", family.type, labels, family.documentation]


# Command line


def _commands() -> str:
    return _page(
        "Command line",
        "`cli/maleo_cli`",
        "The program is `maleo`; kubectl runs it as the plugin `kubectl maleo`. `maleo --version` prints the version, "
        "and every command has `--help`.",
        "## Exit codes",
        _table(["code", "meaning"], ([str(code), meaning] for code, meaning in EXIT_CODES.items())),
        "Errors are printed to standard error, each with what to do about it.",
        *(part for name in COMMANDS for part in _command(load_command(name), ("maleo", name))),
    )


def _command(command: Any, names: tuple[str, ...]) -> Iterator[str]:
    yield f"## {' '.join(names)}"
    yield "\n\n".join(_text(paragraph) for paragraph in (command.help or "").split("\n\n"))
    if isinstance(command, TyperGroup):
        for name, below in command.commands.items():
            yield from _command(below, (*names, name))
        return
    arguments = [item for item in command.params if isinstance(item, TyperArgument)]
    options = [item for item in command.params if isinstance(item, TyperOption) and not item.hidden]
    words = [f"{item.name.upper()}{'...' if item.nargs == -1 else ''}" for item in arguments]
    yield f"```\n{' '.join([*names, *(['[OPTIONS]'] if options else []), *words])}\n```"
    context = typer.Context(command)
    rows = [[f"`{word}`", *_parameter(item, context)] for word, item in zip(words, arguments, strict=True)]
    rows += [[", ".join(f"`{word}`" for word in _spellings(item)), *_parameter(item, context)] for item in options]
    if rows:
        yield _table(["argument or option" if arguments else "option", "value", "default", "description"], rows)


def _spellings(option: TyperOption) -> list[str]:
    """Return the spellings of an option, the short one first."""
    return sorted([*option.opts, *option.secondary_opts], key=len)


def _parameter(item: TyperArgument | TyperOption, context: typer.Context) -> _Row:
    """Return value, default and description."""
    many = bool(getattr(item, "multiple", False)) or item.nargs == -1
    return [_value(item, context, many=many), _preset(item), item.help or ""]


_TYPES: Final = {
    "str": "string",
    "Path": "path",
    "path": "path",
    "int": "integer",
    "float": "number",
    "int range": "integer",
}


def _value(item: TyperArgument | TyperOption, context: typer.Context, *, many: bool) -> str:
    name = item.display_type(context).strip("<>").removeprefix("list[").removesuffix("]")
    if name == "bool":
        return "flag"
    text = f"one of {', '.join(f'`{value}`' for value in name.split('|'))}" if "|" in name else _TYPES[name]
    low, high = getattr(item, "min", None), getattr(item, "max", None)
    if low is not None or high is not None:
        text += f", {low} to {high}" if high is not None else f", at least {low}"
    return f"{text}; repeatable" if many else text


def _preset(item: TyperArgument | TyperOption) -> str:
    if item.required:
        return "required"
    value = item.default
    if isinstance(value, Path) and value.is_relative_to(ROOT):
        value = value.relative_to(ROOT)  # not the path of this checkout
    return "" if value in (None, "", False) else f"`{value}`"


def main() -> int:
    """Write or check the pages; return exit code 1 if --check found a difference."""
    parser = argparse.ArgumentParser(prog="python tools/reference.py", description=__doc__)
    action = parser.add_mutually_exclusive_group(required=True)
    action.add_argument("--write", action="store_true")
    action.add_argument("--check", action="store_true")
    if parser.parse_args().write:
        for name, text in pages().items():
            (FOLDER / name).write_text(text, encoding="utf-8")
        return 0
    different = [FOLDER / name for name, text in pages().items() if not _is(FOLDER / name, text)]
    for path in different:
        sys.stderr.write(f"{path.relative_to(ROOT)} is out of date: run `make references`\n")
    return 1 if different else 0


def _is(path: Path, text: str) -> bool:
    return path.exists() and path.read_text(encoding="utf-8") == text


if __name__ == "__main__":
    sys.exit(main())
