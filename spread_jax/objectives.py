"""The objectives: the ELBO, the spread ELBO, the importance-weighted bound; and sampling."""

import math
from collections.abc import Sequence
from typing import NamedTuple, Protocol, TypeAlias, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from spread_jax.arguments import (
    as_points,
    moments,
    require_key,
    require_latent,
    require_spread,
    require_whole,
)
from spread_jax.latents import Latent, PerPoint
from spread_jax.spreads import Points, Spread, no_spread


@runtime_checkable
class Encode(Protocol):
    """An encoder: any callable from spread points to the parameters of q(z|y)."""

    def __call__(self, y: Array, /) -> PyTree:
        """``y [..., dim] -> posterior``, the parameters of q(z|y) as the latent expects them."""


@runtime_checkable
class Decode(Protocol):
    """A decoder: any callable from latents to the moments of p(x|z) = N(mean, diag var)."""

    def __call__(self, z: Array, /) -> tuple[Array, ArrayLike | None]:
        """``z [..., latent_dim] -> (mean, var)``, each ``[..., dim]``, or var one number; var None:
        x = mean(z)."""


AnyPoints: TypeAlias = Points | ArrayLike | Sequence
"""Points, or a list or a table of them, which counts as the array of its numbers."""


class Bound(NamedTuple):
    """A lower bound of log p~(y), one number per data point, in nats.

    Attributes:
      log_lik: E_q[log p~(y|z)], or log p~(y) itself where it is known, ``[...]``.
      kl: KL(q(z|y) || p(z)), ``[...]``; 0 where log_lik is log p~(y) itself.
      posterior: the parameters of q(z|y) that the encoder returned; None without a latent.
    """

    log_lik: PerPoint
    kl: PerPoint
    posterior: PyTree = None

    @property
    def elbo(self) -> PerPoint:
        """log_lik - kl: a lower bound on log p(y); higher is better."""
        return self.log_lik - self.kl


def spread_elbo(
    key: PRNGKeyArray,
    x: AnyPoints,
    *,
    encode: Encode,
    decode: Decode,
    latent: Latent,
    spread: Spread,
) -> Bound:
    """E_{n(y|x)} [ E_{q(z|y)} [ log p~(y|z) ] - KL(q(z|y) || p(z)) ], one draw of y per x.

    A lower bound on E[log p~(y)]: its negative mean over the data is at least the entropy of the
    spread data, and exceeds it by the spread KL plus the gap of the posterior. The encoder sees
    the noisy y. Bounds at different sigma are not comparable.

    Args:
      key: one key for the whole batch.
      x: clean data, last axis the event; of a list or a DataFrame, the numbers that it holds.
      encode: as :class:`Encode`.
      decode: as :class:`Decode`. z has one more leading axis than x, of states or draws; where all
        points share the states, its other leading axes have size 1. A decoder that fails at such a
        z, as ``jax.vmap(decoder)`` does, is given z with one leading axis instead.
      latent: prior and posterior family.
      spread: the noise law.

    Raises:
      ValueError: if x is not floating or not finite; if ``spread`` has no closed form for this
        decoder, or adds no noise to one without a variance, which has no density; if the posterior
        is not of the latent's dim, or the mean not of the data's; if the last axis of x is not the
        whole point; if a posterior is NaN, a mean not finite, or a variance below 0 or NaN. Values
        are looked at where JAX does not trace them.
      TypeError: if ``decode`` does not return a pair, or ``key``, ``latent`` or ``spread`` is
        something else.

    Examples:
      >>> x = sj.sample_two_modes(jax.random.key(0), 100)
      >>> bound = sj.spread_elbo(
      ...     jax.random.key(1),
      ...     x,
      ...     encode=lambda y: 20 * y[:, :1],  # logits of "the right mode"
      ...     decode=lambda z: (  # the true modes
      ...         jnp.concatenate([2 * z - 1, 0 * z], -1),
      ...         jnp.concatenate([0.01 + 0 * z, 0 * z], -1),
      ...     ),
      ...     latent=sj.bernoulli_latent(),
      ...     spread=sj.gaussian_spread(0.1),  # without it the second variance, 0, is an infinity
      ... )
      >>> bound.elbo.shape, bool(jnp.isfinite(bound.elbo).all())
      ((100,), True)

    References:
      Zhang, Hayes, Bird, Habib, Barber, "Spread Divergence", ICML 2020, arXiv 1811.08968,
      section 4 (the δ-VAE); Zhang, "A Failure Case of VAE", 2021, for the Gaussian decoder.
    """
    latent_key, y, posterior = _spread_and_encode(key, x, encode, latent, spread)
    shapes: list[tuple[int, ...]] = []

    def log_lik_of(z: Array) -> Array:
        mean, var = moments(decode, z, y.shape[-1])
        shapes[:] = z.shape, mean.shape
        return spread.log_prob(y, mean, var)

    log_lik = latent.expectation(latent_key, posterior, log_lik_of)
    kl = latent.kl(latent_key, posterior)
    _require_one_shape(log_lik, "kl", kl, y, *shapes)
    return Bound(log_lik, kl, posterior)


