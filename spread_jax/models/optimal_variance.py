"""A VAE whose one variance is, at every batch, the one that fits best."""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray, PyTree

from spread_jax.models.vae import VAE
from spread_jax.objectives import Bound
from spread_jax.spreads import Points, Spread


class OptimalVarianceVAE(VAE):
    """A VAE with log N(x; mean(z), σ*² I), σ*² = E_q‖x - mean(z)‖² / dim of the batch.

    Its parameters have one number more, ``log_sigma``, which follows the batches' log σ* by
    gradient, for the samples; it adds nothing to the bound. A spread's noise on the model does
    not enter; its noise on the data does.

    References:
      Rybkin, Daniilidis, Levine, "Simple and Effective VAE Training with Calibrated Decoders",
      ICML 2021, equation 8.
    """

    def bound(self, params: PyTree, key: PRNGKeyArray, x: Points, spread: Spread) -> Bound:
        """-(dim/2) log 2πσ*² - E_q‖x - mean(z)‖² / 2σ*², less KL(q || p)."""

        def squared_error(y: Array, mean: Array, var: Array | None) -> Array:
            return jnp.sum(jnp.square(y[None] - mean), axis=-1)

        error, kl, posterior = super().bound(params, key, x, Spread(spread.sample, squared_error))
        log_var = jnp.log(error.mean() / x.shape[-1])
        log_lik = -0.5 * (
            x.shape[-1] * (math.log(2 * math.pi) + log_var) + error * jnp.exp(-log_var)
        )
        following = jnp.square(params["log_sigma"] - jax.lax.stop_gradient(0.5 * log_var))
        return Bound(log_lik - (following - jax.lax.stop_gradient(following)), kl, posterior)


def optimal_variance_vae(vae: VAE, initial_log_sigma: float = -1.5) -> OptimalVarianceVAE:
    """The VAE with its decoder's variance replaced by the optimal one.

    Args:
      vae: with any decoder; its mean is used.
      initial_log_sigma: where the number that follows log σ* starts, log of data units.
    """

    def init(key: PRNGKeyArray) -> PyTree:
        return {**vae.init(key), "log_sigma": jnp.full((), initial_log_sigma)}

    def decode(params: PyTree, z: Array) -> tuple[Array, Array]:
        mean = vae.decode(params, z)[0]
        return mean, jnp.broadcast_to(jnp.exp(2 * params["log_sigma"]), mean.shape)

    return OptimalVarianceVAE(init, vae.encode, decode, vae.latent)
