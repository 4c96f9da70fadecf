"""The planner and HiGHS against an enumeration in plain Python: every way of small worlds, followed step by step."""

from random import Random

import pytest

from maleo_planner.planner import decide
from maleo_planner.types.problem import Feasible, Plan, Snapshot
from support.oracle.enumeration import Way, follow, judge, list_ways
from support.oracle.milp import best
from support.oracle.model import forms_of, places_of, read
from support.planner.builders import KEY
from support.planner.generators import every_kind

_SEEDS = range(80)


def _world(seed: int) -> Snapshot:
    chance = Random(1000 + seed)
    return every_kind(chance, blocks=chance.randint(1, 3), nodes=chance.randint(1, 3))


def _enumerate(found: Snapshot) -> list[tuple[float, str, str, Way]]:
    """(objective, variant, exit, way) of all that keep every rule."""
    return [
        (objective, meaning.variant.name, meaning.exit, way)
        for meaning in read(found, KEY)
        for way in list_ways(meaning)
        if (figures := follow(meaning, way)) is not None
        if (objective := judge(meaning, way, figures)) is not None
    ]


@pytest.mark.parametrize("seed", _SEEDS)
def test_plan__is_the_best_of_all_ways(seed: int) -> None:
    found = _world(seed)
    verdict, optimum, ways = decide(found, KEY), best(found, KEY), _enumerate(found)
    assert isinstance(verdict, Feasible) is (optimum is not None) is bool(ways)
    if isinstance(verdict, Feasible) and optimum is not None:
        most = max(objective for objective, *_ in ways)
        assert verdict.plan.objective == pytest.approx(most, abs=1e-9)
        assert optimum.objective == pytest.approx(most, abs=1e-7)
        own = verdict.plan
        (told,) = [each for each in ways if each[1:3] == (own.variant, own.exit) and each[3] == _way_of(own)]
        assert told[0] == pytest.approx(most, abs=1e-9)
        mean = sum(p.compute.value + p.wait.value for p in own.partitions) + sum(t.time.value for t in own.transfers)
        assert mean == pytest.approx(own.latency_mean.value, rel=1e-9)


def _way_of(own: Plan) -> Way:
    blocks = own.partitions[-1].last + 1
    return places_of(own, blocks), forms_of(own, blocks)


def test_worlds__have_answers_of_every_kind() -> None:
    """These and some more, which are drawn alike."""
    seeds = range(3 * len(_SEEDS))
    plans = [v.plan for v in (decide(_world(seed), KEY) for seed in seeds) if isinstance(v, Feasible)]
    assert len(seeds) * 0.2 < len(plans) < len(seeds) * 0.9
    assert {each.mode for each in plans} == {"Local", "Split", "Remote"}
    assert any(each.exit for each in plans)
    assert any(p.codec for each in plans for p in each.partitions)
    assert any(p.turn for each in plans for p in each.partitions)
