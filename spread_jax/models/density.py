"""Any density of the spread data, such as a normalising flow, as a generative model."""

from typing import NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray, PyTree

from spread_jax.denoising import gibbs_steps, noise_covariance, tweedie
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
    cleaning_steps: int = 0

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
        """x = y + Σ ∇ log p~(y), y ~ p~: draws, cleaned by Tweedie's formula or by Gibbs sampling.

        Tweedie's formula gives the mean of the clean points behind y, so it leaves less variance
        than there is: of N(0, s²) under noise σ a standard deviation of s² / √(s² + σ²). With
        ``cleaning_steps`` x is drawn about that mean, as :func:`spread_jax.clean_samples` does, and
        the standard deviation is s. Σ is the covariance of ``spread.log_prob``; without noise the
        draws come as they are.

        Raises:
          ValueError: as :func:`noise_covariance`.
        """

        def log_prob(y: Array) -> Array:
            return self.log_prob(params, y)

        if self.cleaning_steps == 0:
            return tweedie(self.draw(params, key, n), log_prob, spread)
        draw_key, clean_key = jax.random.split(key)
        y = self.draw(params, draw_key, n)
        covariance = noise_covariance(spread, y.shape[-1]).astype(y.dtype)
        var, directions = jnp.linalg.eigh(covariance)  # no Cholesky: a coordinate may have no noise
        root = directions * jnp.sqrt(jnp.maximum(var, 0))[None]
        return gibbs_steps(clean_key, y, log_prob, root, self.cleaning_steps)


def density_model(
    *, init: Init, log_prob: LogProb, sample: Draw, cleaning_steps: int = 0
) -> DensityModel:
    """log p~(y), any density of the spread data: trained on noisy points, it cleans its draws.

    Args:
      init, log_prob: as :class:`spread_jax.models.model.Init` and :class:`LogProb`.
      sample: as :class:`Draw`; the draws carry the noise.
      cleaning_steps: Gibbs steps of :func:`spread_jax.clean_samples`; 0 gives the mean of the clean
        points behind each draw. One step where the law has a width that must be kept, beside which
        the noise is not small; none where points must lie near a curve: a small flow's errors
        also are in its Hessian.

    Raises:
      ValueError: if ``cleaning_steps`` is negative.

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
    if cleaning_steps < 0:
        raise ValueError(f"cleaning_steps must be >= 0, got {cleaning_steps}")
    return DensityModel(init, log_prob, sample, cleaning_steps)
