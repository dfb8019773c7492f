"""Which σ_fix to start from: a share of the width of the narrowest mode."""

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from spread_jax.data.modes import FLOORS, narrowest_mode
from spread_jax.data.numbers import first_of_equal_rows, numbers_of
from spread_jax.data.standardization import Floats, scaling_of

MOST_ROWS, MOST_DIRECTIONS = 2000, 10


class SuggestedSigma(NamedTuple):
    """A range of σ_fix to start from, in units of the array it was read from, both ends explained.

    Of :func:`suggest_sigma` these are the units of its x; of :func:`spread_jax.diagnose` they are
    ``Diagnosis.sigma_unit``.
    """

    low: float
    high: float
    why_low: str
    why_high: str

    @property
    def start_with(self) -> float:
        """√(low · high): a constant σ_fix here is as far from either end, by a factor √2.

        :func:`spread_jax.fit`, whose noise falls, starts at ``high``.
        """
        return math.sqrt(self.low) * math.sqrt(self.high)  # the product might underflow


def suggest_sigma(x: Any) -> SuggestedSigma:
    """[s/3, 2s/3], s the width of the narrowest mode: a range of σ_fix, in the units of x itself.

    The modes are the components of a Gaussian mixture on at most 2,000 distinct rows, along at
    most 10 principal directions, their number chosen by the Bayesian information criterion (BIC);
    width s = √(tr C² / tr C) of a component's covariance C, which is the standard deviation of a
    line and of a ball alike; a component with less than 5 % of the rows is no mode. Widths down to
    1e-7 of the data's standard deviation are found, in whatever units and at whatever offset.

    One σ_fix serves all columns, so standardize columns of different scales first: ``fit`` does,
    and :func:`spread_jax.diagnose` suggests in the units of standardized columns.

    Args:
      x: data, ``[rows, columns]``, an array or a DataFrame of numbers and booleans.

    Raises:
      ValueError: if x is no table of finite numbers with at least two rows, or is constant, or
        constant but for rounding.

    Examples:
      >>> x = sj.sample_two_modes(jax.random.key(0), 1000, data_std=0.3)
      >>> low, high = sj.suggest_sigma(x)[:2]
      >>> round(low, 1), round(high, 1)  # a third to two thirds of 0.3
      (0.1, 0.2)

    References:
      Schwarz, "Estimating the dimension of a model", Annals of Statistics 6 (1978), for BIC; the
      rule is this package's own.
    """
    # less the first row before they are floats: a large offset would leave no digits
    numbers = numbers_of(x, shift_large=True)
    points = numbers.values.astype(np.float64)
    points[:, scaling_of(numbers).constant_columns] = 0  # rounding, large in other columns' units
    rows = first_of_equal_rows(points)
    if len(rows) < 2:
        raise ValueError("x must vary: all its rows are equal, and no scale can be read from them")
    return suggested_by_rows(points, rows)


def suggested_by_rows(points: Floats, rows: NDArray[np.intp]) -> SuggestedSigma:
    """The suggestion of :func:`suggest_sigma`, of those rows of ``[n, columns]``, all distinct."""
    from threadpoolctl import threadpool_limits

    rng = np.random.default_rng(0)
    points = points[rng.choice(rows, min(len(rows), MOST_ROWS), replace=False)]
    points = points - points[0]
    exponent = np.frexp(np.abs(points).max())[1]
    points = np.ldexp(points, -exponent)  # exact, and no square over- or underflows
    points -= points.mean(axis=0)
    if points.shape[1] > len(points):
        triangle: Floats = np.asarray(np.linalg.qr(points.T, mode="r"))
        points = triangle.T  # the same scores, in fewer columns
    with threadpool_limits(1):  # products this small lose a factor 5 to 10 to waiting threads
        left, spread, _ = np.linalg.svd(points, full_matrices=False)
        kept = np.flatnonzero(spread > FLOORS[-1] * spread[0])[:MOST_DIRECTIONS]
        scores = left[:, kept] * (spread[kept] / spread[0]) * math.sqrt(len(points))
        width, num_modes = narrowest_mode(scores)
    width = float(np.ldexp(width * spread[0] / math.sqrt(len(points)), exponent))
    modes = "only mode" if num_modes == 1 else f"narrowest of {num_modes} modes"
    return SuggestedSigma(
        low=width / 3,
        high=2 * width / 3,
        why_low=f"a third of the width {width:.3g} of the {modes} (of a Gaussian mixture, by "
        "BIC): on the toy data smaller worked too, but the loss grows as steep as a plain VAE's",
        why_high="two thirds of that width: beyond about one width the modes begin to merge",
    )


def largest_sigma(dim: int) -> float:
    """max(10, √dim): beyond it noise is of no use to ``dim`` columns of standard deviation 1.

    Their variances add up to dim, so no direction varies by more than √dim, and 10 is ten times
    the scale of a column. Of pixels in [0, 1] no standard deviation is above 1/2.
    """
    return max(10.0, math.sqrt(dim))
