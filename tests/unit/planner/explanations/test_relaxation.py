"""Suggested changes are sufficient and minimal, and different figures of a message are shown differently."""

import re
from dataclasses import replace
from random import Random
from typing import Any, get_args

import pytest

from maleo_api.quantities import BYTES, DURATION, ENERGY, RATE, parse, show, show_apart
from maleo_planner.explanations.notices import list_notices
from maleo_planner.explanations.relaxation import apply_changes
from maleo_planner.inventory.fleet_index import FleetIndex
from maleo_planner.planner import decide, plan
from maleo_planner.single.objective import Aim
from maleo_planner.types.problem import Feasible, Infeasible, Snapshot, Verdict
from support.planner.builders import KEY, block, device, link, mission, model, profile, snapshot, variant
from support.planner.generators import every_kind

AIMS: tuple[Aim, ...] = get_args(Aim)
_TIGHTER = {
    "objectives.latency.atMost": (DURATION, 0.985),
    "objectives.energy.perInference": (ENERGY, 0.985),
    "demand.rate": (RATE, 1.015),
}
"""Factors that exceed what is lost by rounding to three digits."""


def _changed(found: Snapshot, changes: dict[str, Any]) -> Snapshot:
    return replace(found, missions={**found.missions, KEY: apply_changes(found.missions[KEY], changes)})


def _infeasible(seed: int, aim: Aim) -> tuple[Snapshot, Infeasible] | None:
    chance = Random(seed)
    found = every_kind(chance, blocks=chance.randint(1, 4), nodes=chance.randint(2, 4))
    verdict = plan(found, KEY, aim=aim)
    return (found, verdict) if isinstance(verdict, Infeasible) else None


@pytest.mark.parametrize("aim", AIMS)
@pytest.mark.parametrize("start", range(0, 24, 6))
def test_suggested_change__is_sufficient_and_a_smaller_one_is_not(start: int, aim: Aim) -> None:
    for seed in range(start, start + 6):
        case = _infeasible(seed, aim)
        for suggested in case[1].relaxations if case else ():
            found = case[0] if case else None
            assert found is not None
            changes = dict(suggested.changes)
            assert isinstance(decide(_changed(found, changes), KEY, aim=aim), Feasible), (seed, suggested.change)
            ((path, text), *more) = changes.items()
            if more or path not in _TIGHTER or any(v.exits or _codes(v) for v in _variants(found)):
                continue  # with exits or codecs, rounding may leave only a slightly worse plan
            unit, factor = _TIGHTER[path]
            tighter = show(unit, parse(unit, text) * factor, digits=6)
            assert not isinstance(decide(_changed(found, {path: tighter}), KEY, aim=aim), Feasible), (seed, text)


def _variants(found: Snapshot) -> Any:
    return found.models["default/net"].spec.variants


def _codes(variant_: Any) -> bool:
    return any(b.cut and b.cut.codecs for b in variant_.blocks)


def _alone(**spec: Any) -> Snapshot:
    chain = [block("a", mop=200, cut=1000), block("b", mop=200, cut=None)]
    return snapshot(
        profiles={"drone": profile("p-drone", gops=5), "edge": profile("p-edge", gops=20)},
        missions=[mission(**spec)],
        net=model(variant("fp32", chain), inputs=1000),
        links=[link("drone", "edge", "100Mbit/s")],
    )


def _suggestions(verdict: Verdict) -> dict[str, Any]:
    assert isinstance(verdict, Infeasible)
    return {path: value for r in verdict.relaxations for path, value in r.changes.items()}


@pytest.mark.parametrize("aim", AIMS)
def test_suggested_rate__does_not_depend_on_the_requested_rate(aim: Aim) -> None:
    wide = {"latency": {"atMost": "9s", "window": "60s"}}
    suggested = {
        requested: _suggestions(plan(_alone(demand={"rate": requested}, objectives=wide), KEY, aim=aim))["demand.rate"]
        for requested in ("100/s", "1000/s", "1000000/s")
    }
    assert len(set(suggested.values())) == 1
    assert parse(RATE, suggested["100/s"]) == pytest.approx(1 / 0.02, rel=0.3)


