"""Units that are reconfigured for each model: sharing conflicts, and the reconfiguration time of each request."""

from dataclasses import replace

import pytest

from maleo_api.device import DeviceProfile
from maleo_planner.cost_model.load import Load
from maleo_planner.cost_model.mg1 import Queue
from maleo_planner.cost_model.reconfiguration import (
    find_sharing_conflict,
    is_occupied,
    reconfiguration_time,
    shared_load,
)
from maleo_planner.cost_model.units import UnitFacts, list_units
from maleo_planner.types.variants import list_runnable_variants
from support.planner.builders import DIGEST, block, mission, model, profile, snapshot, variant, vary

NET = model(variant("fp32", [block("a", mop=10, cut=None)]))
VARIANT = list_runnable_variants(NET)[0]
OTHER = frozenset({f"sha256:{'b' * 64}"})


def unit(of: DeviceProfile) -> UnitFacts:
    (found,) = list_units(snapshot(profiles={"drone": of}, missions=[mission()], net=NET))
    return found


def reconfigurable(time: str | None) -> UnitFacts:
    rows = [{"time": time, "basis": "Claimed"}] if time else []
    return unit(vary(profile("p"), features=["Reconfigurable"], reconfiguration=rows))


FIXED, EXCLUSIVE = unit(profile("p")), unit(profile("p", sharing="Exclusive"))
BUSY = Load(queue=Queue.from_parts([(0.5, 0.01)]), memory=1e6, artifacts=OTHER, rate=10.0, latency_slack=0.05)
SAME = replace(BUSY, artifacts=frozenset({DIGEST}))

ROWS: list[tuple[str, UnitFacts, Load, str | None]] = [
    ("nothing runs there", reconfigurable("100ms"), Load(), None),
    ("the same model runs there", reconfigurable("100ms"), SAME, None),
    ("another model runs on a unit that needs no reconfiguration", FIXED, BUSY, None),
    ("another mission uses the unit exclusively", EXCLUSIVE, BUSY, "UnitOccupied"),
    ("an exclusive unit is free", EXCLUSIVE, Load(), None),
    ("another model, and the time is unknown", reconfigurable(None), BUSY, "ReconfigurationUnknown"),
    ("another model, whose latency limit leaves time", reconfigurable("40ms"), BUSY, None),
    ("another model, whose latency limit would be violated", reconfigurable("60ms"), BUSY, "ReconfigurationTooSlow"),
    (
        "another model, whose rate leaves no time",
        reconfigurable("50ms"),
        replace(BUSY, latency_slack=1.0, rate=10.0),
        "ReconfigurationTooSlow",
    ),
]


@pytest.mark.parametrize(("case", "on", "load", "want"), ROWS, ids=[row[0] for row in ROWS])
def test_sharing_conflict__has_code(case: str, on: UnitFacts, load: Load, want: str | None) -> None:
    found = find_sharing_conflict(VARIANT, on, load)
    assert (found and found.code) == want, case


@pytest.mark.parametrize(
    ("on", "load", "reason"),
    [
        (reconfigurable("60ms"), BUSY, "reconfiguration takes 60ms, the mission on the unit has 50ms to spare"),
        (
            reconfigurable("60ms"),
            replace(BUSY, latency_slack=-1.0),
            "reconfiguration takes 60ms, the mission on the unit has no time to spare",
        ),
        (
            reconfigurable("50ms"),
            replace(BUSY, latency_slack=1.0),
            "reconfiguration takes 50ms, the request rate on the unit leaves no time for it",
        ),
    ],
)
def test_sharing_conflict__states_the_durations(on: UnitFacts, load: Load, reason: str) -> None:
    found = find_sharing_conflict(VARIANT, on, load)
    assert found is not None
    assert found.reason == reason
    assert found.shortfall is not None
    assert 0 <= found.shortfall <= 1


@pytest.mark.parametrize(
    ("case", "on", "load", "seconds"),
    [
        ("alone", reconfigurable("40ms"), Load(), 0.0),
        ("shared with the same model", reconfigurable("40ms"), SAME, 0.0),
        ("shared with another model", reconfigurable("40ms"), BUSY, 0.04),
        ("shared with another model on a unit that needs no reconfiguration", FIXED, BUSY, 0.0),
    ],
)
def test_reconfiguration_time__is_added_where_models_alternate(
    case: str, on: UnitFacts, load: Load, seconds: float
) -> None:
    assert reconfiguration_time(VARIANT, on, load) == seconds, case


def test_shared_load__includes_reconfiguration_where_models_alternate() -> None:
    grown = replace(BUSY, queue=Queue.from_parts([(0.9, 0.05)]))
    both = replace(BUSY, with_reconfiguration=grown)
    assert shared_load(VARIANT, reconfigurable("40ms"), both) is grown
    assert shared_load(VARIANT, FIXED, both) is both
    assert shared_load(VARIANT, reconfigurable("40ms"), BUSY) is BUSY


def test_exclusive_unit__is_occupied_by_memory_or_time() -> None:
    assert not is_occupied(EXCLUSIVE, Load())
    assert is_occupied(EXCLUSIVE, Load(memory=1.0))
    assert is_occupied(EXCLUSIVE, Load(queue=Queue.from_parts([(0.1, 0.01)])))
    assert not is_occupied(FIXED, BUSY)
