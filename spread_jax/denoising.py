"""From a spread point back to a clean one: the posterior mean E[x|y] under Gaussian noise."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float, PRNGKeyArray

from spread_jax.latents import Latent


def tweedie(
    y: Float[Array, "*batch dim"], log_prob: Callable[[Array], Array], sigma: ArrayLike
) -> Float[Array, "*batch dim"]:
    """E[x|y] = y + sigma² ∇ log p~(y), for y = x + sigma ε: Tweedie's formula, whatever p is.

    Args:
      y: spread points.
      log_prob: ``y [..., dim] -> log p~(y) [...]``, of the spread law, each point for itself.
      sigma: standard deviation of the noise, a scalar or ``[dim]``, in data units.

    References:
      Efron, "Tweedie's formula and selection bias", JASA 106 (2011), equation 1.4.
    """
    score = jax.grad(lambda y: jnp.sum(log_prob(y)))(y)
    return y + jnp.broadcast_to(jnp.square(sigma), y.shape).astype(y.dtype) * score


def denoise_by_decoder(
    key: PRNGKeyArray,
    y: Float[Array, "*batch dim"],
    *,
    encode: Callable[[Array], Any],
    decode: Callable[[Array], tuple[Array, Array | None]],
    latent: Latent,
    sigma: ArrayLike,
) -> Float[Array, "*batch dim"]:
    """E_{q(z|y)} [ mean(z) + var(z)/(var(z) + sigma²) (y - mean(z)) ], a VAE's posterior mean.

    Exact if q(z|y) is the model's posterior. A deterministic decoder gives E_q[mean(z)].

    Args:
      key: for the draws of z, where the latent's expectation is not exact.
      y: spread points, by Gaussian noise.
      encode, decode, latent: as in :func:`spread_jax.spread_elbo`.
      sigma: standard deviation of the noise, a scalar or ``[dim]``, in data units.
    """
    posterior = encode(y)

    def clean(z: Array) -> Array:
        mean, var = decode(z)
        if var is None:
            return jnp.broadcast_to(mean, (mean.shape[0], *y.shape))
        gain = var / (var + jnp.broadcast_to(jnp.square(sigma), var.shape).astype(var.dtype))
        return mean + gain * (y[None] - mean)

    def coordinate(i: Array) -> Array:
        return latent.expectation(key, posterior, lambda z: clean(z)[..., i])

    return jnp.moveaxis(jax.vmap(coordinate)(jnp.arange(y.shape[-1])), 0, -1)
