"""Rows in several files, larger than memory together, by their places."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from spread_jax.data.by_place import ByPlace
from spread_jax.data.files import DAMAGED, OnAssumption, errors_that_name, require
from spread_jax.data.memmaps import MemmapRows
from spread_jax.data.parquet_parts import ParquetParts

LARGE_BYTES = 2 * 2**30  # of a file: what is read of a smaller one fits into most memories
PART_ENDS = (".npy", ".parquet")


class Parts(ByPlace):
    """The rows of several memmaps, one after the other, for ``sweep(data=...)``."""

    def __init__(self, memmaps: Sequence[np.memmap]) -> None:
        """Rows of arrays of one row shape and one dtype."""
        self._parts = memmaps
        self._rows = [MemmapRows(part) for part in memmaps]
        self._ends = np.cumsum([len(part) for part in memmaps])

    def __len__(self) -> int:
        return int(self._ends[-1])

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


def opened_if_large(path: Path, on_assumption: OnAssumption) -> Any:
    """What stays on the disk: a .npy or .parquet file of more than 2 GiB, or a folder of such files
    of any size; None of any other path.

    Args:
      path: of what may not be there.
      on_assumption: called with a line that says so.

    Raises:
      DataFileError: as :func:`open_parts`.
    """
    stay = "stay on the disk, and are read as they are needed"
    kind = path.suffix.lower()
    if path.is_dir() and any(each for end in PART_ENDS for each in path.glob(f"*{end}")):
        parts = open_parts(path)
        on_assumption(
            f"the files in {path.name} are parts of one; their {len(parts):,} rows {stay}"
        )
        return parts
    if not (kind in PART_ENDS and path.is_file() and path.stat().st_size > LARGE_BYTES):
        return None
    on_assumption(f"{path.name} has more than {LARGE_BYTES / 2**30:g} GiB: its rows {stay}")
    if kind == ".parquet":
        return ParquetParts([path])
    with errors_that_name(path):
        try:
            rows = np.load(path, mmap_mode="r")
        except DAMAGED:
            accepted = "a whole .npy file of numbers; this one is damaged, cut short or of objects"
            raise ValueError(f"must be {accepted}") from None
        return rows.reshape(-1, 1) if rows.ndim == 1 else rows


def open_parts(folder: Path | str) -> Parts | ParquetParts:
    """The rows of all .npy or .parquet files of a folder, in the order of their names; none is
    read.

    A row of .parquet files (needs pyarrow: the ``data`` extra) is one array of all columns, float32
    if it holds all their numbers, else float64. They are read by row groups, so that rows in random
    order come far slower than those of .npy files unless the row groups fit into 256 MiB together.

    Args:
      folder: with .npy files ``[n, ...]`` of one row shape and one dtype, where n may differ; or
        with .parquet files of the same columns, of numbers and booleans.

    Raises:
      DataFileError: naming the folder if it has no such files, or both kinds, or the first file
        that cannot be used, or whose rows are not those of the first.

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
    with errors_that_name(folder):
        paths, tables = (sorted(folder.glob(f"*.{kind}")) for kind in ("npy", "parquet"))
        accepted = "a folder with .npy files or with .parquet files"
        require(bool(paths or tables), accepted)
        require(not (paths and tables), f"{accepted}, not with both")
    if tables:
        return ParquetParts(tables)
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
