"""The rules of planning, one small world each: exact codes and messages, because people read them."""

from dataclasses import replace

import pytest

from maleo_api.meta import Basis
from maleo_api.mission import Demand, MissionSpec
from maleo_planner.joint.fleet import plan_all
from maleo_planner.planner import plan
from maleo_planner.types.problem import Estimate, Feasible, Infeasible, Observations, Snapshot, Verdict
from support.planner.builders import block, link, mission, model, profile, snapshot, variant

BLOCKS = [block("a", mop=100, cut=1000), block("b", mop=100, cut=1000), block("c", mop=800, cut=None)]
NET = model(variant("fp32", BLOCKS))
FAST = [link("drone", "edge", "100Mbit/s")]


def _plan(found: Snapshot) -> Verdict:
    return plan(found, "default/watch")


def _two(spec: dict[str, object] | None = None, **changes: object) -> Snapshot:
    """Return a slow drone (200 ms for the whole model) and a fast edge (20 ms)."""
    base: dict[str, object] = {
        "profiles": {"drone": profile("slow", gops=5), "edge": profile("quick", gops=50)},
        "missions": [mission(**(spec or {}))],
        "net": NET,
        "links": FAST,
    }
    return snapshot(**(base | changes))  # type: ignore[arg-type]


def _feasible(verdict: Verdict) -> Feasible:
    assert isinstance(verdict, Feasible), verdict
    return verdict


def _infeasible(verdict: Verdict) -> Infeasible:
    assert isinstance(verdict, Infeasible), verdict
    return verdict


def test_heavy_model_with_small_input__is_placed_on_the_edge() -> None:
    chosen = _feasible(_plan(_two(net=model(variant("fp32", BLOCKS), inputs=100)))).plan
    assert (chosen.mode, [p.node for p in chosen.partitions]) == ("Remote", ["edge"])
    assert (chosen.entry_node, chosen.entry_unit) == ("drone", "acc/npu")


def test_raw_input_that_must_stay__keeps_the_first_block_on_its_node() -> None:
    chosen = _feasible(_plan(_two({"egress": {"input": "Device", "features": "Any"}}))).plan
    assert chosen.mode == "Split"
    assert [(p.node, p.first, p.last) for p in chosen.partitions] == [("drone", 0, 0), ("edge", 1, 2)]
    assert [t.name for t in chosen.partitions[0].outputs] == ["a-out"]
    assert chosen.partitions[1].inputs == chosen.partitions[0].outputs


@pytest.mark.parametrize(
    ("cut", "parameters", "want"),
    [
        ({"raw": True}, "1Mi", 1),  # the input in another form, for any weights of the block
        ({"raw": False}, "0", 0),
        ({}, "12", 1),  # undeclared: scales and zero points alone do not mix elements
        ({}, "1Mi", 0),
    ],
)
def test_raw_input_that_must_stay__does_not_leave_in_another_form(
    cut: dict[str, bool], parameters: str, want: int
) -> None:
    first = block("a", mop=1, cut=100, parameters=parameters)
    first["cut"] |= cut
    net = model(variant("fp32", [first, block("b", mop=1, cut=100), block("c", mop=2000, cut=None)]))
    split = {"egress": {"input": "Device", "features": "Any"}, "modes": ["Split"]}
    chosen = _feasible(_plan(_two(split | {"objectives": {"latency": {"atMost": "900ms"}}}, net=net))).plan
    assert chosen.partitions[0].last == want
    inside = split | {"egress": {"input": "Any", "features": "Any"}, "objectives": {"latency": {"atMost": "900ms"}}}
    assert _feasible(_plan(_two(inside, net=net))).plan.partitions[0].last == 0


@pytest.mark.parametrize(("shape", "size", "want"), [([1, -1, 768], "3Mi", "Remote"), ([1, 768], "3072", "Split")])
def test_size_of_a_cut__is_the_declared_one_if_a_dimension_is_dynamic(shape: list[int], size: str, want: str) -> None:
    """The input of 400 kB is cheaper to send than a sequence of 3 MiB, and more expensive than one element of it."""
    first = block("a", mop=10, cut=768)
    first["cut"] |= {"size": size, "tensors": [{"name": "h", "datatype": "FP32", "shape": shape}]}
    net = model(variant("fp32", [first, block("b", mop=900, cut=None)]))
    chosen = _feasible(_plan(_two({"objectives": {"latency": {"atMost": "2s"}}}, net=net))).plan
    assert chosen.mode == want
    split = {"modes": ["Split"], "objectives": {"latency": {"atMost": "2s"}}}
    only = _feasible(_plan(_two(split, net=net))).plan
    assert only.transfers[0].size == (3 * 2**20 if -1 in shape else 3072)


