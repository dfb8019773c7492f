import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
from scipy import stats

from spread_jax import linear_comparison
from spread_jax import linear_models as lm

KEY = jax.random.key(0)


@jax.jit
def structured_pca(factor, moment, gamma, sigma):
    """200 steps."""
    return jax.lax.fori_loop(
        0, 200, lambda i, factor: lm.pca_structured_step(factor, moment, gamma, sigma), factor
    )


def problem(law, gamma, points=2000, observed=6, latent=3, key=KEY):
    sample = jax.jit(
        lambda key, gamma: lm.sample_problem(
            key, points=points, observed=observed, latent=latent, law=law, gamma=gamma
        )
    )
    return sample(key, gamma)


def test_data_are_the_stated_law():
    """Monte Carlo within 5 standard errors: unit variance, the kurtosis of Laplace, 6 (its own
    scatter taken from the draws), and gamma as a standard deviation."""
    drawn = problem("laplace", 0.5, points=100_000)
    clean = problem("laplace", 0.0, points=100_000)
    np.testing.assert_array_equal(drawn.factor, clean.factor)
    noise = np.asarray(drawn.x - clean.x, np.float64)
    assert (np.abs(noise.var(0) - 0.25) < 5 * 0.25 * (2 / 1e5) ** 0.5).all()
    z = np.asarray(clean.x, np.float64) @ np.linalg.pinv(np.asarray(clean.factor)).T
    for power, expected in ((2, 1.0), (4, 6.0)):
        moments = z**power
        assert (np.abs(moments.mean(0) - expected) < 5 * moments.std(0) / 1e5**0.5).all()


def log_likelihood(factor, moment, noise_covariance):
    """Per point, of N(0, A Aᵀ + noise), from the second moment."""
    covariance = np.float64(factor) @ np.float64(factor).T + noise_covariance
    return -0.5 * (np.linalg.slogdet(covariance)[1] + np.trace(np.linalg.solve(covariance, moment)))


@pytest.mark.parametrize("sigma", [pytest.param(0.0, marks=pytest.mark.slow), 0.7])
def test_pca_step_raises_the_spread_likelihood_to_the_eigen_solution(sigma):
    drawn = problem("gaussian", 0.5)
    moment = np.asarray(lm.second_moment(drawn.x), np.float64)
    step = jax.jit(lm.pca_em_step)
    factor, noise, values = drawn.start, (0.5**2 + sigma**2) * np.eye(6), []
    for _ in range(400):
        factor = step(factor, jnp.float32(moment), 0.5, sigma)
        values.append(log_likelihood(factor, moment + sigma**2 * np.eye(6), noise))
    assert (np.diff(values) > -1e-5).all()
    solution = lm.eigen_solution(moment, 3, 0.5)
    np.testing.assert_allclose(factor @ factor.T, solution @ solution.T, atol=2e-3)


@pytest.mark.parametrize("gamma", [0.3, pytest.param(0.0, marks=pytest.mark.slow), 3.0])
def test_structured_pca_finds_the_eigen_solution(gamma):
    drawn = problem("gaussian", gamma)
    moment = lm.second_moment(drawn.x)
    factor = structured_pca(drawn.start, moment, gamma, 0.5)
    solution = lm.eigen_solution(np.asarray(moment, np.float64), 3, gamma)
    difference = np.linalg.norm(factor @ factor.T - solution @ solution.T)
    assert difference < 1e-3 * np.linalg.norm(moment)


def test_noise_that_follows_the_model_completes_the_observation_noise():
    factor = jax.random.normal(KEY, (6, 3))
    inverse_gram = np.linalg.inv(np.float64(factor.T @ factor))
    for gamma, sigma in ((0.2, 0.5), (3.0, 0.5)):
        root, total = jax.jit(lm.following_noise)(factor, gamma, sigma)
        np.testing.assert_allclose(
            root @ root.T + gamma**2 * inverse_gram, total * np.eye(3), rtol=1e-4, atol=1e-5
        )
        smallest = gamma**2 * np.linalg.eigvalsh(inverse_gram).max()
        np.testing.assert_allclose(total, max(sigma**2, smallest), rtol=1e-4)


@pytest.mark.slow
def test_structured_ica_step_is_brute_force_with_truncated_normals():
    """NumPy and SciPy, with the step's own noise."""
    drawn, sigma = problem("laplace", 0.0, points=40, observed=3, latent=2), 0.5
    found = jax.jit(lm.ica_structured_step)(KEY, drawn.start, drawn.x, 0.0, sigma, 1.3)
    a, x = np.float64(drawn.start), np.float64(drawn.x)
    root = np.float64(lm.following_noise(drawn.start, 0.0, sigma)[0])
    np.testing.assert_allclose(root @ root.T, sigma**2 * np.eye(2), atol=1e-6)
    noise = np.float64(jax.random.normal(KEY, (40, 2))) @ root.T
    y = x + noise @ a.T
    u = x @ np.linalg.pinv(a).T + noise
    moments = []
    for sign in (1, -1):
        centre = sign * u - sigma**2 * 2**0.5
        law = stats.truncnorm(-centre / sigma, np.inf, loc=centre, scale=sigma)
        mass = np.exp(-sign * u * 2**0.5) * stats.norm.cdf(centre / sigma)
        moments.append((mass, sign * law.mean(), law.var() + law.mean() ** 2))
    mass, means, seconds = (np.array(m) for m in zip(*moments, strict=True))
    weight = mass / mass.sum(axis=0)
    mean, second = (weight * means).sum(axis=0), (weight * seconds).sum(axis=0)
    total = mean.T @ mean + np.diag(np.sum(second - mean**2, axis=0))
    expected = a + 1.3 * (y.T @ mean @ np.linalg.inv(total) - a)
    np.testing.assert_allclose(found, expected, rtol=2e-3, atol=1e-4)


