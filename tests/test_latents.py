import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from spread_jax import (
    bernoulli_latent,
    gaussian_latent,
    gaussian_spread,
    importance_weighted_bound,
    mixture_latent,
    spread_elbo,
)

KEY = jax.random.key(0)


def brute_force_bernoulli(logits, prob, fn):
    """E_q[fn] and KL(q || p) by enumeration in float64, one posterior."""
    q = 1 / (1 + np.exp(-np.asarray(logits, np.float64)))
    expectation = kl = 0.0
    for state in itertools.product((0, 1), repeat=len(q)):
        z = np.array(state)
        mass = np.prod(np.where(z, q, 1 - q))
        prior = np.prod(np.where(z, prob, 1 - prob))
        expectation += mass * fn(z)
        kl += mass * np.log(mass / prior)
    return expectation, kl


@pytest.mark.parametrize("dim", [1, 3])
def test_bernoulli_expectation_and_kl_are_sums_over_all_states(dim):
    rng = np.random.default_rng(0)
    logits = rng.normal(scale=2, size=(6, dim))
    offset = rng.normal(size=dim)
    latent = bernoulli_latent(prob=0.3, dim=dim)
    expectation = latent.expectation(
        KEY, jnp.float32(logits), lambda z: jnp.sum(jnp.square(z - offset.reshape(1, 1, -1)), -1)
    )
    expected = [
        brute_force_bernoulli(row, 0.3, lambda z: np.sum((z - offset) ** 2)) for row in logits
    ]
    np.testing.assert_allclose(expectation, [e for e, _ in expected], rtol=1e-5)
    np.testing.assert_allclose(
        latent.kl(KEY, jnp.float32(logits)), [kl for _, kl in expected], rtol=2e-4
    )


def test_bernoulli_states_are_shared_by_the_batch():
    seen = []
    bernoulli_latent(dim=2).expectation(
        KEY, jnp.zeros((5, 7, 2)), lambda z: (seen.append(z.shape), z.sum(-1))[1]
    )
    assert seen == [(4, 1, 1, 2)]


@settings(deadline=None, max_examples=30)
@given(st.floats(-80, 80), st.floats(0.01, 0.99))
def test_bernoulli_kl_is_never_negative_nor_infinite(logit, prob):
    kl = float(bernoulli_latent(prob).kl(KEY, jnp.array([logit])))
    assert -1e-6 <= kl <= max(-np.log(prob), -np.log1p(-prob)) + 1e-5


def test_bernoulli_log_ratio_averages_to_minus_kl():
    """E_q[log p - log q] = -KL, exactly, by the latent's own exact sum."""
    latent = bernoulli_latent(0.2, dim=2)
    logits = jnp.array([[0.5, -3.0], [2.0, 0.1]])
    averaged = latent.expectation(
        KEY,
        logits,
        lambda z: latent.log_ratio(jnp.broadcast_to(z, (4, 2, 2)), jnp.tile(logits, (4, 1, 1))),
    )
    np.testing.assert_allclose(averaged, -latent.kl(KEY, logits), rtol=1e-5)


def test_samples_have_the_rates_of_prior_and_posterior():
    """Within 5 standard errors of a binomial."""
    n, latent = 100_000, bernoulli_latent(0.3)
    prior = np.asarray(latent.sample_prior(KEY, n))
    assert prior.shape == (n, 1)
    assert set(np.unique(prior)) == {0.0, 1.0}
    assert abs(prior.mean() - 0.3) < 5 * (0.3 * 0.7 / n) ** 0.5
    posterior = np.asarray(latent.sample(KEY, jnp.full((n, 1), np.log(4.0))))
    assert abs(posterior.mean() - 0.8) < 5 * (0.8 * 0.2 / n) ** 0.5


def test_gaussian_kl_keeps_its_digits_where_q_is_close_to_p():
    """The closed form in float64, down to a KL of 1e-9 nats."""
    for scale in (1.0, 1e-2, 1e-4):
        mean, log_var = scale * np.array([[0.5, -1.0]]), scale * np.array([[0.3, 0.2]])
        mean, log_var = np.float32(mean), np.float32(log_var)
        exact = 0.5 * np.sum(
            np.float64(mean) ** 2 + np.expm1(np.float64(log_var)) - np.float64(log_var)
        )
        kl = gaussian_latent(2).kl(KEY, (jnp.array(mean), jnp.array(log_var)))
        np.testing.assert_allclose(kl, exact, rtol=1e-3)


