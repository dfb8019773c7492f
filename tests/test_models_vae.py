import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from spread_jax.latents import gaussian_latent
from spread_jax.models.model import Model
from spread_jax.models.networks import GaussianDecoder, GaussianEncoder
from spread_jax.models.vae import linen_vae, make_vae, watch_sigma
from spread_jax.spreads import Spread, gaussian_spread, no_spread

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)


@pytest.mark.parametrize("sigma_data", [0.0, 0.2])
def test_the_bound_averages_to_its_expectation(linear_vae, sigma_data):
    """Truth: closed form, noise of 0.2 on the model and other noise on the data; Monte Carlo
    within 5 standard errors."""
    x = np.array([1.0, -0.5, 0.25], np.float32)
    spread = Spread(gaussian_spread(sigma_data).sample, gaussian_spread(0.2).log_prob)
    found = jax.jit(lambda key, x: linear_vae.vae.bound(linear_vae.params, key, x, spread))(
        KEY, np.tile(x, (20_000, 1))
    )
    elbo, kl = linear_vae.expected_bound(x, sigma_data, 0.2)
    for draws, truth in ((np.asarray(found.elbo), elbo), (np.asarray(found.kl), kl)):
        assert draws.shape == (20_000,)
        error = 5 * draws.std() / math.sqrt(len(draws)) + 1e-5
        assert abs(draws.mean() - truth) < error


def test_importance_weighting_reaches_the_marginal_likelihood(linear_vae):
    """Truth: y ~ N(0, WᵀW + VAR) exactly; 2,000 draws leave less than 0.01 nats."""
    x = jnp.float32(RNG.normal(size=(40, 3)))
    wide = linear_vae.vae._replace(
        encode=lambda params, y: (jnp.zeros_like(y[..., :1]), jnp.zeros_like(y[..., :1]))
    )
    weighted = jax.jit(
        lambda key: wide.importance_weighted_bound(linear_vae.params, key, x, no_spread(), 2000)
    )
    bound = weighted(KEY)
    truth = stats.multivariate_normal(cov=linear_vae.covariance).logpdf(x)
    # the prior as proposal: the scatter of log mean w over keys tells the error
    again = [weighted(jax.random.key(i)) for i in range(1, 9)]
    error = np.std(again, axis=0, ddof=1)
    assert (np.abs(bound - truth) < 5 * error + 0.05).all()


def test_samples_are_those_of_the_model_whatever_the_spread(linear_vae):
    """Truth: the covariance WᵀW + VAR, each entry within 5 standard errors of 100,000 draws."""
    n = 100_000
    x = linear_vae.vae.sample(linear_vae.params, KEY, n)
    noisy = linear_vae.vae.sample(linear_vae.params, KEY, n, gaussian_spread(3.0))
    np.testing.assert_array_equal(x, noisy)
    truth = linear_vae.covariance
    error = np.sqrt((np.outer(np.diag(truth), np.diag(truth)) + truth**2) / n)
    assert (np.abs(np.cov(np.asarray(x, np.float64).T) - truth) < 5 * error).all()


def test_without_variance_the_samples_are_the_decoders_means(linear_vae):
    """Truth: z W for z of the same prior, so every sample lies along W."""
    bare = linear_vae.vae.without_variance()
    x = np.asarray(bare.sample(linear_vae.params, KEY, 50), np.float64)
    w = np.asarray(linear_vae.params["w"], np.float64)
    z = x @ w.T / np.sum(w**2)
    np.testing.assert_allclose(x, z @ w, atol=1e-6)
    assert np.std(z) > 0.5
    z = jnp.float32(z)
    mean, var = bare.decode(linear_vae.params, z)
    np.testing.assert_array_equal(mean, linear_vae.vae.decode(linear_vae.params, z)[0])
    assert var is None


