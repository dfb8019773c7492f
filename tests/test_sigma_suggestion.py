"""The width of the narrowest mode, where it is known by construction."""

import itertools

import jax
import numpy as np
import pandas as pd
import pytest
from sklearn.mixture import GaussianMixture

import spread_jax as sj
from spread_jax import suggest_sigma
from spread_jax.data import modes
from spread_jax.data.sigma_suggestion import largest_sigma


def rng(seed=0):
    return np.random.default_rng(seed)


def modes_of(width, num_modes, dim, shape, weights, rows, seed=0):
    """Balls of standard deviation ``width``, or lines in directions of their own; 1 apart."""
    g = rng(seed)
    label = np.repeat(np.arange(num_modes), np.round(np.array(weights) * rows).astype(int))
    centres = np.zeros((num_modes, dim))
    centres[:, 0] = np.arange(num_modes)
    if num_modes == 3 and dim > 1:
        centres[2, :2] = 0, 1
    noise = g.normal(size=(len(label), dim))
    if shape == "line":
        directions = g.normal(size=(num_modes, dim))
        directions /= np.linalg.norm(directions, axis=1, keepdims=True)
        noise = g.normal(size=(len(label), 1)) * directions[label]
    return (centres[label] + width * noise) @ np.linalg.qr(g.normal(size=(dim, dim)))[0]


WIDTHS = [1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1]
WEIGHTS = {2: ([0.5, 0.5], [0.2, 0.8]), 3: ([0.4, 0.3, 0.3], [0.2, 0.3, 0.5])}


def errors(num_modes, dim, rows):
    """Of the width that both ends tell, over widths, weights and shapes."""
    shapes = ("ball", "line") if dim > 1 else ("ball",)
    for width, weights, shape in itertools.product(WIDTHS, WEIGHTS[num_modes], shapes):
        x = modes_of(width, num_modes, dim, shape, weights, rows)
        low, high = suggest_sigma(x)[:2]
        np.testing.assert_allclose(2 * low, high)
        yield abs(3 * low / width - 1)


@pytest.mark.parametrize("dim", [1, 2, 5])
def test_widths_from_a_millionth_of_the_distance_to_a_tenth_are_found(dim):
    """Truth: by construction."""
    assert max(errors(2, dim, 200)) < 0.3


@pytest.mark.slow
@pytest.mark.parametrize(("num_modes", "rows"), [(3, 200), (2, 2000), (3, 2000)])
@pytest.mark.parametrize("dim", [1, 2, 5])
def test_widths_of_more_modes_and_rows(num_modes, rows, dim):
    """Truth: by construction."""
    assert max(errors(num_modes, dim, rows)) < 0.3


@pytest.mark.parametrize("sample", [sj.sample_two_modes, sj.sample_spiral])
def test_float32_in_many_dimensions_changes_nothing(sample):
    """Truth: a rotation changes no width; rounding to float32 adds 1e-7 in the other dimensions."""
    x = sample(jax.random.key(0), 1000)
    rotated = sj.embed(jax.random.key(1), x, 20)
    np.testing.assert_allclose(suggest_sigma(rotated).low, suggest_sigma(x).low, rtol=1e-3)


def test_a_mode_is_found_beside_an_outlier_and_a_rare_cluster():
    """Truth: by construction a ball of standard deviation 0.1; the others are too few to be one."""
    ball = 0.1 * rng().normal(size=(194, 3))
    for others in (np.full((1, 3), 50.0), 10 + 0.01 * rng(1).normal(size=(6, 3))):
        low = suggest_sigma(np.concatenate([ball, others])).low
        np.testing.assert_allclose(3 * low, 0.1, rtol=0.1)


def test_points_at_the_datas_scale_are_no_modes():
    """Truth: with three rows at 1e12 counts to 10 are a point: all rows are one mode."""
    x = rng(8).poisson(3, size=(400, 1)).astype(float)
    x[:3, 0] = [1e12, 2e12, 4e12]
    np.testing.assert_allclose(3 * suggest_sigma(x).low, np.unique(x).std(), rtol=1e-6)


def test_the_mixture_is_scikit_learns_where_no_floor_is_near():
    """Truth: scikit-learn's mixture from the same start, and its log-density."""
    x = modes_of(0.1, 2, 3, "ball", [0.3, 0.7], 500)
    mixture, log_prob = modes._fitted(x, 2, 1e-8)
    other = GaussianMixture(2, means_init=mixture.means, reg_covar=0, tol=1e-6).fit(x)
    covariances = (mixture.axes * mixture.variances[:, None]) @ mixture.axes.transpose(0, 2, 1)
    np.testing.assert_allclose(mixture.weights, other.weights_, atol=1e-3)
    np.testing.assert_allclose(mixture.means, other.means_, atol=1e-3)
    np.testing.assert_allclose(covariances, other.covariances_, atol=1e-4)
    assert log_prob == pytest.approx(other.score(x), abs=1e-3)


def test_a_component_on_few_points_does_not_shrink_onto_them():
    """Truth: 2 of 30 points all but coincide; a component there would have no bound."""
    x = rng().normal(size=(30, 2))
    x[1] = x[0] + 1e-7
    share = np.zeros((30, 2))
    share[:2, 0], share[2:, 1] = 1, 1
    whole = modes._eigen(np.cov(x.T, bias=True)[None], 1e-8)
    found = modes._maximised(x, share, whole, 1e-8)
    np.testing.assert_allclose(found.variances[0], whole[0][0])


def test_the_middle_is_geometric_even_where_the_product_underflows():
    sigma = suggest_sigma(pd.DataFrame({"a": rng().normal(size=100)}))
    assert sigma.start_with == pytest.approx(np.sqrt(sigma.low * sigma.high))
    tiny = suggest_sigma(1e-300 * rng().normal(size=(100, 1)))
    assert tiny.start_with == pytest.approx(1e-300 * sigma.start_with, rel=1e-6)


@pytest.mark.parametrize(("dim", "largest"), [(1, 10.0), (100, 10.0), (784, 28.0)])
def test_the_largest_sigma_of_any_use(dim, largest):
    """Closed form: max(10, √dim)."""
    assert largest_sigma(dim) == pytest.approx(largest)


@pytest.mark.parametrize("dim", [3, 500])
def test_more_columns_than_rows_change_nothing_if_they_turn_the_points(dim):
    """Truth: a rotation changes no width, here of three columns into 3 or 500."""
    x = modes_of(0.05, 2, 3, "ball", [0.5, 0.5], 300)
    turn = np.linalg.qr(rng(1).normal(size=(dim, dim)))[0][:3]
    np.testing.assert_allclose(suggest_sigma(x @ turn)[:2], suggest_sigma(x)[:2], rtol=1e-6)
