import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import binomtest

from spread_jax import aggregate, guard, judge, sweep
from spread_jax.data import Dataset
from spread_jax.latents import bernoulli_latent
from spread_jax.metrics import NONFINITE, energy_distance
from spread_jax.oracles import GaussianMixture, spread_kl
from spread_jax.problems import two_mode_mixture
from spread_jax.problems.deconvolution import two_component_vae
from spread_jax.problems.two_modes import (
    energy_distance_of_components,
    judge_two_modes,
    recovered_two_modes,
    spread_kl_of_components,
    two_mode_metrics,
    two_mode_scale,
    two_mode_training,
    watch_components,
)

MEAN = np.array([[-1.0, 0.0], [1.0, 0.0]])
STD = np.array([[0.1, 0.0], [0.1, 0.0]])
DATA = Dataset("two_modes", *np.zeros((3, 4, 2), np.float32))


def test_recovery_allows_a_swap_and_nothing_else():
    good = [(MEAN, STD), (MEAN[::-1], STD[::-1]), (MEAN + 0.09, STD + 0.049)]
    bad = [
        (MEAN + np.array([0.11, 0.0]), STD),
        (MEAN * 0, STD),
        (np.abs(MEAN), STD),
        (MEAN, STD + 0.051),
        (MEAN, STD - [[0.051, 0], [0, 0]]),
        (MEAN * np.nan, STD),
        (MEAN, STD * np.nan),
    ]
    for cases, expected in ((good, True), (bad, False)):
        assert [recovered_two_modes(*case, 0.1) for case in cases] == [expected] * len(cases)


def test_spread_kl_of_components_is_the_oracles_and_nan_where_nothing_is_known():
    def divergence(mean, std):
        return spread_kl_of_components(mean, std, 0.1, 0.2)

    other = GaussianMixture(np.ones(2) / 2, MEAN * 0.5, STD * 2)
    np.testing.assert_allclose(divergence(MEAN, STD), 0, atol=1e-12)
    assert divergence(MEAN * 0.5, STD * 2) == spread_kl(two_mode_mixture(), other, 0.2)
    assert np.isnan(divergence(MEAN * np.nan, STD))
    assert np.isnan(divergence(MEAN, np.full((2, 2), np.inf)))


def test_energy_distance_of_components_ignores_their_order():
    truth, stds = two_mode_mixture(0.1), np.array([[0.2, 0.0], [0.1, 0.0]])
    assert energy_distance_of_components(truth.means[::-1], truth.stds, 0.1) == 0
    swapped = energy_distance_of_components(truth.means[::-1], stds, 0.1)
    assert swapped == energy_distance_of_components(truth.means, stds[::-1], 0.1) > 0
    assert np.isnan(energy_distance_of_components(truth.means * np.nan, stds, 0.1))


def test_energy_distance_of_components_is_that_of_points():
    """Truth: two pairs of points, where the components have no width."""
    found = energy_distance_of_components(MEAN * 0.5, STD * 0, 0.0)
    np.testing.assert_allclose(found, energy_distance(MEAN, MEAN * 0.5), rtol=1e-12)


def test_the_scale_of_two_modes_is_that_of_points_with_their_moments():
    points = np.array([[-1.1, 0.0], [-0.9, 0.0], [0.9, 0.0], [1.1, 0.0]])
    np.testing.assert_allclose(two_mode_scale(0.1), guard.data_scale(points))


def test_the_watched_components_are_the_decoders_at_both_states():
    """Truth: the parameters, which are the components themselves; without a variance std is 0."""
    vae = two_component_vae(bernoulli_latent())
    params = {"mean": jnp.float32(MEAN), "std": jnp.float32(STD)}
    found = watch_components(vae)(params)
    np.testing.assert_array_equal(found["mean"], params["mean"])
    np.testing.assert_allclose(found["std"], params["std"], rtol=1e-6)
    np.testing.assert_array_equal(watch_components(vae.without_variance())(params)["std"], 0 * STD)


@pytest.fixture
def runs(runs_by_hand):
    """Three seeds: one right, one merged, one broken."""
    mean = np.stack([MEAN, MEAN * 0, MEAN * np.nan])
    std = np.stack([STD, STD + 1, STD * np.nan])
    return runs_by_hand(
        {"mean": mean, "std": std},
        {"sigma_fix": 0.1, "data_std": 0.1},
        loss=np.array([[1.0], [2.0], [np.nan]]),
        mean=mean[:, None],
        std=std[:, None],
    )


