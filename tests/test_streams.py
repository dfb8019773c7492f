"""Sweeps on data that are read as they are needed: they are what the same data in memory give."""

import signal
import socket
import subprocess
import sys
import textwrap

import forked
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import xarray as xr
from test_sweeps import DATA, GRID, convolve, pick, same

import spread_jax as sj
from spread_jax import sweeps
from spread_jax.sweeps import feeds, groups

ROUNDING = {"rtol": 1e-5, "atol": 1e-6}


class OneByOne:
    """As grain's sources are: a row for a whole number, and nothing else."""

    def __init__(self, rows):
        self.rows = rows

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, place):
        return self.rows[place.__index__()]


class AtOnce(OneByOne):
    """As those of grain and of PyTorch that know how to read several rows at once."""

    def __getitems__(self, places):
        return [self.rows[place] for place in places]


@pytest.fixture
def on_disk(tmp_path):
    def save(x):
        path = tmp_path / f"x{len(list(tmp_path.iterdir()))}.npy"
        np.save(path, x)
        return np.load(path, mmap_mode="r")

    return save


@pytest.mark.slow
@pytest.mark.parametrize(("num_blocks", "record_every"), [(1, 1), (40, 8), (20, 1)])
def test_a_memmap_gives_what_its_rows_in_memory_give(
    num_blocks, record_every, on_disk, monkeypatch
):
    """Truth: the same data on the device, whose steps pick their rows themselves. Blocks of all
    steps, of parts of a record, and of several records."""
    options = {"num_seeds": 3, "record_every": record_every}
    rows_of_a_step = 10 * DATA[0].nbytes  # of 9 runs on 2 devices
    monkeypatch.setattr(feeds, "BLOCK_BYTES", 40 * rows_of_a_step // num_blocks)
    streamed = sweeps.sweep(pick(), GRID, **options, data=on_disk(DATA))
    same(streamed, sweeps.sweep(pick(), GRID, **options, data=DATA), **ROUNDING)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [OneByOne, AtOnce])
def test_any_random_access_is_a_source(kind):
    """Truth: the same data on the device."""
    streamed = sweeps.sweep(pick(), GRID, num_seeds=1, data=kind(DATA))
    same(streamed, sweeps.sweep(pick(), GRID, num_seeds=1, data=DATA), **ROUNDING)


@pytest.mark.slow
def test_a_convolution_takes_streamed_rows(on_disk, monkeypatch):
    """Truth: the same data on the device."""
    monkeypatch.setattr(feeds, "BLOCK_BYTES", 100)
    options = {"num_seeds": 1, "record_every": 4}
    streamed = sweeps.sweep(convolve(), GRID, **options, data=on_disk(DATA))
    same(streamed, sweeps.sweep(convolve(), GRID, **options, data=DATA), **ROUNDING)


@pytest.mark.slow
def test_groups_train_on_their_own_rows(on_disk, monkeypatch):
    """Truth: the same groups with the data on the device; the last group is padded."""
    monkeypatch.setattr(groups, "MAX_RUNS_PER_DEVICE", 2)
    streamed = sweeps.sweep(pick(), GRID, num_seeds=3, data=on_disk(DATA))
    same(streamed, sweeps.sweep(pick(), GRID, num_seeds=3, data=DATA), **ROUNDING)


@pytest.mark.slow
def test_rows_of_uint8_are_cast_on_the_device(on_disk, monkeypatch):
    """The program takes uint8. Truth: the pixels over 255 on the device."""
    pixels = np.random.default_rng(0).integers(0, 256, (50, 2), np.uint8)
    taken = []
    compile_records = groups.Groups.compile_records

    def spy(*args, **options):
        program = compile_records(*args, **options)
        taken.append(program.in_avals[0][1].rows)
        return program

    monkeypatch.setattr(groups.Groups, "compile_records", spy)
    streamed = sweeps.sweep(pick(), GRID, num_seeds=1, data=on_disk(pixels))
    assert {(rows.dtype, rows.shape[2:]) for rows in taken} == {(np.dtype(np.uint8), (2,))}
    monkeypatch.undo()
    in_memory = pixels.astype(np.float32) / np.float32(255)
    same(streamed, sweeps.sweep(pick(), GRID, num_seeds=1, data=in_memory), **ROUNDING)


class StoppedError(Exception):
    pass


@pytest.mark.slow
@pytest.mark.parametrize("training", [pick, convolve])
def test_a_stop_changes_no_bit(training, on_disk, tmp_path, monkeypatch):
    """Truth: the run without a break; more seeds train what is missing."""
    monkeypatch.setattr(feeds, "BLOCK_BYTES", 200)
    monkeypatch.setattr(groups, "MAX_RUNS_PER_DEVICE", 2)
    options = {"record_every": 2, "data": on_disk(DATA)}
    whole = sweeps.sweep(training(), GRID, num_seeds=3, **options)

    def stop(records):
        if records.num_new and records.done > 100:
            raise StoppedError

    options["checkpoints"] = tmp_path / "checkpoints"
    with pytest.raises(StoppedError):
        sweeps.sweep(training(), GRID, num_seeds=2, **options, on_record=stop)
    resumed = sweeps.sweep(training(), GRID, num_seeds=3, **options)
    assert 0 < resumed.trained_run_steps < 9 * 40 - 100
    xr.testing.assert_identical(resumed.dataset, whole.dataset)
    assert sweeps.sweep(training(), GRID, num_seeds=3, **options).trained_runs == 0


