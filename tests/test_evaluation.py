import itertools

import numpy as np
import pytest
import xarray as xr
from scipy import stats

from spread_jax import evaluation, guard
from spread_jax.oracles import GaussianMixture, spread_kl, two_modes

MEAN = np.array([[-1.0, 0.0], [1.0, 0.0]])
STD = np.array([[0.1, 0.0], [0.1, 0.0]])


def test_recovery_allows_a_swap_and_nothing_else():
    good = [(MEAN, STD), (MEAN[::-1], STD[::-1]), (MEAN + 0.09, STD + 0.049)]
    bad = [
        (MEAN + np.array([0.11, 0.0]), STD),
        (MEAN * 0, STD),
        (np.abs(MEAN), STD),
        (MEAN, STD + 0.051),
        (MEAN, STD - [[0.051, 0], [0, 0]]),
        (MEAN * np.nan, STD),
    ]
    for cases, expected in ((good, True), (bad, False)):
        means, stds = map(np.stack, zip(*cases, strict=True))
        assert (evaluation.recovered_two_modes(means, stds, 0.1) == expected).all()


def test_spread_kl_of_components_is_the_oracles_and_nan_where_nothing_is_known():
    means = np.stack([MEAN, MEAN * 0.5, MEAN * np.nan])
    stds = np.stack([STD, STD * 2, STD])
    divergence = evaluation.spread_kl_of_components(two_modes(), means, stds, 0.2)
    other = GaussianMixture(np.ones(2) / 2, means[1], stds[1])
    np.testing.assert_allclose(divergence[0], 0, atol=1e-12)
    assert divergence[1] == spread_kl(two_modes(), other, 0.2)
    assert np.isnan(divergence[2])


def test_energy_distance_is_scipys_in_one_dimension():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(100, 1)), rng.gamma(2.0, size=(80, 1))
    expected = stats.energy_distance(x[:, 0], y[:, 0])
    np.testing.assert_allclose(evaluation.energy_distance(x, y), expected, rtol=1e-10)


def test_energy_distance_of_two_points_is_the_closed_form():
    distance = evaluation.energy_distance([[0.0, 0.0]], [[3.0, 4.0]])
    np.testing.assert_allclose(distance, np.sqrt(2 * 5.0))
    assert evaluation.energy_distance(MEAN, MEAN) == 0


def test_energy_distance_of_components_ignores_their_order():
    distance = evaluation.energy_distance_of_components
    truth, stds = two_modes(0.1), np.array([[0.2, 0.0], [0.1, 0.0]])
    assert distance(truth, truth.means[::-1], truth.stds) == 0
    swapped = distance(truth, truth.means[::-1], stds)
    assert swapped == distance(truth, truth.means, stds[::-1]) > 0


@pytest.mark.parametrize(("successes", "trials"), [(13, 16), (0, 5), (5, 5), (255, 256)])
def test_wilson_interval_is_scipys(successes, trials):
    expected = stats.binomtest(successes, trials).proportion_ci(0.95, method="wilson")
    np.testing.assert_allclose(
        evaluation.wilson_interval(successes, trials), (expected.low, expected.high), atol=1e-15
    )


@pytest.mark.parametrize(
    ("values", "median"),
    [
        ([3.0, 1.0, 2.0], 2.0),
        ([1.0, None, 2.0], 2.0),
        ([None, None, 2.0], None),
        ([1.0, None], None),
    ],
)
def test_a_missing_number_counts_as_the_worst(values, median):
    assert evaluation.median_over_runs(values) == median


