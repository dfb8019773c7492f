import gzip
import io
import pickle
import struct
import sys
import zipfile

import ml_dtypes
import numpy as np
import pandas as pd
import pytest

from spread_jax.data.files import DataFileError, as_table
from spread_jax.data.reading import read_table

X = np.arange(12, dtype=np.float64).reshape(4, 3) / 7


def idx(x, type_code):
    header = struct.pack(f">2x2B{x.ndim}I", type_code, x.ndim, *x.shape)
    return header + x.astype(x.dtype.newbyteorder(">")).tobytes()


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int16, np.uint8])
def test_npy_npz_and_csv_give_the_same_table(dtype, tmp_path):
    x = (7 * X).astype(dtype)
    np.save(tmp_path / "x.npy", x)
    np.savez_compressed(tmp_path / "x.npz", anything=x)
    np.savetxt(tmp_path / "x.csv", x, delimiter=",")
    np.savetxt(tmp_path / "named.csv", x, delimiter=",", header="a,b,c", comments="")
    for name in ("x.npy", "x.npz"):
        table = read_table(tmp_path / name)
        np.testing.assert_array_equal(table, x)
        assert table.dtype == dtype
    for name in ("x.csv", "named.csv"):
        np.testing.assert_array_equal(read_table(tmp_path / name), x)


@pytest.mark.parametrize(
    ("dtype", "code"),
    [(np.uint8, 8), (np.int8, 9), (np.int16, 11), (np.int32, 12), (np.float32, 13), (float, 14)],
)
def test_idx_is_read_big_endian_and_also_compressed(dtype, code, tmp_path):
    """Truth: the bytes as the format's description has them, packed by hand."""
    images = np.arange(24).reshape(2, 3, 4).astype(dtype)
    (tmp_path / "images-idx3").write_bytes(idx(images, code))
    (tmp_path / "images.gz").write_bytes(gzip.compress(idx(images, code)))
    for name in ("images-idx3", "images.gz"):
        np.testing.assert_array_equal(read_table(tmp_path / name), images.reshape(2, 12))


def test_a_vector_is_a_column_and_images_are_rows(tmp_path):
    np.save(tmp_path / "vector.npy", np.arange(5))
    np.save(tmp_path / "images.npy", np.zeros((5, 2, 2), bool))
    assert read_table(tmp_path / "vector.npy").shape == (5, 1)
    assert read_table(tmp_path / "images.npy").shape == (5, 4)


def test_parquet_with_its_reader_and_without(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "pyarrow", None)
        (tmp_path / "x.parquet").write_bytes(b"PAR1")
        with pytest.raises(DataFileError, match=r"pip install 'spread_jax\[data\]'"):
            read_table(tmp_path / "x.parquet")
    pa = pytest.importorskip("pyarrow", reason="pyarrow, of the data extra, is not installed")
    pq = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
    pq.write_table(pa.table({"a": X[:, 0], "b": [1, 2, 3, 4]}), tmp_path / "x.parquet")
    table = read_table(tmp_path / "x.parquet")
    assert [str(dtype) for dtype in table.dtypes] == ["float64", "int64"]
    np.testing.assert_array_equal(table["a"], X[:, 0])
    frame = pd.DataFrame(
        {
            "k": pd.Categorical(["u", "v"]),
            "yes": [True, False],
            "count": pd.array([3, 4], dtype="Int64"),
        },
        index=[7, 9],
    )
    frame.to_parquet(tmp_path / "x.parquet")
    with pytest.warns(UserWarning, match="index of the DataFrame was left out"):
        pd.testing.assert_frame_equal(
            read_table(tmp_path / "x.parquet"), frame.reset_index(drop=True)
        )
    pq.write_table(pa.table({"e": [[1.0, 2.0], [3.0, 4.0]]}), tmp_path / "x.parquet")
    with pytest.warns(UserWarning, match="lists of column 'e' became 2 columns"):
        lists = read_table(tmp_path / "x.parquet")
    np.testing.assert_array_equal(lists[["e 1", "e 2"]], [[1, 2], [3, 4]])


