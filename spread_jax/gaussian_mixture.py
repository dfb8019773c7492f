"""Gaussian mixtures of full covariances, and their fit by expectation maximisation."""

from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Array, PRNGKeyArray
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

MAX_ITERATIONS = 100
LEAST_GAIN = 1e-3  # nats a point, of an iteration, below which it ends


class GaussianMixture(NamedTuple):
    """p(x) = Σ_k w_k N(x; m_k, C_k).

    Attributes:
      weights: ``[component]``, their sum 1.
      means: ``[component, dim]``, in data units.
      covariances: ``[component, dim, dim]``, in squared data units. They may be singular: such a
        component lies on a flat set, and can be sampled, but has no density of its own.
    """

    weights: Array | np.ndarray
    means: Array | np.ndarray
    covariances: Array | np.ndarray

    @staticmethod
    def standard(dim: int) -> "GaussianMixture":
        """N(0, I), one component, in float32."""
        return GaussianMixture(
            np.ones(1, np.float32), np.zeros((1, dim), np.float32), np.eye(dim, dtype="f4")[None]
        )

    def padded(self, num_components: int) -> "GaussianMixture":
        """The same law, with components of weight 0 to make up the number."""
        more, dim = num_components - len(self.weights), self.means.shape[1]
        unit = np.broadcast_to(np.eye(dim, dtype=np.float32)[None], (more, dim, dim))
        return GaussianMixture(
            np.pad(self.weights, (0, more)),
            np.pad(self.means, ((0, more), (0, 0))),
            np.concatenate([self.covariances, unit]),
        )

    def sample(self, key: PRNGKeyArray, n: int) -> Floats:
        """k ~ w, x ~ N(m_k, C_k): ``[n, dim]`` in float64, exactly flat where C_k is singular."""
        weights, means, covariances = (np.asarray(part, np.float64) for part in self)
        factors = _roots(covariances)
        with jax.enable_x64(True):
            component_key, normal_key = jax.random.split(key)
            uniform = np.asarray(jax.random.uniform(component_key, (n,)))
            normal = np.asarray(jax.random.normal(normal_key, (n, means.shape[1])))
        edges = np.cumsum(weights) / np.sum(weights)
        component = np.searchsorted(edges, uniform, side="right")
        return np.asarray(means[component] + np.einsum("nij,nj->ni", factors[component], normal))

    def mean_log_prob(self, x: ArrayLike) -> float:
        """The mean of log p(x) over the points ``[n, dim]``, in nats."""
        return float(
            _log_sum_exp(_monomials(np.asarray(x, np.float64)) @ _coefficients(self))[0].mean()
        )


def fit_gaussian_mixture(
    x: ArrayLike, num_components: int, smallest_variance: float, seed: int = 0
) -> GaussianMixture:
    """A mixture of high likelihood, by expectation maximisation from k-means++ centres.

    Every iteration adds ``smallest_variance`` I to all covariances, so that none is singular. The
    log-density of a component is linear in the monomials x_i x_j, x_i and 1: so both steps are one
    matrix product each, in float64, some ten times as fast as component by component.

    Args:
      x: points of standard deviation near 1, ``[n, dim]``.
      num_components: k, at most n.
      smallest_variance: in squared units of x.
      seed: of the centres.

    References:
      Dempster, Laird, Rubin, "Maximum likelihood from incomplete data via the EM algorithm",
      Journal of the Royal Statistical Society B (1977); Arthur, Vassilvitskii, "k-means++",
      SODA 2007, for the centres.
    """
    from sklearn.cluster import kmeans_plusplus

    x = np.asarray(x, np.float64)
    centres = kmeans_plusplus(x, num_components, random_state=seed)[0]
    nearest = np.argmin(np.sum(centres**2, axis=1) - 2 * x @ centres.T, axis=1)
    responsibility = np.eye(num_components)[nearest]
    monomials = _monomials(x)
    before = -np.inf
    for _ in range(MAX_ITERATIONS):
        mixture = _maximise(responsibility, monomials, x.shape[1], smallest_variance)
        log_prob, responsibility = _log_sum_exp(monomials @ _coefficients(mixture))
        if log_prob.mean() - before < LEAST_GAIN:
            break
        before = log_prob.mean()
    return mixture


def _roots(covariances: Floats) -> Floats:
    """F with C = F Fᵀ, ``[component, dim, dim]``; an eigenvalue that is rounding counts as 0.

    What is rounding is judged with all variances scaled to 1, so that a column in a small unit
    keeps its width.
    """
    std = np.sqrt(np.maximum(np.diagonal(covariances, axis1=1, axis2=2), 0))
    scale = np.where(std > 0, std, 1.0)
    scaled = covariances / (scale[:, :, None] * scale[:, None, :])
    values, vectors = np.linalg.eigh(scaled)
    rounding = 4 * covariances.shape[1] * np.finfo(np.float64).eps
    values = np.where(values > rounding * values[:, -1:], values, 0.0)
    return np.asarray(std[:, :, None] * vectors * np.sqrt(values)[:, None, :])


def _monomials(x: Floats) -> Floats:
    """x_i x_j for i <= j, x_i, and 1: ``[n, dim (dim + 1) / 2 + dim + 1]``."""
    i, j = np.triu_indices(x.shape[1])
    return np.concatenate([x[:, i] * x[:, j], x, np.ones((len(x), 1))], axis=1)


def _coefficients(mixture: GaussianMixture) -> Floats:
    """Of log w_k N(x; m_k, C_k) in the monomials, ``[monomial, component]``."""
    weights, means, covariances = mixture
    dim = means.shape[1]
    precision = np.linalg.inv(covariances)
    i, j = np.triu_indices(dim)
    quadratic = -np.where(i == j, 0.5, 1.0) * precision[:, i, j]
    linear = np.einsum("kij,kj->ki", precision, means)
    constant = -0.5 * (
        np.einsum("ki,ki->k", linear, means)
        + np.linalg.slogdet(covariances)[1]
        + dim * np.log(2 * np.pi)
    )
    with np.errstate(divide="ignore"):  # a component of weight 0
        constant += np.log(weights)
    return np.concatenate([quadratic, linear, constant[:, None]], axis=1).T


def _log_sum_exp(log_joint: Floats) -> tuple[Floats, Floats]:
    """The log of the sum over components, ``[n]``, and each one's share of it."""
    largest = log_joint.max(axis=1, keepdims=True)
    share = np.exp(log_joint - largest)
    total = share.sum(axis=1, keepdims=True)
    return (largest + np.log(total))[:, 0], share / total


def _maximise(
    responsibility: Floats, monomials: Floats, dim: int, smallest_variance: float
) -> GaussianMixture:
    sums = responsibility.T @ monomials
    count = sums[:, -1:] + 10 * np.finfo(np.float64).eps  # a component may lose all its points
    means = sums[:, -1 - dim : -1] / count
    second = np.empty((len(sums), dim, dim))
    i, j = np.triu_indices(dim)
    second[:, i, j] = second[:, j, i] = sums[:, : len(i)] / count
    covariances = second - means[:, :, None] * means[:, None, :]
    covariances += smallest_variance * np.eye(dim)
    return GaussianMixture(count[:, 0] / count.sum(), means, covariances)
