"""Exact truths in float64 NumPy, whatever JAX's default precision: what a run is judged by."""

import functools
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

Floats = NDArray[np.float64]

MAX_NODES = 300  # hermegauss(400) is NaN


class GaussianMixture(NamedTuple):
    """Σ_k weights_k N(x; means_k, diag stds_k²); std 0 is allowed: a point, a line.

    ``weights [component]`` sum to 1; ``means`` and ``stds`` are ``[component, dim]``.
    """

    weights: Floats
    means: Floats
    stds: Floats


def merged(mixture: GaussianMixture) -> GaussianMixture:
    """The one Gaussian with the mixture's mean and variances: its modes merged into one."""
    weights = mixture.weights[:, None]
    mean = np.sum(weights * mixture.means, axis=0)
    var = np.sum(weights * (mixture.stds**2 + (mixture.means - mean) ** 2), axis=0)
    return GaussianMixture(np.ones(1), mean[None], np.sqrt(var)[None])


def sample_mixture(rng: np.random.Generator, n: int, mixture: GaussianMixture) -> Floats:
    """``n`` clean points of the mixture, ``[n, dim]``."""
    component = rng.choice(len(mixture.weights), size=n, p=mixture.weights)
    noise = rng.standard_normal((n, mixture.means.shape[1]))
    return mixture.means[component] + mixture.stds[component] * noise


def spread_log_prob(y: Floats, mixture: GaussianMixture, sigma_fix: float | Floats) -> Floats:
    """log Σ_k weights_k N(y; means_k, diag(stds_k² + sigma_fix²)), in nats.

    ``y`` are spread points, ``[..., dim]``; the noise's ``sigma_fix``, a scalar or ``[dim]``, is
    > 0 where a std is 0.
    """
    return _log_sum_exp(_log_joint(y, mixture, sigma_fix))


def spread_quadrature(
    mixture: GaussianMixture, sigma_fix: float, num_nodes: int = 64
) -> tuple[Floats, Floats]:
    """Nodes ``[n, dim]`` and weights ``[n]`` with Σ w f(node) ≈ ∫ p~(y) f(y) dy.

    Args:
      mixture, sigma_fix, num_nodes: as in :func:`spread_entropy`.

    Raises:
      ValueError: if ``sigma_fix`` is not positive, or ``num_nodes`` not from 1 to 300.
    """
    require_noise(sigma_fix)
    if not 1 <= num_nodes <= MAX_NODES:
        raise ValueError(
            f"num_nodes must be from 1 to {MAX_NODES}, beyond which NumPy's rule overflows, got "
            f"{num_nodes}; spread_jax.spread_divergence has a grid that follows narrow modes"
        )
    dim = mixture.means.shape[1]
    grid, grid_weights = _standard_normal_quadrature(num_nodes, dim)
    scales = np.sqrt(np.square(mixture.stds) + sigma_fix**2)
    nodes = mixture.means[:, None, :] + scales[:, None, :] * grid
    weights = mixture.weights[:, None] * grid_weights
    return nodes.reshape(-1, dim), weights.ravel()


def spread_entropy(mixture: GaussianMixture, sigma_fix: float, num_nodes: int = 64) -> float:
    """H(p~) = -∫ p~(y) log p~(y) dy, in nats: no spread loss on this data can fall below it.

    By tensor Gauss-Hermite quadrature about each component: four decimals and more with 64 nodes
    where log p~ is smooth on the scale of each component, so where none is much wider than
    another that it covers.

    Args:
      mixture: the clean law p of the data.
      sigma_fix: standard deviation of the noise, > 0.
      num_nodes: nodes per dimension, at most 300.

    Raises:
      ValueError: if ``sigma_fix`` is not positive, or ``num_nodes`` not from 1 to 300.
    """
    return spread_cross_entropy(mixture, mixture, sigma_fix, num_nodes)


def spread_cross_entropy(
    p: GaussianMixture, q: GaussianMixture, sigma_fix: float, num_nodes: int = 64
) -> float:
    """-∫ p~(y) log q~(y) dy, in nats, by quadrature about p's components: the spread loss that the
    model q has at best. Arguments as in :func:`spread_kl`, which is this less p's entropy."""
    nodes, weights = spread_quadrature(p, sigma_fix, num_nodes)
    return float(-np.sum(weights * spread_log_prob(nodes, q, sigma_fix)))


