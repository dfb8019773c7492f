"""Clean points behind spread ones: the moments of x given y, and draws that have them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from spread_jax import clean_samples, denoising_posterior, tweedie
from spread_jax.lanczos import eigen, root_product
from spread_jax.oracles import (
    GaussianMixture,
    posterior_covariance,
    posterior_mean,
    sample_mixture,
    spread_log_prob,
)

MIXTURE = GaussianMixture(  # its second component has no density, it is a line
    np.array([0.3, 0.7]), np.array([[-1.0, 0.5], [0.6, -0.2]]), np.array([[0.4, 0.2], [0.3, 0.0]])
)
SIGMAS = [0.5, np.array([0.3, 0.8])]


def log_prob_of(mixture, sigma):
    """log p~ in JAX; the oracle's is in NumPy."""

    def log_prob(y):
        lead = (1,) * (y.ndim - 1)
        means, var = (
            jnp.float32(part).reshape(2, *lead, -1)
            for part in (mixture.means, mixture.stds**2 + np.square(sigma))
        )
        logs = jax.scipy.stats.norm.logpdf(y[None], means, jnp.sqrt(var)).sum(axis=-1)
        return jax.nn.logsumexp(logs + jnp.log(mixture.weights).reshape(2, *lead), axis=0)

    return log_prob


def spread_points(n, sigma, mixture=MIXTURE):
    rng = np.random.default_rng(0)
    x = sample_mixture(rng, n, mixture)
    return jnp.float32(x + sigma * rng.standard_normal(x.shape))


def mixture_moments(mixture):
    weights = mixture.weights[:, None, None]
    mean = mixture.weights @ mixture.means
    off = mixture.means - mean
    within = np.stack([np.diag(stds**2) for stds in mixture.stds])
    return mean, np.sum(weights * (within + off[:, :, None] * off[:, None]), axis=0)


def require_moments(x, mean, covariance):
    """The sample's mean and covariance, within 5 standard errors of the sample itself."""
    x = np.asarray(x, np.float64)
    residual = x - mean
    products = residual[:, :, None] * residual[:, None]
    for found, truth in [(residual, 0.0), (products, covariance)]:
        error = found.std(axis=0) / np.sqrt(len(x))
        assert (np.abs(found.mean(axis=0) - truth) < 5 * error + 1e-6).all()


def test_the_oracle_in_one_dimension_is_quadrature():
    """Truth: ∫ (x - E[x|y])² p(x) n(y|x) dx / p~(y), by the trapezoidal rule."""
    mixture = GaussianMixture(
        np.array([0.3, 0.7]), np.array([[-1.0], [0.6]]), np.array([[0.4], [0.1]])
    )
    y, x = np.linspace(-2, 2, 9)[:, None], np.linspace(-4, 4, 40_001)
    prior = 0.3 * stats.norm.pdf(x, -1, 0.4) + 0.7 * stats.norm.pdf(x, 0.6, 0.1)
    weight = prior * stats.norm.pdf(y, x, 0.5)
    weight /= weight.sum(axis=1, keepdims=True)
    mean = weight @ x
    variance = np.sum(weight * (x - mean[:, None]) ** 2, axis=1)
    np.testing.assert_allclose(posterior_mean(y, mixture, 0.5)[:, 0], mean, rtol=1e-9)
    found = posterior_covariance(y, mixture, 0.5)
    np.testing.assert_allclose(found[:, 0, 0], variance, rtol=1e-9)


def test_the_oracle_with_a_noise_of_each_coordinate_is_quadrature():
    """Truth: the trapezoidal rule in the plane, all that is farther out below 1e-9."""
    mixture, sigma = MIXTURE._replace(stds=np.array([[0.4, 0.2], [0.3, 0.25]])), SIGMAS[1]
    axis = np.linspace(-4, 4, 401)
    x = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    prior = sum(
        weight * stats.norm.pdf(x, mean, std).prod(axis=1)
        for weight, mean, std in zip(*mixture, strict=True)
    )
    y = np.array([[0.1, 0.2], [-1.0, 0.9], [0.4, -1.2]])
    for point, mean, covariance in zip(
        y, posterior_mean(y, mixture, sigma), posterior_covariance(y, mixture, sigma), strict=True
    ):
        weight = prior * stats.norm.pdf(point, x, sigma).prod(axis=1)
        weight /= weight.sum()
        np.testing.assert_allclose(mean, weight @ x, atol=1e-8)
        residual = x - weight @ x
        expected = (weight[:, None] * residual).T @ residual
        np.testing.assert_allclose(covariance, expected, atol=1e-8)


