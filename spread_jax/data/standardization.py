"""Columns of mean 0 and standard deviation 1, and back; rows that are told apart."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from spread_jax.data.files import as_table

Floats = NDArray[np.float64]


class Standardization(NamedTuple):
    """x ↦ (x - mean) / scale, column by column, and back.

    Attributes:
      mean: ``[columns]``, data units.
      scale: ``[columns]``, the standard deviation, and 1 where the column is constant.
      constant_columns: the columns, from 0, that hold one value only.
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


def standardize(x: ArrayLike) -> tuple[Floats, Standardization]:
    """z = (x - mean) / std, column by column; a constant column becomes 0, with scale 1.

    ``scaling.inverse(z)`` is x again, and ``scaling.constant_columns`` says where scale 1 stands
    for a standard deviation of 0.

    Args:
      x: data, ``[rows, columns]``, any units.

    Returns:
      z, float64, and the scaling.

    Raises:
      ValueError: if x is no table of finite numbers with at least two rows.

    Examples:
      >>> z, scaling = sj.standardize([[1.0, 5.0], [3.0, 5.0]])
      >>> print(z, scaling.constant_columns)
      [[-1.  0.]
       [ 1.  0.]] [1]
    """
    x = as_table(x)
    low, high = x.min(axis=0).astype(np.float64), x.max(axis=0).astype(np.float64)
    constant = low == high
    # in units of the largest value, so that no square over- or underflows
    unit = np.maximum(np.abs(low), np.abs(high))
    unit[unit == 0] = 1
    mean, scale = low.copy(), np.ones(x.shape[1])
    for j in np.flatnonzero(~constant):
        column = x[:, j] / unit[j]
        mean[j], scale[j] = unit[j] * column.mean(), unit[j] * column.std()
    scaling = Standardization(mean, scale, np.flatnonzero(constant).tolist())
    return scaling.apply(x), scaling


def less_first_row(x: np.ndarray) -> np.ndarray:
    """Large integers, nanoseconds say, less their first row: beyond 2^53 no float64 tells them."""
    if x.dtype.kind not in "iu" or max(int(x.max()), -int(x.min())) < 2**53:
        return x
    return (x.astype(object) - x[:1].astype(object)).astype(np.float64)


def first_of_equal_rows(x: np.ndarray) -> NDArray[np.intp]:
    """Indices of the rows that equal no earlier row."""
    seen: dict[bytes, int] = {}
    for i, row in enumerate(x):
        seen.setdefault((row + 0).tobytes(), i)  # + 0: -0.0 equals 0.0
    return np.fromiter(seen.values(), np.intp, len(seen))
