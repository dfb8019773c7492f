"""What a newcomer gets wrong in a call: what is told, and what works as it was meant."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pandas as pd
import pytest

import spread_jax as sj
from spread_jax.arguments import moments

KEY = jax.random.key(0)
X = np.random.default_rng(0).normal(size=(64, 2)).astype(np.float32)
W = jnp.array([[0.5, -1.0]])

pytestmark = pytest.mark.usefixtures("as_users_run_it")


def line(z):
    """z [..., 1] -> a point of a line in the plane."""
    return z @ jnp.broadcast_to(W, (*z.shape[:-2], 1, 2)) if z.ndim > 2 else z @ W


PARTS = {
    "encode": lambda y: (0.3 * y[..., :1], jnp.zeros_like(y[..., :1])),
    "decode": lambda z: (line(z), 0.1 + 0 * line(z)),
    "latent": sj.gaussian_latent(1),
}


def spread_elbo(key=KEY, x=X, **others):
    return sj.spread_elbo(key, x, **{**PARTS, "spread": sj.gaussian_spread(0.1), **others})


def iw_bound(key=KEY, x=X, **others):
    parts = {**PARTS, "spread": sj.gaussian_spread(0.1), "num_samples": 2, **others}
    return sj.importance_weighted_bound(key, x, **parts)


def sample(key=KEY, n=8, **others):
    others = {name: others[name] for name in others if name not in ("x", "encode")}
    parts = {"decode": PARTS["decode"], "latent": PARTS["latent"]}
    return sj.sample(key, n, **{**parts, **others})


def of_a_single_z(z):
    """[1] -> two moments [2], as a module of Equinox would have it."""
    assert z.shape == (1,)
    return jnp.stack([z[0], jnp.sin(z[0])]), jnp.stack([0.1 + z[0] ** 2, jnp.ones(())])


FRAME_WITH_TEXT = pd.DataFrame({"a": [1.0, 2.0], "city": ["x", "y"]})
HOLE = np.where(np.arange(128).reshape(64, 2) == 5, np.nan, X)  # the third row's second number


@pytest.mark.parametrize("call", [spread_elbo, iw_bound, sample])
@pytest.mark.parametrize(
    ("others", "error", "words"),
    [
        ({"key": 7}, TypeError, "key must be one key, such as jax.random.key(7), got the number 7"),
        ({"key": X}, TypeError, "got an array of float32 and shape (64, 2)"),
        ({"key": jax.random.split(KEY, 3)}, TypeError, "got 3 keys"),
        ({"spread": 0.3}, TypeError, "such as gaussian_spread(0.3), got the number 0.3"),
        ({"spread": sj.gaussian_spread}, TypeError, "got the function gaussian_spread"),
        ({"latent": 3}, TypeError, "such as gaussian_latent(3), got the number 3"),
        ({"decode": line}, TypeError, "decode must return (mean, var)"),
        ({"decode": lambda z: (0.0, 1.0)}, TypeError, "mean must be an array [..., dim], got the"),
        ({"decode": lambda z: (line(z), "no")}, TypeError, "variance must be an array, a number"),
        ({"decode": lambda z: (line(z), jnp.ones(3))}, ValueError, "be one number, got shape (3,)"),
    ],
)
def test_what_is_no_argument_is_told_before_anything_is_computed(call, others, error, words):
    with pytest.raises(error, match=re.escape(words)):
        call(**others)


@pytest.mark.parametrize("call", [spread_elbo, sample])
@pytest.mark.parametrize(
    ("decode", "words"),
    [
        (lambda z: (line(z), -3 + 0 * line(z)), "of a log-variance take jnp.exp"),
        (lambda z: (line(z), -3.0), "numbers, such as -3.0"),
        (lambda z: (line(z), jnp.nan * line(z)), "numbers, such as nan"),
        (lambda z: (line(z) / 0, 1.0), "mean must be finite, got"),
    ],
)
def test_values_that_are_no_moments_are_told_where_they_are_known(call, decode, words):
    """The importance-weighted bound decodes in a loop of JAX, which traces them."""
    with pytest.raises(ValueError, match=re.escape(words)):
        call(decode=decode)


@pytest.mark.parametrize("call", [spread_elbo, iw_bound])
@pytest.mark.parametrize(
    ("others", "error", "words"),
    [
        ({"x": FRAME_WITH_TEXT}, ValueError, "x must hold numbers, got column 'city' of"),
        ({"x": "digits"}, ValueError, "x must be an array of numbers, got the text 'digits'"),
        ({"x": [[1.0, 2.0], [3.0]]}, ValueError, "x must have rows of equal length"),
        ({"x": HOLE}, ValueError, "x must be finite, got nan at row 3, column 2, counted from 1"),
        ({"x": X.astype(np.int32)}, ValueError, "x must be floating, got int32"),
        ({"encode": lambda y: y[..., :1]}, TypeError, "must return (mean, log_var) of the post"),
        ({"encode": lambda y: (y, y)}, ValueError, "latent's dim 1, got shape (64, 2)"),
        ({"encode": lambda y: (jnp.nan * y[..., :1],) * 2}, ValueError, "NaN, in 64 of 64"),
        ({"latent": sj.bernoulli_latent()}, TypeError, "encode must return arrays, got a tuple"),
    ],
)
def test_what_is_no_data_or_posterior_is_told(call, others, error, words):
    with pytest.raises(error, match=re.escape(words)):
        call(**others)


def test_a_mean_of_other_points_than_z_is_told():
    words = "the decoder's mean must have shape (64, 2) for z of shape (64, 1), got (3, 2)"
    with pytest.raises(ValueError, match=re.escape(words)):
        iw_bound(decode=lambda z: (jnp.zeros((3, 2)), 1.0))


def test_a_mean_that_does_not_depend_on_z_names_both_shapes():
    words = "z of shape (1, 64, 1) and returned a mean of shape (2,)"
    with pytest.raises(ValueError, match=re.escape(words)):
        spread_elbo(decode=lambda z: (jnp.zeros(2), jnp.ones(2)))


@pytest.mark.parametrize("call", [spread_elbo, iw_bound])
@pytest.mark.parametrize("like", [pd.DataFrame, np.ndarray.tolist, np.float64, jnp.asarray])
def test_points_of_any_kind_are_the_numbers_that_they_hold(call, like):
    """Truth: the float32 array, bit for bit."""
    np.testing.assert_array_equal(jax.tree.leaves(call(x=like(X)))[0], jax.tree.leaves(call())[0])


@pytest.mark.parametrize("call", [spread_elbo, iw_bound, sample])
@pytest.mark.parametrize(
    "spread",
    [
        sj.gaussian_spread([0.1, 0.2]),
        pytest.param(sj.laplace_spread(0.1), marks=pytest.mark.slow),
    ],
)
def test_one_number_is_a_variance(call, spread):
    """Truth: an array of that number."""
    one = call(spread=spread, decode=lambda z: (line(z), 0.25))
    each = call(spread=spread, decode=lambda z: (line(z), jnp.full_like(line(z), 0.25)))
    np.testing.assert_array_equal(jax.tree.leaves(one)[0], jax.tree.leaves(each)[0])


@pytest.mark.parametrize(
    "parts",
    [
        {},
        pytest.param({"latent": sj.gaussian_latent(1, num_samples=3)}, marks=pytest.mark.slow),
        pytest.param({"latent": "bernoulli"}, marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("call", [spread_elbo, iw_bound, sample])
def test_a_vmapped_decoder_of_a_single_point_works(call, parts):
    """Truth: the same decoder as NumPy's rules of broadcasting would map it."""
    if parts.get("latent") == "bernoulli":
        parts = {"latent": sj.bernoulli_latent(), "encode": lambda y: y[..., :1]}
    mapped = jnp.vectorize(of_a_single_z, signature="(k)->(d),(d)")
    expected = call(decode=mapped, **parts)
    found = call(decode=jax.vmap(of_a_single_z), **parts)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6)