def test_features_that_must_stay__do_not_restrict_raw_cuts() -> None:
    """Only `egress.input` applies to a raw cut, and only `egress.features` to any other."""
    chain = [block("a", mop=1, cut=100), block("b", mop=1, cut=100), block("c", mop=2000, cut=None)]
    chain[1]["cut"]["raw"], chain[0]["cut"]["raw"] = True, False
    spec = {"egress": {"input": "Any", "features": "Device"}, "modes": ["Split"]}
    spec |= {"objectives": {"latency": {"atMost": "900ms"}}}
    chosen = _feasible(_plan(_two(spec, net=model(variant("fp32", chain))))).plan
    assert [(p.node, p.first, p.last) for p in chosen.partitions] == [("drone", 0, 1), ("edge", 2, 2)]


def test_split_plan__has_a_fallback_on_the_unit_of_the_entry() -> None:
    chosen = _feasible(_plan(_two({"egress": {"input": "Device", "features": "Any"}}))).plan
    assert chosen.fallback is not None
    spare = chosen.fallback.partition
    assert (spare.node, spare.unit, spare.first, spare.last) == ("drone", "acc/npu", 0, 2)


def test_mission_without_egress__has_a_local_closest_plan_and_relaxations() -> None:
    verdict = _infeasible(_plan(_two({"egress": {"input": "Device", "features": "Device"}})))
    assert [b.code for b in verdict.blockers] == ["LatencyTooTight"]
    assert verdict.blockers[0].message == (
        "closest infeasible plan: Local on drone with fp32: latency 216ms exceeds the limit 100ms by 116ms"
    )
    assert [(r.objective, r.change) for r in verdict.relaxations] == [
        ("latency", "objectives.latency.atMost: 217ms"),
        ("egress", "egress.features: Any"),
    ]
    assert verdict.closest is not None
    assert verdict.closest.mode == "Local"


def test_missing_link__is_reported() -> None:
    verdict = _infeasible(_plan(_two({"modes": ["Split", "Remote"]}, links=[])))
    assert verdict.blockers[0].code == "NoLink"


def test_too_little_memory__is_reported() -> None:
    tiny = {"drone": profile("slow", gops=5, memory="1Mi")}
    verdict = _infeasible(_plan(snapshot(profiles=tiny, missions=[mission()], net=NET)))
    assert verdict.blockers[0].code == "MemoryTooSmall"
    assert verdict.closest is None


def test_unit_of_undeclared_memory__is_combined_with_one_of_too_little_memory() -> None:
    """The input stays on the drone, which has memory for the first block only."""
    silent = profile("silent", gops=50)
    unit = silent.spec.compute_units[0].model_copy(update={"memory": []})
    silent = silent.model_copy(update={"spec": silent.spec.model_copy(update={"compute_units": [unit]})})
    spec = {"egress": {"input": "Device", "features": "Any"}}
    profiles = {"drone": profile("slow", gops=5, memory="2Mi"), "edge": silent}
    late = spec | {"objectives": {"latency": {"atMost": "1ms"}}}
    for chosen in (
        _feasible(_plan(_two(spec, profiles=profiles))).plan,
        _infeasible(_plan(_two(late, profiles=profiles))).closest,
    ):
        assert chosen is not None
        assert [(p.node, p.first, p.last) for p in chosen.partitions] == [("drone", 0, 0), ("edge", 1, 2)]


@pytest.mark.parametrize(
    ("spec", "code", "words"),
    [
        ({"model": {"name": "other"}}, "ModelMissing", "Model other not found in namespace default"),
        ({"input": {"node": "moon"}}, "NoInput", "node moon"),
        ({"model": {"name": "net", "variants": ["int4"]}}, "VariantMissing", "model net has no variant int4 ("),
    ],
)
def test_missing_reference__is_waited_for_and_named(spec: dict[str, object], code: str, words: str) -> None:
    verdict = _infeasible(_plan(_two(spec)))
    assert (verdict.blockers[0].code, verdict.blockers[0].retry) == (code, "Waiting")
    assert words in verdict.blockers[0].message


