"""A few rows that set the scale of a column, or that alone let it vary."""

from typing import NamedTuple

import numpy as np

from spread_jax.data.numbers import Numbers, named
from spread_jax.data.standardization import Floats

SHARE_OF_ROWS = 0.01  # of the rows: what is a few, but FEW where there are many rows
FEW, MANY, LEAST_ROWS = 3, 30, 10
FACTOR = 10  # by which the scale falls without them


class RareRows(NamedTuple):
    """The fewest rows without which a column's standard deviation falls by a factor of ten.

    Attributes:
      rows: positions from 0, rising.
      scale: the standard deviation with them, in the column's units.
      scale_without: and without them; 0 if the other rows hold one value only, ``value``.
      value: the median of the other rows.
    """

    rows: list[int]
    scale: float
    scale_without: float
    value: float


def rare_rows(x: Floats) -> RareRows | None:
    """Those of a column ``[rows]``, at most 1 % of the rows but up to 3 of 30; None if none do."""
    count = len(x)
    most = max(FEW if count >= MANY else 1, int(SHARE_OF_ROWS * count))
    if count < LEAST_ROWS:
        return None
    middle = np.sort(x)[count // 2]
    apart = x - middle
    exponent = np.frexp(np.abs(apart).max())[1]
    apart = np.ldexp(apart, -exponent)  # exact, and no square over- or underflows
    nearest_first = np.argsort(np.abs(apart), kind="stable")
    # sums from the median outwards: those without the farthest rows keep their digits
    kept = np.arange(1, count + 1)
    means = np.cumsum(apart[nearest_first]) / kept
    squares = np.cumsum(apart[nearest_first] ** 2) / kept
    scales = np.sqrt(np.maximum(squares - means**2, 0))[::-1][: most + 1]
    if scales[0] == 0 or scales[-1] * FACTOR > scales[0]:
        return None
    tenth = int(np.argmax(scales * FACTOR <= scales[0]))
    # and the further ones whose absence halves it still, of three enormous rows all three
    halves = np.flatnonzero((scales[1:] * 2 <= scales[:-1]) & (scales[:-1] > 0)) + 1
    last = max([tenth, *halves.tolist()])
    return RareRows(
        rows=sorted(nearest_first[-last:].tolist()),
        scale=float(np.ldexp(scales[0], exponent)),
        scale_without=float(np.ldexp(scales[last], exponent)),
        value=float(middle),
    )


def notes_on_rare_rows(numbers: Numbers) -> list[str]:
    """What is to be said of rare rows in the columns of a table; of those that vary by more than
    rounding."""
    found = {}
    for name, column, eps in zip(numbers.names, numbers.values.T, numbers.eps, strict=True):
        x = column.astype(np.float64)
        if np.ptp(x) > 2 * eps * np.abs(x).max():
            found[name] = rare_rows(x)
    return said_of_rare_rows({name: each for name, each in found.items() if each})


def said_of_rare_rows(found: dict[str | int, RareRows]) -> list[str]:
    """What was found in the columns of these names, in words; rows count from 1."""
    said = []
    rare = {name: each for name, each in found.items() if each.scale_without == 0}
    outlying = {name: each for name, each in found.items() if each.scale_without > 0}
    if rare:
        name, each = next(iter(rare.items()))
        column = f"column {name!r}"
        if len(rare) > 1:
            column = f"{named(list(rare))} are constant but for a few rows; {column}"
        said.append(
            f"{column} is {each.value:g} in all rows but {_rows(each).rstrip(',')}: a value "
            "this rare cannot be learnt, and it alone sets the scale of its column"
        )
    if outlying:
        name, each = next(iter(outlying.items()))
        verb, them = ("sets", "it") if len(each.rows) == 1 else ("set", "them")
        rows = f"{_rows(each)} {verb} the scale of column {name!r}"
        if len(outlying) > 1:
            rows = f"a few rows set the scale of {named(list(outlying))}; {rows}"
        said.append(
            f"{rows}, whose standard deviation is {each.scale:.2g}, and {each.scale_without:.2g} "
            f"without {them}: look at these rows, or take the column's logarithm"
        )
    return said


def _rows(each: RareRows) -> str:
    count, first = len(each.rows), f"row {each.rows[0] + 1:,}"
    return first if count == 1 else f"{count} rows, the first of them {first},"