@pytest.mark.slow
def test_isotropic_ica_step_is_the_exact_posterior_of_many_samples():
    """One latent dimension: u = A⁺ y is sufficient, its noise is N(0, v/‖a‖²), and the posterior
    moments are those of the normal-Laplace law. Within 5 standard errors of 20,000 samples, whose
    effective number is that of their weights in float64."""
    drawn, sigma = problem("laplace", 0.3, points=20, observed=3, latent=1), 0.8
    proposals = jax.random.normal(jax.random.key(5), (1, 20_000, 20))
    step = jax.jit(lm.ica_isotropic_step)
    found, effective = step(KEY, drawn.start, drawn.x, proposals, 0.3, sigma, 1.0)
    relaxed = step(KEY, drawn.start, drawn.x, proposals, 0.3, sigma, 1.8)[0]
    further = drawn.start + 1.8 * (found - drawn.start)
    np.testing.assert_allclose(relaxed, further, rtol=1e-4, atol=1e-5)
    a = np.float64(drawn.start)
    y = np.float64(drawn.x) + sigma * np.float64(jax.random.normal(KEY, (20, 3)))
    square = float(np.sum(a**2))
    u, var = (y @ a)[:, 0] / square, (0.3**2 + sigma**2) / square
    z = np.linspace(-12, 12, 40_001)
    posterior = stats.norm.pdf(u[:, None], z, np.sqrt(var)) * stats.laplace.pdf(z, scale=0.5**0.5)
    posterior /= posterior.sum(axis=1, keepdims=True)
    mean, second = posterior @ z, posterior @ z**2
    expected = y.T @ mean / second.sum()
    spread_of_means = np.sqrt(np.mean(second - mean**2) / (20 * 20_000 * float(effective)))
    scale = np.linalg.norm(y) / second.sum() * np.sqrt(20)
    assert np.abs(found[:, 0] - expected).max() < 5 * scale * spread_of_means
    drawn_z = u + np.sqrt(var) * np.float64(proposals[0])
    weight = np.exp(-np.abs(drawn_z) * 2**0.5)
    share = np.mean(weight.sum(0) ** 2 / np.sum(weight**2, 0)) / 20_000
    np.testing.assert_allclose(effective, share, rtol=1e-4)
    assert 0.1 < effective < 1


@pytest.mark.slow
def test_ordinary_em_stands_still_from_its_first_iteration_on():
    """gamma 1e-3: 60 iterations change A by less than 1 %, with fresh data batches and samples."""
    drawn = problem("laplace", 1e-3, points=2000, observed=20, latent=10)

    @jax.jit
    def step(i, factor):
        key = jax.random.fold_in(KEY, i)
        proposals = jax.random.normal(key, (10, 4, 2000))
        return lm.ica_isotropic_step(key, factor, drawn.x, proposals, 1e-3, 0.0)[0]

    first = step(0, drawn.start)
    factor, largest = first, 0.0
    for i in range(1, 61):
        factor = step(i, factor)
        largest = max(largest, float(jnp.linalg.norm(factor - first) / jnp.linalg.norm(first)))
    assert largest <= 0.01
    assert lm.ica_error(np.asarray(factor), np.asarray(drawn.factor)) > 0.5
    assert np.linalg.norm(first - drawn.start) > 0.1 * np.linalg.norm(first)  # the first one moved


def test_iterations_are_numbered_from_the_start():
    """By hand: 7 + 8 + 9 = 24, and 10 + 11 + 12 more are 57."""
    program = linear_comparison._program(
        lambda key, factor, data, gamma, sigma, i: (factor + i, jnp.float32(i)), iterations=6
    )
    factors, numbers = program(KEY[None], jnp.zeros((1, 1, 1)), jnp.zeros(1), 0.0, 0.0, 7)
    assert factors.ravel()[2::3].tolist() == [24, 57]
    assert numbers.tolist() == [[7, 8, 9, 10, 11, 12]]


def test_the_eigen_solution_has_no_column_where_noise_explains_the_variance():
    """Closed form: eigenvalues 0.1 and 0.2 are below gamma² = 1, and 3 is 2 above it."""
    solution = lm.eigen_solution(np.diag([0.1, 0.2, 3.0]), 2, 1.0)
    np.testing.assert_allclose(solution**2, [[0, 0], [0, 0], [0, 2]])


def test_ica_error_ignores_order_sign_and_scale_and_nothing_else():
    rng = np.random.default_rng(0)
    truth = rng.normal(size=(8, 4))
    scrambled = truth[:, [2, 0, 3, 1]] * np.array([-1.0, 3.0, 0.1, -20.0])
    assert lm.ica_error(scrambled, truth) < 1e-7
    orthogonal = np.linalg.svd(truth)[0][:, 4:]
    found = lm.ica_error(truth + 0.1 * orthogonal, truth)
    squares = np.sum(truth**2, axis=0)
    left = squares * (1 - squares / (squares + 0.01))  # the cosine of each column, by hand
    np.testing.assert_allclose(found, np.sqrt(left.sum() / squares.sum()), rtol=1e-6)
    assert lm.ica_error(np.full_like(truth, np.nan), truth) == 1.0
    np.testing.assert_allclose(lm.ica_error(np.zeros_like(truth), truth), 1.0)


def test_a_law_that_is_not_known_is_refused(monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # as a user has it
    with pytest.raises(ValueError, match="law must be gaussian or laplace, got 'cauchy'"):
        lm.sample_problem(KEY, points=3, observed=2, latent=1, law="cauchy", gamma=0.1)
