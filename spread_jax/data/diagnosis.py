"""Is this data degenerate, will a learned variance run away on it, and which σ_fix to start from?

NumPy, SciPy and scikit-learn only: it runs before any model is built.
"""

import math
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from spread_jax.data.columns import (
    ATOM_SHARE,
    column_values,
    dependent_columns,
    discrete_columns,
    first_of_equal_rows,
    less_first_row,
    rank_tolerance,
)
from spread_jax.data.files import as_table
from spread_jax.data.intrinsic_dimension import IntrinsicDimension, intrinsic_dimension
from spread_jax.data.sigma_suggestion import SuggestedSigma, suggest_sigma
from spread_jax.data.standardization import Floats, scaling_of

Verdict = Literal["degenerate", "nearly degenerate", "full-dimensional"]

THIN = 0.01  # of the scale: where the alarm of a training run goes off
LOW_DIMENSION = 0.8  # of what noise shows
MIN_ROWS_FOR_DIMENSION = 30
DIFFERENT_SCALES = 100.0


class Diagnosis(NamedTuple):
    """What :func:`diagnose` found. Columns count from 0.

    Attributes:
      verdict: degenerate, nearly degenerate or full-dimensional.
      reasons: in words.
      rows, dim: of the table.
      constant_columns: that hold one value only.
      dependent_columns: linear combinations of columns to their left, copies among them; constant
        columns left out.
      discrete_columns: with few distinct values, or one that is frequent; constant ones left out.
      duplicate_rows: rows equal to an earlier row.
      rank: of the centred data, each column by its scale: singular values above ``tolerance``.
      tolerance: standard deviation along a direction, in column scales, that counts as 0.
      spectrum: standard deviation along each principal direction, in column scales, falling.
      scale: standard deviation of each column, data units.
      distinct_values: in each column.
      intrinsic_dimension: None if rank is 0 or fewer than 30 rows are distinct.
      distances: from up to 1,000 points to their nearest and tenth neighbour, in column scales,
        ``[points, 2]``; empty without ``intrinsic_dimension``.
      suggested_sigma: None if nothing varies.
    """

    verdict: Verdict
    reasons: list[str]
    rows: int
    dim: int
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


def diagnose(x: ArrayLike, on_progress: Callable[[str], None] = lambda stage: None) -> Diagnosis:
    """Whether the law of x has a density: on a set of zero volume a learned variance runs away.

    Degenerate: a constant or dependent column, an atom (one value or row that is frequent), or an
    intrinsic dimension below the rank at every scale the points can show. Nearly so: a direction
    thinner than 1 % of the scale, values on a grid, repeated rows, or a dimension that is low but
    for the finest scale. The answer does not depend on the columns' units.

    Args:
      x: data, ``[rows, columns]``; no column need be scaled.
      on_progress: called with the name of each stage as it begins.

    Raises:
      ValueError: if x is no table of finite numbers with at least two rows.

    Examples:
      >>> x = sj.sample_two_modes(jax.random.key(0), 1000)
      >>> diagnosis = sj.diagnose(x)
      >>> diagnosis.verdict, diagnosis.constant_columns
      ('degenerate', [1])

    References:
      Levina, Bickel, "Maximum likelihood estimation of intrinsic dimension", NIPS 2004; Facco,
      d'Errico, Rodriguez, Laio, Scientific Reports 7 (2017).
    """
    x = less_first_row(as_table(x))
    rows, dim = x.shape
    on_progress("scales")
    scaling = scaling_of(x)
    varying = np.setdiff1d(np.arange(dim), scaling.constant_columns)
    on_progress("distinct values and rows")
    distinct_values, largest_share = column_values(x)
    first_rows = first_of_equal_rows(x)

    z = x[:, varying].astype(np.float64)
    z -= scaling.mean[varying]
    z /= scaling.scale[varying]
    on_progress("rank")
    tolerance = rank_tolerance(x, scaling, varying)
    triangle: Floats = np.asarray(np.linalg.qr(z, mode="r")) / math.sqrt(rows)
    spectrum: Floats = np.linalg.svd(triangle, compute_uv=False).astype(np.float64)
    rank = int(np.sum(spectrum > tolerance))
    on_progress("nearest neighbours")
    intrinsic, distances = None, np.zeros((0, 2))
    if rank and len(first_rows) >= MIN_ROWS_FOR_DIMENSION:
        points = z if len(first_rows) == rows else z[first_rows]
        intrinsic, distances = intrinsic_dimension(points, spectrum[:rank])
    del z
    on_progress("width of the modes")
    facts = Diagnosis(
        verdict="full-dimensional",
        reasons=[],
        rows=rows,
        dim=dim,
        constant_columns=scaling.constant_columns,
        dependent_columns=varying[dependent_columns(triangle, tolerance, rank, rows)].tolist(),
        discrete_columns=discrete_columns(distinct_values, largest_share, rows),
        duplicate_rows=rows - len(first_rows),
        rank=rank,
        tolerance=tolerance,
        spectrum=spectrum,
        scale=np.where(np.isin(np.arange(dim), varying), scaling.scale, 0.0),
        distinct_values=distinct_values,
        intrinsic_dimension=intrinsic,
        distances=distances,
        suggested_sigma=suggest_sigma(x) if varying.size else None,
    )
    verdict, reasons = _judge(facts, largest_share)
    return facts._replace(verdict=verdict, reasons=reasons)