def test_a_vmapped_deterministic_decoder_works():
    z = jax.random.normal(KEY, (3, 5, 1))
    mean, var = moments(jax.vmap(lambda z: (of_a_single_z(z)[0], None), out_axes=(0, None)), z, 2)
    assert var is None
    np.testing.assert_allclose(mean[2, 4], of_a_single_z(z[2, 4])[0], rtol=1e-6)


def test_models_of_a_single_point_are_told_how_to_be_mapped():
    def decode(z):
        return jnp.ones((2, 1)) @ z, jnp.ones(2)

    with pytest.raises(TypeError) as told:
        spread_elbo(decode=decode)
    assert any("(1, 64, 1)" in note and "jnp.vectorize" in note for note in told.value.__notes__)
    with pytest.raises(TypeError) as told:
        spread_elbo(encode=lambda y: (jnp.ones((1, 2)) @ y,) * 2)
    assert any("(64, 2)" in note and "jax.vmap" in note for note in told.value.__notes__)


def test_nothing_is_looked_at_where_jax_traces_it():
    """Under jit a NaN in x or in a variance is a NaN of the bound, as before."""
    bound = jax.jit(lambda x: spread_elbo(x=x, decode=lambda z: (line(z), jnp.nan)).elbo)(HOLE)
    assert np.isnan(bound).all()


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: sample(n=1e3), "n must be a whole number >= 0, got 1000.0"),
        (lambda: iw_bound(num_samples=10.0), "num_samples must be a whole number >= 1, got 10.0"),
        (lambda: sj.gaussian_latent("2"), "dim must be a whole number >= 1, got '2'"),
        (lambda: sj.gaussian_latent(2.0), "dim must be a whole number >= 1, got 2.0"),
        (lambda: sj.bernoulli_latent(dim=2.0), "dim must be 1 to 16 (2^dim states"),
        (lambda: sj.rows(X), "batch_size must be a whole number >= 1, got an array of float32"),
    ],
)
def test_counts_are_whole_numbers(call, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        call()


MODEL = sj.make_vae(2, latent_dim=1, hidden=(4,))


def train(model=MODEL, **others):
    return sj.model_training(model, **{"sample_batch": sj.rows(8), "num_steps": 4, **others})


def own(**others):
    options = {
        "init_params": lambda key: {"mean": jnp.ones((1, 2))},
        "loss_fn": lambda params, key, x, hyper: jnp.mean((x - params["mean"]) ** 2),
        "sample_batch": sj.rows(8),
        "optimizer": lambda hyper: optax.adam(0.1),
        "num_steps": 4,
    }
    return sj.make_training(**{**options, **others})


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: own(optimizer=optax.adam(0.1)), "such as lambda hyper: optax.adam(1e-3), got"),
        (lambda: own(init_params={"w": 1}), "init_params must be a function"),
        (lambda: train(sample_batch=X), "such as rows(batch_size=64), got an array of float32"),
        (lambda: train(spread=sj.gaussian_spread(0.1)), "lambda hyper: gaussian_spread(0.1), got"),
        (lambda: train(loss=0.1), "loss must be a function, such as lambda bound, hyper"),
        (lambda: train({"w": 1}), "model must be a Model, with init, bound and sample"),
    ],
)
def test_a_training_is_made_of_functions(call, words):
    with pytest.raises(TypeError, match=re.escape(words)):
        call()


