"""Flax Linen encoders and decoders, used through ``init`` and ``apply`` only."""

from collections.abc import Callable, Sequence
from typing import Any, Literal, get_args

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from spread_jax.spreads import Points

Activation = Callable[[Array], Array]
Latents = Float[Array, "*batch latent_dim"]
Variance = Literal["each", "shared", "none"]
"""Of a decoder: one for each dimension and z; one number for all; or none, a deterministic one."""


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
    def __call__(self, y: Points) -> Latents:
        return nn.Dense(self.latent_dim)(MLP(self.hidden, self.activation)(y))


class GaussianEncoder(nn.Module):
    """q(z|y) = N(mean(y), diag exp log_var(y)): ``y [..., dim] -> (mean, log_var)``."""

    hidden: Sequence[int]
    latent_dim: int
    activation: Activation = nn.relu

    @nn.compact
    def __call__(self, y: Points) -> tuple[Latents, Latents]:
        features = MLP(self.hidden, self.activation)(y)
        return nn.Dense(self.latent_dim)(features), nn.Dense(self.latent_dim)(features)


class GaussianDecoder(nn.Module):
    """p(x|z) = N(mean(z), diag var(z)): ``z [..., latent_dim] -> (mean, var)``, each [..., dim].

    The variance is exp of a head with a constant bias and, by default, a zero kernel, so that it
    starts at exp(initial_log_var) for every z. That start is part of the method: from variance 1
    each component explains all the data, and the modes are merged on most seeds. A ``shared``
    variance is one learned number; with ``none``, var is None and x = mean(z). With ``pixels`` the
    mean is a sigmoid, in (0, 1): a linear layer cannot hold the many pixels that are 0 or 1 there.
    ``sigma_floor``, if it is not 0, is added to the standard deviation, in data units: a soft clip
    of log σ from below.

    References:
      Rybkin, Daniilidis, Levine, "Simple and Effective VAE Training with Calibrated Decoders",
      ICML 2021, for the soft clip log σ -> -6 + softplus(log σ + 6), which is σ -> σ + e^-6.
    """

    hidden: Sequence[int]
    dim: int
    activation: Activation = nn.relu
    initial_log_var: float = -3.0
    zero_log_var_kernel: bool = True
    variance: Variance = "each"
    sigma_floor: float = 0.0
    pixels: bool = False

    def __post_init__(self) -> None:
        require_one_of("variance", self.variance, Variance)
        super().__post_init__()

    @nn.compact
    def __call__(self, z: Latents) -> tuple[Points, Points | None]:
        features = MLP(self.hidden, self.activation)(z)
        log_var = None
        if self.variance == "each":
            zeros, random = nn.initializers.zeros, nn.initializers.lecun_normal()
            kernel = zeros if self.zero_log_var_kernel else random
            bias = nn.initializers.constant(self.initial_log_var)
            log_var = nn.Dense(self.dim, kernel_init=kernel, bias_init=bias)(features)
        mean = nn.Dense(self.dim)(features)
        mean = nn.sigmoid(mean) if self.pixels else mean
        return mean, _variance(self, mean, log_var, self.sigma_floor)


class ConvGaussianEncoder(nn.Module):
    """q(z|y) of an image, ``y [..., pixels] -> (mean, log_var)``, each ``[..., latent_dim]``.

    ``shape`` is ``(height, width)`` or ``(height, width, channels)`` of the image. Twice, blocks of
    2 x 2 pixels become channels and a 3 x 3 convolution follows; then a dense layer and two heads.
    Sides that 4 does not divide get zeros. There is no stride: on a CPU the gradient of a strided
    convolution takes XLA 20 times as long.
    """

    shape: tuple[int, ...]
    latent_dim: int
    channels: Sequence[int] = (8, 16)
    width: int = 128
    activation: Activation = nn.relu

    @nn.compact
    def __call__(self, y: Points) -> tuple[Latents, Latents]:
        height, width, depth = _with_channels(self.shape)
        x = y.reshape(-1, height, width, depth)
        x = jnp.pad(x, ((0, 0), (0, -height % 4), (0, -width % 4), (0, 0)))
        for channels in self.channels:
            x = self.activation(nn.Conv(channels, (3, 3))(_blocks_to_channels(x)))
        x = x.reshape(*y.shape[:-1], -1)
        features = self.activation(nn.Dense(self.width)(x))
        return nn.Dense(self.latent_dim)(features), nn.Dense(self.latent_dim)(features)


