"""Data that stay where they are: any source of rows, looked at in a sample, and read as needed."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from spread_jax.arguments import described
from spread_jax.data.memmaps import MemmapRows
from spread_jax.sweeps.identity import digest

SAMPLED = 1_000  # rows, evenly spaced: those that are looked at before anything is trained
WHITE = np.float32(255)


def is_source(data: Any) -> bool:
    """Whether data are read as they are needed: a memmap, or rows by their places that are no
    array, table, list or pytree, such as a source of grain."""
    if isinstance(data, np.memmap):
        return True
    is_array = any(hasattr(data, name) for name in ("__array__", "columns"))
    has_rows = hasattr(data, "__len__") and hasattr(data, "__getitem__")
    is_leaf = jax.tree_util.all_leaves([data]) and not isinstance(data, str | bytes)
    return has_rows and is_leaf and not is_array


def on_device(rows: Array) -> Array:
    """uint8 are pixels: they become floats in [0, 1]; all else stays as it is."""
    return rows.astype(jnp.float32) / WHITE if rows.dtype == jnp.uint8 else rows


class RowSource:
    """The rows of a source, by arrays of their places: NumPy by :meth:`read`, JAX by ``[]``.

    Attributes:
      shape, dtype: of all rows, as they are read: 64 bits become 32, as on the devices.
      sample: ``[k, ...]``, rows evenly spaced, at most SAMPLED.
      told: ``uint8 [60000, 784], of SHA-256 0123... of 1,000 rows``. So a change of other rows is
        not seen.
    """

    def __init__(self, source: Any) -> None:
        """Reads the sample.

        Raises:
          ValueError: if there are no rows, or one of those that are looked at is no array of finite
            numbers with the shape and the dtype of the first.
        """
        self._source = source
        if not len(source):
            raise ValueError("data must have rows, got a source of none")
        self._memmap = MemmapRows(source) if isinstance(source, np.memmap) else None
        first = np.asarray(source[0])
        is_number = first.dtype.kind in "iufb" or jnp.issubdtype(first.dtype, jnp.floating)
        if not is_number:
            raise ValueError(f"data must have rows of numbers, got {described(source[0])}")
        self.shape = (len(source), *first.shape)
        self._dtype_there = first.dtype
        self.dtype = np.dtype(jax.dtypes.canonicalize_dtype(first.dtype))
        places = np.unique(np.linspace(0, len(source) - 1, SAMPLED).astype(np.int64))
        self.sample = self.read(places)
        if jnp.issubdtype(self.dtype, jnp.floating):
            finite = np.isfinite(self.sample).reshape(len(places), -1).all(axis=1)
            if not finite.all():
                row = places[np.argmin(finite)] + 1
                raise ValueError(f"data must be finite in float32, row {row} is not (from 1)")
        sha = digest([self.sample.tobytes()])[:16]
        self.told = f"{self.dtype} {list(self.shape)}, of SHA-256 {sha} of {len(places):,} rows"

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, indices: Any) -> Array:
        return on_device(jnp.asarray(self.read(np.asarray(indices))))

    def read(self, places: np.ndarray) -> np.ndarray:
        """Rows ``[*places, *row]``.

        Raises:
          ValueError: if a row has another shape or dtype than the first; it says which.
        """
        flat = places.reshape(-1)
        with np.errstate(over="ignore"):
            rows = self._rows(flat).astype(self.dtype, copy=False)
        return rows.reshape(*places.shape, *self.shape[1:])

    def _rows(self, places: np.ndarray) -> np.ndarray:
        if self._memmap:
            return self._memmap.read(places)
        if hasattr(self._source, "__getitems__"):
            found = self._source.__getitems__(places.tolist())
        else:
            found = [self._source[place] for place in places.tolist()]
        whole = (len(places), *self.shape[1:]), self._dtype_there
        if isinstance(found, np.ndarray) and (found.shape, found.dtype) == whole:
            return found
        rows = np.empty(*whole)
        for i, row in enumerate(map(np.asarray, found)):
            if row.shape != self.shape[1:] or row.dtype != self._dtype_there:
                wanted = (
                    f"the shape {self.shape[1:]} and the dtype {self._dtype_there} of the first"
                )
                raise ValueError(
                    f"every row of data must have {wanted}, row {places[i] + 1} (from 1) has "
                    f"{row.shape} and {row.dtype}"
                )
            rows[i] = row
        return rows
