"""Columns of mean 0 and standard deviation 1, and back."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from spread_jax.data.numbers import Numbers, numbers_of

Floats = NDArray[np.float64]

# two steps of the dtype: 0.3 and 0.1 + 0.2 are one step apart, and a sum of many terms has two
CONSTANT_STEPS = 2


class Standardization(NamedTuple):
    """x ↦ (x - mean) / scale, column by column, and back.

    Attributes:
      mean: ``[columns]``, data units.
      scale: ``[columns]``, the standard deviation; where the column is constant 1, and where it is
        constant but for rounding the largest \\|x\\| if that is more than 1.
      constant_columns: the columns, positions from 0, that hold one value only, or whose values
        are within two roundings of their dtype of each other, as 0.3 and 0.1 + 0.2 are.
    """

    mean: Floats
    scale: Floats
    constant_columns: list[int]

    def apply(self, x: ArrayLike) -> Floats:
        """(x - mean) / scale."""
        z = np.array(x, np.float64)
        z -= self.mean  # in place: a large table is there once
        z /= self.scale
        return z

    def inverse(self, z: ArrayLike) -> Floats:
        """mean + scale z: back to data units."""
        return self.mean + self.scale * np.asarray(z, np.float64)


def standardize(x: Any) -> tuple[Floats, Standardization]:
    """z = (x - mean) / std, column by column; a constant column becomes 0, with scale 1.

    ``scaling.inverse(z)`` is x again, and ``scaling.constant_columns`` says where scale 1 stands
    for a standard deviation of 0. A column is constant but for rounding, and becomes 0 to
    rounding, if its range is at most 2 eps max \\|x\\|, eps the relative step of its dtype.

    Args:
      x: data, ``[rows, columns]``, an array or a DataFrame of numbers and booleans, any units.

    Returns:
      z, float64, and the scaling.

    Raises:
      ValueError: if x is no table of finite numbers with at least two rows; it names the column
        and the row, both from 1.

    Examples:
      >>> z, scaling = sj.standardize([[1.0, 5.0], [3.0, 5.0]])
      >>> print(z, scaling.constant_columns)
      [[-1.  0.]
       [ 1.  0.]] [1]
    """
    numbers = numbers_of(x)
    scaling = scaling_of(numbers)
    return scaling.apply(numbers.values), scaling


def scaling_of(numbers: Numbers) -> Standardization:
    """The scaling that :func:`standardize` uses. No offset and no unit costs it any digits."""
    x = numbers.values
    low, high = x.min(axis=0).astype(np.float64), x.max(axis=0).astype(np.float64)
    largest = np.maximum(np.abs(low), np.abs(high))
    constant = high - low <= CONSTANT_STEPS * numbers.eps * largest
    mean, scale = low.copy(), np.ones(x.shape[1])
    for j, is_constant in enumerate(constant):
        if is_constant:
            # so that what is left of it stays within rounding of 0 whatever its units
            scale[j] = max(1.0, largest[j]) if high[j] > low[j] else 1.0
            continue
        column = x[:, j].astype(np.float64) - low[j]  # exact where digits are few
        exponent = np.frexp(column.max())[1]
        column = np.ldexp(column, -exponent)  # exact, and no square over- or underflows
        mean[j] = low[j] + np.ldexp(column.mean(), exponent)
        scale[j] = np.ldexp(column.std(), exponent)
        constant[j] = scale[j] == 0  # subnormal numbers
        scale[j] += constant[j]
    return Standardization(mean, scale, np.flatnonzero(constant).tolist())
