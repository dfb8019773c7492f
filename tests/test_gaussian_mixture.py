"""Mixtures by expectation maximisation, against scikit-learn's."""

import numpy as np
import pytest
from scipy import stats
from sklearn.mixture import GaussianMixture as Sklearns

from spread_jax import gaussian_mixture
from spread_jax.gaussian_mixture import GaussianMixture, fit_gaussian_mixture


@pytest.fixture(scope="module")
def points():
    """Three skewed clusters, 600 points in 3 dimensions, of standard deviation near 1."""
    rng = np.random.default_rng(0)
    factor = np.array([[0.4, 0.0, 0.0], [0.3, 0.2, 0.0], [-0.1, 0.1, 0.5]])
    centres = np.array([[-1.0, 0.0, 1.0], [1.0, 1.0, -1.0], [0.0, -1.5, 0.0]])
    return np.concatenate([c + rng.normal(size=(200, 3)) @ factor.T for c in centres])


@pytest.fixture(scope="module")
def start():
    return GaussianMixture(
        np.array([0.2, 0.5, 0.3]),
        np.array([[-1.0, 0.5, 0.0], [0.5, 0.5, 0.0], [0.0, 0.0, 0.5]]),
        np.stack([np.diag([1.0, 0.5, 2.0]), np.eye(3) + 0.3, 0.7 * np.eye(3)]),
    )


def sklearns(mixture, steps, smallest_variance):
    """scikit-learn's mixture that starts from these parameters."""
    return Sklearns(
        len(mixture.weights),
        max_iter=steps,
        tol=0.0,
        reg_covar=smallest_variance,
        weights_init=mixture.weights,
        means_init=mixture.means,
        precisions_init=np.linalg.inv(mixture.covariances),
    )


def em_step(mixture, x, smallest_variance):
    monomials = gaussian_mixture._monomials(x)
    joint = monomials @ gaussian_mixture._coefficients(mixture)
    share = gaussian_mixture._log_sum_exp(joint)[1]
    return gaussian_mixture._maximise(share, monomials, x.shape[1], smallest_variance)


def test_the_mean_log_prob_is_scikit_learns_score(points, start):
    other = Sklearns(3)
    other.weights_, other.means_, other.covariances_ = start
    inverse_roots = np.linalg.inv(np.linalg.cholesky(start.covariances))
    other.precisions_cholesky_ = inverse_roots.transpose(0, 2, 1)
    assert start.mean_log_prob(points) == pytest.approx(other.score(points), rel=1e-6)


def test_the_mean_log_prob_is_that_of_scipys_densities(points, start):
    density = sum(
        w * stats.multivariate_normal.pdf(points, m, c) for w, m, c in zip(*start, strict=True)
    )
    assert start.mean_log_prob(points) == pytest.approx(np.log(density).mean(), rel=1e-9)


@pytest.mark.filterwarnings("ignore:.*did not converge")
def test_one_step_is_scikit_learns(points, start):
    other = sklearns(start, 1, 1e-3).fit(points)
    mine = em_step(start, points, 1e-3)
    np.testing.assert_allclose(mine.weights, other.weights_, rtol=1e-8)
    np.testing.assert_allclose(mine.means, other.means_, rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(mine.covariances, other.covariances_, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("num_components", [1, 3, 6])
def test_the_likelihood_never_falls_from_step_to_step(points, num_components):
    """Truth: the theorem of expectation maximisation."""
    rng = np.random.default_rng(1)
    mixture = GaussianMixture(
        np.full(num_components, 1 / num_components),
        rng.normal(size=(num_components, 3)),
        np.tile(np.eye(3), (num_components, 1, 1)),
    )
    scores = []
    for _ in range(30):
        scores.append(mixture.mean_log_prob(points))
        mixture = em_step(mixture, points, 1e-9)
    assert min(np.diff(scores)) > -1e-7
    assert scores[-1] > scores[0] + 0.1


def test_one_component_has_the_mean_and_covariance_of_the_points(points):
    mixture = fit_gaussian_mixture(points, 1, 0.25)
    np.testing.assert_allclose(mixture.means[0], points.mean(axis=0), atol=1e-12)
    expected = np.cov(points.T, bias=True) + 0.25 * np.eye(3)
    np.testing.assert_allclose(mixture.covariances[0], expected, atol=1e-12)


def test_the_fit_is_as_likely_as_scikit_learns(points):
    mixture = fit_gaussian_mixture(points, 3, 1e-6)
    other = Sklearns(3, random_state=0, tol=1e-3).fit(points)
    assert mixture.mean_log_prob(points) == pytest.approx(other.score(points), abs=0.01)
    assert mixture.weights.sum() == pytest.approx(1)


def test_one_seed_gives_one_mixture(points):
    first, second = (fit_gaussian_mixture(points, 4, 1e-6, seed=3) for _ in range(2))
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_component_may_lose_all_its_points(points):
    """Truth: the same step of scikit-learn's with two components."""
    far = GaussianMixture(
        np.array([0.5, 0.4, 0.1]),
        np.array([[-1.0, 0.0, 1.0], [1.0, 1.0, -1.0], [1e4, 1e4, 1e4]]),
        np.tile(0.1 * np.eye(3), (3, 1, 1)),
    )
    without = em_step(GaussianMixture(*(part[:2] for part in far)), points, 1e-3)
    mixture = em_step(far, points, 1e-3)
    assert mixture.weights[2] < 1e-15
    assert all(np.isfinite(part).all() for part in mixture)
    np.testing.assert_allclose(mixture.means[:2], without.means, rtol=1e-9)
    assert mixture.mean_log_prob(points) == pytest.approx(without.mean_log_prob(points))


def test_more_components_than_distinct_points_still_fit():
    x = np.repeat([[0.0, 0.0], [1.0, 1.0]], 20, axis=0)
    mixture = fit_gaussian_mixture(x, 5, 1e-3)
    assert all(np.isfinite(part).all() for part in mixture)
    expected = np.log(0.5) - np.log(2 * np.pi * 1e-3)  # of two atoms, each as wide as is allowed
    assert mixture.mean_log_prob(x) == pytest.approx(expected, abs=1e-6)


def test_a_component_of_weight_zero_adds_nothing(points, start):
    padded = GaussianMixture(
        np.append(start.weights, 0.0),
        np.concatenate([start.means, np.zeros((1, 3))]),
        np.concatenate([start.covariances, np.eye(3)[None]]),
    )
    assert padded.mean_log_prob(points) == pytest.approx(start.mean_log_prob(points), rel=1e-12)
