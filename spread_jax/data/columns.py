"""The columns of a user's table: kind, dtype, step and values of each."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from spread_jax.data.files import require
from spread_jax.data.standardization import Floats

MAX_CATEGORIES = 100
LARGEST, CLOSEST = 1e305, 1e-300  # beyond these float64 overflows, or loses digits
EXACT = 2**53  # float64 holds every integer up to here
LARGEST_INTEGER = 2**50  # up to here mean + scale z errs by less than a half
EPS = float(np.finfo(np.float64).eps)


@dataclass(frozen=True)
class Column:
    """What one column needs to come back; all of it is JSON.

    Attributes:
      name: its name, or its number from 1 in an array.
      dtype: of the array or of the DataFrame's column.
      holds: NumPy's dtype of the values; "object" for text and categories.
      values: the one value of a constant column, the categories of a text column, else None.
      levels, levels_dtype, ordered: of pandas' category dtype; levels that no row has are kept.
      decimals: numbers are multiples of 10^-decimals; None where they are not rounded.
      low, high: the range of numbers.
      two_valued: whether low and high are the only two numbers.
    """

    name: str | int
    dtype: str
    holds: str = "object"
    values: list[Any] | None = None
    levels: list[Any] | None = None
    levels_dtype: str = ""
    ordered: bool = False
    decimals: int | None = None
    low: float = 0.0
    high: float = 0.0
    two_valued: bool = False

    @property
    def label(self) -> str:
        """What messages call it."""
        return f"column {self.name!r}"

    @property
    def width(self) -> int:
        """How many numbers say a row's value: none of a constant, one per category of text."""
        return 1 if self.values is None else len(self.values) if len(self.values) > 1 else 0

    @property
    def is_number(self) -> bool:
        """Whether it holds numbers that vary."""
        return self.values is None

    @property
    def is_float(self) -> bool:
        """Whether any number fits, not integers only."""
        return np.dtype(self.holds).kind == "f"

    @property
    def step(self) -> float | None:
        """What two numbers of the column differ by, or a multiple of it; None if anything."""
        if self.two_valued:
            return self.high - self.low
        return None if self.decimals is None else 10.0**-self.decimals

    @property
    def eps(self) -> float:
        """How finely the dtype resolves numbers around 1, as float64 at best."""
        return float(np.finfo(self.holds).eps) if self.is_float else EPS

    @property
    def assumption(self) -> str | None:
        """What was assumed of it, if anything."""
        if self.values is not None and not self.width:
            return "is constant: it is left out and put back"
        if self.values is not None:
            kind = "text" if self.levels is None else "a category"
            return f"is {kind} with {len(self.values)} values"
        if self.holds == "bool":
            return "is true or false"
        if self.two_valued:
            return f"holds {self.low:.15g} or {self.high:.15g}, nothing else"
        if self.decimals is None:
            return None
        return f"is rounded to {10.0**-self.decimals:g}" if self.decimals else "holds integers"

    def stored(self, y: Floats) -> Floats:
        """Numbers as they are, in float64, once the column's dtype has held them."""
        if self.is_float:
            with np.errstate(over="ignore"):
                return y.astype(self.holds).astype(np.float64)
        is_bool = self.holds == "bool"
        least, most = (0, 1) if is_bool else (np.iinfo(self.holds).min, np.iinfo(self.holds).max)
        # clipped, since a number beyond the dtype's range would wrap around
        return np.rint(np.clip(y, max(least, -EXACT), min(most, EXACT)))

    def to_step(self, y: Floats) -> Floats:
        """The nearest multiples of 10^-decimals, each the float64 nearest to the decimal number."""
        if self.decimals is None:
            return y
        power = 10.0 ** abs(self.decimals)  # exact up to 10^22; multiplying by 0.1 would not be
        if self.decimals > 0:
            return np.rint(y * power) / power
        return np.rint(y / power) * power

    def encoded(self, values: np.ndarray) -> Floats:
        """The number, or 1 at the row's category and else 0: ``[rows, width]``.

        Raises:
          ValueError: naming the row of a text among numbers, or of a category that is not known.
        """
        if self.is_number:
            if values.dtype.kind == "O" and len(values):
                raise ValueError(f"must be numbers in {self.label}: row 1 is {values[0]!r}")
            return values.astype(np.float64)[:, None]
        block = np.zeros((len(values), self.width))
        if self.width:
            codes = {value: k for k, value in enumerate(self.values or [])}
            for i, value in enumerate(values.tolist()):
                if value not in codes:
                    accepted = f"categories that the described table had; in {self.label} row "
                    raise ValueError(f"must be {accepted}{i + 1} is {value!r}")
                block[i, codes[value]] = 1
        return block

    def decoded(self, block: Floats) -> np.ndarray:
        """A value of the column for any ``[rows, width]``: rounded, whole numbers within range.

        Of text, the category of the largest entry.
        """
        if self.values is not None:
            is_constant = not self.width
            codes = np.zeros(len(block), int) if is_constant else block.argmax(axis=1)
            return objects(self.values)[codes]
        y = block[:, 0]
        if self.two_valued:
            return np.where(y < self.low / 2 + self.high / 2, self.low, self.high)
        y = self.to_step(y)
        is_whole = self.decimals is not None and self.decimals <= 0
        return self.stored(np.clip(y, self.low, self.high) if is_whole else y)


