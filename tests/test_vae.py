import math

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
from scipy import integrate, stats

from spread_jax.latents import gaussian_latent
from spread_jax.spreads import gaussian_spread
from spread_jax.sweeps import sweep
from spread_jax.vae import (
    VAE,
    laplace_noise,
    make_bounds,
    make_importance_weighted,
    make_vae,
    spread_entropy_of_points,
    spread_of,
    vae_training,
)

W = np.array([[0.5, -1.0, 2.0]], np.float32)  # decoder mean = z W
VAR = np.array([0.1, 0.2, 0.3], np.float32)


@pytest.fixture(scope="module")
def linear():
    """One latent, three pixels; the posterior is N(0.3 y₀, 0.25) whatever the data."""
    return VAE(
        lambda key: {},
        lambda params, y: (0.3 * y[..., :1], jnp.full_like(y[..., :1], math.log(0.25))),
        lambda params, z: (z @ params["w"], jnp.broadcast_to(VAR, (*z.shape[:-1], 3))),
        gaussian_latent(1),
    )


HYPER = {"sigma_fix": 0.2, "spread_data": 1.0}
RNG = np.random.default_rng(0)
PARAMS = {"w": jnp.asarray(W)}


def expected_bound(x, sigma_data, sigma_model):
    """E_y E_q[log N(y; zW, VAR + σ²)] - E_y KL, by hand: all moments are those of Gaussians."""
    total = VAR + sigma_model**2
    mean_z = 0.3 * x[0]
    square = 0.0
    for i in range(3):
        # y_i - z W_i, with z = 0.3 y_0 + 0.5 ε
        slope = (i == 0) - 0.3 * W[0, i]
        if i == 0:
            variance = slope**2 * sigma_data**2
        else:
            variance = sigma_data**2 + (0.3 * W[0, i]) ** 2 * sigma_data**2
        variance += W[0, i] ** 2 * 0.25
        square += ((x[i] - mean_z * W[0, i]) ** 2 + variance) / total[i]
    log_lik = -0.5 * (np.log(2 * np.pi * total).sum() + square)
    kl = 0.5 * (mean_z**2 + 0.09 * sigma_data**2 + 0.25 - 1 - math.log(0.25))
    return log_lik - kl, kl


@pytest.mark.parametrize("spread_data", [0.0, 1.0])
def test_bounds_average_to_their_expectation(linear, spread_data):
    """Truth: closed form, Monte Carlo within 5 standard errors, over batches of unequal length."""
    x = np.array([1.0, -0.5, 0.25], np.float32)
    hyper = {**HYPER, "spread_data": spread_data}
    bounds = make_bounds(linear)(PARAMS, jax.random.key(0), np.tile(x, (20_500, 1)), hyper)
    bound, kl = expected_bound(x, 0.2 * spread_data, 0.2)
    for draws, truth in ((bounds.bound, bound), (bounds.kl, kl)):
        assert draws.shape == (20_500,)
        error = 5 * draws.std() / math.sqrt(len(draws)) + 1e-5
        assert abs(draws.mean() - truth) < error
    assert len(np.unique(bounds.bound)) > 20_000  # no batch shares its noise with another


def test_active_dims_are_those_whose_posterior_mean_moves(linear):
    key = jax.random.key(0)
    x = np.zeros((10, 3), np.float32)
    plain = {"sigma_fix": 0.0, "spread_data": 1.0}
    assert make_bounds(linear)(PARAMS, key, x, plain).active_dims == 0
    x[:, 0] = np.arange(10)
    assert make_bounds(linear)(PARAMS, key, x, plain).active_dims == 1


def test_importance_weighting_reaches_the_marginal_likelihood(linear):
    """Truth: y ~ N(0, WᵀW + VAR) exactly; 2,000 draws leave less than 0.01 nats."""
    x = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
    plain = {"sigma_fix": 0.0, "spread_data": 1.0}
    wide = linear._replace(
        encode=lambda params, y: (jnp.zeros_like(y[..., :1]), jnp.zeros_like(y[..., :1]))
    )
    weighted = make_importance_weighted(wide, 2000)
    bound = weighted(PARAMS, jax.random.key(0), x, plain)
    truth = stats.multivariate_normal(cov=W.T @ W + np.diag(VAR)).logpdf(x)
    # the prior as proposal: the scatter of log mean w over keys tells the error
    again = [weighted(PARAMS, jax.random.key(i), x, plain) for i in range(1, 9)]
    error = np.std(again, axis=0, ddof=1)
    assert (np.abs(bound - truth) < 5 * error + 0.05).all()


