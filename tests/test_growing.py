"""Sweeps that grow, are killed, and are merged: they are what training at once gives."""

import json
import os
import random
import shutil
import time

import forked
import jax
import numpy as np
import optax
import pytest
import xarray as xr
from test_sweeps import CELLS, DATA, GRID, convolve, pick, walk

from spread_jax import make_training, sweeps
from spread_jax.sweeps import groups

CORES = sorted(os.sched_getaffinity(0))[:2]  # a device each
TWO_PER_DEVICE = 2  # so that sweeps of 4 runs or more have groups of one size


@pytest.fixture(autouse=True)
def equal_groups(monkeypatch):
    """Digits can differ between groups of another size; and they are quick to compile."""
    monkeypatch.setattr(groups, "MAX_RUNS_PER_DEVICE", TWO_PER_DEVICE)


def sweep(checkpoints=None, *, training=None, grid=GRID, num_seeds=2, record_every=1, **others):
    return sweeps.sweep(
        training or walk(),
        grid,
        num_seeds=num_seeds,
        record_every=record_every,
        checkpoints=checkpoints,
        **others,
    )


def assert_same(result, other):
    """To the last bit: curves, statistics, parameters."""
    xr.testing.assert_identical(result.dataset, other.dataset)
    jax.tree.map(np.testing.assert_array_equal, result.stacked_params, other.stacked_params)


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.slow
def test_more_seeds_and_more_values_train_what_is_missing(tmp_path):
    """Truth: training at once. What was there before stays as it is, and nothing is trained when
    all is there, or less is asked for."""
    sweep(tmp_path)
    before = contents(tmp_path)
    more = sweep(tmp_path, num_seeds=3)
    assert (more.trained_runs, more.trained_run_steps) == (3, 3 * 40)
    at_once = sweep(num_seeds=3)
    assert_same(more, at_once)
    grid = {"scale": [0.1, *GRID["scale"], 9.0], "learning_rate": 0.1}
    wider = sweep(tmp_path, grid=grid, num_seeds=3)
    assert wider.trained_runs == 6
    xr.testing.assert_identical(wider.dataset.isel(scale=slice(1, 4)), at_once.dataset)
    assert before.items() <= contents(tmp_path).items()
    again = sweep(tmp_path, grid=grid, num_seeds=3)
    assert (again.trained_runs, again.trained_run_steps) == (0, 0)
    assert_same(again, wider)
    less = sweep(tmp_path, num_seeds=1, seed=1)
    assert less.trained_runs == 0
    xr.testing.assert_identical(less.dataset, at_once.dataset.sel(seed=[1]))


def test_a_product_and_a_list_of_cells_share_their_runs(tmp_path):
    """Truth: the runs of the product."""
    product = sweep(tmp_path)
    of_cells = sweep(tmp_path, grid=CELLS)
    assert of_cells.trained_runs == 0
    expected = product.dataset["loss"].sel(scale=[0.5, 7.0, 7.0])
    np.testing.assert_array_equal(of_cells.dataset["loss"], expected)


def with_rate(schedule, num_steps):
    """A training with a schedule of the learning rate, ``optax.Schedule``."""
    return make_training(
        init_params=lambda key: jax.random.normal(key, (2,)),
        loss_fn=lambda params, key, x, hyper: ((params - x) ** 2).sum() * hyper["scale"],
        sample_batch=lambda key, data, hyper: jax.random.normal(key, (2,)),
        optimizer=lambda hyper: optax.chain(
            optax.scale_by_adam(), optax.scale_by_learning_rate(schedule)
        ),
        num_steps=num_steps,
    )


@pytest.mark.slow
@pytest.mark.parametrize("num_steps", [50, 80, 100, 400])
def test_more_steps_go_on_where_training_does_not_depend_on_their_number(num_steps, tmp_path):
    """Truth: training at once, its statistics of late steps and of the last nine tenths too."""
    short = sweep(tmp_path)
    before = contents(tmp_path)
    longer = sweep(tmp_path, training=walk(num_steps))
    assert longer.trained_runs == 6
    assert longer.trained_run_steps == 6 * (num_steps - 40)
    assert_same(longer, sweep(training=walk(num_steps)))
    assert before.items() <= contents(tmp_path).items()
    again = sweep(tmp_path)
    assert again.trained_runs == 0
    assert_same(again, short)


