"""Tolerances of the analogue units in a partition graph, from the widest to none."""

from math import inf

import pytest

from maleo_api.device import DeviceProfile
from maleo_planner.graph.partition_graph import PartitionGraph
from maleo_planner.graph.tolerances import drop_widest_tolerances, max_tolerance
from maleo_planner.inventory.fleet_index import FleetIndex
from maleo_planner.planner import prepare
from maleo_planner.single.mission_problem import MissionProblem
from maleo_planner.single.scope_graphs import ScopeGraphs, SearchScope
from maleo_planner.types.work_budget import Budget
from support.planner.builders import KEY, block, link, mission, model, profile, snapshot, variant, vary

NET = model(variant("fp32", [block("a", mop=10, cut=1000), block("b", mop=10, cut=None)], accuracy="76%"))


def analogue(name: str, tolerance: str | None) -> DeviceProfile:
    figures = [{"value": tolerance, "basis": "Measured"}] if tolerance else []
    return vary(profile(name), features=["Analog"], accuracyTolerance=figures)


def build(**tolerances: str | None) -> PartitionGraph:
    """Return the graph over a digital `drone` and analogue nodes of these tolerances."""
    found = snapshot(
        profiles={"drone": profile("p")} | {name: analogue(name, each) for name, each in tolerances.items()},
        missions=[mission()],
        net=NET,
        links=[link("drone", name, "1Gbit/s") for name in tolerances],
    )
    problem = prepare(found, found.missions[KEY], FleetIndex(found), "margins")
    assert isinstance(problem, MissionProblem)
    (variant_graph,) = ScopeGraphs(problem, SearchScope(), Budget()).list_graphs()
    return variant_graph.graph


@pytest.mark.parametrize(
    ("tolerances", "expected"),
    [({}, 0.0), ({"edge": "2%"}, 0.02), ({"edge": "2%", "gate": "5%"}, 0.05), ({"edge": "2%", "gate": None}, inf)],
)
def test_max_tolerance__is_that_of_the_widest_unit(tolerances: dict[str, str | None], expected: float) -> None:
    assert max_tolerance(build(**tolerances)) == expected


def test_reduced_graphs__drop_one_tolerance_after_another() -> None:
    graph = build(edge="2%", gate="5%", far=None)
    assert [max_tolerance(reduced) for reduced in drop_widest_tolerances(graph)] == [0.05, 0.02, 0.0]


def test_graph_without_analogue_units__has_no_reduced_graphs() -> None:
    assert list(drop_widest_tolerances(build())) == []
