"""Noise laws n(y|x): the same noise is added to the data and to the model.

References:
  Zhang, Hayes, Bird, Habib, Barber, "Spread Divergence", ICML 2020, arXiv 1811.08968: section 2;
  stationary spread, as of the Gaussian and the Laplace law; section 3.2, the mean transform.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol, cast, runtime_checkable

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


Points = Float[Array, "*batch dim"]
"""Points: the last axis is the event, leading axes are a batch."""
Moments = Float[Array, "... dim"]
"""Points, means or variances whose leading axes broadcast."""


@runtime_checkable
class SpreadData(Protocol):
    """The first half of a noise law: it adds the noise to data."""

    def __call__(self, key: PRNGKeyArray, x: Array, /) -> Array:
        """``(key, x [..., dim]) -> y [..., dim]``, a draw from n(y|x)."""


@runtime_checkable
class SpreadModel(Protocol):
    """The second half of a noise law: it adds the noise to a Gaussian model."""

    def __call__(self, y: Array, mean: Array, var: Array | None, /) -> Array:
        """``(y [..., dim], mean [..., dim], var [..., dim] or None) -> log p~(y) [...]``, nats."""


class Spread(NamedTuple):
    """A noise law n(y|x), as the two pure functions that a spread divergence needs.

    The last axis is the event, leading axes broadcast. A ``Spread`` holds functions, so build it
    inside the compiled function; its parameters may be traced.

    Attributes:
      sample: ``(key, x) -> y``, a draw from n(y|x): spreads the data.
      log_prob: ``(y, mean, var) -> log p~(y)``, log ∫ n(y|x) N(x; mean, diag var) dx: spreads a
        Gaussian model. With ``var`` None the model is deterministic: log p~(y) = log n(y|mean).

    The two need not share a parameter: ``Spread(gaussian_spread(a).sample,
    gaussian_spread(b).log_prob)`` is noise augmentation at (a, 0), a variance floor at (0, b).
    """

    sample: SpreadData
    log_prob: SpreadModel


def gaussian_spread(sigma: ArrayLike | Sequence) -> Spread:
    """n(y|x) = N(y; x, diag sigma²), so log p~(y) = log N(y; mean, diag(var + sigma²)).

    Args:
      sigma: standard deviation of the noise, in data units: a scalar, or one per dimension
        ``[dim]``, traced or not. At 0 the spread does nothing.

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
    sigma = _checked(sigma)

    def sample(key: PRNGKeyArray, x: Points) -> Points:
        return x + broadcast_as(sigma, x) * jax.random.normal(key, x.shape, x.dtype)

    def log_prob(y: Moments, mean: Moments, var: Moments | None) -> Float[Array, "..."]:
        total = _to_rank(plus_noise(_model_variance(var, sigma, mean), sigma), y.ndim)
        residual = _to_rank(y, mean.ndim) - _to_rank(mean, y.ndim)
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
      scale: of the Laplace law, in data units; its standard deviation is √2 scale. A scalar or
        ``[dim]``, traced or not.

    Raises:
      ValueError: if a concrete ``scale`` is not finite and > 0.

    Examples:
      >>> spread = sj.laplace_spread(0.5)
      >>> log_prob = spread.log_prob(jnp.zeros(1), jnp.zeros(1), None)  # log 1 / (2 · 0.5)
      >>> abs(float(log_prob))
      0.0
    """
    scale = _checked(scale, "scale", positive=True)

    def sample(key: PRNGKeyArray, x: Points) -> Points:
        return x + broadcast_as(scale, x) * jax.random.laplace(key, x.shape, x.dtype)

    def log_prob(y: Moments, mean: Moments, var: Moments | None) -> Float[Array, "..."]:
        var = jnp.zeros_like(mean) if var is None else var
        ndim = max(y.ndim, mean.ndim, var.ndim)
        y, mean, var = (_to_rank(a, ndim) for a in (y, mean, var))
        return jnp.sum(normal_laplace_log_prob(y, mean, var, broadcast_as(scale, var)), -1)

    return Spread(sample, log_prob)


def laplace_noise(std: ArrayLike) -> Spread:
    """:func:`laplace_spread` by its standard deviation √2 scale, a scalar; 0 is no noise.

    ``std`` may be traced, so that a plain arm and a spread arm are numbers of one program.

    Raises:
      ValueError: if ``std`` is no scalar, or is concrete and negative or not finite.
    """
    if jnp.ndim(std):
        raise ValueError(f"std must be one scalar for all dimensions, got shape {jnp.shape(std)}")
    none = jnp.asarray(_checked(std, "std")) == 0
    spread = laplace_spread(jnp.where(none, 1.0, std) / math.sqrt(2))

    def sample(key: PRNGKeyArray, x: Array) -> Array:
        return jnp.where(none, x, spread.sample(key, x))

    def log_prob(y: Array, mean: Array, var: Array | None) -> Array:
        if var is None:  # without noise it has no density
            return jnp.where(none, jnp.nan, spread.log_prob(y, mean, None))
        # the branch not taken needs finite slopes too: in a gradient 0 · inf is NaN
        plain = no_spread().log_prob(y, mean, jnp.where(none, var, 1.0))
        return jnp.where(none, plain, spread.log_prob(y, mean, var))

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
    factor, sigma = _matrix(factor, "factor"), _checked(sigma)
    known = concrete_value(factor)
    if known is not None and not np.isfinite(known).all():
        raise ValueError("factor must be finite")
    dim, rank = jnp.shape(factor)

    def sample(key: PRNGKeyArray, x: Points) -> Points:
        factor_key, sigma_key = jax.random.split(key)
        along = jax.random.normal(factor_key, (*x.shape[:-1], rank), x.dtype)
        independent = jax.random.normal(sigma_key, x.shape, x.dtype)
        return x + along @ jnp.asarray(factor, x.dtype).T + broadcast_as(sigma, x) * independent

    def log_prob(y: Moments, mean: Moments, var: Moments | None) -> Float[Array, "..."]:
        # of a deterministic decoder one variance, so one factorisation, serves all the points
        total = plus_noise(_model_variance(var, sigma, jnp.zeros(dim, mean.dtype)), sigma)
        std = jnp.sqrt(total)
        each = (None,) * (std.ndim - 1)
        whitened = jnp.asarray(factor, std.dtype)[each] / std[..., None]
        gram = jnp.einsum("...di,...dj->...ij", whitened, whitened)
        lower = jnp.linalg.cholesky(gram + jnp.eye(rank, dtype=std.dtype)[each])
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
    factor, sigma = jnp.asarray(_matrix(directions, "directions")), _checked(sigma)
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
        :class:`spread_jax.models.networks.InjectiveMean` with its parameters. It is not checked.
      sigma: standard deviation of the noise, in data units: a scalar or ``[dim]``.

    Raises:
      ValueError: as :func:`gaussian_spread`; if ``log_prob`` meets a decoder with a variance.

    Examples:
      >>> spread = sj.injective_mean_spread(lambda x: 2 * x, sigma=1.0)
      >>> log_prob = spread.log_prob(jnp.full(1, 2.0), jnp.ones(1), None)  # log N(2; f(1), 1)
      >>> round(float(log_prob), 4)
      -0.9189
    """
    noise = gaussian_spread(sigma)

    def sample(key: PRNGKeyArray, x: Points) -> Points:
        return noise.sample(key, f(x))

    def log_prob(y: Moments, mean: Moments, var: Moments | None) -> Float[Array, "..."]:
        if var is not None:
            name = "injective_mean_spread with a decoder that has a variance"
            raise ValueError(f"{name}: no closed form; {CLOSED_FORMS}")
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
        ``spread`` has no closed form for a Gaussian decoder, or neither noise gives a
        deterministic one a density.

    Examples:
      >>> both = sj.with_gaussian(sj.gaussian_spread(0.3), 0.4)  # is gaussian_spread(0.5)
      >>> log_prob = both.log_prob(jnp.zeros(1), jnp.zeros(1), None)
      >>> round(float(log_prob), 4)
      -0.2258
    """
    sigma = _checked(sigma)
    further = gaussian_spread(sigma)

    def sample(key: PRNGKeyArray, x: Points) -> Points:
        key, further_key = jax.random.split(key)
        return further.sample(further_key, spread.sample(key, x))

    def log_prob(y: Moments, mean: Moments, var: Moments | None) -> Float[Array, "..."]:
        if var is None and _holds_zero(sigma):
            spread.log_prob(y, mean, None)  # raises where it has no density
        var = jnp.zeros_like(mean) if var is None else var
        return spread.log_prob(y, mean, plus_noise(var, sigma))

    return Spread(sample, log_prob)


def concrete_value(value: ArrayLike) -> np.ndarray | None:
    """``value`` as an array, or None while JAX traces it."""
    return None if isinstance(value, jax.core.Tracer) else np.asarray(value)


def _as_numbers(value: ArrayLike | Sequence, name: str) -> ArrayLike:
    """``value`` itself, or as an array where it is a list, which JAX cannot square or add."""
    if isinstance(value, jax.Array):
        return value
    if isinstance(value, list | tuple):
        if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(value)):
            return jnp.asarray(value)
        value = np.asarray(value)
    if np.asarray(value).dtype.kind not in "iufb":
        raise ValueError(f"{name} must be a real number or an array of them, got {value!r}")
    return cast("ArrayLike", value)


def _checked(value: ArrayLike | Sequence, name: str = "sigma", positive: bool = False) -> ArrayLike:
    """A standard deviation or a scale; ValueError if it is concrete and out of range."""
    value = _as_numbers(value, name)
    known = concrete_value(value)
    in_range = known is None or (np.isfinite(known) & (known > 0 if positive else known >= 0)).all()
    if not in_range:
        accepted = "> 0" if positive else ">= 0 (a standard deviation)"
        raise ValueError(f"{name} must be finite and {accepted}, got {value}")
    return value


def _holds_zero(sigma: ArrayLike) -> bool:
    """Whether ``sigma`` is concrete and 0 somewhere."""
    known = concrete_value(sigma)
    return known is not None and bool((known == 0).any())


def _model_variance(var: Array | None, sigma: ArrayLike, mean: Array) -> Array:
    """The decoder's; 0 in the shape of ``mean`` for a deterministic one, which needs a noise."""
    if var is None and _holds_zero(sigma):
        raise ValueError("a deterministic decoder has no density: it needs sigma > 0")
    return jnp.zeros_like(mean) if var is None else var