def judged_by_hand(runs, *arguments):
    return judge(two_component_vae(bernoulli_latent()), runs, DATA, two_mode_metrics(*arguments))


def test_the_metrics_of_a_right_a_merged_and_a_broken_run(runs):
    """By hand; distances by the functions above. A run knows its data_std in float32 only."""
    judged = judged_by_hand(runs)
    kl = spread_kl_of_components(MEAN * 0, STD + 1, 0.1, 0.1)
    distance = energy_distance_of_components(MEAN * 0, STD + 1, 0.1)
    expected = {
        "min_sigma": [0.0, 1.0, np.nan],
        "spread_kl": [0.0, kl, np.nan],
        "mode_error": [0.0, 1.0, np.nan],
        "std_error": [0.0, 1.0, np.nan],
        "sigma_x": [0.1, 1.1, np.nan],
        "position_bias": [0.0, -1.0, np.nan],
        "energy_distance": [0.0, distance, np.nan],
    }
    for name, values in expected.items():
        np.testing.assert_allclose(judged[name], values, rtol=1e-6, atol=1e-5, err_msg=name)
    np.testing.assert_array_equal(judged["recovered"], [True, False, False])
    assert judged["spread_kl"].attrs["long_name"].endswith("the run's own sigma_fix")
    added = set(judged.data_vars) - set(runs.dataset.data_vars)
    assert added == {*expected, "recovered"}


def test_a_broken_run_counts_in_rates_and_medians(runs):
    """Of three one is right, one merged, one broken: rate 1/3, median that of the merged one."""
    metrics = [*two_mode_metrics(), NONFINITE]
    judged = judge(two_component_vae(bernoulli_latent()), runs, DATA, metrics)
    summary = aggregate.over_seeds_json(judged)
    assert summary["recovered_rate"] == pytest.approx(1 / 3)
    interval = binomtest(1, 3).proportion_ci(method="wilson")
    assert summary["recovered_interval"] == pytest.approx(list(interval))
    assert summary["nonfinite_rate"] == pytest.approx(1 / 3)
    assert summary["median_mode_error"] == 1.0
    assert summary["mode_error_interval"] == [0.0, None]
    assert aggregate.per_seed_json(judged)["min_sigma"] == [0.0, 1.0, None]


def test_one_noise_for_all_and_a_further_one_to_compare_at(runs):
    """Truths: the divergences at 0.3 and at 0.5; at 0 the spread KL is not known."""
    judged = judged_by_hand(runs, 0.1, 0.3, 0.5)
    for name, sigma in (("spread_kl", 0.3), ("spread_kl_at_reference", 0.5)):
        truth = spread_kl_of_components(MEAN * 0, STD + 1, 0.1, sigma)
        np.testing.assert_allclose(judged[name][:2], [0.0, truth], rtol=1e-6, atol=1e-8)
        assert judged[name].attrs["long_name"].endswith(f"at sigma_fix {sigma:g}")
    assert np.isnan(judged_by_hand(runs, 0.1, 0.0)["spread_kl"]).all()
    plain = runs._replace(hyper={**runs.hyper, "sigma_fix": np.zeros(3, np.float32)})
    assert np.isnan(judged_by_hand(plain)["spread_kl"]).all()


def test_widths_are_judged_by_the_runs_own_data_std(runs):
    """0.1 is half and more away from 0.3: nothing is recovered."""
    other = runs._replace(hyper={**runs.hyper, "data_std": np.full(3, 0.3, np.float32)})
    judged = judged_by_hand(other)
    assert not judged["recovered"].any()
    np.testing.assert_allclose(judged["std_error"][:2], [0.2, 0.8], rtol=1e-6)


@pytest.mark.slow
def test_default_runs_are_trained_and_judged_with_one_call_each():
    """Truth: the metrics of the last record, and at σ_fix 0 the plain VAE's label."""
    vae, training = two_mode_training(0.2, hidden=(4,), batch_size=8, num_steps=3)
    grid = {"sigma_fix": [0.0, 0.1], "learning_rate": 1e-3}
    runs = sweep(training, grid, num_seeds=2)
    judged = judge_two_modes(vae, runs, 0.2, sigma_fix=0.1)
    mean, std = (runs.dataset[name].values[1, 0, -1].astype(float) for name in ("mean", "std"))
    expected = spread_kl_of_components(mean, std, 0.2, 0.1)
    assert judged["spread_kl"].values[1, 0] == pytest.approx(expected)
    assert list(judged["label"].values) == ["plain VAE", "spread VAE"]
    assert {"alarm_step", "nonfinite", "recovered"} <= set(judged)
