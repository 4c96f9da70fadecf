"""Array types of the planner, and the tolerance within which two values are equal."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]
IntArray = NDArray[np.intp]

EPSILON: Final = 1e-9
"""Difference up to which two values count as equal: rounding errors of sums in different order stay below it."""
