"""Gaussian noise laws whose covariance has a part of low rank: one of them may be learned."""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, PRNGKeyArray

from spread_jax.spreads import (
    Moments,
    Points,
    Spread,
    as_numbers,
    broadcast_as,
    checked,
    concrete_value,
    model_variance,
    plus_noise,
    to_rank,
)


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
    factor, sigma = _matrix(factor, "factor"), checked(sigma)
    concrete = concrete_value(factor)
    if concrete is not None and not np.isfinite(concrete).all():
        raise ValueError("factor must be finite")
    dim, rank = jnp.shape(factor)

    def sample(key: PRNGKeyArray, x: Points) -> Points:
        factor_key, sigma_key = jax.random.split(key)
        along = jax.random.normal(factor_key, (*x.shape[:-1], rank), x.dtype)
        independent = jax.random.normal(sigma_key, x.shape, x.dtype)
        return x + along @ jnp.asarray(factor, x.dtype).T + broadcast_as(sigma, x) * independent

    def log_prob(y: Moments, mean: Moments, var: Moments | None) -> Float[Array, "..."]:
        # of a deterministic decoder one variance, so one factorisation, serves all the points
        total = plus_noise(model_variance(var, sigma, jnp.zeros(dim, mean.dtype)), sigma)
        std = jnp.sqrt(total)
        each = (None,) * (std.ndim - 1)
        whitened = jnp.asarray(factor, std.dtype)[each] / std[..., None]
        gram = jnp.einsum("...di,...dj->...ij", whitened, whitened)
        lower = jnp.linalg.cholesky(gram + jnp.eye(rank, dtype=std.dtype)[each])
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
    factor, sigma = jnp.asarray(_matrix(directions, "directions")), checked(sigma)
    dim, rank = factor.shape
    log_det = jnp.linalg.slogdet(jnp.eye(rank, dtype=factor.dtype) + factor.T @ factor)[1]
    scale = sigma * jnp.exp(-log_det / (2 * dim))
    return low_rank_spread(scale * factor, scale)


def _matrix(value: ArrayLike | Sequence, name: str) -> ArrayLike:
    value = as_numbers(value, name)
    if jnp.ndim(value) != 2:
        raise ValueError(f"{name} must be a matrix [dim, rank], got shape {jnp.shape(value)}")
    return value


def _solve(lower: Array, right: Array) -> Array:
    """(L Lᵀ)⁻¹ right, with leading axes that broadcast; a shared L is solved with once."""
    if all(size == 1 for size in lower.shape[:-2]):
        flat = right.reshape(-1, right.shape[-1])
        shared = lower.reshape(lower.shape[-2:])
        return jax.scipy.linalg.cho_solve((shared, True), flat.T).T.reshape(right.shape)
    lower = jnp.broadcast_to(lower, (*right.shape[:-1], *lower.shape[-2:]))
    return jax.scipy.linalg.cho_solve((lower, True), right[..., None])[..., 0]
