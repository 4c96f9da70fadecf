"""Explanations of plans, and relaxations of infeasible missions: complete, exact, and feasible when applied."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings

from maleo_api.mission import Mission
from maleo_api.quantities import DURATION, parse, show
from maleo_planner.explanations.relaxation import apply_changes
from maleo_planner.inventory.fleet_index import FleetIndex
from maleo_planner.joint.fleet import plan_all
from maleo_planner.planner import explain, plan
from maleo_planner.types.problem import Feasible, Infeasible, Observations, Snapshot, Verdict
from support.planner.builders import KEY, block, by_mode, link, mission, model, profile, snapshot, variant
from support.planner.strategies import NODES, random_world, random_worlds

BLOCKS = [block("a", mop=100, cut=1000), block("b", mop=100, cut=1000), block("c", mop=800, cut=None)]
SMALL = [block(b["name"], mop=25, cut=1000 if "cut" in b else None) for b in BLOCKS]
NET = model(variant("fp32", BLOCKS, accuracy="76%"), variant("int8", SMALL, precision="int8", accuracy="74%"))
FAST = [link("drone", "edge", "100Mbit/s")]


def _two(spec: dict[str, Any] | None = None, **changes: Any) -> Snapshot:
    """Return a slow drone (200 ms for the whole model) and a fast edge (20 ms)."""
    base: dict[str, Any] = {
        "profiles": {"drone": profile("slow", gops=5), "edge": profile("quick", gops=50)},
        "missions": [mission(**(spec or {}))],
        "net": model(variant("fp32", BLOCKS)),
        "links": FAST,
    }
    return snapshot(**(base | changes))


def _infeasible(found: Snapshot) -> Infeasible:
    verdict = plan(found, KEY)
    assert isinstance(verdict, Infeasible), verdict
    return verdict


def _feasible(found: Snapshot) -> Feasible:
    verdict = plan(found, KEY)
    assert isinstance(verdict, Feasible), verdict
    return verdict


def _changed(found: Snapshot, changes: dict[str, Any]) -> Snapshot:
    return replace(found, missions={**found.missions, KEY: apply_changes(found.missions[KEY], changes)})


def _relaxed(found: Snapshot) -> dict[str, dict[str, Any]]:
    return {r.objective: dict(r.changes) for r in _infeasible(found).relaxations}


def _held(found: Snapshot) -> Snapshot:
    """Return the snapshot in which the plans of the mission and of its neighbour are current."""
    held = {}
    for key in (KEY, "default/neighbour"):
        verdict = plan(found, key)
        if isinstance(verdict, Feasible):
            held[key] = verdict.plan
    return replace(found, current_plans=held)


@settings(max_examples=60, deadline=None)
@given(world=random_worlds)
def test_terms__sum_to_the_objective(world: dict[str, Any]) -> None:
    given_ = _held(random_world(world))
    verdict = plan(given_, KEY)
    closest = [verdict.closest] if isinstance(verdict, Infeasible) and verdict.closest else []
    for found in [*by_mode(given_, KEY).values(), *closest]:
        assert sum(found.terms.values()) == pytest.approx(found.objective, abs=1e-12)
        assert set(found.terms) <= {"accuracy", "latency", "energy", "uncertainty", "move"}
        for objective, margin in found.margins.items():
            assert found.terms[objective] == pytest.approx(max(-1.0, min(1.0, margin)) / 3)  # balanced weights


@settings(max_examples=60, deadline=None)
@given(world=random_worlds)
def test_classes__count_every_unit_for_every_variant_with_objective_or_code(world: dict[str, Any]) -> None:
    found = _held(random_world(world))
    rows = explain(found, KEY, plan(found, KEY)).classes
    for name in ("fp32", "int8"):
        of = [row for row in rows if row.variant == name]
        assert sum(row.count for row in of) == len(FleetIndex(found).units)
        assert {row.unit for row in of} == {f"p-{node} npu" for node in NODES}
    for row in rows:
        assert bool(row.code) is (row.objective is None)
        assert row.margin is None or row.margin < 0


@settings(max_examples=60, deadline=None)
@given(world=random_worlds)
def test_relaxations_and_alternatives__are_feasible_when_applied(world: dict[str, Any]) -> None:
    found = _held(random_world(world))
    verdict = plan(found, KEY)
    for other in explain(found, KEY, verdict).alternatives:
        for changes in other.suggested_changes:
            assert isinstance(plan(_changed(found, {**changes, "modes": [other.mode]}), KEY), Feasible)
    for relaxation in verdict.relaxations if isinstance(verdict, Infeasible) else ():
        again = plan(_changed(found, dict(relaxation.changes)), KEY)
        assert isinstance(again, Feasible)
        assert again.plan == relaxation.plan


@settings(max_examples=60, deadline=None)
@given(world=random_worlds)
def test_relaxed_latency__is_the_smallest_that_three_digits_can_express(world: dict[str, Any]) -> None:
    easy = {"energy": None, "floor": None, "rate": 1, "memory": (20, 20, 20, 20), "egress": ("Any", "Any")}
    heavy = {"mops": [400 + mop for mop in world["mops"]]}
    found = random_world(world | easy | heavy | {"latency": (1, True), "modes": {"Local", *world["modes"]}})
    changes = _relaxed(found)["latency"]
    limit = parse(DURATION, changes["objectives.latency.atMost"])
    less = show(DURATION, limit * (1 - 1e-6), rounding="down")
    assert isinstance(plan(_changed(found, {"objectives.latency.atMost": less}), KEY), Infeasible)


# ------------------------------------------------------------------------------------------------ single relaxations


def test_relaxed_energy__raises_each_limit_that_is_violated() -> None:
    energy = {"perInference": "10mJ", "power": "1W", "enforcement": "Hard"}
    found = _two({"objectives": {"energy": energy}, "modes": ["Local"], "demand": {"rate": "4/s"}})
    want = {"objectives.energy.perInference": "400mJ", "objectives.energy.power": "1.6W"}  # 200 ms at 2 W
    assert _relaxed(found)["energy"] == want


def test_relaxed_energy__is_a_soft_limit_if_power_is_unknown() -> None:
    silent = {"drone": profile("silent", gops=50, watts=None)}
    energy = {"perInference": "1J", "enforcement": "Hard"}
    found = _two({"objectives": {"energy": energy}}, profiles=silent, links=[])
    assert _relaxed(found)["energy"] == {"objectives.energy.enforcement": "Soft"}


def test_relaxed_accuracy__is_the_best_that_the_other_limits_allow() -> None:
    accuracy = {"metric": "top-1", "dataset": "d", "atLeast": "76%"}
    found = _two({"objectives": {"accuracy": accuracy, "latency": {"atMost": "100ms"}}, "modes": ["Local"]}, net=NET)
    assert _relaxed(found) == {
        "accuracy": {"objectives.accuracy.atLeast": "74%"},
        "latency": {"objectives.latency.atMost": "217ms"},
        "modes": {"modes": ["Local", "Split"]},
    }


def test_relaxed_rate__is_what_the_slowest_stage_sustains() -> None:
    found = _two({"modes": ["Local"], "objectives": {"latency": {"atMost": "1s"}}, "demand": {"rate": "6/s"}})
    assert _relaxed(found)["rate"] == {"demand.rate": "5/s"}


def test_relaxed_rate__is_what_a_power_limit_allows() -> None:
    energy = {"power": "1W", "enforcement": "Hard"}
    found = _two({"modes": ["Local"], "objectives": {"energy": energy}, "demand": {"rate": "4/s"}})
    assert _relaxed(found)["rate"] == {"demand.rate": "2.5/s"}  # 400 mJ each


def test_relaxed_egress__takes_the_fewest_steps_and_features_before_the_input() -> None:
    near = _two({"egress": {"input": "Device", "features": "Device"}})
    assert _relaxed(near)["egress"] == {"egress.features": "Any"}
    same_site = replace(near, nodes={name: replace(node, site="yard") for name, node in near.nodes.items()})
    assert _relaxed(same_site)["egress"] == {"egress.features": "Site"}


def test_relaxed_modes_and_variants__add_the_best_feasible_one() -> None:
    assert _relaxed(_two({"modes": ["Local"]}))["modes"] == {"modes": ["Local", "Split"]}
    named = {"model": {"name": "net", "variants": ["fp32"]}, "modes": ["Local"]}
    assert _relaxed(_two(named, net=NET))["model"] == {"model.variants": ["fp32", "int8"]}


def test_limits_of_the_closest_plan__are_relaxed_together_if_no_single_change_suffices() -> None:
    objectives = {
        "latency": {"atMost": "100ms"},
        "energy": {"perInference": "10mJ", "enforcement": "Hard"},
    }
    relaxed = _relaxed(_two({"objectives": objectives, "modes": ["Local"]}, links=[]))
    want = {"objectives.latency.atMost": "217ms", "objectives.energy.perInference": "400mJ"}
    assert relaxed == {"several": want}


def test_relaxed_latency__beyond_the_window_raises_the_window_too() -> None:
    slow = {"drone": profile("slow", gops=5)}
    heavy = model(variant("fp32", [block("a", mop=60_000, cut=None)]))
    assert _relaxed(_two({"demand": {"rate": "1/h"}}, profiles=slow, net=heavy, links=[]))["latency"] == {
        "objectives.latency.atMost": "13s",
        "objectives.latency.window": "26s",
    }


# ------------------------------------------------------------------------------------------------ blockers


def test_occupied_unit__names_its_holder_and_the_plan_without_it() -> None:
    one = {"drone": profile("quick", gops=50, sharing="Exclusive")}
    missions = [mission("a-safety", criticality="Safety"), mission(criticality="BestEffort")]
    blockers = _infeasible_of(plan_all(_two(profiles=one, missions=missions, links=[]))).blockers
    assert [(b.code, b.retry) for b in blockers] == [("UnitOccupied", "CannotNow")]
    assert blockers[0].message == (
        "drone acc/npu is reserved by default/a-safety (Safety); without that, Local on drone with fp32 is feasible"
    )


def _infeasible_of(verdicts: dict[str, Verdict]) -> Infeasible:
    verdict = verdicts[KEY]
    assert isinstance(verdict, Infeasible)
    return verdict


def test_preemption__is_reported_for_both_missions() -> None:
    one = {"drone": profile("quick", gops=50, sharing="Exclusive")}
    alone = _two(profiles=one, missions=[mission(criticality="BestEffort")], links=[])
    served = _feasible(alone).plan
    safety = mission("a-safety", criticality="Safety")
    both = replace(alone, missions={**alone.missions, safety.key: safety}, current_plans={KEY: served})
    taken = plan(both, safety.key)
    assert isinstance(taken, Feasible)
    assert explain(both, safety.key, taken).displaced == (KEY,)
    left = _infeasible(replace(both, current_plans={**both.current_plans, safety.key: taken.plan}))
    assert [(b.code, b.retry) for b in left.blockers] == [("Preempted", "CannotNow")]
    assert left.blockers[0].message.startswith("drone acc/npu was taken by default/a-safety (Safety)")


def test_preemption_by_another_namespace__hides_the_name_if_other_namespaces_are_hidden() -> None:
    one = {"drone": profile("quick", gops=50, sharing="Exclusive")}
    alone = _two(profiles=one, missions=[mission(criticality="BestEffort")], links=[])
    served = _feasible(alone).plan
    body = mission("secret", criticality="Safety").to_api()
    body["metadata"]["namespace"] = "victim"
    safety = Mission.model_validate(body)
    models = {**alone.models, safety.model_key: next(iter(alone.models.values()))}
    both = replace(alone, missions={**alone.missions, safety.key: safety}, models=models, current_plans={KEY: served})
    left = replace(both, current_plans={KEY: served, safety.key: replace(served, mission=safety.key)})
    reported = [repr(_infeasible(replace(left, hide_other_namespaces=confined))) for confined in (True, False)]
    assert "a mission in another namespace (Safety)" in reported[0]
    assert "victim" not in reported[0]
    assert "victim/secret (Safety)" in reported[1], "the name is shown if other namespaces are visible"


def test_cordoned_node__is_reported_as_cordoned() -> None:
    spec = {"modes": ["Remote"], "egress": {"input": "Any", "features": "Any"}}
    found = _two(spec)
    nodes = {**found.nodes, "edge": replace(found.nodes["edge"], schedulable=False)}
    blockers = _infeasible(replace(found, nodes=nodes)).blockers
    assert "node edge is cordoned; without that, Remote" in " ".join(b.message for b in blockers)


def test_throttled_unit__is_reported_before_the_limit_that_it_violates() -> None:
    hot = Observations(capacity={("drone", "acc/npu"): 0.1})
    objectives = {"latency": {"atMost": "300ms"}}
    spec = {"modes": ["Local"], "objectives": objectives, "demand": {"rate": "1/m"}}
    found = _two(spec, observations=hot)
    assert [(b.code, b.retry) for b in _infeasible(found).blockers] == [
        ("Throttled", "CannotNow"),
        ("LatencyTooTight", "CannotNow"),
    ]
    assert _infeasible(found).blockers[0].message == (
        "drone acc/npu is throttled to 10% of its speed; without that, Local on drone with fp32 is feasible"
    )


def test_node_that_is_not_ready__is_reported_if_the_mission_is_feasible_with_it() -> None:
    whole = _two({"modes": ["Remote"], "objectives": {"latency": {"atMost": "100ms"}}})
    found = replace(whole, nodes={**whole.nodes, "edge": replace(whole.nodes["edge"], ready=False)})
    blockers = _infeasible(found).blockers
    assert [(b.code, b.retry) for b in blockers] == [("NotAvailable", "CannotNow")]
    assert "node edge is not Ready; without that, Remote on drone>edge with fp32 is feasible" in blockers[0].message


def test_two_causes_that_must_both_be_resolved__are_both_reported() -> None:
    """The edge is not ready, and would be too slow if it were, because it is throttled."""
    whole = _two({"modes": ["Remote"]}, observations=Observations(capacity={("edge", "acc/npu"): 0.1}))
    found = replace(whole, nodes={**whole.nodes, "edge": replace(whole.nodes["edge"], ready=False)})
    assert [b.code for b in _infeasible(found).blockers] == ["Throttled", "NotAvailable"]


def test_limit_too_tight_for_an_empty_fleet__is_permanent() -> None:
    hot = Observations(capacity={("drone", "acc/npu"): 0.5})
    found = _two({"modes": ["Local"], "objectives": {"latency": {"atMost": "10ms"}}}, observations=hot)
    assert [(b.code, b.retry) for b in _infeasible(found).blockers] == [("LatencyTooTight", "CannotEver")]


# ------------------------------------------------------------------------------------------------ other modes


def test_alternatives__state_what_each_other_mode_lacks() -> None:
    found = _two({"objectives": {"latency": {"atMost": "100ms"}}})
    verdict = _feasible(found)
    others = {other.mode: other for other in explain(found, KEY, verdict).alternatives}
    assert verdict.plan.mode == "Split"
    assert set(others) == {"Local", "Remote"}
    assert others["Local"].suggested_changes == ({"objectives.latency.atMost": "217ms"},)
    assert [b.code for b in others["Local"].blockers] == ["LatencyTooTight"]
    remote = others["Remote"]
    assert remote.blockers == ()
    assert remote.plan is not None
    assert sum(remote.term_differences.values()) == pytest.approx(verdict.plan.objective - remote.plan.objective)


def test_alternative_of_a_mode_that_is_not_allowed__is_marked_as_such() -> None:
    found = _two({"modes": ["Remote"]})
    others = {other.mode: other for other in explain(found, KEY, _feasible(found)).alternatives}
    assert [b.code for b in others["Split"].blockers] == ["ModeNotAllowed"]
    assert others["Split"].suggested_changes == ({"modes": ["Remote", "Split"]},)


def test_plan_that_yields_to_its_tier__names_the_better_plan_without_the_others() -> None:
    """The verdict is the plan that the tier leaves; the explanation names the better one on the fast edge."""
    found = _two({"objectives": {"latency": {"atMost": "900ms"}}})
    first, yielded = plan(found, KEY), plan(_with_modes(found, "Local"), KEY)
    assert isinstance(first, Feasible)
    assert isinstance(yielded, Feasible)
    assert first.plan.mode != "Local"
    better = explain(found, KEY, yielded).better
    assert better is not None
    assert (better.mode, better.objective) == (first.plan.mode, first.plan.objective)
    assert explain(found, KEY, first).better is None


def _with_modes(world: Snapshot, *modes: str) -> Snapshot:
    old = world.missions[KEY]
    changed = old.model_copy(update={"spec": old.spec.model_copy(update={"modes": list(modes)})})
    return replace(world, missions={**world.missions, KEY: changed})
