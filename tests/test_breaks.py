"""What a sweep says of runs that broke: how many, when, and what was not finite first."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import spread_jax as sj

X = np.random.default_rng(0).normal(size=(50, 2)).astype(np.float32)
GRID = {"sigma_fix": [0.0, 0.1], "learning_rate": 0.01}


def own_vae(encode_log_var=lambda m: jnp.full_like(m, -1.0), var=lambda params, m: 1.0):
    """A line in the plane, with one fault."""

    def init(key):
        return {"w": jnp.full((1, 2), 0.5), "s": jnp.zeros((1, 2))}

    def encode(params, y):
        mean = y @ jnp.ones((2, 1))
        return mean, encode_log_var(mean)

    def decode(params, z):
        mean = jnp.sum(z[..., None] * params["w"].reshape((1,) * (z.ndim - 1) + (1, 2)), axis=-2)
        s = params["s"].reshape((1,) * (z.ndim - 1) + (2,))
        return mean, var({"s": s}, mean)

    return sj.VAE(init, encode, decode, sj.gaussian_latent(1))


def what_broke(vae, grid=GRID):
    training = sj.model_training(vae, sample_batch=sj.rows(16), num_steps=20)
    with pytest.warns(UserWarning, match="not finite|broke") as warned:
        runs = sj.sweep(training, grid, num_seeds=2, data=X)
    assert [str(warning.message) for warning in warned] == [runs.what_broke]
    return runs.what_broke


FIRST = "4 of 4 runs broke, the first after 0 steps (sigma_fix 0.0, seed 0): "


@pytest.mark.slow
@pytest.mark.parametrize(
    ("faults", "words"),
    [
        ({"encode_log_var": jnp.log}, FIRST + "encode returned NaN, in "),
        ({"var": lambda params, m: -1.0 + 0 * m}, FIRST + "the decoder's variance must be at le"),
        ({"var": lambda params, m: 0 / params["s"]}, FIRST + "the decoder's variance must be at"),
        (
            {"var": lambda params, m: jnp.exp(jnp.sqrt(params["s"]))},
            "in 4 of 4 runs parameters stopped moving, since a gradient was not finite, as in that "
            "with sigma_fix 0.0, seed 0: from the first step on the gradient of params['s'] is not",
        ),
    ],
)
def test_the_part_of_a_model_that_broke_is_named(faults, words):
    assert what_broke(own_vae(**faults)).startswith(words)


def quadratic(**others):
    options = {
        "init_params": lambda key: jnp.ones((1, 2)),
        "loss_fn": lambda params, key, x, hyper: 1.5 * jnp.sum(params**2) / 3 + 0 * x.sum(),
        "sample_batch": sj.rows(4),
        "optimizer": lambda hyper: optax.sgd(hyper["rate"]),
        "num_steps": 200,
    }
    return sj.make_training(**{**options, **others})


def test_a_divergence_is_dated():
    """The slope is the parameter itself, so rate 3 multiplies it by -2 a step: 4^t overflows
    2^128 at t = 64. The other runs have their numbers."""
    with pytest.warns(UserWarning, match="not finite|broke") as warned:
        runs = sj.sweep(quadratic(), {"rate": [0.1, 3.0]}, num_seeds=2, data=X)
    words = "2 of 4 runs broke, the first after 64 steps (rate 3.0, seed 0): the loss is inf"
    assert runs.what_broke == words == str(warned[0].message)
    assert runs.dataset["first_nonfinite_step"].sel(rate=3.0).values.tolist() == [64, 64]


def test_data_and_parameters_that_are_not_finite_are_named():
    def broken(**others):
        with pytest.warns(UserWarning, match="broke"):
            return sj.sweep(quadratic(**others), {"rate": 0.1}, num_seeds=1, data=X).what_broke

    at = "1 of 1 runs broke, the first after 0 steps (seed 0): "
    never = {"sample_batch": lambda key, data, hyper: data / 0}
    assert broken(**never) == at + "the batch is not finite"
    never = {"init_params": lambda key: {"a": jnp.ones(()), "b": [jnp.full((), jnp.nan)]}}
    never["loss_fn"] = lambda params, key, x, hyper: params["a"] + params["b"][0]
    assert broken(**never) == at + "params['b'][0] is not finite"


def test_a_step_that_only_works_compiled_is_no_error():
    """The runs are worth more than the sentence."""

    def loss_fn(params, key, x, hyper):
        if not isinstance(params, jax.core.Tracer):
            raise RuntimeError("eager")
        return jnp.sum(params) / 0

    with pytest.warns(UserWarning, match=re.escape("without compiling (RuntimeError)")):
        runs = sj.sweep(quadratic(loss_fn=loss_fn), {"rate": 0.1}, num_seeds=1, data=X)
    np.testing.assert_array_equal(runs.stacked_params, 1)


def test_nothing_is_said_where_nothing_broke():
    """A warning would be an error here; an optimizer may keep a single infinity."""
    inf = optax.contrib.reduce_on_plateau()  # its best value starts at infinity
    training = quadratic(num_steps=5, optimizer=lambda hyper: optax.adam(hyper["rate"]))
    assert sj.sweep(training, {"rate": 0.1}, num_seeds=2, data=X).what_broke == ""
    leaves = jax.tree.leaves(inf.init(jnp.ones(2)))
    stacked = [np.stack([leaf, leaf]) for leaf in leaves]
    assert any(np.isinf(leaf).any() for leaf in stacked)
    assert not sj.sweeps.breaks._lost_gradient(stacked, 2).any()
    assert sj.sweeps.breaks._lost_gradient(
        {"mu": np.float32([[1, 2], [1, np.inf]])}, 2
    ).tolist() == [
        False,
        True,
    ]
