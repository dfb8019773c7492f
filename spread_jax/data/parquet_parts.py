"""Rows of numbers in several .parquet files, larger than memory together, by their places."""

import threading
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from spread_jax.data.by_place import ByPlace
from spread_jax.data.files import errors_that_name, require

CACHE_BYTES = 256 * 2**20


class ParquetParts(ByPlace):
    """The rows of several .parquet files, one after the other, for ``sweep(data=...)``.

    A row is an array of all columns, float32 if it holds all their numbers, else float64. A file
    is read by its row groups, of which those that were read last, up to 256 MiB, are kept.

    Attributes:
      column_types: NumPy's dtype of each column, by its name.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        """Reads what the files say of themselves, and no rows.

        Raises:
          DataFileError: naming the first file that is damaged, has no rows, a column of something
            else than numbers and booleans, or other columns than the first.
        """
        self._paths = paths
        self._files: list[Any] = []  # what each says of itself
        self.column_types: dict[str, np.dtype] = {}
        groups, sizes = [], list[int]()
        for i, path in enumerate(paths):
            with errors_that_name(path):
                said, types = _said_of(path)
                first = self.column_types or types
                here, wanted = (", ".join(f"{n} {t}" for n, t in x.items()) for x in (types, first))
                accepted = f"a file with the columns of {paths[0].name} ({wanted}), not with {here}"
                require(list(types.items()) == list(first.items()), accepted)
                require(said.num_rows > 0, "a file with rows; this one has none")
            self.column_types = types
            self._files.append(said)
            groups += [(i, k) for k in range(said.num_row_groups)]
            sizes += [said.row_group(k).num_rows for k in range(said.num_row_groups)]
        self._groups, self._ends = groups, np.cumsum(sizes)
        self._begins = self._ends - sizes
        self._dtype = np.result_type(np.float32, *self.column_types.values())
        self._kept = OrderedDict[int, np.ndarray]()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getitems__(self, places: Sequence[int]) -> np.ndarray:
        """Rows ``[k, columns]`` at places from 0; each row group is read once.

        Raises:
          DataFileError: naming a file that has been damaged, or the column of a missing value.
        """
        wanted = np.asarray(places, np.int64)
        group_of = np.searchsorted(self._ends, wanted, side="right")
        rows = np.empty((len(wanted), len(self.column_types)), self._dtype)
        order = np.argsort(group_of, kind="stable")
        groups, first = np.unique(group_of[order], return_index=True)
        for group, chosen in zip(groups.tolist(), np.split(order, first[1:]), strict=True):
            rows[chosen] = self._group(group)[wanted[chosen] - self._begins[group]]
        return rows

    def _group(self, group: int) -> np.ndarray:
        """The rows of a row group, kept or read."""
        with self._lock:
            if group not in self._kept:
                self._kept[group] = self._read(*self._groups[group])
                while len(self._kept) > 1 and sum(x.nbytes for x in self._kept.values()) > (
                    CACHE_BYTES
                ):
                    self._kept.popitem(last=False)
            self._kept.move_to_end(group)
            return self._kept[group]

    def _read(self, file: int, group: int) -> np.ndarray:
        import pyarrow as pa
        import pyarrow.parquet as pq

        with errors_that_name(self._paths[file]):
            try:
                with pq.ParquetFile(self._paths[file], metadata=self._files[file]) as opened:
                    table = opened.read_row_group(group)
            except (pa.ArrowException, OSError):
                raise ValueError("must be a whole .parquet file; this one is damaged") from None
            rows = np.empty((table.num_rows, table.num_columns), self._dtype)
            for j, (name, column) in enumerate(zip(self.column_types, table.columns, strict=True)):
                accepted = f"a file without missing values; column {name!r} has some"
                require(column.null_count == 0, accepted)
                rows[:, j] = column.to_numpy()
        return rows


def _said_of(path: Path) -> tuple[Any, dict[str, np.dtype]]:
    """The metadata of a file, and the dtypes of its columns."""
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        accepted = "another format, or pyarrow installed: pip install 'spread_jax[data]'"
        raise ValueError(f"must be {accepted}") from None
    try:
        said = pq.read_metadata(path)
        schema = said.schema.to_arrow_schema()
    except (pa.ArrowException, OSError):
        accepted = "a whole .parquet file; this one is damaged or no .parquet"
        raise ValueError(f"must be {accepted}") from None
    types = {}
    for field in schema:
        is_number = pa.types.is_floating(field.type) or pa.types.is_integer(field.type)
        accepted = "a table of numbers and booleans, since it stays on the disk; column "
        holds = f"{accepted}{field.name!r} holds {field.type}"
        require(is_number or pa.types.is_boolean(field.type), holds)
        types[field.name] = np.dtype(field.type.to_pandas_dtype())
    require(bool(types), "a table with a column; this one has none")
    require(len(types) == len(schema), "a table of different names; one is there twice")
    return said, types