def test_gaussian_log_ratio_is_scipys():
    z, mean, log_var = np.random.default_rng(0).normal(size=(3, 5, 2))
    expected = stats.norm.logpdf(z) - stats.norm.logpdf(z, mean, np.exp(0.5 * log_var))
    log_ratio = gaussian_latent(2).log_ratio(
        jnp.float32(z), (jnp.float32(mean), jnp.float32(log_var))
    )
    np.testing.assert_allclose(log_ratio, expected.sum(-1), rtol=1e-4, atol=1e-5)


def test_gaussian_expectation_and_samples_have_the_moments_of_q():
    """Within 5 standard errors: E z² = mean² + var."""
    n = 200_000
    mean, var = 0.7, 0.25
    posterior = (jnp.full((1, 1), mean), jnp.full((1, 1), np.log(var)))
    second = gaussian_latent(1, num_samples=n).expectation(
        KEY, posterior, lambda z: jnp.square(z)[..., 0]
    )
    error = ((4 * mean**2 * var + 2 * var**2) / n) ** 0.5
    assert abs(float(second[0]) - (mean**2 + var)) < 5 * error
    draws = gaussian_latent(1).sample(KEY, tuple(jnp.tile(p, (n, 1)) for p in posterior))
    assert abs(float(draws.mean()) - mean) < 5 * (var / n) ** 0.5


@pytest.mark.parametrize("prob", [0.0, 1.0, -1.0, 2.0, np.nan])
def test_impossible_prior_probability_is_refused(prob):
    with pytest.raises(ValueError, match="strictly between 0 and 1"):
        bernoulli_latent(prob)


@pytest.mark.parametrize(
    "make", [lambda: bernoulli_latent(dim=0), lambda: bernoulli_latent(dim=17)]
)
def test_states_that_cannot_be_enumerated_are_refused(make):
    with pytest.raises(ValueError, match="1 to 16"):
        make()


@pytest.mark.parametrize("arguments", [(0, 1), (2, 0)])
def test_empty_gaussian_latent_is_refused(arguments):
    with pytest.raises(ValueError, match="must be a whole number >= 1, got 0"):
        gaussian_latent(*arguments)


@pytest.mark.parametrize("width", [1, 3])
def test_posteriors_of_another_width_are_refused(width):
    logits = jnp.zeros((5, width))
    for latent, posterior in (
        (bernoulli_latent(dim=2), logits),
        (gaussian_latent(2), (logits, logits)),
    ):
        with pytest.raises(ValueError, match="latent's dim 2"):
            latent.kl(KEY, posterior)
        with pytest.raises(ValueError, match="latent's dim 2"):
            latent.expectation(KEY, posterior, lambda z: z.sum(-1))


WEIGHTS = np.array([0.5, 1.5, 1.0])  # their sum is not 1
MEANS = np.array([[-1.0, 0.0], [2.0, 1.0], [0.0, -2.0]])
COVARIANCES = np.array([[[0.5, 0.2], [0.2, 0.3]], [[1.0, -0.6], [-0.6, 0.8]], np.eye(2)])


def prior_density(z):
    """Of the mixture above, by SciPy in float64."""
    shares = WEIGHTS / WEIGHTS.sum()
    parts = zip(shares, MEANS, COVARIANCES, strict=True)
    return sum(w * stats.multivariate_normal.pdf(z, m, c) for w, m, c in parts)


def three_components(num_samples=1):
    return mixture_latent(*map(np.float32, (WEIGHTS, MEANS, COVARIANCES)), num_samples=num_samples)


def standard_mixture(dim, num_samples=1):
    return mixture_latent(
        jnp.ones(1), jnp.zeros((1, dim)), jnp.eye(dim)[None], num_samples=num_samples
    )


def some_posteriors(seed=0):
    z, mean, log_var = map(jnp.float32, np.random.default_rng(seed).normal(size=(3, 5, 2)))
    return z, (mean, log_var)