def spread_kl(
    p: GaussianMixture, q: GaussianMixture, sigma_fix: float, num_nodes: int = 64
) -> float:
    """KL(p~ || q~) = ∫ p~(y) log (p~(y) / q~(y)) dy, in nats, by quadrature about p's components.

    Finite for any p and q, also where the unspread divergence is not; zero only if p = q. For
    two points it is ‖a - b‖² / (2 sigma_fix²). With 64 nodes it has four decimals where each
    component of p sees log p~ and log q~ smooth, as in ``spread_kl(truth, model)``. A wide p and a
    q of narrow modes it judges by too few nodes: ``spread_kl(merged(truth), truth, 0.1)`` of
    the two modes gives 8.18 for 8.43. There :func:`spread_jax.spread_divergence` is exact.

    Args:
      p, q: clean laws, of the data and of the model.
      sigma_fix, num_nodes: as in :func:`spread_entropy`, which also raises the same.

    References:
      Zhang, Hayes, Bird, Habib, Barber, "Spread Divergence", ICML 2020, arXiv 1811.08968.
    """
    cross_entropy = spread_cross_entropy(p, q, sigma_fix, num_nodes)
    return cross_entropy - spread_entropy(p, sigma_fix, num_nodes)


def discriminating_power(mixture: GaussianMixture, sigma_fix: float) -> float:
    """Spread KL of the merged solution, in nats: what pulls the modes apart at this sigma_fix.

    Raises:
      ValueError: if ``sigma_fix`` is not positive.

    Examples:
      >>> truth = sj.problems.two_mode_mixture(data_std=0.1)
      >>> [round(sj.oracles.discriminating_power(truth, s), 4) for s in (0.1, 1.0)]
      [1.2728, 0.0095]
    """
    return spread_kl(mixture, merged(mixture), sigma_fix)


def deconvolved_mixture(
    y: Floats,
    sigma_fix: float,
    initial: GaussianMixture,
    num_em_steps: int = 200,
    fixed_weights: bool = True,
) -> GaussianMixture:
    """argmax over mixtures of Σ_i log Σ_k w_k N(y_i; m_k, diag(s_k² + sigma_fix²)), s_k >= 0.

    Extreme deconvolution: the clean mixture behind points spread by known noise, which is the
    optimum of the spread objective on these points with an exact posterior. EM comes near a
    std of 0 only as t^(-1/4), so a few EM steps are followed by a bounded quasi-Newton search
    over means and variances (L-BFGS-B).

    Args:
      y: spread points, ``[n, dim]``.
      sigma_fix: standard deviation of their noise, > 0.
      initial: where to start; its components are the answer's.
      num_em_steps: EM steps before the search.
      fixed_weights: keep the weights of ``initial``, as a fixed prior p(z) does. Else they are
        those after the EM steps: the search moves means and variances only.

    Returns:
      The mixture at the optimum. On points that truly are constant in a dimension its std there
      is not 0 but of the order sigma_fix (4/n)^(1/4), since a sample variance scatters.

    Raises:
      ValueError: if ``y`` is not a finite ``[n, dim]`` or ``sigma_fix`` is not positive.

    References:
      Bovy, Hogg, Roweis, "Extreme deconvolution", Annals of Applied Statistics 5 (2011).
    """
    y = np.asarray(y, np.float64)
    if y.ndim != 2 or not np.isfinite(y).all():
        raise ValueError(f"y must be finite and of shape [n, dim], got shape {y.shape}")
    require_noise(sigma_fix)
    mixture = GaussianMixture(*(np.asarray(part, np.float64) for part in initial))
    for _ in range(num_em_steps):
        mixture = _em_step(y, mixture, sigma_fix, fixed_weights)

    shape = mixture.means.shape

    def unpack(flat: Floats) -> GaussianMixture:
        means, var = flat.reshape(2, *shape)
        return GaussianMixture(mixture.weights, means, np.sqrt(var))

    def loss_and_gradient(flat: Floats) -> tuple[float, Floats]:
        at = unpack(flat)
        var = at.stds**2 + sigma_fix**2
        responsibility = _responsibilities(y, at, sigma_fix)[:, :, None] / len(y)
        residual = y - at.means[:, None]
        by_mean = -np.sum(responsibility * residual, axis=1) / var
        by_var = -0.5 * np.sum(responsibility * (residual**2 / var[:, None] - 1), axis=1) / var
        loss = -float(np.mean(spread_log_prob(y, at, sigma_fix)))
        return loss, np.concatenate([by_mean.ravel(), by_var.ravel()])

    size = mixture.means.size
    found = minimize(
        loss_and_gradient,
        np.concatenate([mixture.means.ravel(), np.square(mixture.stds).ravel()]),
        jac=True,
        method="L-BFGS-B",
        bounds=[(None, None)] * size + [(0, None)] * size,
        options={"ftol": 1e-15, "gtol": 1e-10, "maxiter": 10_000},
    )
    return unpack(found.x)


