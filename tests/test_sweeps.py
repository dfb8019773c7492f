import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import xarray as xr

from spread_jax import make_training, sweeps
from spread_jax.sweeps import compiler, groups


def walk(num_steps=40, loss_fn=None, width=2, **others):
    """A training cheap enough to compile many times: params follow a noisy target."""

    def squared_error(params, key, x, hyper):
        return jnp.sum(jnp.square(params - x)) * hyper["scale"]

    return make_training(
        init_params=lambda key: jax.random.normal(key, (width,)),
        loss_fn=loss_fn or squared_error,
        sample_batch=lambda key, data, hyper: jax.random.normal(key, (width,)),
        optimizer=lambda hyper: optax.adam(hyper["learning_rate"]),
        num_steps=num_steps,
        observe=lambda params: {"params": params},
        **others,
    )


GRID = {"scale": [0.5, 2.0, 7.0], "learning_rate": 0.1}
CELLS = [
    {"arm": "near", "scale": 0.5, "learning_rate": 0.1},
    {"arm": "far", "scale": 7.0, "learning_rate": 0.1},
    {"arm": "near", "scale": 7.0, "learning_rate": 0.1},
]


def test_axes_coordinates_and_units():
    result = sweeps.sweep(
        walk(),
        GRID,
        num_seeds=4,
        seed=10,
        record_every=5,
        variables={"params": sweeps.Variable(("side",), "where it is", "m")},
    )
    dataset = result.dataset
    assert dict(dataset.sizes) == {"scale": 3, "seed": 4, "step": 8, "side": 2}
    np.testing.assert_array_equal(dataset.seed, [10, 11, 12, 13])
    np.testing.assert_array_equal(dataset.step, np.arange(5, 41, 5))
    np.testing.assert_array_equal(dataset.scale, GRID["scale"])
    assert dataset.attrs == {"learning_rate": 0.1}
    assert all({"long_name", "units"} <= set(v.attrs) for v in dataset.data_vars.values())
    assert dataset["params"].attrs["units"] == "m"
    assert dataset["max_loss_rise"].attrs["better"] == "lower"
    assert dataset["first_nonfinite_step"].attrs["better"] == "higher"
    assert "better" not in dataset["loss"].attrs
    np.testing.assert_array_equal(result.hyper["scale"][:, 1], np.float32(GRID["scale"]))
    np.testing.assert_array_equal(result.hyper["learning_rate"], np.full((3, 4), np.float32(0.1)))
    assert result.stacked_params.shape == (3, 4, 2)
    np.testing.assert_array_equal(dataset["params"].isel(step=-1), result.stacked_params)


def test_a_run_of_a_sweep_can_be_repeated_alone():
    """The same key and numbers, by `train` itself; other batch sizes may reorder float sums."""
    training = walk()
    dataset = sweeps.sweep(training, GRID, num_seeds=5, record_every=1).dataset
    hyper = {"scale": jnp.float32(7.0), "learning_rate": jnp.float32(0.1)}
    _, history = jax.jit(training.train)(jax.random.key(3), hyper)
    np.testing.assert_allclose(dataset["loss"].sel(scale=7.0, seed=3), history["loss"], rtol=1e-5)


def test_a_larger_grid_changes_no_bit_of_a_run(monkeypatch):
    monkeypatch.setattr(groups, "MAX_RUNS_PER_DEVICE", 2)
    small = sweeps.sweep(walk(), {**GRID, "scale": [0.5, 7.0]}, num_seeds=2).dataset
    large = sweeps.sweep(walk(), {**GRID, "scale": [0.5, 1.0, 7.0, 9.0]}, num_seeds=3).dataset
    xr.testing.assert_identical(small, large.sel(scale=[0.5, 7.0], seed=[0, 1]))


@pytest.mark.slow
def test_groups_and_padding_change_nothing(monkeypatch):
    whole = sweeps.sweep(walk(), GRID, num_seeds=5).dataset
    monkeypatch.setattr(groups, "MAX_RUNS_PER_DEVICE", 2)
    grouped = sweeps.sweep(walk(), GRID, num_seeds=5).dataset
    xr.testing.assert_allclose(whole, grouped, rtol=1e-5)


@pytest.mark.parametrize("num_seeds", [1, 50])
def test_the_loss_is_traced_twice_whatever_the_grid(num_seeds):
    """Once to see what it reads, and once in the program: JAX shares no trace with a mesh's."""
    traces = []

    def loss_fn(params, key, x, hyper):
        traces.append(1)
        return jnp.sum(jnp.square(params - x)) * hyper["scale"]

    sweeps.sweep(walk(loss_fn=loss_fn), GRID, num_seeds=num_seeds)
    assert len(traces) == 2


