"""Reasons of conditions: each one is described, used, and written through the enum."""

import ast

import pytest

from maleo_api.reasons import ConditionReason
from support.paths import ROOT

_PACKAGES = ("operator/maleo_operator", "node_agent/maleo_agent")
_SOURCES = sorted(path for package in _PACKAGES for path in (ROOT / package).rglob("*.py"))


@pytest.mark.parametrize("reason", ConditionReason)
def test_reason__is_described_by_one_sentence(reason: ConditionReason) -> None:
    assert reason.description.endswith(".")
    assert "\n" not in reason.description
    assert ConditionReason(reason.value) is reason


def test_reasons__are_all_used() -> None:
    text = "\n".join(path.read_text() for path in _SOURCES)
    assert [reason.name for reason in ConditionReason if f"ConditionReason.{reason.name}" not in text] == []


def test_conditions__have_no_reason_outside_the_enum() -> None:
    literals = [
        f"{path.name}:{call.lineno}"
        for path in _SOURCES
        for call in ast.walk(ast.parse(path.read_text()))
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "make_condition"
        if isinstance(call.args[2], ast.Constant)
    ]
    assert literals == []