def _spread_and_encode(
    key: PRNGKeyArray, x: AnyPoints, encode: Encode, latent: Latent, spread: Spread
) -> tuple[PRNGKeyArray, Array, PyTree]:
    """The key of the latent, y ~ n(y|x), and the parameters of q(z|y)."""
    require_key(key)
    require_latent(latent)
    require_spread(spread)
    x = as_points(x)
    noise_key, latent_key = jax.random.split(key)
    y = spread.sample(noise_key, x)
    try:
        posterior = encode(y)
    except (TypeError, ValueError, AssertionError) as error:
        flat = f"; images must be flat, {_flat(y)}" if y.ndim > 2 else ""
        error.add_note(
            f"encode was given y of shape {y.shape}; an encoder of a single y can be given as "
            f"jax.vmap(encoder){flat}"
        )
        raise
    for leaf in jax.tree.leaves(posterior):
        if not isinstance(leaf, jax.core.Tracer) and np.isnan(leaf).any():
            raise ValueError(
                f"encode returned NaN, in {np.isnan(leaf).sum()} of {np.size(leaf)} numbers"
            )
    return latent_key, y, posterior


def _flat(y: Array) -> str:
    return f"here {(y.shape[0], math.prod(y.shape[1:]))}"


def _require_one_shape(
    log_lik: Array, name: str, value: Array, y: Array, z: tuple[int, ...], mean: tuple[int, ...]
) -> None:
    """Of different shapes their sum would broadcast."""
    if log_lik.shape != value.shape:
        got = f"log_lik has shape {log_lik.shape} and {name} {value.shape}"
        if y.ndim > 2:
            advice = "the last axis of x must be the whole point, so flatten images"
            raise ValueError(
                f"{got}, for x of shape {y.shape}: {advice} to [n, height * width], {_flat(y)}"
            )
        wanted = "they must have the same leading axes"
        raise ValueError(
            f"{got}: decode was given z of shape {z} and returned a mean of shape {mean}; {wanted}"
        )


def elbo(
    key: PRNGKeyArray, x: AnyPoints, *, encode: Encode, decode: Decode, latent: Latent
) -> Bound:
    """E_{q(z|x)} [ log p(x|z) ] - KL(q(z|x) || p(z)): the spread ELBO without a spread.

    Unbounded above when the data lie on a thin set and ``decode`` learns its variance. Arguments,
    result and errors as in :func:`spread_elbo`.

    Examples:
      >>> bound = sj.elbo(
      ...     jax.random.key(0),
      ...     jnp.zeros((1, 1)),
      ...     encode=lambda x: (jnp.zeros((1, 1)), jnp.zeros((1, 1))),  # q(z|x) = p(z)
      ...     decode=lambda z: (0 * z, 0 * z + 1e-6),  # a variance that runs to zero
      ...     latent=sj.gaussian_latent(dim=1),
      ... )
      >>> round(float(bound.elbo[0]), 2)  # log N(0; 0, 1e-6)
      5.99

    References:
      Kingma, Welling, "Auto-Encoding Variational Bayes", ICLR 2014, equation 3.
    """
    return spread_elbo(key, x, encode=encode, decode=decode, latent=latent, spread=no_spread())


