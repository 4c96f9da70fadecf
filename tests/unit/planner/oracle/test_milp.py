"""The planner against an independent mixed-integer program, on problems that are too large to be enumerated."""

from collections import Counter
from random import Random

import pytest

from maleo_planner.planner import decide
from maleo_planner.types.problem import Feasible, Snapshot
from support.oracle.milp import Program, best
from support.oracle.model import forms_of, places_of, read
from support.planner.generators import every_kind, one_mission

_KEY = "default/watch"
_SEEDS = (*range(100), 300)  # the best plan of the last has four partitions


def _instance(seed: int) -> Snapshot:
    chance = Random(seed)
    return one_mission(chance, blocks=chance.randint(8, 12), nodes=chance.choice((4, 5)))


def _every_kind(seed: int) -> Snapshot:
    chance = Random(seed)
    return every_kind(chance, blocks=chance.randint(1, 4), nodes=chance.randint(2, 4))


@pytest.mark.parametrize("seed", _SEEDS)
def test_plan__equals_that_of_highs_with_every_constraint(seed: int) -> None:
    _compare(_instance(seed))


@pytest.mark.parametrize("seed", _SEEDS)
def test_plan__equals_that_of_highs_in_worlds_of_every_kind(seed: int) -> None:
    """Smaller worlds with every kind of constraint."""
    _compare(_every_kind(seed))


def _compare(found: Snapshot) -> None:
    verdict, wanted = decide(found, _KEY), best(found, _KEY)
    assert isinstance(verdict, Feasible) is (wanted is not None)
    if isinstance(verdict, Feasible) and wanted is not None:
        own = verdict.plan
        assert own.objective == pytest.approx(wanted.objective, abs=1e-7)
        assert verdict.bound == pytest.approx(own.objective)
        # In the model of HiGHS the planner's plan keeps every rule and has the same objective.
        meaning = next(m for m in read(found, _KEY) if (m.variant.name, m.exit) == (own.variant, own.exit))
        blocks = len(meaning.variant.blocks)
        kept, objective = Program(meaning).judge(places_of(own, blocks), forms_of(own, blocks))
        assert kept
        assert objective == pytest.approx(own.objective, abs=1e-9)


def test_instances__have_plans_of_every_kind() -> None:
    """Otherwise the agreement above would prove little."""
    verdicts = [decide(_instance(seed), _KEY) for seed in _SEEDS]
    plans = [verdict.plan for verdict in verdicts if isinstance(verdict, Feasible)]
    assert len(_SEEDS) * 0.3 < len(plans) < len(_SEEDS) * 0.9
    assert {len(each.partitions) for each in plans} == {1, 2, 3, 4}
    assert set(Counter(each.mode for each in plans)) == {"Local", "Split", "Remote"}
    assert {each.variant for each in plans} == {"fp32", "int8"}
    assert sum(any(p.wait.value for p in each.partitions) for each in plans) > 3
