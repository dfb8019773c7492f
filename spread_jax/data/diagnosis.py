"""Is this data degenerate, will a learned variance run away on it, and which σ_fix to start from?

NumPy, SciPy and scikit-learn only: it runs before any model is built.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from spread_jax.data.images import as_rows
from spread_jax.data.intrinsic_dimension import (
    MIN_ROWS,
    IntrinsicDimension,
    intrinsic_dimension,
)
from spread_jax.data.modes import ATOM_SHARE
from spread_jax.data.numbers import Numbers, named, numbers_of
from spread_jax.data.rank import dependent_columns, rank_of
from spread_jax.data.rare_rows import notes_on_rare_rows
from spread_jax.data.scaled_rows import MOST_TOLERANCE, TOLERANCE, scaled_rows
from spread_jax.data.sigma_suggestion import SuggestedSigma, suggest_sigma, suggested_by_rows
from spread_jax.data.standardization import Floats
from spread_jax.data.verdict import Verdict, few_digits, judge, scales_differ

OF_COLUMNS, OF_PIXELS = "standard deviations of a column", "pixels in [0, 1]"


class Diagnosis(NamedTuple):
    """What :func:`diagnose` found.

    The lists of columns hold positions from 0, as Python indexes. In words, as in ``reasons``,
    columns have their names, or in an array their numbers from 1, and rows count from 1.

    Attributes:
      verdict: degenerate, nearly degenerate or full-dimensional.
      reasons: in words.
      rows, dim: of the table; ``dim`` is the number of its numeric columns.
      columns: their names; 1, 2, ... of an array.
      constant_columns: that hold one value only, or one but for rounding.
      dependent_columns: linear combinations of columns to their left, copies among them; constant
        columns left out.
      discrete_columns: with few distinct values, or one that is frequent; constant ones left out.
      duplicate_rows: rows equal to an earlier row.
      rank: of the centred data, each column by its scale: directions along which they vary by more
        than ``tolerance``, or than what the rounding of each column explains.
      tolerance: standard deviation along a direction, in column scales, that counts as 0; that of
        the column with the most digits, since others have larger ones of their own.
      spectrum: standard deviation along each principal direction, in column scales, falling.
      scale: standard deviation of each column, data units.
      distinct_values: in each column.
      intrinsic_dimension: None if rank is 0 or fewer than 30 rows are distinct.
      distances: from up to 1,000 points to their nearest and tenth neighbour, in column scales,
        ``[points, 2]``; empty without ``intrinsic_dimension``.
      suggested_sigma: in ``sigma_unit``, which is what :func:`spread_jax.fit` takes; None if
        nothing varies.
      start_with: one σ_fix, the geometric middle of ``suggested_sigma``, as far from either end;
        it is for noise that stays constant, since ``fit`` starts at the upper end and falls.
      sigma_unit: "standard deviations of a column", or of images "pixels in [0, 1]".
    """

    verdict: Verdict
    reasons: list[str]
    rows: int
    dim: int
    columns: list[str | int]
    constant_columns: list[int]
    dependent_columns: list[int]
    discrete_columns: list[int]
    duplicate_rows: int
    rank: int
    tolerance: float
    spectrum: Floats
    scale: Floats
    distinct_values: NDArray[np.int64]
    intrinsic_dimension: IntrinsicDimension | None
    distances: Floats
    suggested_sigma: SuggestedSigma | None
    start_with: float | None
    sigma_unit: str


def diagnose(x: Any, on_progress: Callable[[str], None] = lambda stage: None) -> Diagnosis:
    """Whether the law of x has a density: on a set of zero volume a learned variance runs away.

    Degenerate: a constant or dependent column, an atom (one value or row that is frequent), or an
    intrinsic dimension below the rank at every scale the points can show. Nearly so: a direction
    thinner than 1 % of the scale, values on a grid, repeated rows, or a dimension that is low but
    for the finest scale. The answer depends neither on the columns' units and order nor on what is
    added to them, beyond the digits that the sum has lost; where few are left, it says so.

    Args:
      x: data, an array ``[rows, columns]`` or a pandas DataFrame, whose columns of text or
        categories are left out; no column need be scaled. An array ``[n, height, width]`` or
        ``[n, height, width, 3]`` is images, uint8 or floats in [0, 1].
      on_progress: called with the name of each stage as it begins.

    Raises:
      ValueError: if x is no table of finite numbers with at least two rows, naming column and row;
        if a DataFrame has a missing cell or no numeric column, or images no such pixels.

    Examples:
      >>> x = sj.sample_two_modes(jax.random.key(0), 1000)
      >>> diagnosis = sj.diagnose(x)
      >>> diagnosis.verdict, diagnosis.constant_columns
      ('degenerate', [1])
      >>> print(diagnosis.reasons[0])
      column 2 is constant
    """
    pixels = as_rows(np.asarray(x)) if getattr(x, "ndim", 2) > 2 else None
    numbers = numbers_of(x, shift_large=True, leave_out_text=True)
    x, names = numbers.values, numbers.names
    rows, dim = x.shape
    on_progress("scales")
    z, varying, scaling, step, noise, first_rows = scaled_rows(numbers)
    on_progress("distinct values and rows")
    counts = (np.unique(column, return_counts=True)[1] for column in x.T)
    distinct, commonest = np.array([(len(count), count.max()) for count in counts]).T
    is_discrete = (distinct <= rows / 2) | (commonest >= max(3, ATOM_SHARE * rows))
    is_discrete[scaling.constant_columns] = False

    on_progress("rank")
    triangle: Floats = np.asarray(np.linalg.qr(z, mode="r")) / math.sqrt(rows)
    spectrum: Floats = np.linalg.svd(triangle, compute_uv=False).astype(np.float64)
    rank = rank_of(triangle, noise) if varying.size else 0
    on_progress("nearest neighbours")
    intrinsic, distances = None, np.zeros((0, 2))
    if rank and len(first_rows) >= MIN_ROWS:
        points = z if len(first_rows) == rows else z[first_rows]
        intrinsic, distances = intrinsic_dimension(points, spectrum[:rank])
    on_progress("width of the modes")
    sigma = None
    if varying.size:
        sigma = suggested_by_rows(z, first_rows) if pixels is None else suggest_sigma(pixels)
    del z
    facts = Diagnosis(
        verdict="full-dimensional",
        reasons=[],
        rows=rows,
        dim=dim,
        columns=names,
        constant_columns=scaling.constant_columns,
        dependent_columns=varying[dependent_columns(triangle, noise, rank, rows)].tolist(),
        discrete_columns=np.flatnonzero(is_discrete).tolist(),
        duplicate_rows=rows - len(first_rows),
        rank=rank,
        tolerance=float(noise.min(initial=MOST_TOLERANCE)) if varying.size else TOLERANCE,
        spectrum=spectrum,
        scale=np.where(np.isin(np.arange(dim), varying), scaling.scale, 0.0),
        distinct_values=distinct,
        intrinsic_dimension=intrinsic,
        distances=distances,
        suggested_sigma=sigma,
        start_with=sigma and sigma.start_with,
        sigma_unit=OF_COLUMNS if pixels is None else OF_PIXELS,
    )
    to_rounding = [j for j in scaling.constant_columns if distinct[j] > 1]
    verdict, reasons, notes = judge(facts, commonest / rows, to_rounding)
    if pixels is None:
        notes = _of_columns(numbers, varying, step, facts.scale) + notes
    return facts._replace(verdict=verdict, reasons=reasons + notes)


def _of_columns(numbers: Numbers, varying: NDArray, step: Floats, scale: Floats) -> list[str]:
    """Notes on single columns of a table."""
    notes = notes_on_rare_rows(numbers)
    notes += few_digits([numbers.names[j] for j in varying], step, scale[varying])
    notes += scales_differ(scale)
    if numbers.left_out:
        verb, left = ("holds", "is") if len(numbers.left_out) == 1 else ("hold", "are")
        what = f"{verb} text or categories and {left} left out"
        notes.append(f"{named(numbers.left_out)} {what}")
    return notes
