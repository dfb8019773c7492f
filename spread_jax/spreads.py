"""Noise laws n(y|x): the same noise is added to the data and to the model."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, PRNGKeyArray

from spread_jax.normal_laplace import normal_laplace_log_prob

CLOSED_FORMS = (
    "closed forms exist for a Gaussian decoder (mean, var) under gaussian_spread, laplace_spread, "
    "low_rank_spread and their sums with_gaussian, and for a deterministic one (mean, None) under "
    "these and injective_mean_spread"
)


class Spread(NamedTuple):
    """A noise law n(y|x), as the two pure functions that a spread divergence needs.

    The last axis is the event, leading axes broadcast. A ``Spread`` holds functions, so build it
    inside the compiled function; its parameters may be traced.

    Attributes:
      sample: ``(key, x [..., dim]) -> y [..., dim]``, a draw from n(y|x): spreads the data.
      log_prob: ``(y [..., dim], mean [..., dim], var [..., dim] or None) -> [...]``, in nats:
        log p~(y) = log ∫ n(y|x) N(x; mean, diag var) dx: spreads a Gaussian model. With ``var``
        None the model is deterministic, and log p~(y) = log n(y|mean).

    The two need not share a parameter: ``Spread(gaussian_spread(a).sample,
    gaussian_spread(b).log_prob)`` is noise augmentation at (a, 0), a variance floor at (0, b).

    References:
      Zhang, Hayes, Bird, Habib, Barber, "Spread Divergence", ICML 2020,
      arXiv 1811.08968, section 2.
    """

    sample: Callable[[PRNGKeyArray, Array], Array]
    log_prob: Callable[[Array, Array, Array | None], Array]


def gaussian_spread(sigma: ArrayLike | Sequence) -> Spread:
    """n(y|x) = N(y; x, diag sigma²), so log p~(y) = log N(y; mean, diag(var + sigma²)).

    Args:
      sigma: standard deviation of the noise, in data units: a scalar, or one per dimension
        ``[dim]``. Traced or not. At 0 the spread does nothing.

    Returns:
      The noise law.

    Raises:
      ValueError: if a concrete ``sigma`` is negative or not finite, or is 0 where ``log_prob``
        meets a deterministic decoder, which has no density.

    Examples:
      >>> spread = sj.gaussian_spread(0.3)
      >>> y = spread.sample(jax.random.key(0), jnp.zeros((5, 2)))  # spreads data
      >>> mean, var = jnp.zeros(2), jnp.full(2, 0.16)  # a decoder's
      >>> log_prob = spread.log_prob(jnp.zeros(2), mean, var)  # log N(0; 0, (0.16 + 0.09) I)
      >>> round(float(log_prob), 4)
      -0.4516
    """
    sigma = _checked_sigma(sigma)
    concrete = _concrete(sigma)

    def sample(key: PRNGKeyArray, x: Float[Array, "*batch dim"]) -> Float[Array, "*batch dim"]:
        noise = jax.random.normal(key, x.shape, x.dtype)
        return x + jnp.broadcast_to(sigma, x.shape).astype(x.dtype) * noise

    def log_prob(
        y: Float[Array, "... dim"],
        mean: Float[Array, "... dim"],
        var: Float[Array, "... dim"] | None,
    ) -> Float[Array, "..."]:
        if var is None:
            if concrete is not None and (concrete == 0).any():
                raise ValueError("a deterministic decoder has no density: it needs sigma > 0")
            var = jnp.zeros_like(mean)
        total = var + jnp.broadcast_to(jnp.square(sigma), var.shape).astype(var.dtype)
        residual = _to_rank(y, mean.ndim) - _to_rank(mean, y.ndim)
        total = _to_rank(total, y.ndim)
        return -0.5 * jnp.sum(jnp.log(2 * jnp.pi * total) + jnp.square(residual) / total, -1)

    return Spread(sample, log_prob)


def no_spread() -> Spread:
    """n(y|x) = δ(y - x): ``gaussian_spread(0.0)``, under which ``spread_elbo`` is ``elbo``.

    Examples:
      >>> x = jnp.ones((1, 2))
      >>> print(sj.no_spread().sample(jax.random.key(0), x))
      [[1. 1.]]
    """
    return gaussian_spread(0.0)


def laplace_spread(scale: ArrayLike | Sequence) -> Spread:
    """n(y|x) = Π_i exp(-|y_i - x_i| / scale) / 2scale: independent Laplace noise.

    Spread over a Gaussian decoder it is the normal-Laplace law, over a deterministic one Laplace's
    own: :func:`spread_jax.normal_laplace.normal_laplace_log_prob`, its digits and its gradients.

    Args:
      scale: of the Laplace law, in data units; its standard deviation is √2 scale. A scalar, or
        one per dimension ``[dim]``. Traced or not.

    Raises:
      ValueError: if a concrete ``scale`` is not finite and > 0.

    Examples:
      >>> spread = sj.laplace_spread(0.5)
      >>> log_prob = spread.log_prob(jnp.zeros(1), jnp.zeros(1), None)  # log 1 / (2 · 0.5)
      >>> abs(float(log_prob))
      0.0

    References:
      Zhang, Hayes, Bird, Habib, Barber, "Spread Divergence", ICML 2020, arXiv 1811.08968,
      on stationary spread; the normal-Laplace law as in its own module.
    """
    scale = _numbers(scale, "scale")
    concrete = _concrete(scale)
    if concrete is not None and not (np.isfinite(concrete) & (concrete > 0)).all():
        raise ValueError(f"scale must be finite and > 0, got {scale}")

    def sample(key: PRNGKeyArray, x: Float[Array, "*batch dim"]) -> Float[Array, "*batch dim"]:
        noise = jax.random.laplace(key, x.shape, x.dtype)
        return x + jnp.broadcast_to(scale, x.shape).astype(x.dtype) * noise

    def log_prob(
        y: Float[Array, "... dim"],
        mean: Float[Array, "... dim"],
        var: Float[Array, "... dim"] | None,
    ) -> Float[Array, "..."]:
        if var is None:
            var = jnp.zeros_like(mean)
        ndim = max(y.ndim, mean.ndim, var.ndim)
        y, mean, var = (_to_rank(a, ndim) for a in (y, mean, var))
        scales = jnp.broadcast_to(scale, var.shape).astype(var.dtype)
        return jnp.sum(normal_laplace_log_prob(y, mean, var, scales), -1)

    return Spread(sample, log_prob)


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
    factor, sigma = _numbers(factor, "factor"), _checked_sigma(sigma)
    concrete_factor, concrete_sigma = _concrete(factor), _concrete(sigma)
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

        residual = _to_rank(y, mean.ndim) - _to_rank(mean, y.ndim)
        ndim = max(residual.ndim, std.ndim)
        residual, std, log_det = (
            _to_rank(a, n) for a, n in ((residual, ndim), (std, ndim), (log_det, ndim - 1))
        )
        whitened, lower = _to_rank(whitened, ndim + 1), _to_rank(lower, ndim + 1)
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
    factor = jnp.asarray(_numbers(directions, "directions"))
    if factor.ndim != 2:
        raise ValueError(f"directions must be a matrix [dim, rank], got shape {factor.shape}")
    sigma = _checked_sigma(sigma)
    dim, rank = factor.shape
    log_det = jnp.linalg.slogdet(jnp.eye(rank, dtype=factor.dtype) + factor.T @ factor)[1]
    scale = sigma * jnp.exp(-log_det / (2 * dim))
    return low_rank_spread(scale * factor, scale)


def injective_mean_spread(f: Callable[[Array], Array], sigma: ArrayLike | Sequence) -> Spread:
    """n(y|x) = N(y; f(x), diag sigma²), f injective: noise about a point that may be learned.

    For deterministic decoders: log p~(y) = log N(y; f(mean), diag sigma²). A Gaussian decoder
    has no closed form under a nonlinear f.

    Args:
      f: ``x [..., dim] -> [..., dim]``, injective, such as
        :class:`spread_jax.networks.InjectiveMean` with its parameters. It is not checked here.
      sigma: standard deviation of the noise, in data units: a scalar or ``[dim]``.

    Raises:
      ValueError: if a concrete ``sigma`` is negative or not finite, or is 0 in ``log_prob``; if
        ``log_prob`` meets a decoder with a variance.

    Examples:
      >>> spread = sj.injective_mean_spread(lambda x: 2 * x, sigma=1.0)
      >>> log_prob = spread.log_prob(jnp.full(1, 2.0), jnp.ones(1), None)  # log N(2; f(1), 1)
      >>> round(float(log_prob), 4)
      -0.9189

    References:
      Zhang, Hayes, Bird, Habib, Barber, "Spread Divergence", ICML 2020, arXiv 1811.08968,
      section 3.2 (mean transform).
    """
    noise = gaussian_spread(sigma)

    def sample(key: PRNGKeyArray, x: Float[Array, "*batch dim"]) -> Float[Array, "*batch dim"]:
        return noise.sample(key, f(x))

    def log_prob(
        y: Float[Array, "... dim"],
        mean: Float[Array, "... dim"],
        var: Float[Array, "... dim"] | None,
    ) -> Float[Array, "..."]:
        if var is not None:
            raise ValueError(
                f"injective_mean_spread with a decoder that has a variance: no closed form; "
                f"{CLOSED_FORMS}"
            )
        return noise.log_prob(y, f(mean), None)

    return Spread(sample, log_prob)


def with_gaussian(spread: Spread, sigma: ArrayLike | Sequence) -> Spread:
    """n(y|x) = ∫ N(y; u, diag sigma²) spread(u|x) du: the noise of ``spread`` and a Gaussian's.

    Closed wherever ``spread`` has a closed form for a Gaussian decoder and adds its noise to x:
    the Gaussian's variance then only adds to the decoder's.

    Args:
      spread: ``gaussian_spread``, ``laplace_spread``, ``low_rank_spread``, or a sum of them.
      sigma: standard deviation of the further noise, in data units: a scalar or ``[dim]``.

    Raises:
      ValueError: if a concrete ``sigma`` is negative or not finite; in ``log_prob``, if
        ``spread`` has no closed form for a Gaussian decoder, or ``sigma`` is concrete and 0 and
        neither has ``spread`` a density for a deterministic one.

    Examples:
      >>> both = sj.with_gaussian(sj.gaussian_spread(0.3), 0.4)  # is gaussian_spread(0.5)
      >>> log_prob = both.log_prob(jnp.zeros(1), jnp.zeros(1), None)
      >>> round(float(log_prob), 4)
      -0.2258
    """
    further = gaussian_spread(sigma)
    sigma = _checked_sigma(sigma)
    concrete = _concrete(sigma)

    def sample(key: PRNGKeyArray, x: Float[Array, "*batch dim"]) -> Float[Array, "*batch dim"]:
        key, further_key = jax.random.split(key)
        return further.sample(further_key, spread.sample(key, x))

    def log_prob(
        y: Float[Array, "... dim"],
        mean: Float[Array, "... dim"],
        var: Float[Array, "... dim"] | None,
    ) -> Float[Array, "..."]:
        if var is None:
            if concrete is not None and (concrete == 0).any():
                spread.log_prob(y, mean, None)  # raises where it has no density
            var = jnp.zeros_like(mean)
        total = var + jnp.broadcast_to(jnp.square(sigma), var.shape).astype(var.dtype)
        return spread.log_prob(y, mean, total)

    return Spread(sample, log_prob)


def _concrete(value: ArrayLike) -> np.ndarray | None:
    return None if isinstance(value, jax.core.Tracer) else np.asarray(value)


def _numbers(value: ArrayLike | Sequence, name: str) -> ArrayLike:
    """It as it came, but a list as an array: JAX squares none, nor adds one to an array."""
    if isinstance(value, jax.Array):
        return value
    if isinstance(value, list | tuple):
        if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(value)):
            return jnp.asarray(value)
        value = np.asarray(value)
    if np.asarray(value).dtype.kind not in "iufb":
        raise ValueError(f"{name} must be a real number or an array of them, got {value!r}")
    return cast("ArrayLike", value)


def _checked_sigma(sigma: ArrayLike | Sequence) -> ArrayLike:
    sigma = _numbers(sigma, "sigma")
    concrete = _concrete(sigma)
    if concrete is not None and not (np.isfinite(concrete) & (concrete >= 0)).all():
        raise ValueError(f"sigma must be finite and >= 0 (a standard deviation), got {sigma}")
    return sigma


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


def _to_rank(x: Array, ndim: int) -> Array:
    """Prepends axes of size 1 until ``x`` has at least ``ndim`` axes."""
    return jnp.expand_dims(x, tuple(range(max(0, ndim - x.ndim))))
