"""The failure case as a JAX user writes it without this package: ``jit(vmap(scan))`` over runs.

Only the networks are this package's Flax modules, so that all contestants have equal weights. The
loss, the step and the loop are written here, with JAX's default options and on one device.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import Array

from benchmarks.timing import BATCH, HYPER, Contestant
from spread_jax.models.networks import BernoulliEncoder, GaussianDecoder

ADAM = optax.adam(HYPER["learning_rate"])
STATES = jnp.array([[0.0], [1.0]])  # of z


class PlainRuns:
    """Runs that train together from the parameters of as many, leaves ``[run, ...]``."""

    def __init__(
        self, params: Any, hidden: tuple[int, ...], activation: Callable[[Array], Array]
    ) -> None:
        self._networks = (
            BernoulliEncoder(hidden, activation=activation),
            GaussianDecoder(hidden, dim=2, activation=activation),
        )
        self._num_runs = len(jax.tree.leaves(params)[0])
        keys = jax.vmap(jax.random.key)(jnp.arange(self._num_runs))
        params = jax.device_put(params, jax.devices()[0])
        self._state = (params, jax.vmap(ADAM.init)(params), keys)

    def losses(self, x: Array, noise: Array) -> Array:
        """``[run, step]``, of batches ``[run, step, batch, 2]`` that are given."""

        def one_run(params: Any, opt_state: Any, x: Array, noise: Array) -> Array:
            def step(state: Any, batch: Any) -> tuple[Any, Array]:
                *state, loss = self.step(*state, *batch)
                return tuple(state), loss

            return jax.lax.scan(step, (params, opt_state), (x, noise))[1]

        return jax.jit(jax.vmap(one_run))(*self._state[:2], x, noise)

    def loss(self, params: Any, x: Array, noise: Array) -> Array:
        """The negative spread ELBO of a batch ``x [batch, 2]``."""
        encoder, decoder = self._networks
        y = x + HYPER["sigma_fix"] * noise
        decoded: Any = decoder.apply(params["decoder"], STATES)
        mean, var = decoded
        var = var + HYPER["sigma_fix"] ** 2
        squares = (y[None] - mean[:, None]) ** 2 / var[:, None]
        log_lik = -0.5 * (jnp.log(2 * jnp.pi * var[:, None]) + squares).sum(-1)
        logits: Any = encoder.apply(params["encoder"], y)
        logit = logits[..., 0]
        log_q = jnp.stack([jax.nn.log_sigmoid(-logit), jax.nn.log_sigmoid(logit)])
        return (jnp.exp(log_q) * (log_q + jnp.log(2) - log_lik)).sum(0).mean()

    def step(self, params: Any, opt_state: Any, x: Array, noise: Array) -> tuple[Any, Any, Array]:
        """Of one run."""
        loss, gradient = jax.value_and_grad(self.loss)(params, x, noise)
        updates, opt_state = ADAM.update(gradient, opt_state)
        return optax.apply_updates(params, updates), opt_state, loss

    def contestant(self, num_steps: int) -> Contestant:
        """Warmed up; a turn trains all runs so many steps further."""

        def step(state: Any, _: None) -> tuple[Any, Array]:
            params, opt_state, key = state
            key, mode_key, data_key, noise_key = jax.random.split(key, 4)
            mode = jax.random.rademacher(mode_key, (BATCH,), jnp.float32)
            a = mode + HYPER["data_std"] * jax.random.normal(data_key, (BATCH,))
            x = jnp.stack([a, jnp.zeros_like(a)], -1)
            noise = jax.random.normal(noise_key, (BATCH, 2))
            params, opt_state, loss = self.step(params, opt_state, x, noise)
            return (params, opt_state, key), loss

        run = jax.jit(jax.vmap(lambda state: jax.lax.scan(step, state, length=num_steps)))

        def train() -> None:
            self._state, losses = run(self._state)
            jax.block_until_ready(losses)

        train()
        return Contestant(self._num_runs * num_steps, train)
