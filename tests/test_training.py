import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from spread_jax import make_training, make_vae, model_training, rows, sweep
from spread_jax.spreads import gaussian_spread

KEY = jax.random.key(0)
HYPER = {"learning_rate": jnp.float32(0.1), "bad_step": jnp.int32(-1)}


def noisy_quadratic(num_steps: int, **others):
    """loss = ‖params - x‖² / 2 with x ~ N(0, 1): losses that go up and down."""

    def loss_fn(params, key, x, hyper):
        return 0.5 * jnp.sum(jnp.square(params - x))

    return make_training(
        **{
            "init_params": lambda key: jax.random.normal(key, (3,)) + 10,
            "loss_fn": loss_fn,
            "sample_batch": lambda key, data, hyper: jax.random.normal(key, (3,)),
            "optimizer": lambda hyper: optax.sgd(hyper["learning_rate"]),
            "num_steps": num_steps,
            **others,
        }
    )


@pytest.mark.parametrize("num_steps", [1, 7, 100, 230])
def test_statistics_are_those_of_the_whole_loss_curve(num_steps):
    """Brute force in NumPy over the recorded losses."""
    state, history = noisy_quadratic(num_steps).train(KEY, HYPER)
    loss = np.asarray(history["loss"], np.float64)
    statistics = state.loss_statistics
    late = loss[num_steps - max(1, num_steps // 10) :]
    np.testing.assert_allclose(statistics.late_loss_std, late.std(), rtol=1e-4, atol=1e-6)
    rises = [loss[t] - loss[:t].min() for t in range(max(1, num_steps // 10), num_steps)]
    if rises:
        np.testing.assert_allclose(statistics.max_loss_rise, max(rises), rtol=1e-5)
    else:
        assert np.isnan(statistics.max_loss_rise)
    assert statistics.first_nonfinite_step == -1


def test_a_step_is_the_optimizers_on_the_losss_gradient():
    """Plain gradient descent by hand: params - lr (params - x)."""
    training = noisy_quadratic(5)
    state = training.init(KEY, HYPER)
    after, metrics = training.train_step(state)
    data_key, _ = jax.random.split(jax.random.fold_in(state.key, 0))
    x = jax.random.normal(data_key, (3,))
    np.testing.assert_allclose(after.params, state.params - 0.1 * (state.params - x), rtol=1e-6)
    np.testing.assert_allclose(metrics["loss"], 0.5 * np.sum((state.params - x) ** 2), rtol=1e-6)


def test_chunks_and_thinning_change_nothing():
    training = noisy_quadratic(100, observe=lambda params: {"params": params})
    whole, curve = training.train(KEY, HYPER)
    state = training.init(KEY, HYPER)
    for _ in range(4):
        state, last = training.run(state, 25, record_every=5)
    for a, b in zip(jax.tree.leaves(whole), jax.tree.leaves(state), strict=True):
        if jnp.issubdtype(a.dtype, jax.dtypes.prng_key):
            a, b = jax.random.key_data(a), jax.random.key_data(b)
        np.testing.assert_array_equal(a, b)
    window = np.asarray(curve["loss"])[75:].reshape(5, 5)
    np.testing.assert_allclose(last["loss"], window.mean(1), rtol=1e-6)
    np.testing.assert_array_equal(last["loss_max"], window.max(1))
    np.testing.assert_array_equal(last["params"][-1], whole.params)


def test_first_nonfinite_step_is_recorded_and_the_rise_is_unknown():
    def loss_fn(params, key, x, hyper):
        return jnp.where(hyper["bad_step"] == x, jnp.nan, jnp.sum(params))

    training = noisy_quadratic(
        50,
        loss_fn=loss_fn,
        optimizer=lambda hyper: optax.chain(optax.sgd(0.0), optax.scale_by_schedule(lambda t: 1.0)),
        sample_batch=lambda key, data, hyper: data,
        make_data=lambda key, hyper: jnp.int32(0),
    )
    good, _ = training.train(KEY, {"bad_step": jnp.int32(1)})
    bad, _ = training.train(KEY, {"bad_step": jnp.int32(0)})
    assert good.loss_statistics.first_nonfinite_step == -1
    assert good.loss_statistics.max_loss_rise == 0
    assert bad.loss_statistics.first_nonfinite_step == 0
    assert np.isnan(bad.loss_statistics.max_loss_rise)


def test_divergence_is_dated_to_its_step():
    """lr 3 multiplies the parameters by -2 a step: float32's square overflows at a known one."""
    training = noisy_quadratic(
        200,
        sample_batch=lambda key, data, hyper: jnp.zeros(3),
        init_params=lambda key: jnp.ones(3),
    )
    state, history = training.train(KEY, {"learning_rate": jnp.float32(3.0)})
    # 1.5 · 4^t overflows 2^128 at t = 64
    assert state.loss_statistics.first_nonfinite_step == 64
    assert np.isfinite(history["loss"][:64]).all()
    assert np.isnan(history["loss"][64:]).all()
    np.testing.assert_array_equal(state.params, np.full(3, 2.0**64))  # kept, the last finite ones


def test_a_number_with_a_gradient_that_is_not_finite_keeps_its_value():
    """Σ √x at (0, 0, 1): the loss is 1, its slopes infinite and ½."""
    training = noisy_quadratic(
        1,
        loss_fn=lambda params, key, x, hyper: jnp.sum(jnp.sqrt(params)),
        init_params=lambda key: jnp.array([0.0, 0.0, 1.0]),
        optimizer=lambda hyper: optax.adam(0.1),
    )
    state, history = training.train(KEY, HYPER)
    np.testing.assert_array_equal(history["loss"], 1.0)
    np.testing.assert_allclose(state.params, [0.0, 0.0, 0.9], rtol=1e-6)


def test_finite_data_are_drawn_once():
    seen = noisy_quadratic(
        20,
        make_data=lambda key, hyper: jax.random.normal(key, (4, 3)),
        sample_batch=lambda key, data, hyper: data[jax.random.randint(key, (), 0, 4)],
        observe=lambda params: {},
    )
    state, _ = seen.train(KEY, HYPER)
    np.testing.assert_array_equal(state.data, seen.init(KEY, HYPER).data)


@pytest.mark.usefixtures("as_users_run_it")
@pytest.mark.parametrize("num_steps", [0, -5, 1e3, "100", True])
def test_a_number_of_steps_that_is_none_is_refused(num_steps):
    words = f"num_steps must be a whole number >= 1, got {num_steps!r}"
    with pytest.raises(ValueError, match=re.escape(words)):
        noisy_quadratic(num_steps)


def test_records_that_do_not_divide_the_steps_are_refused():
    training = noisy_quadratic(10)
    with pytest.raises(ValueError, match="divides the 10 steps, got 3"):
        training.run(training.init(KEY, HYPER), 10, record_every=3)


def test_a_schedule_sets_the_numbers_of_each_step():
    """The loss is the scheduled number itself, so the curve is the schedule: 3 (1 - t/4)."""
    training = noisy_quadratic(
        4,
        loss_fn=lambda params, key, x, hyper: hyper["scale"] + 0 * params.sum(),
        schedule=lambda step, hyper: {**hyper, "scale": hyper["scale"] * (1 - step / 4)},
    )
    state, history = training.train(KEY, HYPER | {"scale": jnp.float32(3.0)})
    np.testing.assert_allclose(history["loss"], [3.0, 2.25, 1.5, 0.75])
    assert state.hyper["scale"] == 3


@pytest.mark.slow
def test_a_models_loss_is_its_negative_mean_bound_under_the_runs_own_noise(linear_vae):
    """Truth: the model's bound on the step's own batch and key; any other loss of the bounds."""
    x = jax.random.normal(KEY, (16, 3))
    options = {"sample_batch": lambda key, data, hyper: x, "num_steps": 1}
    hyper = {"sigma_fix": jnp.float32(0.3), "learning_rate": jnp.float32(0.1)}

    def loss_of(training):
        return training.train_step(training.init(KEY, hyper))[1]["loss"]

    training = model_training(linear_vae.vae, **options)
    state = training.init(KEY, hyper)
    _, loss_key = jax.random.split(jax.random.fold_in(state.key, 0))
    for noise in (None, lambda hyper: gaussian_spread(2 * hyper["sigma_fix"])):
        sigma = 0.3 if noise is None else 0.6
        bound = linear_vae.vae.bound(linear_vae.params, loss_key, x, gaussian_spread(sigma))
        others = {} if noise is None else {"spread": noise}
        found = loss_of(model_training(linear_vae.vae, **options, **others))
        np.testing.assert_allclose(found, -bound.elbo.mean(), rtol=1e-6)
        largest = model_training(
            linear_vae.vae,
            **options,
            **others,
            loss=lambda bound, hyper: hyper["sigma_fix"] * bound.kl.max(),
        )
        np.testing.assert_allclose(loss_of(largest), 0.3 * bound.kl.max(), rtol=1e-6)


@pytest.mark.slow
def test_adam_trains_a_model_unless_told_otherwise(linear_vae):
    """Adam's first step is the learning rate in size, whatever the gradient; SGD's is not."""
    x = jax.random.normal(KEY, (16, 3))
    options = {"sample_batch": lambda key, data, hyper: x, "num_steps": 1}
    hyper = {"sigma_fix": jnp.float32(0.3), "learning_rate": jnp.float32(0.1)}
    for others in ({}, {"optimizer": lambda hyper: optax.sgd(hyper["learning_rate"])}):
        training = model_training(linear_vae.vae, **options, **others)
        state = training.init(KEY, hyper)
        moved = jnp.abs(training.train_step(state)[0].params["w"] - state.params["w"])
        is_adams = np.allclose(moved, 0.1, rtol=1e-3)
        assert is_adams == (not others)


def test_rows_are_drawn_from_the_data_with_replacement():
    """Each of three rows a third of the time, within 5 standard errors of a binomial."""
    data = jnp.arange(6.0).reshape(3, 2)
    n = 9000
    x = np.asarray(rows(n)(KEY, data, {}))
    assert x.shape == (n, 2)
    values, counts = np.unique(x, axis=0, return_counts=True)
    np.testing.assert_array_equal(values, data)
    assert (np.abs(counts - n / 3) < 5 * np.sqrt(n * 2 / 9)).all()


@pytest.mark.usefixtures("as_users_run_it")
@pytest.mark.parametrize("batch_size", [0, -3, 2.0, None])
def test_batch_size_must_be_a_whole_number(batch_size):
    with pytest.raises(ValueError, match="batch_size must be a whole number >= 1"):
        rows(batch_size)


def test_a_sweep_without_data_says_what_to_give():
    vae = make_vae(3, latent_dim=1, hidden=(4,))
    training = model_training(vae, sample_batch=rows(2), num_steps=1)
    grid = {"sigma_fix": 0.1, "learning_rate": 1e-3}
    with pytest.raises(ValueError, match="data=x"):
        sweep(training, grid, num_seeds=1)


def test_a_number_that_the_grid_lacks_is_named():
    vae = make_vae(3, latent_dim=1, hidden=(4,))
    training = model_training(vae, sample_batch=rows(2), num_steps=1)
    with pytest.raises(ValueError, match="reads 'sigma_fix' from hyper"):
        sweep(training, {"learning_rate": 1e-3}, num_seeds=1, data=jnp.zeros((4, 3)))