def posterior_mean(y: Floats, mixture: GaussianMixture, sigma_fix: float | Floats) -> Floats:
    """E[x|y] = Σ_k p(k|y) (m_k + s_k²/(s_k² + sigma_fix²) (y - m_k)): the exact denoiser.

    The arguments are as in :func:`spread_log_prob`.
    """
    responsibility = _responsibilities(y, mixture, sigma_fix)[..., None]
    means, _ = _component_posteriors(y, mixture, sigma_fix)
    return np.sum(responsibility * means, axis=0)


def posterior_covariance(y: Floats, mixture: GaussianMixture, sigma_fix: float | Floats) -> Floats:
    """Cov[x|y] = Σ_k p(k|y) (diag v_k + (μ_k - E[x|y]) (μ_k - E[x|y])ᵀ), ``[..., dim, dim]``.

    μ_k is component k's part of :func:`posterior_mean`, whose arguments it takes, and
    v_k = s_k² sigma_fix² / (s_k² + sigma_fix²).
    """
    responsibility = _responsibilities(y, mixture, sigma_fix)[..., None, None]
    means, gain = _component_posteriors(y, mixture, sigma_fix)
    residual = means - posterior_mean(y, mixture, sigma_fix)
    within = (gain * np.square(sigma_fix))[..., None] * np.eye(y.shape[-1])
    between = residual[..., :, None] * residual[..., None, :]
    return np.sum(responsibility * (within + between), axis=0)


def _component_posteriors(
    y: Floats, mixture: GaussianMixture, sigma_fix: float | Floats
) -> tuple[Floats, Floats]:
    """E[x|y, k], ``[component, ..., dim]``, and s_k²/(s_k² + sigma_fix²), that broadcasts to it."""
    means, stds = (
        part.reshape(len(part), *(1,) * (y.ndim - 1), -1) for part in (mixture.means, mixture.stds)
    )
    gain = stds**2 / (stds**2 + np.square(sigma_fix))
    return means + gain * (y - means), gain


def _em_step(
    y: Floats, mixture: GaussianMixture, sigma_fix: float, fixed_weights: bool
) -> GaussianMixture:
    responsibility = _responsibilities(y, mixture, sigma_fix)[:, :, None]
    total = responsibility.sum(axis=1)
    gain = mixture.stds**2 / (mixture.stds**2 + sigma_fix**2)
    clean = mixture.means[:, None] + gain[:, None] * (y - mixture.means[:, None])
    means = np.sum(responsibility * clean, axis=1) / total
    scatter = np.sum(responsibility * (clean - means[:, None]) ** 2, axis=1) / total
    weights = mixture.weights if fixed_weights else total[:, 0] / len(y)
    return GaussianMixture(weights, means, np.sqrt(scatter + gain * sigma_fix**2))


def _responsibilities(y: Floats, mixture: GaussianMixture, sigma_fix: float | Floats) -> Floats:
    """p(k|y), ``[component, n]``."""
    log_joint = _log_joint(y, mixture, sigma_fix)
    return np.exp(log_joint - _log_sum_exp(log_joint))


def _log_joint(y: Floats, mixture: GaussianMixture, sigma_fix: float | Floats) -> Floats:
    """log w_k N(y; m_k, diag(s_k² + sigma_fix²)), ``[component, ...]``."""
    var = mixture.stds**2 + np.square(sigma_fix)
    components = zip(mixture.weights, mixture.means, var, strict=True)
    return np.stack(
        [
            np.log(weight)
            - 0.5 * np.sum(np.log(2 * np.pi * var))
            - 0.5 * np.square(y - mean) @ (1 / var)
            for weight, mean, var in components
        ]
    )


def _log_sum_exp(log_terms: Floats) -> Floats:
    """Over the first axis; exp and log of whole arrays are a third of the time of logaddexp."""
    largest = log_terms.max(axis=0, initial=np.finfo(np.float64).min)  # all may be -inf
    with np.errstate(divide="ignore"):
        return largest + np.log(np.sum(np.exp(log_terms - largest), axis=0))


@functools.cache
def _standard_normal_quadrature(num_nodes: int, dim: int) -> tuple[Floats, Floats]:
    """The tensor Gauss-Hermite rule; a sweep of thousands of runs asks for it once per run."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(num_nodes)
    grid, grid_weights = tensor_grid([nodes] * dim), tensor_grid([weights] * dim).prod(axis=1)
    return grid, grid_weights / (2 * np.pi) ** (dim / 2)


def tensor_grid(axes: list[Floats]) -> Floats:
    """Every point with a number of each axis as its coordinates, ``[n, len(axes)]``."""
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, len(axes))


def require_noise(sigma_fix: float) -> None:
    """Raises ValueError unless ``sigma_fix`` is finite and > 0."""
    if not (np.isfinite(sigma_fix) and sigma_fix > 0):
        needed = "sigma_fix must be finite and > 0: without a spread there is no density"
        raise ValueError(f"{needed}; got {sigma_fix}")
