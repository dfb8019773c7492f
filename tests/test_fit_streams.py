"""fit on rows that stay where they are: what it gives is what the same rows in memory give."""

import signal
import subprocess
import sys
import textwrap

import forked
import jax
import numpy as np
import pandas as pd
import pytest
from test_recipe import KEY, PLAIN, QUICK, assert_same
from test_streams import AtOnce, OneByOne

import spread_jax as sj
from spread_jax.data import streams
from spread_jax.data.sources import Rows, RowsBut
from spread_jax.data.tables import Table
from spread_jax.data.whole_tables import table_of_all

ROUNDING = {"rtol": 1e-3, "atol": 1e-4}  # of 20 steps of Adam, which scales gradients up


def on_disk(folder, x):
    path = folder / f"x{len(list(folder.iterdir()))}.npy"
    np.save(path, x)
    return np.load(path, mmap_mode="r")


def table(n=600):
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, n))
    return np.column_stack([a, b + a**2, a - b, np.full(n, 7.0), rng.integers(0, 9, n)])


def images(n=600):
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (n, 4, 4)).astype(np.uint8)


@pytest.fixture
def few_drawn(monkeypatch):
    """Of 600 rows all but those for validation: 54 and 546."""
    monkeypatch.setattr(streams, "MOST_DRAWN", 599)
    monkeypatch.setattr(streams, "MOST_VALIDATION", 54)


def split(n=600):
    """Places of training and validation rows, as `streamed` draws them."""
    validation = np.sort(np.random.default_rng(0).choice(n, n, replace=False)[:54])
    return np.setdiff1d(np.arange(n), validation), validation


@pytest.mark.slow
@pytest.mark.parametrize("kind", [OneByOne, AtOnce, "memmap"])
def test_a_source_of_few_rows_is_fitted_as_the_array(kind, tmp_path):
    """Truth: the array in memory, to the bit."""
    source = on_disk(tmp_path, PLAIN) if kind == "memmap" else kind(PLAIN)
    assert_same(sj.fit(KEY, source, **QUICK), sj.fit(KEY, PLAIN, **QUICK))


@pytest.mark.slow
@pytest.mark.parametrize("make", [table, images, lambda: images() / np.float32(255)])
def test_a_source_gives_what_its_rows_in_memory_give(make, few_drawn, tmp_path, monkeypatch):
    """Truth: a Dataset of the same rows, in the same parts, where all rows are drawn. What is
    looked at agrees to the bit, what is trained to rounding."""
    x = make()
    trained_on = []
    sweep = sj.recipe.sweep
    monkeypatch.setattr(
        sj.recipe, "sweep", lambda *a, **b: (trained_on.append(b["data"]), sweep(*a, **b))[1]
    )
    streamed = sj.fit(KEY, on_disk(tmp_path, x), **QUICK)
    assert trained_on[0].__getitems__([0]).dtype == (
        np.uint8 if x.dtype == np.uint8 else np.float32
    )
    train, validation = split()
    if x.ndim == 3:
        pixels = streamed.transform.apply(x)
        data = sj.Dataset("x", pixels[train], pixels[validation], pixels[:0], shape=(4, 4))
    else:
        data = sj.Dataset("x", x[train], x[validation], x[:0])
    in_memory = sj.fit(KEY, data, **QUICK)
    assert streamed.architecture == in_memory.architecture
    assert streamed.sigma == in_memory.sigma
    assert streamed.choices["rows"] == {"train": 546, "validation": 54, "looked_at": 546}
    bounds = [each.choices["validation_bounds"] for each in (streamed, in_memory)]
    np.testing.assert_allclose(*bounds, **ROUNDING)
    for one, other in ((streamed.params, in_memory.params), (streamed.loss, in_memory.loss)):
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **ROUNDING), one, other)
    if x.ndim == 2:
        assert streamed.transform == in_memory.transform
    drawn = streamed.sample(jax.random.key(1), 5)
    assert (drawn.dtype, drawn.shape) == (x.dtype, (5, *x.shape[1:]))


