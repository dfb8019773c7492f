"""A VAE with a Gaussian latent on a finite data set: its training, its bounds, its floor."""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import ArrayLike
from jaxtyping import Array, Float, PRNGKeyArray, PyTree
from numpy.typing import NDArray

from spread_jax.latents import Latent, gaussian_latent
from spread_jax.networks import (
    ConvGaussianDecoder,
    ConvGaussianEncoder,
    GaussianDecoder,
    GaussianEncoder,
    Variance,
)
from spread_jax.objectives import importance_weighted_bound, spread_elbo
from spread_jax.spreads import Spread, gaussian_spread, laplace_spread, no_spread
from spread_jax.training import Hyper, Training, make_training

Network = Literal["mlp", "conv"]

ACTIVE = 0.01  # variance over the data of a posterior mean, above which its dimension is used
POINTS_AT_ONCE = 1000


class VAE(NamedTuple):
    """Networks and latent of a VAE, as pure functions.

    Attributes:
      init: ``(key) -> params``.
      encode: ``(params, y [..., dim]) -> posterior``.
      decode: ``(params, z [..., latent_dim]) -> (mean, var)``, var None if deterministic.
      latent: prior and posterior family.
      noise: standard deviation → noise law; at 0 it does nothing.
    """

    init: Callable[[PRNGKeyArray], PyTree]
    encode: Callable[[PyTree, Array], Any]
    decode: Callable[[PyTree, Array], Any]
    latent: Latent
    noise: Callable[[Any], Spread] = gaussian_spread


