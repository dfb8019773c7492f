"""Which σ_fix to start from: a share of the width of the narrowest mode."""

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from spread_jax.data.files import as_table
from spread_jax.data.standardization import Floats, first_of_equal_rows, less_first_row

# of a column's scale: about ten steps of float32, which cannot tell it from 0
TOLERANCE = 1e-6
ATOM_SHARE = 0.05  # of the rows in one value: enough for one component of a mixture to sit on


class SuggestedSigma(NamedTuple):
    """A range of σ_fix to start from, in the data's units, each end explained in words."""

    low: float
    high: float
    why_low: str
    why_high: str


def suggest_sigma(x: ArrayLike) -> SuggestedSigma:
    """[s/3, 2s/3], s the width of the narrowest mode: a range of σ_fix, in the data's units.

    The modes are the components of a Gaussian mixture on at most 2,000 distinct rows, along at
    most 10 principal directions, their number chosen by the Bayesian information criterion (BIC);
    width s = √(tr C² / tr C) of a component's covariance C, which is the standard deviation of a
    line and of a ball alike; a component with less than 5 % of the rows is no mode. One σ_fix
    serves all columns, so standardize columns of different scales first.

    Args:
      x: data, ``[rows, columns]``.

    Raises:
      ValueError: if x is no table of finite numbers with at least two rows, or is constant.

    Examples:
      >>> x = sj.sample_two_modes(jax.random.key(0), 1000, data_std=0.3)
      >>> low, high = sj.suggest_sigma(x)[:2]
      >>> round(low, 1), round(high, 1)  # a third to two thirds of 0.3
      (0.1, 0.2)

    References:
      Schwarz, "Estimating the dimension of a model", Annals of Statistics 6 (1978), for BIC; the
      rule is this package's own.
    """
    x = as_table(x)
    rng = np.random.default_rng(0)
    rows = first_of_equal_rows(x)
    if len(rows) < 2:
        raise ValueError("x must vary: all its rows are equal, and no scale can be read from them")
    rows = rng.choice(rows, min(len(rows), 2000), replace=False)
    # before dividing, and integers before they are floats: a large offset would leave no digits
    points = less_first_row(x)[rows].astype(np.float64)
    points -= points[0]
    unit = np.abs(points).max()
    points = points / unit
    points -= points.mean(axis=0)
    left, spread, _ = np.linalg.svd(points, full_matrices=False)
    kept = np.flatnonzero(spread > TOLERANCE * spread[0])[:10]
    scores = left[:, kept] * (spread[kept] / spread[0]) * math.sqrt(len(points))
    width, num_modes = _narrowest_mode(scores)
    width *= float(unit * spread[0] / math.sqrt(len(points)))
    modes = "only mode" if num_modes == 1 else f"narrowest of {num_modes} modes"
    return SuggestedSigma(
        low=width / 3,
        high=2 * width / 3,
        why_low=f"a third of the width {width:.3g} of the {modes} (of a Gaussian mixture, by "
        "BIC): on the toy data smaller worked too, but the loss grows as steep as a plain VAE's",
        why_high="two thirds of that width: beyond about one width the modes begin to merge",
    )


def _narrowest_mode(scores: Floats) -> tuple[float, int]:
    """Width of the narrowest component, in the unit of ``scores``, and the number of components."""
    from sklearn.mixture import GaussianMixture
    from threadpoolctl import threadpool_limits

    best: Any = None
    best_bic, worse = np.inf, 0
    for k in (1, 2, 3, 4, 5, 6, 8, 10, 12, 16):
        if worse == 2 or (k > 1 and len(scores) < 5 * k):
            break
        mixture = GaussianMixture(k, init_params="k-means++", n_init=2, random_state=0)
        with threadpool_limits(1):  # products this small lose a factor 7 to 10 to waiting threads
            bic = mixture.fit(scores).bic(scores)
        if bic < best_bic:
            best, best_bic, worse = mixture, bic, 0
        else:
            worse += 1
    widths = _width(best.covariances_)
    return float(widths[best.weights_ >= min(ATOM_SHARE, best.weights_.max())].min()), len(widths)


def _width(covariance: Floats) -> Floats:
    """√(tr C² / tr C), ``[component, d, d] -> [component]``."""
    return np.sqrt(np.sum(covariance**2, (-2, -1)) / np.trace(covariance, axis1=-2, axis2=-1))
