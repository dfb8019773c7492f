import itertools
import math
from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from spread_jax import judge, metrics
from spread_jax.data import Dataset
from spread_jax.judgement import judge_samples

RNG = np.random.default_rng(0)
TRAIN = RNG.normal(size=(30, 3)).astype(np.float32)
TEST = RNG.normal(size=(25, 3)).astype(np.float32)
DATA = Dataset("by hand", TRAIN, np.zeros((5, 3), np.float32), TEST)


def test_energy_distance_is_scipys_in_one_dimension():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(100, 1)), rng.gamma(2.0, size=(80, 1))
    expected = stats.energy_distance(x[:, 0], y[:, 0])
    np.testing.assert_allclose(metrics.energy_distance(x, y), expected, rtol=1e-10)


def test_energy_distance_of_two_points_is_the_closed_form():
    distance = metrics.energy_distance([[0.0, 0.0]], [[3.0, 4.0]])
    np.testing.assert_allclose(distance, np.sqrt(2 * 5.0))
    assert metrics.energy_distance(TEST, TEST[::-1]) == 0


def test_wasserstein_is_the_best_of_all_permutations():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(6, 2)), rng.normal(size=(6, 2)) + 1
    costs = [np.sum((x - y[list(p)]) ** 2) / 6 for p in itertools.permutations(range(6))]
    np.testing.assert_allclose(metrics.wasserstein(x, y), np.sqrt(min(costs)), rtol=1e-12)


def test_wasserstein_in_one_dimension_matches_sorted_points():
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(200, 1)), rng.gamma(2.0, size=(200, 1))
    expected = np.sqrt(np.mean((np.sort(x[:, 0]) - np.sort(y[:, 0])) ** 2))
    np.testing.assert_allclose(metrics.wasserstein(x, y), expected, rtol=1e-12)
    np.testing.assert_allclose(metrics.wasserstein(x, x[::-1] + 3.0), 3.0, rtol=1e-12)
    with pytest.raises(ValueError, match="equal shapes"):
        metrics.wasserstein(x, y[:5])


def test_a_metric_of_samples_compares_as_many_of_each():
    """Truth: the distances of the first rows, 25 and 20, in data units."""
    samples = RNG.normal(size=(40, 3)) + 1
    few = metrics.of_samples("few", "data units", metrics.wasserstein, "of few", max_points=20)
    to_train = metrics.of_samples(
        "to_train", "data units", metrics.wasserstein, "to others", truth=lambda run: run.data.train
    )
    found = judge_samples(
        samples, DATA, [metrics.ENERGY_DISTANCE, metrics.WASSERSTEIN, few, to_train]
    )
    assert found == {
        "energy_distance": metrics.energy_distance(samples[:25], TEST),
        "wasserstein": metrics.wasserstein(samples[:25], TEST),
        "few": metrics.wasserstein(samples[:20], TEST[:20]),
        "to_train": metrics.wasserstein(samples[:30], TRAIN),
    }


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_samples_that_are_not_finite_have_no_distance(bad):
    samples = TEST.copy()
    samples[3, 1] = bad
    found = judge_samples(samples, DATA, [metrics.ENERGY_DISTANCE, metrics.WASSERSTEIN])
    assert np.isnan(list(found.values())).all()


PARAMS = {"w": jnp.array([[[0.5, -1.0, 2.0]]])}  # of the linear VAE, one seed


@pytest.mark.parametrize("sigma", [0.0, 0.2])
def test_bounds_are_the_closed_forms(linear_vae, runs_by_hand, sigma):
    """Truths: the linear VAE's bound of each row by hand; its draws of noise, where there is any,
    average over 20,000 copies of one row to 5 standard errors."""
    data = DATA
    if sigma:
        train, test = (np.tile(part[:1], (20_000, 1)) for part in (TRAIN, TEST))
        data = DATA._replace(train=train, test=test)
    runs = runs_by_hand(PARAMS, {"sigma_fix": sigma})
    judged = judge(linear_vae.exact, runs, data, metrics.BOUNDS, num_samples=1)

    def expected(part):
        of_rows = [
            linear_vae.expected_bound(x, sigma, sigma) for x in (part[:1] if sigma else part)
        ]
        return np.transpose(of_rows)

    train, test = expected(data.train)[0], expected(data.test)
    # a row's bound scatters by less than 2 nats; training rows are the first 5,000
    error = 5 * 2 / math.sqrt(5000) if sigma else 1e-4
    assert abs(judged["train_bound"].item() - train.mean()) < error
    assert abs(judged["test_bound"].item() - test[0].mean()) < error
    assert abs(judged["kl"].item() - test[1].mean()) < error
    bits = -judged["test_bound"].item() / (3 * math.log(2))
    np.testing.assert_allclose(judged["bits_per_dim"].item(), bits, rtol=1e-6)
    if not sigma:
        np.testing.assert_allclose(judged["worst_test_bound"].item(), test[0].min(), rtol=1e-5)


def test_the_bound_is_computed_once_for_all_metrics(linear_vae, runs_by_hand):
    calls = []

    def encode(params, y):
        calls.append(y.shape)  # when traced, which is once for each function of one shape
        return linear_vae.vae.encode(params, y)

    judged = judge(
        linear_vae.exact._replace(encode=encode),
        runs_by_hand({"w": jnp.tile(PARAMS["w"], (4, 1, 1))}),
        DATA,
        metrics.BOUNDS,
    )
    assert calls == [(30, 3), (25, 3)]  # train and test, whatever the number of runs
    assert (judged["test_bound"] == judged["test_bound"][0]).all()  # one key for all


