from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from spread_jax import (
    bernoulli_latent,
    elbo,
    gaussian_latent,
    gaussian_spread,
    importance_weighted_bound,
    no_spread,
    sample,
    sample_two_modes,
    spread_elbo,
)
from spread_jax.latents import Latent

KEY = jax.random.key(0)


def two_mode_model(var_y: float, var_x: float = 0.01):
    """A decoder with a component at each mode, and the encoder that tells them apart."""

    def encode(y):
        return 30 * y[..., :1]

    def decode(z):
        mean = jnp.concatenate([2 * z - 1, jnp.zeros_like(z)], -1)
        var = jnp.concatenate([jnp.full_like(z, var_x), jnp.full_like(z, var_y)], -1)
        return mean, var

    return {"encode": encode, "decode": decode, "latent": bernoulli_latent()}


class LinearGaussian:
    """x = W z + N(0, v), z ~ N(0, 1) in one dimension: every quantity in closed form."""

    weights = np.array([1.5, -0.5, 0.3])
    var = 0.2

    def __init__(self, sigma):
        noise = self.var + sigma**2
        self.covariance = np.outer(self.weights, self.weights) + noise * np.eye(3)
        precision = 1 + self.weights @ self.weights / noise
        self.gain = self.weights / noise / precision
        self.posterior_var = 1 / precision

    def log_prob(self, y):
        return stats.multivariate_normal(cov=self.covariance).logpdf(np.asarray(y, np.float64))

    def encode(self, y):
        mean = jnp.sum(y * jnp.broadcast_to(jnp.float32(self.gain), y.shape), -1, keepdims=True)
        return mean, jnp.full_like(mean, np.log(self.posterior_var))

    def decode(self, z):
        mean = z * jnp.float32(self.weights).reshape((1,) * (z.ndim - 1) + (3,))
        return mean, jnp.full_like(mean, self.var)


