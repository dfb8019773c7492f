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


class InjectiveMean(nn.Module):
    """f(x) = x + c(x) with Lipschitz constant of c below 1: ``x [..., dim] -> [..., dim]``.

    c is an MLP with tanh between its layers. Flax's spectral normalisation divides each kernel by
    an estimate of its largest singular value, so that each layer's Lipschitz constant is
    ``layer_bound``; then ‖f(a) - f(b)‖ >= (1 - layer_bound^layers) ‖a - b‖, and f is injective.

    The power iteration's vector lives in the collection ``batch_stats``; with ``update_stats``
    and ``mutable=["batch_stats"]`` it goes on from call to call, as Flax describes.
    ``power_steps`` iterations in each call keep its estimate, which comes from below, within the
    room that ``layer_bound`` leaves to 1, also without.

    References:
      Behrmann, Grathwohl, Chen, Duvenaud, Jacobsen, "Invertible residual networks", ICML 2019;
      Miyato, Kataoka, Koyama, Yoshida, "Spectral normalization for GANs", ICLR 2018.
    """

    hidden: Sequence[int]
    layer_bound: float = 0.9
    power_steps: int = 10

    @nn.compact
    def __call__(
        self, x: Float[Array, "*batch dim"], update_stats: bool = False
    ) -> Float[Array, "*batch dim"]:
        c = x
        for i, width in enumerate((*self.hidden, x.shape[-1])):
            layer = nn.SpectralNorm(nn.Dense(width), n_steps=self.power_steps)
            c = self.layer_bound * layer(c if i == 0 else jnp.tanh(c), update_stats=update_stats)
        return x + c