def test_a_run_that_breaks_spoils_no_other():
    """The same seeds beside a diverging neighbour, bit for bit; the break is dated."""
    grid = {"scale": [1.0, 2.0], "learning_rate": 0.1}
    broken = {"scale": [1.0, np.inf], "learning_rate": 0.1}
    alone = sweeps.sweep(walk(), grid, num_seeds=3).dataset.isel(scale=0)
    words = r"3 of 6 runs broke, the first after 0 steps \(scale inf, seed 0\): hyper\['scale'\]"
    with pytest.warns(UserWarning, match=words):
        beside = sweeps.sweep(walk(), broken, num_seeds=3).dataset
    xr.testing.assert_identical(alone, beside.isel(scale=0))
    assert (beside["first_nonfinite_step"].isel(scale=1) == 0).all()
    assert np.isnan(beside["max_loss_rise"].isel(scale=1)).all()
    assert (beside["first_nonfinite_step"].isel(scale=0) == np.inf).all()


def test_progress_counts_run_steps_and_broken_runs():
    told = []
    grid = {"scale": [1.0, np.inf], "learning_rate": 0.1}
    with pytest.warns(UserWarning, match="3 of 6 runs broke"):
        result = sweeps.sweep(walk(), grid, num_seeds=3, seed=5, on_record=[told.append])
    done = [records.done for records in told]
    assert done[0] == 0
    assert done == sorted(done)
    last = told[-1]
    assert (last.done, last.total, last.num_nonfinite) == (6 * 40, 6 * 40, 3)
    assert told[0].curves["loss"].shape == (6, 0)
    assert [records.num_new for records in told] == [0, *[2] * sweeps.NUM_CHUNKS]
    np.testing.assert_array_equal(last.curves["loss"].reshape(2, 3, 40), result.dataset["loss"])
    np.testing.assert_array_equal(last.steps, result.dataset["step"])
    np.testing.assert_array_equal(last.runs, np.arange(6))
    assert {name: values.tolist() for name, values in last.labels.items()} == {
        "seed": [5, 6, 7] * 2,
        "scale": [1.0] * 3 + [np.inf] * 3,
        "learning_rate": [np.float32(0.1)] * 6,
    }


@pytest.mark.parametrize("num_steps", [1, 7, 41])
def test_any_number_of_steps_works(num_steps):
    dataset = sweeps.sweep(walk(num_steps), {**GRID, "scale": 1.0}, num_seeds=3).dataset
    assert dataset.sizes == {"seed": 3, "step": num_steps, "params_0": 2}


@pytest.mark.parametrize(
    ("steps", "runs", "every"),
    [
        *((1, 1, 1), (999, 1, 1), (1000, 1, 1), (10_000, 1, 10), (10_007, 1, 1), (25_000, 1, 25)),
        *((10_000, 1_000, 10), (10_000, 4_096, 40), (10, 10_000_000, 10)),
    ],
)
def test_curves_have_a_thousand_points_or_share_a_million(steps, runs, every):
    assert sweeps.default_record_every(steps, runs) == every


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"num_seeds": 0}, "num_seeds"),
        ({"seed": -1}, "num_seeds"),
        ({"seed": 2**32}, "num_seeds"),
        ({"record_every": 3}, "divides the 40 steps"),
        ({"record_every": 0}, "divides the 40 steps"),
        ({"grid": {**GRID, "seed": [1.0, 2.0]}}, "uses? that name"),
        ({"grid": {**GRID, "loss": [1.0, 2.0]}}, "uses? that name"),
        ({"grid": {**GRID, "scale": []}}, "one number or more"),
        ({"grid": []}, "one or more, all with the same keys"),
        ({"grid": [{}]}, "one or more, all with the same keys"),
        ({"grid": [CELLS[0], {"arm": "near"}]}, "one or more, all with the same keys"),
        ({"grid": [CELLS[0], {**CELLS[1], "arm": 1.0}]}, "arm must be a number in every cell"),
        ({"grid": [{**CELLS[0], "cell": 1.0}]}, "use that name"),
    ],
)
def test_impossible_sweeps_are_refused(bad, message):
    with pytest.raises(ValueError, match=message):
        sweeps.sweep(walk(), **{"grid": GRID, "num_seeds": 1, **bad})


@pytest.fixture(scope="module")
def of_cells():
    return sweeps.sweep(walk(), CELLS, num_seeds=2, seed=4)


