"""Data that stay where they are: any source of rows, looked at in a sample, and read as needed."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from spread_jax.arguments import described
from spread_jax.data.sources import Rows
from spread_jax.sweeps.identity import digest

SAMPLED = 1_000  # rows, evenly spaced: those that are looked at before anything is trained
WHITE = np.float32(255)


def on_device(rows: Array) -> Array:
    """uint8 are pixels: they become floats in [0, 1]; all else stays as it is."""
    return rows.astype(jnp.float32) / WHITE if rows.dtype == jnp.uint8 else rows


class RowSource:
    """The rows of a source, by arrays of their places: NumPy by :meth:`read`, JAX by ``[]``.

    Attributes:
      shape, dtype: of all rows, as they are read: 64 bits become 32, as on the devices.
      sample: ``[k, ...]``, rows evenly spaced, at most SAMPLED.
      description: ``uint8 [60000, 784], of SHA-256 0123... of 1,000 rows``. So a change of other
        rows is not seen.
    """

    def __init__(self, source: Any) -> None:
        """Reads the sample.

        Raises:
          ValueError: if there are no rows, or one of those that are looked at is no array of finite
            numbers with the shape and the dtype of the first.
        """
        if not len(source):
            raise ValueError("data must have rows, got a source of none")
        self._rows = Rows(source)
        there = self._rows.dtype
        if not (there.kind in "iufb" or jnp.issubdtype(there, jnp.floating)):
            raise ValueError(f"data must have rows of numbers, got {described(source[0])}")
        self.shape = self._rows.shape
        self.dtype = np.dtype(jax.dtypes.canonicalize_dtype(there))
        places = np.unique(np.linspace(0, len(source) - 1, SAMPLED).astype(np.int64))
        self.sample = self.read(places)
        if jnp.issubdtype(self.dtype, jnp.floating):
            finite = np.isfinite(self.sample).reshape(len(places), -1).all(axis=1)
            if not finite.all():
                row = places[np.argmin(finite)] + 1
                raise ValueError(f"data must be finite in float32, row {row} is not (from 1)")
        sha = digest([self.sample.tobytes()])[:16]
        self.description = (
            f"{self.dtype} {list(self.shape)}, of SHA-256 {sha} of {len(places):,} rows"
        )

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
            rows = self._rows.read(flat).astype(self.dtype, copy=False)
        return rows.reshape(*places.shape, *self.shape[1:])
