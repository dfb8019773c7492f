import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import logsumexp
from scipy.stats import multivariate_normal

import spread_jax as sj
from spread_jax.spreads import Spread, laplace_noise

DIM = 3
MODEL = sj.mixture_model(DIM, 2)
PARAMS = {
    "logits": jnp.array([0.3, -0.5]),
    "means": jnp.array([[0.0, 1.0, -1.0], [0.5, -0.5, 0.2]]),
    "factors": jnp.array(
        [
            [[1.0, 9.0, 9.0], [0.8, 0.6, 9.0], [-0.3, 0.2, 0.4]],  # what is above counts nothing
            [[0.7, 9.0, 9.0], [0.7, 0.0, 9.0], [0.0, 0.0, 0.0]],  # a line: two columns constant
        ]
    ),
}
FACTOR = np.array([[0.3], [-0.2], [0.5]])
FLOAT32 = np.finfo(np.float32).eps


def exact_log_prob(y, params, covariance):
    """Float64, by SciPy."""
    logits, means, factors = (np.float64(params[n]) for n in ("logits", "means", "factors"))
    factors = np.tril(factors)
    joint = [
        logit + multivariate_normal.logpdf(np.float64(y), mean, factor @ factor.T + covariance)
        for logit, mean, factor in zip(logits, means, factors, strict=True)
    ]
    return logsumexp(joint, axis=0) - logsumexp(logits)


def fixed_volume_covariance(directions, sigma):
    shape = np.eye(DIM) + directions @ directions.T
    return sigma**2 * shape / np.linalg.det(shape) ** (1 / DIM)