def test_active_dims_are_those_whose_posterior_mean_moves(linear_vae, runs_by_hand):
    """Truth: 0.3 y₀ has variance 0 where y₀ is constant, 0.09 · 8.25 over 0 to 9."""
    x = np.zeros((10, 3), np.float32)
    runs, metric = runs_by_hand(PARAMS), metrics.BOUNDS[-1]
    assert metric.name == "active_dims"
    assert judge(linear_vae.vae, runs, DATA._replace(test=x), [metric])["active_dims"] == 0
    x[:, 0] = np.arange(10)
    assert judge(linear_vae.vae, runs, DATA._replace(test=x), [metric])["active_dims"] == 1


@pytest.mark.parametrize("num_samples", [1, 3000])
def test_importance_weighting_at_the_exact_posterior_is_exact(
    linear_vae, runs_by_hand, num_samples
):
    """Truth: log N(x; 0, WᵀW + VAR), whose weights are all alike; of the first 1,000 rows only."""
    x = RNG.normal(size=(1005 if num_samples == 1 else 5, 3)).astype(np.float32)
    w, var = np.array([0.5, -1.0, 2.0]), np.array([0.1, 0.2, 0.3])
    precision = 1 + np.sum(w**2 / var)
    gain = jnp.float32(w / var / precision)[:, None]
    exact = linear_vae.vae._replace(
        encode=lambda params, y: (y @ gain, jnp.full_like(y[..., :1], -math.log(precision)))
    )
    metric = metrics.importance_weighted(num_samples)
    judged = judge(exact, runs_by_hand(PARAMS), DATA._replace(test=x), [metric])
    truth = stats.multivariate_normal(cov=linear_vae.covariance).logpdf(x[:1000]).mean()
    np.testing.assert_allclose(judged["test_iw_bound"].item(), truth, rtol=1e-4)
    assert judged["test_iw_bound"].attrs["long_name"].endswith(f"{num_samples} draws")


def test_one_small_std_of_four_raises_the_alarm(linear_vae, runs_by_hand):
    """Truth: the rule's first step, the second record of 10 steps, where loss and σ fall; under
    noise it never comes, and under noise that ends with record 29 it comes at record 30."""
    std = np.full((2, 60, 2, 2), 0.1)
    std[:, :, 0, 1] = np.geomspace(1e-5, 1e-6, 60)
    runs = runs_by_hand(
        {"w": jnp.tile(PARAMS["w"], (2, 1, 1))},
        {"sigma_fix": [0.0, 0.1]},
        record_every=10,
        loss=np.tile(-np.arange(60.0), (2, 1)),
        std=std,
    )
    judged = judge(linear_vae.vae, runs, DATA, metrics.runaway_alarm("std", scale=0.7))
    np.testing.assert_array_equal(judged["alarm_step"], [20, np.inf])
    np.testing.assert_array_equal(judged["alarm"], [True, False])
    of_none = metrics.runaway_alarm("std", scale=0.7, noise=lambda hyper: 0.0)
    np.testing.assert_array_equal(
        judge(linear_vae.vae, runs, DATA, of_none)["alarm_step"], [20, 20]
    )
    annealed = metrics.runaway_alarm(
        "std", scale=0.7, noise=lambda hyper: hyper["sigma_fix"] * (np.arange(60) < 29)
    )
    np.testing.assert_array_equal(
        judge(linear_vae.vae, runs, DATA, annealed)["alarm_step"], [20, 300]
    )


def test_the_last_record_and_whether_it_is_finite(linear_vae, runs_by_hand):
    """By hand: two runs of three records, the second broken; a number not recorded is NaN."""
    runs = runs_by_hand(
        {"w": jnp.tile(PARAMS["w"], (2, 1, 1))},
        loss=np.array([[3.0, 2.0, 1.0], [3.0, np.nan, np.nan]]),
        sigma=np.array([[1.0, 0.5, 0.25], [1.0, 2.0, 4.0]]),
    )
    of = [metrics.NONFINITE, metrics.last("sigma", "σ"), metrics.last("other", "another")]
    judged = judge(linear_vae.vae, runs, DATA, of)
    np.testing.assert_array_equal(judged["nonfinite"], [False, True])
    np.testing.assert_array_equal(judged["last_sigma"], [0.25, 4.0])
    assert np.isnan(judged["last_other"]).all()


def test_bits_of_grey_levels_are_those_of_the_rounded_gaussian(as_users_run_it):
    """Truth: -log2 of SciPy's probability of each level, of a Gaussian that is wide for a level."""
    rng = np.random.default_rng(0)
    levels = np.rint(20 * rng.normal(size=(20_000, 1)))
    y = levels + rng.uniform(-0.5, 0.5, levels.shape)
    log_density = stats.norm.logpdf(y, scale=20)[:, 0]
    run = SimpleNamespace(
        held_out=levels,
        held_out_bound=SimpleNamespace(elbo=log_density),
        hyper={"sigma_fix": 1 / np.sqrt(12)},
    )
    share = stats.norm.cdf(levels + 0.5, scale=20) - stats.norm.cdf(levels - 0.5, scale=20)
    bits = metrics.DISCRETE_BITS_PER_DIM.function(run)
    np.testing.assert_allclose(bits, -np.log2(share).mean(), atol=2e-3)