def test_unknown_power__satisfies_no_hard_limit_and_never_beats_a_known_one() -> None:
    silent = {"drone": profile("silent", gops=50, watts=None), "edge": profile("quick", gops=50)}
    energy = {"objectives": {"energy": {"perInference": "1J", "enforcement": "Hard"}}, "modes": ["Local"]}
    verdict = _infeasible(_plan(snapshot(profiles=silent, missions=[mission(**energy)], net=NET, links=FAST)))
    assert verdict.blockers[0].code == "EnergyTooTight"
    assert "an unknown value satisfies no Hard limit" in verdict.blockers[0].message
    soft = {"objectives": {"energy": {"perInference": "1J", "enforcement": "Soft"}}}
    chosen = _feasible(_plan(snapshot(profiles=silent, missions=[mission(**soft)], net=NET, links=FAST))).plan
    assert [p.node for p in chosen.partitions] == ["edge"]


@pytest.mark.parametrize(("floor", "want"), [("75%", "fp32"), ("70%", "int8")])
def test_accuracy_floor__decides_the_variant(floor: str, want: str) -> None:
    """The smaller variant is four times faster, and chosen only if its accuracy is allowed."""
    small = [block(b["name"], mop=25, cut=1000 if "cut" in b else None) for b in BLOCKS]
    net = model(variant("fp32", BLOCKS, accuracy="76%"), variant("int8", small, precision="int8", accuracy="74%"))
    objectives = {"accuracy": {"metric": "top-1", "dataset": "d", "atLeast": floor}, "latency": {"atMost": "300ms"}}
    spec = {"objectives": objectives, "preference": {"preset": "latency-first"}, "modes": ["Local"]}
    assert _feasible(_plan(_two(spec, net=net))).plan.variant == want


def test_accuracy_far_below_a_soft_floor__counts_no_less_than_unknown() -> None:
    """(70 - 90) / 10 would be -2; margins are limited to -1, so an unknown figure is never better than a known one."""
    net = model(variant("fp32", BLOCKS), variant("int8", BLOCKS, precision="int8", accuracy="70%"))
    floor = {"metric": "top-1", "dataset": "d", "atLeast": "90%", "enforcement": "Soft"}
    spec = {"objectives": {"accuracy": floor}, "preference": {"preset": "accuracy-first"}, "modes": ["Local"]}

    def objective(name: str) -> float:
        return _feasible(_plan(_two(spec | {"model": {"name": "net", "variants": [name]}}, net=net))).plan.objective

    assert objective("int8") == objective("fp32") == pytest.approx(-0.6)


def test_bound__is_of_plans_that_keep_the_limits() -> None:
    """The edge alone would be better if its energy were allowed, but infeasible plans do not raise the bound."""
    spec = {"objectives": {"latency": {"atMost": "1s"}, "energy": {"perInference": "500mJ", "enforcement": "Hard"}}}
    profiles = {"drone": profile("slow", gops=5, watts="2W"), "edge": profile("quick", gops=50, watts="40W")}
    only_latency = {"preference": {"weights": {"accuracy": 0, "latency": 1, "energy": 0}}}
    verdict = _feasible(_plan(_two(spec | only_latency, profiles=profiles)))
    assert verdict.plan.mode == "Local"
    assert verdict.bound == pytest.approx(verdict.plan.objective)


def test_slow_measured_link__makes_the_plan_local() -> None:
    spec = {"egress": {"input": "Device", "features": "Any"}, "objectives": {"latency": {"atMost": "250ms"}}}
    assert _feasible(_plan(_two(spec))).plan.mode == "Split"
    slow = Observations(bandwidth={("drone", "edge"): Estimate(20_000.0, 1000.0, Basis.MEASURED)})
    assert _feasible(_plan(_two(spec, observations=slow))).plan.mode == "Local"


