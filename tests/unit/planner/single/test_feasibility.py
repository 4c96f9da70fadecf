"""Feasibility is the same for every aim, and equals that of HiGHS with any number of partitions."""

import json
from collections.abc import Mapping
from dataclasses import replace
from random import Random
from typing import Any, get_args

import pytest

from maleo_api.device import Device, Link
from maleo_api.meta import Tier
from maleo_api.model import ModelProfile
from maleo_cli.output.json_output import describe
from maleo_cli.output.text import format_term
from maleo_planner.planner import decide, plan
from maleo_planner.single.objective import Aim
from maleo_planner.types.problem import Feasible, Infeasible, Plan, Snapshot
from support.oracle.milp import Program, best
from support.oracle.model import forms_of, places_of, read
from support.planner.builders import KEY, block, link, meta, mission, model, profile, snapshot, variant
from support.planner.constraint_kinds import KINDS
from support.planner.generators import every_kind, one_mission
from support.planner.variations import changed

AIMS: tuple[Aim, ...] = get_args(Aim)
_MAX_PARTITIONS = 16


# ------------------------------------------------------------------------------------------------ random worlds


def _every_kind(seed: int) -> Snapshot:
    chance = Random(7000 + seed)
    return every_kind(chance, blocks=chance.randint(1, 5), nodes=chance.randint(2, 5))


def _long(seed: int) -> Snapshot:
    """Return a world of more blocks and units, in which four partitions do not always suffice."""
    chance = Random(8000 + seed)
    return one_mission(chance, blocks=chance.randint(5, 7), nodes=chance.choice((5, 6)))


@pytest.mark.parametrize("world", [_every_kind, _long])
@pytest.mark.parametrize("seed", range(16))
def test_feasibility__equals_that_of_highs_for_every_aim(world: Any, seed: int) -> None:
    found = world(seed)
    is_possible = best(found, KEY, most=_MAX_PARTITIONS) is not None
    for aim in AIMS:
        verdict = decide(found, KEY, aim=aim)
        assert isinstance(verdict, Feasible) is is_possible, aim
        if isinstance(verdict, Feasible):
            assert _keeps_every_rule(found, verdict.plan), aim
        _check_json(found, verdict)


def _keeps_every_rule(found: Snapshot, own: Plan) -> bool:
    """Return whether the plan keeps every rule of the independent program."""
    meaning = next(m for m in read(found, KEY) if (m.variant.name, m.exit) == (own.variant, own.exit))
    blocks = len(meaning.variant.blocks)
    return Program(meaning, _MAX_PARTITIONS).judge(places_of(own, blocks), forms_of(own, blocks))[0]


def _check_json(found: Snapshot, verdict: Feasible | Infeasible) -> None:
    """Raise ValueError if a figure is not representable in JSON."""
    json.dumps(describe(found.missions[KEY], verdict), allow_nan=False)


@pytest.mark.parametrize("seed", range(16))
def test_highest_rate__is_the_maximum_of_highs(seed: int) -> None:
    """With shared links: a slightly higher rate is infeasible, a slightly lower one feasible."""
    found = _every_kind(300 + seed)
    for name in ("codecs", "a power cap", "updates of the model", "all that others hold", "an incumbent plan"):
        found = KINDS[name](found)
    found = _with_spec(found, demand={"rate": "1/h"}, objectives={"latency": {"atMost": "9h", "window": "10h"}})
    verdict = decide(found, KEY, aim="rate")
    if isinstance(verdict, Feasible):
        rate = verdict.plan.rate.value
        assert best(_with_spec(found, demand={"rate": f"{rate * 0.999:.6f}/s"}), KEY, most=_MAX_PARTITIONS) is not None
        assert best(_with_spec(found, demand={"rate": f"{rate * 1.001:.6f}/s"}), KEY, most=_MAX_PARTITIONS) is None


def _with_spec(found: Snapshot, **spec: Any) -> Snapshot:
    return replace(found, missions={**found.missions, KEY: changed(found.missions[KEY], lambda b: b["spec"].update(spec))})  # fmt: skip  # noqa: E501


# ------------------------------------------------------------------------------------------------ many partitions


def _chain(count: int, nodes: list[str], *, gops: Mapping[str, int] | None = None, **spec: Any) -> Snapshot:
    """Return a snapshot in which each unit has memory for one block."""
    chain = [block(f"b{i}", mop=50, cut=1000 if i < count - 1 else None, parameters="8Mi") for i in range(count)]
    links = [link(a, b, "100Mbit/s") for i, a in enumerate(nodes) for b in nodes[i + 1 :]]
    profiles = {n: profile(f"p-{n}" if gops else "p", gops=(gops or {}).get(n, 50), memory="10Mi") for n in nodes}
    return snapshot(
        profiles=profiles,
        missions=[mission(input={"node": nodes[0]}, objectives={"latency": {"atMost": "9s", "window": "60s"}}, **spec)],
        net=model(variant("fp32", chain)),
        links=links,
    )


