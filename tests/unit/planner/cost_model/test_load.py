"""Capacity of a unit that reservations of other missions leave: energy, memory and time."""

from dataclasses import replace
from math import inf

import pytest

from maleo_planner.cost_model.load import Load, energy_allowance, free_memory
from maleo_planner.cost_model.mg1 import Queue
from maleo_planner.cost_model.units import list_units
from support.planner.builders import block, mission, model, profile, snapshot, variant

NET = model(variant("fp32", [block("a", mop=10, cut=None)]))
(UNIT,) = list_units(snapshot(profiles={"drone": profile("p", memory="4Mi")}, missions=[mission()], net=NET))


@pytest.mark.parametrize(
    ("cap", "taken", "rate", "joules"),
    [
        (None, 3.0, 2.0, inf),  # no cap
        (5.0, 3.0, 2.0, 1.0),
        (5.0, 3.0, 0.0, inf),  # a mission without requests draws no power
        (5.0, 5.0, 2.0, 0.0),
        (5.0, 9.0, 2.0, 0.0),  # others exceed the cap already
    ],
)
def test_energy_allowance__is_the_unreserved_power_per_request(
    cap: float | None, taken: float, rate: float, joules: float
) -> None:
    assert energy_allowance(replace(UNIT, power_cap=cap), Load(watts=taken), rate) == joules


@pytest.mark.parametrize(("memory", "taken", "left"), [(None, 1.0, inf), (4.0, 1.0, 3.0), (4.0, 6.0, -2.0)])
def test_free_memory__is_the_memory_less_reservations(memory: float | None, taken: float, left: float) -> None:
    assert free_memory(replace(UNIT, memory=memory), Load(memory=taken)) == left


def test_utilisation__is_that_of_the_queue() -> None:
    assert Load(queue=Queue.from_parts([(0.25, 0.01), (0.5, 0.02)])).utilisation == 0.75
    assert Load().utilisation == 0.0