LAWS = {
    **{f"gaussian {s}": (sj.gaussian_spread(s), np.eye(DIM) * s**2) for s in (0.01, 0.1, 0.3, 1.0)},
    "gaussian by dim": (
        sj.gaussian_spread(np.array([0.03, 0.1, 1.0])),
        np.diag([0.03**2, 0.01, 1.0]),
    ),
    "low rank": (sj.low_rank_spread(FACTOR, 0.1), FACTOR @ FACTOR.T + 0.01 * np.eye(DIM)),
    "fixed volume": (
        sj.fixed_volume_spread(2 * FACTOR, 0.2),
        fixed_volume_covariance(2 * FACTOR, 0.2),
    ),
    "sum": (
        sj.with_gaussian(sj.low_rank_spread(FACTOR, 0.1), 0.3),
        FACTOR @ FACTOR.T + 0.1 * np.eye(DIM),
    ),
    "of two laws": (
        Spread(sj.no_spread().sample, sj.gaussian_spread(0.3).log_prob),
        0.09 * np.eye(DIM),
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("law", LAWS)
def test_the_spread_density_is_scipys(law):
    """Truth: SciPy's in float64. Float32 keeps 1e-4 of it, and of Σ, for these laws."""
    spread, covariance = LAWS[law]
    found = sj.noise_covariance(spread, DIM)
    np.testing.assert_allclose(found, covariance, atol=1e-5 * covariance.max())
    draws = MODEL.sample(PARAMS, jax.random.key(0), 200)
    far = LAWS["sum"][0].sample(jax.random.key(1), draws)
    near = sj.gaussian_spread(0.01).sample(jax.random.key(2), draws)
    y = jnp.concatenate([near, far])
    found = jax.jit(MODEL.log_prob, static_argnums=2)(PARAMS, y, spread)
    exact = exact_log_prob(y, PARAMS, covariance)
    np.testing.assert_allclose(found, exact, rtol=1e-4, atol=1e-4)


def test_leading_axes_are_a_batch():
    y = jax.random.normal(jax.random.key(0), (4, 5, DIM))
    spread = sj.gaussian_spread(0.3)
    found = MODEL.log_prob(PARAMS, y, spread)
    flat = MODEL.log_prob(PARAMS, y.reshape(-1, DIM), spread)
    np.testing.assert_allclose(found, flat.reshape(4, 5), rtol=1e-5)  # two programs
    with pytest.raises(ValueError, match=r"model's dim 3, got shape \(4, 1\)"):
        MODEL.log_prob(PARAMS, y[0, :4, :1], spread)


@pytest.mark.slow
@pytest.mark.parametrize("sigma", [0.0, 0.2, [0.3, 0.0, 0.1]])
def test_a_traced_sigma_is_a_concrete_one(sigma):
    """0 among them, where Σ is exactly 0; factors of full rank, which have a density without it."""
    params = {**PARAMS, "factors": PARAMS["factors"].at[1].set(0.5 * jnp.eye(DIM))}
    y = jax.random.normal(jax.random.key(0), (50, DIM))
    sigma = jnp.array(sigma)
    traced = jax.jit(lambda s: MODEL.log_prob(params, y, sj.gaussian_spread(s)))(sigma)
    np.testing.assert_allclose(
        traced, MODEL.log_prob(params, y, sj.gaussian_spread(sigma)), rtol=1e-5
    )
    covariance = np.eye(DIM) * np.float64(sigma) ** 2
    np.testing.assert_allclose(traced, exact_log_prob(y, params, covariance), rtol=1e-4)
    found = jax.jit(lambda s: sj.noise_covariance(sj.gaussian_spread(s), DIM))(sigma)
    np.testing.assert_allclose(found, covariance, rtol=4 * FLOAT32, atol=0)


@pytest.mark.slow
def test_noise_that_is_not_gaussian_is_refused():
    """With concrete parameters by name, with traced ones as NaN."""
    nearly_gaussian = sj.with_gaussian(sj.laplace_spread(1.0), 3.0)
    for spread in (sj.laplace_spread(0.1), nearly_gaussian):
        with pytest.raises(ValueError, match="must be Gaussian: gaussian_spread, low_rank_spread"):
            sj.noise_covariance(spread, 2)
    with pytest.raises(ValueError, match="must be Gaussian"):
        jax.jit(lambda y: y @ sj.noise_covariance(sj.laplace_spread(0.1), 2))(jnp.zeros((1, 2)))
    with pytest.raises(ValueError, match="injective_mean_spread"):
        sj.noise_covariance(sj.injective_mean_spread(lambda x: 2 * x, 0.1), 2)
    of_laplace = jax.jit(lambda s: sj.noise_covariance(laplace_noise(s), 2))
    np.testing.assert_array_equal(of_laplace(0.0), 0)
    assert np.isnan(of_laplace(0.1)).all()


@pytest.mark.slow
def test_the_gradient_at_singular_factors_is_that_of_float64():
    """Truth: central differences of SciPy's float64 densities, steps of 1e-5."""
    covariance = 0.01 * np.eye(DIM)
    y = sj.gaussian_spread(0.1).sample(
        jax.random.key(0), MODEL.sample(PARAMS, jax.random.key(1), 50)
    )
    gradient = jax.grad(lambda params: MODEL.log_prob(params, y, sj.gaussian_spread(0.1)).mean())(
        PARAMS
    )
    for name, value in PARAMS.items():
        value = np.float64(value)
        slopes = np.zeros(value.shape)
        for index in np.ndindex(*value.shape):
            step = np.zeros(value.shape)
            step[index] = 1e-5
            up, down = (
                exact_log_prob(y, {**PARAMS, name: value + sign * step}, covariance).mean()
                for sign in (1, -1)
            )
            slopes[index] = (up - down) / 2e-5
        np.testing.assert_allclose(gradient[name], slopes, atol=1e-3 * max(1, abs(slopes).max()))


@pytest.mark.slow
def test_samples_have_the_moments_of_the_mixture():
    """Mean and covariance within 5 standard errors; of a single line its constant column exactly"""
    n = 20_000
    x = np.float64(MODEL.sample(PARAMS, jax.random.key(0), n))
    weights = np.float64(jax.nn.softmax(PARAMS["logits"]))
    means, factors = np.float64(PARAMS["means"]), np.tril(np.float64(PARAMS["factors"]))
    mean = weights @ means
    centred = means - mean
    covariance = np.einsum("k,kij,klj->il", weights, factors, factors) + (centred.T * weights) @ (
        centred
    )
    error = np.sqrt(np.diag(covariance) / n)
    assert (np.abs(x.mean(axis=0) - mean) < 5 * error).all()
    products = (x - mean)[:, :, None] * (x - mean)[:, None]
    assert (
        np.abs(products.mean(axis=0) - covariance) < 5 * products.std(axis=0) / np.sqrt(n)
    ).all()
    line = {name: value[1:] for name, value in PARAMS.items()}
    x = MODEL._replace(num_components=1).sample(line, jax.random.key(0), 100)
    np.testing.assert_array_equal(x[:, 2], line["means"][0, 2])


def test_the_bound_is_the_density_of_one_draw_and_it_is_a_model():
    assert isinstance(MODEL, sj.Model)
    x = MODEL.sample(PARAMS, jax.random.key(0), 20, sj.no_spread())
    spread, key = sj.gaussian_spread(0.3), jax.random.key(1)
    bound = MODEL.bound(PARAMS, key, x, spread)
    np.testing.assert_array_equal(bound.elbo, MODEL.log_prob(PARAMS, spread.sample(key, x), spread))
    assert bound.posterior is None
    assert not bound.kl.any()


@pytest.mark.slow
def test_training_finds_two_modes_and_their_constant_column():
    """Truths: means ±1 and 0.7, std 0.1 and 0. Near 0 the loss of the constant column's std s is
    s⁴ / 4σ⁴, and its gradient over n points scatters by √2 s / σ²√n, so Adam at rate η walks
    randomly by η with the drift -η s²√n / √2σ²: s has the density exp(-|s/a|³), with
    a³ = 3 η σ² / √2n, and lies within 2a but for e⁻⁸.
    """
    sigma, learning_rate, batch_size, data_std = 0.1, 0.01, 256, 0.1

    def sample_batch(key, data, hyper):
        return sj.sample_two_modes(key, batch_size, data_std) + jnp.array([[0.0, 0.7]])

    model = sj.mixture_model(2, 2, initial_std=0.5)
    training = sj.model_training(model, sample_batch=sample_batch, num_steps=3000)
    runs = sj.sweep(training, {"sigma_fix": sigma, "learning_rate": learning_rate}, num_seeds=8)
    params = runs.params()
    means = np.take_along_axis(params["means"], params["means"][..., :1].argsort(axis=1), axis=1)
    stds = np.linalg.norm(np.tril(params["factors"]), axis=-1)
    np.testing.assert_allclose(means[..., 0], np.tile([-1.0, 1.0], (8, 1)), atol=0.05)
    np.testing.assert_allclose(means[..., 1], 0.7, atol=0.05)
    np.testing.assert_allclose(stds[..., 0], data_std, atol=data_std / 2)
    per_mode = batch_size / 2
    bound = 2 * (3 * learning_rate * sigma**2 / np.sqrt(2 * per_mode)) ** (1 / 3)
    assert stds[..., 1].max() < bound
    x = model.sample(runs.params(seed=0), jax.random.key(0), 1000)
    assert x[:, 1].std() < bound


def test_without_noise_the_likelihood_of_a_constant_column_runs_away_in_numbers():
    """Truth: log N(0; 0, s²) rises by log 10 for each factor of ten, and no loss is NaN."""
    x = jnp.zeros((1, 1))
    model = sj.mixture_model(1, 1)

    def log_lik(s):
        params = {"logits": jnp.zeros(1), "means": jnp.zeros((1, 1)), "factors": s[None, None]}
        return model.bound(params, jax.random.key(0), x, sj.no_spread()).elbo[0]

    found = [float(log_lik(jnp.array([10.0**-i]))) for i in range(9)]
    np.testing.assert_allclose(np.diff(found), np.log(10), rtol=1e-5)
