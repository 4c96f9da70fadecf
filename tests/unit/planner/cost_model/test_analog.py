"""Analogue units: the accuracy that they guarantee, and which missions pay for writing weights."""

from typing import Any

import pytest

from maleo_api.device import DeviceProfile
from maleo_api.meta import Basis
from maleo_planner.cost_model.analog import find_tolerance_violation, guaranteed_accuracy, writes_weights
from maleo_planner.cost_model.units import UnitFacts, list_units
from maleo_planner.types.problem import Estimate
from maleo_planner.types.requirements import Requirements
from maleo_planner.types.variants import list_runnable_variants
from support.planner.builders import block, mission, model, profile, snapshot, variant, vary

NET = model(variant("fp32", [block("a", mop=10, cut=None)], accuracy="76%"))
VARIANT = list_runnable_variants(NET)[0]


def unit(of: DeviceProfile) -> UnitFacts:
    (found,) = list_units(snapshot(profiles={"drone": of}, missions=[mission()], net=NET))
    return found


def analogue(tolerance: str | None, basis: str = "Measured", **more: Any) -> UnitFacts:
    rows = [{"value": tolerance, "basis": basis}] if tolerance else []
    return unit(vary(profile("p"), features=["Analog"], accuracyTolerance=rows, **more))


def require(floor: str | None, *, enforcement: str = "Hard", updated: str | None = None) -> Requirements:
    accuracy = {"metric": "top-1", "dataset": "d", "atLeast": floor, "enforcement": enforcement}
    objectives = {"latency": {"atMost": "1s"}} | ({"accuracy": accuracy} if floor else {})
    return Requirements.parse_mission(
        mission(model={"name": "net", "updatedEvery": updated}, objectives=objectives), NET
    )


DIGITAL = unit(profile("p"))


@pytest.mark.parametrize(
    ("case", "of", "on", "want"),
    [
        ("no objective", require(None), analogue("5%"), None),
        ("a Soft floor", require("75%", enforcement="Soft"), analogue("5%"), None),
        ("a digital unit", require("76%"), DIGITAL, None),
        ("a tolerance within the margin", require("74%"), analogue("2%"), None),
        ("a tolerance of exactly the margin", require("75%"), analogue("1%"), None),
        ("a tolerance beyond the margin", require("75%"), analogue("2%"), "AccuracyToleranceTooWide"),
        ("no margin at all", require("80%"), analogue("1%"), "AccuracyToleranceTooWide"),
        ("an unknown tolerance", require("50%"), analogue(None), "AccuracyToleranceUnknown"),
    ],
)
def test_hard_accuracy_floor__excludes_units_that_may_violate_it(
    case: str, of: Requirements, on: UnitFacts, want: str | None
) -> None:
    found = find_tolerance_violation(of, VARIANT, on)
    assert (found and found.code) == want, case


def test_tolerance_violation__states_loss_and_margin() -> None:
    found = find_tolerance_violation(require("75%"), VARIANT, analogue("2%"))
    assert found is not None
    assert found.reason == "may lose 2% of accuracy, the margin above the floor is 1%"
    assert found.shortfall == pytest.approx(0.01 / 0.25)


@pytest.mark.parametrize(
    ("case", "units", "want"),
    [
        ("digital units", [DIGITAL], (0.76, Basis.MEASURED)),
        ("the widest tolerance counts, not the sum", [analogue("2%"), analogue("1%"), DIGITAL], (0.74, Basis.MEASURED)),
        ("a tolerance of a weaker basis", [analogue("2%", "Claimed")], (0.74, Basis.CLAIMED)),
    ],
)
def test_guaranteed_accuracy__is_reduced_by_the_widest_tolerance(
    case: str, units: list[UnitFacts], want: tuple[float, Basis]
) -> None:
    found = guaranteed_accuracy(Estimate(0.76, 0.0, Basis.MEASURED, "the paper"), units)
    assert found is not None, case
    assert found.value == pytest.approx(want[0]), case
    assert found.basis is want[1], case


def test_guaranteed_accuracy__is_never_negative() -> None:
    found = guaranteed_accuracy(Estimate(0.01), [analogue("2%")])
    assert found is not None
    assert found.value == 0.0


def test_guaranteed_accuracy__is_unknown_without_a_declared_accuracy_or_tolerance() -> None:
    assert guaranteed_accuracy(None, [DIGITAL]) is None
    declared = Estimate(0.76, 0.0, Basis.MEASURED, "the paper")
    assert guaranteed_accuracy(declared, [analogue("2%"), analogue(None)]) is None


@pytest.mark.parametrize(
    ("case", "of", "on", "want"),
    [
        ("a model that is never updated", require(None), analogue("1%"), False),
        ("an updated model on a digital unit", require(None, updated="1h"), DIGITAL, False),
        ("an updated model on an analogue unit", require(None, updated="1h"), analogue("1%"), True),
        (
            "an updated model where writing costs nothing",
            require(None, updated="1h"),
            analogue("1%", weightWriting=[{"energyPerByte": "0J", "basis": "Measured"}]),
            False,
        ),
    ],
)
def test_requests__pay_for_writing_weights(case: str, of: Requirements, on: UnitFacts, want: bool) -> None:
    assert writes_weights(of, on) is want, case
