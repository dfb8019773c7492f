from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr

from spread_jax import VAE, Metric, Model, judge, metrics, model_training, rows, sweep
from spread_jax.data import Dataset
from spread_jax.judgement import each_run, first_samples, judge_samples
from spread_jax.objectives import Bound
from spread_jax.spreads import gaussian_spread

RNG = np.random.default_rng(0)
DATA = Dataset("by hand", *(RNG.normal(2.0, 1.0, (n, 1)).astype(np.float32) for n in (50, 7, 12)))


class Normal(NamedTuple):
    """A density and no VAE: N(x; mean, 1), so that N(y; mean, 1 + σ²), without a latent."""

    def init(self, key):
        return {"mean": jax.random.normal(key)}

    def bound(self, params, key, x, spread):
        y = spread.sample(key, x)
        one = jnp.ones((1,) * x.ndim)
        log_prob = spread.log_prob(y, params["mean"] * one, one)
        return Bound(log_prob, jnp.zeros_like(log_prob))

    def sample(self, params, key, n, spread):
        return params["mean"] + jax.random.normal(key, (n, 1))


NORMAL = Normal()
OFFSET = Metric("offset", "data units", "lower", lambda run: abs(run.params["mean"] - 2.0))
GRID = {"sigma_fix": [0.1, 0.5], "learning_rate": 0.05}


@pytest.fixture(scope="module")
def runs():
    """Two noises, three seeds."""
    training = model_training(NORMAL, sample_batch=rows(16), num_steps=200)
    return sweep(training, GRID, num_seeds=3, record_every=50, data=jnp.asarray(DATA.train))


@pytest.mark.slow
def test_a_model_without_encoder_and_decoder_is_trained_judged_and_sampled(runs):
    """Truths: the mean of the training data, within 5 standard errors of the last batches; the
    log-likelihood of the test part; and samples of N(mean, 1)."""
    assert isinstance(NORMAL, Model)
    assert not isinstance(NORMAL, VAE)
    mean = runs.stacked_params["mean"]
    np.testing.assert_allclose(mean, DATA.train.mean(), atol=0.4)
    assert np.ptp(mean) > 0
    judged = judge(NORMAL, runs, DATA, [OFFSET, *metrics.BOUNDS, metrics.ENERGY_DISTANCE])
    assert np.isnan(judged["active_dims"]).all()  # there is no z
    np.testing.assert_array_equal(judged["offset"], np.abs(mean - 2.0))
    plain = runs._replace(hyper={**runs.hyper, "sigma_fix": np.zeros((2, 3), np.float32)})
    exact = judge(NORMAL, plain, DATA, metrics.BOUNDS[:2])
    for name, part in (("train_bound", DATA.train), ("test_bound", DATA.test)):
        log_prob = -0.5 * (np.log(2 * np.pi) + (part.reshape(1, 1, -1) - mean[..., None]) ** 2)
        np.testing.assert_allclose(exact[name], log_prob.mean(-1), rtol=1e-5)
    samples = first_samples(NORMAL, runs, DATA, 9, seed=4)
    assert samples.dims == ("sigma_fix", "point", "dim")
    draws = jax.random.normal(jax.random.key(4), (9, 1))
    np.testing.assert_allclose(samples, mean[:, :1, None] + draws[None], rtol=1e-6)


def test_a_judged_dataset_is_the_runs_with_labelled_numbers(runs):
    judged = judge(
        NORMAL, runs, DATA, [OFFSET, OFFSET._replace(name="on_name", long_name="how far")]
    )
    assert judged["offset"].dims == ("sigma_fix", "seed")
    assert judged["offset"].attrs == {
        "long_name": "offset",
        "units": "data units",
        "better": "lower",
    }
    assert judged["on_name"].attrs["long_name"] == "how far"
    by_default = judge(NORMAL, runs, DATA, [OFFSET._replace(name="is_far_off")])["is_far_off"]
    assert by_default.attrs["long_name"] == "is far off"
    assert judged.drop_vars(["offset", "on_name"]).identical(runs.dataset)


