"""Latent variables: all that a bound must know about p(z) and q(z|y)."""

import itertools
import math
from collections.abc import Callable
from typing import NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

Latents = Float[Array, "*batch dim"]
PerPoint = Float[Array, "*batch"]
Gaussians = tuple[Latents, Latents]
"""The posteriors of :func:`gaussian_latent`: mean and log-variance."""

MAX_ENUMERATED_DIM = 16  # 2^16 states: beyond this an exact sum is no longer an option


@runtime_checkable
class Sampler(Protocol):
    """Independent draws from a law."""

    def __call__(self, key: PRNGKeyArray, n: int, /) -> Array:
        """``(key, n) -> [n, dim]``."""


@runtime_checkable
class SamplePosterior(Protocol):
    """A draw from q, reparameterised where it can be."""

    def __call__(self, key: PRNGKeyArray, posterior: PyTree, /) -> Array:
        """``(key, posterior) -> z [..., dim]``."""


@runtime_checkable
class LogRatio(Protocol):
    """How much likelier z is under the prior than under the posterior."""

    def __call__(self, z: Array, posterior: PyTree, /) -> Array:
        """``(z [..., dim], posterior) -> log p(z) - log q(z|y) [...]``, in nats."""


@runtime_checkable
class Expectation(Protocol):
    """The mean of a function under q: an exact sum, or over reparameterised draws."""

    def __call__(
        self, key: PRNGKeyArray, posterior: PyTree, fn: Callable[[Array], Array], /
    ) -> Array:
        """``(key, posterior, fn) -> E_q[fn(z)] [...]``. ``fn`` is called once, with z of shape
        ``[k, ..., dim]`` for k states or draws, and returns ``[k, ...]``; axes of size 1 in z stand
        for all the posteriors."""


@runtime_checkable
class KL(Protocol):
    """The divergence of q from the prior: in closed form, which uses no key, or by draws."""

    def __call__(self, key: PRNGKeyArray, posterior: PyTree, /) -> Array:
        """``(key, posterior) -> KL(q || p) [...]``, in nats."""


class Latent(NamedTuple):
    """A prior p(z) with a family of posteriors q(z|y), as pure functions.

    The last axis is the event, leading axes broadcast. ``posterior`` is whatever the encoder
    returns for this family.
    """

    sample_prior: Sampler
    sample: SamplePosterior
    log_ratio: LogRatio
    expectation: Expectation
    kl: KL


def bernoulli_latent(prob: float = 0.5, dim: int = 1) -> Latent:
    """p(z) = Π_i prob^z_i (1 - prob)^(1 - z_i) with z_i in {0.0, 1.0}; the posterior is logits.

    The expectation under q is the exact sum over the 2^dim states: no sampling, no relaxation.
    The states are shared by the whole batch, so a decoder is evaluated on ``[2^dim, 1, dim]``.

    Args:
      prob: prior probability of z_i = 1, strictly between 0 and 1.
      dim: number of binary variables, 1 to 16.

    Raises:
      ValueError: if ``prob`` or ``dim`` is outside its range.

    Examples:
      >>> latent = sj.bernoulli_latent(prob=0.5)
      >>> logits = jnp.zeros((3, 1))  # q(z=1|y) = 0.5 for three points
      >>> print(latent.expectation(jax.random.key(0), logits, lambda z: 10 * z[..., 0]))
      [5. 5. 5.]
      >>> print(latent.kl(jax.random.key(0), logits))
      [0. 0. 0.]
    """
    if not 0 < prob < 1:
        raise ValueError(f"prob must lie strictly between 0 and 1, got {prob}")
    if not 1 <= dim <= MAX_ENUMERATED_DIM:
        raise ValueError(
            f"dim must be 1 to {MAX_ENUMERATED_DIM} (2^dim states are enumerated), got {dim}"
        )
    log_one, log_zero = math.log(prob), math.log1p(-prob)  # of the prior, for one z_i
    states = np.array(list(itertools.product((0.0, 1.0), repeat=dim)))

    def log_mass(z: Array, logits: Array) -> Array:
        return jnp.sum(z * jax.nn.log_sigmoid(logits) + (1 - z) * jax.nn.log_sigmoid(-logits), -1)

    def sample_prior(key: PRNGKeyArray, n: int) -> Float[Array, "n dim"]:
        return jax.random.bernoulli(key, prob, (n, dim)).astype(jnp.float32)

    def sample(key: PRNGKeyArray, logits: Latents) -> Latents:
        return jax.random.bernoulli(key, jax.nn.sigmoid(logits)).astype(logits.dtype)

    def log_ratio(z: Latents, logits: Latents) -> PerPoint:
        return jnp.sum(z * log_one + (1 - z) * log_zero, -1) - log_mass(z, logits)

    def expectation(key: PRNGKeyArray, logits: Latents, fn: Callable[[Array], Array]) -> PerPoint:
        del key  # exact
        _require_width(logits, dim)
        z = jnp.asarray(states, logits.dtype).reshape(-1, *(1,) * (logits.ndim - 1), dim)
        return jnp.sum(jnp.exp(log_mass(z, logits[None])) * fn(z), axis=0)

    def kl(key: PRNGKeyArray, logits: Latents) -> PerPoint:
        del key  # closed form
        _require_width(logits, dim)
        # KL = q_1 (logit q - logit p) + log (q_0 / p_0)
        logit_ratio = logits - (log_one - log_zero)
        log_zero_ratio = jax.nn.log_sigmoid(-logits) - log_zero
        return jnp.sum(jax.nn.sigmoid(logits) * logit_ratio + log_zero_ratio, -1)

    return Latent(sample_prior, sample, log_ratio, expectation, kl)


