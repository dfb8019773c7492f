import numpy as np
import pytest
import xarray as xr
from scipy import stats

from spread_jax import aggregate, best, over_seeds

NAN, INF = np.nan, np.inf


def judged(values, better="lower", dims=("seed",)):
    """A dataset with the one metric ``m``."""
    return xr.Dataset({"m": (dims, values, {"better": better, "units": "nats"})})


def wilson(successes, trials):
    return tuple(stats.binomtest(successes, trials).proportion_ci(0.95, method="wilson"))


@pytest.mark.parametrize(("successes", "trials"), [(13, 16), (0, 5), (5, 5), (255, 256)])
def test_the_interval_of_a_rate_is_wilsons(successes, trials):
    """Truth: its ends p solve (rate - p)² = z² p (1 - p) / n, one on each side of the rate."""
    rate, low, high = over_seeds(judged(np.arange(trials) < successes))["m"].values
    assert rate == successes / trials
    assert low <= rate <= high
    assert low < high
    for p in (low, high):
        expected = stats.norm.ppf(0.975) ** 2 * p * (1 - p) / trials
        np.testing.assert_allclose((rate - p) ** 2, expected, atol=1e-15)


@pytest.mark.parametrize("n", [*range(1, 41), 4096])
def test_the_interval_of_a_median_is_scipys_and_as_narrow_as_can_be(n):
    """Truths: NumPy's median; SciPy's quantile test, which inverts the binomial too; and the
    coverage 1 - 2 P(B <= r), 95 % or more, which one rank further in has no longer. Below 6 seeds
    no two order statistics have it, and it is the range."""
    x = np.random.default_rng(n).normal(size=n)
    middle, low, high = over_seeds(judged(x))["m"].values
    assert middle == np.median(x)
    rank = int(np.flatnonzero(np.sort(x) == low)[0])
    assert high == np.sort(x)[n - 1 - rank]
    below = stats.binom(n, 0.5).cdf
    assert 1 - 2 * below(rank + 1) < 0.95
    if n < 6:
        assert rank == 0
        assert 1 - 2 * below(0) < 0.95
    else:
        assert 1 - 2 * below(rank) >= 0.95
        expected = stats.quantile_test(x, q=0, p=0.5).confidence_interval(0.95)
        assert (low, high) == (expected.low, expected.high)


@pytest.mark.parametrize(
    ("values", "better", "middle"),
    [
        ([3.0, 1.0, 2.0], "lower", 2.0),
        ([1.0, NAN, 2.0], "lower", 2.0),
        ([1.0, NAN, 2.0], "higher", 1.0),
        ([1.0, NAN, 2.0], "", 2.0),
        ([NAN, NAN, 2.0], "lower", INF),
        ([NAN, NAN, 2.0], "higher", -INF),
        ([1.0, NAN], "lower", INF),  # half
        ([1.0, NAN], "higher", -INF),
        ([INF, 7.0], "higher", INF),  # a step that never came
        ([INF, NAN], "higher", -INF),
        ([-INF, NAN], "lower", INF),
        ([INF, INF], "higher", INF),
    ],
)
def test_a_run_without_a_number_counts_as_the_worst(values, better, middle):
    """By hand: the middle of the values in order, NaN in the worst place."""
    assert over_seeds(judged(values, better))["m"].sel(statistic="middle") == middle


def test_half_of_many_missing_makes_the_worst_end_infinite():
    """Truth: of 16 seeds the interval runs from the 4th to the 13th; 8 are missing."""
    values = np.r_[np.full(8, NAN), np.arange(8.0)]
    lower = over_seeds(judged(values, "lower"))["m"]
    higher = over_seeds(judged(values, "higher"))["m"]
    np.testing.assert_array_equal(lower, [INF, 3.0, INF])
    np.testing.assert_array_equal(higher, [-INF, -INF, 4.0])


def test_bools_are_a_rate_with_wilsons_interval_along_any_axes():
    """Truth: counts by hand, two cells with the seeds in front."""
    holds = np.array([[True, False], [True, True], [False, False]])
    found = over_seeds(judged(holds, "higher", ("seed", "cell")))["m"]
    assert found.dims == ("cell", "statistic")
    assert found.attrs["units"] == "nats"
    for row, count in zip(found.values, (2, 1), strict=True):
        np.testing.assert_allclose(row, [count / 3, *wilson(count, 3)])


