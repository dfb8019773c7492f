"""The normal-Laplace law, the sum of a normal and a Laplace variable, with all its digits."""

import jax
import jax.numpy as jnp
from jax.scipy.special import erfc, erfcx, log_ndtr
from jaxtyping import Array, Float

Numbers = Float[Array, "..."]

SQRT_2 = 2**0.5
SQRT_2_PI = (2 * jnp.pi) ** 0.5
# from here the Mills ratio is summed as a series, good to 3e-8; jax 0.10.2's float32 erfcx(x) is 0
# for x in 9.2 to 9.4, t in 13.0 to 13.3
SERIES_FROM = 8.0


def normal_laplace_log_prob(y: Numbers, mean: Numbers, var: Numbers, scale: Numbers) -> Numbers:
    """log ∫ Laplace(y; x, scale) N(x; mean, var) dx, per element, in nats.

    With d = |y - mean|, w = √var, t₁ = w/scale - d/w, t₂ = w/scale + d/w this is
    -log 2·scale + logaddexp(A, B), where B = -d²/2var + log(erfcx(t₂/√2)/2) and A is the same in
    t₁ where t₁ > 0, else var/2scale² - d/scale + log Φ(-t₁). The textbook form, a difference
    of exp × Φ, loses all its digits as var → 0 and where var/scale² is large.

    The gradient is a rule of its own, equally stable. For var/scale² from 0 to 1e5 and y up to 40
    standard deviations out float32 keeps a relative error of 1e-6 in the value and, relative to
    the larger of themselves and 1/sd or 1/sd², 1e-5 in the slope and 1e-4 in the derivative with
    respect to the variance. At var = 0 the law is Laplace's; the latter is 1/2scale² there, but
    truly -∞ where also y = mean: the rule then gives that of the smallest normal float, -4e18 /
    scale, so that the derivative with respect to a log-variance is 0, its limit, and not NaN. The
    derivative with respect to scale is a difference that loses digits as var/scale² grows: its
    relative error is 1e-4 at 100 and 7e-3 at 1e5.

    Args:
      y: points; all arguments broadcast.
      mean: of the normal.
      var: of the normal, >= 0.
      scale: of the Laplace law, > 0: its density is exp(-|x|/scale)/2scale, its variance 2scale².

    References:
      Reed, "The normal-Laplace distribution and its relatives", Advances in Distribution Theory,
      Order Statistics, and Inference (2006), equation 5.
    """
    return _log_prob(jnp.abs(y - mean), var, scale)


def laplace_posterior(y: Numbers, var: Numbers, scale: Numbers) -> tuple[Numbers, Numbers]:
    """E[z|y] = y + var s and Var[z|y] = var + var² s', for z ~ Laplace(0, scale), y ~ N(z, var).

    Here s is the slope of log p(y), p the normal-Laplace law, and s' = (1 - N(y; 0, var)/p)/scale²
    - s². The posterior is a mixture of two truncated normals, one a side of zero. Straight from
    the textbook form, which is quick and, for var/scale² up to 20, or up to 50 and y within 5
    standard deviations, errs by 0.3 % of the variance and by an absolute error of 2e-5 √var in
    the mean. Beyond both it fails: at 50 and 6 standard deviations the variance is negative.

    Args:
      y: noisy points; all arguments broadcast.
      var: of the normal noise, > 0.
      scale: of the Laplace prior, > 0.

    Returns:
      The posterior mean and variance, per element.
    """
    d, w = jnp.abs(y), jnp.sqrt(var)
    ratio, standardised = w / scale, d / w
    decay = jnp.exp(-jnp.minimum(d / scale, 60))  # beyond 60 the far side has no mass
    near = decay * erfc((ratio - standardised) / SQRT_2)
    far = erfc((ratio + standardised) / SQRT_2) / decay
    normal = jnp.exp(-0.5 * (jnp.square(standardised) + ratio**2)) / (0.25 * SQRT_2_PI * ratio)
    slope = (far - near) / (far + near) / scale
    curvature = (1 - normal / (far + near)) / scale**2 - jnp.square(slope)
    return y + var * jnp.sign(y) * slope, var + jnp.square(var) * curvature


@jax.custom_jvp
def _log_prob(d: Array, var: Array, scale: Array) -> Array:
    return -jnp.log(2 * scale) + jnp.logaddexp(*_log_terms(d, var, scale))


