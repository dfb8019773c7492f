import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from spread_jax import denoise_by_decoder, gaussian_latent, model_training, sweep, tweedie
from spread_jax.latents import bernoulli_latent
from spread_jax.oracles import posterior_mean, sample_mixture
from spread_jax.problems import two_mode_mixture, two_modes

SIGMA = 0.3
TRUTH = two_mode_mixture()


@pytest.fixture(scope="module")
def y():
    """Spread points of the toy."""
    rng = np.random.default_rng(0)
    return sample_mixture(rng, 50, TRUTH) + SIGMA * rng.standard_normal((50, 2))


def test_oracle_is_brute_force(y):
    """∫ x p(x) n(y|x) dx / p~(y) by the trapezoidal rule along the line; x_2 is 0 throughout."""
    x = np.linspace(-3, 3, 20_001)
    prior = 0.5 * (stats.norm.pdf(x, -1, 0.1) + stats.norm.pdf(x, 1, 0.1))
    weight = prior * stats.norm.pdf(y[:, :1], x, SIGMA)
    expected = (weight @ x) / weight.sum(axis=1)
    found = posterior_mean(y, TRUTH, SIGMA)
    np.testing.assert_allclose(found[:, 0], expected, rtol=1e-9)
    np.testing.assert_array_equal(found[:, 1], 0)
    np.testing.assert_array_equal(
        found.reshape(5, 10, 2), posterior_mean(y.reshape(5, 10, 2), TRUTH, SIGMA)
    )


def test_tweedie_on_the_spread_density_is_the_oracle(y):
    def log_prob(y):
        std = jnp.sqrt(jnp.array([0.1**2, 0.0]) + SIGMA**2)
        means = jnp.array([[-1.0, 0.0], [1.0, 0.0]])[:, None]
        logs = jax.scipy.stats.norm.logpdf(y[None], means, std[None, None]).sum(-1)
        return jax.nn.logsumexp(logs, axis=0) - jnp.log(2.0)

    found = jax.jit(lambda y: tweedie(y, log_prob, SIGMA))(jnp.float32(y))
    np.testing.assert_allclose(found, posterior_mean(y, TRUTH, SIGMA), atol=2e-6)


def true_decode(z):
    mean = jnp.concatenate([2 * z - 1, jnp.zeros_like(z)], axis=-1)
    return mean, jnp.broadcast_to(jnp.array([0.01, 0.0])[(None,) * (z.ndim - 1)], mean.shape)


def true_encode(y):
    return 2 * y[..., :1] / (0.1**2 + SIGMA**2)  # the log-odds of the two spread modes


def test_the_true_decoder_with_the_exact_posterior_is_the_oracle(y):
    found = denoise_by_decoder(
        jax.random.key(0),
        jnp.float32(y),
        encode=true_encode,
        decode=true_decode,
        latent=bernoulli_latent(),
        sigma=SIGMA,
    )
    np.testing.assert_allclose(found, posterior_mean(y, TRUTH, SIGMA), atol=2e-6)


def test_a_deterministic_linear_decoder_is_the_closed_form():
    """x = a z, z ~ N(0, 1): E[x|y] = a aᵀ y / (‖a‖² + sigma²), within 5 standard errors."""
    a, sigma, n = jnp.array([0.6, -1.0]), 0.5, 4000
    y = jax.random.normal(jax.random.key(1), (7, 2))
    var = sigma**2 / (a @ a + sigma**2)
    mean = y @ a / (a @ a + sigma**2)
    found = denoise_by_decoder(
        jax.random.key(0),
        y,
        encode=lambda y: (mean[:, None], jnp.full((7, 1), jnp.log(var))),
        decode=lambda z: (z * a[(None,) * (z.ndim - 1)], None),
        latent=gaussian_latent(1, num_samples=n),
        sigma=sigma,
    )
    error = np.sqrt(var / n) * np.abs(a)
    assert (np.abs(found - mean[:, None] * a[None]) < 5 * error[None]).all()


@pytest.mark.parametrize("by_decoder", [False, True])
def test_each_coordinate_has_the_noise_of_its_own_sigma(by_decoder):
    """Closed form: x ~ N(0, I), E[x|y] = y / (1 + sigma²)."""
    y, sigma = jnp.array([[1.0, 2.0], [-1.0, 0.3]]), jnp.array([0.2, 0.7])
    var = (1 + sigma**2)[None]
    if by_decoder:
        found = denoise_by_decoder(
            jax.random.key(0),
            y,
            encode=lambda y: (jnp.zeros((2, 1)), jnp.zeros((2, 1))),
            decode=lambda z: (jnp.zeros((*z.shape[:-1], 2)), jnp.ones((*z.shape[:-1], 2))),
            latent=gaussian_latent(1),
            sigma=sigma,
        )
    else:
        found = tweedie(y, lambda y: -0.5 * jnp.sum(y**2 / var, -1), sigma)
    np.testing.assert_allclose(found, y / var, atol=1e-6)


@pytest.mark.slow
def test_the_trained_spread_vae_denoises_as_the_oracle_does():
    """Seed 0 of the two modes, sigma_fix 0.1, whose decoder is within 0.03 of the truth."""
    problem = two_modes(0.1)
    vae = problem.vae()
    training = model_training(vae, sample_batch=problem.batches(128), num_steps=4000)
    runs = sweep(training, {"sigma_fix": 0.1, "learning_rate": 1e-3}, num_seeds=1)
    params = runs.params(seed=0)
    rng = np.random.default_rng(0)
    y = sample_mixture(rng, 500, TRUTH) + 0.1 * rng.standard_normal((500, 2))
    found = denoise_by_decoder(
        jax.random.key(0),
        jnp.float32(y),
        encode=lambda y: vae.encode(params, y),
        decode=lambda z: vae.decode(params, z),
        latent=vae.latent,
        sigma=0.1,
    )
    exact = posterior_mean(y, TRUTH, 0.1)
    assert np.sqrt(np.mean((found - exact) ** 2)) < 0.03
    assert np.sqrt(np.mean((y - exact) ** 2)) > 0.08  # what it is without denoising


def test_a_decoder_that_returns_no_pair_is_named():
    """Two means, one draw of z: an array of two that would unpack as mean and variance."""
    with pytest.raises(TypeError, match=r"decode must return \(mean, var\)"):
        denoise_by_decoder(
            jax.random.key(0),
            jnp.zeros((1, 1)),
            encode=lambda y: (jnp.zeros((1, 1)), jnp.zeros((1, 1))),
            decode=lambda z: jnp.zeros((2, 1, 1)),
            latent=gaussian_latent(1),
            sigma=1.0,
        )
