"""Egress rules over time: labels of nodes and rules of missions change, and nothing is sent where it must not go."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maleo_api.egress import may_receive
from maleo_api.mission import Mission, Reach
from maleo_api.model import Model
from maleo_operator.reconcilers.condition import find_condition
from maleo_operator.reconcilers.policies.trigger import check
from maleo_operator.reconcilers.scope import Telemetry
from maleo_planner.types.problem import NodeFacts, Verdict
from support.operator.builders import feasible, infeasible, mission, model, node, plan, snapshot
from support.operator.simulation import World

HERE, THERE, NOWHERE = (node("n", site=site) for site in ("a", "b", ""))


@pytest.mark.parametrize(
    ("reach", "source", "target", "want"),
    [
        ("Site", HERE, node("m", site="a"), True),
        ("Site", HERE, node("m", site="b"), False),
        ("Site", NOWHERE, node("m", site=""), False),
        ("Site", HERE, node("m", site=""), False),
        ("Site", HERE, None, False),
        ("Site", None, node("m", site="a"), False),
        ("Device", HERE, node("m", site="a"), False),
        ("Device", HERE, HERE, True),
        ("Site", NOWHERE, NOWHERE, True),
        ("Any", NOWHERE, node("m", site="b"), True),
        ("Any", None, None, True),
    ],
)
def test_may_receive__is_true_only_if_the_target_is_known_to_be_near_enough(
    reach: Reach, source: NodeFacts | None, target: NodeFacts | None, want: bool
) -> None:
    assert may_receive(reach, source, target) is want


def _split(*, spare: bool, egress: dict[str, str] | None = None) -> World:
    world = World(planner=lambda _: feasible("drone-1", "edge-1", spare=spare))
    world.mission = mission(egress=egress or {"input": "Site", "features": "Site"})
    world.settle()
    return world


def _relabel(world: World, name: str, site: str) -> None:
    world.nodes = tuple(replace(n, site=site) if n.name == name else n for n in world.nodes)


def _flows(world: World) -> set[tuple[str, str]]:
    """Return (from, to) of every address that a slot was assigned or still has loaded."""
    found = set()
    for name, slot in world.slots.items():
        revisions = [*(slot.desired.revisions if slot.desired else ()), *slot.loaded.values()]
        found |= {(world._node(name), r.next.node) for r in revisions if r.next is not None and r.next.address}
    return found


def _reasons(world: World) -> dict[str, tuple[str, str]]:
    return {c.type: (c.status, c.reason) for c in world.mission.status.conditions}


@pytest.mark.parametrize(("raw", "digest", "flows"), [(False, "a", True), (True, "a", False), (True, "b", True)])
def test_model_that_declares_a_cut_raw__stops_the_flow_of_a_placement_of_the_same_artifact(
    raw: bool, digest: str, flows: bool
) -> None:
    world = _split(spare=True, egress={"input": "Device", "features": "Any"})
    body = model(digest).to_api()
    tensors = body["spec"]["inputs"]
    blocks = body["spec"]["variants"][0]["blocks"]
    blocks[:] = [blocks[0] | {"cut": {"size": "1", "tensors": tensors, "raw": raw}}, blocks[0] | {"name": "head"}]
    world.model = Model.model_validate(body)
    world.planner = lambda _: infeasible("EgressForbidden", "no cut is left")
    world.turn()
    peers = [r.next for d in dict(world.last.slots).values() for r in d.revisions if r.next is not None]
    assert any(peer.address for peer in peers) is flows


@pytest.mark.parametrize("spare", [True, False])
@pytest.mark.parametrize("site", ["elsewhere", ""])
def test_label_that_breaks_the_rule__stops_the_flow_in_one_pass_and_moves(spare: bool, site: str) -> None:
    world = _split(spare=spare)
    assert _flows(world) == {("drone-1", "edge-1")}
    _relabel(world, "edge-1", site)
    world.planner = lambda _: feasible("drone-1", spare=spare)
    world.turn()
    assert all(r.next is None or not r.next.address for d in dict(world.last.slots).values() for r in d.revisions)
    condition = find_condition(world.mission.status.conditions, "Degraded" if spare else "Ready")
    assert condition is not None
    assert condition.reason == "EgressForbidden"
    where = "site elsewhere" if site else "no label maleo.dev/site"
    assert (
        f"spec.egress.features is Site: edge-1 ({where}) may not receive features from drone-1 (site field-a)"
        in condition.message
    )
    world.settle()
    assert _flows(world) == set()
    assert world.commits == [1, 2]
    assert world.mission.status.moves[-1].reason == "EgressViolated"
    assert _reasons(world)["Degraded"] == ("False", "AsPlanned")


def test_violation__triggers_a_plan_despite_cool_down_and_budget() -> None:
    world = _split(spare=True)
    world.mission = mission(world.mission.status.to_api(), drift={"maxMovesPerHour": 0, "coolDown": "1h"})
    seen = replace(world.scope(), planned_at=world.now)
    assert check(seen) is None
    moved = snapshot(node("drone-1"), node("edge-1", site="elsewhere"))
    assert check(replace(seen, snapshot=moved)) == "EgressViolated"


def test_violation_without_another_plan__is_served_by_the_fallback_if_there_is_one() -> None:
    world = _split(spare=True)
    _relabel(world, "edge-1", "elsewhere")
    world.planner = lambda _: infeasible("EgressForbidden", "features may not leave site field-a")
    world.settle()
    assert _flows(world) == set()
    assert world.mission.status.active is not None
    assert _reasons(world)["Ready"] == ("True", "Serving")
    assert _reasons(world)["Degraded"] == ("True", "EgressForbidden")
    assert _reasons(world)["Placed"] == ("False", "EgressForbidden")
    _relabel(world, "edge-1", "field-a")
    world.planner = lambda _: feasible("drone-1", "edge-1", spare=True)
    world.now += 60
    world.settle()
    assert _flows(world) == {("drone-1", "edge-1")}
    assert _reasons(world)["Degraded"] == ("False", "AsPlanned")


def test_violation_without_another_plan_or_fallback__stops_the_mission() -> None:
    world = _split(spare=False)
    _relabel(world, "edge-1", "elsewhere")
    world.planner = lambda _: infeasible("EgressForbidden", "features may not leave site field-a")
    world.settle()
    assert world.pods == {}
    assert world.mission.status.active is None


def test_violation__moves_to_the_closest_plan_that_obeys_the_rule() -> None:
    world = _split(spare=False)
    _relabel(world, "edge-1", "elsewhere")
    world.planner = lambda _: infeasible(closest=plan("drone-1"))
    world.settle()
    assert world.mission.status.nodes == "drone-1"


def test_pending_move__is_cancelled_when_its_target_may_no_longer_receive() -> None:
    """The serving plan obeys the rule and continues to serve."""
    world = World(planner=lambda _: feasible("drone-1"))
    world.settle()
    world.planner = lambda _: feasible("drone-1", "edge-1")
    meta = world.mission.metadata.model_copy(update={"generation": 2})
    world.mission = world.mission.model_copy(update={"metadata": meta})
    world.turn()
    _relabel(world, "edge-1", "elsewhere")
    world.planner = lambda _: infeasible("EgressForbidden", "features may not leave site field-a")
    world.settle()
    assert world.commits == [1]
    assert world.serves()
    assert find_condition(world.placements["cctv-2"].status.conditions, "Superseded") is not None


def test_unlabelled_nodes__share_no_site() -> None:
    world = _split(spare=True)
    _relabel(world, "edge-1", "")
    _relabel(world, "drone-1", "")
    world.turn()
    assert _reasons(world)["Degraded"] == ("True", "EgressForbidden")


def test_tightened_rule__stops_the_flow_although_the_mission_is_suspended() -> None:
    world = _split(spare=True, egress={"input": "Any", "features": "Any"})
    body = world.mission.to_api()
    body["spec"] |= {"suspend": True, "egress": {"input": "Device", "features": "Device"}}
    body["metadata"]["generation"] = 2
    world.mission = Mission.model_validate(body)
    world.planner = lambda _: feasible("drone-1")
    world.settle()
    assert _flows(world) == set()
    assert world.commits == [1], "suspended: nothing moves"


_SITES = st.sampled_from(["field-a", "elsewhere", ""])


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(["drone-1", "edge-1", "edge-2"]), _SITES), min_size=1, max_size=6), st.booleans()
)
def test_random_labels__never_give_a_slot_an_address_that_breaks_the_rule(
    changes: list[tuple[str, str]], spare: bool
) -> None:
    def planner(world: World) -> Verdict:
        sites = {n.name: n.site for n in world.nodes}
        near = [e for e in ("edge-1", "edge-2") if sites["drone-1"] and sites[e] == sites["drone-1"]]
        return feasible("drone-1", near[0], spare=spare) if near else feasible("drone-1", spare=spare)

    world = World(planner=planner, telemetry=Telemetry(fresh=True))
    world.settle()
    for name, site in changes:
        _relabel(world, name, site)
        for _ in range(3):
            world.turn()
            sites = {n.name: n.site for n in world.nodes}
            flows = {(n, r.next.node) for n, d in world.last.slots for r in d.revisions if r.next and r.next.address}
            assert all("" != sites["drone-1"] == sites[to] for _, to in flows)
            world.start()
            world.load()
            world.now += 1
    world.settle()
    assert all(status == "True" for status, _ in [_reasons(world)["Ready"], _reasons(world)["Placed"]])


@pytest.mark.parametrize(
    ("egress", "sites", "withheld"),
    [
        ({"input": "Device", "features": "Any"}, ("a", "a"), True),
        ({"input": "Site", "features": "Any"}, ("a", "b"), True),
        ({"input": "Site", "features": "Any"}, ("a", "a"), False),
        ({"input": "Any", "features": "Any"}, ("a", "b"), False),
    ],
)
def test_slots__know_whether_to_withhold_the_input_from_the_next_one(
    egress: dict[str, str], sites: tuple[str, str], withheld: bool
) -> None:
    world = World(planner=lambda _: feasible("drone-1", "edge-1"))
    world.mission = mission(egress=egress)
    for name, site in zip(("drone-1", "edge-1"), sites, strict=True):
        _relabel(world, name, site)
    world.turn()
    world.settle()
    stages = {node: r.stage for node, desired in world.last.slots for r in desired.revisions if r.stage is not None}
    assert {node: stage.withholds_input for node, stage in stages.items()} == {"drone-1": withheld, "edge-1": False}


@pytest.mark.parametrize(("spare", "type_"), [(True, "Degraded"), (False, "Ready")])
def test_serving_partition_that_a_slot_now_rejects__is_reported_with_its_cause(spare: bool, type_: str) -> None:
    """For example, the input may no longer cross, and this partition's output is the input in another form."""
    world = _split(spare=spare, egress={"input": "Any", "features": "Any"})
    assert _reasons(world)["Ready"][0] == "True"
    for slot in world.slots.values():
        slot.errors = ("revision 1: oci://r/m: tensor 'q' is the input in another form", "revision 2: another one")
    world.turn()
    (condition,) = [c for c in world.mission.status.conditions if c.type == type_]
    assert condition.reason == "LoadFailed"
    assert "tensor 'q' is the input in another form" in condition.message
    assert "another one" not in condition.message
