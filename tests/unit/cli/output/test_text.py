"""Figures and plans as text for users."""

import json
from dataclasses import replace
from math import inf

import pytest

from maleo_api.meta import Basis
from maleo_api.model import Codec
from maleo_api.spelling import suggest
from maleo_cli.output.text import (
    find_multi_unit_nodes,
    format_margin,
    format_parts,
    format_plan,
    format_plan_margin,
    format_rate,
)
from maleo_planner.types.problem import Estimate, Plan
from support.planner.builders import block, by_mode, link, mission, model, profile, snapshot, variant


@pytest.mark.parametrize(
    ("margin", "expected"),
    [
        (0.4923, "+49%"),
        (-0.16, "-16%"),
        (-0.004, "-0.4%"),
        (0.0006, "+0.06%"),
        (-1e-9, "0%"),
        (1.0, "+100%"),
        (-9.99, "-999%"),
        (-10.53, "<-999%"),
        (12.0, ">+999%"),
    ],
)
def test_margin__has_a_significant_digit(margin: float, expected: str) -> None:
    assert format_margin(margin) == expected


def test_margin_of_accuracy__is_in_points_as_in_the_status() -> None:
    """In plans it is a share of the range above the floor, so that the best possible margin is one."""
    plan = _split()
    found = replace(plan, accuracy=Estimate(0.76, 0.0, Basis.MEASURED), margins=plan.margins | {"accuracy": 0.04})
    assert format_plan_margin("accuracy", found, 0.75) == "+1.0%"
    assert format_plan_margin("accuracy", found, inf) == ""
    assert format_plan_margin("accuracy", plan, 0.75) == "", "accuracy is not an objective"


@pytest.mark.parametrize(
    ("rate", "expected"), [(0.5, "30/m"), (50.62, "50.6/s"), (1000, "1k/s"), (151262.4, "151k/s"), (3.2e10, "32G/s")]
)
def test_rate__has_three_significant_digits(rate: float, expected: str) -> None:
    assert format_rate(rate) == expected


@pytest.mark.parametrize(
    ("name", "known", "expected"),
    [
        ("Devise", ["Device", "Edge", "Cloud"], "did you mean Device?"),
        ("hailo-9", ["hailo-8", "hailo-15", "jetson"], "did you mean hailo-8 or hailo-15?"),
        ("moon", ["edge", "gate"], "use one of edge, gate"),
        ("moon", [f"edge-{i}" for i in range(17)], "none of the 17 names is similar"),
        ("moon", [], ""),
    ],
)
def test_suggest__lists_similar_or_available_names(name: str, known: list[str], expected: str) -> None:
    assert suggest(name, known) == expected


def _split() -> Plan:
    net = model(variant("fp32", [block("b0", mop=1, cut=100), block("b1", mop=1000, cut=None)]))
    pair = {"drone": profile("slow", gops=1), "edge": profile("fast", gops=100)}
    asked = mission(modes=["Split"], objectives={"latency": {"atMost": "10s"}})
    world = snapshot(profiles=pair, missions=[asked], net=net, links=[link("drone", "edge", "10Mbit/s")])
    return by_mode(world, "default/watch")["Split"]


def test_plan__shows_units_exit_and_codec_where_they_matter() -> None:
    plain = _split()
    assert format_parts(plain, find_multi_unit_nodes([plain])) == "drone [0..0] > edge [1..1]"
    first, second = plain.partitions
    codec = {"name": "fp16", "size": "200", "encode": "1MOP", "decode": "1MOP"}
    codec |= {"tensors": [{"name": "t", "datatype": "FP16", "shape": [1, 100]}]}
    artifact = plain.artifact.to_api()
    coded = replace(
        second, codec=Codec.model_validate_json(json.dumps(codec | {"encoder": artifact, "decoder": artifact}))
    )
    assert format_parts(replace(plain, partitions=(first, coded)), ()) == "drone [0..0] -fp16-> edge [1..1]"
    here = replace(plain, partitions=(first, replace(second, node="drone", unit="host/cpu")), exit="early")
    assert format_parts(here, find_multi_unit_nodes([here])) == "drone acc/npu [0..0] > drone host/cpu [1..1]"
    assert format_plan(here, ()) == "Split fp32: drone [0..0] > drone [1..1], exit early"
    other = replace(plain, partitions=(first, replace(second, unit="host/cpu")))
    assert find_multi_unit_nodes([plain, other]) == {"edge"}