@pytest.mark.parametrize("aim", AIMS)
def test_suggested_latency__excludes_the_cost_of_a_move(aim: Aim) -> None:
    """The mission runs on the slower unit; the faster one takes 20 ms plus the transfer."""
    slow = decide(_alone(objectives={"latency": {"atMost": "900ms"}}, modes=["Local"]), KEY)
    assert isinstance(slow, Feasible)
    found = replace(_alone(objectives={"latency": {"atMost": "5ms"}}), current_plans={KEY: slow.plan})
    free = _alone(objectives={"latency": {"atMost": "5ms"}})
    assert _suggestions(plan(found, KEY, aim=aim)) == _suggestions(plan(free, KEY, aim=aim))


def test_aim_in_seconds__has_no_term_for_a_move() -> None:
    slow = decide(_alone(modes=["Local"]), KEY, aim="latency")
    held = replace(_alone(), current_plans={KEY: slow.chosen}) if slow.chosen else _alone()
    verdict = decide(held, KEY, aim="latency")
    assert isinstance(verdict, Feasible)
    assert verdict.plan.terms == {"latency": -verdict.plan.latency.value}


def test_limit_that_no_plan_keeps__is_reported_before_the_occupied_unit() -> None:
    """The only unit is reserved by another mission; on a free unit the limit would be too tight as well."""
    found = snapshot(
        profiles={"drone": profile("p", sharing="Exclusive")},
        missions=[mission(objectives={"latency": {"atMost": "1ms"}}), mission("other")],
        net=model(variant("fp32", [block("a", mop=100, cut=None)])),
    )
    other = decide(found, "default/other").chosen
    assert other is not None
    verdict = plan(replace(found, current_plans={"default/other": other}), KEY)
    assert isinstance(verdict, Infeasible)
    assert [(b.code, b.retry) for b in verdict.blockers] == [
        ("LatencyTooTight", "CannotEver"),
        ("UnitOccupied", "CannotNow"),
    ]
    assert "exceeds the limit 1ms" in verdict.blockers[0].message


# ------------------------------------------------------------------------------------------------ misspelt variants


def _with_int8(names: list[str], **spec: Any) -> Snapshot:
    """Return a model whose `int8` takes 10 ms and `fp32` 100 ms on the only unit."""
    rows = [variant("fp32", [block("a", mop=1000, cut=None)]), variant("int8", [block("a", mop=100, cut=None)])]
    wanted = mission(model={"name": "net", "variants": names}, **spec)
    return snapshot(profiles={"drone": profile("p")}, missions=[wanted], net=model(*rows, inputs=10))


@pytest.mark.parametrize(
    ("names", "message", "suggested"),
    [
        (["int9"], "has no variant int9 (did you mean int8?); available: fp32, int8; correct", ["int8"]),
        (["bf16x"], "has no variant bf16x (use one of fp32, int8); correct", ["int8"]),
        (["int9", "fp33"], "int9 (did you mean int8?) and fp33 (did you mean fp32?); available: fp32, int8", ["int8"]),
        (
            ["fp32", "int9"],
            "has no variant int9 (did you mean int8?); available: fp32, int8; correct",
            ["fp32", "int8"],
        ),
    ],
)
def test_misspelt_variant__is_reported_and_not_suggested(names: list[str], message: str, suggested: list[str]) -> None:
    found = _with_int8(names, objectives={"latency": {"atMost": "50ms"}})
    verdict = plan(found, KEY)
    assert isinstance(verdict, Infeasible)
    assert [message in b.message for b in verdict.blockers if b.code == "VariantMissing"] == [True]
    assert _suggestions(verdict)["model.variants"] == suggested
    assert isinstance(decide(_changed(found, {"model.variants": suggested}), KEY), Feasible)


@pytest.mark.parametrize("names", [[], ["int8"], ["int8", "fp32"]])
def test_existing_variants__have_no_notice(names: list[str]) -> None:
    found = _with_int8(names)
    assert list(list_notices(found, FleetIndex(found))) == []


