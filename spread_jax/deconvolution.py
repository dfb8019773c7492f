"""The likelihood of a Gaussian mixture on rows that each have noise of their own, and its ascent.

A row is y_i = x_i + N(0, S_i), of which some entries may be missing. With C = V_k + S_i in the
entries that are there, and W = C⁻¹ there and 0 elsewhere, all that an ascent needs are four sums
over the rows, with q the share of component k in row i and u = W (y_i - m_k):

    N = Σ q,  g = Σ q u,  U = Σ q u uᵀ,  P = Σ q W

Everything is in float64, inside ``jax.enable_x64``.

References:
  Bovy, Hogg, Roweis, "Extreme deconvolution", Annals of Applied Statistics 5 (2011), sections 2
  and 3: :func:`em_step` is its equation 16, written in these sums.
"""

from collections.abc import Callable
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from spread_jax.gaussian_mixture import GaussianMixture

Result = TypeVar("Result")

TINY = 1e-12  # points: the share of a component that has lost all
RIDGE = 1e-6  # of the mean precision, where nearly no row has an entry: it slows no other step


class Rows(NamedTuple):
    """Rows with their noise, in chunks of rows, the rows last: what the processor's lanes share.

    Attributes:
      y: ``[chunk, dim, row]``, 0 where it is missing. A single chunk has no first axis.
      noise: S_i, ``[chunk, dim, dim, row]``; or of one row and one chunk where it is that of all.
      observed: 1 where an entry is there and else 0, ``[chunk, dim, row]``, or as the noise.
      counts: 1 for a row and 0 for one that fills up the last chunk, ``[chunk, row]``.
    """

    y: Array | np.ndarray
    noise: Array | np.ndarray
    observed: Array | np.ndarray
    counts: Array | np.ndarray


class Sums(NamedTuple):
    """N, g, U, P as the module says, and Σ_i log p~(y_i) in nats."""

    share: Float[Array, "component"]
    score: Float[Array, "component dim"]
    outer: Float[Array, "component dim dim"]
    precision: Float[Array, "component dim dim"]
    log_lik: Float[Array, ""]


def log_joint(
    mixture: GaussianMixture, chunk: Rows
) -> tuple[Float[Array, "k row"], Float[Array, "dim k row"], Float[Array, "dim dim k noise_row"]]:
    """log w_k N(y; m_k, V_k + S) of the entries that are there, with u and W."""
    y, noise, observed, _ = jax.tree.map(jnp.asarray, chunk)
    weights, means, covariances = mixture
    total = jnp.moveaxis(covariances, 0, -1)[..., None] + noise[:, :, None]
    inverse, log_det = _inverse(total, observed)
    residual = y[:, None] - means.T[..., None]
    if inverse.shape[-1] == 1:
        white = jnp.einsum("ijk,jkm->ikm", inverse[..., 0], residual)
    else:
        white = jnp.sum(inverse * residual[None], axis=1)
    log_norm = log_det + jnp.log(2 * jnp.pi) * jnp.sum(observed, axis=0)[None]
    quadratic = jnp.sum(white * residual, axis=0)
    return jnp.log(weights)[:, None] - 0.5 * (log_norm + quadratic), white, inverse


def _inverse(
    total: Float[Array, "dim dim k row"], observed: Float[Array, "dim row"]
) -> tuple[Float[Array, "dim dim k row"], Float[Array, "k row"]]:
    """The inverse in the entries that are there, 0 elsewhere, and the log-determinant.

    The inverse grows by one row and column for each entry, for all matrices at once: six times as
    fast on a processor as LAPACK's or a loop over matrices so small.
    """
    for j in range(len(total)):
        there = observed[j][None] > 0
        if j == 0:
            pivot = jnp.where(there, total[0, 0], 1.0)
            inverse, log_det = jnp.where(there, 1 / pivot, 0.0)[None, None], jnp.log(pivot)
            continue
        cross = jnp.where(there[None], total[j, :j], 0.0)
        along = jnp.sum(inverse * cross[None], axis=1)
        # what is left of this entry's variance when those before it are known
        pivot = jnp.where(there, total[j, j] - jnp.sum(cross * along, axis=0), 1.0)
        log_det += jnp.log(pivot)
        scaled = along / pivot[None]
        corner = jnp.where(there, 1 / pivot, 0.0)[None]
        grown = jnp.concatenate([inverse + along[:, None] * scaled[None], -scaled[:, None]], axis=1)
        last = jnp.concatenate([-scaled, corner], axis=0)
        inverse = jnp.concatenate([grown, last[None]], axis=0)
    return inverse, log_det


def log_prob(mixture: GaussianMixture, rows: Rows) -> Float[Array, "chunk row"]:
    """log p~(y_i), in nats, 0 for a row without entries."""

    def of_chunk(chunk: Rows) -> Float[Array, "row"]:
        return jax.nn.logsumexp(log_joint(mixture, chunk)[0], axis=0)

    return _over_chunks(of_chunk, rows)


