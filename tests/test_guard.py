import jax
import numpy as np
import pytest

from spread_jax import guard, model_training, sweep
from spread_jax.problems import two_modes
from spread_jax.problems.two_modes import watch_components

SCALE = np.sqrt(1.01 / 2)  # of two modes at data std 0.1


def by_hand(loss, std, sigma_fix, scale):
    """The rule step by step, at one step a record, for one run."""
    threshold = 0.01 * scale if sigma_fix == 0 else min(0.01 * scale, sigma_fix / 2)
    for t in range(100, len(loss)):  # after step t there are t + 1 done
        falls = np.mean(loss[t - 49 : t + 1]) < np.mean(loss[t - 99 : t - 49])
        if falls and np.sqrt(std[t] ** 2 + sigma_fix**2) < threshold:
            return t + 1
    return -1


@pytest.mark.parametrize("sigma_fix", [0.0, 1e-4, 0.003, 0.1])
def test_the_rule_is_that_of_its_docstring(sigma_fix):
    """Truth: brute force over steps, on random walks of the loss and of log σ."""
    rng = np.random.default_rng(0)
    loss = np.cumsum(rng.normal(0, 1, (40, 600)), axis=-1)
    std = np.exp(np.cumsum(rng.normal(-0.01, 0.2, (40, 600)), axis=-1) - 2)
    found = guard.runaway_step(loss, std, sigma_fix, scale=1.0, record_every=1)
    expected = [by_hand(a, b, sigma_fix, 1.0) for a, b in zip(loss, std, strict=True)]
    np.testing.assert_array_equal(found, expected)
    if sigma_fix == 0:
        assert -1 in expected
        assert len(set(expected)) > 10
    else:
        assert set(expected) == {-1}  # a spread is a floor by itself


def test_coarse_records_are_compared_one_with_the_last():
    loss, std = np.array([5.0, 4.0, 4.5, 6.0]), np.full(4, 1e-6)
    assert guard.runaway_step(loss, std, 0.0, scale=1.0, record_every=80) == 160
    assert guard.runaway_step(loss, std, 0.0, scale=1.0, record_every=40) == -1  # two a window
    # of the last two the second is lower, but their mean is above that of the first two
    lower = np.array([5.0, 4.0, 6.0, 5.5])
    assert guard.runaway_step(lower, std, 0.0, scale=1.0, record_every=40) == -1
    for few in (1, 0):
        assert guard.runaway_step(loss[:few], std[:few], 0.0, scale=1.0, record_every=500) == -1
    assert guard.runaway_step(loss, np.full(4, np.nan), 0.0, scale=1.0, record_every=80) == -1


def test_each_run_has_its_own_noise():
    loss, std = np.array([[5.0, 4.0]] * 2), np.full((2, 2), 1e-6)
    found = guard.runaway_step(loss, std, np.array([0.1, 0.0]), scale=1.0, record_every=80)
    assert found.tolist() == [-1, 160]


def test_the_scale_ignores_where_the_data_lie():
    x = np.random.default_rng(0).normal(0, 2.0, (200_000, 3)) + np.array([0, 5, 1000])
    x[:, 0] = 7.0
    # the standard error of the estimate is about 0.003
    assert guard.data_scale(x) == pytest.approx(2.0 * np.sqrt(2 / 3), abs=0.015)


def test_runs_are_watched_as_they_train():
    """Truth: the rule on the smallest of each record's stds, run by run, as far as they are."""
    loss = np.array([[5.0, 4.0, 3.0]] * 2)
    std = np.full((2, 3, 2, 2), 1.0)
    std[:, :, 1, 0] = 1e-6
    watch = guard.watch_runaway("std", np.array([0.0, 0.1]), scale=1.0, record_every=80)
    assert watch({"loss": loss, "std": std}).tolist() == [160, -1]
    assert watch({"loss": loss[:, :1], "std": std[:, :1]}).tolist() == [-1, -1]


def train(num_seeds, sigma_fix, sample_batch):
    vae = two_modes(0.1).vae()
    training = model_training(
        vae, sample_batch=sample_batch, num_steps=2_500, observe=watch_components(vae)
    )
    grid = {"sigma_fix": sigma_fix, "learning_rate": 1e-3}
    return sweep(training, grid, num_seeds=num_seeds, record_every=10).dataset


def alarms(dataset):
    std = dataset["std"].values.min(axis=(-2, -1))
    sigma_fix = dataset["sigma_fix"].values[:, None]
    return guard.runaway_step(dataset["loss"], std, sigma_fix, scale=SCALE, record_every=10)


@pytest.mark.slow
def test_the_alarm_leads_every_rise_of_a_plain_vae_and_spares_the_spread():
    """Truth: the first loss more than 10 nats above the smallest mean before it, 64 seeds."""
    dataset = train(64, [0.0, 0.03, 0.1, 0.3], two_modes(0.1).batches(128))
    plain, *spread = alarms(dataset)
    assert (np.array(spread) == -1).all()
    assert (plain > 0).all()
    loss, largest = dataset["loss"].values[0], dataset["loss_max"].values[0]
    rises = largest[:, 1:] - np.minimum.accumulate(loss, axis=-1)[:, :-1] > 10
    assert rises.any(axis=-1).all()
    first_rise = 10 * (1 + rises.argmax(axis=-1))  # before the record's first step
    assert (plain < first_rise).all()


@pytest.mark.slow
def test_no_alarm_on_data_that_fill_the_plane():
    def round_modes(key, data, hyper):
        x = two_modes(0.1).sample(key, 128)
        return x.at[:, 1].set(0.1 * jax.random.normal(key, (128,)))

    assert (alarms(train(64, [0.0], round_modes)) == -1).all()