def test_one_standard_component_has_the_log_ratio_of_the_gaussian_latent():
    """Truth: gaussian_latent; also its draws of q, by the same key, to the bit."""
    z, posterior = some_posteriors()
    mixture, gaussian = standard_mixture(2), gaussian_latent(2)
    np.testing.assert_allclose(
        mixture.log_ratio(z, posterior), gaussian.log_ratio(z, posterior), rtol=1e-5, atol=1e-5
    )
    np.testing.assert_array_equal(mixture.sample(KEY, posterior), gaussian.sample(KEY, posterior))


def test_one_standard_component_has_the_kl_of_the_gaussian_latent():
    """Within 5 standard errors: log p of a draw has variance Σ_i (v²/2 + v mean²), v of q."""
    n = 100_000
    _, (mean, log_var) = some_posteriors()
    kl = standard_mixture(2, num_samples=n).kl(KEY, (mean, log_var))
    var = np.exp(np.float64(log_var))
    error = np.sqrt((var**2 / 2 + var * np.float64(mean) ** 2).sum(axis=-1) / n)
    exact = gaussian_latent(2).kl(KEY, (mean, log_var))
    assert (np.abs(kl - exact) < 5 * error).all()


def test_mixture_log_ratio_is_scipys():
    z, (mean, log_var) = some_posteriors()
    posterior = stats.norm.logpdf(z, mean, np.exp(0.5 * np.float64(log_var))).sum(-1)
    log_ratio = three_components().log_ratio(z, (mean, log_var))
    np.testing.assert_allclose(
        log_ratio, np.log(prior_density(z)) - posterior, rtol=1e-4, atol=1e-5
    )


def test_mixture_log_ratio_broadcasts_over_leading_axes():
    z, (mean, log_var) = some_posteriors()
    latent = three_components()
    tiled = latent.log_ratio(
        *(jax.tree.map(lambda x: jnp.tile(x, (3, 2, 1, 1)), (z, (mean, log_var))))
    )
    assert tiled.shape == (3, 2, 5)
    expected = np.broadcast_to(latent.log_ratio(z, (mean, log_var)), (3, 2, 5))
    np.testing.assert_allclose(tiled, expected, rtol=1e-5, atol=1e-5)


def test_mixture_samples_have_its_moments():
    """Within 5 standard errors, of mean and second moments, in closed form."""
    n = 100_000
    z = np.float64(three_components().sample_prior(KEY, n))
    assert z.shape == (n, 2)
    shares = WEIGHTS / WEIGHTS.sum()
    second = COVARIANCES + MEANS[:, :, None] * MEANS[:, None, :]
    error = z.std(axis=0) / n**0.5
    assert (np.abs(z.mean(axis=0) - shares @ MEANS) < 5 * error).all()
    products = z[:, :, None] * z[:, None, :]
    error = products.std(axis=0) / n**0.5
    expected = np.einsum("k,kij->ij", shares, second)
    assert (np.abs(products.mean(axis=0) - expected) < 5 * error).all()


@pytest.mark.parametrize(("mean", "log_var"), [(0.0, 0.0), (2.5, -2.0), (-1.0, 1.0)])
def test_mixture_kl_is_that_of_quadrature(mean, log_var):
    """In one dimension, within 5 standard errors."""
    n = 100_000
    latent = mixture_latent([0.3, 0.7], [[-2.0], [2.0]], [[[0.25]], [[1.0]]], num_samples=n)
    kl = float(latent.kl(KEY, (jnp.array([[mean]]), jnp.array([[log_var]])))[0])
    grid = np.linspace(-25, 25, 200_001)
    q = stats.norm(mean, np.exp(log_var / 2))
    log_p = np.logaddexp(
        np.log(0.3) + stats.norm.logpdf(grid, -2, 0.5), np.log(0.7) + stats.norm.logpdf(grid, 2, 1)
    )
    exact = np.trapezoid(q.pdf(grid) * (q.logpdf(grid) - log_p), grid)
    mean_log_p = np.trapezoid(q.pdf(grid) * log_p, grid)
    error = (np.trapezoid(q.pdf(grid) * (log_p - mean_log_p) ** 2, grid) / n) ** 0.5
    assert abs(kl - exact) < 5 * error
    assert error < 0.02


