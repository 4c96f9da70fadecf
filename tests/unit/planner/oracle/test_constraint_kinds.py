"""Every kind of constraint in the random worlds decides some plan: without it the optimum would differ."""

from functools import cache
from random import Random

import pytest

from maleo_planner.planner import decide
from maleo_planner.types.problem import Feasible, Snapshot
from support.planner.builders import KEY
from support.planner.constraint_kinds import IDLE, KINDS
from support.planner.generators import every_kind

_MAX_WORLDS = 300
_FIRST = {
    "a Hard limit of accuracy": 39,
    "a Hard limit of latency": 10,
    "a Hard limit of energy": 17,
    "egress of the input": 75,
    "egress of features": 26,
    "a floor relative to a variant": 44,
    "updates of the model": 27,
    "variants that are named": 157,
    "an input by selector": 16,
    "an incumbent plan": 22,
    "a fallback of others": 81,
    "links of others": 29,
    "patience of others": 28,
    "exclusive units": 31,
    "reconfiguration": 41,
    "analogue tolerance": 27,
    "writing weights": 27,
    "unknown efficiency": 35,
    "unknown peaks": 25,
    "sparse peaks": 40,
    "figures of a weaker basis": 15,
    "a power mode": 12,
    "runtime": 114,
    "format": 17,
    "version": 37,
    "back end": 25,
    "operating system": 135,
    "a co-located processor": 8,
    "units that are unavailable": 157,
    "devices that are not ready": 9,
    "nodes that are not ready": 9,
    "links by site and tier": 18,
    "energy of links": 24,
    "correction": 8,
    "measured spans": 8,
    "measured energy": 31,
    "exits": 23,
    "raw cuts": 75,
    "codecs": 8,
    "work of codecs": 8,
    "loss of codecs": 35,
    "unknown accuracy": 28,
    "sparsity": 40,
    "whole models": 19,
}
"""Seeds of worlds in which each kind decides a plan, tried first because the search for them takes long."""


@cache
def _world(seed: int) -> tuple[Snapshot, float | None]:
    chance = Random(seed)
    found = every_kind(chance, blocks=chance.randint(2, 4), nodes=chance.randint(3, 4))
    return found, _optimum(found)


def _optimum(found: Snapshot) -> float | None:
    """Return the optimum, or None if nothing is feasible; other tests prove that the planner finds it."""
    verdict = decide(found, KEY)
    return round(verdict.plan.objective, 9) if isinstance(verdict, Feasible) else None


@pytest.mark.parametrize("kind", KINDS)
def test_kind_of_constraint__decides_some_plan(kind: str) -> None:
    for seed in (_FIRST.get(kind, 0), *range(_MAX_WORLDS)):
        found, optimum = _world(seed)
        without = KINDS[kind](found)
        if without != found and _optimum(without) != optimum:
            return
    pytest.fail(f"{kind} made no difference in {_MAX_WORLDS} worlds")


@pytest.mark.parametrize("kind", IDLE)
def test_field_that_planning_does_not_read__decides_no_plan(kind: str) -> None:
    worlds = [(found, optimum) for found, optimum in map(_world, range(60)) if IDLE[kind](found) != found]
    assert len(worlds) > 30
    for found, optimum in worlds:
        assert _optimum(IDLE[kind](found)) == optimum