KILLED = """
    import os, signal, sys
    import jax
    import numpy as np
    jax.config.update("jax_num_cpu_devices", 2)
    sys.path.insert(0, "tests")
    from test_sweeps import GRID, pick
    from spread_jax import sweeps

    def kill(records):
        if len(sys.argv) > 3 and records.done > 150:
            os.kill(os.getpid(), signal.SIGKILL)

    x = np.load(sys.argv[1], mmap_mode="r")
    runs = sweeps.sweep(
        pick(), GRID, num_seeds=3, data=x, checkpoints=sys.argv[2], on_record=kill
    )
    np.save(sys.argv[1] + ".loss", runs.dataset["loss"].values)
"""


@pytest.mark.slow
def test_a_kill_changes_no_bit(on_disk, tmp_path):
    """Truth: the run without a break, in this process."""
    x = on_disk(DATA)
    command = ["-c", textwrap.dedent(KILLED), x.filename, tmp_path / "checkpoints"]
    assert forked.start(*command, "kill").wait(120) == -signal.SIGKILL
    assert forked.start(*command).wait(120) == 0
    whole = sweeps.sweep(pick(), GRID, num_seeds=3, data=x)
    np.testing.assert_array_equal(np.load(f"{x.filename}.loss.npy"), whole.dataset["loss"])


@pytest.mark.slow
def test_runs_of_other_data_are_not_taken_for_these(on_disk, tmp_path):
    options = {"num_seeds": 1, "checkpoints": tmp_path / "checkpoints"}
    x = on_disk(DATA)
    sweeps.sweep(pick(), GRID, **options, data=x)
    assert sweeps.sweep(pick(), GRID, **options, data=OneByOne(DATA)).trained_runs == 0
    for other in (DATA + 1, DATA[:40]):
        with pytest.warns(UserWarning, match=r"data was float32 \[50, 2\], of SHA-256"):
            assert sweeps.sweep(pick(), GRID, **options, data=on_disk(other)).trained_runs == 3


@pytest.mark.slow
def test_runs_that_take_other_rows_are_not_taken_for_these(on_disk, tmp_path):
    options = {"num_seeds": 1, "checkpoints": tmp_path / "checkpoints", "data": on_disk(DATA)}
    sweeps.sweep(pick(), GRID, **options)
    same_rule = pick_by(lambda key, data: data[jax.random.randint(key, (), 0, len(data))])
    assert sweeps.sweep(same_rule, GRID, **options).trained_runs == 0
    training = pick_by(lambda key, data: data[jax.random.randint(key, (), 0, 25)])
    with pytest.warns(UserWarning, match="what a step does differs"):
        assert sweeps.sweep(training, GRID, **options).trained_runs == 3


def pick_by(look_up):
    """:func:`pick` whose rows are looked up in another way, ``(key, data) -> x``."""
    return sj.make_training(
        init_params=lambda key: jax.random.normal(key, (2,)),
        loss_fn=lambda params, key, x, hyper: jnp.square(params - x).sum() * hyper["scale"],
        sample_batch=lambda key, data, hyper: look_up(key, data),
        optimizer=lambda hyper: optax.adam(hyper["learning_rate"]),
        num_steps=40,
        observe=lambda params: {"params": params},
    )


class Spoilt(OneByOne):
    """A source whose rows become others once those that are looked at are read."""

    def __init__(self, spoil):
        super().__init__(DATA)
        self.spoil, self.reads = spoil, 0

    def __getitem__(self, place):
        self.reads += 1
        row = super().__getitem__(place)
        return self.spoil(row) if self.reads > 200 else row


def fail(row):
    raise OSError("the disk is gone")


