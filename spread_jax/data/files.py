"""Arrays in the user's own files, and what makes an array a table of finite numbers."""

import gzip
import math
import struct
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tokenize import TokenError
from zipfile import BadZipFile

import numpy as np
from numpy.typing import ArrayLike

OnAssumption = Callable[[str], None]
"""Called with one line for each thing that was guessed of a file."""

IDX_TYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
LARGEST = 1e305
# what NumPy and zipfile raise of damaged .npy and .npz
DAMAGED = (
    *(ValueError, TypeError, LookupError, AttributeError, SyntaxError, TokenError, EOFError),
    *(MemoryError, OverflowError, RuntimeError, struct.error, zlib.error, BadZipFile),
)


class DataFileError(ValueError):
    """A file that holds no table of finite numbers."""

    def __init__(self, path: Path, accepted: str) -> None:
        """``accepted`` says what would do, and what is there instead."""
        super().__init__(f"{path}: must be {accepted}")
        self.path = path
        self.accepted = accepted


def require(condition: bool, accepted: str) -> None:
    """Raises ValueError, "must be {accepted}", unless the condition holds."""
    if not condition:
        raise ValueError(f"must be {accepted}")


def as_table(x: ArrayLike) -> np.ndarray:
    """x as ``[rows, columns]``, its numbers unchanged: real, finite, at least 2 rows, 1 column.

    A vector is one column; of an array with more axes (images), the first is rows and the others
    are columns. Booleans become 0 and 1, float16, bfloat16 and shorter types float32, and floats
    longer than float64 float64.

    Raises:
      ValueError: naming what x is instead; of a number that is not finite the column, by its name
        in a DataFrame, and the row, both counted from 1.
    """
    # NumPy would take what lies under the mask
    masked = np.ma.is_masked(x)
    require(not masked, "finite numbers, not an array with masked entries: fill them")
    names = list(getattr(x, "columns", ()))
    try:
        x = np.asarray(x)
    except ValueError:
        raise ValueError("must be rows of equal length, not ragged") from None
    if x.dtype == bool:
        x = x.astype(np.uint8)
    # JAX's own types, of ml_dtypes, are void to NumPy, but they have names
    is_short = x.dtype.kind == "V" and x.dtype.names is None and not x.dtype.name.startswith("void")
    if is_short or x.dtype == np.float16:
        x = x.astype(np.float32)
    require(x.dtype.kind in "iuf", f"an array of real numbers, not of dtype {x.dtype}")
    require(x.size > 0, f"data, not an empty array (shape {x.shape})")
    require(x.ndim > 0 and len(x) > 1, f"data of 2 rows or more, not of shape {x.shape}")
    x = x.reshape(len(x), -1)
    finite = np.isfinite(x)
    if not finite.all():
        row, column = np.argwhere(~finite)[0]
        name = repr(names[column]) if names else column + 1
        raise ValueError(
            f"must be finite numbers: in column {name} row {row + 1} is {x[row, column]}"
        )
    largest = max(float(x.max()), -float(x.min()))
    require(largest <= LARGEST, f"numbers up to {LARGEST:g}, whose differences float64 holds")
    return x.astype(np.float64) if x.dtype.itemsize > 8 else x


def read_arrays(path: Path | str) -> dict[str, np.ndarray]:
    """The arrays of a .npz file by name, of .npy and IDX (the format of MNIST, also .gz) the one
    array; of any shape and dtype.

    Raises:
      DataFileError: if there is no such file, or it is damaged, of another format or a pickle.
    """
    path = Path(path)
    with errors_that_name(path):
        require_content(path)
        arrays = _READERS.get(path.suffix.lower(), _read_idx)(path)
    return arrays if isinstance(arrays, dict) else {"": arrays}


def require_content(path: Path) -> None:
    """Raises OSError if there is no such file, ValueError if it is a folder, or empty."""
    size = path.stat().st_size
    require(path.is_file(), "a file, not a folder, pipe or device")
    require(size > 0, "a file of data, not an empty one")


@contextmanager
def errors_that_name(path: Path) -> Iterator[None]:
    """Whatever is wrong inside becomes a DataFileError that names the path."""
    try:
        yield
    except DataFileError:
        raise
    except OSError as error:
        reason = error.strerror or "damaged"
        raise DataFileError(Path(error.filename or path), f"readable ({reason})") from None
    except ValueError as error:
        raise DataFileError(path, str(error).removeprefix("must be ")) from None


def _read_numpy(path: Path) -> np.ndarray | dict[str, np.ndarray]:
    try:
        with path.open("rb") as file:
            found = np.load(file, allow_pickle=False)
            if isinstance(found, np.ndarray):
                return _without_bfloat16(found)
            return {name: _without_bfloat16(np.asarray(x)) for name, x in found.items()}
    except DAMAGED as error:
        if "Object arrays" in str(error):
            raise ValueError("must be an array of numbers, not of Python objects") from None
        raise ValueError(
            f"must be a whole {path.suffix} file, not a pickle; this one is damaged, cut short or "
            f"no {path.suffix}"
        ) from None


def _without_bfloat16(x: np.ndarray) -> np.ndarray:
    """NumPy's files hold ml_dtypes' bfloat16 as two bytes of no type; float32 has its numbers."""
    if x.dtype.str[1:] != "V2":
        return x
    return (x.view(np.uint16).astype(np.uint32) << 16).view(np.float32)


def _read_idx(path: Path) -> np.ndarray:
    """The array of 0, 0, type, number of axes, their lengths, numbers; the file may be .gz."""
    content = path.read_bytes()
    try:
        content = gzip.decompress(content) if content.startswith(b"\x1f\x8b") else content
    except (EOFError, zlib.error, gzip.BadGzipFile):
        raise ValueError("must be a whole .gz file; this one is damaged or cut short") from None
    is_idx = len(content) >= 4 and content[:2] == b"\0\0" and content[2] in IDX_TYPES
    require(is_idx, ".npy, .npz, .csv, .tsv, .parquet or IDX (also .gz)")
    ndim, dtype = content[3], np.dtype(IDX_TYPES[content[2]])
    start = 4 + 4 * ndim
    shape = tuple(int(n) for n in np.frombuffer(content[4:start].ljust(4 * ndim, b"\0"), ">u4"))
    require(
        len(content) == start + dtype.itemsize * math.prod(shape),
        f"a whole IDX file: its first bytes promise shape {shape}, "
        f"which its {len(content):,} bytes do not hold",
    )
    numbers = np.frombuffer(content, dtype, offset=start)
    return numbers.reshape(shape).astype(dtype.newbyteorder("="))


_READERS = {".npy": _read_numpy, ".npz": _read_numpy}