def test_mission_with_a_valid_and_a_misspelt_variant__is_planned_with_a_notice() -> None:
    found = _with_int8(["fp32", "int9"], objectives={"latency": {"atMost": "500ms"}})
    assert isinstance(plan(found, KEY), Feasible)
    (notice,) = list_notices(found, FleetIndex(found))
    assert notice.startswith("Mission/default/watch: model net has no variant int9 (did you mean int8?)")


# ------------------------------------------------------------------------------------------------ figures


_PAIRS = (
    r"(\S+) exceeds the limit (\S+) by",
    r"accuracy (\S+) is below the floor (?:\S+ of \S+ \()?([^\s)]+)",
    r"rate (\S+) is below the demanded (\S+)",
    r"requires (\S+), (\S+) is available",
    r"draws (\S+), the power cap leaves (\S+)",
    r"may lose (\S+) of accuracy, the margin above the floor is (\S+)",
)
"""Messages that compare two figures, of which one is too small or too large."""


@pytest.mark.parametrize("start", range(0, 30, 10))
def test_message__shows_two_different_figures_differently(start: int) -> None:
    """Includes limits that are only just violated."""
    compared = 0
    for seed in range(start, start + 10):
        case = _infeasible(seed, "margins")
        for found in _just_missed(*case) if case else ():
            verdict = decide(found, KEY)
            assert isinstance(verdict, Infeasible)
            texts = [blocker.message for blocker in verdict.blockers] + [r.example for r in verdict.rejected]
            pairs = [pair for text in texts for form in _PAIRS for pair in re.findall(form, text)]
            assert all(one != other for one, other in pairs), pairs
            compared += len(pairs)
    assert compared > 0


def _just_missed(found: Snapshot, verdict: Infeasible) -> list[Snapshot]:
    """Return the snapshot, and others with each suggested limit tightened by one hundred-thousandth."""
    worlds = [found]
    for suggested in verdict.relaxations:
        for path, (unit, factor) in _TIGHTER.items():
            if list(suggested.changes) == [path]:
                figure = {"demand.rate": suggested.plan.rate, "objectives.latency.atMost": suggested.plan.latency}
                value = figure.get(path, suggested.plan.energy).value
                by = 1 + (factor - 1) / 1500
                changed = _changed(found, {path: show(unit, value * by, digits=7)})
                worlds += [changed] if isinstance(decide(changed, KEY), Infeasible) else []
    return worlds


@pytest.mark.parametrize("digits", range(1, 6))
def test_two_different_figures__are_shown_differently(digits: int) -> None:
    more = 2**22 * (1 + 10.0**-digits)
    one, other = show_apart(BYTES, more, 2**22)
    assert one != other
    assert other == "4Mi"


def test_memory_that_is_slightly_too_small__is_shown_as_a_different_figure() -> None:
    found = snapshot(
        profiles={"drone": profile("p", memory="4299160")},
        missions=[mission()],
        net=model(variant("fp32", [block("a", mop=1, cut=None, parameters="3251000")])),
    )
    verdict = plan(found, KEY)
    assert isinstance(verdict, Infeasible)
    needs, free = verdict.blockers[0].message.partition("requires ")[2].split(" is available")[0].split(", ")
    assert needs != free


def test_power_cap__explains_why_a_unit_of_unknown_power_is_rejected() -> None:
    found = snapshot(
        profiles={"drone": profile("p", watts=None)},
        missions=[mission(modes=["Local"])],
        net=model(variant("fp32", [block("a", mop=1, cut=None)])),
    )
    capped = device("drone", "p").to_api()
    capped["spec"]["powerCap"] = "5W"
    verdict = plan(replace(found, devices={"drone": type(device("drone", "p")).model_validate(capped)}), KEY)
    assert isinstance(verdict, Infeasible)
    assert "power of acc/npu is unknown, and an unknown value satisfies no power cap" in verdict.blockers[0].message