class ConvGaussianDecoder(nn.Module):
    """p(x|z) of an image: :class:`ConvGaussianEncoder` backwards.

    ``z [..., latent_dim] -> (mean, var)``, each ``[..., pixels]``; the mean is a sigmoid, the
    variance that of :class:`GaussianDecoder`.
    """

    shape: tuple[int, ...]
    channels: Sequence[int] = (16, 8)
    width: int = 128
    activation: Activation = nn.relu
    initial_log_var: float = -3.0
    variance: Variance = "each"

    def __post_init__(self) -> None:
        require_one_of("variance", self.variance, Variance)
        super().__post_init__()

    @nn.compact
    def __call__(self, z: Latents) -> tuple[Points, Points | None]:
        *sides, depth = _with_channels(self.shape)
        height, width = (-(-side // 4) for side in sides)
        x = MLP((self.width, height * width * self.channels[0]), self.activation)(z)
        x = x.reshape(-1, height, width, self.channels[0])
        x = self.activation(nn.Conv(4 * self.channels[1], (3, 3))(x))
        x = _channels_to_blocks(x)

        def head(**options: Any) -> Array:
            image = _channels_to_blocks(nn.Conv(4 * depth, (3, 3), **options)(x))
            image = image[:, : sides[0], : sides[1]]
            return image.reshape(*z.shape[:-1], -1)

        mean, log_var = nn.sigmoid(head()), None
        if self.variance == "each":
            bias = nn.initializers.constant(self.initial_log_var)
            log_var = head(kernel_init=nn.initializers.zeros, bias_init=bias)
        return mean, _variance(self, mean, log_var)


def _with_channels(shape: Sequence[int]) -> tuple[int, int, int]:
    """Height, width and number of channels of an image, which is 1 where the shape has none."""
    height, width, depth = shape if len(shape) == 3 else (*shape, 1)
    return height, width, depth


def _blocks_to_channels(x: Array) -> Array:
    """``[n, 2 height, 2 width, channels] -> [n, height, width, 4 channels]``."""
    n, height, width, channels = x.shape
    x = x.reshape(n, height // 2, 2, width // 2, 2, channels).transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(n, height // 2, width // 2, 4 * channels)


def _channels_to_blocks(x: Array) -> Array:
    """The inverse of :func:`_blocks_to_channels`."""
    n, height, width, channels = x.shape
    x = x.reshape(n, height, width, 2, 2, channels // 4).transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(n, 2 * height, 2 * width, channels // 4)


def require_one_of(name: str, value: str, choices: Any) -> None:
    """Raises ValueError unless the value is one of a Literal's."""
    if value not in get_args(choices):
        raise ValueError(f"{name} must be one of {', '.join(get_args(choices))}, got {value!r}")


def _variance(
    decoder: GaussianDecoder | ConvGaussianDecoder,
    mean: Array,
    log_var: Array | None,
    sigma_floor: float = 0.0,
) -> Array | None:
    """Of the head's log-variance where there is one, of the shared one, or None."""
    if decoder.variance == "shared":
        start = nn.initializers.constant(decoder.initial_log_var)
        log_var = jnp.broadcast_to(decoder.param("log_var", start, ()), mean.shape)
    if log_var is None or sigma_floor == 0:
        return None if log_var is None else jnp.exp(log_var)
    return jnp.square(jnp.exp(log_var / 2) + sigma_floor)


class InjectiveMean(nn.Module):
    """f(x) = x + c(x) with Lipschitz constant of c below 1: ``x [..., dim] -> [..., dim]``.

    c is an MLP with tanh between its layers. Flax's spectral normalisation divides each kernel by
    an estimate of its largest singular value, so that each layer's Lipschitz constant is
    ``layer_bound``; then ‖f(a) - f(b)‖ >= (1 - layer_bound^layers) ‖a - b‖, and f is injective.

    The power iteration's vector lives in the collection ``batch_stats``; with ``update_stats``
    and ``mutable=["batch_stats"]`` it goes on from call to call, as Flax describes. The estimate
    is at most the true singular value, so a layer's constant can exceed ``layer_bound``.
    ``power_steps`` iterations in each call keep that below 1, even without ``update_stats``.

    References:
      Behrmann, Grathwohl, Chen, Duvenaud, Jacobsen, "Invertible residual networks", ICML 2019;
      Miyato, Kataoka, Koyama, Yoshida, "Spectral normalization for GANs", ICLR 2018.
    """

    hidden: Sequence[int]
    layer_bound: float = 0.9
    power_steps: int = 10

    @nn.compact
    def __call__(self, x: Points, update_stats: bool = False) -> Points:
        c = x
        for i, width in enumerate((*self.hidden, x.shape[-1])):
            layer = nn.SpectralNorm(nn.Dense(width), n_steps=self.power_steps)
            c = self.layer_bound * layer(c if i == 0 else jnp.tanh(c), update_stats=update_stats)
        return x + c