def make_vae(
    dim: int,
    *,
    latent_dim: int,
    variance: Variance = "each",
    hidden: Sequence[int] = (400,),
    network: Network = "mlp",
    shape: tuple[int, int] | None = None,
    noise: Callable[[Any], Spread] = gaussian_spread,
) -> VAE:
    """p(z) = N(0, I), q(z|y) = N(mean(y), diag var(y)), p(x|z) = N(mean(z), diag var(z)).

    Args:
      dim: of the data.
      latent_dim: of z.
      variance: the decoder's, see :class:`spread_jax.networks.GaussianDecoder`.
      hidden: widths of the hidden layers of an MLP's encoder and decoder.
      network: ``conv``: :class:`spread_jax.networks.ConvGaussianEncoder` and its decoder.
      shape: height and width of the images, which ``conv`` needs.
      noise: standard deviation → noise law: ``gaussian_spread`` or :func:`laplace_noise`.

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
    if network not in get_args(Network):
        raise ValueError(f"network must be one of {', '.join(get_args(Network))}, got {network!r}")
    encoder: GaussianEncoder | ConvGaussianEncoder
    decoder: GaussianDecoder | ConvGaussianDecoder
    if network == "mlp":
        encoder = GaussianEncoder(hidden, latent_dim)
        decoder = GaussianDecoder(hidden, dim, variance=variance)
    elif shape is None:
        raise ValueError("a convolution needs images: give their shape")
    else:
        encoder = ConvGaussianEncoder(shape, latent_dim)
        decoder = ConvGaussianDecoder(shape, variance=variance)

    def init(key: PRNGKeyArray) -> PyTree:
        encoder_key, decoder_key = jax.random.split(key)
        return {
            "encoder": encoder.init(encoder_key, jnp.zeros((1, dim))),
            "decoder": decoder.init(decoder_key, jnp.zeros((1, latent_dim))),
        }

    return VAE(
        init,
        lambda params, y: encoder.apply(params["encoder"], y),
        lambda params, z: decoder.apply(params["decoder"], z),
        gaussian_latent(latent_dim),
        noise,
    )


def laplace_noise(std: ArrayLike | float) -> Spread:
    """:func:`~spread_jax.spreads.laplace_spread` by its standard deviation √2 scale; 0 is no noise.

    ``std`` may be traced, so that a plain arm and a spread arm are numbers of one program.

    Raises:
      ValueError: if ``std`` is no scalar, or is concrete and negative or not finite.
    """
    if jnp.ndim(std):
        raise ValueError(
            f"std must be a scalar, one for all dimensions, got shape {jnp.shape(std)}"
        )
    if not isinstance(std, jax.core.Tracer) and not 0 <= float(np.asarray(std)) < math.inf:
        raise ValueError(f"std must be finite and >= 0 (a standard deviation), got {std}")
    none = jnp.asarray(std) == 0
    spread = laplace_spread(jnp.where(none, 1.0, std) / math.sqrt(2))

    def sample(key: PRNGKeyArray, x: Array) -> Array:
        return jnp.where(none, x, spread.sample(key, x))

    def log_prob(y: Array, mean: Array, var: Array | None) -> Array:
        if var is None:  # without noise it has no density
            return jnp.where(none, jnp.nan, spread.log_prob(y, mean, None))
        # the branch not taken needs finite slopes too: in a gradient 0 · inf is NaN
        plain = no_spread().log_prob(y, mean, jnp.where(none, var, 1.0))
        return jnp.where(none, plain, spread.log_prob(y, mean, var))

    return Spread(sample, log_prob)


def spread_of(vae: VAE, hyper: Hyper) -> Spread:
    """The noise of a run: ``sigma_fix`` on the model, ``spread_data * sigma_fix`` on the data.

    Both in data units. ``spread_data`` is 1, or 0 for a model whose variance has a floor, or is
    fixed, while the data stay as they are.
    """
    return Spread(
        vae.noise(hyper["spread_data"] * hyper["sigma_fix"]).sample,
        vae.noise(hyper["sigma_fix"]).log_prob,
    )


def vae_training(
    vae: VAE,
    *,
    batch_size: int,
    num_steps: int,
    watched: Float[Array, "m dim"],
) -> Training:
    """Minimises the negative spread ELBO by Adam; hyper is sigma_fix, spread_data, learning_rate.

    Args:
      vae: the model.
      batch_size: data points per step, drawn with replacement from the state's data ``[n, dim]``:
        give them to the sweep, which keeps them on the device, once for all runs.
      num_steps: length of the whole run.
      watched: points at whose posterior means the decoder's standard deviation is recorded:
        ``sigma [dim]``, its geometric mean over them, ``min_sigma`` and ``median_sigma``; all 0
        for a deterministic decoder. A median costs more than a step, so record seldom.

    Raises:
      ValueError: if ``num_steps`` or ``batch_size`` is no whole number of 1 or more; in the sweep,
        if it was given no data.

    Examples:
      >>> x = jnp.asarray(sj.load_dataset("digits").train)
      >>> vae = sj.make_vae(64, latent_dim=10, hidden=(32,))
      >>> training = sj.vae_training(vae, batch_size=64, num_steps=20, watched=x[:8])
      >>> grid = {"sigma_fix": [0.1, 0.3], "spread_data": 1.0, "learning_rate": 1e-3}
      >>> dict(sj.sweep(training, grid, num_seeds=2, data=x).dataset["loss"].sizes)
      {'sigma_fix': 2, 'seed': 2, 'step': 20}
    """

    if not isinstance(batch_size, int | np.integer) or batch_size < 1:
        raise ValueError(f"batch_size must be a whole number >= 1, got {batch_size!r}")

    def sample_batch(key: PRNGKeyArray, data: Array | None, hyper: Hyper) -> Array:
        if data is None:
            raise ValueError("there is nothing to fit: give the data to the sweep, data=x")
        return data[jax.random.randint(key, (batch_size,), 0, len(data))]

    def loss_fn(params: PyTree, key: PRNGKeyArray, x: Array, hyper: Hyper) -> Array:
        terms = spread_elbo(
            key,
            x,
            encode=lambda y: vae.encode(params, y),
            decode=lambda z: vae.decode(params, z),
            latent=vae.latent,
            spread=spread_of(vae, hyper),
        )
        return -terms.elbo.mean()

    def observe(params: PyTree) -> dict[str, Array]:
        var = vae.decode(params, vae.encode(params, watched)[0])[1]
        sigma = jnp.zeros_like(watched) if var is None else jnp.sqrt(var)
        return {
            "sigma": jnp.exp(jnp.log(sigma).mean(axis=0)),
            "min_sigma": sigma.min(),
            "median_sigma": jnp.median(sigma),
        }

    return make_training(
        init_params=vae.init,
        loss_fn=loss_fn,
        sample_batch=sample_batch,
        optimizer=lambda hyper: optax.adam(hyper["learning_rate"]),
        num_steps=num_steps,
        observe=observe,
    )


class Bounds(NamedTuple):
    """One number per data point, in nats, in the space that the run's spread makes.

    Attributes:
      bound: the spread ELBO, one draw of y and z.
      kl: KL(q(z|y) || p(z)).
      posterior_mean: ``[n, latent_dim]``.
    """

    bound: NDArray[np.float64]
    kl: NDArray[np.float64]
    posterior_mean: NDArray[np.float64]

    @property
    def active_dims(self) -> int:
        """Dimensions of z whose posterior mean varies over the data by more than 0.01.

        References:
          Burda, Grosse, Salakhutdinov, "Importance Weighted Autoencoders", ICLR 2016, section 5.
        """
        return int(np.sum(self.posterior_mean.var(axis=0) > ACTIVE))


def make_bounds(vae: VAE) -> Callable[[PyTree, PRNGKeyArray, NDArray, Hyper], Bounds]:
    """``(params, key, x [n, dim], hyper) -> Bounds``, compiled once for all runs of the model."""

    def of_batch(params: PyTree, key: PRNGKeyArray, x: Array, hyper: Hyper) -> tuple[Array, ...]:
        means = []

        def encode(y: Array) -> Any:
            posterior = vae.encode(params, y)
            means.append(posterior[0])
            return posterior

        terms = spread_elbo(
            key,
            x,
            encode=encode,
            decode=lambda z: vae.decode(params, z),
            latent=vae.latent,
            spread=spread_of(vae, hyper),
        )
        return terms.elbo, terms.kl, means[0]

    compiled = jax.jit(of_batch)

    def bounds(params: PyTree, key: PRNGKeyArray, x: NDArray, hyper: Hyper) -> Bounds:
        return Bounds(*_in_batches(compiled, params, key, x, hyper, POINTS_AT_ONCE))

    return bounds


def make_importance_weighted(
    vae: VAE, num_samples: int
) -> Callable[[PyTree, PRNGKeyArray, NDArray, Hyper], NDArray[np.float64]]:
    """``(params, key, x [n, dim], hyper) -> [n]``: the bound with num_samples draws of z, nats."""

    def of_batch(params: PyTree, key: PRNGKeyArray, x: Array, hyper: Hyper) -> tuple[Array]:
        bound = importance_weighted_bound(
            key,
            x,
            encode=lambda y: vae.encode(params, y),
            decode=lambda z: vae.decode(params, z),
            latent=vae.latent,
            spread=spread_of(vae, hyper),
            num_samples=num_samples,
            # one pass: a convolution in a loop is slow on a CPU
            samples_at_once=num_samples,
        )
        return (bound,)

    compiled = jax.jit(of_batch)
    at_once = max(1, 8 * POINTS_AT_ONCE // num_samples)

    def bound(params: PyTree, key: PRNGKeyArray, x: NDArray, hyper: Hyper) -> NDArray[np.float64]:
        return _in_batches(compiled, params, key, x, hyper, min(at_once, POINTS_AT_ONCE))[0]

    return bound


def _in_batches(
    compiled: Callable,
    params: PyTree,
    key: PRNGKeyArray,
    x: NDArray,
    hyper: Hyper,
    at_once: int,
) -> list[NDArray[np.float64]]:
    """Leaves ``[n, ...]``; every batch has one size, so that one program serves them all."""
    at_once = min(at_once, len(x))
    parts = []
    for i, start in enumerate(range(0, len(x), at_once)):
        rows = np.arange(start, start + at_once) % len(x)
        parts.append(compiled(params, jax.random.fold_in(key, i), jnp.asarray(x[rows]), hyper))
    return [
        np.concatenate([np.asarray(part, np.float64) for part in leaf])[: len(x)]
        for leaf in zip(*parts, strict=True)
    ]


def spread_entropy_of_points(
    key: PRNGKeyArray, x: Float[Array, "n dim"], sigma: float, num_draws: int = 2000
) -> float:
    """H of (1/n) Σ_i N(y; x_i, σ² I): the floor of the training loss of a spread, in nats.

    A finite data set, spread, is that mixture, and no model of it has a smaller expected loss.
    H = (dim/2) log 2πeσ² + log n - E[log Σ_i exp((|y - x_j|² - |y - x_i|²) / 2σ²)], y drawn from
    component j; only the last term is estimated, from ``num_draws`` draws.

    Args:
      key: of the draws.
      x: the data.
      sigma: standard deviation of the noise, data units, > 0.
      num_draws: draws of y.

    Raises:
      ValueError: if sigma is not above 0: points have no entropy.
    """
    if not sigma > 0:
        raise ValueError(f"sigma must be > 0 (a standard deviation), got {sigma}")
    n, dim = x.shape
    gaussian = 0.5 * dim * math.log(2 * math.pi * math.e * sigma**2)
    return gaussian + math.log(n) - float(_mean_overlap(key, x, sigma, num_draws))


@partial(jax.jit, static_argnames="num_draws")
def _mean_overlap(
    key: PRNGKeyArray, x: Array, sigma: Float[Array, ""], num_draws: int
) -> Float[Array, ""]:
    row_key, noise_key = jax.random.split(key)
    x = x - x.mean(axis=0, keepdims=True)  # beside an offset the squares would have no digits left
    rows = jax.random.randint(row_key, (num_draws,), 0, len(x))
    own = x[rows]
    noise = sigma * jax.random.normal(noise_key, own.shape)

    def overlap(draw: tuple[Array, Array, Array]) -> Array:
        row, own, noise = draw
        # |y - x_i|² - |y - x_j|² = |x_j - x_i|² + 2 (x_j - x_i) ε, from products of matrices
        squares = jnp.square(own).sum(-1)[:, None] + jnp.square(x).sum(-1)[None] - 2 * own @ x.T
        cross = 2 * ((own * noise).sum(-1)[:, None] - noise @ x.T)
        exponents = -(squares.clip(0) + cross) / (2 * sigma**2)
        # that of y's own component is 0, whatever rounding says
        exponents = jnp.where(jnp.arange(len(x))[None] == row[:, None], 0.0, exponents)
        return jax.nn.logsumexp(exponents, axis=1)

    at_once = max(1, num_draws // 20)
    draws = jax.tree.map(lambda leaf: leaf[:, None], (rows, own, noise))
    return jax.lax.map(lambda draw: overlap(draw)[0], draws, batch_size=at_once).mean()
