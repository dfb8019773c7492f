"""Noise laws whose covariance is a low-rank matrix plus a diagonal."""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, PRNGKeyArray

from spread_jax.spreads import Spread, as_numbers, checked_sigma, concrete_value, to_rank


def low_rank_spread(factor: ArrayLike | Sequence, sigma: ArrayLike | Sequence) -> Spread:
    """n(y|x) = N(y; x, F Fᵀ + diag sigma²), so p~(y) = N(y; mean, F Fᵀ + diag(var + sigma²)).

    With D = diag(var + sigma²), W = D^(-1/2) F, r = D^(-1/2) (y - mean) and a = (I + WᵀW)⁻¹ Wᵀ r,
    the quadratic form is ‖r - W a‖² + ‖a‖² and the determinant |D| |I + WᵀW|. No d × d matrix is
    formed. A sum of squares, it keeps the digits that the difference in Woodbury's formula loses,
    and since a is its minimiser, a's own rounding enters squared.

    Where columns of F are nearly parallel, I + WᵀW loses digits to rounding as sigma falls far
    below F: in float32 the value is 0.6 % off at 1e-3 of F's scale, and NaN below some 3e-4.

    Time is O(dim·rank²) per distinct variance: once for a deterministic decoder, once per point
    for a decoder with its own variances, which also needs dim·rank numbers of memory per point.

    Args:
      factor: F, ``[dim, rank]``, in data units. Traced or not.
      sigma: standard deviation of the independent part, in data units: a scalar or ``[dim]``.

    Raises:
      ValueError: if ``factor`` is no matrix, is concrete and not finite, or a concrete ``sigma``
        is negative or not finite, or is 0 where ``log_prob`` meets a deterministic decoder.

    Examples:
      >>> factor = jnp.array([[1.0], [1.0]])  # noise that leans along the diagonal
      >>> spread = sj.low_rank_spread(factor, sigma=1.0)  # covariance [[2, 1], [1, 2]]
      >>> log_prob = spread.log_prob(jnp.zeros(2), jnp.zeros(2), None)  # -log 2π - log(3) / 2
      >>> round(float(log_prob), 4)
      -2.3872

    References:
      Hager, "Updating the inverse of a matrix", SIAM Review 31 (1989), for the identities.
    """
    factor, sigma = as_numbers(factor, "factor"), checked_sigma(sigma)
    concrete_factor, concrete_sigma = concrete_value(factor), concrete_value(sigma)
    if jnp.ndim(factor) != 2:
        raise ValueError(f"factor must be a matrix [dim, rank], got shape {jnp.shape(factor)}")
    if concrete_factor is not None and not np.isfinite(concrete_factor).all():
        raise ValueError("factor must be finite")
    dim, rank = jnp.shape(factor)

    def sample(key: PRNGKeyArray, x: Float[Array, "*batch dim"]) -> Float[Array, "*batch dim"]:
        factor_key, sigma_key = jax.random.split(key)
        along = jax.random.normal(factor_key, (*x.shape[:-1], rank), x.dtype)
        independent = jax.random.normal(sigma_key, x.shape, x.dtype)
        sigmas = jnp.broadcast_to(sigma, x.shape).astype(x.dtype)
        return x + along @ jnp.asarray(factor, x.dtype).T + sigmas * independent

    def log_prob(
        y: Float[Array, "... dim"],
        mean: Float[Array, "... dim"],
        var: Float[Array, "... dim"] | None,
    ) -> Float[Array, "..."]:
        if var is None:
            if concrete_sigma is not None and (concrete_sigma == 0).any():
                raise ValueError("a deterministic decoder has no density: it needs sigma > 0")
            var = jnp.zeros((dim,), mean.dtype)  # one factorisation serves all the points
        total = var + jnp.broadcast_to(jnp.square(sigma), var.shape).astype(var.dtype)
        std = jnp.sqrt(total)
        whitened = jnp.asarray(factor, var.dtype)[(None,) * (std.ndim - 1)] / std[..., None]
        capacity = jnp.einsum("...di,...dj->...ij", whitened, whitened) + _eye(rank, std)
        lower = jnp.linalg.cholesky(capacity)
        log_det = jnp.sum(jnp.log(total), -1) + 2 * jnp.sum(
            jnp.log(jnp.diagonal(lower, axis1=-2, axis2=-1)), -1
        )

        residual = to_rank(y, mean.ndim) - to_rank(mean, y.ndim)
        ndim = max(residual.ndim, std.ndim)
        residual, std, log_det = (
            to_rank(a, n) for a, n in ((residual, ndim), (std, ndim), (log_det, ndim - 1))
        )
        whitened, lower = to_rank(whitened, ndim + 1), to_rank(lower, ndim + 1)
        residual = residual / std
        coefficients = _solve(lower, jnp.einsum("...di,...d->...i", whitened, residual))
        rest = residual - jnp.einsum("...di,...i->...d", whitened, coefficients)
        quadratic = jnp.sum(jnp.square(rest), -1) + jnp.sum(jnp.square(coefficients), -1)
        return -0.5 * (dim * math.log(2 * math.pi) + log_det + quadratic)

    return Spread(sample, log_prob)


def fixed_volume_spread(directions: ArrayLike | Sequence, sigma: ArrayLike) -> Spread:
    """n(y|x) = N(y; x, c² (I + F Fᵀ)), c such that the determinant is sigma^(2 dim) whatever F is.

    A covariance that can be learned: the noise may lean towards some directions only by leaving
    others, and its entropy stays that of N(0, sigma² I), which it is at F = 0.

    Args:
      directions: F, ``[dim, rank]``, without a unit. Traced or not.
      sigma: standard deviation of the isotropic noise of equal volume, a scalar, > 0.

    Raises:
      ValueError: as :func:`low_rank_spread`, which it is.

    Examples:
      >>> straight = sj.fixed_volume_spread(jnp.zeros((2, 1)), sigma=0.3)
      >>> leaning = sj.fixed_volume_spread(jnp.array([[2.0], [1.0]]), sigma=0.3)
      >>> peaks = [s.log_prob(jnp.zeros(2), jnp.zeros(2), None) for s in (straight, leaning)]
      >>> [round(float(peak), 4) for peak in peaks]  # one volume, one height
      [0.5701, 0.5701]
    """
    factor = jnp.asarray(as_numbers(directions, "directions"))
    if factor.ndim != 2:
        raise ValueError(f"directions must be a matrix [dim, rank], got shape {factor.shape}")
    sigma = checked_sigma(sigma)
    dim, rank = factor.shape
    log_det = jnp.linalg.slogdet(jnp.eye(rank, dtype=factor.dtype) + factor.T @ factor)[1]
    scale = sigma * jnp.exp(-log_det / (2 * dim))
    return low_rank_spread(scale * factor, scale)


def _eye(rank: int, like: Array) -> Array:
    return jnp.eye(rank, dtype=like.dtype)[(None,) * (like.ndim - 1)]


def _solve(lower: Array, right: Array) -> Array:
    """(L Lᵀ)⁻¹ right, with leading axes that broadcast; a shared L is solved with once."""
    if all(size == 1 for size in lower.shape[:-2]):
        flat = right.reshape(-1, right.shape[-1])
        shared = lower.reshape(lower.shape[-2:])
        return jax.scipy.linalg.cho_solve((shared, True), flat.T).T.reshape(right.shape)
    lower = jnp.broadcast_to(lower, (*right.shape[:-1], *lower.shape[-2:]))
    return jax.scipy.linalg.cho_solve((lower, True), right[..., None])[..., 0]
