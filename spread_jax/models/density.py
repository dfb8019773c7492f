"""Any density of the spread data, such as a normalising flow, as a generative model."""

from typing import NamedTuple, Protocol, runtime_checkable

import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray, PyTree

from spread_jax.denoising import tweedie
from spread_jax.models.model import Init
from spread_jax.objectives import Bound
from spread_jax.spreads import Points, Spread


@runtime_checkable
class LogProb(Protocol):
    """A normalised density of points, each for itself."""

    def __call__(self, params: PyTree, y: Array, /) -> Array:
        """``(params, y [..., dim]) -> log p~(y) [...]``, in nats."""


@runtime_checkable
class Draw(Protocol):
    """Independent points of that density."""

    def __call__(self, params: PyTree, key: PRNGKeyArray, n: int, /) -> Array:
        """``(params, key, n) -> y [n, dim]``."""


class DensityModel(NamedTuple):
    """p~(y), a density of the spread data itself: a :class:`spread_jax.Model`.

    ``draw`` gives points of that density, with the noise; the rest as :func:`density_model` says.
    """

    init: Init
    log_prob: LogProb
    draw: Draw

    def bound(self, params: PyTree, key: PRNGKeyArray, x: Points, spread: Spread) -> Bound:
        """log p~(y) of one draw y for each x; the kl is 0.

        Raises:
          ValueError: if ``log_prob`` does not return one number for each point.
        """
        log_lik = self.log_prob(params, spread.sample(key, x))
        if log_lik.shape != x.shape[:-1]:  # a sum over all points would train, and judge, wrongly
            wanted = f"shape {x.shape[:-1]}, one number for each point"
            raise ValueError(f"log_prob must return {wanted}, got {log_lik.shape}")
        return Bound(log_lik, jnp.zeros_like(log_lik))

    def sample(self, params: PyTree, key: PRNGKeyArray, n: int, spread: Spread) -> Points:
        """x = y + Σ ∇ log p~(y), y ~ p~: draws, cleaned by one step of Tweedie's formula.

        The step goes to the mean of the clean points behind y, so it leaves less variance than
        there is: of N(0, s²) under noise σ a standard deviation of s² / √(s² + σ²). Σ is the
        covariance of ``spread.log_prob``; without noise the draws come as they are.

        Raises:
          ValueError: as :func:`spread_jax.noise_covariance`.
        """
        y = self.draw(params, key, n)
        return tweedie(y, lambda y: self.log_prob(params, y), spread)


def density_model(*, init: Init, log_prob: LogProb, sample: Draw) -> DensityModel:
    """log p~(y), any density of the spread data: trained on noisy points, it cleans its draws.

    Args:
      init, log_prob: as :class:`spread_jax.models.model.Init` and :class:`LogProb`.
      sample: as :class:`Draw`; the draws carry the noise.

    Examples:
      >>> model = sj.density_model(  # N(0, e^(2 params))
      ...     init=lambda key: jnp.zeros(()),
      ...     log_prob=lambda params, y: jnp.sum(
      ...         jax.scipy.stats.norm.logpdf(y, scale=jnp.exp(params)), -1
      ...     ),
      ...     sample=lambda params, key, n: jnp.exp(params) * jax.random.normal(key, (n, 1)),
      ... )
      >>> params = model.init(jax.random.key(0))
      >>> x = model.sample(params, jax.random.key(1), 1000, sj.gaussian_spread(0.6))
      >>> round(float(x.std() / model.draw(params, jax.random.key(1), 1000).std()), 4)  # 1 - 0.6²
      0.64
    """
    return DensityModel(init, log_prob, sample)
