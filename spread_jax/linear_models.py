"""Deterministic linear models x = A z by EM, ordinary and spread: where EM freezes and why not.

PCA has z ~ N(0, I), ICA independent Laplace variables of variance 1; data are x = A z + gamma ε,
and every method fits the model with that observation noise, of standard deviation gamma, from 1
down to 0. The smaller gamma, the less the posterior p(z|x) leaves to be moved: at 0 ordinary EM
stands still wherever it is. Spread noise of a size that does not shrink keeps EM moving.

Every step maps an estimate of A ``[observed, latent]`` to the next one, is pure, and can be jitted
and vmapped over runs with traced gamma and sigma.

References:
  Zhang, Hayes, Bird, Habib, Barber, "Spread Divergence", ICML 2020, arXiv 1811.08968, section 5,
  for spread EM; the covariance that follows the model is this package's.
"""

from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, PRNGKeyArray
from scipy.optimize import linear_sum_assignment

from spread_jax.normal_laplace import laplace_posterior

Factor = Float[Array, "observed latent"]
Moment = Float[Array, "observed observed"]
Points = Float[Array, "points observed"]

LAPLACE_SCALE = 0.5**0.5  # variance 1
LAWS = {"gaussian": (jax.random.normal, 1.0), "laplace": (jax.random.laplace, LAPLACE_SCALE)}


class LinearProblem(NamedTuple):
    """One data set, its true A, and where all methods start; the entries of both A are N(0, 1)."""

    factor: Factor
    x: Points
    start: Factor


def sample_problem(
    key: PRNGKeyArray,
    *,
    points: int,
    observed: int,
    latent: int,
    law: Literal["gaussian", "laplace"],
    gamma: ArrayLike,
) -> LinearProblem:
    """x = A z + gamma ε, ε ~ N(0, I), z ~ N(0, I) or Laplace of variance 1.

    The same key gives the same A, z, ε and start at every gamma, a standard deviation.

    Raises:
      ValueError: if ``law`` is neither.
    """
    if law not in LAWS:
        raise ValueError(f"law must be {' or '.join(LAWS)}, got {law!r}")
    factor_key, z_key, noise_key, start_key = jax.random.split(key, 4)
    draw, scale = LAWS[law]
    factor = jax.random.normal(factor_key, (observed, latent))
    z = scale * draw(z_key, (points, latent))
    noise = jax.random.normal(noise_key, (points, observed))
    start = jax.random.normal(start_key, (observed, latent))
    return LinearProblem(factor, z @ factor.T + gamma * noise, start)


def second_moment(x: Points) -> Moment:
    """(1/n) Σ x xᵀ; the models have mean zero."""
    return x.T @ x / x.shape[0]


def pca_em_step(factor: Factor, moment: Moment, gamma: ArrayLike, sigma: ArrayLike) -> Factor:
    """A ← S~ A (v I + M⁻¹ Aᵀ S~ A)⁻¹, with M = AᵀA + v I, v = gamma² + sigma², S~ = S + sigma² I.

    EM of probabilistic PCA on data spread by N(0, sigma² I), whose expectation over the noise is
    exact. At sigma 0 it is ordinary EM, which at gamma 0 finds the column space in one step and
    then returns A unchanged.

    Args:
      factor, moment: A, and S, the second moment of the data.
      gamma, sigma: standard deviations of the observation noise and of the spread.

    References:
      Tipping, Bishop, "Probabilistic principal component analysis", JRSS B 61 (1999), equation 29.
    """
    noise = (jnp.square(gamma) + jnp.square(sigma)) * jnp.eye(factor.shape[1])
    cross = (moment + jnp.square(sigma) * jnp.eye(factor.shape[0])) @ factor
    inner = factor.T @ factor + noise
    return _right_solve(cross, noise + jnp.linalg.solve(inner, factor.T @ cross))


def pca_structured_step(
    factor: Factor, moment: Moment, gamma: ArrayLike, sigma: ArrayLike
) -> Factor:
    """EM under spread noise that follows the model, of covariance v A Aᵀ in all; exact.

    Within the span of A the observation noise and the spread together have covariance v A Aᵀ, v
    being sigma² or, where the observation noise alone is more, that (:func:`following_noise`).
    So u = A⁺ y is z plus white noise of variance v, and E[z|y] = u / (1 + v). Arguments as in
    :func:`pca_em_step`.
    """
    root, total = following_noise(factor, gamma, sigma)
    spread = root @ root.T
    inverse = jnp.linalg.pinv(factor)
    gain = 1 / (1 + total)
    cross = gain * (moment @ inverse.T + factor @ spread)
    second = gain**2 * (inverse @ moment @ inverse.T + spread) + gain * total * jnp.eye(len(spread))
    return _right_solve(cross, second)


def following_noise(
    factor: Factor, gamma: ArrayLike, sigma: ArrayLike
) -> tuple[Float[Array, "latent latent"], Float[Array, ""]]:
    """R, with R Rᵀ = v I - gamma² (AᵀA)⁻¹ the spread's covariance in the coordinates A⁺ y; and v.

    With the observation noise it adds up to v I there. v is sigma², or gamma²/λ_min(AᵀA) where
    that is larger: the spread can add noise but take none away.
    """
    values, vectors = jnp.linalg.eigh(factor.T @ factor)
    of_observation = jnp.square(gamma) / values
    total = jnp.maximum(jnp.square(sigma), jnp.max(of_observation))
    return vectors * jnp.sqrt(total - of_observation)[None], total


