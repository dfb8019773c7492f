"""The L2 distance of spread laws, which is a maximum mean discrepancy; exact, in float64 NumPy.

p~ = p ∗ K, K the density of the noise. So ∫ (p~ - q~)² = E k(x, x') + E k(y, y') - 2 E k(x, y),
with x, x' ~ p, y, y' ~ q and k = K ∗ K: a spread divergence that is no f-divergence and needs no
model of a density. For noise N(0, σ² I) the kernel is the density of N(0, 2σ² I).

References:
  Zhang, Hayes, Bird, Habib, Barber, "Spread Divergence", ICML 2020, arXiv 1811.08968, for spread
  divergences and MMD; Gretton, Borgwardt, Rasch, Schölkopf, Smola, "A kernel two-sample test", JMLR
  13 (2012), lemma 6, for the two estimates.
"""

import math

import numpy as np
from numpy.typing import ArrayLike
from scipy.spatial.distance import cdist

from spread_jax.oracles import Floats, GaussianMixture, require_noise

BLOCK = 4_000_000  # distances at a time: 32 MB
LARGEST_LOG = 700.0  # of float64


def mmd_squared(x: ArrayLike, y: ArrayLike, sigma_fix: float, *, unbiased: bool = False) -> float:
    """∫ (p~ - q~)² dy of two samples' laws, noise N(0, σ² I), by its kernel N(0, 2σ² I).

    Of the empirical laws, atoms of mass 1/n and 1/m, it is exact. ``unbiased`` leaves out the pairs
    of a point with itself: the mean is then that of the laws which the samples are drawn from, and
    the value may fall below 0.

    Args:
      x, y: clean samples ``[n, dim]`` and ``[m, dim]``.
      sigma_fix: standard deviation of the noise, > 0, in data units.
      unbiased: estimate the laws behind the samples, of two points or more each.

    Returns:
      The squared distance, in data units to the power -dim.

    Raises:
      ValueError: if ``sigma_fix`` is not > 0, the shapes do not fit, or the kernel's height
        (4π sigma_fix²)^(-dim/2) is no float64: with hundreds of dimensions, mostly.

    Examples:
      >>> x, y = np.zeros((1, 1)), np.ones((1, 1))
      >>> round(sj.mmd_squared(x, y, sigma_fix=0.5), 4)  # 2 (k(0) - k(1)), k = N(0, 0.5)
      0.7133
    """
    require_noise(sigma_fix)
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    if x.ndim != 2 or y.ndim != 2 or x.shape[1] != y.shape[1]:
        raise ValueError(f"samples must be [n, dim] and [m, dim], got {x.shape} and {y.shape}")
    if min(len(x), len(y)) < 1 + unbiased:
        raise ValueError(f"too few points: {len(x)} and {len(y)}")
    log_height = -0.5 * x.shape[1] * math.log(4 * math.pi * sigma_fix**2)
    if abs(log_height) > LARGEST_LOG:
        got = f"exp({log_height:.0f}), of {x.shape[1]} dimensions at sigma_fix {sigma_fix:g}"
        raise ValueError(f"the kernel's height must be a float64, got {got}")

    def mean_kernel(a: Floats, b: Floats) -> float:
        blocks = np.array_split(a, math.ceil(len(a) * len(b) / BLOCK))
        squares = (cdist(block, b, "sqeuclidean") for block in blocks)
        return sum(np.exp(-s / (4 * sigma_fix**2)).sum() for s in squares) / (len(a) * len(b))

    def mean_within(a: Floats) -> float:
        n, every = len(a), mean_kernel(a, a)
        return (n * every - 1) / (n - 1) if unbiased else every  # k(0) is 1 here

    return float(math.exp(log_height) * (mean_within(x) + mean_within(y) - 2 * mean_kernel(x, y)))


def squared_l2_distance(p: GaussianMixture, q: GaussianMixture, sigma_fix: float) -> float:
    """∫ (p~(y) - q~(y))² dy of mixtures, p~ and q~ with sigma_fix² added to every variance; closed.

    Σ_ij w_i w_j N(m_i - m_j; 0, diag(s_i² + s_j² + 2σ²)) over the components of both, q's weights
    negative and σ = sigma_fix: MMD² of the mixtures under the kernel N(0, 2σ² I). Of points, std 0,
    it is :func:`mmd_squared`.

    Args:
      p, q: clean mixtures of any dimension.
      sigma_fix: standard deviation of the noise, > 0.

    Returns:
      The squared distance, in data units to the power -dim.

    Raises:
      ValueError: if ``sigma_fix`` is not > 0.

    Examples:
      >>> p, q = (
      ...     sj.oracles.GaussianMixture(np.ones(1), np.full((1, 1), mean), np.zeros((1, 1)))
      ...     for mean in (0.0, 1.0)
      ... )
      >>> round(sj.squared_l2_distance(p, q, sigma_fix=0.5), 4)
      0.7133
    """
    require_noise(sigma_fix)
    weights = np.concatenate([p.weights, -q.weights])
    means, var = np.concatenate([p.means, q.means]), np.concatenate([p.stds, q.stds]) ** 2
    total = var[:, None] + var[None] + 2 * sigma_fix**2
    squares = (means[:, None] - means[None]) ** 2
    overlap = np.exp(-0.5 * np.sum(squares / total + np.log(2 * np.pi * total), axis=-1))
    return float(weights @ overlap @ weights)
