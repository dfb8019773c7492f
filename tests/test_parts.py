"""Rows in several files are those of the files one after the other."""

import numpy as np
import pytest

import spread_jax as sj
from spread_jax.data.files import DataFileError
from spread_jax.data.memmaps import MemmapRows


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
        ([], "must be a folder with .npy files"),
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
    np.testing.assert_array_equal(rows.read(places), x[view][places])
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
