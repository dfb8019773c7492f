"""What a sweep is given to train on: looked at before anything is compiled."""

import warnings
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from spread_jax.arguments import as_numbers, described, require_finite
from spread_jax.data.sources import is_source
from spread_jax.sweeps.sources import RowSource

MOST_RATIO = 1e4  # of the ranges of columns; of standardized ones it is at most about √rows
ROUNDING = 1e-6  # of a column's size: a range below it is a constant's


def checked_data(data: PyTree) -> PyTree:
    """The data with tables and lists as arrays, or a :class:`RowSource` of what is read as it is
    needed; warns of columns of wildly different scale, of a source in its sample.

    Raises:
      ValueError: if there are no rows, or a value that is looked at is no number or not finite.
    """
    if hasattr(data, "train") and hasattr(data, "validation"):
        raise ValueError("data must be arrays, got a Dataset: give its part to train on, .train")
    if is_source(data):
        source = RowSource(data)
        if source.sample.ndim == 2 and source.sample.dtype.kind == "f":
            low, high = source.sample.min(axis=0), source.sample.max(axis=0)
            _warn_of_scales(low.astype(np.float64), high.astype(np.float64), None, stacklevel=4)
        return source
    if isinstance(data, list | tuple) and all(map(_is_plain, jax.tree.leaves(data))):
        data = np.asarray(as_numbers(data, "data"), np.float32)
    return jax.tree.map(_checked, data)


def _is_plain(leaf: Any) -> bool:
    return isinstance(leaf, bool | int | float | str | np.generic)


def _checked(leaf: Any) -> Any:
    if isinstance(leaf, str | Path):
        read = f"sj.load_dataset({str(leaf)!r}).train"
        raise ValueError(f"data must be arrays, got {described(str(leaf))}: read it first, {read}")
    columns = getattr(leaf, "columns", None)
    if not isinstance(leaf, jax.Array):
        leaf = as_numbers(leaf, "data")
        if columns is not None:
            leaf = leaf.astype(np.float32)
    if leaf.ndim and not len(leaf):
        raise ValueError(f"data must have rows, got shape {leaf.shape}")
    is_here = not isinstance(leaf, jax.Array) or leaf.is_fully_addressable
    if not (is_here and leaf.size and jnp.issubdtype(leaf.dtype, jnp.floating)):
        return leaf
    low, high = np.asarray(leaf.min(axis=0)), np.asarray(leaf.max(axis=0))  # NaN where one is
    with np.errstate(over="ignore"):  # the devices hold float32
        ends = np.stack([low, high]).astype(np.float32)
    if not np.isfinite(ends).all():
        require_finite(leaf, "data", columns)
        raise ValueError(f"data must fit float32, got numbers from {low.min()} to {high.max()}")
    if leaf.ndim == 2:
        _warn_of_scales(low.astype(np.float64), high.astype(np.float64), columns)
    return leaf


def _warn_of_scales(low: np.ndarray, high: np.ndarray, columns: Any, stacklevel: int = 5) -> None:
    ranges = high - low
    varies = ranges > ROUNDING * np.maximum(abs(low), abs(high))
    if not varies.any():
        return
    small = int(np.argmin(np.where(varies, ranges, np.inf)))
    large = int(np.argmax(np.where(varies, ranges, -np.inf)))
    if ranges[large] <= MOST_RATIO * ranges[small]:
        return
    names = [f"column {i + 1 if columns is None else repr(columns[i])}" for i in (large, small)]
    warnings.warn(
        f"the columns of the data have wildly different scales: {names[0]} ranges over "
        f"{ranges[large]:.3g}, {names[1]} over {ranges[small]:.3g}; if they are in different "
        "units, standardize them first, as sj.standardize does",
        stacklevel=stacklevel,
    )