def test_an_arms_numbers_and_rates():
    """Three seeds by hand: one right, one merged, one broken at step 7."""
    mean = np.stack([MEAN, MEAN * 0, MEAN * np.nan])[:, None]
    std = np.stack([STD, STD + 1, STD * np.nan])[:, None]
    arm = xr.Dataset(
        {
            "mean": (("seed", "step", "component", "dim"), mean),
            "std": (("seed", "step", "component", "dim"), std),
            "loss": (("seed", "step"), [[1.0], [2.0], [np.nan]]),
            "late_loss_std": ("seed", [0.1, 0.3, np.nan]),
            "max_loss_rise": ("seed", [1.0, 2.0, np.nan]),
            "first_nonfinite_step": ("seed", [-1, -1, 7]),
        },
        coords={"step": [10], "sigma_fix": 0.1},
    )
    judged = evaluation.judge_two_modes(arm, 0.1, 0.1)
    seeds, summary = evaluation.per_seed(judged), evaluation.over_seeds(judged)
    assert seeds["recovered"] == [True, False, False]
    assert seeds["first_nonfinite_step"] == [None, None, 7.0]
    assert seeds["max_loss_rise"] == [1.0, 2.0, None]
    assert seeds["min_std"] == [0.0, 1.0, None]
    assert seeds["spread_kl"][2] is None
    assert summary["recovery_rate"] == pytest.approx(1 / 3)
    assert summary["recovery_interval"] == evaluation.wilson_interval(1, 3)
    assert summary["nonfinite_rate"] == pytest.approx(1 / 3)
    assert summary["median_max_loss_rise"] == 2.0
    assert summary["median_first_nonfinite_step"] is None
    assert seeds["alarm_step"] == [None] * 3
    assert summary["alarm_rate"] == 0
    assert evaluation.per_seed(evaluation.judge_two_modes(arm, 0.1, 0.0))["spread_kl"] == [None] * 3


def test_one_small_std_of_four_raises_the_alarm():
    """Truth: the rule's first step, 110, of records of 10 steps with a falling loss."""
    std = np.full((1, 60, 2, 2), 0.1)
    std[0, :, 0, 1] = 1e-6
    dims = ("seed", "step", "component", "dim")
    arm = xr.Dataset(
        {
            "mean": (dims, np.zeros((1, 60, 2, 2))),
            "std": (dims, std),
            "loss": (("seed", "step"), -np.arange(60.0)[None]),
        },
        coords={"step": 10 * np.arange(1, 61), "sigma_fix": 0.0},
    )
    assert evaluation.judge_two_modes(arm, 0.1, 0.1)["alarm_step"].item() == 110


def test_the_scale_of_two_modes_is_that_of_points_with_their_moments():
    points = np.array([[-1.1, 0.0], [-0.9, 0.0], [0.9, 0.0], [1.1, 0.0]])
    np.testing.assert_allclose(evaluation.two_mode_scale(0.1), guard.data_scale(points))


def test_wasserstein_is_the_best_of_all_permutations():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(6, 2)), rng.normal(size=(6, 2)) + 1
    costs = [np.sum((x - y[list(p)]) ** 2) / 6 for p in itertools.permutations(range(6))]
    np.testing.assert_allclose(evaluation.wasserstein(x, y), np.sqrt(min(costs)), rtol=1e-12)


def test_wasserstein_in_one_dimension_matches_sorted_points():
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(200, 1)), rng.gamma(2.0, size=(200, 1))
    expected = np.sqrt(np.mean((np.sort(x[:, 0]) - np.sort(y[:, 0])) ** 2))
    np.testing.assert_allclose(evaluation.wasserstein(x, y), expected, rtol=1e-12)
    np.testing.assert_allclose(evaluation.wasserstein(x, x[::-1] + 3.0), 3.0, rtol=1e-12)
    with pytest.raises(ValueError, match="equal shapes"):
        evaluation.wasserstein(x, y[:5])


@pytest.mark.parametrize(("successes", "trials"), [(0, 0), (3, 2), (-1, 2)])
def test_an_interval_needs_trials(successes, trials):
    with pytest.raises(ValueError, match=f"got {successes} in {trials}"):
        evaluation.wilson_interval(successes, trials)