@pytest.mark.parametrize(
    ("spoil", "error", "message"),
    [
        (fail, OSError, "the disk is gone"),
        (lambda row: row[:1], ValueError, r"every row of data must have the shape \(2,\)"),
        (lambda row: row.astype(int), ValueError, r"dtype float32 of the first, row \d+ .*int64"),
    ],
)
def test_an_error_of_the_reading_thread_ends_the_sweep(spoil, error, message, monkeypatch):
    monkeypatch.setattr(feeds, "BLOCK_BYTES", 100)
    with pytest.raises(error, match=message):
        sweeps.sweep(pick(), GRID, num_seeds=1, data=Spoilt(spoil))


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (OneByOne([]), "data must have rows, got a source of none"),
        (OneByOne([np.zeros(2), np.zeros(3)]), r"every row of data must have the shape \(2,\)"),
        (OneByOne(["a", "b"]), "data must have rows of numbers, got the text 'a'"),
        (OneByOne([np.zeros(2), np.full(2, np.nan)]), "must be finite in float32, row 2 is not"),
        (OneByOne([np.zeros(2), np.full(2, 1e300)]), "must be finite in float32, row 2 is not"),
    ],
)
def test_sources_without_good_rows_are_refused_in_one_line(source, message):
    with pytest.raises(ValueError, match=message) as error:
        sweeps.sweep(pick(), GRID, num_seeds=1, data=source)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("look_up", "message"),
    [
        (lambda key, data: data[:2].sum(), "by an array of whole numbers, .*not an object of"),
        (lambda key, data: data[jnp.array(0)] + data[jnp.array(1)], "once a step.*not 2 times"),
        (lambda key, data: jnp.zeros(2), "once a step, as sj.rows does, not 0 times"),
    ],
)
def test_a_sample_batch_looks_up_rows_once(look_up, message):
    with pytest.raises((TypeError, ValueError), match=message):
        sweeps.sweep(pick_by(look_up), GRID, num_seeds=1, data=OneByOne(DATA))


def test_a_row_that_is_not_finite_is_named_when_it_breaks_a_run(on_disk):
    x = np.zeros((3_000, 2), np.float32)
    x[1::3] = np.nan
    x[np.linspace(0, 2_999, 1_000).astype(int)] = 0  # those that are looked at
    with pytest.warns(UserWarning, match="runs broke, the first after .*: the batch is not finite"):
        sweeps.sweep(pick(), GRID, num_seeds=1, data=on_disk(x))


def test_the_sample_warns_of_scales(on_disk):
    with pytest.warns(UserWarning, match="wildly different scales: column 2"):
        sweeps.sweep(pick(), GRID, num_seeds=1, data=on_disk(DATA * np.float32([1, 1e6])))


def test_a_private_copy_keeps_its_changes(tmp_path):
    """Truth: the changed array in memory. What was read of other memmaps is given back."""
    np.save(tmp_path / "x.npy", DATA)
    x = np.load(tmp_path / "x.npy", mmap_mode="c")
    x += 1
    streamed = sweeps.sweep(pick(), GRID, num_seeds=1, data=x)
    same(streamed, sweeps.sweep(pick(), GRID, num_seeds=1, data=DATA + 1), **ROUNDING)


PEAK = """
    import resource, sys
    import jax
    import numpy as np
    import optax
    jax.config.update("jax_num_cpu_devices", 2)
    import spread_jax as sj

    x = np.load(sys.argv[1], mmap_mode="r")
    training = sj.make_training(
        init_params=lambda key: 0.1 * jax.random.normal(key, (784, 8)),
        loss_fn=lambda w, key, x, hyper: ((x - x @ w @ w.T) ** 2).mean(),
        sample_batch=sj.rows(128),
        optimizer=lambda hyper: optax.adam(hyper["rate"]),
        num_steps=300,
    )
    sj.sweep(training, {"rate": 1e-3}, num_seeds=4, data=x)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)  # KiB on Linux
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="files with holes, and KiB")
def test_20_gigabytes_need_no_more_memory_than_20_megabytes(tmp_path):
    """Truth: the peak of the same training on a file of 20 MB. Both files are holes."""

    def peak(gigabytes):
        path = tmp_path / f"{gigabytes}.npy"
        shape = (int(gigabytes * 1e9) // (4 * 784), 784)
        np.lib.format.open_memmap(path, "w+", np.float32, shape)
        command = [sys.executable, "-c", textwrap.dedent(PEAK), path]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        return int(done.stdout) / 1024

    small, large = peak(0.02), peak(20)
    assert large < small + 1024 / 4, f"{large:.0f} MiB, {small:.0f} MiB with the small file"


TWO = """
    import sys
    import jax
    import numpy as np
    jax.distributed.initialize(sys.argv[2], 2, int(sys.argv[3]))
    sys.path.insert(0, "tests")
    from test_sweeps import GRID, pick
    from spread_jax import sweeps

    x = np.load(sys.argv[1], mmap_mode="r")
    runs = sweeps.sweep(pick(), GRID, num_seeds=3, data=x)
    np.save(f"{sys.argv[1]}.{sys.argv[3]}", runs.dataset["loss"].values)
"""


@pytest.mark.slow
def test_two_processes_read_the_rows_of_their_own_runs(on_disk):
    """Truth: one process with two devices, to rounding."""
    x = on_disk(DATA)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    command = ["-c", textwrap.dedent(TWO), x.filename, address]
    processes = [forked.start(*command, i) for i in range(2)]
    assert [process.wait(timeout=120) for process in processes] == [0, 0]
    whole = sweeps.sweep(pick(), GRID, num_seeds=3, data=x).dataset["loss"]
    for i in range(2):
        np.testing.assert_allclose(np.load(f"{x.filename}.{i}.npy"), whole, **ROUNDING)