def test_curves_and_samples_are_left_out_and_labels_stay():
    dataset = judged(np.arange(6.0).reshape(2, 3), dims=("sigma_fix", "seed")).assign(
        loss=(("sigma_fix", "seed", "step"), np.zeros((2, 3, 4))),
        samples=(("sigma_fix", "point", "dim"), np.zeros((2, 5, 2))),
    )
    dataset = dataset.assign_coords(
        sigma_fix=[0.1, 0.3], label=("sigma_fix", ["a", "b"]), seed=[5, 6, 7]
    ).assign_attrs(learning_rate=1e-3)
    found = over_seeds(dataset)
    assert set(found.data_vars) == {"m"}
    assert set(found.coords) == {"sigma_fix", "label", "statistic"}
    assert found.attrs == {"learning_rate": 1e-3}
    np.testing.assert_array_equal(found["m"].sel(statistic="middle"), [1, 4])


@pytest.mark.parametrize(
    ("better", "values", "cell"),
    [
        ("lower", [[3, 3, 3], [1, 2, 9], [0, NAN, NAN]], 1),
        ("higher", [[3, 3, 3], [1, 2, 9], [99, NAN, NAN]], 0),
        ("higher", [[-3, -3, -3], [NAN, NAN, NAN], [-1, -2, -9]], 2),
        ("higher", [[5, 5], [INF, NAN], [4, 4]], 0),
        ("lower", [[2, 2], [1, 1], [1, 1]], 1),  # of equals the first
    ],
)
def test_the_best_cell_is_never_a_broken_one(better, values, cell):
    """By hand."""
    values = np.array(values, float)
    assert best(judged(values, better, ("cell", "seed")), "m", "cell") == cell
    assert best(judged(values.T, better, ("seed", "cell")), "m", "cell") == cell


def test_the_best_rate_is_the_highest_or_lowest():
    holds = np.array([[True, False], [True, True], [False, False]])
    assert best(judged(holds, "higher", ("cell", "seed")), "m", "cell") == 1
    assert best(judged(holds, "lower", ("cell", "seed")), "m", "cell") == 2


def test_json_has_none_for_what_is_no_finite_number():
    """Three seeds by hand."""
    cell = xr.Dataset(
        {
            "kl": ("seed", [1.0, NAN, 3.0], {"better": "lower"}),
            "step": ("seed", [INF, 7.0, INF], {"better": "higher"}),
            "found": ("seed", [True, False, True], {"better": "higher"}),
        }
    )
    assert aggregate.per_seed_json(cell) == {
        "kl": [1.0, None, 3.0],
        "step": [None, 7.0, None],
        "found": [True, False, True],
    }
    found = aggregate.over_seeds_json(cell)
    assert found == {
        "median_kl": 3.0,
        "kl_interval": [1.0, None],
        "median_step": None,
        "step_interval": [7.0, None],
        "found_rate": pytest.approx(2 / 3),
        "found_interval": pytest.approx(wilson(2, 3)),
    }


def test_a_fan_is_the_quantiles_of_the_curves_and_broken_runs_are_at_infinity():
    """Truth: NumPy's quantiles; with one of five broken the median is the third of the others,
    and the upper end is not finite."""
    rng = np.random.default_rng(0)
    loss = rng.normal(size=(5, 4))
    runs = xr.Dataset(
        {"loss": (("seed", "step"), loss), "loss_max": (("seed", "step"), loss + 1)},
        coords={"step": [1, 2, 3, 4]},
    )
    fan = aggregate.fan_over_seeds(runs)
    assert set(fan.coords) == {"step"}
    np.testing.assert_allclose(fan["loss_low"], np.quantile(loss, 0.05, axis=0))
    np.testing.assert_allclose(fan["loss_middle"], np.median(loss, axis=0))
    np.testing.assert_allclose(fan["loss_high"], np.quantile(loss + 1, 0.95, axis=0))
    broken = runs.where((runs["seed"] > 0) | (runs["step"] < 3))
    fan = aggregate.fan_over_seeds(broken)
    np.testing.assert_allclose(fan["loss_middle"][2:], np.sort(loss[1:, 2:], axis=0)[2])
    assert (fan["loss_high"][2:] == INF).all()
    assert np.isfinite(fan["loss_low"]).all()
    nothing = aggregate.fan_over_seeds(runs.where(runs["step"] < 3))
    assert all((nothing[name][2:] == INF).all() for name in nothing)