def test_bools_stay_bools_and_numbers_numbers(runs):
    kinds = {
        "holds": (lambda run: bool(run.hyper["sigma_fix"] > 0.3), bool),
        "count": (lambda run: 3, int),
        "broken": (lambda run: np.nan, float),
    }
    of = [Metric(name, "1", "", function) for name, (function, _) in kinds.items()]
    judged = judge(NORMAL, runs, DATA, of)
    for name, (_, kind) in kinds.items():
        assert judged[name].dtype == kind
    np.testing.assert_array_equal(judged["holds"], [[False] * 3, [True] * 3])


@pytest.mark.parametrize(("better", "worst"), [("lower", True), ("higher", False)])
def test_among_bools_a_run_without_an_answer_is_the_worst(runs, better, worst):
    def function(run):
        return np.nan if run.hyper["sigma_fix"] > 0.3 else np.bool_(not worst)

    judged = judge(NORMAL, runs, DATA, [Metric("holds", "1", better, function)])
    np.testing.assert_array_equal(judged["holds"], [[not worst] * 3, [worst] * 3])
    assert judged["holds"].dtype == bool


@pytest.mark.parametrize("names", [["offset", "offset"], ["loss"], ["offset", "late_loss_std"]])
def test_names_that_are_taken_are_refused_before_anything_is_computed(runs, names):
    def function(run):
        raise AssertionError("nothing may be computed")

    with pytest.raises(ValueError, match=f"these names are taken: {names[-1]}"):
        judge(NORMAL, runs, DATA, [Metric(name, "1", "", function) for name in names])
    with pytest.raises(ValueError, match="sigma_fix"):
        judge(NORMAL, runs, DATA, [Metric("sigma_fix", "1", "", function)])


@pytest.mark.parametrize(("part", "size"), [("validation", 7), ("test", 12)])
def test_runs_are_judged_on_the_part_that_is_asked_for(runs, part, size):
    """And by as many samples as it has rows."""
    (run, *_) = each_run(NORMAL, runs, DATA, part=part)
    np.testing.assert_array_equal(run.held_out, getattr(DATA, part))
    assert run.samples.shape == (size, 1)
    total = Metric("total", "data units", "", lambda run: run.held_out.sum())
    expected = getattr(DATA, part).sum()
    judged = judge(NORMAL, runs, DATA, [total], part=part)
    np.testing.assert_allclose(judged["total"], np.full((2, 3), expected), rtol=1e-6)


def test_samples_are_at_most_three_thousand_unless_asked_for(runs):
    many = DATA._replace(test=np.zeros((3500, 1), np.float32))
    assert next(each_run(NORMAL, runs, many)).num_samples == 3000
    assert next(each_run(NORMAL, runs, many, num_samples=3400)).num_samples == 3400


def test_all_runs_draw_with_one_key(runs):
    """Samples less the mean are one draw; the seed changes it."""
    draws = [run.samples - run.params["mean"] for run in each_run(NORMAL, runs, DATA)]
    for other in draws[1:]:
        np.testing.assert_allclose(other, draws[0], atol=1e-6)
    (again, *_) = each_run(NORMAL, runs, DATA, seed=1)
    assert np.abs(again.samples - again.params["mean"] - draws[0]).max() > 0.1


def test_each_run_comes_in_the_order_of_the_axes_with_its_own_curves(runs):
    """Truth: indexing by hand; also where the variables' axes are transposed."""
    transposed = runs._replace(dataset=runs.dataset.transpose("step", "seed", "sigma_fix"))
    order = [(i, j) for i in range(2) for j in range(3)]
    turned = [(i, j) for j in range(3) for i in range(2)]
    for sweep_, indices in ((runs, order), (transposed, turned)):
        if sweep_ is transposed:
            sweep_ = sweep_._replace(
                stacked_params=jax.tree.map(lambda leaf: leaf.swapaxes(0, 1), runs.stacked_params),
                hyper={name: numbers.T for name, numbers in runs.hyper.items()},
            )
        found = list(each_run(NORMAL, sweep_, DATA))
        assert len(found) == 6
        for run, (i, j) in zip(found, indices, strict=True):
            assert run.hyper == {
                "sigma_fix": pytest.approx(GRID["sigma_fix"][i]),
                "learning_rate": pytest.approx(0.05),
            }
            assert run.params["mean"] == runs.stacked_params["mean"][i, j]
            np.testing.assert_array_equal(run.curves["step"], [50, 100, 150, 200])
            np.testing.assert_array_equal(run.curves["loss"], runs.dataset["loss"].values[i, j])


