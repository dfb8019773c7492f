import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, special, stats

from spread_jax.normal_laplace import _mills_defect, laplace_posterior, normal_laplace_log_prob

DISTANCES = np.array([0.0, 1e-3, 0.1, 0.5, 0.9, 1.1, 2.0, 5.0, 10.0, 20.0, 40.0])  # of sd
RATIOS = np.array([1e-10, 1e-6, 1e-3, 0.1, 1.0, 10.0, 30.0, 64.0, 66.0, 170.0, 1e3, 1e5])  # v/b²


NODES, WEIGHTS = np.polynomial.legendre.leggauss(300)


def between(low, high):
    """Gauss-Legendre nodes and weights on [low, high]."""
    return low + (high - low) * (NODES + 1) / 2, WEIGHTS * (high - low) / 2


def float32(*values):
    """JAX arrays of one shape."""
    return map(jnp.float32, np.broadcast_arrays(*values))


@jax.jit
@jnp.vectorize
def value_and_slopes(*arguments):
    value, slopes = jax.value_and_grad(normal_laplace_log_prob, argnums=(0, 1, 2, 3))(*arguments)
    return value, *slopes


def exact(d, var, scale):
    """Value and slopes (by d, by var) in float64: both parts of the density are sums of positive
    terms, and the slopes are ratios of Gauss-Legendre quadratures of the definition's integrand,
    which multiply it by the scores: nothing is subtracted but the scores themselves."""
    w = np.sqrt(var)
    # z = x/w about the mean; the integrand's logarithm is concave, with a kink at x = d
    peak = np.clip(d / w, -w / scale, w / scale)
    pieces = []
    for low, high in ((peak - 14, min(d / w, peak + 14)), (max(d / w, peak - 14), peak + 14)):
        if high > low:
            pieces.append(between(low, high))
    z, weight = (np.concatenate(part) for part in zip(*pieces, strict=True))
    log_integrand = stats.norm.logpdf(z) - np.abs(d - w * z) / scale - np.log(2 * scale)
    top = log_integrand.max()
    mass = weight * np.exp(log_integrand - top)
    by_d = np.sum(mass * -np.sign(d - w * z)) / mass.sum() / scale
    by_var = np.sum(mass * (z**2 - 1)) / mass.sum() / (2 * var)
    return top + np.log(mass.sum()), by_d, by_var


@pytest.mark.parametrize("scale", [0.1, 10.0])
def test_value_and_slopes_keep_their_digits_in_float32(scale):
    """Against quadrature in float64; slopes relative to themselves or to 1/sd, 1/sd²."""
    scale = np.float32(scale)
    var, d = np.meshgrid(np.float32(RATIOS) * scale**2, DISTANCES, indexing="ij")
    sd = np.sqrt(var + 2 * scale**2)
    d = np.float32(d * sd)
    value, _, by_mean, by_var, _ = value_and_slopes(*float32(d, 0, var, scale))
    truth = np.vectorize(exact)(np.float64(d), np.float64(var), float(scale))
    np.testing.assert_allclose(value, truth[0], rtol=1e-6, atol=1e-6)
    assert (np.abs(-by_mean - truth[1]) <= 1e-5 * np.maximum(np.abs(truth[1]), 1 / sd)).all()
    assert (np.abs(by_var - truth[2]) <= 1e-4 * np.maximum(np.abs(truth[2]), 1 / sd**2)).all()


@pytest.mark.parametrize("var", [0.0, 1e-38, 1e-30])
def test_without_variance_it_is_laplaces_law(var):
    """Closed forms: the density, ∓1/scale, and 1/2scale² from the series in the variance."""
    d, scale = np.array([0.3, 1.0, 28.0]), 0.5
    value, by_y, by_mean, by_var, by_scale = value_and_slopes(*float32(d, 0, var, scale))
    np.testing.assert_allclose(value, stats.laplace.logpdf(d, scale=scale), rtol=1e-6)
    np.testing.assert_allclose([by_y, by_mean], np.outer([-1, 1], [1 / scale] * 3), rtol=1e-6)
    np.testing.assert_allclose(by_var, 1 / (2 * scale**2), rtol=1e-5)
    np.testing.assert_allclose(by_scale, d / scale**2 - 1 / scale, rtol=1e-5)


def test_gradients_in_mean_and_log_variance_are_always_finite():
    log_var, d = np.meshgrid([-np.inf, -200.0, -100.0, -80.0, 0.0, 11.5], [0.0, 0.5, 20.0])

    @jax.jit
    @jnp.vectorize
    def slopes(d, log_var):
        return jax.grad(
            lambda mean, log_var: normal_laplace_log_prob(
                d, mean, jnp.exp(log_var), jnp.full_like(d, 0.5)
            ),
            argnums=(0, 1),
        )(jnp.zeros_like(d), log_var)

    by_mean, by_log_var = map(np.asarray, slopes(*float32(d, log_var)))
    assert np.isfinite(by_mean).all()
    assert np.isfinite(by_log_var).all()
    # its limit, var · d/dvar -> 0, from below at d = 0
    np.testing.assert_allclose(by_log_var[log_var <= -80], 0, atol=1e-15)


def test_the_slope_in_the_variance_falls_without_limit_at_the_mean():
    """d/dv = -1/(scale √(2πv)) as v -> 0 at y = mean; at v = 0 it is the smallest float's."""
    var = np.array([1e-12, 1e-20, 1e-30])
    slope = value_and_slopes(*float32(0, 0, var, 2.0))[3]
    np.testing.assert_allclose(slope, -1 / (2.0 * np.sqrt(2 * np.pi * var)), rtol=1e-4)
    at_zero = value_and_slopes(*float32(0, 0, 0, 2.0))[3]
    np.testing.assert_allclose(at_zero, -1.84e18, rtol=1e-2)


