"""From a spread point back to a clean one: the posterior mean E[x|y] under Gaussian noise."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float, PRNGKeyArray

from spread_jax.arguments import moments
from spread_jax.latents import Latent
from spread_jax.objectives import Decode, Encode
from spread_jax.spreads import Points, Spread, broadcast_as, concrete_value, plus_noise

TINY_VAR = 1e-30  # no noise, to float32, and yet a density
MAX_CHANGE = 1e-3  # of the curvature of a Gaussian law, from point to point: rounding only


def noise_covariance(spread: Spread, dim: int) -> Float[Array, "dim dim"]:
    """Σ = -(∇²_y log n(y|0))⁻¹: the covariance of the noise that ``spread`` adds to the model.

    Exact for Gaussian noise. It is that of ``spread.log_prob``, also where ``spread.sample`` has
    another. Where there is no noise it is 0. With concrete parameters it is a constant, also in a
    compiled function.

    Of :func:`spread_jax.low_rank_spread` it loses digits as sigma falls below the factor, as any
    float32 matrix with these eigenvalues does: the variance in its worst direction has a relative
    error of about 1e-5 at a tenth of the factor's largest singular value and 1e-3 at a hundredth.
    A low-rank law with a traced sigma of 0 gives NaN.

    Args:
      spread: :func:`spread_jax.gaussian_spread`, :func:`spread_jax.low_rank_spread`,
        :func:`spread_jax.fixed_volume_spread`, or one of them :func:`spread_jax.with_gaussian`.
      dim: of the data.

    Returns:
      Σ, in squared data units; NaN for noise that is not Gaussian and has traced parameters.

    Raises:
      ValueError: if the noise is not Gaussian and its parameters are concrete; if the law is not
        closed for a Gaussian model.

    Examples:
      >>> print(sj.noise_covariance(sj.gaussian_spread(jnp.array([0.5, 0.0])), dim=2))
      [[0.25 0.  ]
       [0.   0.  ]]
    """
    with jax.ensure_compile_time_eval():
        zero = jnp.zeros(dim)
        var = jnp.full(dim, TINY_VAR)  # of the model: a law of the mean alone would be refused

        def curvature(y: Array) -> Array:
            return -jax.hessian(lambda y: spread.log_prob(y, zero, var))(y)

        precision = curvature(zero)
        std = jax.lax.rsqrt(jnp.diagonal(precision))
        change = std[:, None] * std[None] * (curvature(2 * std) - precision)
        is_gaussian = jnp.max(jnp.abs(change)) < MAX_CHANGE  # False where it is NaN
        known = concrete_value(is_gaussian)
        if known is not None and not known:
            raise ValueError(
                "the covariance of the noise is needed, which must be Gaussian: gaussian_spread, "
                "low_rank_spread, fixed_volume_spread, or one of them with_gaussian"
            )
        covariance = jnp.linalg.inv(precision) - jnp.diag(var)
        return jnp.where(is_gaussian, covariance, jnp.nan)


def tweedie(y: Points, log_prob: Callable[[Array], Array], noise: Spread | ArrayLike) -> Points:
    """E[x|y] = y + Σ ∇ log p~(y), for y = x + N(0, Σ): Tweedie's formula, whatever p is.

    Args:
      y: spread points.
      log_prob: ``y [..., dim] -> log p~(y) [...]``, of the spread law, each point for itself.
      noise: the law of Gaussian noise, or its standard deviation, a scalar or ``[dim]``.

    Raises:
      ValueError: as :func:`noise_covariance`.

    Examples:
      >>> y = jnp.array([[2.0]])
      >>> log_prob = lambda y: -jnp.sum(y**2, -1) / 4  # x and the noise N(0, 1): y is N(0, 2)
      >>> print(sj.tweedie(y, log_prob, 1.0))  # half the way back to the mean
      [[1.]]

    References:
      Efron, "Tweedie's formula and selection bias", JASA 106 (2011), equation 1.4.
    """
    score = jax.grad(lambda y: jnp.sum(log_prob(y)))(y)
    if isinstance(noise, Spread):
        return y + score @ noise_covariance(noise, y.shape[-1]).astype(y.dtype)
    return y + broadcast_as(jnp.square(noise), y) * score


def denoise_by_decoder(
    key: PRNGKeyArray,
    y: Points,
    *,
    encode: Encode,
    decode: Decode,
    latent: Latent,
    sigma: ArrayLike,
) -> Points:
    """E_{q(z|y)} [ mean(z) + var(z)/(var(z) + sigma²) (y - mean(z)) ], a VAE's posterior mean.

    Exact if q(z|y) is the model's posterior. A deterministic decoder gives E_q[mean(z)].

    Args:
      key, encode, decode, latent: as in :func:`spread_jax.spread_elbo`.
      y: points spread by Gaussian noise.
      sigma: standard deviation of the noise, a scalar or ``[dim]``, in data units.

    Raises:
      TypeError: if ``decode`` does not return a pair.

    Examples:
      >>> x = sj.denoise_by_decoder(
      ...     jax.random.key(0),
      ...     jnp.array([[2.0]]),
      ...     encode=lambda y: (jnp.zeros((1, 1)), jnp.zeros((1, 1))),
      ...     decode=lambda z: (0 * z, 0 * z + 1.0),  # x is N(0, 1) whatever z
      ...     latent=sj.gaussian_latent(dim=1),
      ...     sigma=1.0,
      ... )
      >>> print(x)
      [[1.]]
    """
    posterior = encode(y)

    def clean(z: Array) -> Array:
        mean, var = moments(decode, z, y.shape[-1])
        if var is None:
            return jnp.broadcast_to(mean, (mean.shape[0], *y.shape))
        return mean + var / plus_noise(var, sigma) * (y[None] - mean)

    def coordinate(i: Array) -> Array:
        return latent.expectation(key, posterior, lambda z: clean(z)[..., i])

    return jnp.moveaxis(jax.vmap(coordinate)(jnp.arange(y.shape[-1])), 0, -1)
