"""The transform of a table that is larger than memory: from drawn rows, held against all rows."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from spread_jax.data.columns import Column
from spread_jax.data.sources import Rows
from spread_jax.data.standardization import Floats
from spread_jax.data.tables import Table

NUMBERS_AT_ONCE = 2**21
CLOSE = 1e-4  # of a column's standard deviation: what is off by less has come back
ROUNDINGS = 16
MOST_OTHERS, MOST_PASSES = 100, 4


def table_of_all(rows: Rows, drawn: NDArray[np.int64], on_stage: Callable[[str], None]) -> Table:
    """The table of drawn rows, such that every row comes back from it.

    All rows are read once, to see whether the table would give them back. Where it would not, since
    a column is not constant after all, not a sum of others, or not whole numbers, the row is added
    to the drawn ones, and the table is learnt and all rows are read again. The ranges of whole
    numbers become those of all rows.

    Args:
      rows: of a source, ``[columns]`` each.
      drawn: the places of those that were drawn.
      on_stage: called with what is being done.

    Raises:
      ValueError: as :meth:`Table.of`; naming column and row, from 1, of a number that is not
        finite, or of one that does not come back after four such passes.
    """
    for _ in range(MOST_PASSES):
        given = rows.as_given(drawn)
        table = Table.of(given)
        on_stage(f"reading all {len(rows):,} rows once, to see whether they are like those")
        low, high, others = _against_all(rows, table, np.asarray(given, np.float64))
        if not len(others):
            return replace(
                table,
                columns=[
                    replace(column, low=float(low[j]), high=float(high[j]))
                    if _has_range(column)
                    else column
                    for j, column in enumerate(table.columns)
                ],
            )
        drawn = np.concatenate([drawn, others])
    raise ValueError(
        f"must be a table whose rows are alike: after {MOST_PASSES} readings row "
        f"{others[0] + 1} (from 1) is not like those before; drop the column that it differs in, "
        "or fit a part of the rows that fits into memory"
    )


def _has_range(column: Column) -> bool:
    """Whether samples of it are cut to the range that was seen: of whole numbers, not of two."""
    is_whole = column.decimals is not None and column.decimals <= 0
    return column.is_number and is_whole and not column.two_valued


def _against_all(rows: Rows, table: Table, drawn: Floats) -> tuple[Floats, Floats, np.ndarray]:
    """The range of each column, and places of rows that do not come back, the first ones of each
    column in each part that is read."""
    close = CLOSE * drawn.std(axis=0)
    low, high = drawn.min(axis=0), drawn.max(axis=0)
    others = list[int]()
    size = max(1, NUMBERS_AT_ONCE // rows.shape[1])
    for start in range(0, len(rows), size):
        part = rows.read(np.arange(start, min(start + size, len(rows))))
        low, high = np.minimum(low, part.min(axis=0)), np.maximum(high, part.max(axis=0))
        if not np.isfinite(low + high).all():
            row, column = np.argwhere(~np.isfinite(part))[0]
            raise ValueError(
                f"must be finite numbers: in column {column + 1} row {start + row + 1} is "
                f"{part[row, column]}"
            )
        first = set[int]()
        for j, back in _come_back(table, part):
            y, eps = part[:, j].astype(np.float64), table.columns[j].eps
            wrong = np.abs(back - y) > close[j] + ROUNDINGS * eps * np.abs(y)
            if wrong.any():
                first.add(start + int(wrong.argmax()))
        others += sorted(first)
        if len(others) >= MOST_OTHERS:
            break
    return low, high, np.array(others[:MOST_OTHERS], np.int64)


def _come_back(table: Table, part: np.ndarray) -> Iterator[tuple[int, Floats]]:
    """The place of each column that is not any number, and what would come back of it."""
    relations = {relation.column: relation for relation in table.relations}
    for j, column in enumerate(table.columns):
        if j in relations:
            needed = {i: part[:, i].astype(np.float64) for i in relations[j].components}
            yield j, relations[j].computed(table.columns, needed)
        elif column.step is not None or not column.width:
            # whole numbers out of the range that was drawn do come back: the range is found here
            free = replace(column, low=-np.inf, high=np.inf) if _has_range(column) else column
            yield j, free.decoded(part[:, [j]].astype(np.float64)).astype(np.float64)
