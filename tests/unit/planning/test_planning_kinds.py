"""Every kind of constraint that worlds are drawn with decides some plan: without it, there would be another optimum."""

from functools import cache
from random import Random

import pytest
from instances import every_kind
from kinds import IDLE, KEY, KINDS

from maleo_operator.planning.planner import decide
from maleo_operator.planning.problem import Feasible, Snapshot

_MOST = 300


@cache
def _world(seed: int) -> tuple[Snapshot, float | None]:
    chance = Random(seed)
    found = every_kind(chance, blocks=chance.randint(2, 4), nodes=chance.randint(3, 4))
    return found, _optimum(found)


def _optimum(found: Snapshot) -> float | None:
    """None where nothing keeps every rule. That the planner finds it is tested beside this."""
    verdict = decide(found, KEY)
    return round(verdict.plan.objective, 9) if isinstance(verdict, Feasible) else None


@pytest.mark.parametrize("kind", KINDS)
def test_kind_of_constraint__decides_some_plan(kind: str) -> None:
    for seed in range(_MOST):
        found, optimum = _world(seed)
        without = KINDS[kind](found)
        if without != found and _optimum(without) != optimum:
            return
    pytest.fail(f"{kind} made no difference in {_MOST} worlds")


@pytest.mark.parametrize("kind", IDLE)
def test_what_planning_does_not_read__decides_none(kind: str) -> None:
    worlds = [(found, optimum) for found, optimum in map(_world, range(60)) if IDLE[kind](found) != found]
    assert len(worlds) > 30
    for found, optimum in worlds:
        assert _optimum(IDLE[kind](found)) == optimum
