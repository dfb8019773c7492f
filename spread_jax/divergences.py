"""f-divergences under a Gaussian spread, exact, in float64 NumPy: points, Gaussians, mixtures.

Without a spread two points are infinitely far apart by KL, and by the bounded divergences just as
far however near they lie: no gradient says which way to go. Spread, all are smooth.
"""

from collections.abc import Sequence
from typing import Any, Literal, get_args

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike
from scipy.special import ndtr

from spread_jax.oracles import Floats, GaussianMixture, require_noise, spread_log_prob, tensor_grid

Divergence = Literal["kl", "reverse_kl", "js", "tv", "hellinger"]

POINTS_PER_STD = 20  # the trapezoidal rule then errs by 1e-12 on smooth integrands, TV's by 1e-4
STDS_BEYOND_MEANS = 9.0  # standard deviations beyond the outermost means
MAX_GRID = 20_000_000


def point_divergence(
    distance: ArrayLike | float, sigma_fix: float, divergence: Divergence
) -> tuple[Floats, Floats]:
    """D(N(0, sigma_fix²) || N(distance, sigma_fix²)) and its derivative in the distance.

    With r = distance / sigma_fix: KL and reverse KL r²/2; total variation 2Φ(r/2) - 1; squared
    Hellinger 1 - exp(-r²/8); Jensen-Shannon by quadrature. Of two points in any dimension, ‖a - b‖
    apart. At sigma_fix 0 the divergence is ∞, log 2, 1 or 1 at every distance but 0, where it is
    0: the derivative is then NaN for KL and at 0, and 0 elsewhere.

    Args:
      distance: >= 0, in data units, a number or an array.
      sigma_fix: standard deviation of the noise, >= 0.
      divergence: "kl" and "reverse_kl" in nats, "js" in nats, at most log 2, with equal weights;
        "tv", half the L1 distance; "hellinger", squared: 1 - ∫ √(p q).

    Returns:
      The divergence, and its derivative per data unit, of the shape of ``distance``.

    Raises:
      ValueError: if ``sigma_fix`` or a distance is negative, or ``divergence`` is not known.

    Examples:
      >>> value, slope = sj.point_divergence(np.array([0.1, 0.2]), 0.1, "kl")
      >>> print(value, slope)  # r²/2 and r/σ, r = 1 and 2
      [0.5 2. ] [10. 20.]
    """
    _require_known(divergence)
    if not (np.isfinite(sigma_fix) and sigma_fix >= 0):
        raise ValueError(f"sigma_fix must be finite and >= 0, got {sigma_fix}")
    distance = np.asarray(distance, np.float64)
    if (distance < 0).any():
        raise ValueError(f"distance must be >= 0, got {distance.min()}")
    value, slope = _between_points(distance, sigma_fix, divergence)
    return np.asarray(value), np.asarray(slope)


def _between_points(distance: Floats, sigma_fix: float, divergence: Divergence) -> tuple[Any, Any]:
    if sigma_fix == 0:
        far = {"kl": np.inf, "reverse_kl": np.inf, "js": np.log(2), "tv": 1.0, "hellinger": 1.0}
        has_slope = (distance > 0) & np.isfinite(far[divergence])
        return np.where(distance > 0, far[divergence], 0.0), np.where(has_slope, 0.0, np.nan)
    r = distance / sigma_fix
    if divergence in ("kl", "reverse_kl"):
        return r**2 / 2, r / sigma_fix
    if divergence == "tv":
        return 2 * ndtr(r / 2) - 1, np.exp(-(r**2) / 8) / np.sqrt(2 * np.pi) / sigma_fix
    if divergence == "hellinger":
        return -np.expm1(-(r**2) / 8), r / 4 * np.exp(-(r**2) / 8) / sigma_fix
    # y about the second point; log(q/m) = log 2 - log(1 + p/q)
    y = np.linspace(-12, 12, 24 * POINTS_PER_STD + 1)
    normal = np.exp(-(y**2) / 2) / np.sqrt(2 * np.pi) / POINTS_PER_STD
    log_q_share = np.log(2) - np.logaddexp(0, -r[..., None] * y - r[..., None] ** 2 / 2)
    # by symmetry both halves of JS are equal; the derivative of log(q/m) itself averages to 0
    return log_q_share @ normal, 0.5 * (log_q_share @ (y * normal)) / sigma_fix


def divergence_curves(distance: ArrayLike, sigma_fix: Sequence[float]) -> xr.Dataset:
    """``divergence`` and ``slope`` ``[name, sigma_fix, distance]`` of two points, for all names.

    ``distance`` and ``sigma_fix`` are as in :func:`point_divergence`, several of each.
    """
    distance, names = np.asarray(distance, np.float64), get_args(Divergence)
    curves = [[point_divergence(distance, sigma, name) for sigma in sigma_fix] for name in names]
    values, slopes = np.moveaxis(np.array(curves), 2, 0)
    dims = ("name", "sigma_fix", "distance")
    words = {"long_name": "divergence of two points", "units": "nats"}
    slope_words = {"long_name": "its slope", "units": "nats / data unit"}
    return xr.Dataset(
        {"divergence": (dims, values, words), "slope": (dims, slopes, slope_words)},
        coords={"name": list(names), "sigma_fix": list(sigma_fix), "distance": distance},
    )


