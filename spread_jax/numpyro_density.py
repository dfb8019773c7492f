"""Distributions of NumPyro with the noise of a spread added, for models of data without a density.

NumPyro is imported when :func:`spread_density` is called: the extra ``numpyro`` installs it.
"""

import functools
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
from jaxtyping import Array

from spread_jax.arguments import require_spread
from spread_jax.denoising import TINY_VAR, noise_covariance
from spread_jax.spreads import Spread, concrete_value

if TYPE_CHECKING:
    from numpyro.distributions import Distribution

SUPPORTED = (
    "Normal, MultivariateNormal, LowRankMultivariateNormal, MixtureSameFamily of them, and "
    "Independent (to_event) or expanded ones of them"
)


def spread_density(distribution: "Distribution", spread: Spread) -> "Distribution":
    """log p~(y) = log ∫ n(y|x) p(x) dx for a distribution p of NumPyro: the law of x with noise.

    The observed site of a model becomes ``numpyro.sample("y", spread_density(p, spread), obs=y)``,
    y spread once beforehand by ``spread.sample``. Its density is bounded where that of p is not: a
    scale may go to 0, and the covariance of a MultivariateNormal may be singular, which NumPyro
    takes with ``validate_args=False``.

    A Normal takes every spread with a closed form, :func:`spread_jax.laplace_spread` too. Alone it
    is a number, and the spread one of a dimension; ``Normal(...).to_event(1)`` is a vector, whose
    dimensions may have a sigma each. The others take Gaussian noise only, as
    :func:`spread_jax.noise_covariance` says.

    Args:
      distribution: Normal, MultivariateNormal, LowRankMultivariateNormal, MixtureSameFamily of
        them, or one of these ``to_event`` or ``expand``; parameters traced or not.
      spread: the noise, in the units of the data.

    Returns:
      A distribution of NumPyro of the same shapes; its samples have the noise.

    Raises:
      ImportError: without NumPyro.
      TypeError: if ``distribution`` is another one.
      ValueError: if the noise is not Gaussian where it must be; at ``log_prob`` where the spread
        has no closed form for a Normal.

    Examples:
      >>> import numpyro.distributions as dist
      >>> scale = jnp.array([1.0, 0.0])  # x = (a, 0)
      >>> flat = dist.Normal(jnp.zeros(2), scale, validate_args=False).to_event(1)
      >>> noisy = sj.spread_density(flat, sj.gaussian_spread(1.0))  # N(0, diag(2, 1))
      >>> round(float(noisy.log_prob(jnp.zeros(2))), 4)  # -log 2π - log(2) / 2
      -2.1845

    References:
      Phan, Pradhan, Jankowiak, "Composable effects for flexible and accelerated probabilistic
      programming in NumPyro", arXiv 1912.11554.
    """
    try:
        from numpyro import distributions as dist
    except ImportError as error:
        needed = "spread_density needs NumPyro: pip install 'spread_jax[numpyro]'"
        raise ImportError(needed) from error
    require_spread(spread)
    kind = type(distribution)
    if kind is dist.Normal:
        return _spread_normal()(distribution.loc, distribution.scale, spread)
    if kind is dist.Independent:
        base, ndim = distribution.base_dist, distribution.reinterpreted_batch_ndims
        inner = base.base_dist if type(base) is dist.ExpandedDistribution else base
        if type(inner) is not dist.Normal:
            return spread_density(base, spread).to_event(ndim)
        if ndim != 1:
            raise TypeError(f"a Normal must be to_event(1), the axis of the noise, got {ndim}")
        loc, scale = (jnp.broadcast_to(a, base.batch_shape) for a in (inner.loc, inner.scale))
        return _spread_normal()(loc, scale, spread, event_dim=1)
    if kind is dist.ExpandedDistribution:
        return spread_density(distribution.base_dist, spread).expand(distribution.batch_shape)
    if kind is dist.MultivariateNormal:
        return _spread_multivariate(distribution, spread)
    if kind is dist.LowRankMultivariateNormal:
        return _spread_low_rank(distribution, spread)
    if kind is dist.MixtureSameFamily:
        noisy = spread_density(distribution.component_distribution, spread)
        return dist.MixtureSameFamily(distribution.mixing_distribution, noisy)
    raise TypeError(f"distribution must be {SUPPORTED}, got {kind.__name__}")