def test_throttled_unit__takes_longer_by_its_capacity() -> None:
    spec = {"modes": ["Local"], "objectives": {"latency": {"atMost": "1s"}}}
    cool = _feasible(_plan(_two(spec))).plan.latency_mean.value
    hot = Observations(capacity={("drone", "acc/npu"): 0.5})
    throttled = _feasible(_plan(_two(spec, observations=hot))).plan
    assert throttled.latency_mean.value == pytest.approx(2 * cool)
    assert throttled.partitions[0].nominal == pytest.approx(cool)  # the pace of a simulated slot


def test_rate_beyond_the_slowest_step__is_rejected() -> None:
    verdict = _infeasible(
        _plan(_two({"modes": ["Local"], "objectives": {"latency": {"atMost": "1s"}}, "demand": {"rate": "6/s"}}))
    )
    assert verdict.blockers[0].code == "RateTooHigh"
    assert "sustainable rate 5/s is below the demanded 6/s" in verdict.blockers[0].message


def test_power_cap_of_one_node__leaves_units_of_unknown_power_elsewhere_alone() -> None:
    """A warning about the difference of two infinities would fail this test."""
    quick = _two(profiles={"drone": profile("slow", gops=5), "edge": profile("silent", gops=50, watts=None)})
    found = replace(_capped(quick, "drone", "1W"), models={"default/net": _SMALL})
    assert _feasible(_plan(found)).plan.nodes == ("drone", "edge")


_SMALL = model(variant("fp32", BLOCKS), inputs=100)


def _capped(found: Snapshot, node: str, cap: str) -> Snapshot:
    device = found.devices[node]
    spec = device.spec.model_copy(update={"power_cap": cap})
    return replace(found, devices=found.devices | {node: device.model_copy(update={"spec": spec})})


def test_two_units_of_a_capped_node__are_not_used_together_if_the_cap_allows_one() -> None:
    """Each part takes 4 ms at 10 W, ten times a second: 0.4 W. Both together would be best, else the edge is used."""
    profiles = {
        "drone": profile("quick", gops=50, memory="2Mi", watts="10W"),
        "edge": profile("expensive", watts="40W"),
    }
    halves = [block("a", mop=200, cut=1000), block("b", mop=200, cut=None)]
    spec = {"objectives": {"latency": {"atMost": "1s"}}, "demand": {"rate": "10/s"}, "modes": ["Local", "Remote"]}
    found = _two(spec, profiles=profiles, net=model(variant("fp32", halves), inputs=100))
    drone = found.devices["drone"].spec
    spare = drone.declared[0].model_copy(update={"name": "spare"})
    two = found.devices["drone"].model_copy(update={"spec": drone.model_copy(update={"declared": [*drone.declared, spare]})})  # fmt: skip  # noqa: E501
    found = replace(found, devices=found.devices | {"drone": two})
    assert _feasible(_plan(_capped(found, "drone", "0.9W"))).plan.mode == "Local"
    assert _feasible(_plan(_capped(found, "drone", "0.5W"))).plan.nodes == ("drone", "edge")
    assert _infeasible(_plan(replace(_capped(found, "drone", "0.5W"), links={}))).closest is None


def test_link_that_a_path_crosses_twice__carries_both_transfers() -> None:
    """Each crossing takes 0.6 of the link between the sites. There and back would be best, but exceeds the link."""
    spec = {
        "objectives": {"latency": {"atMost": "2s"}, "energy": {"perInference": "9J", "enforcement": "Hard"}},
        "preference": {"preset": "energy-first"},
        "demand": {"rate": "10/s"},
        "modes": ["Split"],
    }
    profiles = {
        "drone": profile("small", gops=50, memory="2Mi"),
        "edge": profile("small", gops=50, memory="2Mi"),
        "near": profile("large", gops=50),
        "yonder": profile("expensive", memory="2Mi", watts="40W"),
    }
    chain = [block(b["name"], mop=100, cut=1865 if "cut" in b else None) for b in BLOCKS]
    sites = {"between": [{"site": "a"}, {"site": "b"}]}
    links = [link("a", "b", "1Mbit/s", **sites), link("edge", "yonder", "100Mbit/s")]
    found = _two(spec, profiles=profiles, net=model(variant("fp32", chain)), links=links)
    found = replace(
        found, nodes={n: replace(node, site="ab"[n in {"edge", "yonder"}]) for n, node in found.nodes.items()}
    )
    slower = found.missions["default/watch"].spec.model_copy(update={"demand": Demand(rate="8/s")})
    there_and_back = _feasible(_plan(_with_spec(found, slower))).plan
    assert there_and_back.nodes == ("drone", "edge", "near")
    assert there_and_back.rate.value == pytest.approx(1 / 0.12)
    assert _feasible(_plan(found)).plan.nodes == ("drone", "edge", "yonder")


