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
        """``(y [..., dim], mean [..., dim], var [..., dim] or None) -> log p~(y) [...]``, in nats:
        log ∫ n(y|x) N(x; mean, diag var) dx, or log n(y|mean) where var is None."""


class Spread(NamedTuple):
    """A noise law n(y|x), as the two pure functions that a spread divergence needs.

    The last axis is the event, leading axes broadcast. A ``Spread`` holds functions, so build it
    inside the compiled function; its parameters may be traced.

    The two need not share a parameter: ``Spread(gaussian_spread(a).sample,
    gaussian_spread(b).log_prob)`` is noise augmentation at (a, 0), a variance floor at (0, b).
    """

    sample: SpreadData
    log_prob: SpreadModel


@runtime_checkable
class NoiseLaw(Protocol):
    """A noise law of a standard deviation, such as :func:`gaussian_spread`."""

    def __call__(self, sigma: ArrayLike, /) -> Spread:
        """``(sigma) -> Spread``, sigma in data units, traced or not."""


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
    sigma = checked(sigma)

    def sample(key: PRNGKeyArray, x: Points) -> Points:
        return x + broadcast_as(sigma, x) * jax.random.normal(key, x.shape, x.dtype)

    def log_prob(y: Moments, mean: Moments, var: Moments | None) -> Float[Array, "..."]:
        total = to_rank(plus_noise(model_variance(var, sigma, mean), sigma), y.ndim)
        residual = to_rank(y, mean.ndim) - to_rank(mean, y.ndim)
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


def dequantizing_noise(std: ArrayLike) -> Spread:
    """Uniform noise of ``std`` on the data, none on the model: how densities are fitted to grey
    levels a step apart, std = step / √12.

    The exponential of E log p(y) + log step is at most the geometric mean of the probabilities of
    the grey levels, so that -log2 of it, over the pixels, is a bound in bits per dimension.

    References:
      Theis, van den Oord, Bethge, "A note on the evaluation of generative models", ICLR 2016,
      section 3.1.
    """

    def sample(key: PRNGKeyArray, x: Points) -> Points:
        return x + math.sqrt(3) * jnp.asarray(std) * jax.random.uniform(
            key, x.shape, x.dtype, minval=-1
        )

    return Spread(sample, no_spread().log_prob)


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
    scale = checked(scale, "scale", positive=True)

    def sample(key: PRNGKeyArray, x: Points) -> Points:
        return x + broadcast_as(scale, x) * jax.random.laplace(key, x.shape, x.dtype)

    def log_prob(y: Moments, mean: Moments, var: Moments | None) -> Float[Array, "..."]:
        var = jnp.zeros_like(mean) if var is None else var
        ndim = max(y.ndim, mean.ndim, var.ndim)
        y, mean, var = (to_rank(a, ndim) for a in (y, mean, var))
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
    none = jnp.asarray(checked(std, "std")) == 0
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
    sigma = checked(sigma)
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


def as_numbers(value: ArrayLike | Sequence, name: str) -> ArrayLike:
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


def checked(value: ArrayLike | Sequence, name: str = "sigma", positive: bool = False) -> ArrayLike:
    """A standard deviation or a scale; ValueError if it is concrete and out of range."""
    value = as_numbers(value, name)
    concrete = concrete_value(value)
    in_range = (
        concrete is None
        or (np.isfinite(concrete) & (concrete > 0 if positive else concrete >= 0)).all()
    )
    if not in_range:
        accepted = "> 0" if positive else ">= 0 (a standard deviation)"
        raise ValueError(f"{name} must be finite and {accepted}, got {value}")
    return value


def _holds_zero(sigma: ArrayLike) -> bool:
    """Whether ``sigma`` is concrete and 0 somewhere."""
    concrete = concrete_value(sigma)
    return concrete is not None and bool((concrete == 0).any())


def model_variance(var: Array | None, sigma: ArrayLike, mean: Array) -> Array:
    """The decoder's; 0 in the shape of ``mean`` for a deterministic one, which needs a noise."""
    if var is None and _holds_zero(sigma):
        raise ValueError("a deterministic decoder has no density: it needs sigma > 0")
    return jnp.zeros_like(mean) if var is None else var


def plus_noise(var: Array, sigma: ArrayLike) -> Array:
    """var + sigma²."""
    return var + broadcast_as(jnp.square(sigma), var)


def broadcast_as(value: ArrayLike, like: Array) -> Array:
    """``value`` in the shape and dtype of ``like``."""
    return jnp.broadcast_to(value, like.shape).astype(like.dtype)


def to_rank(x: Array, ndim: int) -> Array:
    """Prepends axes of size 1 until ``x`` has at least ``ndim`` axes."""
    return jnp.expand_dims(x, tuple(range(max(0, ndim - x.ndim))))