@pytest.mark.parametrize("aim", AIMS)
@pytest.mark.parametrize("equal", [True, False])
def test_plan_of_more_than_four_partitions__is_found_for_every_aim(aim: Aim, equal: bool) -> None:
    nodes = [f"n{i}" for i in range(8 if equal else 6)]
    speeds = None if equal else {name: 20 + 7 * i for i, name in enumerate(nodes)}
    verdict = decide(_chain(len(nodes), nodes, gops=speeds), KEY, aim=aim)
    assert isinstance(verdict, Feasible)
    assert len(verdict.plan.partitions) == len(nodes)


@pytest.mark.parametrize("aim", AIMS)
def test_plan_that_needs_one_more_unit__is_permanently_infeasible(aim: Aim) -> None:
    verdict = plan(_chain(8, [f"n{i}" for i in range(7)]), KEY, aim=aim)
    assert isinstance(verdict, Infeasible)
    assert [(b.code, b.retry) for b in verdict.blockers] == [("MemoryTooSmall", "CannotEver")]


# ------------------------------------------------------------------------------------------------ the highest rate


def _measured(name: str, spans: Mapping[tuple[str, str], str]) -> ModelProfile:
    rows = [
        {"blocks": list(blocks), "latency": {"p50": time, "p95": time}, "samples": 9, "basis": "Measured"}
        for blocks, time in spans.items()
    ]
    digest = variant("fp32", [])["artifacts"][0]["digest"]
    spec = {"variantDigest": digest, "profile": f"p-{name}", "unit": "npu", "runtime": "onnxruntime", "spans": rows}
    return ModelProfile.model_validate({"metadata": meta(name, "default"), "spec": spec})


def _crossed_twice() -> Snapshot:
    """Return three fast units, the middle one behind a slow link that would be crossed there and back."""
    chain = [block("b0", mop=1, cut=250_000), block("b1", mop=1, cut=250_000), block("b2", mop=1, cut=None)]
    slow = {("b0", "b1"): "9s", ("b1", "b1"): "9s", ("b0", "b2"): "9s", ("b1", "b2"): "9s", ("b0", "b0"): "9s", ("b2", "b2"): "9s"}  # fmt: skip  # noqa: E501
    nodes = {"drone": "a", "x1": "a", "x2": "a", "y": "b"}
    lan = {"between": [{"site": "a"}, {"site": "a"}], "bandwidth": "999Gbit/s", "roundTrip": "0ms"}
    wan = {"between": [{"site": "a"}, {"site": "b"}], "bandwidth": "8Mbit/s", "roundTrip": "0ms"}
    found = snapshot(
        profiles={n: profile(f"p-{n}", gops=1, memory="1Gi" if n != "drone" else "1Mi") for n in nodes},
        missions=[
            mission(
                objectives={"latency": {"atMost": "1h", "window": "2h"}}, demand={"rate": "0.6/s"}, modes=["Remote"]
            )
        ],
        net=model(variant("fp32", chain), inputs=1),
    )
    spans = {
        "x1": slow | {("b0", "b0"): "1s", ("b0", "b1"): "1500ms"},
        "x2": slow | {("b2", "b2"): "1s"},
        "y": slow | {("b1", "b1"): "1s"},
    }
    return replace(
        found,
        nodes={n: replace(found.nodes[n], site=site, tier=Tier.EDGE) for n, site in nodes.items()},
        links={n: Link.model_validate({"metadata": meta(n), "spec": spec}) for n, spec in (("lan", lan), ("wan", wan))},
        model_profiles={f"default/{name}": _measured(name, rows) for name, rows in spans.items()},
    )


def test_highest_rate__counts_a_link_as_often_as_it_is_crossed() -> None:
    verdict = decide(_crossed_twice(), KEY, aim="rate")
    assert isinstance(verdict, Feasible)
    assert [p.node for p in verdict.plan.partitions] == ["x1", "x2"]
    assert verdict.plan.rate.value == pytest.approx(1 / 1.5)
    assert verdict.plan.objective == pytest.approx(1 / 1.5)