@pytest.fixture(scope="module")
def of_axes():
    return sweeps.sweep(walk(), GRID, num_seeds=2, seed=4)


def test_a_list_of_cells_has_the_runs_of_the_product(of_cells, of_axes):
    """Truth: the product's runs; its other number of runs may reorder float sums."""
    assert dict(of_cells.dataset.sizes) == {"cell": 3, "seed": 2, "step": 40, "params_0": 2}
    for name in CELLS[0]:
        assert of_cells.dataset[name].dims == ("cell",)
        assert of_cells.dataset[name].values.tolist() == [cell[name] for cell in CELLS]
    assert set(of_cells.hyper) == {"scale", "learning_rate"}
    np.testing.assert_array_equal(of_cells.hyper["scale"][:, 0], [0.5, 7.0, 7.0])
    expected = of_axes.dataset["loss"].sel(scale=[0.5, 7.0, 7.0])
    np.testing.assert_allclose(of_cells.dataset["loss"], expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("labels", "where"),
    [
        ({}, np.s_[:, :]),
        ({"seed": 5}, np.s_[:, 1]),
        ({"arm": "near"}, np.s_[[0, 2]]),
        ({"arm": "far"}, np.s_[1]),
        ({"arm": "near", "scale": np.float32(7.0), "seed": 4}, np.s_[2, 0]),
        ({"learning_rate": 0.1, "seed": 4}, np.s_[:, 0]),
    ],
)
def test_parameters_of_cells_are_picked_by_label(labels, where, of_cells):
    np.testing.assert_array_equal(of_cells.params(**labels), of_cells.stacked_params[where])


@pytest.mark.parametrize(
    ("labels", "where"),
    [
        ({"scale": 2.0 * (1 + 1e-7)}, np.s_[1]),
        ({"seed": 5}, np.s_[:, 1]),
        ({"scale": 7, "seed": 4, "learning_rate": np.float32(0.1)}, np.s_[2, 0]),
    ],
)
def test_parameters_of_a_product_are_picked_by_label(labels, where, of_axes):
    np.testing.assert_array_equal(of_axes.params(**labels), of_axes.stacked_params[where])


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ({"sigma": 1.0}, "no label is called 'sigma'; there are arm, scale, learning_rate, seed"),
        ({"arm": "nearer"}, "no run has arm 'nearer'; there are near, far"),
        ({"scale": 7.1}, r"no run has scale 7.1; there are 0.5, 7.0"),
        ({"seed": 0}, "no run has seed 0; there are 4, 5"),
        ({"arm": "far", "scale": 0.5}, r"no cell has .*there are \('near', 0.5\), \('far', 7.0\)"),
    ],
)
def test_labels_of_no_run_are_refused_and_the_known_ones_named(labels, message, of_cells):
    with pytest.raises(ValueError, match=message):
        of_cells.params(**labels)


def test_a_constant_of_the_grid_is_a_label_too(of_axes):
    with pytest.raises(ValueError, match=r"no run has learning_rate 0.2; there are 0.1"):
        of_axes.params(learning_rate=0.2)


@pytest.mark.parametrize(
    ("grid", "message"),
    [
        ({"scale": 1.0}, "reads 'learning_rate' from hyper.*the grid gives scale$"),
        ({"learning_rate": 0.1}, "reads 'scale' from hyper.*the grid gives learning_rate$"),
        ({**GRID, "sacle": 1.0}, "not read sacle from hyper.*reads learning_rate, scale$"),
        ([{**cell, "sigma": 0.0} for cell in CELLS], "does not read sigma"),
    ],
)
def test_the_grid_gives_what_the_training_reads(grid, message):
    with pytest.raises(ValueError, match=message):
        sweeps.sweep(walk(), grid, num_seeds=1)


def test_a_number_that_only_the_start_or_only_a_step_reads_is_read():
    training = walk()._replace(
        init=lambda key, hyper: walk().init(key, {"scale": hyper["a"], "learning_rate": 0.1})
    )
    sweeps.sweep(training, {"a": 1.0}, num_seeds=1)  # passed on under another name
    picked = pick(make_data=lambda key, hyper: hyper["shift"] + jnp.asarray(DATA))
    sweeps.sweep(picked, {**GRID, "shift": 1.0}, num_seeds=1)


def test_a_key_error_of_another_kind_is_left_as_it_is():
    def loss_fn(params, key, x, hyper):
        return {}[3]

    with pytest.raises(KeyError, match="3"):
        sweeps.sweep(walk(loss_fn=loss_fn), GRID, num_seeds=1)


