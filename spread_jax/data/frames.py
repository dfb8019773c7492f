"""A user's array or DataFrame as columns that can be used, and back."""

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from spread_jax.data.columns import Column, objects
from spread_jax.data.files import require

ACCEPTED = "finite numbers, booleans, text or categories in every row"


def columns_of(x: Any) -> tuple[str, list[tuple[Column, np.ndarray]]]:
    """Whether a table is an "array" or a "frame", and each column with its values.

    The values are finite numbers or booleans of one dtype, or objects: text or categories.

    Raises:
      ValueError: naming the column and row of what is none of these; for what is no table.
    """
    if hasattr(x, "__array__") and not isinstance(x, np.ndarray | pd.DataFrame | pd.Series):
        x = np.asarray(x)  # JAX's, for one
    if isinstance(x, np.ndarray | list | tuple):
        require(not np.ma.is_masked(x), "an array without masked entries: fill them")
        try:
            x = np.asarray(x)
        except ValueError:
            raise ValueError("must be rows of equal length, not ragged") from None
        require(x.ndim == 2, f"an array [rows, columns], not of shape {list(x.shape)}")
        columns = [(Column(j + 1, str(x.dtype)), x[:, j]) for j in range(x.shape[1])]
        return "array", [_checked(column, values) for column, values in columns]
    accepted = f"an array [rows, columns] or a pandas DataFrame, not a {type(x).__name__}"
    require(isinstance(x, pd.DataFrame), accepted)
    names = [each.item() if isinstance(each, np.generic) else each for each in x.columns]
    read = []
    for j, name in enumerate(names):
        series = x.iloc[:, j]
        require(type(name) in (str, int), f"a table with names that are text, not {name!r}")
        column = Column(name, str(series.dtype))
        require(names.count(name) == 1, f"a table of different names; {column.label} is twice")
        missing = np.flatnonzero(series.isna())
        if len(missing):
            _refuse(column, f"row {missing[0] + 1} is missing")
        if isinstance(series.dtype, pd.CategoricalDtype):
            read.append((_with_levels(column, series.dtype), objects(series.tolist())))
            continue
        try:
            comes_back = pd.api.types.pandas_dtype(column.dtype) == series.dtype
        except TypeError:
            comes_back = False
        if not comes_back:
            _refuse(column, f"it is of dtype {series.dtype}")
        read.append(_checked(column, np.asarray(series)))
    return "frame", read


def table_of(kind: str, columns: list[Column], values: list[np.ndarray]) -> Any:
    """The array or DataFrame of these columns, each with its dtype."""
    values = [y.astype(column.holds) for column, y in zip(columns, values, strict=True)]
    if kind == "array":
        return np.stack([y.astype(columns[0].dtype) for y in values], axis=1)
    series = {}
    for column, y in zip(columns, values, strict=True):
        dtype = column.dtype
        if column.levels is not None:
            levels = pd.Index(column.levels, dtype=column.levels_dtype)
            dtype = pd.CategoricalDtype(levels, column.ordered)
        series[column.name] = pd.Series(y, dtype=dtype)
    return pd.DataFrame(series)


def _refuse(column: Column, reason: str) -> None:
    raise ValueError(f"must be {ACCEPTED}: in {column.label} {reason}")


def _with_levels(column: Column, dtype: Any) -> Column:
    """The column with the levels of pandas' category dtype, if JSON can hold them."""
    levels, kind = dtype.categories.tolist(), str(dtype.categories.dtype)
    if not {type(each) for each in levels} <= {str, int, float, bool}:
        _refuse(column, f"the categories are of dtype {kind}")
    if np.inf in levels or -np.inf in levels:
        _refuse(column, f"the categories are of dtype {kind}, one infinite")
    return replace(column, levels=levels, levels_dtype=kind, ordered=bool(dtype.ordered))


def _checked(column: Column, values: np.ndarray) -> tuple[Column, np.ndarray]:
    """Finite numbers of one dtype, or text as objects, and the column that holds them."""
    if values.dtype.kind == "O":
        values = _of_one_kind(column, values.tolist())
    if values.dtype.kind in "OU":
        return column, objects(values.tolist())
    if values.dtype.kind not in "biuf":
        _refuse(column, f"row 1 is of dtype {values.dtype}")
    if values.dtype.kind == "f":
        values = values.astype(np.float64) if values.dtype.itemsize > 8 else values
        wrong = np.flatnonzero(~np.isfinite(values))
        if len(wrong):
            _refuse(column, f"row {wrong[0] + 1} is {values[wrong[0]]}")
    return replace(column, holds=str(values.dtype)), values


def _of_one_kind(column: Column, items: list[Any]) -> np.ndarray:
    """Objects that are all text, as they are, or all numbers, in the dtype that holds them."""
    missing = np.flatnonzero(pd.isna(objects(items)))
    if len(missing):
        _refuse(column, f"row {missing[0] + 1} is missing")
    number = bool | int | float | np.number | np.bool_
    kinds = []
    for i, each in enumerate(items):
        is_text, is_number = isinstance(each, str), isinstance(each, number)
        kinds.append("text" if is_text else "a number" if is_number else type(each).__name__)
        if not (is_text or is_number) or kinds[i] != kinds[0]:
            beside = f" and row 1 {kinds[0]}" if i else ""
            _refuse(column, f"row {i + 1} is {kinds[i]}{beside}")
    if not items or kinds[0] == "text":
        return objects(items)
    values = np.array(items)
    if values.dtype.kind not in "biuf" or values.tolist() != items:
        _refuse(column, "are integers that no dtype of NumPy holds")
    return values
