import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, stats

from spread_jax import Spread, gaussian_spread, no_spread

KEY = jax.random.key(0)


@pytest.mark.parametrize("sigma", [0.3, np.array([0.1, 0.5, 2.0])])
def test_gaussian_log_prob_is_scipys_normal(sigma):
    rng = np.random.default_rng(0)
    y, mean = rng.normal(size=(2, 7, 3))
    var = rng.gamma(1.0, size=(7, 3))
    expected = stats.norm.logpdf(y, mean, np.sqrt(var + sigma**2)).sum(-1)
    log_prob = gaussian_spread(sigma).log_prob(*map(jnp.float32, (y, mean, var)))
    np.testing.assert_allclose(log_prob, expected, rtol=2e-6)


def test_gaussian_density_is_the_convolution_of_noise_and_model():
    """Quadrature of the definition, ∫ n(y|x) N(x; mean, var) dx."""
    sigma, mean, var, y = 0.3, 0.2, 0.25, 0.9

    def integrand(x):
        return stats.norm.pdf(y, x, sigma) * stats.norm.pdf(x, mean, np.sqrt(var))

    expected = np.log(integrate.quad(integrand, -5, 5)[0])
    log_prob = gaussian_spread(sigma).log_prob(jnp.array([y]), jnp.array([mean]), jnp.array([var]))
    np.testing.assert_allclose(log_prob, expected, rtol=1e-6)


def test_deterministic_decoder_is_variance_zero():
    y, mean = jnp.array([[0.4, -1.0]]), jnp.array([[0.0, 1.0]])
    spread = gaussian_spread(0.5)
    np.testing.assert_array_equal(
        spread.log_prob(y, mean, None), spread.log_prob(y, mean, jnp.zeros_like(mean))
    )


@pytest.mark.parametrize("sigma", [0.2, np.array([0.1, 0.4])])
def test_sample_adds_noise_of_that_standard_deviation(sigma):
    """Monte Carlo within 5 standard errors of the first two moments."""
    n = 100_000
    x = jnp.tile(jnp.array([1.0, -2.0]), (n, 1))
    noise = np.asarray(gaussian_spread(sigma).sample(KEY, x) - x, np.float64)
    assert (np.abs(noise.mean(0)) < 5 * sigma / n**0.5).all()
    assert (np.abs(noise.var(0) - np.square(sigma)) < 5 * np.square(sigma) * (2 / n) ** 0.5).all()


@pytest.mark.parametrize("var", [0.0, 1e-38])
def test_gradients_are_finite_where_the_variance_vanishes(var):
    """The closed forms: d/dmean = r/s², d/dvar = (r²/s² - 1)/2s², with s² = sigma²."""
    y, mean, sigma = jnp.array([0.3]), jnp.array([0.1]), 0.1

    def log_prob(mean, var):
        return gaussian_spread(sigma).log_prob(y, mean, var)

    by_mean, by_var = jax.grad(log_prob, argnums=(0, 1))(mean, jnp.array([var]))
    np.testing.assert_allclose(by_mean, 0.2 / 0.01, rtol=1e-5)
    np.testing.assert_allclose(by_var, 0.5 * (0.04 / 0.01 - 1) / 0.01, rtol=1e-5)


def test_gradient_with_respect_to_log_variance_is_finite_at_float32s_smallest():
    def log_prob(log_var):
        return gaussian_spread(0.1).log_prob(jnp.zeros(1), jnp.zeros(1), jnp.exp(log_var))

    gradient = jax.grad(log_prob)(jnp.log(jnp.array([1e-38])))
    np.testing.assert_allclose(gradient, 0.0, atol=1e-30)  # -var / 2 sigma² = -5e-37


def test_no_spread_changes_no_bit_of_the_data():
    x = jax.random.normal(KEY, (100, 3))
    np.testing.assert_array_equal(no_spread().sample(KEY, x), x)


def test_traced_sigma_under_vmap_equals_one_by_one():
    x = jax.random.normal(KEY, (5, 2))
    sigmas = jnp.array([0.0, 0.1, 1.0])
    batched = jax.vmap(lambda sigma: gaussian_spread(sigma).sample(KEY, x))(sigmas)
    single = [gaussian_spread(float(sigma)).sample(KEY, x) for sigma in sigmas]
    np.testing.assert_allclose(batched, np.stack(single), rtol=1e-6)


def test_floor_only_and_noise_only_are_spreads_of_two_sigmas():
    x, mean, var = jnp.ones((1, 2)), jnp.zeros((1, 2)), jnp.ones((1, 2))
    floor_only = Spread(gaussian_spread(0.0).sample, gaussian_spread(0.5).log_prob)
    np.testing.assert_array_equal(floor_only.sample(KEY, x), x)
    expected = stats.norm.logpdf(1.0, 0.0, np.sqrt(1.25)) * 2
    np.testing.assert_allclose(floor_only.log_prob(x, mean, var), expected, rtol=1e-6)


@pytest.mark.parametrize("sigma", [-0.1, np.nan, np.inf, np.array([0.1, -1.0])])
def test_impossible_sigma_is_refused(sigma):
    with pytest.raises(ValueError, match="sigma must be finite and >= 0"):
        gaussian_spread(sigma)


def test_deterministic_decoder_without_noise_is_refused():
    with pytest.raises(ValueError, match="needs sigma > 0"):
        no_spread().log_prob(jnp.zeros(1), jnp.zeros(1), None)
