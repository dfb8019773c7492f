"""From a spread point back to a clean one: the posterior mean E[x|y] under Gaussian noise."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float, PRNGKeyArray

from spread_jax.latents import Latent
from spread_jax.objectives import mean_and_var


def tweedie(
    y: Float[Array, "*batch dim"], log_prob: Callable[[Array], Array], sigma: ArrayLike
) -> Float[Array, "*batch dim"]:
    """E[x|y] = y + sigma² ∇ log p~(y), for y = x + sigma ε: Tweedie's formula, whatever p is.

    Args:
      y: spread points.
      log_prob: ``y [..., dim] -> log p~(y) [...]``, of the spread law, each point for itself.
      sigma: standard deviation of the noise, a scalar or ``[dim]``, in data units.

    Examples:
      >>> y = jnp.array([[2.0]])
      >>> log_prob = lambda y: -jnp.sum(y**2, -1) / 4  # x and the noise N(0, 1): y is N(0, 2)
      >>> print(sj.tweedie(y, log_prob, 1.0))  # half the way back to the mean
      [[1.]]

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

    Raises:
      TypeError: if ``decode`` does not return a pair.

    Examples:
      >>> x = sj.denoise_by_decoder(
      ...     jax.random.key(0),
      ...     jnp.array([[2.0]]),
      ...     encode=lambda y: (jnp.zeros((1, 1)), jnp.zeros((1, 1))),
      ...     decode=lambda z: (0 * z, 0 * z + 1.0),  # x is N(0, 1) whatever z
      ...     latent=sj.gaussian_latent(dim=1),
      ...     sigma=1.0,
      ... )
      >>> print(x)
      [[1.]]
    """
    posterior = encode(y)

    def clean(z: Array) -> Array:
        mean, var = mean_and_var(decode(z))
        if var is None:
            return jnp.broadcast_to(mean, (mean.shape[0], *y.shape))
        gain = var / (var + jnp.broadcast_to(jnp.square(sigma), var.shape).astype(var.dtype))
        return mean + gain * (y[None] - mean)

    def coordinate(i: Array) -> Array:
        return latent.expectation(key, posterior, lambda z: clean(z)[..., i])

    return jnp.moveaxis(jax.vmap(coordinate)(jnp.arange(y.shape[-1])), 0, -1)
