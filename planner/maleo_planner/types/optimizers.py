"""SciPy's optimisers, imported on first use: the import takes longer than finding most plans."""
# ruff: noqa: PLC0415 - imports inside functions are what this module is for

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray


def find_root(function: Callable[..., float], low: float, high: float, *, args: tuple[Any, ...], xtol: float) -> float:
    """Return a root of `function` in [low, high], at whose ends its signs must differ (Brent's method)."""
    from scipy.optimize import brentq

    return float(brentq(function, low, high, args=args, xtol=xtol))


def sparse_matrix(*args: Any, **options: Any) -> Any:
    """Return a compressed sparse row matrix; arguments as of `scipy.sparse.csr_matrix`."""
    from scipy.sparse import csr_matrix

    return csr_matrix(*args, **options)


def solve_lp(costs: ArrayLike, matrix: Any, upper_bounds: ArrayLike) -> Any:
    """Solve the linear program min costs.x, rows.x <= most, x >= 0 by HiGHS; return SciPy's result with its duals."""
    from scipy.optimize import linprog

    return linprog(costs, A_ub=matrix, b_ub=upper_bounds, bounds=(0, None), method="highs")


def solve_binary_program(
    values: NDArray[np.float64], matrix: Any, upper_bounds: ArrayLike, options: Mapping[str, Any]
) -> NDArray[np.bool_]:
    """Solve the binary program max values.x, rows.x <= most by HiGHS; return a mask, all False without a solution."""
    from scipy.optimize import Bounds, LinearConstraint, milp

    constraint = LinearConstraint(matrix, ub=upper_bounds)
    result = milp(
        -values, constraints=constraint, integrality=np.ones(values.size), bounds=Bounds(0, 1), options=options
    )
    return np.zeros(values.size, dtype=np.bool_) if result.x is None else np.asarray(result.x > 0.5)  # noqa: PLR2004 - 0 or 1
