"""What no set of units could do: a linear relaxation of a pipeline, where spans overlap and units are shared out."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from maleo_operator.planning.amount import Array
from maleo_operator.planning.optimizers import make_sparse, minimize
from maleo_operator.planning.stages import Types

_INFEASIBLE: Final = 2  # status of SciPy's linprog
_TOLERANCE: Final = 1e-6


@dataclass(frozen=True, slots=True)
class Cover:
    """The duals: worth (B,) of having got to a boundary, price (T,) of a unit of a type; both in stages."""

    worth: Array
    price: Array


def cover(types: Types, seconds: float) -> Cover | None:
    """None where units cannot even cover all blocks in this time, each by one span or by shares of several.

    A pipeline is a cover: its spans do not overlap, a unit serves with one, and every crossing is quick enough.
    """
    ends = _reach(types, seconds)
    kind, start = np.nonzero(ends)
    if not kind.size:
        return None
    piece = np.arange(types.last)[:, None]
    covered = (start <= piece) & (piece < ends[kind, start])
    served = np.arange(len(types.sizes))[:, None] == kind
    rows = make_sparse(np.concatenate([-covered.astype(float), served.astype(float)]))
    most = np.concatenate([-np.ones(types.last), types.sizes])
    done = minimize(np.ones(kind.size), rows, most)
    if done.status == _INFEASIBLE or (done.status == 0 and done.fun > types.most + _TOLERANCE):
        return None
    if done.status != 0:
        return Cover(np.arange(types.last + 1, dtype=float), np.zeros(len(types.sizes)))
    duals = -np.asarray(done.ineqlin.marginals)
    worth = np.concatenate([[0.0], np.cumsum(duals[: types.last])])
    return Cover(worth, 1.0 + duals[types.last :])


def _reach(types: Types, seconds: float) -> NDArray[np.intp]:
    """(T, B) the furthest boundary that a span from each one ends at, 0 for none; it is entered and left in time."""
    quick = types.hops <= seconds
    entered, left = quick[:-1].max(axis=0), quick[:-1].max(axis=1)
    entered[:, 0], left[:, -1] = quick[-1, :, 0], True
    possible = (types.spans <= seconds) & entered[:, :, None] & left[:, None, :]
    furthest: NDArray[np.intp] = np.where(possible, np.arange(types.last + 1), 0).max(axis=2)
    return furthest
