"""Rows in several files are those of the files one after the other."""

import sys

import numpy as np
import pandas as pd
import pytest

import spread_jax as sj
from spread_jax.data import parquet_parts
from spread_jax.data.files import DataFileError
from spread_jax.data.memmaps import MemmapRows
from spread_jax.data.sources import Rows


def save(folder, *arrays):
    for i, x in enumerate(arrays):
        np.save(folder / f"part-{i}.npy", x)


def test_rows_are_those_of_the_files_in_a_row(tmp_path):
    """Truth: NumPy's concatenate, also at places that are asked for twice and in no order."""
    x = np.random.default_rng(0).normal(size=(20, 2, 3))
    save(tmp_path, x[:7], x[7:8], x[8:])
    parts = sj.open_parts(tmp_path)
    assert len(parts) == 20
    places = [19, 0, 7, 7, 6, 8, 3]
    np.testing.assert_array_equal(parts.__getitems__(places), x[places])
    np.testing.assert_array_equal([parts[i] for i in range(20)], x)
    np.testing.assert_array_equal(list(parts), x)
    np.testing.assert_array_equal(parts[-1], x[-1])


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ([], "must be a folder with .npy files or with .parquet files"),
        ([np.zeros((2, 3)), np.zeros((2, 4))], r"part-1.npy.*as part-0.npy has, not of \(4,\)"),
        ([np.zeros((2, 3)), np.zeros((2, 3), int)], "part-1.npy.*float64.* and int64"),
        ([np.zeros(())], r"part-0.npy.*rows, not of shape \(\)"),
        ([np.zeros((0, 3))], r"part-0.npy.*rows, not of shape \(0, 3\)"),
    ],
)
def test_folders_that_cannot_be_used_are_refused(arrays, message, tmp_path):
    save(tmp_path, *arrays)
    with pytest.raises(DataFileError, match=message):
        sj.open_parts(tmp_path)


def test_a_damaged_file_is_named(tmp_path):
    (tmp_path / "x.npy").write_bytes(b"no array")
    with pytest.raises(DataFileError, match=r"x.npy"):
        sj.open_parts(tmp_path)


@pytest.mark.parametrize("mode", ["r", "r+", "c"])
@pytest.mark.parametrize(
    "view", [np.s_[:], np.s_[3:], np.s_[::-2], np.s_[:, 1], np.s_[:, :, ::2], np.s_[5:, 1:, 0]]
)
def test_rows_of_a_memmap_and_of_its_views(mode, view, tmp_path):
    """Truth: the same view of the array in memory; a writer's changes are seen."""
    x = np.random.default_rng(0).normal(size=(5_000, 3, 4))
    np.save(tmp_path / "x.npy", x)
    there = np.load(tmp_path / "x.npy", mmap_mode=mode)
    rows = MemmapRows(there[view])
    if mode != "r":
        x[17], there[17] = 7, 7
    places = np.array([0, 7, 7, 1200, len(x[view]) - 1, 14, 17, 12])
    for wanted in (places, np.arange(100, 2_000), np.arange(2_000, 100, -1), np.arange(0)):
        np.testing.assert_array_equal(rows.read(wanted), x[view][wanted])
    with pytest.raises(IndexError):
        rows.read(np.array([len(x)]))


def test_a_file_that_was_replaced_is_not_read(tmp_path):
    """Truth: the rows that were mapped."""
    path = tmp_path / "x.npy"
    np.save(path, np.zeros((9, 2)))
    there = np.load(path, mmap_mode="r")
    path.unlink()
    np.testing.assert_array_equal(MemmapRows(there).read(np.arange(2)), np.zeros((2, 2)))
    np.save(path, np.ones((9, 2)))
    np.testing.assert_array_equal(MemmapRows(there).read(np.arange(2)), np.zeros((2, 2)))


@pytest.fixture
def frames(tmp_path):
    """Three files of several row groups, and the table of all of them."""
    pytest.importorskip("pyarrow", reason="pyarrow, of the data extra, is not installed")
    rng = np.random.default_rng(0)
    x = pd.DataFrame({"a": rng.normal(size=50), "n": rng.integers(0, 2**40, 50)})
    x["is_b"], x["short"] = rng.normal(size=50) > 0, rng.normal(size=50).astype(np.float32)
    for i, rows in enumerate((slice(0, 20), slice(20, 21), slice(21, 50))):
        x[rows].to_parquet(tmp_path / f"part-{i}.parquet", row_group_size=7, index=False)
    return x


@pytest.mark.parametrize("cache_bytes", [0, 500, 2**20])
def test_rows_of_parquet_are_those_that_pandas_reads(cache_bytes, frames, tmp_path, monkeypatch):
    """Truth: pandas' concatenation, at places asked for twice and in no order; types too."""
    monkeypatch.setattr(parquet_parts, "CACHE_BYTES", cache_bytes)
    parts = sj.open_parts(tmp_path)
    expected = frames.astype(float).to_numpy()
    places = np.array([49, 0, 7, 7, 20, 21, 3, 27, 6, 19])
    for _ in range(2):
        np.testing.assert_array_equal(parts.__getitems__(places.tolist()), expected[places])
    np.testing.assert_array_equal(list(parts), expected)
    np.testing.assert_array_equal(parts[-1], expected[-1])
    pd.testing.assert_frame_equal(Rows(parts).as_given(np.arange(50)), frames)
    assert sum(x.nbytes for x in parts._kept.values()) <= max(cache_bytes, 7 * 4 * 8)


def test_a_row_of_short_numbers_is_float32(frames, tmp_path):
    for path in tmp_path.iterdir():
        pd.read_parquet(path, columns=["short", "is_b"]).to_parquet(path, index=False)
    assert sj.open_parts(tmp_path)[0].dtype == np.float32


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"a": ["x"]}, "part-1.parquet.*column 'a' holds (large_)?string"),
        ({"a": [1.0]}, r"columns of part-0.parquet \(a float64, n int64.*not with a float64$"),
        ({"a": [pd.Timestamp(0)]}, "column 'a' holds timestamp"),
    ],
)
def test_parquet_that_is_no_part_is_refused(other, message, frames, tmp_path):
    pd.DataFrame(other).to_parquet(tmp_path / "part-1.parquet", index=False)
    with pytest.raises(DataFileError, match=message):
        sj.open_parts(tmp_path)


def test_a_missing_value_and_a_damaged_file_are_named_when_they_are_read(frames, tmp_path):
    frames.assign(n=frames["n"].astype("Int64").mask(frames["n"] > 0)).to_parquet(
        tmp_path / "part-1.parquet", index=False
    )
    parts = sj.open_parts(tmp_path)
    with pytest.raises(DataFileError, match=r"part-1.parquet.*missing values; column 'n' has some"):
        parts[25]
    (tmp_path / "part-0.parquet").write_bytes(b"PAR1" * 9)
    with pytest.raises(DataFileError, match=r"part-0.parquet: must be a whole .parquet file"):
        parts[0]
    with pytest.raises(DataFileError, match=r"part-0.parquet: must be a whole .parquet file"):
        sj.open_parts(tmp_path)


def test_without_pyarrow_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    (tmp_path / "x.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataFileError, match=r"pip install 'spread_jax\[data\]'"):
        sj.open_parts(tmp_path)
    np.save(tmp_path / "x.npy", np.zeros((2, 2)))
    with pytest.raises(DataFileError, match="not with both"):
        sj.open_parts(tmp_path)
