"""Classes of equivalent units: the units of a class differ in nothing that matters to a plan."""

from dataclasses import replace

import pytest

from maleo_api.device import Device, Link
from maleo_api.meta import Basis, Tier
from maleo_planner.inventory.fleet_index import FleetIndex
from maleo_planner.planner import plan
from maleo_planner.types.problem import Estimate, Feasible, NodeFacts, Observations, Snapshot
from support.planner.builders import DIGEST, block, meta, mission, model, profile, snapshot, variant


def _hall(count: int, *, second_on: str = "") -> Snapshot:
    """Return a drone and equal edge nodes without links among them; `second_on` has a second accelerator."""
    names = [f"n{i}" for i in range(1, count + 1)]
    nodes = {"drone": NodeFacts("drone", "field", Tier.DEVICE, ready=True, schedulable=True, labels={})}
    nodes |= {n: NodeFacts(n, "hall", Tier.EDGE, ready=True, schedulable=True, labels={}) for n in names}
    parts = [block("a", mop=50, cut=1000, parameters="8Mi"), block("b", mop=50, cut=None, parameters="8Mi")]
    found = snapshot(profiles={}, missions=[mission()], net=model(variant("fp32", parts), inputs=100))
    between = [{"site": "field"}, {"site": "hall"}]
    uplink = {"metadata": meta("up"), "spec": {"between": between, "bandwidth": "100Mbit/s", "roundTrip": "1ms"}}
    return replace(
        found,
        nodes=nodes,
        devices={n: _device(n, [("acc", "ten")] + [("second", "ten")] * (n == second_on)) for n in names}
        | {"drone": _device("drone", [("acc", "tiny")])},
        profiles={
            "tiny": profile("tiny", gops=1, memory="1Mi"),
            "ten": profile("ten", gops=50, memory="10Mi"),
        },
        links={"up": Link.model_validate(uplink)},
    )


def _device(node: str, accelerators: list[tuple[str, str]]) -> Device:
    declared = [{"name": name, "profile": kind} for name, kind in accelerators]
    return Device.model_validate({"metadata": meta(node), "spec": {"nodeName": node, "declared": declared}})


@pytest.mark.parametrize("count", [3, 5, 9])
def test_node_with_two_accelerators__is_found_among_any_number_of_those_with_one(count: int) -> None:
    verdict = plan(_hall(count, second_on=f"n{count}"), "default/watch")
    assert isinstance(verdict, Feasible)
    assert [(p.node, p.unit) for p in verdict.plan.partitions] == [
        (f"n{count}", "acc/npu"),
        (f"n{count}", "second/npu"),
    ]


def test_nodes_with_equal_corrections__stay_in_one_class() -> None:
    found = _hall(6)
    slow, slower = (Estimate(factor, 0.0, Basis.CALIBRATED, "seen") for factor in (1.1, 1.3))
    learnt = {(DIGEST, n, "acc/npu"): f for n, f in (("n1", slow), ("n2", slow), ("n3", slower))}
    index = FleetIndex(found)
    index.update(replace(found, observations=Observations(correction=learnt)))
    alike = sorted([u.node.name for u in each.members] for each in index.classes)
    assert alike == [["drone"], ["n1", "n2"], ["n3"], ["n4", "n5", "n6"]]
    index.update(found)
    assert sorted(len(each.members) for each in index.classes) == [1, 6]


def test_link_of_a_site_to_itself__connects_each_pair_of_its_nodes() -> None:
    """Each part of the model needs its own accelerator; without the network of the hall no plan reaches two."""
    found = _hall(3)
    inside = {"between": [{"site": "hall"}, {"site": "hall"}], "bandwidth": "1Gbit/s", "roundTrip": "1ms"}
    joined = replace(found, links=found.links | {"lan": Link.model_validate({"metadata": meta("lan"), "spec": inside})})
    assert not isinstance(plan(found, "default/watch"), Feasible)
    verdict = plan(joined, "default/watch")
    assert isinstance(verdict, Feasible)
    assert [p.node for p in verdict.plan.partitions] == ["n1", "n2"]
    index = FleetIndex(joined)
    assert {index.segment_between("n1", "n2"), index.segment_between("n2", "n3")} == {
        ("lan", "n1", "n2"),
        ("lan", "n2", "n3"),
    }


def _measured(pairs: dict[tuple[str, str], float]) -> Observations:
    return Observations(bandwidth={pair: Estimate(rate, 0.0, Basis.MEASURED) for pair, rate in pairs.items()})


def test_link_measured_by_several_nodes__has_their_median_except_for_the_deviating_one() -> None:
    found = _hall(6)
    pairs = {("drone", "n1"): 1e6, ("drone", "n2"): 1.1e6, ("drone", "n3"): 0.9e6, ("drone", "n4"): 0.2e6}
    index = FleetIndex(replace(found, observations=_measured(pairs)))
    rates = {n: index.link(found.nodes["drone"], found.nodes[n]).bandwidth.value for n in found.nodes if n != "drone"}
    assert rates == {"n1": 0.9e6, "n2": 0.9e6, "n3": 0.9e6, "n4": 0.2e6, "n5": 0.9e6, "n6": 0.9e6}
    assert sorted([u.node.name for u in c.members] for c in index.classes) == [
        ["drone"],
        ["n1", "n2", "n3", "n5", "n6"],
        ["n4"],
    ]


def test_measurement_inside_a_site__applies_to_its_pair_only() -> None:
    found = _hall(6)
    inside = {"between": [{"site": "hall"}, {"site": "hall"}], "bandwidth": "8Mbit/s", "roundTrip": "1ms"}
    found = replace(found, links=found.links | {"lan": Link.model_validate({"metadata": meta("lan"), "spec": inside})})
    index = FleetIndex(replace(found, observations=_measured({("n1", "n2"): 1e4, ("n3", "n4"): 0.9e6})))
    between = {
        pair: index.link(*(found.nodes[n] for n in pair)).bandwidth.value for pair in (("n1", "n2"), ("n5", "n6"))
    }
    assert between == {("n1", "n2"): 1e4, ("n5", "n6"): 1e6}
    assert sorted(len(c.members) for c in index.classes) == [1, 1, 1, 4]