def objects(items: list[Any]) -> np.ndarray:
    """An array of these objects, one entry each."""
    values = np.empty(len(items), object)
    values[:] = items
    return values


def described(column: Column, values: np.ndarray) -> Column:
    """The column with all that its values say of it.

    Raises:
      ValueError: for more than 100 categories, or numbers too large or too close for float64.
    """
    if column.holds == "object":
        seen = set(values.tolist())
        kept = sorted(seen) if column.levels is None else [v for v in column.levels if v in seen]
        accepted = f"at most {MAX_CATEGORIES} categories in a column; {column.label} has "
        require(len(kept) <= MAX_CATEGORIES, f"{accepted}{len(kept):,}: drop it or merge some")
        return replace(column, values=kept)
    low, high = values.min().item(), values.max().item()
    if low == high:
        return replace(column, values=[low])
    fits = max(abs(low), abs(high)) <= (LARGEST if column.is_float else LARGEST_INTEGER)
    accepted = f"numbers {CLOSEST:g} apart or more and up to {LARGEST:g}, integers up to 2^50; "
    accepted += f"{column.label} goes from {low} to {high}: change its units or drop it"
    require(fits and high - low >= CLOSEST, accepted)
    distinct = np.unique(values.astype(np.float64))
    return replace(
        column,
        decimals=_decimals(column, distinct),
        low=float(low),
        high=float(high),
        two_valued=len(distinct) == 2 and len(values) >= 4,
    )


def _decimals(column: Column, distinct: Floats) -> int | None:
    """The fewest decimals, negative for tens and hundreds, that write every number."""
    largest, span = float(np.abs(distinct).max()), float(distinct[-1] - distinct[0])
    finest = column.eps * largest if column.is_float else 1.0
    informative = np.count_nonzero(distinct)  # 0 is a multiple of every step
    for decimals in range(-22, 23 if column.is_float else 1):
        step = 10.0**-decimals
        is_fine = (decimals and step < 1e-9 * span) or (column.is_float and step < 2 * finest)
        if is_fine or step > largest:
            continue
        # of the numbers that the dtype holds, the share finest / step are multiples
        is_chance = informative * np.log10(step / finest) < 3
        if is_chance and (decimals or column.is_float):
            continue
        rounded = replace(column, decimals=decimals)
        # a few first: most steps fail at once
        if all(
            np.array_equal(rounded.stored(rounded.to_step(y)), y)
            for y in (distinct[:100], distinct)
        ):
            return decimals
    return None


def mean_and_scale(block: Floats) -> tuple[Floats, float]:
    """The mean of a column's ``[rows, width]``, and the square root of its summed variances.

    With one scale for all its categories, two rows of text are as far apart, √2 in root mean
    square, as two standardized numbers are.
    """
    unit = float(np.abs(block).max())  # so that no square over- or underflows
    x = block / unit
    return unit * x.mean(axis=0), unit * float(np.sqrt(x.var(axis=0).sum()))
