"""The numbers of a user's array or DataFrame: their columns' names, and how finely each is stored.

In words columns have their names, or in an array their numbers from 1; rows count from 1.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from spread_jax.data.files import LARGEST, as_table, require


class Numbers(NamedTuple):
    """The numeric columns of a table.

    Attributes:
      values: ``[rows, columns]``, real and finite.
      names: of the columns; 1, 2, ... of an array.
      eps: of each column, the relative step of its dtype (2.2e-16 for float64); 0 for integers.
      left_out: names of the columns of text or categories.
    """

    values: np.ndarray
    names: list[str | int]
    eps: NDArray[np.float64]
    left_out: list[str | int]


def numbers_of(x: Any, *, shift_large: bool = False, leave_out_text: bool = False) -> Numbers:
    """The numbers of an array ``[rows, columns]``, or of a DataFrame's columns.

    Args:
      x: an array as in :func:`~spread_jax.data.files.as_table`, or a pandas DataFrame or Series.
      shift_large: integers of 2^53 or more, nanoseconds say, become float64 less their first row.
      leave_out_text: whether columns of text or categories are left out; else they are refused.

    Raises:
      ValueError: naming column and row of what is no finite number; if no column is numeric.
    """
    if not _is_pandas(x):
        values = as_table(x)
        # bfloat16 and float16 have become float32: their steps are those of what was given
        number_of = list[str | int](range(1, 1 + values.shape[1]))
        step = np.full(values.shape[1], eps_of(np.asarray(x).dtype))
        return Numbers(less_first_row(values) if shift_large else values, number_of, step, [])
    from spread_jax.data.frames import columns_of  # it brings pandas

    if x.ndim == 1:
        x = x.to_frame(1 if x.name is None else x.name)
    names, eps, columns, left_out = [], list[float](), [], list[str | int]()
    for column, values in columns_of(x)[1]:
        if values.dtype.kind not in "biuf":
            accepted = f"numbers in every column: {column.label} holds text or categories"
            require(leave_out_text, accepted)
            left_out.append(column.name)
            continue
        with_name = f"; {column.label} has larger ones"
        large = values.dtype.kind == "f" and len(values) and float(np.abs(values).max()) > LARGEST
        require(not large, f"numbers up to {LARGEST:g}, whose differences float64 holds{with_name}")
        numbers = as_table(values)
        columns.append(less_first_row(numbers) if shift_large else numbers)
        names.append(column.name)
        eps.append(eps_of(values.dtype))
    held = f"it has {named(left_out)}, of text or categories" if left_out else "it has no column"
    require(bool(names), f"a table with a column of numbers; {held}")
    return Numbers(np.concatenate(columns, axis=1), names, np.array(eps), left_out)


def _is_pandas(x: Any) -> bool:
    return type(x).__module__.partition(".")[0] == "pandas" and hasattr(x, "iloc")


def eps_of(dtype: np.dtype) -> float:
    """Of floats up to float64 the relative step between them; 0 for integers and booleans."""
    if dtype.kind in "biu":
        return 0.0
    if dtype.kind == "f":
        return max(float(np.finfo(dtype).eps), float(np.finfo(np.float64).eps))
    import ml_dtypes  # comes with JAX; here bfloat16 and the like

    try:
        return float(ml_dtypes.finfo(dtype).eps)
    except ValueError:
        return 0.0


def less_first_row(x: np.ndarray) -> np.ndarray:
    """Large integers, nanoseconds say, less their first row: beyond 2^53 no float64 tells them."""
    if x.dtype.kind not in "iu" or max(int(x.max()), -int(x.min())) < 2**53:
        return x
    return (x.astype(object) - x[:1].astype(object)).astype(np.float64)


def first_of_equal_rows(x: np.ndarray) -> NDArray[np.intp]:
    """Indices of the rows that equal no earlier row."""
    seen: dict[bytes, int] = {}
    for i, row in enumerate(x):
        seen.setdefault((row + 0).tobytes(), i)  # + 0: -0.0 equals 0.0
    return np.fromiter(seen.values(), np.intp, len(seen))


def named(names: Sequence[str | int]) -> str:
    """Words: "column 'id'", or "3 columns ('a', 'b', 'c')" with eight of them at most."""
    shown = ", ".join(map(repr, names[:8])) + (", ..." if len(names) > 8 else "")
    return f"column {shown}" if len(names) == 1 else f"{len(names):,} columns ({shown})"