def spread_divergence(
    p: GaussianMixture, q: GaussianMixture, sigma_fix: float, divergence: Divergence
) -> float:
    """D(p~ || q~), p~ and q~ the mixtures p and q with sigma_fix² added to every variance.

    Closed for two single Gaussians, points among them: KL and reverse KL, squared Hellinger, and
    total variation where the spread variances are equal. The rest by the trapezoidal rule.

    Args:
      p, q: clean mixtures in one or two dimensions (any dimension for the closed forms).
      sigma_fix: standard deviation of the noise, > 0.
      divergence: as in :func:`point_divergence`.

    Raises:
      ValueError: if an argument is out of range, or the quadrature would need too large a grid:
        more than two dimensions, or means very far apart.

    Examples:
      >>> truth = sj.problems.two_mode_mixture(data_std=0.1)
      >>> kl = sj.spread_divergence(truth, sj.oracles.merged(truth), sigma_fix=1.0, divergence="kl")
      >>> round(kl, 4)  # at σ_fix 1 the merged modes are this near to the truth
      0.0095

    References:
      Zhang, Hayes, Bird, Habib, Barber, "Spread Divergence", ICML 2020, arXiv 1811.08968, section
      2; Liese, Vajda, "On divergences and informations", IEEE Trans. Inf. Theory 52 (2006).
    """
    _require_known(divergence)
    require_noise(sigma_fix)
    if divergence == "reverse_kl":
        return spread_divergence(q, p, sigma_fix, "kl")
    if len(p.weights) == len(q.weights) == 1:
        closed = _between_gaussians(p, q, sigma_fix, divergence)
        if closed is not None:
            return closed

    nodes, cell = _grid(p, q, sigma_fix)
    log_p, log_q = (spread_log_prob(nodes, mixture, sigma_fix) for mixture in (p, q))
    density_p, density_q = np.exp(log_p), np.exp(log_q)
    if divergence == "kl":
        integrand = density_p * (log_p - log_q)
    elif divergence == "js":
        log_m = np.logaddexp(log_p, log_q) - np.log(2)
        integrand = 0.5 * (density_p * (log_p - log_m) + density_q * (log_q - log_m))
    elif divergence == "tv":
        integrand = 0.5 * np.abs(density_p - density_q)
    else:
        # 1 - ∫ √(pq), without a difference of near equals
        integrand = 0.5 * (np.exp(log_p / 2) - np.exp(log_q / 2)) ** 2
    return float(np.sum(integrand) * cell)


def _between_gaussians(
    p: GaussianMixture, q: GaussianMixture, sigma_fix: float, divergence: Divergence
) -> float | None:
    var_p, var_q = (mixture.stds[0] ** 2 + sigma_fix**2 for mixture in (p, q))
    squared = (p.means[0] - q.means[0]) ** 2
    if divergence == "kl":
        return float(0.5 * np.sum(var_p / var_q - 1 - np.log(var_p / var_q) + squared / var_q))
    if divergence == "hellinger":
        mean_var = (var_p + var_q) / 2
        log_affinity = 0.25 * np.log(var_p * var_q) - 0.5 * np.log(mean_var)
        return float(-np.expm1(np.sum(log_affinity - squared / (8 * mean_var))))
    if divergence == "tv" and np.array_equal(var_p, var_q):
        return float(point_divergence(np.sqrt([np.sum(squared / var_p)]), 1.0, "tv")[0][0])
    return None


def _grid(p: GaussianMixture, q: GaussianMixture, sigma_fix: float) -> tuple[Floats, float]:
    """Nodes ``[n, dim]`` and the volume of a cell, over all components of both."""
    means = np.concatenate([p.means, q.means])
    stds = np.sqrt(np.concatenate([p.stds, q.stds]) ** 2 + sigma_fix**2)
    low, high = (
        (means - STDS_BEYOND_MEANS * stds).min(axis=0),
        (means + STDS_BEYOND_MEANS * stds).max(axis=0),
    )
    counts = np.ceil((high - low) / stds.min(axis=0) * POINTS_PER_STD).astype(int) + 1
    if np.prod(counts.astype(float)) > MAX_GRID:
        raise ValueError(
            f"the quadrature would need a grid of {' × '.join(map(str, counts))} points: it is "
            f"meant for one or two dimensions, and means within some hundred standard deviations"
        )
    axes = [np.linspace(*ends) for ends in zip(low, high, counts, strict=True)]
    return tensor_grid(axes), float(np.prod([axis[1] - axis[0] for axis in axes]))


def _require_known(divergence: str) -> None:
    if divergence not in (names := get_args(Divergence)):
        raise ValueError(f"divergence must be one of {', '.join(names)}, got {divergence!r}")
