"""Latent variables: all that a bound must know about p(z) and q(z|y)."""

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from spread_jax.arguments import is_whole, require_whole
from spread_jax.spreads import concrete_value

Latents = Float[Array, "*batch dim"]
PerPoint = Float[Array, "*batch"]
Gaussians = tuple[Latents, Latents]
"""Posteriors N(mean, diag exp log_var): mean and log-variance."""

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
    if not (is_whole(dim) and dim <= MAX_ENUMERATED_DIM):
        raise ValueError(
            f"dim must be 1 to {MAX_ENUMERATED_DIM} (2^dim states are enumerated), got {dim!r}"
        )
    log_one, log_zero = math.log(prob), math.log1p(-prob)  # of the prior, for one z_i
    states = np.array(list(itertools.product((0.0, 1.0), repeat=dim)))

    def log_mass(z: Array, logits: Array) -> Array:
        return jnp.sum(z * jax.nn.log_sigmoid(logits) + (1 - z) * jax.nn.log_sigmoid(-logits), -1)

    def sample_prior(key: PRNGKeyArray, n: int) -> Float[Array, "n dim"]:
        return jax.random.bernoulli(key, prob, (n, dim)).astype(jnp.float32)

    def sample(key: PRNGKeyArray, logits: Latents) -> Latents:
        _require_width(logits, dim)
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
      ValueError: if ``dim`` or ``num_samples`` is no whole number of 1 or more.

    Examples:
      >>> latent = sj.gaussian_latent(dim=2)
      >>> mean, log_var = jnp.ones((3, 2)), jnp.zeros((3, 2))  # of three posteriors
      >>> print(latent.kl(jax.random.key(0), (mean, log_var)))  # ‖mean‖² / 2
      [1. 1. 1.]

    References:
      Kingma, Welling, "Auto-Encoding Variational Bayes", ICLR 2014, appendix B (the KL).
    """
    require_whole("dim", dim)
    require_whole("num_samples", num_samples)

    def sample_prior(key: PRNGKeyArray, n: int) -> Float[Array, "n dim"]:
        return jax.random.normal(key, (n, dim))

    def log_ratio(z: Latents, posterior: Gaussians) -> PerPoint:
        mean, log_var = _of_width(posterior, dim)
        # the log 2π of prior and posterior cancel
        return 0.5 * jnp.sum(jnp.square(z - mean) * jnp.exp(-log_var) + log_var - jnp.square(z), -1)

    def kl(key: PRNGKeyArray, posterior: Gaussians) -> PerPoint:
        del key  # closed form
        mean, log_var = _of_width(posterior, dim)
        # expm1 keeps the digits where q is close to p
        return 0.5 * jnp.sum(jnp.square(mean) + jnp.expm1(log_var) - log_var, -1)

    return Latent(sample_prior, *_of_gaussians(dim, num_samples, log_ratio), kl)


def mixture_latent(
    weights: ArrayLike | Sequence[float],
    means: ArrayLike | Sequence[Any],
    covariances: ArrayLike | Sequence[Any],
    num_samples: int = 1,
) -> Latent:
    """p(z) = Σ_k w_k N(z; m_k, C_k); the posterior is ``(mean, log_var)``, each ``[..., dim]``.

    The expectation under q is as in :func:`gaussian_latent`. The KL has no closed form: it is
    -½ Σ_i (1 + log 2π + log_var_i) - E_q[log p(z)], with the mean of log p(z) over ``num_samples``
    draws of its own, which is unbiased.

    Args:
      weights: ``[component]``, nonnegative; they are divided by their sum.
      means: ``[component, dim]``.
      covariances: ``[component, dim, dim]``, positive definite. All three may be traced.
      num_samples: draws per posterior in ``expectation`` and in ``kl``.

    Raises:
      ValueError: if the shapes do not fit each other, ``num_samples`` is below 1, or concrete
        arrays hold no mixture.

    Examples:
      >>> latent = sj.mixture_latent([0.5, 0.5], [[-3.0], [3.0]], [[[0.01]], [[0.01]]])
      >>> z = latent.sample_prior(jax.random.key(0), 1000)
      >>> z.shape, bool((abs(abs(z) - 3) < 0.5).all())
      ((1000, 1), True)

    References:
      Tomczak, Welling, "VAE with a VampPrior", AISTATS 2018, for a mixture as the prior of a VAE.
    """
    weights, means, covariances = map(jnp.asarray, (weights, means, covariances))
    dim = means.shape[-1] if means.ndim else 0
    shapes = f"{weights.shape}, {means.shape} and {covariances.shape}"
    if not (means.ndim == 2 and weights.shape == means.shape[:1] and num_samples >= 1) or (
        covariances.shape != (*means.shape, dim)
    ):
        wanted = "[component], [component, dim] and [component, dim, dim], and num_samples be >= 1"
        raise ValueError(
            f"weights, means and covariances must have the shapes {wanted}, got {shapes} and "
            f"{num_samples}"
        )
    kind = jnp.result_type(float, weights, means, covariances)  # whole numbers become floats
    weights, means, covariances = (x.astype(kind) for x in (weights, means, covariances))
    factors = jnp.linalg.cholesky(covariances)
    total = jnp.sum(weights)
    are_weights = concrete_value(
        jnp.all(weights >= 0)
        & (total > 0)
        & jnp.isfinite(total)
        & jnp.all(jnp.isfinite(means))
        & jnp.all(jnp.isfinite(factors))
        & jnp.allclose(covariances, jnp.matrix_transpose(covariances), rtol=1e-3)
    )
    if are_weights is not None and not are_weights:
        raise ValueError(
            "weights must be nonnegative with a sum above 0, means finite, and covariances "
            "symmetric and positive definite"
        )
    log_weights = jnp.log(weights / total)
    log_norm = -jnp.sum(jnp.log(jnp.diagonal(factors, axis1=1, axis2=2)), axis=-1)
    log_norm -= 0.5 * dim * math.log(2 * math.pi)
    unit = jnp.broadcast_to(jnp.eye(dim, dtype=factors.dtype)[None], factors.shape)
    to_white = jax.scipy.linalg.solve_triangular(factors, unit, lower=True)

    def sample_prior(key: PRNGKeyArray, n: int) -> Float[Array, "n dim"]:
        component_key, normal_key = jax.random.split(key)
        component = jax.random.categorical(component_key, log_weights, shape=(n,))
        normal = jax.random.normal(normal_key, (n, dim), means.dtype)
        return means[component] + jnp.einsum("nij,nj->ni", factors[component], normal)

    def log_prior(z: Latents) -> PerPoint:
        one = (1,) * (z.ndim - 1)
        residual = z[..., None, :] - means.reshape(*one, *means.shape)
        white = jnp.einsum("kij,...kj->...ki", to_white, residual)
        log_joint = (log_weights + log_norm).reshape(*one, -1) - 0.5 * jnp.sum(white**2, axis=-1)
        return jax.nn.logsumexp(log_joint, axis=-1)

    def ratio(z: Latents, posterior: Gaussians) -> PerPoint:
        mean, log_var = _of_width(posterior, dim)
        square = jnp.square(z - mean) * jnp.exp(-log_var)
        log_posterior = -0.5 * jnp.sum(square + log_var + math.log(2 * math.pi), axis=-1)
        return log_prior(z) - log_posterior

    sample, log_ratio, expectation = _of_gaussians(dim, num_samples, ratio)

    def kl(key: PRNGKeyArray, posterior: Gaussians) -> PerPoint:
        _, log_var = _of_width(posterior, dim)
        entropy = 0.5 * jnp.sum(1 + math.log(2 * math.pi) + log_var, axis=-1)
        return -entropy - expectation(key, posterior, log_prior)

    return Latent(sample_prior, sample, log_ratio, expectation, kl)


def _of_gaussians(
    dim: int, num_samples: int, log_ratio: LogRatio
) -> tuple[SamplePosterior, LogRatio, Expectation]:
    """What latents with posteriors N(mean, diag exp log_var) share, whatever their prior."""

    def sample(key: PRNGKeyArray, posterior: Gaussians) -> Latents:
        mean, log_var = _of_width(posterior, dim)
        return mean + jnp.exp(0.5 * log_var) * jax.random.normal(key, mean.shape, mean.dtype)

    def expectation(
        key: PRNGKeyArray, posterior: Gaussians, fn: Callable[[Array], Array]
    ) -> PerPoint:
        posterior = _of_width(posterior, dim)
        shape = (num_samples, *posterior[0].shape)
        mean, log_var = (jnp.broadcast_to(part, shape) for part in posterior)
        return jnp.mean(fn(sample(key, (mean, log_var))), axis=0)

    return sample, log_ratio, expectation


def _of_width(posterior: Any, dim: int) -> Gaussians:
    """The posterior's mean and log-variance; an array would unpack along its first axis."""
    if not (isinstance(posterior, tuple | list) and len(posterior) == 2):
        got = getattr(posterior, "shape", None)
        got = f"{type(posterior).__name__}" if got is None else f"one array of shape {got}"
        raise TypeError(f"encode must return (mean, log_var) of the posterior, got {got}")
    mean, log_var = posterior
    _require_width(mean, dim)
    return mean, log_var


def _require_width(posterior: Array, dim: int) -> None:
    """Of another width it would broadcast, and what comes out would be no bound."""
    shape = getattr(posterior, "shape", None)
    if shape is None:
        raise TypeError(
            f"encode must return arrays, got a {type(posterior).__name__} in one's place"
        )
    if not shape or shape[-1] != dim:
        wanted = f"posteriors of the latent's dim {dim}"
        raise ValueError(f"the encoder must return {wanted}, got shape {shape}")
