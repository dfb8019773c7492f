"""Rows in several .npy files, larger than memory together, by their places."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from spread_jax.data.files import errors_that_name, require
from spread_jax.data.memmaps import MemmapRows


class Parts:
    """The rows of several memmaps, one after the other, for ``sweep(data=...)``."""

    def __init__(self, memmaps: Sequence[np.memmap]) -> None:
        """Rows of arrays of one row shape and one dtype."""
        self._parts = memmaps
        self._rows = [MemmapRows(part) for part in memmaps]
        self._ends = np.cumsum([len(part) for part in memmaps])

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getitem__(self, place: int) -> np.ndarray:
        if not -len(self) <= place < len(self):
            raise IndexError(f"row {place} of {len(self)}")
        return self.__getitems__([place % len(self)])[0]

    def __getitems__(self, places: Sequence[int]) -> np.ndarray:
        """Rows ``[k, *row]`` at places from 0."""
        wanted = np.asarray(places)
        part_of = np.searchsorted(self._ends, wanted, side="right")
        first = self._parts[0]
        rows = np.empty((len(wanted), *first.shape[1:]), first.dtype)
        for i in np.unique(part_of):
            part, chosen = self._parts[i], part_of == i
            rows[chosen] = self._rows[i].read(wanted[chosen] - (self._ends[i] - len(part)))
        return rows


def open_parts(folder: Path | str) -> Parts:
    """The rows of all .npy files of a folder, in the order of their names; nothing is read.

    Args:
      folder: with files ``[n, ...]`` of one row shape and one dtype; n may differ.

    Raises:
      DataFileError: naming the folder if it has no .npy file, or the first file that is none, or
        whose rows are not those of the first.

    Examples:
      >>> import tempfile
      >>> folder = tempfile.mkdtemp()
      >>> for i in range(3):
      ...     np.save(f"{folder}/part-{i}.npy", np.full((10, 2), i, np.float32))
      >>> parts = sj.open_parts(folder)
      >>> print(len(parts), parts[25])
      30 [2. 2.]
    """
    folder = Path(folder)
    paths = sorted(folder.glob("*.npy"))
    with errors_that_name(folder):
        require(bool(paths), "a folder with .npy files")
    parts: list[np.memmap] = []
    for path in paths:
        with errors_that_name(path):
            part = np.load(path, mmap_mode="r")
            require(part.ndim > 0 and len(part) > 0, f"rows, not of shape {part.shape}")
            first = parts[0] if parts else part
            require(
                (part.shape[1:], part.dtype) == (first.shape[1:], first.dtype),
                f"rows of shape {first.shape[1:]} and {first.dtype}, as {paths[0].name} has, "
                f"not of {part.shape[1:]} and {part.dtype}",
            )
            parts.append(part)
    return Parts(parts)