def test_options_that_xla_does_not_know_are_left_out_with_one_warning(monkeypatch):
    """Truth: a sweep without the invented option."""
    without = sweeps.sweep(walk(), GRID, num_seeds=1).dataset
    invented = {**compiler.CPU_OPTIONS, "xla_invented": 1}
    monkeypatch.setattr(compiler, "CPU_OPTIONS", invented)
    monkeypatch.setattr(compiler, "_unknown_options", set())
    with pytest.warns(UserWarning, match="does not know xla_invented;") as warned:
        dataset = sweeps.sweep(walk(), GRID, num_seeds=1).dataset
    assert len(warned) == 1
    xr.testing.assert_identical(dataset, without)


def test_an_error_that_no_option_made_is_raised(monkeypatch):
    def refuse(self, compiler_options):
        raise jax.errors.JaxRuntimeError("out of memory")

    lowered = jax.jit(lambda: 1).lower()
    monkeypatch.setattr(compiler, "_is_known", lambda name, value: True)
    monkeypatch.setattr(jax.stages.Lowered, "compile", refuse)
    with pytest.raises(jax.errors.JaxRuntimeError, match="out of memory"):
        compiler.compile_program(lowered, compiler.CPU_OPTIONS)


def test_what_is_observed_cannot_take_the_place_of_the_loss():
    training = make_training(
        init_params=lambda key: jnp.zeros(()),
        loss_fn=lambda params, key, x, hyper: params**2,
        sample_batch=lambda key, data, hyper: jnp.zeros(()),
        optimizer=lambda hyper: optax.sgd(hyper["scale"]),
        num_steps=4,
        observe=lambda params: {"loss": params},
    )
    with pytest.raises(ValueError, match="other names"):
        sweeps.sweep(training, {"scale": 1.0}, num_seeds=1)


def test_the_compiled_program_has_no_collective():
    """Runs never talk to each other: nothing in the program crosses devices."""
    assert jax.device_count() == 2
    training, groups = walk(), sweeps.Groups(8, bytes_per_run=24)
    (inputs,) = groups.to_devices(
        (np.arange(8, dtype=np.uint32), {k: np.ones(8, np.float32) for k in GRID})
    )
    state = groups.compile(sweeps.initialiser(training), inputs)(inputs)
    text = groups.compile_records(training, state, None, 10, 1).as_text()
    collective = re.compile(r"(all-reduce|all-gather|all-to-all|collective-\w+|reduce-scatter)\(")
    assert "num_partitions=2" in text
    assert not collective.search(text)
    mean = jax.jit(jnp.mean).lower(state.params).compile().as_text()
    assert collective.search(mean)  # a program that does cross devices is seen to


@pytest.mark.parametrize(
    ("bytes_per_run", "runs_per_device"),
    [(24, 32), (60_000, 32), (108_000, 16), (412_000, 4), (6_400_000, 4)],
)
def test_groups_are_as_large_as_the_cache_holds(bytes_per_run, runs_per_device):
    assert jax.device_count() == 2
    assert sweeps.Groups(1_000, bytes_per_run).size == 2 * runs_per_device
    assert sweeps.Groups(6, bytes_per_run).size == 6


def test_a_run_weighs_its_parameters_and_both_of_adams_moments():
    """Truth: two float32 parameters, as many first and second moments, and Adam's int32 count."""
    runs = (np.arange(3, dtype=np.uint32), {k: np.ones(3, np.float32) for k in GRID})
    assert sweeps.bytes_per_run(sweeps.initialiser(walk()), runs) == 3 * 2 * 4 + 4


def test_only_larger_networks_get_ynnpacks_products():
    large = compiler.OF_LARGER_NETWORKS.items()
    assert not large <= sweeps.Groups(8, bytes_per_run=24).options.items()
    assert large <= sweeps.Groups(8, bytes_per_run=10**6).options.items()


def test_threads_are_for_cores_without_a_device(monkeypatch):
    alone = compiler.OF_A_DEVICE_PER_CORE.items()
    monkeypatch.setattr(compiler, "num_cores", lambda: 2)  # as many as devices
    assert alone <= sweeps.Groups(8, bytes_per_run=24).options.items()
    monkeypatch.setattr(compiler, "num_cores", lambda: 3)
    assert not alone & sweeps.Groups(8, bytes_per_run=24).options.items()


