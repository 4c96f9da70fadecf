"""Costs of units one hop from the input as arrays: those of spans and links, in one object for equal rows."""

import numpy as np
import pytest

from maleo_planner.inventory.fleet_index import FleetIndex
from maleo_planner.single.onehop_costs import OneHopCosts, OneHopUnit, find_minimum_spans, find_onehop_costs
from maleo_planner.types.variants import list_runnable_variants
from support.planner.builders import block, link, mission, model, profile, snapshot, variant

CHAIN = [block("a", mop=50, cut=1000), block("b", mop=100, cut=2000), block("c", mop=150, cut=None)]
NET = model(variant("fp32", CHAIN), inputs=5000)
VARIANT = list_runnable_variants(NET)[0]
FOUND = snapshot(
    profiles={
        "drone": profile("p", gops=10),
        "edge": profile("q", gops=50, watts=None),
        "cloud": profile("r", gops=200),
    },
    missions=[mission()],
    net=NET,
    links=[link("drone", "edge", "80Mbit/s", energyPerByte="20nJ"), link("drone", "cloud", "8Mbit/s")],
)


def rows(index: FleetIndex, *names: str) -> list[OneHopUnit]:
    units = {unit.node.name: unit for unit in index.units}
    source = FOUND.nodes["drone"]
    return [
        OneHopUnit(
            units[name], index.link(source, units[name].node) if name != "drone" else None, raw=True, features=True
        )
        for name in names
    ]


@pytest.fixture
def index() -> FleetIndex:
    return FleetIndex(FOUND)


def costs(index: FleetIndex, *names: str) -> OneHopCosts:
    return find_onehop_costs(index, NET, VARIANT, rows(index, *names))


def test_spans__are_those_of_the_cost_model(index: FleetIndex) -> None:
    found = costs(index, "drone", "edge", "cloud")
    for row, one_hop in enumerate(rows(index, "drone", "edge", "cloud")):
        spans = index.costs(NET, VARIANT, one_hop.unit)
        assert spans is not None
        for begin in range(3):
            for end in range(begin + 1, 4):
                estimate = spans.estimate(begin, end - 1)
                assert found.compute[row, begin, end] == pytest.approx(estimate.mean)
                assert found.sigma[row, begin, end] == pytest.approx(estimate.sigma)
                assert np.isnan(found.joules[row, begin, end]) == np.isnan(estimate.energy)
                assert found.memory[row, begin, end] == spans.blocks.memory[begin, end - 1]


def test_crossings__are_those_of_the_link(index: FleetIndex) -> None:
    found = costs(index, "drone", "edge")
    assert found.sizes.tolist() == [20_000 + 40, 4000 + 40, 8000 + 40, 0 + 40]
    assert found.link_seconds[0].tolist() == [0.0] * 4
    assert found.link_seconds[1].tolist() == pytest.approx((found.sizes / 1e7).tolist())
    assert found.fixed_seconds.tolist() == [0.0, pytest.approx(0.002)]
    assert found.link_joules[1].tolist() == pytest.approx((found.sizes * 20e-9).tolist())


def test_empty_spans__have_no_compute_time(index: FleetIndex) -> None:
    found = costs(index, "drone")
    assert found.is_span.tolist() == np.triu(np.ones((4, 4), dtype=bool), 1).tolist()
    assert (found.compute[:, ~found.is_span] == 0).all()


def test_equal_rows__share_one_object(index: FleetIndex) -> None:
    assert costs(index, "drone", "edge") is costs(index, "drone", "edge")
    assert costs(index, "drone", "edge") is not costs(index, "edge", "drone")


def test_minimum_spans__are_the_minimum_over_all_units(index: FleetIndex) -> None:
    """Units of unknown energy are left out of the minimum of the energy."""
    minimum = find_minimum_spans(index, NET, VARIANT)
    found = costs(index, "drone", "edge", "cloud")
    assert np.allclose(minimum[0], found.compute.min(axis=0))
    assert minimum[2][0, 3] == pytest.approx(np.nanmin(found.joules[:, 0, 3]))
