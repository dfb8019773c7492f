"""A user's table as a standardized matrix, and back with its names, order, dtypes and values."""

from collections import defaultdict
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from spread_jax.data.columns import Column, described, mean_and_scale
from spread_jax.data.files import require
from spread_jax.data.frames import columns_of, table_of
from spread_jax.data.relations import Relation, relations_among
from spread_jax.data.standardization import Floats, Standardization

FIRST_ROWS = 20  # that tell columns apart
MOST_NAMED = 5  # columns of which the same is said


@dataclass(frozen=True)
class Table:
    """A table ↦ a standardized matrix z and back; made by :meth:`of`, kept by :meth:`to_json`.

    z has one column per number, (x - mean) / scale, and one per category of text, where x is 0 or
    1. Constant columns and columns that are linear in others have none: they are put back.

    Attributes:
      kind: "array" or "frame".
      columns: in the user's order.
      order: their places in the order of z, which is that of their standardized values: what is
        fitted does not depend on how a user orders the columns.
      relations: the columns left out since others give them, in the order of computing them back.
      mean, scale: of the columns of z, ``[width]``.
    """

    kind: str
    columns: list[Column]
    order: list[int]
    relations: list[Relation]
    mean: list[float] = field(repr=False)
    scale: list[float] = field(repr=False)

    @classmethod
    def of(cls, x: Any) -> "Table":
        """The transform of a table, learnt from its rows; it keeps none of them.

        - A constant column is left out.
        - A column that is c0 + Σ c_j x_j of others, to rounding, is left out: of the columns in
          such a relation one that stays on its step and varies most. There must be
          more than twice as many rows as coefficients. The c are short decimals where these do.
        - A column is rounded to the largest power of ten of which all its numbers are multiples, if
          that is 1e-9 of their range or more, or 1, and if as many distinct numbers of that dtype
          would all be multiples by chance with probability 1e-3 or less. Two numbers only, in 4
          rows or more, remain the only two.
        - Whole numbers stay within the range that was seen. Text becomes one-hot.

        Args:
          x: ``[rows, columns]``, an array or a pandas DataFrame, any units.

        Raises:
          ValueError: naming the column and row (from 1) of what is no finite number, boolean,
            text or category; for fewer than 2 rows, columns of one name, more than 100 categories
            in a column, integers beyond ±2^50, numbers beyond ±1e305 or all within 1e-300, or
            nothing that varies.

        Examples:
          >>> from spread_jax.data.tables import Table
          >>> height = np.array([1.5, 1.8, 1.7, 1.6, 1.9, 1.5, 1.7])
          >>> income = np.array([10, 30, 20, 40, 50, 20, 10])
          >>> table = Table.of(np.column_stack([height, income, height + income]))
          >>> table.width
          2
          >>> print(table.inverse([[0.1, 0.1], [-1.0, 0.5]]))
          [[ 1.7 30.  31.7]
           [ 1.5 30.  31.5]]
          >>> print(table.assumptions()[-1])
          column 3 is column 1 + column 2: it is left out and computed back
        """
        kind, read = columns_of(x)
        require(bool(read), "a table of one column or more")
        rows = len(read[0][1])
        require(rows > 1, f"a table of 2 rows or more, not of {rows}")
        columns = [described(column, values) for column, values in read]
        varies = any(column.width for column in columns)
        require(varies, "a table with a column that varies; every column of this one is constant")
        blocks = [column.encoded(y) for column, (_, y) in zip(columns, read, strict=True)]
        order = _order(columns, blocks)
        numbers = {j: blocks[j][:, 0] for j in order if columns[j].is_number}
        relations = relations_among(columns, numbers)
        mean, scale = list[float](), list[float]()
        for j, column in _in_z(columns, order, relations):
            if column.width:
                block_mean, block_scale = mean_and_scale(blocks[j])
                mean += block_mean.tolist()
                scale += [block_scale] * column.width
        return cls(kind, columns, order, relations, mean, scale)

    @property
    def width(self) -> int:
        """Columns of z."""
        return len(self.mean)

    def apply(self, x: Any) -> Floats:
        """z ``[rows, width]`` of these or other rows with the same columns; names in any order.

        What is left out is not looked at, so rows in which it is otherwise lose that.

        Raises:
          ValueError: naming a column that is missing or extra, or a value as in :meth:`of`, or a
            text that :meth:`of` did not meet.
        """
        if self._is_usual(x):
            places = [j for j, column in self._in_z() if column.width]
            return self._scaling().apply(x[:, places])
        kind, read = columns_of(x)
        accepted = {"array": "an array", "frame": "a DataFrame"}[self.kind]
        require(kind == self.kind, f"{accepted}, as the table that was described")
        found = {column.name: values for column, values in read}
        names = [column.name for column in self.columns]
        missing = [repr(name) for name in names if name not in found]
        extra = [repr(name) for name in found if name not in names]
        said = [f"missing: {', '.join(missing)}"] * bool(missing)
        said += [f"extra: {', '.join(extra)}"] * bool(extra)
        require(not said, f"a table of the same columns; {'; '.join(said)}")
        blocks = [column.encoded(found[column.name]) for _, column in self._in_z()]
        return self._scaling().apply(np.concatenate(blocks, axis=1))

    def inverse(self, z: ArrayLike) -> Any:
        """The user's table of z ``[rows, width]``: an array or DataFrame as the described one was.

        Numbers are mean + scale z, rounded as the column was; of text, the category of the largest
        entry. A column that was left out is computed from the numbers that come back, and rounded
        if the relation is no less true for it; only the range of its dtype limits it. Float64
        numbers that are not rounded come back to within their last digit or two. Rows of a
        DataFrame are numbered from 0.

        Raises:
          ValueError: if z has another shape or holds no finite numbers.
        """
        z = np.asarray(z, np.float64)
        right_shape = z.ndim == 2 and z.shape[1] == self.width
        require(right_shape, f"of shape [rows, {self.width}], not {list(z.shape)}")
        require(bool(np.isfinite(z).all()), "finite numbers")
        matrix = self._scaling().inverse(z)
        values: dict[int, np.ndarray] = {}
        start = 0
        for j, column in self._in_z():
            values[j] = column.decoded(matrix[:, start : start + column.width])
            start += column.width
        for relation in self.relations:
            values[relation.column] = relation.computed(self.columns, values)
        return table_of(self.kind, self.columns, [values[j] for j in range(len(self.columns))])

    def numeric_columns(self, x: Any) -> tuple[list[str], Floats]:
        """The names and the numbers ``[rows, columns]`` of the columns that vary and are no text,
        for figures; x as in :meth:`apply`."""
        found = {column.name: values for column, values in columns_of(x)[1]}
        shown = [column for column in self.columns if column.is_number and column.width]
        numbers = [np.asarray(found[column.name], np.float64) for column in shown]
        return [str(column.name) for column in shown], np.column_stack(numbers or [np.ones((1, 0))])

    def assumptions(self) -> list[str]:
        """What was assumed of each column, or done with it: a line for each, but only one for more
        than MOST_NAMED columns of which the same is said."""
        said = {j: column.assumption for j, column in enumerate(self.columns)}
        for each in self.relations:
            formula = each.formula(self.columns)
            said[each.column] = f"is {formula}: it is left out and computed back"
        alike = defaultdict[str | None, list[str]](list)
        for j, what in said.items():
            alike[what].append(self.columns[j].label)
        alike[None], lines = [], []
        for j, what in said.items():
            labels = alike[what]
            if len(labels) > MOST_NAMED:
                names = ", ".join(label.removeprefix("column ") for label in labels[:MOST_NAMED])
                lines.append(f"{len(labels)} columns ({names}, ...): each {what}")
                alike[what] = []  # said
            elif labels:
                lines.append(f"{self.columns[j].label} {what}")
        return lines

    def to_json(self) -> dict[str, Any]:
        """The transform as strings, numbers, lists, booleans and None; no rows of data."""
        return asdict(self)

    @classmethod
    def from_json(cls, saved: dict[str, Any]) -> "Table":
        """The transform that :meth:`to_json` saved: equal, and its inverse gives the same bits."""
        columns = [Column(**each) for each in saved["columns"]]
        relations = [Relation(**each) for each in saved["relations"]]
        return cls(saved["kind"], columns, saved["order"], relations, saved["mean"], saved["scale"])

    def _is_usual(self, x: Any) -> bool:
        """Whether x is an array of finite numbers with the columns of this one, none of text: such
        an array needs no look at each column, which would take ten times as long."""
        is_array = self.kind == "array" and type(x) in (np.ndarray, np.memmap) and x.ndim == 2
        return (
            is_array
            and x.dtype.kind in "biuf"
            and x.shape[1] == len(self.columns)
            and all(column.is_number for _, column in self._in_z() if column.width)
            and bool(np.isfinite(x).all())
        )

    def _in_z(self) -> list[tuple[int, Column]]:
        return _in_z(self.columns, self.order, self.relations)

    def _scaling(self) -> Standardization:
        return Standardization(np.array(self.mean), np.array(self.scale), [])


def _order(columns: list[Column], blocks: list[Floats]) -> list[int]:
    """Places of the columns, sorted by their first standardized values."""

    def key(j: int) -> list[float]:
        if not columns[j].width:
            return []
        mean, scale = mean_and_scale(blocks[j])
        # rounded: the last digits depend on the units
        return ((blocks[j][:FIRST_ROWS] - mean) / scale).round(6).ravel().tolist()

    return sorted(range(len(columns)), key=key)


def _in_z(
    columns: list[Column], order: list[int], relations: list[Relation]
) -> list[tuple[int, Column]]:
    """The columns that are not left out since others give them, each with its place from 0."""
    left_out = {each.column for each in relations}
    return [(j, columns[j]) for j in order if j not in left_out]
