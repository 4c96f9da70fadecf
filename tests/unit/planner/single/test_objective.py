"""Latency, energy or rate in place of the margins: on fleets too large to look at every unit, and for tiers."""

from dataclasses import replace
from typing import Any

import pytest

from maleo_api.model import Model
from maleo_planner.joint.fleet import plan_fleet
from maleo_planner.planner import plan
from maleo_planner.single.objective import Aim
from maleo_planner.types.problem import Feasible, Snapshot
from support.planner.builders import block, link, meta, mission, model, profile, snapshot, variant

_NODES = [f"n{i:02}" for i in range(80)]


def _wide() -> Snapshot:
    """Return eighty different nodes: the faster, the more power. By margins those of least energy are best."""
    profiles: dict[str, Any] = {"drone": profile("p-drone", gops=1, memory="1Mi", watts="1W")}
    for i, name in enumerate(_NODES):
        profiles[name] = profile(f"p-{name}", gops=20 + i, memory="64Mi", watts=f"{1 + i * i}W")
    energy = {"perInference": "2J", "enforcement": "Soft"}
    wanted = mission(
        objectives={"latency": {"atMost": "100ms"}, "energy": energy}, preference={"preset": "energy-first"}
    )
    chain = [block("a", mop=100, cut=10, parameters="1Mi"), block("b", mop=100, cut=None)]
    net, links = model(variant("fp32", chain), inputs=100), [link("drone", name, "1Gbit/s") for name in _NODES]
    return snapshot(profiles=profiles, missions=[wanted], net=net, links=links)


@pytest.mark.parametrize("aim", ["margins", "latency", "energy", "rate"])
def test_aim_on_a_wide_fleet__finds_the_plan_of_the_best_pair_of_nodes(aim: Aim) -> None:
    world = _wide()
    alone = []
    for name in _NODES:
        verdict = plan(replace(world, devices={k: world.devices[k] for k in ("drone", name)}), "default/watch", aim=aim)
        alone.append(verdict.plan.objective if isinstance(verdict, Feasible) else float("-inf"))
    verdict = plan(world, "default/watch", aim=aim)
    assert isinstance(verdict, Feasible)
    assert verdict.plan.objective == pytest.approx(max(alone), abs=1e-9)
    assert verdict.bound >= max(alone) - 1e-9


def test_bound_of_a_tier__is_not_below_what_another_choice_reaches() -> None:
    """The first mission takes the fast unit, with which the other one would have gained more."""
    large = variant("fp32", [block("all", mop=10_000, cut=None)])
    digest = "sha256:" + "b" * 64
    large["artifacts"][0] |= {"uri": f"oci://registry/large@{digest}", "digest": digest}
    small = model(variant("fp32", [block("all", mop=100, cut=None)]), inputs=10)
    heavy = Model.model_validate(model(large, inputs=10).to_api() | {"metadata": meta("large", "default")})
    units = {n: profile(f"p-{n}", gops=g, memory="64Mi", sharing="Exclusive") for n, g in (("x", 9), ("f", 50))}
    spec = {"demand": {"rate": "1/h"}, "input": {"node": "x"}}
    missions = [
        mission("small", **spec, objectives={"latency": {"atMost": "20ms", "window": "600s"}}),
        mission("large", **spec, model={"name": "large"}, objectives={"latency": {"atMost": "500s", "window": "600s"}}),
    ]
    found = snapshot(profiles=units, missions=missions, net=small, links=[link("x", "f", "1Gbit/s", "0ms")])
    found = replace(found, models=found.models | {"default/large": heavy})
    first = plan(replace(found, missions={"default/large": missions[1]}), "default/large", aim="latency")
    assert isinstance(first, Feasible)
    held = {"default/large": replace(first.plan, fallback=None)}
    second = plan(replace(found, current_plans=held), "default/small", aim="latency")
    assert isinstance(second, Feasible)
    (tier,) = plan_fleet(found, aim="latency").tiers.values()
    assert tier.value < 20 + first.plan.objective + second.plan.objective <= tier.bound


@pytest.mark.parametrize("aim", ["margins", "latency", "energy", "rate"])
def test_model_that_needs_five_partitions__is_planned_in_five(aim: Aim) -> None:
    chain = [block(f"b{i}", mop=50, cut=1000 if i < 4 else None, parameters="8Mi") for i in range(5)]
    names = ["drone", "a", "b", "c", "d"]
    links = [link(x, y, "100Mbit/s") for i, x in enumerate(names) for y in names[i + 1 :]]
    profiles = {name: profile(f"p-{name}", gops=50, memory="10Mi") for name in names}
    found = snapshot(profiles=profiles, missions=[mission()], net=model(variant("fp32", chain)), links=links)
    verdict = plan(found, "default/watch", aim=aim)
    assert isinstance(verdict, Feasible)
    assert len(verdict.plan.partitions) == 5
    fewer = replace(found, devices={k: d for k, d in found.devices.items() if k != "d"})
    infeasible = plan(fewer, "default/watch", aim=aim)
    assert not isinstance(infeasible, Feasible)
    assert [b.code for b in infeasible.blockers] == ["MemoryTooSmall"]