def test_the_two_sides_of_the_noise_are_numbers():
    x = jnp.asarray(RNG.normal(size=(4, 3)), jnp.float32)
    vae = make_vae(3, latent_dim=2)
    spread = spread_of(vae, {"sigma_fix": 0.5, "spread_data": 0.0})
    np.testing.assert_array_equal(spread.sample(jax.random.key(0), x), x)
    truth = stats.norm(0, 0.5).logpdf(np.asarray(x)).sum(-1)
    np.testing.assert_allclose(spread.log_prob(x, jnp.zeros((4, 3)), None), truth, rtol=1e-5)


def test_laplace_noise_has_its_standard_deviation_and_none_at_zero():
    """Truths: SciPy's Laplace law; the plain Gaussian bit for bit; 40,000 draws."""
    x = jnp.asarray(RNG.normal(size=(4, 3)), jnp.float32)
    mean, var = jnp.zeros((4, 3)), jnp.full((4, 3), 0.3)

    @jax.jit
    def evaluate(std):
        noise = laplace_noise(std)
        gradient = jax.grad(lambda v: noise.log_prob(x, mean, v).sum())(var)
        return noise.log_prob(x, mean, None), noise.log_prob(x, mean, var), gradient

    truth = stats.laplace(0, 0.5 / np.sqrt(2)).logpdf(np.asarray(x)).sum(-1)
    np.testing.assert_allclose(evaluate(0.5)[0], truth, rtol=1e-5)
    _, plain, gradient = evaluate(0.0)
    np.testing.assert_allclose(plain, gaussian_spread(0.0).log_prob(x, mean, var), rtol=1e-6)
    assert np.isfinite(gradient).all()
    draws = np.asarray(laplace_noise(0.5).sample(jax.random.key(0), jnp.zeros((40_000, 1))))
    # the variance of a squared Laplace draw is 5 σ⁴
    assert abs(np.square(draws).mean() - 0.25) < 5 * np.sqrt(5 / 40_000) * 0.25
    np.testing.assert_array_equal(laplace_noise(0.0).sample(jax.random.key(0), x), x)


@pytest.mark.parametrize(
    ("network", "variance"),
    [("mlp", "each"), ("mlp", "shared"), ("mlp", "none"), ("conv", "each"), ("conv", "shared")],
)
def test_every_network_gives_every_variance(network, variance):
    vae = make_vae(42, latent_dim=3, variance=variance, hidden=(8,), network=network, shape=(7, 6))
    params = jax.jit(vae.init)(jax.random.key(0))
    encode, decode = jax.jit(vae.encode), jax.jit(vae.decode)
    y = jnp.asarray(RNG.random((5, 42)), jnp.float32)
    mean, log_var = encode(params, y)
    assert mean.shape == log_var.shape == (5, 3)
    # one z has the same decoding in a batch, in a batch of batches and alone
    z = jnp.asarray(RNG.normal(size=(2, 5, 3)), jnp.float32)
    mean, var = decode(params, z)
    assert mean.shape == (2, 5, 42)
    np.testing.assert_allclose(decode(params, z[1])[0], mean[1], atol=1e-5)
    if variance == "none":
        assert var is None
    else:
        np.testing.assert_allclose(var, np.full((2, 5, 42), math.exp(-3)), rtol=1e-6)


def test_a_convolution_needs_images():
    with pytest.raises(ValueError, match="shape"):
        make_vae(64, latent_dim=2, network="conv")


def test_floor_of_far_points():
    """Closed form: log n + (dim/2) log 2πeσ² where no two balls of noise meet."""
    x = 100 * jnp.arange(12.0)[:, None] * jnp.ones((1, 5))
    truth = math.log(12) + 2.5 * math.log(2 * math.pi * math.e * 0.01)
    floor = spread_entropy_of_points(jax.random.key(0), x, 0.1)
    np.testing.assert_allclose(floor, truth, rtol=1e-5)  # float32