@_log_prob.defjvp
def _log_prob_jvp(
    primals: tuple[Array, Array, Array], tangents: tuple[Array, Array, Array]
) -> tuple[Array, Array]:
    d, var, scale = primals
    log_low, log_high = _log_terms(d, var, scale)
    slope, curvature = _slope_and_curvature(d, var, scale, log_low, log_high)
    by_d, by_var = slope / scale, curvature / (2 * scale**2)
    # p(cd; c²var, c·scale) = p/c for every c
    by_scale = -(1 + d * by_d + 2 * var * by_var) / scale
    value = -jnp.log(2 * scale) + jnp.logaddexp(log_low, log_high)
    return value, by_d * tangents[0] + by_var * tangents[1] + by_scale * tangents[2]


def _arguments(d: Array, var: Array, scale: Array) -> tuple[Array, Array, Array, Array]:
    """t₁, t₂, w/scale and d/w, with the variance at the smallest normal float or above: there A and
    B are already those of Laplace's law, and nothing divides by zero."""
    w = jnp.sqrt(jnp.maximum(var, jnp.finfo(var.dtype).tiny))
    ratio, standardised = w / scale, d / w
    return ratio - standardised, ratio + standardised, ratio, standardised


def _log_terms(d: Array, var: Array, scale: Array) -> tuple[Array, Array]:
    """A and B: log of the parts of 2·scale·p with the noise on the far and on the near side."""
    t1, t2, _, standardised = _arguments(d, var, scale)
    log_normal = -0.5 * jnp.square(standardised)
    inside = log_normal + jnp.log(_mills_ratio(jnp.maximum(t1, 0)) / SQRT_2_PI)
    outside = 0.5 * var / scale**2 - d / scale + log_ndtr(jnp.maximum(-t1, 0))
    log_low = jnp.where(t1 > 0, inside, outside)
    return log_low, log_normal + jnp.log(_mills_ratio(t2) / SQRT_2_PI)


def _slope_and_curvature(
    d: Array, var: Array, scale: Array, log_low: Array, log_high: Array
) -> tuple[Array, Array]:
    """scale · p'/p = tanh((B - A)/2), and scale² p''/p = 1 - N(d; 0, var)/p.

    With R the Mills ratio, these are (R(t₂) - R(t₁))/(R(t₂) + R(t₁)) and, since
    N/p = 4/((t₁ + t₂)(R(t₁) + R(t₂))), a number near 0 in the normal's limit, both t large. There
    both are taken from S(t) = 1 - t R(t) and t₂ - t₁ = 2d/w, without a difference of near equals.
    """
    t1, t2, ratio, standardised = _arguments(d, var, scale)
    # N/p through the logarithms, which hold for t₁ < 0 too
    log_share = -0.5 * jnp.square(standardised) - jnp.log(0.5 * SQRT_2_PI * ratio)
    share = jnp.exp(log_share - jnp.logaddexp(log_low, log_high))

    far_1, far_2 = jnp.maximum(t1, SERIES_FROM), jnp.maximum(t2, SERIES_FROM)
    defect_1, defect_2 = _mills_defect(far_1), _mills_defect(far_2)
    mills_sum = (1 - defect_1) / far_1 + (1 - defect_2) / far_2
    mills_difference = -2 * standardised / (far_1 * far_2) + defect_1 / far_1 - defect_2 / far_2
    unshared = (
        4 * jnp.square(standardised) / (far_1 * far_2)
        - (1 + far_1 / far_2) * defect_2
        - (1 + far_2 / far_1) * defect_1
    ) / (2 * ratio * mills_sum)
    is_far = t1 > SERIES_FROM
    return (
        jnp.where(is_far, mills_difference / mills_sum, jnp.tanh(0.5 * (log_high - log_low))),
        jnp.where(is_far, unshared, 1 - share),
    )


def _mills_ratio(t: Array) -> Array:
    """R(t) = (1 - Φ(t))/φ(t), for t >= 0."""
    near, far = jnp.minimum(t, SERIES_FROM), jnp.maximum(t, SERIES_FROM)
    by_erfcx = 0.5 * SQRT_2_PI * erfcx(near / SQRT_2)
    return jnp.where(t < SERIES_FROM, by_erfcx, (1 - _mills_defect(far)) / far)


def _mills_defect(t: Array) -> Array:
    """S(t) = 1 - t R(t) = 1/t² - 3/t⁴ + 15/t⁶ - ..., for t >= 8."""
    u = 1 / jnp.square(t)
    return u * (1 - u * (3 - u * (15 - u * (105 - u * (945 - u * 10395)))))
