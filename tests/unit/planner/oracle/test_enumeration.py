"""The planner and HiGHS against an enumeration in plain Python: every path of small worlds, evaluated step by step."""

from random import Random

import pytest

from maleo_planner.planner import decide
from maleo_planner.types.problem import Feasible, Plan, Snapshot
from support.oracle.enumeration import Path, follow, judge, list_paths
from support.oracle.milp import best
from support.oracle.model import forms_of, places_of, read
from support.planner.builders import KEY
from support.planner.generators import every_kind

_SEEDS = range(80)


def _world(seed: int) -> Snapshot:
    chance = Random(1000 + seed)
    return every_kind(chance, blocks=chance.randint(1, 3), nodes=chance.randint(1, 3))


def _enumerate(found: Snapshot) -> list[tuple[float, str, str, Path]]:
    """Return (objective, variant, exit, path) of all that keep every rule."""
    return [
        (objective, meaning.variant.name, meaning.exit, path)
        for meaning in read(found, KEY)
        for path in list_paths(meaning)
        if (figures := follow(meaning, path)) is not None
        if (objective := judge(meaning, path, figures)) is not None
    ]


@pytest.mark.parametrize("seed", _SEEDS)
def test_plan__is_the_best_of_all_paths(seed: int) -> None:
    found = _world(seed)
    verdict, optimum, paths = decide(found, KEY), best(found, KEY), _enumerate(found)
    assert isinstance(verdict, Feasible) is (optimum is not None) is bool(paths)
    if isinstance(verdict, Feasible) and optimum is not None:
        optimum_by_enumeration = max(objective for objective, *_ in paths)
        assert verdict.plan.objective == pytest.approx(optimum_by_enumeration, abs=1e-9)
        assert optimum.objective == pytest.approx(optimum_by_enumeration, abs=1e-7)
        own = verdict.plan
        (evaluated,) = [each for each in paths if each[1:3] == (own.variant, own.exit) and each[3] == _path_of(own)]
        assert evaluated[0] == pytest.approx(optimum_by_enumeration, abs=1e-9)
        mean = sum(p.compute.value + p.wait.value for p in own.partitions) + sum(t.time.value for t in own.transfers)
        assert mean == pytest.approx(own.latency_mean.value, rel=1e-9)


def _path_of(own: Plan) -> Path:
    blocks = own.partitions[-1].last + 1
    return places_of(own, blocks), forms_of(own, blocks)


def test_worlds__have_plans_of_every_kind() -> None:
    """These worlds and more that are drawn in the same way."""
    seeds = range(3 * len(_SEEDS))
    plans = [v.plan for v in (decide(_world(seed), KEY) for seed in seeds) if isinstance(v, Feasible)]
    assert len(seeds) * 0.2 < len(plans) < len(seeds) * 0.9
    assert {each.mode for each in plans} == {"Local", "Split", "Remote"}
    assert any(each.exit for each in plans)
    assert any(p.codec for each in plans for p in each.partitions)
    assert any(p.turn for each in plans for p in each.partitions)
