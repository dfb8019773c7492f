"""A small flow of any dimension: the RealNVP of docs/extending.md, with 64 hidden units and with
more than one coordinate to a half."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

NUM_LAYERS = 8


class Layer(NamedTuple):
    """Weights of one coupling layer, a network of one hidden layer of tanh."""

    into_hidden: Float[Array, "*runs fixed hidden"]
    bias: Float[Array, "*runs hidden"]
    out_of_hidden: Float[Array, "*runs hidden twice_moved"]


class SmallFlow(NamedTuple):
    """A RealNVP: every layer orders the coordinates anew, keeps the first half as it is, and moves
    and scales the others by numbers that it computes from the first half.

    A layer scales a coordinate by e at most. So log p has an upper bound, in the plane 8 - log 2π:
    of data without a density this flow cannot run away, as one with free scales can.

    Attributes:
      dim: of the points, 2 or more.
      hidden: width of the networks.
    """

    dim: int
    hidden: int = 64

    def orders(self) -> list[np.ndarray]:
        """In turn a fixed random order, and the two halves swapped, so that both are moved."""
        rng, there = np.random.default_rng(0), np.arange(self.dim)
        swapped = np.roll(there, self.dim // 2)
        return [swapped if i % 2 else rng.permutation(self.dim) for i in range(NUM_LAYERS)]

    def init(self, key: PRNGKeyArray) -> list[Layer]:
        """Weights of every layer: scales and shifts are small to begin with."""
        fixed, moved = self.dim // 2, self.dim - self.dim // 2
        layers = []
        for into_key, out_key in jax.random.split(key, (NUM_LAYERS, 2)):
            into_hidden = jax.random.normal(into_key, (fixed, self.hidden)) / np.sqrt(fixed)
            out_of_hidden = 0.1 * jax.random.normal(out_key, (self.hidden, 2 * moved))
            layers.append(Layer(into_hidden, jnp.ones(self.hidden), out_of_hidden))
        return layers

    def log_prob(self, params: list[Layer], y: Array) -> Array:
        """log N(f(y); 0, I) + log |det ∂f/∂y| of points ``[..., dim]``, in nats, ``[...]``."""
        z, log_det = self.forward(params, y)
        return jax.scipy.stats.norm.logpdf(z).sum(axis=-1) + log_det

    def forward(self, params: list[Layer], y: Array) -> tuple[Array, Array]:
        """f(y) ``[..., dim]`` and log |det ∂f/∂y| ``[...]``."""
        log_det = jnp.zeros(y.shape[:-1])
        for layer, order in zip(params, self.orders(), strict=True):
            fixed, moved = jnp.split(y[..., order], [self.dim // 2], axis=-1)
            log_scale, shift = _log_scale_and_shift(layer, fixed)
            y = jnp.concatenate([fixed, (moved - shift) * jnp.exp(-log_scale)], axis=-1)
            log_det -= log_scale.sum(axis=-1)
        return y, log_det

    def sample(self, params: list[Layer], key: PRNGKeyArray, n: int) -> Array:
        """f⁻¹ of normal numbers, ``[n, dim]``."""
        return self.inverse(params, jax.random.normal(key, (n, self.dim)))

    def inverse(self, params: list[Layer], z: Array) -> Array:
        """The points whose image is ``z [..., dim]``."""
        for layer, order in reversed(list(zip(params, self.orders(), strict=True))):
            fixed, moved = jnp.split(z, [self.dim // 2], axis=-1)
            log_scale, shift = _log_scale_and_shift(layer, fixed)
            z = jnp.concatenate([fixed, moved * jnp.exp(log_scale) + shift], axis=-1)
            z = z[..., np.argsort(order)]
        return z


def _log_scale_and_shift(layer: Layer, fixed: Array) -> tuple[Array, Array]:
    hidden = fixed @ layer.into_hidden
    out = jnp.tanh(hidden + jnp.broadcast_to(layer.bias, hidden.shape)) @ layer.out_of_hidden
    log_scale, shift = jnp.split(out, 2, axis=-1)
    return jnp.tanh(log_scale), shift
