"""Lagrangian prices raise bounds, but never above the best path; the search finds the same plans with them."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations, product
from random import Random
from typing import Any

import numpy as np
import pytest

from maleo_api.model import ModelProfile
from maleo_planner.graph import best_first
from maleo_planner.graph.edge_costs import EdgeCosts
from maleo_planner.graph.lagrangian import LagrangianDual, compute_peak_to_go
from maleo_planner.graph.partition_graph import PartitionGraph
from maleo_planner.graph.query import path_cost
from maleo_planner.planner import decide, pareto_front
from maleo_planner.types.problem import Feasible, Plan, Snapshot
from support.planner.builders import DIGEST, KEY, block, link, meta, mission, model, profile, snapshot, variant
from support.planner.generators import one_mission

_NEVER = 10**6, 5
_AT_ONCE = 1, 10


def _worlds(count: int, *, blocks: int, nodes: int) -> Iterator[Snapshot]:
    chance = Random(blocks * 100 + nodes)
    return (one_mission(chance, blocks=blocks, nodes=nodes) for _ in range(count))


def _chosen(world: Snapshot, effort: tuple[int, int], patch: pytest.MonkeyPatch) -> tuple[bool, Plan | None]:
    patch.setattr(best_first, "_EXPANSIONS", effort)
    verdict = decide(world, KEY)
    feasible = isinstance(verdict, Feasible)
    return feasible, verdict.plan if isinstance(verdict, Feasible) else verdict.closest


@pytest.mark.parametrize(("blocks", "nodes", "count"), [(4, 3, 150), (8, 5, 80), (16, 6, 30)])
def test_plan__is_the_same_with_prices_as_without(
    monkeypatch: pytest.MonkeyPatch, blocks: int, nodes: int, count: int
) -> None:
    """For feasible missions and for closest infeasible plans; the best-first search alone is exact."""
    seen = set()
    for world in _worlds(count, blocks=blocks, nodes=nodes):
        plain, priced = _chosen(world, _NEVER, monkeypatch), _chosen(world, _AT_ONCE, monkeypatch)
        assert plain[0] is priced[0]
        assert (plain[1] is None) is (priced[1] is None)
        if plain[1] is not None and priced[1] is not None:
            assert priced[1].objective == pytest.approx(plain[1].objective, abs=1e-9)
            assert priced[1].partitions == plain[1].partitions
        seen.add(plain[0])
    assert seen == {True, False}


def test_bound__rises_but_never_above_the_best_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """For every query of the planner, to the last step; a few bounds reach the cost of the best path itself."""
    searches: list[tuple[best_first.BestFirstSearch, best_first.PathSearchResult]] = []
    run = best_first.BestFirstSearch.run

    def record(self: best_first.BestFirstSearch, **options: Any) -> best_first.PathSearchResult:
        searches.append((self, run(self)))
        return run(self, **options)

    monkeypatch.setattr(best_first.BestFirstSearch, "run", record)
    for world in _worlds(60, blocks=12, nodes=6):
        decide(world, KEY)
    rose = reached = 0
    for searcher, found in searches:
        if not found.paths or not searcher._query.strict:
            continue
        for dual in searcher._make_duals():
            best, before = found.paths[0][0], -np.inf
            for steps in (1, 5, 50):
                dual.ascend(steps, np.inf)
                assert before <= dual.value <= best + 1e-9
                before = dual.value
            rose += _unpriced_bound(searcher) < dual.value - 1e-9
            reached += dual.value >= best - 1e-9
    assert rose > 10
    assert reached > 10


def _unpriced_bound(searcher: best_first.BestFirstSearch) -> float:
    """Return the lower bound of the cost of the best path without prices."""
    bounds, order = searcher._expand(searcher._root, searcher._unpriced, np.inf)
    return float(bounds[order[0]]) if order.size else np.inf


def test_path_without_violations__costs_no_less_than_the_bound(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    relaxed_paths: list[tuple[LagrangianDual, float, float]] = []
    measure = LagrangianDual._evaluate

    def record(self: LagrangianDual, path: Any, bound: float) -> Any:
        relaxed = measure(self, path, bound)
        assert relaxed.cost == pytest.approx(path_cost(self._costs, self._graph, path))
        if (relaxed.excess_uses <= 0).all() and (relaxed.violations <= 0).all():
            relaxed_paths.append((self, relaxed.cost, bound))
        return relaxed

    monkeypatch.setattr(LagrangianDual, "_evaluate", record)
    monkeypatch.setattr(best_first, "_EXPANSIONS", _AT_ONCE)
    for world in _worlds(30, blocks=12, nodes=6):
        decide(world, KEY)
    assert len(relaxed_paths) > 20
    assert all(dual.value <= cost + 1e-9 for dual, cost, _ in relaxed_paths)


def test_peak_to_go__is_that_of_the_best_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """For queries for closest infeasible plans, where a rate limit may be violated, against all paths."""
    searches: list[best_first.BestFirstSearch] = []
    run = best_first.BestFirstSearch.run

    def record(self: best_first.BestFirstSearch, **options: Any) -> best_first.PathSearchResult:
        searches.append(self)
        return run(self, **options)

    monkeypatch.setattr(best_first.BestFirstSearch, "run", record)
    for world in _worlds(60, blocks=4, nodes=3):
        decide(world, KEY)
    compared = 0
    for searcher in searches:
        graph, query = searcher._graph, searcher._query
        for limit in query.limits:
            if limit.peak:
                ahead = compute_peak_to_go(graph, limit.costs, query.max_partitions)[-1][graph.source, 0]
                assert ahead == _min_peak(graph, limit.costs, graph.source, 0, query.max_partitions - 1)
                compared += bool(np.isfinite(ahead))
    assert compared > 10


def _min_peak(graph: PartitionGraph, costs: EdgeCosts, place: int, boundary: int, left: int) -> float:
    if boundary == graph.last:
        return 0.0
    steps = product(range(graph.source), range(boundary + 1, graph.last + 1)) if left else ()
    return min(
        (
            max(
                costs.crossing(place, unit, boundary),
                costs.span(unit, boundary, end),
                _min_peak(graph, costs, unit, end, left - 1),
            )
            for unit, end in steps
        ),
        default=np.inf,
    )


def _partly_metered(chance: Random) -> Snapshot:
    """Return a world in which the edge's power is unknown but the energy of some of its spans was measured."""
    chain = [block(f"b{i}", mop=chance.randint(5, 60), cut=chance.randint(10, 60_000)) for i in range(5)]
    chain.append(block("b5", mop=chance.randint(5, 60), cut=None))
    spans = [
        {
            "blocks": [f"b{first}", f"b{last}"],
            "latency": {"p50": f"{(p50 := chance.randint(2, 9) * (last - first + 1))}ms", "p95": f"{p50 + 1}ms"},
            "energy": f"{chance.randint(1, 60) * (last - first + 1)}mJ",
            "samples": 100,
            "basis": "Measured",
        }
        for first, last in combinations(range(6), 2)
        if chance.random() < 0.5
    ]
    spec = {"variantDigest": DIGEST, "profile": "p-edge", "unit": "npu", "runtime": "onnxruntime", "spans": spans}
    measured = ModelProfile.model_validate({"metadata": meta("edge", "default"), "spec": spec})
    watts = {"drone": "30W", "edge": None, "cloud": "20W"}
    made = snapshot(
        profiles={n: profile(f"p-{n}", gops=chance.randint(3, 40), watts=w) for n, w in watts.items()},
        missions=[mission(objectives={"latency": {"atMost": f"{chance.randint(20, 90)}ms"}})],
        net=model(variant("fp32", chain), inputs=chance.randint(1, 60_000)),
        links=[link(*pair, f"{chance.randint(20, 300)}Mbit/s") for pair in combinations(watts, 2)],
    )
    return replace(made, model_profiles={measured.key: measured})


def test_prices__keep_paths_whose_energy_is_known_only_by_measured_spans(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compare the plan of least energy and the Pareto front with those of the best-first search alone."""
    chance, metered = Random(7), 0
    for world in [_partly_metered(chance) for _ in range(30)]:
        found = []
        for effort in (_NEVER, _AT_ONCE):
            monkeypatch.setattr(best_first, "_EXPANSIONS", effort)
            found.append((decide(world, KEY, aim="energy").chosen, pareto_front(world, KEY)))
        (plain, front), (priced, priced_front) = found
        assert priced == plain
        assert priced_front == front
        metered += plain is not None and plain.partitions[0].node == "drone" and plain.energy.value < np.inf
    assert metered > 5