GRID = {"sigma_fix": 0.1, "learning_rate": 1e-3}


def sweep(training=None, grid=GRID, **others):
    return sj.sweep(training or train(), grid, **{"num_seeds": 1, "data": X, **others})


@pytest.mark.parametrize(
    ("others", "error", "words"),
    [
        ({"training": MODEL}, TypeError, "what model_training or make_training returns, got an ob"),
        ({"checkpoints": 3}, TypeError, "checkpoints must be a folder, got the number 3"),
        ({"on_record": True}, TypeError, "on_record must be a function"),
        ({"on_record": [print, 3]}, TypeError, "on_record must be a function"),
        ({"num_seeds": 3.0}, ValueError, "num_seeds must be a whole number >= 1, got 3.0"),
        ({"num_seeds": "100"}, ValueError, "num_seeds must be a whole number >= 1, got '100'"),
        ({"seed": KEY}, ValueError, "seed must be a whole number from 0 to 2^32 - num_seeds, got"),
        ({"record_every": 2.0}, ValueError, "whole number that divides the 4 steps, got 2.0"),
        ({"grid": 0.1}, ValueError, "grid must be a dict"),
        ({"grid": [0.1, 0.3]}, ValueError, "grid must be a dict"),
        ({"grid": {**GRID, "sigma_fix": "0.1"}}, ValueError, "of one number or more, got '0.1'"),
        ({"grid": {**GRID, "sigma_fix": None}}, ValueError, "of one number or more, got None"),
        ({"grid": {**GRID, "sigma_fix": [0.1, np.nan]}}, ValueError, "not NaN, got [0.1, nan]"),
        ({"data": HOLE}, ValueError, "data must be finite, got nan at row 3, column 2, counted"),
        ({"data": jnp.asarray(HOLE)}, ValueError, "data must be finite, got nan at row 3, column"),
        (
            {"data": {"x": np.where(X > 1, -np.inf, X)}},
            ValueError,
            "must be finite, got -inf at row",
        ),
        (
            {"data": pd.DataFrame(HOLE, columns=["a", "b"])},
            ValueError,
            "got nan at row 3, column 2 ('b'), counted from 1",
        ),
        ({"data": FRAME_WITH_TEXT}, ValueError, "data must hold numbers, got column 'city'"),
        ({"data": "x.csv"}, ValueError, "read it first, sj.load_dataset('x.csv').train"),
        ({"data": X[:0]}, ValueError, "data must have rows, got shape (0, 2)"),
        ({"data": X * np.float64(1e300)}, ValueError, "data must fit float32, got numbers from -"),
        ({"data": X.astype(np.uint8)}, ValueError, "x must be floating, got uint8"),
        ({"data": X[:, [0, 1, 1]]}, ValueError, "model's dim 2, got shape (8, 3)"),
    ],
)
def test_a_sweep_that_cannot_be_is_refused_before_training(others, error, words):
    with np.errstate(all="ignore"), pytest.raises(error, match=re.escape(words)):
        sweep(**others)