def sums(mixture: GaussianMixture, rows: Rows) -> Sums:
    """The sums over all rows that the next step needs."""

    def of_chunk(chunk: Rows) -> Sums:
        joint, white, inverse = log_joint(mixture, chunk)
        total = jax.nn.logsumexp(joint, axis=0)
        share = jnp.exp(joint - total[None]) * chunk.counts[None]
        weighted = share[None] * white
        count = jnp.sum(share, axis=1)
        if inverse.shape[-1] == 1:
            precision = jnp.moveaxis(inverse[..., 0] * count[None, None], -1, 0)
        else:
            precision = jnp.einsum("km,ijkm->kij", share, inverse)
        outer = jnp.einsum("ikm,jkm->kij", weighted, white)
        log_lik = jnp.sum(total * chunk.counts)
        return Sums(count, jnp.sum(weighted, axis=2).T, outer, precision, log_lik)

    parts = _over_chunks(of_chunk, rows)
    return jax.tree.map(lambda part: jnp.sum(part, axis=0), parts)


def em_step(mixture: GaussianMixture, found: Sums) -> GaussianMixture:
    """One step of expectation maximisation with the clean x as what is missing:

    m + V g / N  and  V + V (U/N - P/N - g gᵀ/N²) V. No step lowers the likelihood.
    """
    means, covariances = jnp.asarray(mixture.means), jnp.asarray(mixture.covariances)
    count, score, slope = _per_point(found)
    moved = means + jnp.einsum("kij,kj->ki", covariances, score)
    wider = covariances + covariances @ slope @ covariances
    return GaussianMixture(count / jnp.sum(count), moved, _symmetric(wider))


def scoring_step(mixture: GaussianMixture, found: Sums, length: Array) -> GaussianMixture:
    """The same with the noisy y as what is known: m + A g / N, and V a projected scoring step.

    A = (P / N)⁻¹ takes the place of V, so that the step does not die out as V does:
    expectation maximisation nears a variance of 0 as t^(-1/2) only. The covariance V + length
    A (U/N - P/N - g gᵀ/N²) A is projected to the nearest without a negative eigenvalue, in the
    metric of A. Where all rows have one noise, the step of length 1 is the exact maximum given the
    shares. A longer step than the likelihood bears may lower it.
    """
    means, covariances = mixture.means, mixture.covariances
    count, score, slope = _per_point(found)
    precision = found.precision / jnp.maximum(count, TINY)[:, None, None]
    diagonal = jnp.diagonal(precision, axis1=1, axis2=2)
    scale = jax.lax.rsqrt(jnp.where(diagonal > 0, diagonal, 1.0))
    scaled = precision * scale[:, :, None] * scale[:, None]
    ridge = jnp.where(diagonal > 0, RIDGE, 1.0)[:, :, None] * jnp.eye(means.shape[1])[None]
    lower = jnp.linalg.cholesky(scaled + ridge)  # of the scaled A⁻¹
    unit = jnp.broadcast_to(jnp.eye(means.shape[1])[None], lower.shape)
    inverse = jax.scipy.linalg.solve_triangular(lower, unit, lower=True)
    root = scale[:, :, None] * inverse.mT  # A = root rootᵀ
    to_white = lower.mT / scale[:, None]
    moved = means + jnp.einsum("kij,klj,kl->ki", root, root, score)
    white = to_white @ covariances @ to_white.mT + length * (root.mT @ slope @ root)
    values, vectors = jnp.linalg.eigh(_symmetric(white))
    factor = root @ vectors
    wider = factor * jnp.maximum(values, 0.0)[:, None] @ factor.mT
    held = count > TINY  # a component that lost its points stays where it is
    return GaussianMixture(
        count / jnp.sum(count),
        jnp.where(held[:, None], moved, means),
        jnp.where(held[:, None, None], _symmetric(wider), covariances),
    )


def _per_point(found: Sums) -> tuple[Array, Array, Array]:
    """N, g / N, and U/N - P/N - g gᵀ/N²: twice the slope of the mean log-likelihood in V."""
    count = jnp.maximum(found.share, TINY)
    score = found.score / count[:, None]
    slope = (found.outer - found.precision) / count[:, None, None]
    return found.share, score, slope - score[:, :, None] * score[:, None]


def _over_chunks(of_chunk: Callable[[Rows], Result], rows: Rows) -> Result:
    """What the function makes of each chunk, stacked."""

    def with_noise_of_all(part: tuple[Array, Array]) -> Result:
        return of_chunk(Rows(part[0], rows.noise[0], rows.observed[0], part[1]))

    if rows.noise.shape[-1] == 1:
        return jax.lax.map(with_noise_of_all, (rows.y, rows.counts))
    return jax.lax.map(of_chunk, rows)


def _symmetric(matrix: Array) -> Array:
    return (matrix + matrix.mT) / 2