def gaussian_latent(dim: int, num_samples: int = 1) -> Latent:
    """p(z) = N(z; 0, I); the posterior is ``(mean, log_var)``, each ``[..., dim]``.

    The expectation under q is the mean over ``num_samples`` reparameterised draws,
    z = mean + exp(log_var / 2) ε.

    Args:
      dim: dimension of z.
      num_samples: draws per posterior in ``expectation``.

    Raises:
      ValueError: if ``dim`` or ``num_samples`` is below 1.

    Examples:
      >>> latent = sj.gaussian_latent(dim=2)
      >>> mean, log_var = jnp.ones((3, 2)), jnp.zeros((3, 2))  # of three posteriors
      >>> print(latent.kl(jax.random.key(0), (mean, log_var)))  # ‖mean‖² / 2
      [1. 1. 1.]

    References:
      Kingma, Welling, "Auto-Encoding Variational Bayes", ICLR 2014, appendix B (the KL).
    """
    if dim < 1 or num_samples < 1:
        raise ValueError(f"dim and num_samples must be >= 1, got {dim} and {num_samples}")

    def sample_prior(key: PRNGKeyArray, n: int) -> Float[Array, "n dim"]:
        return jax.random.normal(key, (n, dim))

    def sample(key: PRNGKeyArray, posterior: Gaussians) -> Latents:
        mean, log_var = posterior
        _require_width(mean, dim)
        return mean + jnp.exp(0.5 * log_var) * jax.random.normal(key, mean.shape, mean.dtype)

    def log_ratio(z: Latents, posterior: Gaussians) -> PerPoint:
        mean, log_var = posterior
        # the log 2π of prior and posterior cancel
        return 0.5 * jnp.sum(jnp.square(z - mean) * jnp.exp(-log_var) + log_var - jnp.square(z), -1)

    def expectation(
        key: PRNGKeyArray, posterior: Gaussians, fn: Callable[[Array], Array]
    ) -> PerPoint:
        shape = (num_samples, *posterior[0].shape)
        mean, log_var = (jnp.broadcast_to(part, shape) for part in posterior)
        return jnp.mean(fn(sample(key, (mean, log_var))), axis=0)

    def kl(key: PRNGKeyArray, posterior: Gaussians) -> PerPoint:
        del key  # closed form
        mean, log_var = posterior
        _require_width(mean, dim)
        # expm1 keeps the digits where q is close to p
        return 0.5 * jnp.sum(jnp.square(mean) + jnp.expm1(log_var) - log_var, -1)

    return Latent(sample_prior, sample, log_ratio, expectation, kl)


def _require_width(posterior: Array, dim: int) -> None:
    """Of another width it would broadcast, and what comes out would be no bound."""
    if posterior.shape[-1] != dim:
        wanted = f"posteriors of the latent's dim {dim}"
        raise ValueError(f"the encoder must return {wanted}, got shape {posterior.shape}")
