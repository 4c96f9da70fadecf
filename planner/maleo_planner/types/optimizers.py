"""SciPy's optimisers, imported on first use: the import takes longer than most planning decisions."""
# ruff: noqa: PLC0415 - this module exists to import inside functions

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray


def find_root(function: Callable[..., float], low: float, high: float, *, args: tuple[Any, ...], xtol: float) -> float:
    """Return a root of `function` in [low, high] by Brent's method; its signs at both ends must differ."""
    from scipy.optimize import brentq

    return float(brentq(function, low, high, args=args, xtol=xtol))


def sparse_matrix(*args: Any, **options: Any) -> Any:
    """Return a matrix in compressed sparse row format; arguments as for `scipy.sparse.csr_matrix`."""
    from scipy.sparse import csr_matrix

    return csr_matrix(*args, **options)


def solve_lp(costs: ArrayLike, matrix: Any, upper_bounds: ArrayLike) -> Any:
    """Solve the linear program min costs.x subject to matrix.x <= upper_bounds, x >= 0 with HiGHS.

    Returns:
        Result of `scipy.optimize.linprog`, with the duals.
    """
    from scipy.optimize import linprog

    return linprog(costs, A_ub=matrix, b_ub=upper_bounds, bounds=(0, None), method="highs")


def solve_binary_program(
    values: NDArray[np.float64], matrix: Any, upper_bounds: ArrayLike, options: Mapping[str, Any]
) -> NDArray[np.bool_]:
    """Solve the binary program max values.x subject to matrix.x <= upper_bounds with HiGHS.

    Args:
        values: Objective coefficients.
        matrix: Constraint matrix.
        upper_bounds: Right-hand side.
        options: Options of `scipy.optimize.milp`.

    Returns:
        Mask of the chosen columns; all False if no solution was found.
    """
    from scipy.optimize import Bounds, LinearConstraint, milp

    constraint = LinearConstraint(matrix, ub=upper_bounds)
    result = milp(
        -values, constraints=constraint, integrality=np.ones(values.size), bounds=Bounds(0, 1), options=options
    )
    return np.zeros(values.size, dtype=np.bool_) if result.x is None else np.asarray(result.x > 0.5)  # noqa: PLR2004 - 0 or 1