def _with_spec(found: Snapshot, spec: MissionSpec) -> Snapshot:
    key = "default/watch"
    return replace(found, missions={key: found.missions[key].model_copy(update={"spec": spec})})


def test_safety_mission__is_planned_before_best_effort() -> None:
    one = {"drone": profile("quick", gops=50, sharing="Exclusive")}
    missions = [mission("a-best-effort", criticality="BestEffort"), mission("z-safety", criticality="Safety")]
    verdicts = plan_all(snapshot(profiles=one, missions=missions, net=NET))
    assert isinstance(verdicts["default/z-safety"], Feasible)
    assert _infeasible(verdicts["default/a-best-effort"]).blockers[0].code == "UnitOccupied"


def test_closest_plan__uses_no_time_that_others_reserved() -> None:
    """Each needs 0.8 of the only unit, so the second has not even a closest infeasible plan."""
    alone = {"drone": profile("slow", gops=5)}
    spec = {"demand": {"rate": "4/s"}, "objectives": {"latency": {"atMost": "1s"}}}
    missions = [mission("first", criticality="Safety", **spec), mission("second", **spec)]
    verdicts = plan_all(snapshot(profiles=alone, missions=missions, net=NET))
    assert isinstance(verdicts["default/first"], Feasible)
    second = _infeasible(verdicts["default/second"])
    assert (second.blockers[0].code, second.blockers[0].retry, second.closest) == ("UnitOccupied", "CannotNow", None)


def test_fallback__does_not_use_an_exclusive_unit_of_another_mission() -> None:
    one = {"drone": profile("slow", gops=5, sharing="Exclusive"), "edge": profile("quick", gops=50)}
    missions = [mission("first", modes=["Local"], objectives={"latency": {"atMost": "1s"}}), mission("second")]
    found = snapshot(profiles=one, missions=missions, net=model(variant("fp32", BLOCKS), inputs=100), links=FAST)
    assert _feasible(plan(found, "default/second")).plan.fallback is not None
    verdicts = plan_all(found)
    assert _feasible(verdicts["default/first"]).plan.nodes == ("drone",)
    assert _feasible(verdicts["default/second"]).plan.fallback is None


def test_plans_of_a_fleet__never_overcommit_a_units_memory() -> None:
    profiles = {"drone": profile("small", gops=50, memory="11Mi")}  # one whole model with its activations: 4 Mi
    missions = [mission(f"m{i}") for i in range(5)]
    verdicts = plan_all(snapshot(profiles=profiles, missions=missions, net=NET))
    held = [v.plan for v in verdicts.values() if isinstance(v, Feasible)]
    assert len(held) == 2
    assert sum(p.memory for plan_ in held for p in plan_.partitions) <= 11 * 1024**2


def test_current_plan__is_dropped_if_its_mode_is_no_longer_allowed() -> None:
    held = _feasible(_plan(_two({"egress": {"input": "Device", "features": "Any"}}))).plan
    assert held.mode == "Split"
    local = replace(_two({"modes": ["Local"]}), current_plans={"default/watch": held})
    closest = _infeasible(_plan(local)).closest
    assert closest is not None
    assert closest.mode == "Local"


def test_current_plan__is_kept_if_no_other_is_better() -> None:
    twins = {"drone": profile("slow", gops=5), "edge": profile("quick", gops=50), "other": profile("quick", gops=50)}
    links = [link("drone", "edge", "100Mbit/s"), link("drone", "other", "100Mbit/s")]
    found = snapshot(profiles=twins, missions=[mission()], net=model(variant("fp32", BLOCKS), inputs=100), links=links)
    first = _feasible(_plan(found)).plan
    assert first.partitions[0].node == "edge"  # ties by name
    elsewhere = replace(found, devices={k: v for k, v in found.devices.items() if k != "edge"})
    moved = _feasible(_plan(elsewhere)).plan
    assert moved.partitions[0].node == "other"
    assert _feasible(_plan(replace(found, current_plans={"default/watch": moved}))).plan.partitions[0].node == "other"
