"""Penalties that order otherwise equal plans by the hardware preferences of a mission."""

from math import inf
from typing import Any

import pytest

from maleo_api.device import DeviceProfile
from maleo_planner.cost_model.preferences import preference_penalties
from maleo_planner.cost_model.units import UnitFacts, list_units
from support.planner.builders import block, mission, model, profile, snapshot, variant, vary

NET = model(variant("fp32", [block("a", mop=10, cut=None)]))


def unit(node: str, *, price: str | None = None, targets: tuple[str, ...] = (), features: tuple[str, ...] = ()) -> UnitFacts:  # fmt: skip  # noqa: E501
    rows = [{"value": price, "basis": "Claimed"}] if price else []
    of: DeviceProfile = vary(profile("p"), spec={"price": rows, "targets": list(targets)}, features=list(features))
    (found,) = list_units(snapshot(profiles={node: of}, missions=[mission()], net=NET))
    return found


PLAIN, PREFERRED = unit("a"), unit("b", targets=("Drone",), features=("Sparse",))
CHEAP, EXPENSIVE = unit("a", price="70USD"), unit("b", price="400USD")


@pytest.mark.parametrize(
    ("preference", "units", "want"),
    [
        ({}, [PLAIN], (0.0, 0.0)),
        ({}, [CHEAP, EXPENSIVE], (0.0, 0.0)),
        ({"targets": ["Drone"]}, [PREFERRED], (0.0, 0.0)),
        ({"targets": ["Drone"]}, [PLAIN], (1.0, 0.0)),
        ({"targets": ["Drone"]}, [PLAIN, PREFERRED], (0.5, 0.0)),
        ({"targets": ["Drone"], "features": ["Sparse"]}, [PLAIN], (2.0, 0.0)),
        ({"cheaper": True}, [CHEAP], (0.0, 70.0)),
        ({"cheaper": True}, [CHEAP, EXPENSIVE], (0.0, 470.0)),
        ({"cheaper": True}, [CHEAP, CHEAP], (0.0, 70.0)),  # two partitions on one device
        ({"cheaper": True}, [CHEAP, PLAIN], (0.0, inf)),  # an unknown price counts as infinite
    ],
)
def test_preference_penalties__count_missing_attributes_and_price(
    preference: dict[str, Any], units: list[UnitFacts], want: tuple[float, float]
) -> None:
    assert preference_penalties(mission(preference=preference).spec.preference, units) == want