def test_one_run_has_one_device_and_all_cores(monkeypatch):
    monkeypatch.setattr(compiler, "num_cores", lambda: 2)
    groups = sweeps.Groups(1, bytes_per_run=24)
    assert (groups.num_devices, groups.size) == (1, 1)
    assert not compiler.OF_A_DEVICE_PER_CORE.items() & groups.options.items()


def test_padding_is_dropped_on_the_way_back():
    groups = sweeps.Groups(5, bytes_per_run=24)
    runs = {"a": np.arange(5.0), "b": np.arange(15.0).reshape(5, 3)}
    back = groups.to_host(groups.to_devices(runs))
    np.testing.assert_array_equal(back["a"], runs["a"])
    np.testing.assert_array_equal(back["b"], runs["b"])


DATA = np.random.default_rng(0).normal(size=(50, 2)).astype(np.float32)


def squared_error(params, key, x, hyper):
    return jnp.square(params - x).sum() * hyper["scale"]


def pick(num_steps=40, make_data=lambda key, hyper: None, loss_fn=squared_error):
    """A training whose batches are rows of a data set."""
    return make_training(
        init_params=lambda key: jax.random.normal(key, (2,)),
        loss_fn=loss_fn,
        sample_batch=lambda key, data, hyper: data[jax.random.randint(key, (), 0, len(data))],
        optimizer=lambda hyper: optax.adam(hyper["learning_rate"]),
        num_steps=num_steps,
        make_data=make_data,
        observe=lambda params: {"params": params},
    )


def same(result, other, **tolerance):
    for name in ("loss", "loss_max", "params", "late_loss_std", "max_loss_rise"):
        np.testing.assert_allclose(
            result.dataset[name].values, other.dataset[name].values, **tolerance
        )


@pytest.mark.slow
def test_shared_data_are_as_good_as_a_runs_own():
    """Truth: the same rows held in every run's state, bit for bit."""
    own = sweeps.sweep(pick(make_data=lambda key, hyper: jnp.asarray(DATA)), GRID, num_seeds=3)
    shared = sweeps.sweep(pick(), GRID, num_seeds=3, data=DATA)
    same(shared, own, rtol=0, atol=0)


def convolve(num_steps=40):
    """:func:`pick` with what a CPU steps from Python: its point is convolved with one weight."""

    def loss_fn(params, key, x, hyper):
        kernel = jnp.ones((1, 1, 1))
        moved = jax.lax.conv_general_dilated((params - x)[None, None], kernel, (1,), "SAME")
        return jnp.square(moved).sum() * hyper["scale"]

    return pick(num_steps, loss_fn=loss_fn)


@pytest.mark.slow
def test_a_convolution_on_a_cpu_is_stepped_from_python(monkeypatch):
    """Truth: the scan of the same loss without one; float sums may be reordered. 3 runs, 2
    devices."""
    monkeypatch.setattr(sweeps.engine, "Groups", None)  # not asked for
    told = []
    options = {"num_seeds": 1, "record_every": 4, "data": DATA}
    steps = sweeps.sweep(
        convolve(), GRID, **options, on_record=lambda records: told.append(records.done)
    )
    monkeypatch.undo()
    scan = sweeps.sweep(pick(), GRID, **options)
    same(steps, scan, rtol=1e-5)
    assert told == sorted(told)
    assert told[-1] == 3 * 40


@pytest.mark.slow
@pytest.mark.parametrize("training", [pick, convolve])
def test_shared_data_are_no_part_of_a_checkpoint_and_resuming_changes_nothing(training, tmp_path):
    """Truth: the run without a break, bit for bit."""
    options = {"num_seeds": 3, "record_every": 2, "data": DATA}
    whole = sweeps.sweep(training(), GRID, **options)

    class StoppedError(Exception):
        pass

    def stop(records):
        if records.num_new and records.done > 100:
            raise StoppedError

    options["checkpoints"] = tmp_path
    with pytest.raises(StoppedError):
        sweeps.sweep(training(), GRID, **options, on_record=stop)
    resumed = sweeps.sweep(training(), GRID, **options)
    same(resumed, whole, rtol=0, atol=0)
    assert 0 < resumed.trained_run_steps < 9 * 40 - 100
    size = sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file())
    assert size < 100_000


@pytest.mark.parametrize("name", ["scale", "seed", "first_nonfinite_step"])
def test_what_is_observed_has_a_name_of_its_own(name):
    """Otherwise it would take the place of a coordinate, and no run could be found by it."""
    training = walk()._replace(observe=lambda params: {name: params})
    with pytest.raises(ValueError, match=f"other names than \\['{name}'\\]"):
        sweeps.sweep(training, GRID, num_seeds=1)
