import jax
import numpy as np
import pytest

import spread_jax as sj
from experiments import command, toy
from spread_jax import guard, sweeps

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


def test_the_alarm_is_told_once_at_the_chunk_that_shows_it(capsys):
    seen = []
    answers = iter([np.array([-1, -1, -1]), np.array([-1, 240, 700])])  # never asked a third time
    watch = command.alarm_once(seen.append, lambda history: next(answers), "Do this")
    # a chunk of several groups is told after each of them, and asked about once
    for num_records in (0, 2, 2, 2, 4, 4, 6):
        history = {"loss": np.zeros((3, num_records))} if num_records else {}
        watch(sweeps.Progress(done=1, total=2, num_nonfinite=0, history=history))
    error = capsys.readouterr().err
    assert len(seen) == 7
    assert error.count("\n") == 1
    assert error.startswith("warning: the likelihood is running away in 2 of 3 runs")
    assert "step 240" in error
    assert error.endswith("Do this\n")


def train(num_seeds, sigma_fix):
    settings = toy.Settings(steps=2_500)
    return sweeps.sweep(
        toy.two_mode_training(settings),
        {"sigma_fix": sigma_fix, "learning_rate": 1e-3, "data_std": 0.1},
        num_seeds=num_seeds,
        record_every=10,
    ).dataset


def alarms(dataset):
    std = dataset["std"].values.min(axis=(-2, -1))
    sigma_fix = dataset["sigma_fix"].values[:, None]
    return guard.runaway_step(dataset["loss"], std, sigma_fix, scale=SCALE, record_every=10)


@pytest.mark.slow
def test_the_alarm_leads_every_rise_of_a_plain_vae_and_spares_the_spread():
    """Truth: the first loss more than 10 nats above the smallest mean before it, 64 seeds."""
    dataset = train(64, [0.0, 0.03, 0.1, 0.3])
    plain, *spread = alarms(dataset)
    assert (np.array(spread) == -1).all()
    assert (plain > 0).all()
    loss, largest = dataset["loss"].values[0], dataset["loss_max"].values[0]
    rises = largest[:, 1:] - np.minimum.accumulate(loss, axis=-1)[:, :-1] > 10
    assert rises.any(axis=-1).all()
    first_rise = 10 * (1 + rises.argmax(axis=-1))  # before the record's first step
    assert (plain < first_rise).all()


@pytest.mark.slow
def test_no_alarm_on_data_that_fill_the_plane(monkeypatch):
    def sample_round_modes(key, n, data_std):
        x = sj.manifolds.sample_two_modes(key, n, data_std)
        return x.at[:, 1].set(data_std * jax.random.normal(key, (n,)))

    monkeypatch.setattr(sj, "sample_two_modes", sample_round_modes, raising=False)
    assert (alarms(train(64, [0.0])) == -1).all()
