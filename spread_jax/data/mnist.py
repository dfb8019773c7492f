"""MNIST as published: four IDX files in a folder, or openml's copy; known by its checksums."""

import hashlib
from pathlib import Path

import numpy as np

from spread_jax.data.files import DataFileError, decompressed, errors_that_name, parse_idx

NUM_TRAIN = 60_000  # the first images of openml's 70,000
FILES = {
    "x_train": "train-images-idx3-ubyte",
    "y_train": "train-labels-idx1-ubyte",
    "x_test": "t10k-images-idx3-ubyte",
    "y_test": "t10k-labels-idx1-ubyte",
}
# of the decompressed files
MD5 = {
    "x_train": "6bbc9ace898e44ae57da46a324031adb",
    "y_train": "a25bea736e30d166cdddb491f175f624",
    "x_test": "2646ac647ad5339dbf082846283269ea",
    "y_test": "27ae3e4e09519cfbb04c329615203637",
}


def is_mnist(arrays: dict[str, np.ndarray]) -> bool:
    """Whether every array is, byte for byte, the published one of its name in FILES."""
    return all(
        x.dtype == np.uint8 and hashlib.md5(_idx_bytes(x)).hexdigest() == MD5.get(name)
        for name, x in arrays.items()
    )


def _idx_bytes(x: np.ndarray) -> bytes:
    header = np.array([0x0800 + x.ndim, *x.shape], ">u4")
    return header.tobytes() + x.tobytes()


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
            arrays[name] = _read_part(folder / found, images=name.startswith("x"))
        elif name.startswith("x"):
            listed = ", ".join(sorted(there)[:5]) + (", ..." if len(there) > 5 else "")
            accepted = f"a folder with {plain}[.gz]; it holds {listed or 'nothing'}"
            raise DataFileError(folder, accepted)
    return arrays


def _read_part(path: Path, images: bool) -> np.ndarray:
    kind, expected = ("images", 0x0803) if images else ("labels", 0x0801)
    with errors_that_name(path):
        content = decompressed(path)
        magic = int.from_bytes(content[:4], "big")
        if len(content) < 4 or magic != expected:
            there = {0x0801: "that of labels", 0x0803: "that of images"}.get(magic, "not")
            raise ValueError(
                f"must be an IDX file that begins with 0x{expected:08x} ({kind} of uint8); "
                f"0x{magic:08x} is {there}"
            )
        return parse_idx(content)


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