@pytest.mark.slow
def test_more_steps_of_records_that_no_statistic_begins_within(tmp_path):
    """Truth: training at once. The last nine tenths of 60 steps begin at step 6: within a record of
    4 steps, but not of 2."""
    for record_every, steps_before in ((2, 40), (4, 0)):
        folder = tmp_path / str(record_every)
        sweep(folder, record_every=record_every)
        if steps_before:
            longer = sweep(folder, training=walk(60), record_every=record_every)
        else:
            with pytest.warns(UserWarning, match="number of steps was 40, is 60"):
                longer = sweep(folder, training=walk(60), record_every=record_every)
        assert longer.trained_run_steps == 6 * (60 - steps_before)
        assert_same(longer, sweep(training=walk(60), record_every=record_every))


@pytest.mark.slow
def test_more_steps_begin_anew_where_the_learning_rate_depends_on_their_number(tmp_path):
    """Truth: training at once. A rate that falls, but by steps of its own, goes on."""
    grid = {"scale": [0.5, 2.0]}

    def to_the_end(num_steps):
        return with_rate(optax.cosine_decay_schedule(0.1, num_steps), num_steps)

    sweep(tmp_path / "a", training=to_the_end(40), grid=grid)
    with pytest.warns(UserWarning, match="was 40, is 80; what a step does depends on it"):
        longer = sweep(tmp_path / "a", training=to_the_end(80), grid=grid)
    assert longer.trained_run_steps == 4 * 80
    assert_same(longer, sweep(training=to_the_end(80), grid=grid))

    def by_itself(num_steps):
        return with_rate(optax.cosine_decay_schedule(0.1, 30), num_steps)

    sweep(tmp_path / "b", training=by_itself(40), grid=grid)
    longer = sweep(tmp_path / "b", training=by_itself(80), grid=grid)
    assert longer.trained_run_steps == 4 * 40
    assert_same(longer, sweep(training=by_itself(80), grid=grid))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("other", "words"),
    [
        ({"training": walk(width=3)}, "what a step does differs"),
        ({"record_every": 2}, "record_every was 1, is 2"),
        ({"training": walk(loss_fn=lambda p, k, x, h: (p * x).sum() * h["scale"])}, "what a step"),
        ({"training": pick(), "data": DATA}, "data was , is float32 .50, 2. of SHA-256"),
    ],
)
def test_runs_of_another_training_are_named_kept_and_not_used(other, words, tmp_path):
    sweep(tmp_path)
    before = contents(tmp_path)
    with pytest.warns(UserWarning, match=f"has 6 of these runs as another training.*{words}"):
        result = sweep(tmp_path, **other)
    assert result.trained_runs == 6
    assert before.items() <= contents(tmp_path).items()


@pytest.mark.slow
def test_a_constant_that_the_training_closes_over_tells_it_apart(tmp_path):
    """As a data set that is no argument: nothing has to be told to see that it is another."""
    for data, trained in ((DATA, 6), (DATA + 1, 6), (DATA, 0)):
        training = pick(make_data=lambda key, hyper, data=data: jax.numpy.asarray(data))
        with pytest.warns() if trained and data is not DATA else _nothing():
            assert sweep(tmp_path, training=training).trained_runs == trained


class _nothing:  # noqa: N801
    def __enter__(self): ...
    def __exit__(self, *_): ...


class StoppedError(Exception):
    pass


def stop_at(run_steps):
    """A listener that ends the sweep once a chunk has been saved that far."""

    def listener(records):
        if records.num_new and records.done >= run_steps:
            raise StoppedError

    return listener


@pytest.mark.slow
@pytest.mark.parametrize("training", [walk, convolve])
def test_a_sweep_that_grew_before_it_was_done_goes_on_part_by_part(training, tmp_path):
    """Truth: training at once; of convolutions too, whose groups are stepped from Python."""
    options = {"training": training()} | ({"data": DATA} if training is convolve else {})
    with pytest.raises(StoppedError):
        sweep(tmp_path, **options, on_record=stop_at(6 * 20))
    with pytest.raises(StoppedError):
        sweep(tmp_path, **options, num_seeds=3, on_record=stop_at(6 * 30))
    told = []
    grown = sweep(tmp_path, **options, num_seeds=3, on_record=told.append)
    assert grown.trained_runs == 9
    assert grown.trained_run_steps == 6 * (40 - 30) + 3 * 40
    assert_same(grown, sweep(**options, num_seeds=3))
    assert [told[0].done, told[-1].done, told[-1].total] == [6 * 30, 9 * 40, 9 * 40]
    # first the six that are ahead, then the seed that is new
    assert [sorted(set(records.labels["seed"])) for records in (told[0], told[-1])] == [[0, 1], [2]]
    assert told[0].curves["loss"].shape == (6, 30)
    assert told[-1].curves["loss"].shape == (3, 40)


