"""The objectives: the ELBO, the spread ELBO, the importance-weighted bound; and sampling."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from spread_jax.latents import Latent
from spread_jax.spreads import Spread, no_spread

Encode = Callable[[Array], Any]
Decode = Callable[[Array], tuple[Array, Array | None]]


class ElboTerms(NamedTuple):
    """The two terms of a bound, one number per data point, in nats.

    Attributes:
      log_lik: E_q[log p(y|z)], ``[...]``.
      kl: KL(q(z|y) || p(z)), ``[...]``.
    """

    log_lik: Float[Array, "*batch"]
    kl: Float[Array, "*batch"]

    @property
    def elbo(self) -> Float[Array, "*batch"]:
        """log_lik - kl: a lower bound on log p(y); higher is better."""
        return self.log_lik - self.kl


def spread_elbo(
    key: PRNGKeyArray,
    x: Float[Array, "*batch dim"],
    *,
    encode: Encode,
    decode: Decode,
    latent: Latent,
    spread: Spread,
) -> ElboTerms:
    """E_{n(y|x)} [ E_{q(z|y)} [ log p~(y|z) ] - KL(q(z|y) || p(z)) ], one draw of y per x.

    A lower bound on E[log p~(y)]: its negative mean over the data is at least the entropy of the
    spread data, and exceeds it by the spread KL plus the gap of the posterior. The encoder sees
    the noisy y. Bounds at different sigma are not comparable.

    Args:
      key: one key for the whole batch.
      x: clean data, last axis the event.
      encode: ``y [..., dim] -> posterior``, as ``latent`` expects it.
      decode: ``z [..., latent_dim] -> (mean, var)``, each ``[..., dim]``; var None is a
        deterministic decoder. z has one more leading axis than x, of states or draws; where all
        points share the states, its other leading axes have size 1.
      latent: prior and posterior family.
      spread: the noise law.

    Returns:
      The terms of the bound for each x, in nats.

    Raises:
      ValueError: if ``spread`` has no closed form for this decoder, or adds no noise to one
        without a variance, which has no density; if the posterior is not of the latent's dim, or
        the mean not of the data's.
      TypeError: if ``decode`` does not return a pair.

    Examples:
      >>> x = sj.sample_two_modes(jax.random.key(0), 100)
      >>> terms = sj.spread_elbo(
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
      >>> terms.elbo.shape, bool(jnp.isfinite(terms.elbo).all())
      ((100,), True)

    References:
      Zhang, Hayes, Bird, Habib, Barber, "Spread Divergence", ICML 2020, arXiv 1811.08968,
      section 4 (the δ-VAE); Zhang, "A Failure Case of VAE", 2021, for the Gaussian decoder.
    """
    noise_key, latent_key = jax.random.split(key)
    y = spread.sample(noise_key, x)
    posterior = encode(y)
    log_lik = latent.expectation(latent_key, posterior, lambda z: _log_lik(spread, y, decode(z)))
    return ElboTerms(log_lik, latent.kl(posterior))


def mean_and_var(decoded: Any) -> tuple[Array, Array | None]:
    """What ``decode`` returned, if it is a pair; one array would unpack along its first axis.

    Raises:
      TypeError: if it is not.
    """
    if not (isinstance(decoded, (tuple, list)) and len(decoded) == 2):
        raise TypeError(
            "decode must return (mean, var), var None for a deterministic decoder, got "
            f"{type(decoded).__name__}"
        )
    mean, var = decoded
    return mean, var


def _log_lik(spread: Spread, y: Array, decoded: Any) -> Array:
    mean, var = mean_and_var(decoded)
    if mean.shape[-1] != y.shape[-1]:  # it would broadcast
        raise ValueError(
            f"the decoder's mean must have the data's dim {y.shape[-1]}, got shape {mean.shape}"
        )
    return spread.log_prob(y, mean, var)


def elbo(
    key: PRNGKeyArray,
    x: Float[Array, "*batch dim"],
    *,
    encode: Encode,
    decode: Decode,
    latent: Latent,
) -> ElboTerms:
    """E_{q(z|x)} [ log p(x|z) ] - KL(q(z|x) || p(z)): the spread ELBO without a spread.

    Unbounded above when the data lie on a thin set and ``decode`` learns its variance. Arguments
    and result as in :func:`spread_elbo`.

    Raises:
      ValueError: if ``decode`` gives no variance: it has no density.

    Examples:
      >>> terms = sj.elbo(
      ...     jax.random.key(0),
      ...     jnp.zeros((1, 1)),
      ...     encode=lambda x: (jnp.zeros((1, 1)), jnp.zeros((1, 1))),  # q(z|x) = p(z)
      ...     decode=lambda z: (0 * z, 0 * z + 1e-6),  # a variance that runs to zero
      ...     latent=sj.gaussian_latent(dim=1),
      ... )
      >>> round(float(terms.elbo[0]), 2)  # log N(0; 0, 1e-6)
      5.99

    References:
      Kingma, Welling, "Auto-Encoding Variational Bayes", ICLR 2014, equation 3.
    """
    return spread_elbo(key, x, encode=encode, decode=decode, latent=latent, spread=no_spread())


def importance_weighted_bound(
    key: PRNGKeyArray,
    x: Float[Array, "*batch dim"],
    *,
    encode: Encode,
    decode: Decode,
    latent: Latent,
    spread: Spread,
    num_samples: int,
    samples_at_once: int = 64,
) -> Float[Array, "*batch"]:
    """log (1/K) Σ_k p~(y|z_k) p(z_k) / q(z_k|y), with z_k ~ q(z|y) and one draw of y per x.

    Its expectation rises with K from the spread ELBO (K = 1) to log p~(y). In nats, ``[...]``.

    Args:
      key: one key for the whole batch; the draw of y is that of :func:`spread_elbo`.
      x, encode, decode, latent, spread: as in :func:`spread_elbo`; z has the leading axes of x.
      num_samples: K.
      samples_at_once: how many of the K are decoded together; bounds the memory, not the result.

    Raises:
      ValueError: if ``num_samples`` or ``samples_at_once`` is below 1; else as
        :func:`spread_elbo`.

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
    if num_samples < 1 or samples_at_once < 1:
        raise ValueError(
            f"num_samples and samples_at_once must be >= 1, got {num_samples}, {samples_at_once}"
        )
    noise_key, latent_key = jax.random.split(key)
    y = spread.sample(noise_key, x)
    posterior = encode(y)

    def log_weight(sample_key: PRNGKeyArray) -> Array:
        z = latent.sample(sample_key, posterior)
        return _log_lik(spread, y, decode(z)) + latent.log_ratio(z, posterior)

    log_weights = jax.lax.map(
        log_weight, jax.random.split(latent_key, num_samples), batch_size=samples_at_once
    )
    return jax.nn.logsumexp(log_weights, axis=0) - math.log(num_samples)


def sample(
    key: PRNGKeyArray,
    n: int,
    *,
    decode: Decode,
    latent: Latent,
    spread: Spread | None = None,
) -> Float[Array, "n dim"]:
    """z ~ p(z), x ~ N(mean(z), diag var(z)): clean points; with a ``spread``, y ~ n(y|x).

    Args:
      key: a key.
      n: number of points.
      decode, latent: as in :func:`spread_elbo`.
      spread: leave it out for samples of the model itself, which carry no noise.

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
    prior_key, decoder_key, noise_key = jax.random.split(key, 3)
    mean, var = mean_and_var(decode(latent.sample_prior(prior_key, n)))
    x = mean
    if var is not None:
        x = mean + jnp.sqrt(var) * jax.random.normal(decoder_key, mean.shape, mean.dtype)
    return x if spread is None else spread.sample(noise_key, x)