def plus_noise(var: Array, sigma: ArrayLike) -> Array:
    """var + sigma²."""
    return var + broadcast_as(jnp.square(sigma), var)


def _matrix(value: ArrayLike | Sequence, name: str) -> ArrayLike:
    value = _as_numbers(value, name)
    if jnp.ndim(value) != 2:
        raise ValueError(f"{name} must be a matrix [dim, rank], got shape {jnp.shape(value)}")
    return value


def broadcast_as(value: ArrayLike, like: Array) -> Array:
    """``value`` in the shape and dtype of ``like``."""
    return jnp.broadcast_to(value, like.shape).astype(like.dtype)


def _to_rank(x: Array, ndim: int) -> Array:
    """Prepends axes of size 1 until ``x`` has at least ``ndim`` axes."""
    return jnp.expand_dims(x, tuple(range(max(0, ndim - x.ndim))))


def _solve(lower: Array, right: Array) -> Array:
    """(L Lᵀ)⁻¹ right, with leading axes that broadcast; a shared L is solved with once."""
    if all(size == 1 for size in lower.shape[:-2]):
        flat = right.reshape(-1, right.shape[-1])
        shared = lower.reshape(lower.shape[-2:])
        return jax.scipy.linalg.cho_solve((shared, True), flat.T).T.reshape(right.shape)
    lower = jnp.broadcast_to(lower, (*right.shape[:-1], *lower.shape[-2:]))
    return jax.scipy.linalg.cho_solve((lower, True), right[..., None])[..., 0]
