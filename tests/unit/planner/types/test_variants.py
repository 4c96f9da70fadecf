"""Runnable variants: whole, ending at an exit, and without codecs."""

import pytest

from maleo_api.model import Model
from maleo_planner.planner import plan
from maleo_planner.types.problem import Feasible
from maleo_planner.types.variants import (
    describe_unknown_variants,
    find_runnable_variant,
    list_runnable_variants,
    without_codecs,
)
from support.planner.builders import block, codec, exit_head, link, mission, model, profile, snapshot, variant


@pytest.fixture
def net() -> Model:
    first = block("b0", mop=1, cut=100)
    first["cut"]["codecs"] = [codec("half", elements=50, mop=1, accuracy=None)]
    whole = variant("fp32", [first, block("b1", mop=1000, cut=None)])
    whole["exits"] = [exit_head("early", after="b0", mop=1, accuracy=70)]
    return model(whole)


def test_exit__returns_its_own_outputs_and_ends_with_its_head(net: Model) -> None:
    whole, early = list_runnable_variants(net)
    declared = tuple(net.spec.variants[0].exits[0].outputs)
    assert declared, "an exit without outputs would prove nothing here"
    assert (whole.exit, whole.exit_outputs) == ("", ())
    assert (early.exit, early.exit_outputs) == ("early", declared)
    assert [b.name for b in early.blocks] == ["b0", "early"]
    assert find_runnable_variant(net, "fp32", "early") == early


def test_without_codecs__keeps_the_exit_and_its_outputs(net: Model) -> None:
    early = list_runnable_variants(net)[1]
    plain = without_codecs(early)
    assert early.blocks[0].cut is not None
    assert plain.blocks[0].cut is not None
    assert (early.blocks[0].cut.codecs != [], plain.blocks[0].cut.codecs) == (True, [])
    assert (plain.label, plain.exit_outputs) == (early.label, early.exit_outputs)


def test_plan_that_ends_at_an_exit__names_the_tensors_that_it_returns(net: Model) -> None:
    wanted = mission(modes=["Local"], objectives={"latency": {"atMost": "5ms"}})
    found = snapshot(
        profiles={"drone": profile("slow", gops=1)},
        missions=[wanted],
        net=net,
        links=[link("drone", "edge", "1Mbit/s")],
    )
    verdict = plan(found, "default/watch")
    assert isinstance(verdict, Feasible)
    assert verdict.plan.exit == "early"
    assert verdict.plan.partitions[-1].taken_from == tuple(net.spec.variants[0].exits[0].outputs)


def test_runnable_variants__are_each_variant_whole_and_then_at_its_exits(net: Model) -> None:
    assert [variant.label for variant in list_runnable_variants(net)] == ["fp32", "fp32:early"]


@pytest.mark.parametrize(("name", "exit_"), [("fp64", ""), ("fp32", "late")])
def test_unknown_variant__is_none(net: Model, name: str, exit_: str) -> None:
    assert find_runnable_variant(net, name, exit_) is None


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        ([], []),
        (["fp32"], []),
        (["fp23"], ["model net has no variant fp23", "available: fp32", "correct spec.model.variants"]),
        (["fp32", "tiny"], ["model net has no variant tiny", "correct spec.model.variants"]),
    ],
)
def test_unknown_variants__are_named_with_those_that_exist(net: Model, wanted: list[str], words: list[str]) -> None:
    message = describe_unknown_variants(mission(model={"name": "net", "variants": wanted}), net)
    assert bool(message) is bool(words)
    assert all(word in message for word in words), message


def test_variant_without_codecs__is_returned_unchanged(net: Model) -> None:
    plain = without_codecs(list_runnable_variants(net)[0])
    assert without_codecs(plain) is plain