def test_the_watched_sigma_is_the_decoders_at_posterior_means(linear_vae):
    """Truth: σ_i = s_i exp(z) with z = 0.3 y₀ at three points, by hand in NumPy; the joint one at a
    draw of z."""
    s = np.array([0.1, 0.2, 0.4])
    vae = linear_vae.vae._replace(
        decode=lambda params, z: (
            jnp.zeros((*z.shape[:-1], 3)),
            jnp.square(jnp.exp(z) * jnp.float32(s)[None]),
        )
    )
    points = np.array([[1.0, 0, 0], [-2.0, 5, 5], [0.5, 1, 1]], np.float32)
    sigma = s * np.exp(0.3 * points[:, :1])
    points = jnp.asarray(points)
    found = watch_sigma(vae, points)({})
    np.testing.assert_allclose(found["sigma"], stats.gmean(sigma, axis=0), rtol=1e-5)
    np.testing.assert_allclose(found["min_sigma"], sigma.min(), rtol=1e-5)
    np.testing.assert_allclose(found["median_sigma"], np.median(sigma), rtol=1e-5)
    z = vae.latent.sample(jax.random.key(0), vae.encode({}, points))
    at_draw = s * np.exp(np.asarray(z, np.float64))
    joint = 3**0.25 / np.sqrt((at_draw**-2).sum(axis=-1))
    np.testing.assert_allclose(found["joint_sigma"], joint.min(), rtol=1e-5)
    assert watch_sigma(vae.without_variance(), points)({}) == {}


def test_a_vae_is_a_model(linear_vae):
    assert isinstance(linear_vae.vae, Model)
    assert isinstance(make_vae(3, latent_dim=1), Model)


def test_linen_modules_keep_their_own_parameters():
    """Truth: the modules' own init and apply."""
    encoder, decoder = GaussianEncoder((5,), 2), GaussianDecoder((5,), dim=3)
    vae = linen_vae(encoder, decoder, gaussian_latent(2), dim=3)
    encoder_key, decoder_key = jax.random.split(KEY)
    params = vae.init(KEY)
    y, z = jnp.ones((4, 3)), jnp.ones((4, 2))
    of_encoder = encoder.init(encoder_key, jnp.zeros((1, 3)))
    of_decoder = decoder.init(decoder_key, jnp.zeros((1, 2)))
    jax.tree.map(np.testing.assert_array_equal, params["encoder"], of_encoder)
    jax.tree.map(np.testing.assert_array_equal, params["decoder"], of_decoder)
    for found, truth in (
        (vae.encode(params, y), encoder.apply(of_encoder, y)),
        (vae.decode(params, z), decoder.apply(of_decoder, z)),
    ):
        jax.tree.map(np.testing.assert_array_equal, found, truth)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("network", "variance"),
    [
        *(("mlp", variance) for variance in ("each", "shared", "none")),
        *(("conv", variance) for variance in ("each", "shared")),
    ],
)
def test_every_network_gives_every_variance(network, variance):
    vae = make_vae(42, latent_dim=3, variance=variance, hidden=(8,), network=network, shape=(7, 6))
    params = jax.jit(vae.init)(KEY)
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
    with pytest.raises(ValueError, match="give their shape"):
        make_vae(64, latent_dim=2, network="conv")


@pytest.mark.usefixtures("as_users_run_it")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"variance": "Each"}, "variance must be one of each, shared, none"),
        ({"network": "cnn"}, "network must be one of mlp, conv"),
        ({"network": "CONV", "shape": (2, 2)}, "network must be one of mlp, conv"),
        ({"latent_dim": 0}, "dim must be a whole number >= 1, got 0"),
    ],
)
def test_misspelt_choices_do_not_give_another_model(options, message):
    with pytest.raises(ValueError, match=message):
        make_vae(4, **{"latent_dim": 1, **options})


@pytest.mark.slow
@pytest.mark.parametrize("network", ["mlp", "conv"])
def test_images_are_decoded_into_pixels(network):
    """By hand: latents so large that a linear layer leaves [0, 1]; a sigmoid cannot."""
    z = 100 * jax.random.normal(jax.random.key(1), (50, 2))
    for shape, within in (((4, 4), True), (None, False)):
        if network == "conv" and shape is None:
            continue
        vae = make_vae(16, latent_dim=2, hidden=(8,), network=network, shape=shape)
        mean, _ = vae.decode(vae.init(jax.random.key(0)), z)
        assert bool((mean.min() >= 0) & (mean.max() <= 1)) is within
