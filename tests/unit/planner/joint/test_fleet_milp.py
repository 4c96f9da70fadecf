"""Joint planning against the exact choice among all plans: each plan of each mission is a column of one MILP."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from random import Random
from typing import Any

import numpy as np
import pytest
from scipy.optimize import Bounds, LinearConstraint, milp

from maleo_api.quantities import BYTES, parse
from maleo_planner.joint import column_generation
from maleo_planner.joint.fleet import SERVED_VALUE, plan_fleet
from maleo_planner.types.optimizers import solve_lp
from maleo_planner.types.problem import Snapshot
from support.oracle.milp import Program
from support.oracle.model import read
from support.planner.generators import fleet

Row = tuple[str, ...]


@dataclass(frozen=True)
class _Column:
    """A plan of one mission. uses: share of each row, whose capacity is 1."""

    mission: str
    value: float
    uses: Mapping[Row, float]


def _columns(found: Snapshot) -> list[_Column]:
    """Return all plans of each mission as if it were alone: other missions can only make them worse."""
    made = []
    for key in found.missions:
        for meaning in read(found, key):
            program, blocks = Program(meaning), meaning.variant.blocks
            for places in product([unit.spot for unit in meaning.units], repeat=len(blocks)):
                kept, objective = program.judge(places)
                if kept:
                    used = {unit.spot: unit for unit in meaning.units if unit.spot in places}
                    uses: dict[Row, float] = {(key,): 1.0}
                    for spot, seconds in program.seconds(places).items():
                        uses["time", *spot] = seconds * meaning.rate
                        own = [block for block, place in zip(blocks, places, strict=True) if place == spot]
                        size = sum(parse(BYTES, b.parameters) for b in own) + max(
                            parse(BYTES, b.activations) for b in own
                        )
                        uses["memory", *spot] = size / used[spot].free
                        if used[spot].facts.access.sharing == "Exclusive":
                            uses["use", *spot] = 1.0
                    made.append(_Column(key, SERVED_VALUE + objective, uses))
    return made


def _optimum(found: Snapshot) -> float:
    """Return the best value of one plan per mission, within time, memory and exclusive use of every unit."""
    columns = _columns(found)
    rows = sorted({row for column in columns for row in column.uses}, key=str)
    if not columns:
        return 0.0
    matrix = np.array([[column.uses.get(row, 0.0) for column in columns] for row in rows])
    goal = -np.array([column.value for column in columns])
    limits = LinearConstraint(matrix, ub=np.ones(len(rows)))
    done = milp(
        goal, integrality=np.ones(len(columns)), bounds=Bounds(0, 1), constraints=limits, options={"mip_rel_gap": 0}
    )
    return -float(done.fun)


@pytest.mark.parametrize("seed", range(40))
def test_exact_optimum__lies_between_value_and_bound_of_the_tier(seed: int) -> None:
    chance = Random(seed)
    found = fleet(chance, missions=chance.randint(2, 6), nodes=chance.randint(2, 6), tight=chance.random())
    tier, optimum = plan_fleet(found).tiers["Mission"], _optimum(found)
    assert tier.value <= optimum + 1e-6
    assert optimum <= tier.bound + 1e-6


def test_prices__are_never_negative_whatever_the_solver_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """HiGHS can return -6e-15 for a row that is worth nothing; an impossible step would then cost minus infinity."""

    def rounded(*args: Any, **kwargs: Any) -> Any:
        done = solve_lp(*args, **kwargs)
        done.ineqlin.marginals = np.where(done.ineqlin.marginals == 0, 6e-15, done.ineqlin.marginals)
        return done

    found = fleet(Random(3), missions=6, nodes=4, tight=0.7)
    exact = plan_fleet(found).tiers["Mission"]
    monkeypatch.setattr(column_generation, "solve_lp", rounded)
    tier = plan_fleet(found).tiers["Mission"]
    assert (tier.served, tier.value) == (exact.served, pytest.approx(exact.value))
    assert tier.bound == pytest.approx(exact.bound)
