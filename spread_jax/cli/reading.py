"""The flags of a command that reads the user's own file, and what they choose of it."""

import dataclasses
import sys
from typing import TYPE_CHECKING, Any, Literal

from spread_jax.cli.settings import BadInputError, require, require_distinct

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclasses.dataclass(frozen=True)
class ReadingSettings:
    """Flags of how a file is read, and of the columns that are used."""

    drop: tuple[str, ...] = ()
    """Columns to leave out: names, or numbers from 1 if the file has no names."""
    only: tuple[str, ...] = ()
    """Columns to use; all others are left out."""
    delimiter: str | None = None
    """Mark between the fields of a text file. By default the command finds it."""
    decimal: Literal[".", ","] | None = None
    """Mark before the decimals in a text file. By default the command finds it."""
    names: bool | None = None
    """Whether the first row of a text file has names. By default the command finds it."""

    def check(self) -> None:
        """Raises BadInputError for the first flag whose value cannot be used."""
        for flag, columns in (("--drop", self.drop), ("--only", self.only)):
            if columns:
                require_distinct(flag, columns)
        require(not (self.drop and self.only), "--drop", " ".join(self.drop), "without --only")
        if self.delimiter is not None:
            is_one = len(self.delimiter) == 1
            require(is_one, "--delimiter", repr(self.delimiter), "one character")


def say_assumption(assumption: str) -> None:
    """One line on stderr."""
    print(f"assumed: {assumption}", file=sys.stderr)


def read(
    settings: ReadingSettings, name_or_path: str, on_assumption: "Callable[[str], None]"
) -> Any:
    """The data of a file or name, of the chosen columns: a DataFrame, an array, a Dataset, or a
    source of a file or folder that is larger than memory.

    ``on_assumption`` is called with a line for each thing that was assumed.
    """
    from spread_jax.data import DataFileError
    from spread_jax.data.datasets import read_data

    options = {
        "delimiter": settings.delimiter,
        "decimal": settings.decimal,
        "has_names": settings.names,
    }
    try:
        data = read_data(name_or_path, on_assumption, **options)
    except DataFileError as error:
        raise BadInputError("FILE", error.path, error.accepted) from None
    return _chosen(settings, data)


def _chosen(settings: ReadingSettings, data: Any) -> Any:
    """The columns that --only names, or all but those of --drop."""
    from spread_jax.data.sources import is_source

    flag = "--only" if settings.only else "--drop"
    wanted = settings.only or settings.drop
    if not wanted:
        return data
    if is_source(data):
        return _chosen_of_source(flag, wanted, data)
    is_frame = hasattr(data, "columns") and hasattr(data, "iloc")
    is_table = is_frame or getattr(data, "ndim", 0) == 2
    require(is_table, flag, " ".join(wanted), "used with a table")
    names = list(map(str, data.columns if is_frame else range(1, data.shape[1] + 1)))
    places = _places(flag, wanted, names)
    return data.iloc[:, places] if is_frame else data[:, places]


def _chosen_of_source(flag: str, wanted: tuple[str, ...], data: Any) -> Any:
    import numpy as np

    from spread_jax.data.sources import Rows, RowsBut

    rows = Rows(data)
    require(len(rows.shape) == 2, flag, " ".join(wanted), "used with a table")
    types = rows.column_types
    places = _places(flag, wanted, list(types or map(str, range(1, rows.shape[1] + 1))))
    chosen = RowsBut(rows, np.zeros(0, np.int64), lambda x: x[:, places])
    if types:
        chosen.column_types = {name: types[name] for name in np.array(list(types))[places].tolist()}
    return chosen


def _places(flag: str, wanted: tuple[str, ...], names: list[str]) -> list[int]:
    """Of the columns that are used, counted from 0."""
    for each in wanted:
        shown = ", ".join(names[:10]) + ", ..." * (len(names) > 10)
        require(each in names, flag, each, f"a column of the table: {shown}")
    places = [j for j, name in enumerate(names) if (name in wanted) == (flag == "--only")]
    require(bool(places), flag, " ".join(wanted), "such that a column is left")
    return places
