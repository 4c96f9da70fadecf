"""`kubectl get` in a terminal: each column is as wide as its widest cell, with three spaces before the next one."""

import pytest

from maleo_api.columns import COLUMNS
from support.paths import ROOT

_WIDTH = {"Mission": 130, "Placement": 100, "Device": 100}
"""Columns of a terminal. A mission shows all objectives and its state, which needs more than 100."""
_PADDING = 3

# Realistic worst cells, which may stand in different rows: names of 20 characters, three nodes of 7, the longest of the
# usual reasons why a mission does not run or a revision was made.
_WORST = {
    "Mission": {
        "Name": "gate-inspection-west",
        "Ready": "False",
        "Phase": "NotServing",
        "Nodes": "drone-1>entry-1>cloud-1",
        "Accuracy": "-10.0%",
        "Latency": "~-100%",
        "Energy": "~-100%",
        "Reason": "LatencyTooTight",
        "Age": "7h59m",
    },
    "Placement": {
        "Name": "gate-inspection-west-1234",
        "Mode": "Remote",
        "Variant": "int8:exit-1",
        "Serving": "Unknown",
        "Reason": "FleetImprovement",
        "Age": "7h59m",
    },
    "Device": {
        "Name": "robot-north-1",
        "Ready": "Unknown",
        "Tier": "Device",
        "Site": "plant-b",
        "Host": "jetson-agx-orin-64gb",
        "Accelerator": "edgecortix-sakura-ii",
        "Age": "7h59m",
    },
}

# What `make demo` shows, by the command that it ends with: of several kinds kubectl prints the kind before each name.
_DEMO = {
    "Mission": {
        "Name": "mission.maleo.dev/drone-surveillance",
        "Ready": "True",
        "Phase": "Serving",
        "Nodes": "drone-1>edge-1",
        "Latency": "+50%",
        "Energy": "+40%",
        "Reason": "Serving",
        "Age": "3m",
    },
    "Placement": {
        "Name": "placement.maleo.dev/drone-surveillance-2",
        "Mode": "Split",
        "Variant": "fp32",
        "Serving": "False",
        "Reason": "FirstPlacement",
        "Age": "3m",
    },
    "Device": {
        "Name": "device.maleo.dev/drone-1",
        "Ready": "True",
        "Tier": "Device",
        "Site": "field-a",
        "Host": "raspberry-pi-5",
        "Accelerator": "sim-drone",
        "Age": "3m",
    },
}


def _width(kind: str, cells: dict[str, str]) -> int:
    shown = ["Name", *(column.name for column in COLUMNS[kind] if column.priority == 0)]
    return sum(max(len(title), len(cells.get(title, ""))) + _PADDING for title in shown) - _PADDING


@pytest.mark.parametrize("kind", _WORST)
def test_columns__fit_a_terminal_with_long_names_and_reasons(kind: str) -> None:
    assert set(_WORST[kind]) >= {column.name for column in COLUMNS[kind] if column.priority == 0}
    assert _width(kind, _WORST[kind]) <= _WIDTH[kind]


@pytest.mark.parametrize("kind", _DEMO)
def test_columns__fit_a_terminal_in_the_last_command_of_the_demo(kind: str) -> None:
    assert _width(kind, _DEMO[kind]) <= _WIDTH[kind]


def test_columns_of_missions__match_the_readme() -> None:
    """The demo's mission has no objective for accuracy: that cell is empty."""
    shown = (ROOT / "README.md").read_text(encoding="utf-8").split("$ kubectl get missions\n", 1)[1]
    header, row = shown.splitlines()[:2]
    assert header.split() == ["NAME", *(c.name.upper() for c in COLUMNS["Mission"] if c.priority == 0)]
    starts = {header.index(name) for name in header.split()}
    assert {row.index(cell) for cell in row.split()} <= starts


def test_columns__of_missions_take_ready_from_the_condition_and_the_rest_from_the_summary() -> None:
    """Ready alone would hide a mission that is displaced, below its floor, suspended or served by another model."""
    paths = {column.name: column.path for column in COLUMNS["Mission"]}
    assert paths["Ready"].endswith('(@.type=="Ready")].status')
    assert (paths["Phase"], paths["Reason"]) == (".status.phase", ".status.reason")
