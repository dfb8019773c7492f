"""Noise and learning rates that change along a run."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from spread_jax import annealed_noise, make_training
from spread_jax.schedules import at_the_end, settling_adam, stepped_noise


def sigma_at(schedule, step, noise_end=0.05, sigma_fix=0.5):
    hyper = {"sigma_fix": jnp.float32(sigma_fix), "noise_end": jnp.float32(noise_end)}
    return schedule(jnp.int32(step), hyper)["sigma_fix"]


@pytest.mark.parametrize(
    ("step", "share"),
    [(0, 1.0), (200, 0.05 ** ((1 - 0.5**0.5) / 2)), (400, 0.05**0.5), (800, 0.05), (999, 0.05)],
)
def test_the_noise_is_that_of_the_closed_form(step, share):
    """Truth: by hand, at 0, 20, 40, 80 and 100 % of 1,000 steps; cos(π/4) = √½."""
    assert float(sigma_at(annealed_noise(1000), step)) == pytest.approx(0.5 * share, rel=1e-5)


def test_the_noise_falls_at_every_step_until_it_stays():
    schedule = annealed_noise(100, over=0.5)
    sigma = np.array([sigma_at(schedule, step) for step in range(100)])
    assert (np.diff(sigma[:51]) < 0).all()
    np.testing.assert_allclose(sigma[50:], 0.025, rtol=1e-5)


def test_a_noise_end_of_one_is_constant_to_the_bit():
    sigma = jax.jit(jax.vmap(lambda step: sigma_at(annealed_noise(977), step, 1.0, 0.3)))(
        jnp.arange(977)
    )
    np.testing.assert_array_equal(sigma, np.full(977, np.float32(0.3)))


def test_other_numbers_of_a_run_stay_as_they_are():
    hyper = {"sigma_fix": 0.5, "noise_end": 0.1, "learning_rate": 0.01}
    changed = annealed_noise(10)(jnp.int32(9), hyper)
    assert {**changed, "sigma_fix": 0.5} == hyper
    assert float(at_the_end(hyper)["sigma_fix"]) == pytest.approx(0.05)
    assert float(changed["sigma_fix"]) == pytest.approx(float(at_the_end(hyper)["sigma_fix"]))
    assert hyper["sigma_fix"] == 0.5


@pytest.mark.parametrize("arguments", [(0,), (-1,), (10, 0.0), (10, -0.5), (10, 1.5), (10, np.nan)])
def test_a_schedule_of_no_steps_is_refused(arguments):
    with pytest.raises(ValueError, match="num_steps must be >= 1 and over in"):
        annealed_noise(*arguments)


def sizes_of_steps(num_steps, rate=0.1, **arguments):
    """Of Adam under a constant gradient, where every step is as long as the learning rate."""
    optimizer = settling_adam(num_steps, **arguments)({"learning_rate": rate})

    def step(carry, _):
        params, state = carry
        updates, state = optimizer.update(jnp.ones(()), state, params)
        return (optax.apply_updates(params, updates), state), -updates

    start = jnp.zeros(())
    return np.asarray(jax.lax.scan(step, (start, optimizer.init(start)), length=num_steps)[1])


def test_the_learning_rate_is_whole_and_then_falls_by_a_cosine():
    """Truth: by hand, rate (1 + cos(π i / 20)) / 2 at the i-th of the last 20 of 100 steps."""
    sizes = sizes_of_steps(100)
    np.testing.assert_allclose(sizes[:81], 0.1, rtol=1e-4)
    expected = 0.1 * (1 + np.cos(np.pi * np.arange(20) / 20)) / 2
    np.testing.assert_allclose(sizes[80:], expected, rtol=1e-3)
    assert sizes[-1] == pytest.approx(0.1 * (1 - np.cos(np.pi / 20)) / 2, rel=1e-2)


@pytest.mark.parametrize("num_steps", [1, 2, 3])
def test_the_shortest_runs_have_a_learning_rate(num_steps):
    sizes = sizes_of_steps(num_steps)
    assert np.isfinite(sizes).all()
    assert sizes[0] == pytest.approx(0.1, rel=1e-4)


def test_after_every_step_the_learning_rate_stays_whole():
    np.testing.assert_allclose(sizes_of_steps(50, after=1.0), 0.1, rtol=1e-4)


def test_a_run_sees_the_noise_of_its_schedule():
    """Truth: the closed form at each of 10 steps, by a loss that is σ itself."""
    training = make_training(
        init_params=lambda key: jnp.zeros(()),
        loss_fn=lambda params, key, x, hyper: hyper["sigma_fix"] + 0 * params,
        sample_batch=lambda key, data, hyper: jnp.zeros(()),
        optimizer=settling_adam(10),
        num_steps=10,
        schedule=annealed_noise(10),
    )
    hyper = {"sigma_fix": 0.5, "noise_end": 0.1, "learning_rate": 0.01}
    loss = jax.jit(training.train)(jax.random.key(0), hyper)[1]["loss"]
    t = np.minimum(np.arange(10) / 8, 1)
    np.testing.assert_allclose(loss, 0.5 * 0.1 ** ((1 - np.cos(np.pi * t)) / 2), rtol=1e-5)


def test_stepped_noise_falls_as_published():
    """By hand, on 2,500 epochs of one step: 0.5, times 0.9 at 500 and every 100 after, down to 0.1,
    which 16 falls reach, at 2,000."""
    schedule = stepped_noise(num_steps=2500)
    hyper = {"sigma_fix": 0.5, "noise_end": 0.2}
    sigma = [float(schedule(jnp.int32(step), hyper)["sigma_fix"]) for step in range(2500)]
    expected = [max(0.1, 0.5 * 0.9 ** max(0, (step - 400) // 100)) for step in range(2500)]
    np.testing.assert_allclose(sigma, expected, rtol=1e-5)
    assert sigma[499] == 0.5
    assert sigma[1999] > 0.1
    assert sigma[2000] == pytest.approx(0.1)