def test_highest_rate__keeps_the_power_cap_that_two_units_share() -> None:
    """Both units on one node would be faster, but together they exceed the power cap."""
    chain = [block("b0", mop=1000, cut=250, parameters="8Mi"), block("b1", mop=1000, cut=None, parameters="8Mi")]
    found = snapshot(
        profiles={
            "drone": profile("tiny", memory="1Mi"),
            "n": profile("p-n", gops=1, memory="10Mi", watts="15W"),
            "k": profile("p-k", gops=1, memory="10Mi", watts="1W", overhead="200ms"),
        },
        missions=[
            mission(
                objectives={"latency": {"atMost": "1h", "window": "2h"}}, demand={"rate": "0.25/s"}, modes=["Remote"]
            )
        ],
        net=model(variant("fp32", chain), inputs=1),
        links=[link("drone", "n", "1Gbit/s"), link("drone", "k", "1Gbit/s"), link("n", "k", "1Gbit/s")],
    )
    two = found.devices["n"].to_api()
    two["spec"] |= {"declared": [{"name": f"acc{i}", "profile": "p-n"} for i in range(2)], "powerCap": "6W"}
    verdict = decide(replace(found, devices={**found.devices, "n": Device.model_validate(two)}), KEY, aim="rate")
    assert isinstance(verdict, Feasible)
    assert sorted(p.node for p in verdict.plan.partitions) == ["k", "n"]


# ------------------------------------------------------------------------------------------------ unknown figures


def _unknown_power(**spec: Any) -> Snapshot:
    chain = [block("a", mop=50, cut=1000, parameters="8Mi"), block("b", mop=50, cut=None, parameters="8Mi")]
    return snapshot(
        profiles={n: profile(f"p-{n}", memory="10Mi", watts=None) for n in ("drone", "edge")},
        missions=[mission(**spec)],
        net=model(variant("fp32", chain)),
        links=[link("drone", "edge", "100Mbit/s")],
    )


@pytest.mark.parametrize("aim", AIMS)
def test_plan_over_units_of_unknown_power__is_found_for_every_aim(aim: Aim) -> None:
    verdict = decide(_unknown_power(), KEY, aim=aim)
    assert isinstance(verdict, Feasible)
    assert len(verdict.plan.partitions) == 2
    _check_json(_unknown_power(), verdict)


def test_energy_aim__prefers_a_plan_of_known_energy() -> None:
    found = _unknown_power()
    more = snapshot(
        profiles={"drone": profile("p-drone", memory="10Mi", watts=None), "edge": profile("p-edge", gops=1)},
        missions=[mission(objectives={"latency": {"atMost": "9s"}})],
        net=found.models["default/net"],
        links=list(found.links.values()),
    )
    verdict = decide(more, KEY, aim="energy")
    assert isinstance(verdict, Feasible)
    assert verdict.plan.nodes == ("drone", "edge")
    assert [p.node for p in verdict.plan.partitions] == ["edge"]


@pytest.mark.parametrize("aim", AIMS)
def test_term_of_an_unknown_figure__is_shown_as_unknown(aim: Aim) -> None:
    assert format_term(float("-inf"), aim) == ("-inf" if aim == "margins" else "unknown")


# ------------------------------------------------------------------------------------------------ unknown peaks


def _without_peak(spans: Mapping[tuple[str, str], str]) -> Snapshot:
    chain = [block("a", mop=30, cut=1000), block("b", mop=10, cut=None)]
    found = snapshot(profiles={"drone": profile("p-drone")}, missions=[mission()], net=model(variant("fp32", chain)))
    bare = changed(found.profiles["p-drone"], lambda body: body["spec"]["computeUnits"][0].update(peak=[]))
    return replace(found, profiles={"p-drone": bare}, model_profiles={"default/m": _measured("drone", spans)})


def test_unit_without_a_peak__runs_a_model_that_was_measured_as_a_whole() -> None:
    verdict = decide(_without_peak({("a", "b"): "30ms"}), KEY)
    assert isinstance(verdict, Feasible)
    assert verdict.plan.partitions[0].compute.value == pytest.approx(0.03)
    assert verdict.plan.partitions[0].compute.basis == "Measured"


def test_unit_without_a_peak__runs_only_measured_spans() -> None:
    verdict = plan(_without_peak({("a", "a"): "30ms"}), KEY)
    assert isinstance(verdict, Infeasible)
    assert verdict.blockers[0].code == "PeakUnknown"
    assert "the whole model was not measured" in verdict.blockers[0].message


def test_unit_without_a_peak__runs_nothing_without_measurements() -> None:
    verdict = plan(replace(_without_peak({("a", "a"): "1ms"}), model_profiles={}), KEY)
    assert isinstance(verdict, Infeasible)
    assert [(b.code, b.retry) for b in verdict.blockers] == [("PeakUnknown", "CannotEver")]
