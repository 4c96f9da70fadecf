"""Bytes of stored planning problems: `maleo replay` reads those of earlier versions, and digests identify them.

A golden file is a stored problem, indented for readability; stored problems have no white space. To accept another
format: MALEO_ACCEPT=1 pytest tests/golden/test_store_format.py, then read the difference: it reads each file with
the present code and writes it again, so that a format that can no longer be read has to be converted by hand.
"""

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from maleo_planner import plan
from maleo_planner.types import serialization
from maleo_planner.types.problem import (
    Estimate,
    Fallback,
    MigrationCost,
    NodeFacts,
    Plan,
    PlannedPartition,
    PlannedTransfer,
)
from maleo_planner.types.work_budget import Budgets
from support.golden import check
from support.paths import ROOT

_FOLDER = ROOT / "tests/golden/formats/store"
_FILES = sorted(file for file in _FOLDER.glob("*.json") if not file.stem.endswith("-verdict"))
_DIGESTS = _FOLDER / "digests.txt"


_TEXTS = frozenset({"message", "source", "example", "margin"})


def _without_texts(value: Any) -> Any:
    """Return the value without human-readable texts."""
    if isinstance(value, dict):
        return {name: _without_texts(each) for name, each in value.items() if name not in _TEXTS}
    return [_without_texts(each) for each in value] if isinstance(value, list) else value


def _read(file: Path) -> bytes:
    """Return the stored bytes."""
    return msgspec.json.format(file.read_bytes(), indent=-1)


def _show(data: bytes) -> str:
    return msgspec.json.format(data, indent=1).decode() + "\n"


@pytest.mark.parametrize("file", _FILES, ids=lambda file: file.stem)
def test_golden_problem__is_read_and_written_with_the_same_bytes(file: Path) -> None:
    data = serialization.encode(*serialization.decode(_read(file)))
    check(file, _show(data))
    assert data == _read(file)


def test_digests__are_those_of_the_golden_problems() -> None:
    """A Placement records the digest of its inputs, by which the decision log and `maleo replay` find them."""
    check(_DIGESTS, "".join(f"{file.stem} {serialization.digest(_read(file))}\n" for file in _FILES))


@pytest.mark.parametrize("file", [f for f in _FILES if f.stem != "fleet"], ids=lambda file: file.stem)
def test_golden_problem__has_the_golden_verdict(file: Path) -> None:
    """The stored bytes still give the same verdict, to the last digit."""
    snapshot, key, budgets = serialization.decode(_read(file))
    verdict = plan(snapshot, key, budgets=budgets)
    data = msgspec.json.encode(verdict, enc_hook=lambda value: value.model_dump(mode="json", by_alias=True))
    check(file.with_name(f"{file.stem}-verdict.json"), _show(msgspec.json.encode(_without_texts(json.loads(data)))))


def test_problem_without_the_field_confined__shows_other_namespaces() -> None:
    body = json.loads(_read(_FILES[0]))
    del body["confined"]
    assert serialization.decode(json.dumps(body).encode()).snapshot.hide_other_namespaces is False


def test_golden_problems__contain_every_part_of_a_problem() -> None:
    """A part that no golden problem has could change its form unnoticed."""
    bodies = [json.loads(_read(file)) for file in _FILES]
    assert all(set(body) == set(bodies[0]) for body in bodies)
    empty = {name for name in bodies[0] if not any(body[name] for body in bodies)}
    assert not empty
    assert set(bodies[0]["budgets"]) == set(Budgets._fields)


@pytest.mark.parametrize(
    "kind", [Plan, PlannedPartition, PlannedTransfer, Fallback, MigrationCost, Estimate, NodeFacts]
)
def test_golden_problems__set_every_field_of_nodes_and_plans(kind: type[Any]) -> None:
    snapshots = [serialization.decode(_read(file)).snapshot for file in _FILES]
    found = [each for snapshot in snapshots for each in _list_all(kind, [*snapshot.current_plans.values()])]
    found += [node for snapshot in snapshots for node in snapshot.nodes.values() if kind is NodeFacts]
    set_fields = {field.name for each in found for field in dataclasses.fields(kind) if getattr(each, field.name)}
    assert set_fields == {field.name for field in dataclasses.fields(kind)}


def _list_all(kind: type[Any], values: list[Any]) -> Iterator[Any]:
    """Yield all instances of `kind` in these dataclasses."""
    for value in values:
        if isinstance(value, kind):
            yield value
        if dataclasses.is_dataclass(value):
            inner = [getattr(value, field.name) for field in dataclasses.fields(value)]
            yield from _list_all(kind, [*inner, *(each for item in inner if isinstance(item, tuple) for each in item)])