def importance_weighted_bound(
    key: PRNGKeyArray,
    x: AnyPoints,
    *,
    encode: Encode,
    decode: Decode,
    latent: Latent,
    spread: Spread,
    num_samples: int,
    samples_at_once: int = 64,
) -> PerPoint:
    """log (1/K) Σ_k p~(y|z_k) p(z_k) / q(z_k|y), with z_k ~ q(z|y) and one draw of y per x.

    Its expectation rises with K from the spread ELBO (K = 1) to log p~(y). In nats, ``[...]``.

    Args:
      key, x, encode, decode, latent, spread: as in :func:`spread_elbo`, with the same draw of y; z
        has the leading axes of x.
      num_samples: K.
      samples_at_once: how many of the K are decoded together; bounds the memory, not the result.

    Raises:
      ValueError: if ``num_samples`` or ``samples_at_once`` is no whole number of 1 or more; else,
        and TypeError, as :func:`spread_elbo`.

    Examples:
      >>> bound = sj.importance_weighted_bound(
      ...     jax.random.key(0),
      ...     jnp.zeros((3, 1)),
      ...     encode=lambda y: (y / 2, jnp.log(jnp.full_like(y, 0.5))),  # the exact posterior
      ...     decode=lambda z: (z, jnp.ones_like(z)),
      ...     latent=sj.gaussian_latent(dim=1),
      ...     spread=sj.no_spread(),
      ...     num_samples=4,
      ... )
      >>> print(bound.round(4))  # then exact: log N(0; 0, 2)
      [-1.2655 -1.2655 -1.2655]

    References:
      Burda, Grosse, Salakhutdinov, "Importance Weighted Autoencoders", ICLR 2016, equation 8.
    """
    require_whole("num_samples", num_samples)
    require_whole("samples_at_once", samples_at_once)
    latent_key, y, posterior = _spread_and_encode(key, x, encode, latent, spread)

    def log_weight(sample_key: PRNGKeyArray) -> Array:
        z = latent.sample(sample_key, posterior)
        mean, var = moments(decode, z, y.shape[-1])
        log_lik, log_ratio = spread.log_prob(y, mean, var), latent.log_ratio(z, posterior)
        _require_one_shape(log_lik, "log_ratio", log_ratio, y, z.shape, mean.shape)
        return log_lik + log_ratio

    log_weights = jax.lax.map(
        log_weight, jax.random.split(latent_key, num_samples), batch_size=samples_at_once
    )
    return jax.nn.logsumexp(log_weights, axis=0) - math.log(num_samples)


def sample(
    key: PRNGKeyArray, n: int, *, decode: Decode, latent: Latent, spread: Spread | None = None
) -> Float[Array, "n dim"]:
    """z ~ p(z), x ~ N(mean(z), diag var(z)): clean points; with a ``spread``, y ~ n(y|x).

    ``decode`` and ``latent`` are as in :func:`spread_elbo`.

    Raises:
      ValueError, TypeError: if ``n`` is no whole number; for ``decode``, ``key``, ``latent`` and
        ``spread`` as :func:`spread_elbo`.

    Examples:
      >>> x = sj.sample(
      ...     jax.random.key(0),
      ...     1000,
      ...     decode=lambda z: (jnp.concatenate([z, 0 * z], -1), None),  # a line in the plane
      ...     latent=sj.gaussian_latent(dim=1),
      ... )
      >>> x.shape, float(jnp.abs(x[:, 1]).max())
      ((1000, 2), 0.0)
    """
    require_key(key)
    require_whole("n", n, least=0)
    require_latent(latent)
    if spread is not None:
        require_spread(spread)
    prior_key, decoder_key, noise_key = jax.random.split(key, 3)
    mean, var = moments(decode, latent.sample_prior(prior_key, n), None)
    x = mean
    if var is not None:
        x = mean + jnp.sqrt(var) * jax.random.normal(decoder_key, mean.shape, mean.dtype)
    return x if spread is None else spread.sample(noise_key, x)
