"""Rows of a table with each column on its own scale, and what of it may be rounding."""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from spread_jax.data.numbers import Numbers, first_of_equal_rows
from spread_jax.data.standardization import Floats, Standardization, scaling_of

# of a column's scale: about ten steps of float32, which cannot tell it from 0
TOLERANCE = 1e-6
MOST_TOLERANCE = 0.3  # rounding to a step as large as the scale has a standard deviation of 0.29


class ScaledRows(NamedTuple):
    """Rows of a table, centred, each column over its scale, without constant columns.

    Attributes:
      z: ``[rows, varying]``.
      varying: places of its columns in the table.
      scaling: of all columns.
      step: of each column of z, the rounding of its numbers, in the table's units.
      noise: of each column of z, the standard deviation along a direction that counts as 0.
      first_rows: places of the rows that equal no earlier row.
    """

    z: Floats
    varying: NDArray[np.intp]
    scaling: Standardization
    step: Floats
    noise: Floats
    first_rows: NDArray[np.intp]


def scaled_rows(numbers: Numbers) -> ScaledRows:
    """The rows of a table of numbers."""
    x, scaling = numbers.values, scaling_of(numbers)
    varying = np.setdiff1d(np.arange(x.shape[1]), scaling.constant_columns)
    z = scaling.apply(x)[:, varying]
    z -= z.mean(axis=0)  # far from 0 the mean itself is rounded
    step = (numbers.eps * np.abs(x).max(axis=0))[varying]
    # what rounding to a column's own float type can leave along a dependent direction
    rounding = math.sqrt(max(1, varying.size)) * step / scaling.scale[varying]
    noise = np.clip(rounding, TOLERANCE, MOST_TOLERANCE)
    return ScaledRows(z, varying, scaling, step, noise, first_of_equal_rows(x[:, varying]))