def npy(x):
    file = io.BytesIO()
    np.save(file, x, allow_pickle=True)
    return file.getvalue()


def npz(**arrays):
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def not_arrays():
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("readme.txt", "no array")
    return file.getvalue()


NAN = X.copy()
NAN[2, 1] = np.nan

BAD_FILES = {
    "object.npy": (npy(np.array([[1, "a"]], object)), "not of Python objects"),
    "object.npz": (npz(x=np.array([[1, "a"]], object)), "not of Python objects"),
    "pickle.npy": (pickle.dumps(X), "pickle"),
    "pickle.pkl": (pickle.dumps(X), "must be .npy, .npz"),
    "cut.npy": (npy(X)[:-5], "damaged, cut short"),
    "head.npy": (npy(X)[:20], "damaged, cut short"),
    "text.npy": (npy(np.array([["a"], ["b"]])), "dtype"),
    "fields.npy": (npy(np.zeros(3, [("a", float)])), "dtype"),
    "dates.npy": (npy(np.zeros(3, "M8[s]")), "dtype"),
    "complex.npy": (npy(X + 1j), "complex"),
    "nan.npy": (npy(NAN), "in column 2 row 3 is nan"),
    "inf.npy": (npy(np.full((2, 2), np.inf)), "is inf"),
    "none.npy": (npy(np.zeros((0, 3))), "empty array"),
    "one.npy": (npy(X[:1]), "2 rows"),
    "scalar.npy": (npy(np.float64(3)), "2 rows"),
    "two.npz": (npz(train=X, test=X), "one array; this one holds: train, test"),
    "no.npz": (npz(), "holds: none"),
    "text.npz": (not_arrays(), "dtype"),
    "damaged.npz": (npz(x=X)[:100], "damaged, cut short or no .npz"),
    "empty.csv": (b"", "not an empty one"),
    "damaged.parquet": (b"PAR1", "whole .parquet|pyarrow installed"),
    "cut.gz": (gzip.compress(idx(X, 14))[:-10], "whole .gz"),
    "noise.gz": (b"\x1f\x8b" + b"x" * 50, "whole .gz"),
    "cut-idx2": (idx(X, 14)[:-1], r"promise shape \(4, 3\)"),
    "head-idx2": (idx(X, 14)[:6], "promise shape"),
    "photo.png": (b"\x89PNG\r\n", "must be .npy, .npz, .csv, .tsv, .parquet or IDX"),
}


def test_bfloat16_is_read_as_the_float32_of_its_numbers(tmp_path):
    """Truth: ml_dtypes' own conversion."""
    x = X.astype(ml_dtypes.bfloat16)
    np.save(tmp_path / "x.npy", x)
    table = read_table(tmp_path / "x.npy")
    assert table.dtype == np.float32
    np.testing.assert_array_equal(table, x.astype(np.float32))


@pytest.mark.parametrize("name", BAD_FILES)
def test_bad_files_are_refused_by_name(name, tmp_path):
    content, words = BAD_FILES[name]
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataFileError, match=words) as error:
        read_table(path)
    assert str(path) in str(error.value)


def test_a_missing_file_and_a_folder_are_named(tmp_path):
    with pytest.raises(DataFileError, match="No such file"):
        read_table(tmp_path / "missing.npy")
    with pytest.raises(DataFileError, match="not a folder"):
        read_table(tmp_path)


def test_masked_entries_are_missing_values_and_not_what_lies_under_the_mask():
    x = np.ma.masked_values([[1.0, -999.0], [3.0, 4.0]], -999.0)
    with pytest.raises(ValueError, match="masked entries: fill them"):
        as_table(x)
    np.testing.assert_array_equal(as_table(x.filled(0.5)), [[1.0, 0.5], [3.0, 4.0]])
    np.testing.assert_array_equal(as_table(np.ma.array(np.eye(2))), np.eye(2))  # none is masked