@pytest.mark.slow
def test_columns_of_parquet_parts_keep_their_names_and_types(few_drawn, tmp_path):
    """Truth: a memmap of the same numbers, to the bit; and the types that pandas has written."""
    pytest.importorskip("pyarrow", reason="pyarrow, of the data extra, is not installed")
    names = {"a": float, "b": np.float32, "difference": float, "seven": np.int64, "n": np.int16}
    frame = pd.DataFrame(table(), columns=list(names)).astype(names)
    for i, rows in enumerate((slice(0, 200), slice(200, 600))):
        frame[rows].to_parquet(tmp_path / f"{i}.parquet", row_group_size=50, index=False)
    parts = sj.open_parts(tmp_path)
    fitted = sj.fit(KEY, parts, **QUICK)
    plain = sj.fit(KEY, on_disk(tmp_path, frame.to_numpy(float)), **QUICK)
    assert fitted.choices == plain.choices
    jax.tree.map(np.testing.assert_array_equal, fitted.params, plain.params)
    drawn = fitted.sample(jax.random.key(1), 20)
    assert drawn.dtypes.equals(frame.dtypes)
    np.testing.assert_allclose(drawn, plain.sample(jax.random.key(1), 20), rtol=1e-6)
    np.testing.assert_array_equal(fitted.bound(KEY, parts), fitted.bound(KEY, frame))
    assert fitted.report(KEY, parts).columns[3][0] == "seven"


def test_rows_but_some_are_those_that_are_left():
    """Truth: NumPy's delete."""
    x = np.random.default_rng(0).normal(size=(50, 2))
    for left_out in ([], [0], [49], [3, 4, 5, 20], list(range(0, 50, 2))):
        left = RowsBut(Rows(AtOnce(x)), np.array(left_out, int)[::-1])
        expected = np.delete(x, left_out, axis=0)
        np.testing.assert_array_equal(left.__getitems__(range(len(left))), expected)
        np.testing.assert_array_equal(list(left), expected)
        np.testing.assert_array_equal(left[-1], expected[-1])


def test_drawn_rows_are_of_all_of_the_source_and_not_for_validation(monkeypatch):
    """Truth: the mean of 0, 1, ..., n - 1 within 5 standard errors of the draw; no row twice."""
    n, most = 100_000, 2_000
    monkeypatch.setattr(streams, "MOST_DRAWN", most)
    x = np.stack([np.arange(n), np.arange(n) ** 2 % 1009], axis=1).astype(float)
    data, transform, rows = streams.streamed(Rows(AtOnce(x)), lambda stage: None)
    train, validation = (transform.inverse(z)[:, 0] for z in data[1:3])
    standard_error = n / np.sqrt(12 * most)
    assert abs(train.mean() - (n - 1) / 2) < 5 * standard_error
    assert len(set(train) | set(validation)) == len(train) + len(validation) == most + most // 4
    left = transform.inverse(rows.__getitems__(range(len(rows))))[:, 0]
    assert set(left) == set(range(n)) - set(validation)


@pytest.mark.parametrize(
    ("column", "value", "becomes"),
    [
        (3, 8.0, "column 4 holds 7 or 8, nothing else"),  # was constant
        (4, 0.5, "column 5 is rounded to 0.1"),  # was whole
        (4, 100.0, "column 5 holds integers"),
        (2, 3.0, None),  # was a - b
        (5, 2.0, "column 6 holds integers"),  # was 0 or 1
    ],
)
def test_a_row_that_is_like_no_drawn_one_is_found(column, value, becomes):
    """Truth: the table of all rows, learnt at once in memory."""
    x = np.column_stack([table(), np.arange(600) % 2])
    x[:, 1] = np.random.default_rng(1).normal(size=600)
    x[:, 2] = x[:, 0] - x[:, 1]
    x[555, column] = value
    found = table_of_all(Rows(AtOnce(x)), np.arange(300), lambda stage: None)
    expected = Table.of(x)
    assert found.assumptions() == expected.assumptions()
    assert (becomes in found.assumptions()) if becomes else not found.relations
    np.testing.assert_array_equal(found.inverse(found.apply(x))[555, column], value)
    whole = [(c.low, c.high) for c in expected.columns if c.decimals == 0]
    assert [(c.low, c.high) for c in found.columns if c.decimals == 0] == whole


@pytest.mark.parametrize("dtype", [float, np.float32, np.int16])
def test_a_usual_array_is_standardized_as_column_by_column(dtype):
    """Truth: the same rows as lists, each of whose columns is looked at; to the bit."""
    x = (100 * table()).astype(dtype)
    fitted = Table.of(x)
    assert fitted._is_usual(x)
    np.testing.assert_array_equal(fitted.apply(x), fitted.apply(x.tolist()))


def test_what_is_no_number_is_named_by_its_row():
    x = table()
    x[555, 1] = np.nan
    with pytest.raises(ValueError, match="in column 2 row 556 is nan"):
        table_of_all(Rows(AtOnce(x)), np.arange(300), lambda stage: None)


