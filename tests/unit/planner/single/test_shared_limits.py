"""Limits on sums over several steps: the power cap of a node, and a link that a path crosses more than once."""

from dataclasses import replace

import pytest

from maleo_api.device import Device
from maleo_planner.planner import plan
from maleo_planner.types.problem import Feasible, Snapshot
from support.planner.builders import KEY, block, link, meta, mission, model, profile, snapshot, variant

NET = model(variant("fp32", [block("a", mop=100, cut=12_500), block("b", mop=100, cut=None)]), inputs=1000)


def two_units(cap: str | None) -> Snapshot:
    """Return a node of two units, each with memory for one of two blocks: 2 W for 10 ms per request."""
    found = snapshot(
        profiles={"drone": profile("p", memory="2Mi")},
        missions=[mission(demand={"rate": "50/s"}, modes=["Local"])],
        net=NET,
    )
    spec = {
        "nodeName": "drone",
        "declared": [{"name": name, "profile": "p"} for name in ("one", "other")],
        "powerCap": cap,
    }
    return replace(found, devices={"drone": Device.model_validate({"metadata": meta("drone"), "spec": spec})})


@pytest.mark.parametrize(("cap", "is_feasible"), [(None, True), ("2W", True), ("1999mW", False), ("1W", False)])
def test_units_of_a_node__share_its_power_cap(cap: str | None, is_feasible: bool) -> None:
    """Each draws 1 W at this rate."""
    verdict = plan(two_units(cap), KEY)
    assert isinstance(verdict, Feasible) is is_feasible
    if isinstance(verdict, Feasible):
        assert {part.unit for part in verdict.plan.partitions} == {"one/npu", "other/npu"}


@pytest.mark.parametrize(("rate", "is_feasible"), [("4/s", True), ("6/s", False)])
def test_link_that_is_crossed_twice__carries_both_transfers(rate: str, is_feasible: bool) -> None:
    """One Link joins two sites. The path crosses it there and back; each transfer occupies it for 0.1 s."""
    chain = [block("a", mop=1, cut=12_500), block("b", mop=1, cut=12_500), block("c", mop=1, cut=None)]
    sites = {"drone": "field", "edge": "yard", "gate": "field"}
    between = link("drone", "edge", "4Mbit/s", between=[{"site": "field"}, {"site": "yard"}])
    found = snapshot(
        profiles={name: profile(f"p-{name}", memory="2Mi") for name in sites},
        missions=[mission(demand={"rate": rate}, modes=["Split"], objectives={"latency": {"atMost": "9s"}})],
        net=model(variant("fp32", chain), inputs=1000),
        links=[between],
    )
    verdict = plan(replace(found, nodes={n: replace(f, site=sites[n]) for n, f in found.nodes.items()}), KEY)
    assert isinstance(verdict, Feasible) is is_feasible
    if isinstance(verdict, Feasible):
        assert verdict.plan.nodes == ("drone", "edge", "gate")
        assert verdict.plan.rate.value == pytest.approx(1 / (2 * 50_040 / 5e5))
    else:
        assert verdict.blockers[0].code == "RateTooHigh"
