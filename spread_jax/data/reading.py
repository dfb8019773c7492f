"""Tables from the user's own files: what was assumed of a file is said."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from spread_jax.data.files import (
    OnAssumption,
    as_table,
    errors_that_name,
    read_arrays,
    require,
    require_content,
)
from spread_jax.data.text_files import read_text

TEXT = (".csv", ".tsv", ".txt")


def warn_of_assumption(assumption: str) -> None:
    """A warning at the line that asked for the file."""
    warnings.warn(assumption, stacklevel=3)


def is_frame_file(path: Path | str) -> bool:
    """Whether :func:`read_table` makes a DataFrame of the file, by its name."""
    name = Path(path).name.lower().removesuffix(".gz")
    return name.endswith((*TEXT, ".parquet"))


def read_table(
    path: Path | str,
    *,
    delimiter: str | None = None,
    decimal: str | None = None,
    has_names: bool | None = None,
    on_assumption: OnAssumption = warn_of_assumption,
) -> Any:
    """The table in a file, with its names, types and every digit.

    ``.csv``, ``.tsv`` (also ``.gz``) and ``.parquet`` (needs pyarrow: the ``data`` extra) become a
    pandas DataFrame of numbers, booleans, text and categories. ``.npy``, ``.npz`` with one array,
    and IDX, the format of MNIST, also ``.gz``, become an array ``[rows, columns]`` as
    :func:`spread_jax.data.files.as_table` makes it.

    Args:
      path: of the file.
      delimiter, decimal, has_names: of a text file: the mark between fields, the mark before
        decimals, and whether the first row holds names; found out where they are not given.
      on_assumption: called with a line for each thing that was guessed; by default a warning.

    Raises:
      DataFileError: if there is no such file, or it is damaged, of another format, a pickle,
        ragged or empty, or a value is missing or not finite; it names line and column, counted
        from 1.

    Examples:
      >>> import pathlib
      >>> _ = pathlib.Path("points.csv").write_text("height,city\\n1.7,Ulm\\n1.8,Rom\\n")
      >>> print(sj.read_table("points.csv"))
         height city
      0     1.7  Ulm
      1     1.8  Rom
    """
    path = Path(path)
    if not is_frame_file(path):
        arrays = read_arrays(path)
        with errors_that_name(path):
            held = ", ".join(arrays) or "none"
            require(len(arrays) == 1, f"a .npz file with one array; this one holds: {held}")
            return as_table(*arrays.values())
    with errors_that_name(path):
        require_content(path)
        if path.suffix.lower() == ".parquet":
            return _read_parquet(path, on_assumption)
        if delimiter is not None:
            require(len(delimiter) == 1, f"read with a delimiter of one character: {delimiter!r}")
        require(decimal in (None, ".", ","), f"read with decimal '.' or ',': {decimal!r}")
        return read_text(
            path, on_assumption, delimiter=delimiter, decimal=decimal, has_names=has_names
        )


def _read_parquet(path: Path, on_assumption: OnAssumption) -> pd.DataFrame:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        accepted = "another format, or pyarrow installed: pip install 'spread_jax[data]'"
        raise ValueError(f"must be {accepted}") from None
    try:
        frame = pq.read_table(path, partitioning=None).to_pandas()
    except (pa.ArrowException, OSError, ValueError, TypeError, KeyError, OverflowError):
        accepted = "a whole .parquet file; this one is damaged or no .parquet"
        raise ValueError(f"must be {accepted}") from None
    require(frame.shape[1] > 0, "a table with a column; this one has none")
    if not isinstance(frame.index, pd.RangeIndex):
        on_assumption("the index of the DataFrame was left out")
        frame = frame.reset_index(drop=True)
    columns: dict[Any, Any] = {}
    for name in frame.columns:
        values = frame[name]
        if len(values) and isinstance(values.iloc[0], np.ndarray):
            lengths = {len(each) if isinstance(each, np.ndarray) else -1 for each in values}
            require(len(lengths) == 1, f"lists of one length in column {name!r}")
            on_assumption(f"the lists of column {name!r} became {lengths.pop()} columns")
            columns |= {f"{name} {i}": x for i, x in enumerate(np.stack(values).T, 1)}
        else:
            columns[name] = values
    return pd.DataFrame(columns)