def gauss_hermite_latent(num_nodes=5) -> Latent:
    """One Gaussian dimension whose expectation is exact for polynomials: quadrature."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(num_nodes)
    nodes, weights = jnp.float32(nodes), jnp.float32(weights / np.sqrt(2 * np.pi))

    def expectation(key, posterior, fn):
        mean, log_var = (p[None] for p in posterior)
        z = mean + jnp.exp(0.5 * log_var) * nodes.reshape(-1, 1, 1)
        return jnp.sum(weights[:, None] * fn(z), axis=0)

    return gaussian_latent(1)._replace(expectation=expectation)


@pytest.mark.parametrize("sigma", [0.0, 0.1, 1.0])
def test_linear_gaussian_bound_at_the_exact_posterior_is_the_log_likelihood(sigma):
    """log N(y; 0, WWᵀ + (v + sigma²) I), by scipy; tight, so both terms and the KL are right."""
    model = LinearGaussian(sigma)
    x = jax.random.normal(KEY, (50, 3))
    y = gaussian_spread(sigma).sample(jax.random.split(KEY)[0], x)
    terms = spread_elbo(
        KEY,
        x,
        encode=model.encode,
        decode=model.decode,
        latent=gauss_hermite_latent(),
        spread=gaussian_spread(sigma),
    )
    np.testing.assert_allclose(terms.elbo, model.log_prob(y), rtol=1e-5)


def test_sampled_linear_gaussian_bound_agrees_within_five_standard_errors():
    model, n = LinearGaussian(0.3), 200_000
    x = jnp.tile(jnp.array([1.0, 0.0, -1.0]), (n, 1))
    terms = spread_elbo(
        KEY,
        x,
        encode=model.encode,
        decode=model.decode,
        latent=gaussian_latent(1),
        spread=gaussian_spread(0.3),
    )
    y = gaussian_spread(0.3).sample(jax.random.split(KEY)[0], x)
    difference = np.asarray(terms.elbo, np.float64) - model.log_prob(y)
    assert abs(difference.mean()) < 5 * difference.std() / n**0.5


@pytest.mark.slow
def test_spread_zero_is_the_elbo_bit_for_bit():
    x = sample_two_modes(KEY, 128)
    model = two_mode_model(0.1)

    def with_sigma(sigma):
        return spread_elbo(KEY, x, **model, spread=gaussian_spread(sigma)).elbo

    def plain():
        return elbo(KEY, x, **model).elbo

    np.testing.assert_array_equal(with_sigma(0.0), plain())
    np.testing.assert_array_equal(jax.jit(lambda: with_sigma(0.0))(), jax.jit(plain)())
    np.testing.assert_allclose(jax.jit(with_sigma)(0.0), plain(), rtol=1e-6, atol=1e-6)


def test_plain_elbo_is_the_textbooks_and_noise_free():
    """Σ_z q(z|x) log p(x|z) - KL, enumerated in float64 from the clean x."""
    x = np.asarray(sample_two_modes(KEY, 64), np.float64)
    model = two_mode_model(0.04)
    q1 = 1 / (1 + np.exp(-30 * x[:, 0]))
    q = np.stack([1 - q1, q1])
    log_lik = np.stack(
        [stats.norm.logpdf(x, [mode, 0.0], np.sqrt([0.01, 0.04])).sum(-1) for mode in (-1.0, 1.0)]
    )
    kl = np.sum(np.where(q > 0, q * np.log(np.maximum(q, 1e-300) / 0.5), 0), axis=0)
    terms = elbo(KEY, jnp.float32(x), **model)
    np.testing.assert_allclose(terms.log_lik, np.sum(q * log_lik, axis=0), rtol=1e-4)
    np.testing.assert_allclose(terms.kl, kl, rtol=1e-4)


@pytest.mark.slow
def test_plain_bound_grows_without_limit_and_the_spread_bound_does_not():
    """On x_2 = 0 a hundredth of the variance is worth ln 10 nats, again and again; under a spread
    the bound at v = 1e-2k differs from its limit at v = 0 by v / 2 sigma² and less."""
    x = sample_two_modes(KEY, 256)
    variances = 10.0 ** -np.arange(2, 31, 2)
    plain = np.array([elbo(KEY, x, **two_mode_model(v)).elbo.mean() for v in variances])
    np.testing.assert_allclose(np.diff(plain), np.log(10.0), rtol=1e-4)

    def spread(v):
        return spread_elbo(KEY, x, **two_mode_model(v), spread=gaussian_spread(0.1)).elbo.mean()

    limit = float(spread(0.0))
    assert np.isfinite(limit)
    for v in variances[1:]:
        assert abs(float(spread(v)) - limit) <= v / (2 * 0.1**2) + 1e-6


def test_spread_bound_averages_to_its_quadrature():
    """E over the noise of the bound at one x, by Gauss-Hermite; Monte Carlo within 5 s.e."""
    n, sigma, x0 = 200_000, 0.3, 0.4
    model = two_mode_model(0.05)
    terms = spread_elbo(
        KEY, jnp.tile(jnp.array([x0, 0.0]), (n, 1)), **model, spread=gaussian_spread(sigma)
    )
    nodes, weights = np.polynomial.hermite_e.hermegauss(100)
    grid = np.stack(np.meshgrid(nodes, nodes, indexing="ij"), -1).reshape(-1, 2)
    weights = np.outer(weights, weights).ravel() / (2 * np.pi)
    y = np.array([x0, 0.0]) + sigma * grid
    q = 1 / (1 + np.exp(-30 * y[:, 0]))
    log_lik = [
        stats.norm.logpdf(y, [m, 0.0], np.sqrt([0.01 + 0.09, 0.05 + 0.09])).sum(-1)
        for m in (-1.0, 1.0)
    ]
    entropy = np.where((q > 0) & (q < 1), stats.bernoulli.entropy(np.clip(q, 1e-12, 1 - 1e-12)), 0)
    bound = (1 - q) * log_lik[0] + q * log_lik[1] - (np.log(2) - entropy)
    values = np.asarray(terms.elbo, np.float64)
    # the step of the encoder at x_1 = 0 costs the quadrature about 1e-3
    assert abs(values.mean() - weights @ bound) < 5 * values.std() / n**0.5 + 2e-3


@pytest.mark.slow
def test_importance_weighted_bound_rises_to_the_exact_log_likelihood():
    """From a posterior that is wrong on purpose; each K within 5 s.e. above the one before."""
    model, n, sigma = LinearGaussian(0.3), 4000, 0.3
    x = jnp.tile(jnp.array([0.5, 0.5, 0.0]), (n, 1))
    y = gaussian_spread(sigma).sample(jax.random.split(KEY)[0], x)

    def too_wide(y):
        mean, log_var = model.encode(y)
        return mean + 0.5, log_var + 1.0

    exact = model.log_prob(y)
    gaps, errors = [], []
    for num_samples in (1, 8, 64, 1000):
        bound = importance_weighted_bound(
            KEY,
            x,
            encode=too_wide,
            decode=model.decode,
            latent=gaussian_latent(1),
            spread=gaussian_spread(sigma),
            num_samples=num_samples,
        )
        gap = exact - np.asarray(bound, np.float64)
        gaps.append(gap.mean())
        errors.append(gap.std() / n**0.5)
    assert (np.diff(gaps) < 5 * np.hypot(errors[1:], errors[:-1])).all()
    assert gaps[0] > 1.0
    assert -5 * errors[-1] < gaps[-1] < 0.01


def test_one_importance_sample_at_the_exact_posterior_is_exact():
    """There every weight is log p(y), whatever z: no Monte Carlo error at all."""
    model = LinearGaussian(0.3)
    x = jax.random.normal(KEY, (20, 3))
    y = gaussian_spread(0.3).sample(jax.random.split(KEY)[0], x)
    bound = importance_weighted_bound(
        KEY,
        x,
        encode=model.encode,
        decode=model.decode,
        latent=gaussian_latent(1),
        spread=gaussian_spread(0.3),
        num_samples=1,
    )
    np.testing.assert_allclose(bound, model.log_prob(y), rtol=2e-5)


@pytest.mark.slow
def test_samples_decoded_at_once_change_the_memory_only():
    x = sample_two_modes(KEY, 16)
    bounds = [
        importance_weighted_bound(
            KEY,
            x,
            **two_mode_model(0.1),
            spread=gaussian_spread(0.1),
            num_samples=10,
            samples_at_once=at_once,
        )
        for at_once in (1, 3, 64)
    ]
    np.testing.assert_allclose(bounds[0], bounds[1], rtol=1e-6)
    np.testing.assert_allclose(bounds[0], bounds[2], rtol=1e-6)


@pytest.mark.parametrize("counts", [{"num_samples": 0}, {"num_samples": 1, "samples_at_once": 0}])
def test_no_samples_are_refused(counts):
    with pytest.raises(ValueError, match="must be a whole number >= 1, got 0"):
        importance_weighted_bound(
            KEY, jnp.zeros((1, 2)), **two_mode_model(0.1), spread=no_spread(), **counts
        )


@pytest.mark.usefixtures("as_users_run_it")
@pytest.mark.parametrize("bound", [spread_elbo, partial(importance_weighted_bound, num_samples=2)])
@pytest.mark.parametrize(
    ("decode", "error", "words"),
    [
        (lambda z: (z, jnp.ones_like(z)), ValueError, "the data's dim 2"),  # it would broadcast
        (lambda z: jnp.concatenate([z, z], -1), TypeError, r"must return \(mean, var\)"),
    ],
)
def test_what_is_no_decoder_of_the_data_is_refused(bound, decode, error, words):
    model = {**two_mode_model(0.1), "decode": decode}
    with pytest.raises(error, match=words):
        bound(KEY, jnp.zeros((2, 2)), **model, spread=gaussian_spread(0.1))


@pytest.mark.parametrize(("sigma", "var_y"), [(None, 0.04), (0.3, 0.04 + 0.09)])
def test_samples_are_clean_unless_spread(sigma, var_y):
    """Moments of the two-mode mixture within 5 standard errors."""
    n, model = 100_000, two_mode_model(0.04)
    spread = None if sigma is None else gaussian_spread(sigma)
    x = np.asarray(
        sample(KEY, n, decode=model["decode"], latent=model["latent"], spread=spread), np.float64
    )
    var_x = 1 + 0.01 + (0 if sigma is None else sigma**2)
    for values, var in zip(x.T, (var_x, var_y), strict=True):
        assert abs(values.mean()) < 5 * (var / n) ** 0.5
        assert abs(values.var() - var) < 5 * var * (2 / n) ** 0.5


def test_deterministic_decoder_samples_its_mean():
    x = sample(KEY, 5, decode=lambda z: (2 * z, None), latent=bernoulli_latent())
    assert set(np.unique(x)) <= {0.0, 2.0}


@pytest.mark.slow
def test_leading_axes_of_any_number_broadcast():
    x = sample_two_modes(KEY, 24)
    model = two_mode_model(0.1)
    flat = elbo(KEY, x, **model).elbo
    np.testing.assert_allclose(elbo(KEY, x.reshape(4, 6, 2), **model).elbo.ravel(), flat, rtol=1e-6)


@pytest.mark.usefixtures("as_users_run_it")
@pytest.mark.parametrize("bound", [spread_elbo, partial(importance_weighted_bound, num_samples=2)])
def test_whole_numbers_are_refused(bound):
    """Noise on them would be cut to whole numbers."""
    x = jnp.zeros((4, 2), jnp.uint8)
    with pytest.raises(ValueError, match="x must be floating, got uint8"):
        bound(KEY, x, **two_mode_model(0.1), spread=gaussian_spread(0.1))


@pytest.mark.usefixtures("as_users_run_it")
@pytest.mark.parametrize(
    ("bound", "other"),
    [(spread_elbo, "kl"), (partial(importance_weighted_bound, num_samples=2), "log_ratio")],
)
def test_images_that_are_not_flattened_are_refused(bound, other):
    """Four images of 4 x 4 with one posterior each: [4, 4] - [4] would broadcast to 16 bounds."""
    words = rf"log_lik has shape \(4, 4\) and {other} \(4,\), for x of shape \(4, 4, 4\): .*flatten"
    with pytest.raises(ValueError, match=words):
        bound(
            KEY,
            jnp.zeros((4, 4, 4)),
            encode=lambda y: (jnp.zeros((4, 1)), jnp.zeros((4, 1))),
            decode=lambda z: (jnp.zeros((*z.shape[:-1], 4, 4)), jnp.ones((*z.shape[:-1], 4, 4))),
            latent=gaussian_latent(1),
            spread=gaussian_spread(0.1),
        )


def test_a_bound_carries_the_encoders_own_posterior():
    """Truth: what the encoder returned, as the very object; the bound is log_lik - kl."""
    posterior = {"mean": jnp.zeros((3, 1)), "log_var": jnp.zeros((3, 1))}  # a family of one's own
    latent = gaussian_latent(1)._replace(
        expectation=lambda key, posterior, fn: fn(posterior["mean"][None])[0],
        kl=lambda key, posterior: jnp.full(3, 2.0),
    )
    bound = elbo(
        KEY,
        jnp.zeros((3, 1)),
        encode=lambda y: posterior,
        decode=lambda z: (z, jnp.ones_like(z)),
        latent=latent,
    )
    assert bound.posterior is posterior
    np.testing.assert_array_equal(bound.elbo, bound.log_lik - 2.0)


def test_a_kl_by_draws_has_a_key():
    """A latent without a closed form: its draws average to that of the one that has it."""
    exact = gaussian_latent(1)
    n = 40_000
    posterior = (jnp.full((n, 1), 0.5), jnp.full((n, 1), -1.0))

    def by_one_draw(key, posterior):
        return -exact.log_ratio(exact.sample(key, posterior), posterior)

    bound = elbo(
        KEY,
        jnp.zeros((n, 1)),
        encode=lambda y: posterior,
        decode=lambda z: (z, jnp.ones_like(z)),
        latent=exact._replace(kl=by_one_draw),
    )
    draws = np.asarray(bound.kl, np.float64)
    truth = float(exact.kl(KEY, posterior)[0])
    assert abs(draws.mean() - truth) < 5 * draws.std() / n**0.5
