"""Runnable variants: what remains of a variant where it ends early, and without codecs."""

import pytest

from maleo_api.model import Model
from maleo_planner.planner import plan
from maleo_planner.types.problem import Feasible
from maleo_planner.types.variants import find_runnable_variant, list_runnable_variants, without_codecs
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
    assert declared, "an exit that returns nothing would show nothing here"
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
    asked = mission(modes=["Local"], objectives={"latency": {"atMost": "5ms"}})
    found = snapshot(
        profiles={"drone": profile("slow", gops=1)}, missions=[asked], net=net, links=[link("drone", "edge", "1Mbit/s")]
    )
    verdict = plan(found, "default/watch")
    assert isinstance(verdict, Feasible)
    assert verdict.plan.exit == "early"
    assert verdict.plan.partitions[-1].taken_from == tuple(net.spec.variants[0].exits[0].outputs)
