import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from spread_jax import bernoulli_latent, gaussian_latent

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
    with pytest.raises(ValueError, match="must be >= 1"):
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