@pytest.mark.parametrize("var", [0.0, 1e-30, 0.04, 3.0])
def test_density_integrates_to_one(var):
    """Quadrature with float32 values: 1 within 1e-6."""
    scale = 0.5

    edges = 0.2 + np.sqrt(var + 2 * scale**2) * np.array([-40, -8, -1, 0, 1, 8, 40])
    y, weight = np.concatenate([between(*ends) for ends in itertools.pairwise(edges)], axis=1)
    log_prob = value_and_slopes(*float32(y, 0.2, var, scale))[0]
    np.testing.assert_allclose(np.sum(weight * np.exp(log_prob)), 1, atol=1e-6)


def test_slope_in_the_scale():
    """Against the finite difference of the quadrature in float64."""
    arguments = tuple(float32(1.3, 0.2, 0.7, 0.4))
    slope = value_and_slopes(*arguments)[4]
    y, mean, var, scale = map(float, arguments)

    def log_prob(scale):
        return exact(abs(y - mean), var, scale)[0]

    difference = (log_prob(scale + 1e-5) - log_prob(scale - 1e-5)) / 2e-5
    np.testing.assert_allclose(slope, difference, rtol=1e-4)


@pytest.mark.parametrize(("var", "scale"), [(0.25, 0.5**0.5), (0.01, 1.0), (4.0, 0.3)])
def test_posterior_moments_are_those_of_two_truncated_normals(var, scale):
    """SciPy's truncated normals, mixed by the mass of each side. Where the noise is wider than
    the prior (var/scale² = 44) the variance is a difference of near equals: 0.3 %."""
    y = np.array([-3.0, -0.4, 0.0, 0.1, 2.0])
    mean, variance = jax.jit(laplace_posterior)(*float32(y, var, scale))
    s = np.sqrt(var)
    sides = []
    for sign in (1, -1):
        centre = sign * y - var / scale  # in the coordinate sign·z > 0
        log_mass = -sign * y / scale + special.log_ndtr(centre / s)
        law = stats.truncnorm(-centre / s, np.inf, loc=centre, scale=s)
        sides.append((log_mass, sign * law.mean(), law.var() + law.mean() ** 2))
    log_masses, means, seconds = (np.array(part) for part in zip(*sides, strict=True))
    weight = np.exp(log_masses - np.logaddexp(*log_masses))
    expected = np.sum(weight * means, axis=0)
    np.testing.assert_allclose(mean, expected, rtol=1e-5, atol=2e-5 * s)
    np.testing.assert_allclose(
        variance, np.sum(weight * seconds, axis=0) - expected**2, rtol=3e-3, atol=1e-6
    )


def test_posterior_18_scales_out_under_wide_noise():
    """Truth: sums over a grid in float64, 1.3646 and 3.6144."""
    mean, variance = laplace_posterior(*float32(18, 30, 1))
    z = np.linspace(-80, 90, 200_001)
    log_mass = -np.abs(z) - (18 - z) ** 2 / 60
    mass = np.exp(log_mass - log_mass.max())
    expected = np.average(z, weights=mass)
    scatter = np.average((z - expected) ** 2, weights=mass)
    np.testing.assert_allclose([mean, variance], [expected, scatter], rtol=3e-3)


def test_the_series_of_the_mills_ratio():
    """Truth: SciPy's erfcx in float64; the first term left out is 2e-6 of S(t) at t = 8."""
    t = np.linspace(8, 12, 50)
    defect = 1 - t * np.sqrt(np.pi / 2) * special.erfcx(t / np.sqrt(2))
    np.testing.assert_allclose(_mills_defect(jnp.float32(t)), defect, rtol=4e-6)


def test_quadrature_of_the_definition():
    """SciPy's adaptive quadrature of ∫ n(y|x) N(x; mean, var) dx, a check on `exact` too."""
    y, mean, var, scale = 0.9, 0.2, 0.25, 0.3

    def integrand(x):
        return stats.laplace.pdf(y, x, scale) * stats.norm.pdf(x, mean, np.sqrt(var))

    expected = np.log(integrate.quad(integrand, -5, 5, points=[y])[0])
    value = value_and_slopes(*float32(y, mean, var, scale))[0]
    np.testing.assert_allclose(value, expected, rtol=1e-6)
    np.testing.assert_allclose(exact(y - mean, var, scale)[0], expected, rtol=1e-10)


def test_posterior_holds_where_its_docstring_says():
    """Truth: a fine sum over z in float64. var/scale² to 20 anywhere, to 50 within 5 deviations."""
    for var, reach in ((1.0, 40), (5.0, 40), (20.0, 40), (30.0, 5), (50.0, 5)):
        for y in np.sqrt(var + 2) * np.linspace(0, reach, 9):
            width = var + 14 * np.sqrt(var)
            z = np.linspace(y - width, y + width, 200_001)
            log_p = -np.abs(z) - (y - z) ** 2 / (2 * var)
            p = np.exp(log_p - log_p.max())
            p /= p.sum()
            mean = p @ z
            found = laplace_posterior(*map(jnp.float32, (y, var, 1.0)))
            np.testing.assert_allclose(found[0], mean, atol=3e-5 * np.sqrt(var), rtol=1e-6)
            np.testing.assert_allclose(found[1], p @ (z - mean) ** 2, rtol=4e-3)
