"""MNIST as published: four IDX files in a folder, or openml's copy; known by its checksums."""

import hashlib
from pathlib import Path

import numpy as np

from spread_jax.data.files import DataFileError, read_arrays

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


def are_published(arrays: dict[str, np.ndarray]) -> bool:
    """Whether every array is, byte for byte, one that was published, by its MD5."""
    headers = {name: np.array([0x0800 + x.ndim, *x.shape], ">u4") for name, x in arrays.items()}
    files = (headers[name].tobytes() + x.tobytes() for name, x in arrays.items())
    return all(hashlib.md5(file).hexdigest() in MD5 for file in files)


def read_folder(folder: Path) -> dict[str, np.ndarray]:
    """The arrays of a folder of IDX files, by their names in FILES; those of labels may be missing.

    The files are plain or .gz, also with dots for dashes before ``idx``, or in ``MNIST/raw`` below.
    """
    there = {entry.name for entry in folder.iterdir()}
    if (folder / "MNIST" / "raw").is_dir() and not any("ubyte" in each for each in there):
        return read_folder(folder / "MNIST" / "raw")
    arrays = {}
    for name, plain in FILES.items():
        dotted = plain.replace("-idx", ".idx")
        spellings = (plain, plain + ".gz", dotted, dotted + ".gz")
        found = next((each for each in spellings if each in there), None)
        if found:
            (x,) = read_arrays(folder / found).values()
            kind, ndim = ("images", 3) if name.startswith("x") else ("labels", 1)
            if x.ndim != ndim or x.dtype != np.uint8:
                raise DataFileError(
                    folder / found,
                    f"{kind} of uint8 with {ndim} axes, not {x.dtype} of shape {x.shape}",
                )
            arrays[name] = x
        elif name.startswith("x"):
            listed = ", ".join(sorted(there)[:5]) + (", ..." if len(there) > 5 else "")
            accepted = f"a folder with {plain}[.gz]; it holds {listed or 'nothing'}"
            raise DataFileError(folder, accepted)
    return arrays


def download() -> dict[str, np.ndarray]:
    """All 70,000 images and labels, by their names in FILES; scikit-learn gets and caches them."""
    from sklearn.datasets import fetch_openml

    try:
        bunch = fetch_openml("mnist_784", version=1, as_frame=False)
    except Exception as error:  # whatever the network and the cache raise
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise DataFileError(Path("openml"), f"reachable, or in its cache ({reason})") from None
    x_train, x_test = np.split(np.asarray(bunch.data, np.uint8).reshape(-1, 28, 28), [NUM_TRAIN])
    y_train, y_test = np.split(np.asarray(bunch.target).astype(np.uint8), [NUM_TRAIN])
    return {"x_train": x_train, "y_train": y_train, "x_test": x_test, "y_test": y_test}