def test_mixture_expectation_has_the_moments_of_q():
    """Within 5 standard errors: E z² = mean² + var, whatever the prior."""
    n, mean, var = 100_000, 0.7, 0.25
    posterior = (jnp.full((1, 2), mean), jnp.full((1, 2), np.log(var)))
    second = three_components(num_samples=n).expectation(
        KEY, posterior, lambda z: jnp.square(z)[..., 0]
    )
    error = ((4 * mean**2 * var + 2 * var**2) / n) ** 0.5
    assert abs(float(second[0]) - (mean**2 + var)) < 5 * error


@pytest.mark.slow
def test_weights_need_not_sum_to_one_and_may_be_zero():
    """Truth: the same mixture with weights that do, and without the component."""
    z, posterior = some_posteriors()
    plain = three_components()
    more = mixture_latent(
        np.float32(np.append(40 * WEIGHTS, 0.0)),
        np.float32(np.concatenate([MEANS, [[50.0, 50.0]]])),
        np.float32(np.concatenate([COVARIANCES, np.eye(2)[None]])),
    )
    np.testing.assert_allclose(
        more.log_ratio(z, posterior), plain.log_ratio(z, posterior), rtol=1e-5, atol=1e-5
    )
    assert float(more.sample_prior(KEY, 20_000).max()) < 25
    gradient = jax.grad(lambda z: more.log_ratio(z, posterior).sum())(z)
    assert bool(jnp.isfinite(gradient).all())


@pytest.mark.slow
def test_a_traced_mixture_is_the_concrete_one():
    z, posterior = some_posteriors()
    numbers = tuple(map(jnp.float32, (WEIGHTS, MEANS, COVARIANCES)))

    @jax.jit
    def traced(numbers):
        latent = mixture_latent(*numbers)
        draws = latent.sample_prior(KEY, 7)
        return latent.log_ratio(z, posterior), latent.kl(KEY, posterior), draws

    latent = mixture_latent(*numbers)
    concrete = (
        latent.log_ratio(z, posterior),
        latent.kl(KEY, posterior),
        latent.sample_prior(KEY, 7),
    )
    for one, other in zip(traced(numbers), concrete, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("numbers", "said"),
    [
        (([1.0, 1.0], [[0.0]], [[[1.0]]]), "shapes"),
        (([1.0], [0.0], [[[1.0]]]), "shapes"),
        (([1.0], [[0.0]], [[1.0]]), "shapes"),
        (([1.0], [[0.0, 0.0]], [[[1.0]]]), "shapes"),
        (([1.0], [[0.0]], [[[1.0]]], 0), "num_samples"),
        (([-1.0], [[0.0]], [[[1.0]]]), "nonnegative"),
        (([2.0, -1.0], [[0.0], [0.0]], [[[1.0]], [[1.0]]]), "nonnegative"),
        (([0.0], [[0.0]], [[[1.0]]]), "nonnegative"),
        (([np.nan], [[0.0]], [[[1.0]]]), "nonnegative"),
        (([np.inf], [[0.0]], [[[1.0]]]), "nonnegative"),
        (([1.0], [[np.nan]], [[[1.0]]]), "finite"),
        (([1.0], [[0.0]], [[[0.0]]]), "positive definite"),
        (([1.0], [[0.0]], [[[-1.0]]]), "positive definite"),
        (([1.0], [[0.0, 0.0]], [[[1.0, 2.0], [2.0, 1.0]]]), "positive definite"),
        (([1.0], [[0.0, 0.0]], [[[1.0, 0.5], [0.0, 1.0]]]), "positive definite"),
        (([1.0], 0.0, [[[1.0]]]), "shapes"),
        (([], np.zeros((0, 1)), np.zeros((0, 1, 1))), "sum above 0"),
    ],
)
def test_what_is_no_mixture_is_refused(numbers, said):
    with pytest.raises(ValueError, match=said):
        mixture_latent(*numbers)


def test_whole_numbers_are_numbers():
    """Truth: the same mixture in floats."""
    numbers = np.array([1, 2]), np.array([[0], [4]]), np.array([[[1]], [[2]]])
    draws = mixture_latent(*numbers).sample_prior(KEY, 9)
    same = mixture_latent(*map(np.float32, numbers)).sample_prior(KEY, 9)
    np.testing.assert_array_equal(draws, same)