def test_a_column_that_is_never_like_what_was_seen_is_refused(monkeypatch):
    monkeypatch.setattr("spread_jax.data.whole_tables.MOST_OTHERS", 1)
    x = table()
    x[300:, 3] = 2.0 ** -np.arange(300)
    with pytest.raises(ValueError, match=r"after 4 readings row \d+ \(from 1\) is not like"):
        table_of_all(Rows(AtOnce(x)), np.arange(300), lambda stage: None)


@pytest.mark.parametrize("rows", [np.zeros((600, 2, 2, 2)), np.full((600, 2), "a"), np.zeros(600)])
def test_rows_of_another_kind_are_refused(rows, few_drawn):
    with pytest.raises(ValueError, match=r"rows of numbers \[columns\], or images"):
        sj.fit(KEY, AtOnce(rows), **QUICK)


@pytest.mark.slow
def test_bounds_and_reports_of_a_source_are_those_of_its_rows(monkeypatch, tmp_path):
    """Truth: the array in memory, to the bit."""
    monkeypatch.setattr("spread_jax.fitted.ROWS_AT_ONCE", 128)
    fitted = sj.fit(KEY, table(), **QUICK)
    source = on_disk(tmp_path, table())
    np.testing.assert_array_equal(fitted.bound(KEY, source), fitted.bound(KEY, table()))
    report = fitted.report(KEY, OneByOne(table()))
    assert report.numbers == fitted.report(KEY, table()).numbers


KILLED = """
    import os, signal, sys
    import jax
    import numpy as np
    sys.path.insert(0, "tests")
    import spread_jax as sj
    from spread_jax.data import streams
    from test_recipe import KEY, QUICK

    streams.MOST_DRAWN = 200
    if len(sys.argv) > 3:
        save = sj.sweeps.Checkpoints.save
        saves = []

        def save_and_die(self, *arguments):
            save(self, *arguments)
            saves.append(1)
            if len(saves) == 2:
                self.wait()
                os.kill(os.getpid(), signal.SIGKILL)

        sj.sweeps.Checkpoints.save = save_and_die
    x = np.load(sys.argv[1], mmap_mode="r")
    options = QUICK | {"num_steps": 400, "latent_sizes": ()}
    fitted = sj.fit(KEY, x, checkpoints=sys.argv[2], **options)
    np.save(sys.argv[1] + ".loss", fitted.loss)
    np.save(sys.argv[1] + ".drawn", fitted.sample(KEY, 20))
"""


@pytest.mark.slow
def test_a_kill_changes_no_bit(tmp_path):
    """Truth: the fit without a break."""
    x = on_disk(tmp_path, table()).filename
    command = ["-c", textwrap.dedent(KILLED), x]
    assert forked.start(*command, tmp_path / "c", "kill").wait(120) == -signal.SIGKILL
    found = []
    for folder in ("c", "d"):  # by other hashes than those of the run that was killed
        subprocess.run([sys.executable, *command, tmp_path / folder], check=True)
        found.append([np.load(f"{x}.{name}.npy") for name in ("loss", "drawn")])
    for again, whole in zip(*found, strict=True):
        np.testing.assert_array_equal(again, whole)


PEAK = """
    import resource, sys
    import jax
    import numpy as np
    import spread_jax as sj

    x = np.load(sys.argv[1], mmap_mode="r")
    given = {"sigma_fix": 0.5, "latent_dim": 2, "latent_sizes": (), "num_seeds": 2}
    sj.fit(jax.random.key(0), x, num_steps=20, quiet=True, hidden=(8,), **given)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)  # KiB on Linux
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="files with holes, and KiB")
@pytest.mark.parametrize("dtype", [np.float32, np.uint8])
def test_a_fit_to_20_gigabytes_needs_a_gigabyte_more_than_one_to_20_megabytes(dtype, tmp_path):
    """Truth: the peak of the fit to images of 20 MB. Both files are holes."""

    def peak(gigabytes):
        path = tmp_path / f"{gigabytes}.npy"
        shape = (int(gigabytes * 1e9) // (np.dtype(dtype).itemsize * 784), 28, 28)
        np.lib.format.open_memmap(path, "w+", dtype, shape)
        command = [sys.executable, "-c", textwrap.dedent(PEAK), path]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        return int(done.stdout) / 1024

    small, large = peak(0.02), peak(20)
    assert large < small + 1024, f"{large:.0f} MiB, {small:.0f} MiB with the small file"