def test_the_spread_is_that_of_the_runs_own_numbers(runs):
    """Truth: the bound under N(0, σ²) noise on the model alone, σ = 10 sigma_fix."""
    none = gaussian_spread(0.0)

    def spread(hyper):
        return none._replace(log_prob=gaussian_spread(10 * hyper["sigma_fix"]).log_prob)

    for run in each_run(NORMAL, runs, DATA, spread=spread):
        var = 1 + (10 * run.hyper["sigma_fix"]) ** 2
        square = (DATA.test[:, 0] - run.params["mean"]) ** 2
        truth = -0.5 * (np.log(2 * np.pi * var) + square / var)
        np.testing.assert_allclose(run.bound(DATA.test).elbo, truth, rtol=1e-5)


def test_batches_of_points_have_keys_of_their_own_and_do_not_change_what_is_returned(runs):
    (run, *_) = each_run(NORMAL, runs, DATA)

    def noise(model, params, spread, key, x):
        return {"x": x, "draw": jax.random.normal(key, (len(x),))}

    x = RNG.normal(size=(25, 1)).astype(np.float32)
    for at_once in (1, 10, 25, 1000):
        found = run.ask_of_points(noise, x, at_once)
        np.testing.assert_array_equal(found["x"], x)
        assert len(np.unique(found["draw"])) == 25  # no batch shares its noise with another


def test_what_several_metrics_share_is_computed_once_a_run(runs):
    calls = []

    def dear(run):
        calls.append(run)
        return run.held_out.sum()

    of = [Metric(name, "1", "", lambda run: run.once(dear)) for name in ("one", "two")]
    judge(NORMAL, runs, DATA, of)
    assert len(calls) == 6
    assert len(set(map(id, calls))) == 6


def test_first_samples_of_cells_have_the_cells_axis(runs_by_hand):
    """Of a list of cells; truth: the first seed's mean and one draw for all."""
    mean = np.array([[1.0, 9.0], [2.0, 9.0], [3.0, 9.0]], np.float32)
    dataset = xr.Dataset(
        {"first_nonfinite_step": (("cell", "seed"), np.full((3, 2), np.inf))},
        {"arm": ("cell", ["a", "b", "c"]), "step": [1]},
    )
    by_hand = runs_by_hand({"mean": mean})._replace(
        dataset=dataset, hyper={"sigma_fix": np.zeros((3, 2), np.float32)}
    )
    samples = first_samples(NORMAL, by_hand, DATA, 4)
    assert samples.dims == ("cell", "point", "dim")
    assert samples.attrs["units"] == "data units"
    draws = jax.random.normal(jax.random.key(0), (4, 1))
    np.testing.assert_allclose(samples, mean[:, :1, None] + draws[None], rtol=1e-6)


def test_points_in_place_of_samples_are_judged_by_metrics_of_samples_only():
    x = RNG.normal(size=(12, 1)).astype(np.float32)
    shift = Metric("shift", "data units", "", lambda run: run.samples.mean() - run.hyper["at"])
    found = judge_samples(x, DATA, [metrics.ENERGY_DISTANCE, shift], {"at": 0.5})
    assert found == {
        "energy_distance": metrics.energy_distance(x, DATA.test),
        "shift": pytest.approx(x.mean() - 0.5),
    }
    with pytest.raises(ValueError, match="samples without a model"):
        judge_samples(x, DATA, metrics.BOUNDS[:1])
