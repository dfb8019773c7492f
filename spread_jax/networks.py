"""Flax Linen encoders and decoders, used through ``init`` and ``apply`` only."""

from collections.abc import Callable, Sequence

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

Activation = Callable[[Array], Array]


class MLP(nn.Module):
    """Dense layers, each followed by the activation: ``[..., in] -> [..., hidden[-1]]``."""

    hidden: Sequence[int]
    activation: Activation = nn.relu

    @nn.compact
    def __call__(self, x: Float[Array, "*batch in"]) -> Float[Array, "*batch out"]:
        for width in self.hidden:
            x = self.activation(nn.Dense(width)(x))
        return x


class BernoulliEncoder(nn.Module):
    """q(z|y) = Bernoulli(logits(y)): ``y [..., dim] -> logits [..., latent_dim]``."""

    hidden: Sequence[int]
    latent_dim: int = 1
    activation: Activation = nn.relu

    @nn.compact
    def __call__(self, y: Float[Array, "*batch dim"]) -> Float[Array, "*batch latent_dim"]:
        return nn.Dense(self.latent_dim)(MLP(self.hidden, self.activation)(y))


class GaussianEncoder(nn.Module):
    """q(z|y) = N(mean(y), diag exp log_var(y)): ``y [..., dim] -> (mean, log_var)``."""

    hidden: Sequence[int]
    latent_dim: int
    activation: Activation = nn.relu

    @nn.compact
    def __call__(
        self, y: Float[Array, "*batch dim"]
    ) -> tuple[Float[Array, "*batch latent_dim"], Float[Array, "*batch latent_dim"]]:
        features = MLP(self.hidden, self.activation)(y)
        return nn.Dense(self.latent_dim)(features), nn.Dense(self.latent_dim)(features)


class GaussianDecoder(nn.Module):
    """p(x|z) = N(mean(z), diag var(z)): ``z [..., latent_dim] -> (mean, var)``, each [..., dim].

    The variance is exp of a head with a constant bias and, by default, a zero kernel, so that it
    starts at exp(initial_log_var) for every z. That start is part of the method: from variance 1
    each component explains all the data, and the modes are merged on most seeds.
    """

    hidden: Sequence[int]
    dim: int
    activation: Activation = nn.relu
    initial_log_var: float = -3.0
    zero_log_var_kernel: bool = True

    @nn.compact
    def __call__(
        self, z: Float[Array, "*batch latent_dim"]
    ) -> tuple[Float[Array, "*batch dim"], Float[Array, "*batch dim"]]:
        features = MLP(self.hidden, self.activation)(z)
        log_var = nn.Dense(
            self.dim,
            kernel_init=nn.initializers.zeros
            if self.zero_log_var_kernel
            else nn.initializers.lecun_normal(),
            bias_init=nn.initializers.constant(self.initial_log_var),
        )(features)
        return nn.Dense(self.dim)(features), jnp.exp(log_var)