def _judge(facts: Diagnosis, largest_share: Floats) -> tuple[Verdict, list[str]]:
    degenerate, nearly, notes = [], [], []
    varying = facts.dim - len(facts.constant_columns)
    most_rank = min(varying, facts.rows - 1)
    if facts.constant_columns:
        degenerate.append(f"{_columns(facts.constant_columns)} constant")
    if facts.dependent_columns:
        degenerate.append(
            f"{_columns(facts.dependent_columns)} a linear combination of columns to the left"
        )
    if facts.rank < most_rank:
        degenerate.append(
            f"rank {facts.rank} of {varying} varying columns, at tolerance "
            f"{facts.tolerance:.1g} of a column's scale{_gap(facts)}"
        )
    if most_rank < varying:
        notes.append(
            f"{facts.rows:,} rows cannot fill {varying:,} dimensions: a flexible likelihood can "
            "run away on them whatever their law"
        )

    atoms = [j for j in facts.discrete_columns if largest_share[j] >= ATOM_SHARE]
    grid = [j for j in facts.discrete_columns if largest_share[j] < ATOM_SHARE]
    if atoms:
        degenerate.append(
            f"{_columns(atoms)} discrete, with one value in {ATOM_SHARE:.0%} of the rows or more "
            f"(up to {largest_share[atoms].max():.1%}): a component can sit on it and shrink"
        )
    if grid:
        low, high = facts.distinct_values[grid].min(), facts.distinct_values[grid].max()
        span = f"{low:,}" if low == high else f"{low:,} to {high:,}"
        nearly.append(
            f"{_columns(grid)} discrete, with {span} distinct values in {facts.rows:,} rows: "
            "a grid, no density"
        )
    if facts.duplicate_rows:
        share = facts.duplicate_rows / facts.rows
        text = f"{facts.duplicate_rows:,} of {facts.rows:,} rows repeat an earlier row"
        (nearly if share >= ATOM_SHARE else notes).append(text)

    # least singular value of noise with as many rows: 1 - √(dim / rows), Marchenko and Pastur
    full = facts.spectrum[: facts.rank]
    aspect = math.sqrt(min(1.0, facts.rank / max(1, facts.rows - 1)))
    thin = full[full < THIN * (1 - aspect)]
    if thin.size:
        nearly.append(
            f"{thin.size} of {facts.rank} principal directions thinner than {THIN:.0%} of a "
            f"column's scale, down to {thin.min():.1g}"
        )

    full_text = "no constant, dependent or discrete column, no thin direction"
    dimension = facts.intrinsic_dimension
    if dimension is not None:
        estimate, (low, high) = f"intrinsic dimension {dimension.estimate:.3g}", dimension.interval
        noise = (
            f"where as many points of noise of rank {facts.rank} show {dimension.of_noise[0]:.3g}"
        )
        full_text += f"; {estimate}, {noise}"
        if high < LOW_DIMENSION * dimension.of_noise[0]:
            text = f"{estimate} ({low:.3g} to {high:.3g}), {noise}"
            if dimension.nearest < LOW_DIMENSION * dimension.of_noise[1]:
                degenerate.append(text + ": the points lie on a thin set")
            else:
                nearly.append(text + "; nearer by, the set has a thickness")
    elif facts.rank:
        notes.append(
            f"fewer than {MIN_ROWS_FOR_DIMENSION} distinct rows: too few for an intrinsic dimension"
        )

    varying_scale = facts.scale[facts.scale > 0]
    if varying_scale.size and varying_scale.max() > DIFFERENT_SCALES * varying_scale.min():
        notes.append(
            f"column scales from {varying_scale.min():.2g} to {varying_scale.max():.2g}: "
            "standardize first, one σ_fix serves all columns"
        )
    if degenerate:
        return "degenerate", degenerate + nearly + notes
    if nearly:
        return "nearly degenerate", nearly + notes
    return "full-dimensional", [full_text, *notes]


def _columns(columns: Sequence[int], most: int = 8) -> str:
    shown = ", ".join(map(str, columns[:most])) + (", ..." if len(columns) > most else "")
    return f"column {shown} is" if len(columns) == 1 else f"{len(columns)} columns ({shown}) are"


def _gap(facts: Diagnosis) -> str:
    if not 0 < facts.rank < len(facts.spectrum):
        return ""
    above, below = facts.spectrum[facts.rank - 1 : facts.rank + 1]
    return f", with a gap in the spectrum from {above:.1g} to {below:.1g}"
