"""VAEs whose noise learns: it maximises the loss while the model minimises it."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from spread_jax.low_rank_spreads import fixed_volume_spread
from spread_jax.models.model import Init
from spread_jax.models.networks import InjectiveMean
from spread_jax.models.vae import VAE
from spread_jax.objectives import Bound
from spread_jax.spreads import Points, Spread, injective_mean_spread


class LearnedSpreadVAE(NamedTuple):
    """A VAE and a noise law of its own: a :class:`spread_jax.Model` with params ``vae``, ``noise``.

    What the noise climbs is -ELBO, as in the paper's code: the spread KL plus the entropy of the
    spread data, plus the gap of the posterior. Noise can raise the last two without telling data
    and model apart; a fixed volume bounds the entropy's part.

    The ``vae`` has a deterministic decoder; ``init_noise`` gives the parameters of the noise, of
    which ``make_spread`` makes a Spread.

    References:
      Zhang, Hayes, Bird, Habib, Barber, "Spread Divergence", ICML 2020, arXiv 1811.08968,
      section 3.
    """

    vae: VAE
    init_noise: Init
    make_spread: Callable[[PyTree], Spread]

    def init(self, key: PRNGKeyArray) -> PyTree:
        """The first parameters of model and noise."""
        vae_key, noise_key = jax.random.split(key)
        return {"vae": self.vae.init(vae_key), "noise": self.init_noise(noise_key)}

    def bound(self, params: PyTree, key: PRNGKeyArray, x: Points, spread: Spread) -> Bound:
        """The spread ELBO under the model's own noise, whatever ``spread``."""
        del spread
        return self.vae.bound(params["vae"], key, x, self.make_spread(params["noise"]))

    def sample(
        self, params: PyTree, key: PRNGKeyArray, n: int, spread: Spread | None = None
    ) -> Float[Array, "n dim"]:
        """Clean points of the VAE."""
        return self.vae.sample(params["vae"], key, n, spread)


def learned_covariance_vae(vae: VAE, dim: int, sigma: ArrayLike, rank: int = 4) -> LearnedSpreadVAE:
    """Noise of :func:`spread_jax.fixed_volume_spread`, which starts near N(0, sigma² I).

    Args:
      vae: with a deterministic decoder.
      dim: of the data.
      sigma: standard deviation of the isotropic noise of equal volume, in data units.
      rank: directions that the noise may lean towards.
    """
    return LearnedSpreadVAE(
        vae,
        # at 0 the slope is 0 too
        lambda key: 1e-2 * jax.random.normal(key, (dim, rank)),
        lambda directions: fixed_volume_spread(directions, sigma),
    )


def learned_mean_vae(vae: VAE, dim: int, sigma: ArrayLike) -> LearnedSpreadVAE:
    """Noise N(f(x), sigma² I) about an injective mean, :class:`InjectiveMean` of 64 units.

    The arguments are as in :func:`learned_covariance_vae`.
    """
    mean: Any = InjectiveMean((64,))
    return LearnedSpreadVAE(
        vae,
        lambda key: mean.init(key, jnp.zeros((1, dim))),
        lambda noise: injective_mean_spread(partial(mean.apply, noise), sigma),
    )


def min_max_adam(
    learning_rate: ArrayLike, noise_learning_rate: ArrayLike, model_steps: int
) -> optax.GradientTransformation:
    """Adam that descends for the model ``model_steps`` times, then ascends once for the noise."""

    def is_noise_step(count: Array) -> Array:
        return count % (model_steps + 1) == model_steps

    upwards = jnp.asarray(noise_learning_rate)
    model = optax.adam(lambda count: jnp.where(is_noise_step(count), 0.0, learning_rate))
    noise = optax.adam(lambda count: jnp.where(is_noise_step(count), -upwards, 0.0))
    return optax.partition({"vae": model, "noise": noise}, {"vae": "vae", "noise": "noise"})
