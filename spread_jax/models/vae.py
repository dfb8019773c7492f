"""VAEs: any encoder, decoder and latent; and ready ones from this package's networks."""

from collections.abc import Sequence
from functools import partial
from typing import Any, Literal, NamedTuple, Protocol, TypeVar, runtime_checkable

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from spread_jax import objectives
from spread_jax.latents import Latent, PerPoint, gaussian_latent
from spread_jax.models.model import Init, Observe
from spread_jax.models.networks import (
    ConvGaussianDecoder,
    ConvGaussianEncoder,
    GaussianDecoder,
    GaussianEncoder,
    Variance,
    require_one_of,
)
from spread_jax.objectives import Bound
from spread_jax.spreads import Points, Spread

Network = Literal["mlp", "conv"]
AnyArray = TypeVar("AnyArray", np.ndarray, jax.Array)

SMALLEST = 1e-30  # data units: a σ of 0 counts as this, so that no share of it is 0 / 0


@runtime_checkable
class ApplyEncoder(Protocol):
    """An encoder that is given its parameters; else as :class:`spread_jax.objectives.Encode`."""

    def __call__(self, params: PyTree, y: Array, /) -> PyTree:
        """``(params, y [..., dim]) -> posterior``, as the model's latent expects it."""


@runtime_checkable
class ApplyDecoder(Protocol):
    """A decoder that is given its parameters; else as :class:`spread_jax.objectives.Decode`."""

    def __call__(self, params: PyTree, z: Array, /) -> tuple[Array, Array | None]:
        """``(params, z [..., latent_dim]) -> (mean, var)``, var None if deterministic."""


class VAE(NamedTuple):
    """p(x) = ∫ N(x; mean(z), diag var(z)) p(z) dz, with q(z|y): a :class:`spread_jax.Model`."""

    init: Init
    encode: ApplyEncoder
    decode: ApplyDecoder
    latent: Latent

    def bound(self, params: PyTree, key: PRNGKeyArray, x: Points, spread: Spread) -> Bound:
        """The spread ELBO of each point: :func:`spread_jax.spread_elbo`."""
        return objectives.spread_elbo(key, x, spread=spread, **self._parts(params))

    def importance_weighted_bound(
        self, params: PyTree, key: PRNGKeyArray, x: Points, spread: Spread, num_samples: int
    ) -> PerPoint:
        """:func:`spread_jax.importance_weighted_bound`, all draws of z decoded together."""
        parts = self._parts(params)  # not one by one: a convolution in a loop is slow on a CPU
        return objectives.importance_weighted_bound(
            key, x, spread=spread, num_samples=num_samples, samples_at_once=num_samples, **parts
        )

    def sample(
        self, params: PyTree, key: PRNGKeyArray, n: int, spread: Spread | None = None
    ) -> Float[Array, "n dim"]:
        """z ~ p(z), x ~ p(x|z): clean points, whatever the spread."""
        del spread  # the decoder is a model of the clean data
        return objectives.sample(key, n, decode=partial(self.decode, params), latent=self.latent)

    def _parts(self, params: PyTree) -> dict[str, Any]:
        encode, decode = (partial(function, params) for function in (self.encode, self.decode))
        return {"encode": encode, "decode": decode, "latent": self.latent}

    def without_variance(self) -> "VAE":
        """The same model with x = mean(z): its samples are the decoder's means."""
        return self._replace(decode=lambda params, z: (self.decode(params, z)[0], None))


def linen_vae(encoder: nn.Module, decoder: nn.Module, latent: Latent, *, dim: int) -> VAE:
    """A VAE of two Flax Linen modules, ``y -> posterior`` and ``z -> (mean, var)``.

    Its parameters are ``{"encoder": ..., "decoder": ...}``, as the modules' own ``init`` makes
    them.

    Args:
      encoder, decoder: such as those of :mod:`spread_jax.models.networks`.
      latent: prior and posterior family, which the encoder's posterior must be of.
      dim: of the data.

    Examples:
      >>> from spread_jax.models import networks
      >>> vae = sj.linen_vae(
      ...     networks.BernoulliEncoder((16,)),
      ...     networks.GaussianDecoder((16,), dim=2),
      ...     sj.bernoulli_latent(),
      ...     dim=2,
      ... )
      >>> vae.sample(vae.init(jax.random.key(0)), jax.random.key(1), 5).shape
      (5, 2)
    """
    latent_dim = jax.eval_shape(lambda key: latent.sample_prior(key, 1), jax.random.key(0)).shape[1]

    def init(key: PRNGKeyArray) -> PyTree:
        encoder_key, decoder_key = jax.random.split(key)
        return {
            "encoder": encoder.init(encoder_key, jnp.zeros((1, dim))),
            "decoder": decoder.init(decoder_key, jnp.zeros((1, latent_dim))),
        }

    def encode(params: PyTree, y: Array) -> PyTree:
        if y.shape[-1] != dim:
            raise ValueError(f"the data must have the model's dim {dim}, got shape {y.shape}")
        return encoder.apply(params["encoder"], y)

    decode: Any = decoder.apply  # its type allows for collections that change; there are none
    return VAE(
        init,
        encode,
        lambda params, z: decode(params["decoder"], z),
        latent,
    )