def test_a_posterior_of_another_width_is_refused_by_a_mixture():
    posterior = (jnp.zeros((5, 3)), jnp.zeros((5, 3)))
    for latent in (three_components(), standard_mixture(1)):
        with pytest.raises(ValueError, match="latent's dim"):
            latent.kl(KEY, posterior)
        with pytest.raises(ValueError, match="latent's dim"):
            latent.expectation(KEY, posterior, lambda z: z.sum(-1))


LOADINGS = np.array([[0.5, -1.0, 2.0]])
PRIOR_MEAN, PRIOR_VAR, NOISE_VAR, SIGMA = 1.5, 0.36, 0.3, 0.4


def linear_gaussian(posterior_scale=1.0):
    """z ~ N(1.5, 0.36), x = z W + noise, y = x + spread: encoder, decoder, latent, covariance.

    The encoder is the exact posterior, its standard deviation times ``posterior_scale``."""
    total = NOISE_VAR + SIGMA**2
    var = 1 / (1 / PRIOR_VAR + float((LOADINGS**2).sum()) / total)
    w = jnp.float32(LOADINGS)

    def encode(y):
        mean = var * (y @ w.T / total + PRIOR_MEAN / PRIOR_VAR)
        return mean, jnp.full_like(mean, np.log(var * posterior_scale**2))

    def decode(z):
        return z @ w, jnp.full((*z.shape[:-1], 3), NOISE_VAR)

    # the same Gaussian as two components, one of them of no weight
    latent = mixture_latent(
        [2.0, 0.0], [[PRIOR_MEAN], [-5.0]], [[[PRIOR_VAR]], [[1.0]]], num_samples=64
    )
    covariance = PRIOR_VAR * LOADINGS.T @ LOADINGS + total * np.eye(3)
    parts = {"encode": encode, "decode": decode, "latent": latent}
    return {**parts, "spread": gaussian_spread(SIGMA)}, covariance


def log_likelihood(y, covariance):
    return stats.multivariate_normal.logpdf(y, PRIOR_MEAN * LOADINGS[0], covariance)


@pytest.mark.slow
def test_the_importance_weighted_bound_of_the_exact_posterior_is_the_log_likelihood():
    """Truth: the closed form. Every weight is p(y) itself, so one draw is enough."""
    parts, covariance = linear_gaussian()
    x = jnp.float32(np.random.default_rng(0).normal(size=(6, 3)) + 1)
    bound = importance_weighted_bound(KEY, x, num_samples=2, **parts)
    y = parts["spread"].sample(jax.random.split(KEY)[0], x)
    np.testing.assert_allclose(bound, log_likelihood(y, covariance), rtol=1e-4)


@pytest.mark.slow
def test_the_spread_elbo_of_the_exact_posterior_is_the_log_likelihood_on_average():
    """Within 5 standard errors of the differences."""
    parts, covariance = linear_gaussian()
    x = jnp.float32(np.random.default_rng(0).normal(size=(2000, 3)) + 1)
    bound = spread_elbo(KEY, x, **parts)
    y = parts["spread"].sample(jax.random.split(KEY)[0], x)
    gap = np.float64(bound.elbo) - log_likelihood(y, covariance)
    error = gap.std() / len(x) ** 0.5
    assert abs(gap.mean()) < 5 * error
    assert error < 0.02


@pytest.mark.slow
def test_a_posterior_that_is_too_wide_costs_its_divergence():
    """Truth: KL of Gaussians of one mean, log(1/s) + (s² - 1)/2 nats, within 5 standard errors."""
    scale = 1.6
    parts, covariance = linear_gaussian(scale)
    x = jnp.float32(np.random.default_rng(0).normal(size=(2000, 3)) + 1)
    y = parts["spread"].sample(jax.random.split(KEY)[0], x)
    gap = log_likelihood(y, covariance) - np.float64(spread_elbo(KEY, x, **parts).elbo)
    expected = -np.log(scale) + (scale**2 - 1) / 2
    assert abs(gap.mean() - expected) < 5 * gap.std() / len(x) ** 0.5
    many = importance_weighted_bound(KEY, x, num_samples=64, **parts)
    assert np.mean(log_likelihood(y, covariance) - np.float64(many)) < expected / 10