def _spread_multivariate(distribution: Any, spread: Spread) -> "Distribution":
    """N(loc, C + Σ); with R of the QR decomposition of [L, Σ^(1/2)]ᵀ, C = L Lᵀ, the sum Rᵀ R is
    never formed, which would lose the digits of the smaller part."""
    from numpyro import distributions as dist

    dim = distribution.event_shape[0]
    noise = noise_covariance(spread, dim)
    if "covariance_matrix" in vars(distribution):  # it may be singular, and then has no factor
        covariance = jnp.asarray(distribution.covariance_matrix)
        each = (None,) * (covariance.ndim - 2)
        return dist.MultivariateNormal(
            distribution.loc, covariance_matrix=covariance + noise[each].astype(covariance.dtype)
        )
    factor = jnp.asarray(distribution.scale_tril)
    noise = noise.astype(factor.dtype)
    root = jnp.linalg.cholesky(noise + TINY_VAR * jnp.eye(dim, dtype=noise.dtype))
    both = jnp.concatenate([factor, jnp.broadcast_to(root, factor.shape)], axis=-1)
    upper = jnp.linalg.qr(both.mT, mode="r")
    sign = jnp.where(jnp.diagonal(upper, axis1=-2, axis2=-1) < 0, -1.0, 1.0)
    return dist.MultivariateNormal(distribution.loc, scale_tril=(upper * sign[..., None]).mT)


def _spread_low_rank(distribution: Any, spread: Spread) -> "Distribution":
    """Of low rank where the noise is independent, by its concrete parameters; else of full rank."""
    from numpyro import distributions as dist

    loc, factor, diagonal = map(
        jnp.asarray, (distribution.loc, distribution.cov_factor, distribution.cov_diag)
    )
    dim = distribution.event_shape[0]
    noise = noise_covariance(spread, dim).astype(diagonal.dtype)
    concrete, variances = concrete_value(noise), jnp.diagonal(noise)
    each = (None,) * (diagonal.ndim - 1)
    if concrete is not None and not (concrete - concrete.diagonal() * jnp.eye(dim)).any():
        return dist.LowRankMultivariateNormal(loc, factor, diagonal + variances[each])
    own = diagonal[..., None] * jnp.eye(dim)[each]
    covariance = factor @ factor.mT + own + noise[each]
    return dist.MultivariateNormal(loc, covariance_matrix=covariance)


@functools.cache
def _spread_normal() -> Any:
    """The class of a Normal with noise; a class, since NumPyro may not be installed."""
    import jax
    from numpyro.distributions import Distribution, constraints
    from numpyro.distributions.util import promote_shapes, validate_sample

    class SpreadNormal(Distribution):
        """Of ``event_dim`` 0, numbers with the noise of one dimension each; of 1, vectors."""

        arg_constraints = {"loc": constraints.real, "scale": constraints.nonnegative}  # noqa: RUF012
        reparametrized_params = ["loc", "scale"]  # noqa: RUF012
        pytree_aux_fields = ("spread",)

        def __init__(
            self,
            loc: Any,
            scale: Any,
            spread: Spread,
            event_dim: int = 0,
            *,
            validate_args: bool | None = None,
        ) -> None:
            self.loc, self.scale = promote_shapes(loc, scale)
            self.spread = spread
            shape = jax.lax.broadcast_shapes(jnp.shape(loc), jnp.shape(scale))
            split = len(shape) - event_dim
            super().__init__(shape[:split], shape[split:], validate_args=validate_args)

        @property
        def support(self) -> Any:
            return constraints.independent(constraints.real, self.event_dim)

        @property
        def mean(self) -> Array:
            """That of x; the noise has none."""
            return jnp.broadcast_to(self.loc, self.shape())

        def sample(self, key: Any, sample_shape: tuple[int, ...] = ()) -> Array:
            clean_key, noise_key = jax.random.split(key)
            shape = self.shape(sample_shape)
            clean = self.loc + self.scale * jax.random.normal(clean_key, shape)
            return self._apart(self.spread.sample(noise_key, self._joined(clean)))

        @validate_sample
        def log_prob(self, value: Any) -> Array:
            loc, scale = (jnp.broadcast_to(part, self.shape()) for part in (self.loc, self.scale))
            points = (self._joined(jnp.asarray(part)) for part in (value, loc, jnp.square(scale)))
            return self.spread.log_prob(*points)

        def _joined(self, numbers: Array) -> Array:
            return numbers if self.event_dim else numbers[..., None]

        def _apart(self, points: Array) -> Array:
            return points if self.event_dim else points[..., 0]

    return SpreadNormal
