"""Many missions against the exact choice among all plans: every way of every mission is a column of one program."""

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
class _Way:
    """uses: share of each row, of which there is 1."""

    mission: str
    value: float
    uses: Mapping[Row, float]


def _ways(found: Snapshot) -> list[_Way]:
    """All that a mission can do were it alone: what others do to it only makes it worse."""
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
                        uses["memory", *spot] = size / used[spot].room
                        if used[spot].facts.access.sharing == "Exclusive":
                            uses["use", *spot] = 1.0
                    made.append(_Way(key, SERVED_VALUE + objective, uses))
    return made


def _optimum(found: Snapshot) -> float:
    """No choice of one way per mission that keeps time, memory and exclusive use of every unit is worth more."""
    ways = _ways(found)
    rows = sorted({row for way in ways for row in way.uses}, key=str)
    if not ways:
        return 0.0
    matrix = np.array([[way.uses.get(row, 0.0) for way in ways] for row in rows])
    goal = -np.array([way.value for way in ways])
    limits = LinearConstraint(matrix, ub=np.ones(len(rows)))
    done = milp(
        goal, integrality=np.ones(len(ways)), bounds=Bounds(0, 1), constraints=limits, options={"mip_rel_gap": 0}
    )
    return -float(done.fun)


@pytest.mark.parametrize("seed", range(40))
def test_tier__reaches_no_more_than_the_exact_optimum_and_its_bound_no_less(seed: int) -> None:
    chance = Random(seed)
    found = fleet(chance, missions=chance.randint(2, 6), nodes=chance.randint(2, 6), tight=chance.random())
    tier, optimum = plan_fleet(found).tiers["Mission"], _optimum(found)
    assert tier.value <= optimum + 1e-6
    assert optimum <= tier.bound + 1e-6


def test_prices__are_never_negative_whatever_the_solver_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """HiGHS was seen to say -6e-15 where a row is worth nothing; what is impossible would cost minus infinity by it."""

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