@pytest.mark.parametrize("sigma", [0.3, 1.0, 3.0])
def test_floor_of_two_near_points(sigma):
    """Truth: quadrature of -p log p; Monte Carlo within 5 standard errors."""
    x = jnp.array([[-1.0], [1.0]])

    def integrand(y):
        p = 0.5 * (stats.norm(-1, sigma).pdf(y) + stats.norm(1, sigma).pdf(y))
        return -p * math.log(p) if p > 0 else 0.0

    truth = integrate.quad(integrand, -12 * sigma - 1, 12 * sigma + 1, points=[-1, 1])[0]
    draws = [spread_entropy_of_points(jax.random.key(i), x, sigma) for i in range(8)]
    error = 5 * np.std(draws, ddof=1) / math.sqrt(8)
    assert abs(np.mean(draws) - truth) < error + 1e-6


def test_points_without_noise_have_no_floor():
    with pytest.raises(ValueError, match="sigma must be > 0"):
        spread_entropy_of_points(jax.random.key(0), jnp.zeros((3, 2)), 0.0)


def test_entropy_of_points_does_not_see_an_offset():
    """Truth: the law moved by a constant has the same entropy; two far points, log 2 + log(2πeσ²)/2
    each coordinate."""
    x = jnp.array([[0.0, 0.0], [1.0, 0.0]])
    truth = math.log(2) + math.log(2 * math.pi * math.e * 0.01)
    for offset in (0.0, 1000.0):
        found = spread_entropy_of_points(jax.random.key(0), x + offset, 0.1, 2000)
        np.testing.assert_allclose(found, truth, atol=1e-4)


@pytest.mark.parametrize("log_var", [-20.0, -46.0, -60.0, -100.0])
def test_laplace_noise_has_finite_slopes_where_the_variance_is_tiny(log_var):
    """Truth: with y = mean + 0.3 Laplace's law is all that is left, and log_var moves nothing."""

    def log_prob(log_var):
        var = jnp.exp(jnp.full(2, log_var))
        return laplace_noise(0.1).log_prob(jnp.full(2, 0.3), jnp.zeros(2), var)

    value, slope = jax.value_and_grad(log_prob)(log_var)
    np.testing.assert_allclose(value, 2 * stats.laplace.logpdf(0.3, scale=0.1 / 2**0.5), rtol=1e-5)
    np.testing.assert_allclose(slope, 0, atol=1e-5)


@pytest.mark.parametrize("std", [-0.1, math.nan, math.inf, np.array([0.1, 0.2])])
def test_laplace_noise_names_a_wrong_std(std):
    with pytest.raises(ValueError, match="std must be"):
        laplace_noise(std)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"variance": "Each"}, "variance must be one of each, shared, none"),
        ({"network": "cnn"}, "network must be one of mlp, conv"),
        ({"network": "CONV", "shape": (2, 2)}, "network must be one of mlp, conv"),
    ],
)
def test_misspelt_choices_do_not_give_another_model(options, message, monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # as a user has it
    with pytest.raises(ValueError, match=message):
        make_vae(4, latent_dim=1, **options)


@pytest.mark.parametrize("batch_size", [0, -3, 2.0, None])
def test_batch_size_must_be_a_whole_number(linear, batch_size, monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # as a user has it
    with pytest.raises(ValueError, match="batch_size must be a whole number >= 1"):
        vae_training(linear, batch_size=batch_size, num_steps=1, watched=jnp.zeros((1, 3)))


def test_a_sweep_without_data_says_what_to_give():
    vae = make_vae(3, latent_dim=1, hidden=(4,))
    training = vae_training(vae, batch_size=2, num_steps=1, watched=jnp.zeros((1, 3)))
    grid = {"sigma_fix": 0.1, "spread_data": 1.0, "learning_rate": 1e-3}
    with pytest.raises(ValueError, match="data=x"):
        sweep(training, grid, num_seeds=1)