def ica_structured_step(
    key: PRNGKeyArray,
    factor: Factor,
    x: Points,
    gamma: ArrayLike,
    sigma: ArrayLike,
    relaxation: ArrayLike = 1.0,
) -> Factor:
    """A ← (Σ y E[z|y]ᵀ) (Σ E[zzᵀ|y])⁻¹ under noise that follows the model: every moment is exact.

    Noise of covariance v A Aᵀ makes u = A⁺ y equal to z plus white noise, under which the
    posterior factorises: each z_i given u_i is a mixture of two truncated normals, whose moments
    are closed (:func:`spread_jax.normal_laplace.laplace_posterior`).

    Args:
      key: for the noise, which is drawn afresh at each step.
      factor, x: A, and the data.
      gamma, sigma: standard deviations of the observation noise, and of the noise in u.
      relaxation: 1 is EM's step; above 1 it goes further the same way.
    """
    root, total = following_noise(factor, gamma, sigma)
    noise = jax.random.normal(key, (x.shape[0], factor.shape[1])) @ root.T
    u = x @ jnp.linalg.pinv(factor).T + noise
    mean, variance = laplace_posterior(u, total, jnp.asarray(LAPLACE_SCALE))
    # y = x + A noise
    cross = x.T @ mean + factor @ (noise.T @ mean)
    update = _right_solve(cross, mean.T @ mean + jnp.diag(jnp.sum(variance, axis=0)))
    return factor + relaxation * (update - factor)


def ica_isotropic_step(
    key: PRNGKeyArray,
    factor: Factor,
    x: Points,
    proposals: Float[Array, "latent samples points"],
    gamma: ArrayLike,
    sigma: ArrayLike,
    relaxation: ArrayLike = 1.0,
) -> tuple[Factor, Float[Array, ""]]:
    """A ← (Σ y E[z|y]ᵀ) (Σ E[zzᵀ|y])⁻¹ under N(0, sigma² I), by importance sampling.

    With v = gamma² + sigma² the likelihood of y is, as a function of z, N(A⁺ y, v (AᵀA)⁻¹): z is
    drawn from it, and weighted by the prior. At sigma 0 this is ordinary EM.

    Args:
      key: for the noise.
      factor, x, gamma, sigma, relaxation: as in :func:`ica_structured_step`; sigma is the spread's.
      proposals: standard normal numbers to draw with.

    Returns:
      The next A, and the mean effective sample size as a share of ``samples``.
    """
    y = x + sigma * jax.random.normal(key, x.shape)
    std = jnp.sqrt(jnp.square(gamma) + jnp.square(sigma))
    lower = jnp.linalg.cholesky(factor.T @ factor)
    # L⁻ᵀ is a square root of (AᵀA)⁻¹
    root = jax.scipy.linalg.solve_triangular(lower, jnp.eye(len(lower)), lower=True).T
    u = root @ (root.T @ (factor.T @ y.T))
    # points last: the sums over latent and samples then run along whole vectors
    z = u[:, None] + std * jnp.tensordot(root, proposals, 1)
    weight = jax.nn.softmax(-jnp.sum(jnp.abs(z), axis=0) / LAPLACE_SCALE, axis=0)
    effective = jnp.mean(1 / jnp.sum(jnp.square(weight), axis=0)) / weight.shape[0]
    weighted = weight[None] * z
    mean = jnp.sum(weighted, axis=1)
    second = jnp.tensordot(weighted, z, ((1, 2), (1, 2)))
    update = _right_solve((mean @ y).T, second)
    return factor + relaxation * (update - factor), effective


def pca_error(factor: np.ndarray, moment: np.ndarray) -> float:
    """‖A Aᵀ - S‖ / ‖S‖, Frobenius: A itself is known only up to a rotation."""
    return float(np.linalg.norm(factor @ factor.T - moment) / np.linalg.norm(moment))


def eigen_solution(moment: np.ndarray, latent: int, gamma: float) -> np.ndarray:
    """A = V (Λ - gamma²)^½ of the largest eigenvalues: maximum likelihood for a known gamma.

    References:
      Tipping, Bishop, "Probabilistic principal component analysis", JRSS B 61 (1999), equation 15.
    """
    values, vectors = np.linalg.eigh(moment)
    signal = np.sqrt(np.maximum(values[-latent:] - gamma**2, 0))
    return vectors[:, -latent:] * signal


def ica_error(factor: np.ndarray, truth: np.ndarray) -> float:
    """min ‖A P D - A*‖ / ‖A*‖, Frobenius, over permutations P and diagonal D, signs included.

    The best scale of a column a for a true one t leaves ‖t‖² (1 - cos²(a, t)); the permutation is
    an assignment problem. An estimate that is not finite has the error 1, as a zero one.
    """
    factor, truth = np.asarray(factor, np.float64), np.asarray(truth, np.float64)
    if not np.isfinite(factor).all():
        return 1.0
    true_squares, squares = np.sum(truth**2, axis=0), np.sum(factor**2, axis=0)
    cosine_squared = (factor.T @ truth) ** 2 / np.maximum(np.outer(squares, true_squares), 1e-300)
    left = np.maximum(1 - cosine_squared, 0) * true_squares
    return float(np.sqrt(left[linear_sum_assignment(left)].sum() / true_squares.sum()))


def _right_solve(left: Array, right: Array) -> Array:
    """left right⁻¹, right symmetric or not."""
    return jnp.linalg.solve(right.T, left.T).T