def make_vae(
    dim: int,
    *,
    latent_dim: int,
    variance: Variance = "each",
    hidden: Sequence[int] = (400,),
    network: Network = "mlp",
    shape: tuple[int, ...] | None = None,
    sigma_floor: float = 0.0,
) -> VAE:
    """p(z) = N(0, I), q(z|y) = N(mean(y), diag var(y)), p(x|z) = N(mean(z), diag var(z)).

    Args:
      dim: of the data.
      latent_dim: of z.
      variance: the decoder's, see :class:`spread_jax.models.networks.GaussianDecoder`.
      hidden: widths of the hidden layers of an MLP's encoder and decoder.
      network: ``conv``: :class:`spread_jax.models.networks.ConvGaussianEncoder` and its decoder.
      shape: ``(height, width)`` or ``(height, width, channels)``, of images with pixels in [0, 1]:
        the decoder's mean is then a sigmoid. ``conv`` needs it.
      sigma_floor: added to an MLP decoder's standard deviation, in data units.

    Raises:
      ValueError: if ``variance`` or ``network`` is not one of those, ``conv`` gets no shape, or
        ``latent_dim`` is below 1.

    Examples:
      >>> vae = sj.make_vae(64, latent_dim=10, hidden=(32,))
      >>> params = vae.init(jax.random.key(0))
      >>> mean, var = vae.decode(params, jnp.zeros((5, 10)))
      >>> mean.shape, var.shape
      ((5, 64), (5, 64))
    """
    require_one_of("network", network, Network)
    encoder: nn.Module = GaussianEncoder(hidden, latent_dim)
    is_image = shape is not None
    decoder: nn.Module = GaussianDecoder(
        hidden, dim, variance=variance, sigma_floor=sigma_floor, pixels=is_image
    )
    if network == "conv":
        if shape is None:
            raise ValueError("a convolution needs images: give their shape")
        encoder = ConvGaussianEncoder(shape, latent_dim)
        decoder = ConvGaussianDecoder(shape, variance=variance)
    return linen_vae(encoder, decoder, gaussian_latent(latent_dim), dim=dim)


def watch_sigma(vae: VAE, points: Float[Array, "m dim"]) -> Observe:
    """``(params) -> σ of the decoder``, at the posterior means of some points: to be observed.

    For a posterior whose first part is its mean, as :func:`spread_jax.gaussian_latent`'s. A median
    costs more than a step, so record seldom.

    Returns:
      ``sigma [dim]``, the geometric mean over the points, ``min_sigma`` and ``median_sigma``; and
      ``joint_sigma``, the smallest :func:`joint_sigma` of a point, at one draw of its posterior,
      always the same draw. In data units; nothing for a deterministic decoder.
    """

    def observe(params: PyTree) -> dict[str, Array]:
        posterior = vae.encode(params, points)
        var = vae.decode(params, posterior[0])[1]
        if var is None:
            return {}
        sigma = jnp.sqrt(var)
        # the likelihood sees draws, and a convolution's σ is far smaller there than at the mean
        at_draw = vae.decode(params, vae.latent.sample(jax.random.key(0), posterior))[1]
        assert at_draw is not None
        return {
            "sigma": jnp.exp(jnp.log(sigma).mean(axis=0)),
            "min_sigma": sigma.min(),
            "median_sigma": jnp.median(sigma),
            "joint_sigma": joint_sigma(jnp.sqrt(at_draw)).min(),
        }

    return observe


def joint_sigma(std: AnyArray) -> AnyArray:
    """d^(1/4) / √(Σ_i 1/σ_i²), how sharp d standard deviations are together: ``[..., d] -> [...]``.

    Means that all miss by δ cost a Gaussian likelihood Σ_i δ²/2σ_i² nats, and the log density of a
    perfect fit scatters by √(d/2) nats from point to point. The two are equal where δ is 2^(1/4)
    times the joint σ. It is σ d^(-1/4) where all are σ, and d^(1/4) times the smallest where that
    one is by far the smallest.

    Args:
      std: of NumPy or JAX, ``[..., d]``, data units.

    Examples:
      >>> sj.models.vae.joint_sigma(np.full(16, 3.0)).item()
      1.5
    """
    std = std.clip(SMALLEST)
    smallest = std.min(axis=-1, keepdims=True)  # taken out, so that no 1/σ² overflows
    precision = ((smallest / std) ** 2).sum(axis=-1, keepdims=True)
    return (smallest * std.shape[-1] ** 0.25 / precision**0.5)[..., 0]
