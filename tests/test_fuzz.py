"""Readers of files meet bytes that nobody meant.

For longer: ``pytest tests/test_fuzz.py --hypothesis-profile=fuzz``, ten minutes and more.
"""

import gzip
import io
import resource
import struct
import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spread_jax.data import DataFileError
from spread_jax.data.datasets import read_data

MOST_MEMORY = 2**20  # KiB that reading may add
X = np.arange(12.0).reshape(4, 3) / 7


def whole_files():
    """A file of each format, by its ending."""
    npy, npz, parquet = io.BytesIO(), io.BytesIO(), io.BytesIO()
    np.save(npy, X)
    np.savez_compressed(npz, x_train=X, x_test=X)
    frame = pd.DataFrame(X, columns=["a", "b", "c"]).assign(city=["Ulm", "Rom", "Bern", "Ulm"])
    files = {
        "x.npy": npy.getvalue(),
        "x.npz": npz.getvalue(),
        "x.csv": frame.to_csv(index=False).encode(),
        "german.csv": b"a;b\n1,5;2,25\n-3,0;1.004,5\n",
        "x.csv.gz": gzip.compress(frame.to_csv().encode()),
        "x-idx2-ubyte": struct.pack(">2x2B2I", 8, 2, 4, 3) + bytes(range(12)),
    }
    try:
        frame.to_parquet(parquet)
    except ImportError:
        return files
    return {**files, "x.parquet": parquet.getvalue()}


FILES = whole_files()
edits = st.lists(
    st.tuples(st.floats(0, 1), st.integers(0, 12), st.binary(max_size=12)), min_size=1, max_size=4
)
SPECIAL = [
    "0",
    "1",
    "-1",
    "1e999",
    ",",
    ";",
    "\t",
    '"',
    "\n",
    "\r\n",
    "nan",
    "1.5",
    "0,5",
    "#",
    "a",
]
texts = st.lists(st.sampled_from(SPECIAL) | st.text(max_size=3), max_size=60).map("".join)


def read(path, content):
    """The data, or the one line of refusal."""
    path.write_bytes(content)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        data, refusal = read_data(path, lambda said: None), None
    except DataFileError as error:
        data, refusal = None, str(error)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < MOST_MEMORY
    assert refusal is None or refusal.startswith(f"{path}: must be")
    assert refusal is None or "\n" not in refusal
    return data


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz")


@pytest.mark.parametrize("name", FILES)
def test_a_whole_file_is_read(name, folder):
    """What the tests below damage is no damaged file from the start."""
    assert read(folder / name, FILES[name]) is not None


@pytest.mark.parametrize("name", FILES)
@given(edits=edits)
@settings(deadline=None)
def test_damaged_files_are_read_or_refused_in_one_line(name, edits, folder):
    content = FILES[name]
    for place, removed, put in edits:
        start = int(place * len(content))
        content = content[:start] + put + content[start + removed :]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # NumPy's, of header bytes
        read(folder / name, content)


@pytest.mark.parametrize("name", ["x.csv", "x.tsv", "x.npy", "x.npz", "x.parquet", "x.csv.gz", "x"])
@given(content=st.binary(max_size=200))
@settings(deadline=None)
def test_any_bytes_are_read_or_refused_in_one_line(name, content, folder):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        read(folder / name, content)


@given(text=texts)
@settings(deadline=None)
def test_any_text_is_read_or_refused_in_one_line(text, folder):
    read(folder / "x.csv", text.encode("utf-8", "surrogatepass"))