@pytest.mark.slow
def test_sweeps_of_two_machines_are_merged_by_copying(tmp_path):
    """Truth: training at once."""
    sweep(tmp_path / "one", num_seeds=2, seed=0)
    with pytest.raises(StoppedError):
        sweep(tmp_path / "two", num_seeds=2, seed=2, on_record=stop_at(6 * 20))
    shutil.copytree(tmp_path / "two", tmp_path / "one", dirs_exist_ok=True)
    merged = sweep(tmp_path / "one", num_seeds=4)
    assert merged.trained_run_steps == 6 * 20
    assert_same(merged, sweep(num_seeds=4))


@pytest.mark.slow
def test_a_run_that_broke_is_stored_as_it_is(tmp_path):
    """Truth: training at once."""
    grid = {"scale": [1.0, np.inf], "learning_rate": 0.1}
    sweep(tmp_path, grid=grid)
    again = sweep(tmp_path, grid=grid)
    longer = sweep(tmp_path, grid=grid, training=walk(80))
    assert again.trained_runs == 0
    assert again.what_broke.startswith("2 of 4 runs broke, the first after 0 steps")
    assert_same(longer, sweep(grid=grid, training=walk(80)))


def test_a_damaged_file_is_named_and_no_other_one_is_touched(tmp_path):
    sweep(tmp_path)
    (whole,) = tmp_path.iterdir()
    sweep(tmp_path, num_seeds=3)
    (added,) = {*tmp_path.iterdir()} - {whole}
    added.write_bytes(added.read_bytes()[:-1])
    with pytest.raises(sweeps.CheckpointError, match=f"{added}: cannot be read, it is damaged"):
        sweep(tmp_path, num_seeds=3)
    assert sweep(tmp_path).trained_runs == 0
    added.unlink()
    assert sweep(tmp_path, num_seeds=3).trained_runs == 3


SMALL = ["--steps", "400", "--hidden", "8", "--sigma-fix", "0", "0.1", "--quiet"]


def start(out, seeds):
    flags = [*SMALL, "--record-every", 4, "--seeds", seeds, "--out", out]
    return forked.start("-m", "experiments.sweep", *flags, cores=CORES)


def finish(out, seeds):
    process = start(out, seeds)
    _, error = process.communicate(timeout=300)
    assert process.returncode == 0, error
    return json.loads((out / "metrics.json").read_text())


@pytest.fixture(scope="module")
def at_once(tmp_path_factory):
    return finish(tmp_path_factory.mktemp("at_once"), 96)["digest"]


@pytest.mark.slow
def test_a_command_that_grows_has_the_digest_of_training_at_once(at_once, tmp_path):
    """64 runs, and 192, in groups of 32 a device."""
    assert finish(tmp_path, 32)["trained_runs"] == 64
    grown = finish(tmp_path, 96)
    assert grown["trained_runs"] == 128
    assert grown["digest"] == at_once
    again = finish(tmp_path, 96)
    assert again["trained_runs"] == 0
    assert again["digest"] == at_once


@pytest.mark.slow
@pytest.mark.parametrize("kill", range(4))
def test_kills_while_a_sweep_grows_lose_nothing(kill, at_once, tmp_path):
    """kill -9 at random moments of three sweeps, each larger than the one before."""
    rng = random.Random(kill)
    for seeds in (32, 64, 96):
        before = set((tmp_path / "checkpoints").glob("*.checkpoint"))
        process = start(tmp_path, seeds)
        deadline = time.monotonic() + 120
        while not set((tmp_path / "checkpoints").glob("*.checkpoint")) - before:
            assert time.monotonic() < deadline
            if process.poll() is not None:  # it went on in files that were there, to the end
                break
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 0.5))
        process.kill()
        process.communicate()
    assert finish(tmp_path, 96)["digest"] == at_once
