"""Rows that stay where they are, a memmap or any random access, by many places at once."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spread_jax.data.by_place import ByPlace
from spread_jax.data.memmaps import MemmapRows


def is_source(data: Any) -> bool:
    """Whether data are read as they are needed: a memmap, or rows by their places that are no
    array, table, list or pytree, such as a source of grain."""
    if isinstance(data, np.memmap):
        return True
    is_array = any(hasattr(data, name) for name in ("__array__", "columns"))
    has_rows = hasattr(data, "__len__") and hasattr(data, "__getitem__")
    if is_array or not has_rows or isinstance(data, str | bytes):
        return False
    import jax  # here, since diagnose does without

    return jax.tree_util.all_leaves([data])


class Rows:
    """The rows of a source, by arrays of their places, as they are there.

    Attributes:
      shape, dtype: of all rows, those of the first.
      column_types: dtypes by the names of the columns, of a source that has them; else None.
    """

    def __init__(self, source: Any) -> None:
        """``source`` has a row or more."""
        self._source = source
        self._memmap = MemmapRows(source) if isinstance(source, np.memmap) else None
        first = np.asarray(source[0])
        self.shape, self.dtype = (len(source), *first.shape), first.dtype
        self.column_types: dict[str, np.dtype] | None = getattr(source, "column_types", None)

    def __len__(self) -> int:
        return self.shape[0]

    def read(self, places: np.ndarray) -> np.ndarray:
        """Rows ``[k, *row]`` of places ``[k]``.

        Raises:
          ValueError: if a row has another shape or dtype than the first; it says which.
        """
        if self._memmap:
            return self._memmap.read(places)
        if hasattr(self._source, "__getitems__"):
            found = self._source.__getitems__(places.tolist())
        else:
            found = [self._source[place] for place in places.tolist()]
        whole = (len(places), *self.shape[1:]), self.dtype
        if isinstance(found, np.ndarray) and (found.shape, found.dtype) == whole:
            return found
        rows = np.empty(*whole)
        for i, row in enumerate(map(np.asarray, found)):
            if row.shape != self.shape[1:] or row.dtype != self.dtype:
                wanted = f"the shape {self.shape[1:]} and the dtype {self.dtype} of the first"
                raise ValueError(
                    f"every row of data must have {wanted}, row {places[i] + 1} (from 1) has "
                    f"{row.shape} and {row.dtype}"
                )
            rows[i] = row
        return rows

    def as_given(self, places: np.ndarray) -> Any:
        """Rows of places ``[k]``: an array, or a DataFrame where the columns have names."""
        rows = self.read(places)
        if self.column_types is None:
            return rows
        import pandas as pd

        return pd.DataFrame(rows, columns=list(self.column_types)).astype(self.column_types)


class RowsBut(ByPlace):
    """The rows of a source but some, in their order: a source too, which keeps none of them."""

    def __init__(
        self,
        rows: Rows,
        left_out: NDArray[np.int64],
        apply: Callable[[np.ndarray], np.ndarray] = lambda rows: rows,
    ) -> None:
        """``left_out`` are different places; ``apply`` is of rows ``[k, *row]``, once read."""
        self._rows, self._apply = rows, apply
        self.column_types = rows.column_types
        # a place grows by one for each that was left out before it
        self._steps = np.sort(left_out) - np.arange(len(left_out))

    def __len__(self) -> int:
        return len(self._rows) - len(self._steps)

    def __getitems__(self, places: Sequence[int]) -> np.ndarray:
        """Rows ``[k, *row]`` at places from 0."""
        wanted = np.asarray(places, np.int64)
        there = wanted + np.searchsorted(self._steps, wanted, side="right")
        return self._apply(self._rows.read(there))