@pytest.mark.slow
@pytest.mark.parametrize("sigma", SIGMAS, ids=["scalar", "vector"])
def test_the_moments_of_a_mixture_are_the_oracles(sigma):
    y, log_prob = spread_points(24, sigma), log_prob_of(MIXTURE, sigma)
    exact = np.asarray(y, np.float64)
    np.testing.assert_allclose(log_prob(y), spread_log_prob(exact, MIXTURE, sigma), atol=1e-5)
    mean, covariance = jax.jit(lambda y: denoising_posterior(y, log_prob, sigma))(y)
    np.testing.assert_allclose(mean, posterior_mean(exact, MIXTURE, sigma), atol=1e-5)
    expected = posterior_covariance(exact, MIXTURE, sigma)
    np.testing.assert_allclose(covariance, expected, atol=1e-5)
    assert np.abs(expected[:, 0, 1]).max() > 0.05  # it is not diagonal
    batched = denoising_posterior(y.reshape(4, 6, 2), log_prob, sigma)[1]
    np.testing.assert_allclose(batched, expected.reshape(4, 6, 2, 2), atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("sigma", SIGMAS, ids=["scalar", "vector"])
def test_draws_behind_one_point_have_its_moments(sigma):
    """Truth: the oracle's mean and covariance of a point between the two components."""
    point = np.array([[-0.3, 0.1]])
    y = jnp.tile(jnp.float32(point), (20_000, 1))
    x = clean_samples(jax.random.key(0), y, log_prob_of(MIXTURE, sigma), sigma)
    covariance = posterior_covariance(point, MIXTURE, sigma)[0]
    require_moments(x, posterior_mean(point, MIXTURE, sigma)[0], covariance)


@pytest.mark.slow
@pytest.mark.parametrize("steps", [1, 5])
def test_a_gaussian_keeps_its_scale_where_the_mean_alone_loses_it(steps):
    """Truth: s = 0.05, and s² / √(s² + σ²) = 0.0224 of the mean; a scale scatters by 1 / √2n."""
    s, sigma, scale = 0.05, 0.1, np.hypot(0.05, 0.1)
    y = scale * jax.random.normal(jax.random.key(0), (20_000, 3))

    def log_prob(y):
        return jax.scipy.stats.norm.logpdf(y, scale=scale).sum(axis=-1)

    x = jax.jit(lambda y, sigma: clean_samples(jax.random.key(1), y, log_prob, sigma, steps))(
        y, sigma
    )
    for found, truth in [(x, s), (tweedie(y, log_prob, sigma), s**2 / scale)]:
        assert abs(float(found.std()) - truth) < 5 * truth / np.sqrt(2 * x.size)


@pytest.mark.slow
def test_one_step_from_the_spread_law_has_the_moments_of_the_clean_law():
    """Truth: the mixture's own, by the law of total covariance, whatever the shape of x given y.

    At this noise the clean points behind one y are of two components, so they are not Gaussian.
    """
    y = spread_points(50_000, 1.0)
    x = clean_samples(jax.random.key(1), y, log_prob_of(MIXTURE, 1.0), 1.0)
    require_moments(x, *mixture_moments(MIXTURE))


@pytest.mark.slow
@pytest.mark.parametrize("sigma", [0.2, np.array([0.1, 0.3])], ids=["scalar", "vector"])
def test_several_steps_keep_the_moments_of_a_mixture(sigma):
    """Truth: the mixture's own; its components are so far apart that x given y is Gaussian.

    Blocks of points and their remainder once waited for each other for ever, in LAPACK."""
    mixture = MIXTURE._replace(means=np.array([[-1.0, 0.5], [2.0, -1.3]]))
    y = spread_points(50_000, sigma, mixture)
    x = clean_samples(jax.random.key(1), y, log_prob_of(mixture, sigma), sigma, steps=8)
    require_moments(x, *mixture_moments(mixture))


def exact_root(matrix, v):
    values, vectors = np.linalg.eigh(matrix)
    return v @ (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T


@pytest.mark.slow
@pytest.mark.parametrize("num_products", [2, 8, 32])
def test_a_root_product_is_as_near_as_its_polynomial_allows(num_products):
    """Truth: the eigen-decomposition, and 0.28 ‖v‖ / (m - 1) for eigenvalues from 0 to 1."""
    rng = np.random.default_rng(0)
    rotation, _ = np.linalg.qr(rng.standard_normal((200, 200)))
    matrix = (rotation * (1 - np.cos(np.linspace(0, np.pi, 200))) / 2) @ rotation.T
    v = rng.standard_normal((10, 200))
    found = jax.vmap(lambda v: root_product(lambda u: jnp.float32(matrix) @ u, v, num_products))(
        jnp.float32(v)
    )
    error = np.linalg.norm(found - exact_root(matrix, v), axis=1) / np.linalg.norm(v, axis=1)
    assert error.max() < 0.28 / (num_products - 1)


@pytest.mark.parametrize("values", [[2.0, 1.0, 0.5], [1.0, 1.0, 1.0], [4.0, 0.0, -3.0], [0.0] * 3])
def test_as_many_products_as_dimensions_are_exact(values):
    """Truth: the eigen-decomposition; equal eigenvalues end the recursion early. Rounding leaves
    √1e-7 where an eigenvalue is 0."""
    rng = np.random.default_rng(1)
    rotation, _ = np.linalg.qr(rng.standard_normal((3, 3)))
    matrix, v = (rotation * values) @ rotation.T, rng.standard_normal(3)
    found = root_product(lambda u: jnp.float32(matrix) @ u, jnp.float32(v), 3)
    np.testing.assert_allclose(found, exact_root(matrix, v), atol=2e-3)


@pytest.mark.slow
def test_eigenvalues_by_rotations_are_lapacks():
    """Truth: NumPy in float64, of full matrices, of an odd one, and of equal eigenvalues."""
    rng = np.random.default_rng(0)
    for dim in (1, 2, 3, 7, 24):
        matrices = rng.standard_normal((20, dim, dim))
        matrices[0] = 0.5
        matrices += matrices.transpose(0, 2, 1)
        values, vectors = jax.vmap(eigen)(jnp.float32(matrices))
        rebuilt = np.einsum("nij,nj,nkj->nik", vectors, values, vectors)
        np.testing.assert_allclose(rebuilt, matrices, atol=2e-6 * np.abs(matrices).max())
        if dim % 2 == 0:
            expected = np.linalg.eigvalsh(matrices)
            np.testing.assert_allclose(np.sort(values), expected, atol=2e-5)


@pytest.mark.slow
def test_784_dimensions_of_rank_5_stay_on_their_space():
    """Truth: x = A z has the covariance A Aᵀ and no part off A's columns.

    The diagonal of the covariance, as published for images, would leave noise on every pixel."""
    dim, rank, sigma, n = 784, 5, 0.1, 2_000
    basis, _ = jnp.linalg.qr(jax.random.normal(jax.random.key(0), (dim, rank)))
    stds = jnp.array([0.05, 0.1, 0.2, 0.5, 1.0])
    z, noise = (jax.random.normal(jax.random.key(i), (n, d)) for i, d in [(1, rank), (2, dim)])
    y = (z * stds[None]) @ basis.T + sigma * noise

    def log_prob(y):
        along = y @ basis
        off = jnp.sum(y**2, axis=-1) - jnp.sum(along**2, axis=-1)
        return -0.5 * (along**2 @ (1 / (stds**2 + sigma**2)) + off / sigma**2)

    x = clean_samples(jax.random.key(3), y, log_prob, sigma)
    along = x @ basis
    require_moments(along, 0.0, np.diag(np.square(stds)))
    off = jnp.sqrt(jnp.mean((x - along @ basis.T) ** 2))
    assert off < 1e-3 * sigma  # of y it is sigma


@pytest.mark.slow
def test_a_negative_eigenvalue_counts_as_no_variance():
    """Truth, by hand: along the first axis σ² + σ⁴ ∇² = 1 - 2, along the second 1 - 0.75."""
    curvature = jnp.array([-2.0, -0.75])

    def log_prob(y):
        return 0.5 * (y**2 @ curvature)

    y = jnp.tile(jnp.array([[0.5, 1.0]]), (2_000, 1))
    _, covariance = denoising_posterior(y[:1], log_prob, 1.0)
    np.testing.assert_allclose(covariance[0], jnp.diag(jnp.array([-1.0, 0.25])), atol=1e-6)
    x = clean_samples(jax.random.key(0), y, log_prob, 1.0)
    np.testing.assert_allclose(x[:, 0], -0.5, atol=1e-5)  # the mean, y - 2 y
    assert abs(float(x[:, 1].std()) - 0.5) < 5 * 0.5 / np.sqrt(2 * 2_000)


@pytest.mark.slow
def test_a_coordinate_without_noise_comes_as_it_is():
    y = jnp.array([[[0.5, 1.0], [2.0, -1.0]]])
    log_prob = log_prob_of(MIXTURE, 0.5)
    x = clean_samples(jax.random.key(0), y, log_prob, jnp.array([0.0, 0.5]), steps=3)
    np.testing.assert_array_equal(x[..., 0], y[..., 0])
    assert x.shape == y.shape
    assert (x[..., 1] != y[..., 1]).all()


@pytest.mark.parametrize(
    ("sigma", "steps", "message"),
    [
        (-0.1, 1, "sigma must be finite and >= 0"),
        (np.ones(3), 1, r"sigma must be a scalar or \[2\], got shape \(3,\)"),
        (0.1, 0, "steps must be >= 1"),
    ],
)
def test_what_makes_no_sense_is_refused(sigma, steps, message):
    y, log_prob = jnp.zeros((4, 2)), log_prob_of(MIXTURE, 0.1)
    with pytest.raises(ValueError, match=message):
        clean_samples(jax.random.key(0), y, log_prob, sigma, steps)
    if steps:
        with pytest.raises(ValueError, match=message):
            denoising_posterior(y, log_prob, sigma)
