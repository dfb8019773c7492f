"""Noise laws n(y|x): the same noise is added to the data and to the model."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, PRNGKeyArray


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


def gaussian_spread(sigma: ArrayLike) -> Spread:
    """n(y|x) = N(y; x, diag sigma²), so log p~(y) = log N(y; mean, diag(var + sigma²)).

    Args:
      sigma: standard deviation of the noise, in data units: a scalar, or one per dimension
        ``[dim]``. Traced or not. At 0 the spread does nothing.

    Returns:
      The noise law.

    Raises:
      ValueError: if a concrete ``sigma`` is negative or not finite, or is 0 where ``log_prob``
        meets a deterministic decoder, which has no density.
    """
    concrete = None if isinstance(sigma, jax.core.Tracer) else np.asarray(sigma)
    if concrete is not None and not (np.isfinite(concrete) & (concrete >= 0)).all():
        raise ValueError(f"sigma must be finite and >= 0 (a standard deviation), got {sigma}")

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
    """n(y|x) = δ(y - x): ``gaussian_spread(0.0)``, under which ``spread_elbo`` is ``elbo``."""
    return gaussian_spread(0.0)


def _to_rank(x: Array, ndim: int) -> Array:
    """Prepends axes of size 1 until ``x`` has at least ``ndim`` axes."""
    return jnp.expand_dims(x, tuple(range(max(0, ndim - x.ndim))))