def test_a_dataset_is_told_by_its_part():
    data = sj.Dataset("mine", X, X, X)
    with pytest.raises(ValueError, match=r"got a Dataset: give its part to train on, \.train"):
        sweep(data=data)


@pytest.mark.parametrize("loss", [lambda error: error, lambda error: (error.mean(), {})])
def test_a_loss_is_one_number(loss):
    training = own(loss_fn=lambda params, key, x, hyper: loss((x - params["mean"]) ** 2))
    with pytest.raises(ValueError, match="loss_fn must return one number"):
        sweep(training, {})


def test_a_wrong_key_of_parameters_is_no_number_of_the_grid():
    """The grid cannot help: giving a number of that name leaves the error as it is."""
    with pytest.raises(KeyError, match="maen"):
        sweep(own(loss_fn=lambda params, key, x, hyper: jnp.sum(params["maen"])), {})
    both = own(loss_fn=lambda params, key, x, hyper: params["maen"] * hyper["scale"])
    with pytest.raises(KeyError, match="maen"):
        sweep(both, {"scale": 1.0})
    both = own(loss_fn=lambda params, key, x, hyper: hyper["scale"] * params["maen"])
    with pytest.raises(ValueError, match=r"reads 'scale' from hyper.*the grid gives nothing"):
        sweep(both, {})


@pytest.mark.slow
@pytest.mark.parametrize("like", [pd.DataFrame, np.ndarray.tolist])
def test_data_of_any_kind_train_as_the_numbers_that_they_hold(like):
    """Truth: the float32 array, bit for bit."""
    found = sweep(own(), {}, data=like(X)).dataset["loss"].values
    np.testing.assert_array_equal(found, sweep(own(), {}).dataset["loss"].values)


@pytest.mark.parametrize(
    ("scales", "names"),
    [
        ([1.0, 1e6], "column 2 ranges over .*, column 1 over"),
        ([1e-6, 1.0], "column 2 ranges over .*, column 1 over"),
        ([1.0, 1e3], ""),
        ([1.0, 0.0], ""),  # a constant
    ],
)
def test_columns_of_wildly_different_scale_are_warned_of_once(scales, names):
    x = (X * np.float64(scales)).astype(np.float32)
    told = pytest.warns(UserWarning, match=names + ".*standardize") if names else None
    if told is None:
        sj.sweeps.inputs.checked_data(x)  # a warning would be an error
        return
    with told as warned:
        sj.sweeps.inputs.checked_data(x)
    assert len(warned) == 1
    with pytest.warns(UserWarning, match="column 'b' ranges over"):
        sj.sweeps.inputs.checked_data(pd.DataFrame(x, columns=["a", "b"]))
