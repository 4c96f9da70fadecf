"""Lower bound on the bottleneck time of a pipeline: the linear relaxation of a covering problem.

Problem: cover all blocks by as few spans as possible, none slower than a given time, with at most one span per unit.
Unlike the spans of a pipeline, they may overlap, be fractional and follow any other unit.

Method: linear program (HiGHS) with a variable x[k, b] per type k and start boundary b, which stands for the longest
span that type k can run from b: minimise the sum of x such that each block is covered at least once and each type is
used at most as often as it has units. Shorter spans from the same start are dominated.

Validity: the spans of a pipeline do not overlap, each unit runs one, and every crossing is fast enough, so a pipeline
is a feasible point. An infeasible program, or an optimum above the maximum number of stages, proves that no pipeline
keeps the time.

Complexity: one linear program of O(T B) variables and B + T rows, for T types and B boundaries.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from maleo_planner.throughput.pipeline_steps import UnitTypes
from maleo_planner.types.numeric import Array
from maleo_planner.types.optimizers import solve_lp, sparse_matrix

_INFEASIBLE: Final = 2  # status of SciPy's linprog
_TOLERANCE: Final = 1e-6


@dataclass(frozen=True, slots=True)
class CoveringDuals:
    """Duals of the covering program, in numbers of stages.

    Attributes:
        block_values: (B,) value of covering all blocks before a boundary.
        unit_prices: (T,) price of using a unit of a type.
    """

    block_values: Array
    unit_prices: Array


def solve_covering_lp(types: UnitTypes, seconds: float) -> CoveringDuals | None:
    """Solve the covering program for a step time.

    Returns:
        The duals; None if the program proves that no pipeline has all steps within `seconds`. If HiGHS fails for
        another reason, duals that count blocks and give units no price.
    """
    ends = _furthest_ends(types, seconds)
    kind, start = np.nonzero(ends)
    if not kind.size:
        return None
    block = np.arange(types.last)[:, None]
    covered = (start <= block) & (block < ends[kind, start])
    used = np.arange(len(types.sizes))[:, None] == kind
    matrix = sparse_matrix(np.concatenate([-covered.astype(float), used.astype(float)]))
    upper_bounds = np.concatenate([-np.ones(types.last), types.sizes])
    result = solve_lp(np.ones(kind.size), matrix, upper_bounds)
    if result.status == _INFEASIBLE or (result.status == 0 and result.fun > types.max_stages + _TOLERANCE):
        return None
    if result.status != 0:
        return CoveringDuals(np.arange(types.last + 1, dtype=float), np.zeros(len(types.sizes)))
    duals = -np.asarray(result.ineqlin.marginals)
    block_values = np.concatenate([[0.0], np.cumsum(duals[: types.last])])
    return CoveringDuals(block_values, 1.0 + duals[types.last :])


def _furthest_ends(types: UnitTypes, seconds: float) -> NDArray[np.intp]:
    """Return (T, B) the last end boundary of spans from each start boundary; 0 for none.

    The span, some crossing into it and some crossing out of it take at most `seconds`.
    """
    crossable = types.crossings <= seconds
    entered, left = crossable[:-1].max(axis=0), crossable[:-1].max(axis=1)
    entered[:, 0], left[:, -1] = crossable[-1, :, 0], True
    possible = (types.spans <= seconds) & entered[:, :, None] & left[:, None, :]
    furthest: NDArray[np.intp] = np.where(possible, np.arange(types.last + 1), 0).max(axis=2)
    return furthest
