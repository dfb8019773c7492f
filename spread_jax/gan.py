"""A Wasserstein GAN with gradient penalty: what needs no density, and no spread."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, PRNGKeyArray, PyTree

from spread_jax.models.vae import VAE
from spread_jax.training import Hyper, Training, make_training

GRADIENT_PENALTY = 10.0
CRITIC_STEPS = 5


def gan_training(generator: VAE, **training: Any) -> Training:
    """Critic: E f(fake) - E f(x) + 10 E(‖∇f(x̂)‖ - 1)², x̂ between x and fake; generator: -E f(fake).

    The loss is the critic's, in data units. Each part sees the other as a constant, and one of
    them moves at a step: five steps of the critic, then one of the generator.

    Args:
      generator: its decoder and latent make the fakes, reparameterised; it has a σ, yet needs no
        density. Its encoder, ``[n, dim] -> [n, 1]``, is the critic f.
      **training: ``sample_batch``, ``num_steps`` and more, as in :func:`spread_jax.make_training`;
        hyper holds the ``learning_rate``.

    References:
      Gulrajani, Ahmed, Arjovsky, Dumoulin, Courville, "Improved Training of Wasserstein GANs",
      NeurIPS 2017, algorithm 1.
    """

    def loss_fn(params: PyTree, key: PRNGKeyArray, x: Array, hyper: Hyper) -> Array:
        sample_key, mix_key = jax.random.split(key)
        fake = generator.sample(params, sample_key, len(x))
        fixed_critic = {**params, "encoder": jax.lax.stop_gradient(params["encoder"])}
        fixed_fake = jax.lax.stop_gradient(fake)

        def f(params: PyTree, x: Array) -> Array:
            return generator.encode(params, x)[..., 0]

        mix = jax.random.uniform(mix_key, (len(x), 1))
        slope = jax.grad(lambda x: f(params, x).sum())(mix * x + (1 - mix) * fixed_fake)
        penalty = jnp.square(jnp.linalg.norm(slope, axis=-1) - 1).mean()
        critic_loss = f(params, fixed_fake).mean() - f(params, x).mean()
        generator_loss = -f(fixed_critic, fake).mean()
        # of value 0: the loss that is told is the critic's
        generators = generator_loss - jax.lax.stop_gradient(generator_loss)
        return critic_loss + GRADIENT_PENALTY * penalty + generators

    return make_training(
        init_params=generator.init, loss_fn=loss_fn, optimizer=_alternating, **training
    )


def _alternating(hyper: Hyper) -> optax.GradientTransformation:
    adam = optax.adam(hyper["learning_rate"], b1=0.0, b2=0.9)

    def is_critics(step: Array) -> Array:
        return step % (CRITIC_STEPS + 1) < CRITIC_STEPS

    return optax.partition(
        {
            "critic": optax.conditionally_mask(adam, is_critics),
            "generator": optax.conditionally_mask(adam, lambda step: ~is_critics(step)),
        },
        {"encoder": "critic", "decoder": "generator"},
    )
