"""Is this data degenerate, will a learned variance run away on it, and which σ_fix to start from?

NumPy, SciPy and scikit-learn only: it runs before any model is built.
"""

import math
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from spread_jax.data.files import as_table
from spread_jax.data.sigma_suggestion import ATOM_SHARE, TOLERANCE, SuggestedSigma, suggest_sigma
from spread_jax.data.standardization import Floats, first_of_equal_rows, less_first_row, standardize

Verdict = Literal["degenerate", "nearly degenerate", "full-dimensional"]

THIN = 0.01  # of the scale
LOW_DIMENSION = 0.8  # of what noise shows
MIN_ROWS_FOR_DIMENSION = 30


class IntrinsicDimension(NamedTuple):
    """Dimension of the set that the points lie on, seen at the distance of their neighbours.

    Attributes:
      estimate: by the ten nearest neighbours.
      interval: 95 %, of the scatter alone: curvature and borders bias an estimate, and above
        about 10 dimensions every such estimate is too low.
      nearest: by the two nearest neighbours, the finest scale the data have.
      of_noise: ``estimate`` and ``nearest`` of as many points of noise: the smaller of Gaussian
        noise with the same covariance, and of the data with each column shuffled (its own tails).
    """

    estimate: float
    interval: tuple[float, float]
    nearest: float
    of_noise: tuple[float, float]


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
    """
    x = less_first_row(as_table(x))
    rows, dim = x.shape
    on_progress("scales")
    z, scaling = standardize(x)
    varying = np.setdiff1d(np.arange(dim), scaling.constant_columns)
    z = z[:, varying]
    on_progress("distinct values and rows")
    counts = (np.unique(column, return_counts=True)[1] for column in x.T)
    distinct, commonest = np.array([(len(count), count.max()) for count in counts]).T
    is_discrete = (distinct <= rows / 2) | (commonest >= max(3, ATOM_SHARE * rows))
    first_rows = first_of_equal_rows(x)

    on_progress("rank")
    tolerance = TOLERANCE
    if x.dtype.kind == "f" and varying.size:
        # what rounding to x's own float type can leave along a dependent direction
        largest = (np.abs(x[:, varying]).max(axis=0) / scaling.scale[varying]).max()
        rounding = float(np.finfo(x.dtype).eps * largest * math.sqrt(varying.size))
        tolerance = max(tolerance, rounding)
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
        dependent_columns=varying[_dependent_columns(triangle, tolerance, rank, rows)].tolist(),
        discrete_columns=np.flatnonzero((distinct > 1) & is_discrete).tolist(),
        duplicate_rows=rows - len(first_rows),
        rank=rank,
        tolerance=tolerance,
        spectrum=spectrum,
        scale=np.where(np.isin(np.arange(dim), varying), scaling.scale, 0.0),
        distinct_values=distinct,
        intrinsic_dimension=intrinsic,
        distances=distances,
        suggested_sigma=suggest_sigma(x) if varying.size else None,
    )
    verdict, reasons = _judge(facts, commonest / rows)
    return facts._replace(verdict=verdict, reasons=reasons)


def intrinsic_dimension(z: Floats, spectrum: Floats) -> tuple[IntrinsicDimension, Floats]:
    """1 / mean_i mean_j log(T_k(z_i) / T_j(z_i)), T_j the distance to the j-th neighbour, k = 10.

    References:
      Levina, Bickel, "Maximum likelihood estimation of intrinsic dimension", NIPS 2004; the
      averaging of inverses: MacKay, Ghahramani, comments on it, 2005; k = 2: Facco, d'Errico,
      Rodriguez, Laio, Scientific Reports 7 (2017).
    """
    from sklearn.neighbors import NearestNeighbors

    rng = np.random.default_rng(0)
    queries = rng.choice(len(z), min(len(z), 1000), replace=False)

    def to_neighbours(points: Floats) -> Floats:
        neighbours = NearestNeighbors(n_neighbors=11).fit(points)
        return neighbours.kneighbors(points[queries])[0][:, 1:]  # the nearest is the point itself

    def dimension(distances: Floats) -> float:
        return float(1 / _inverse_dimensions(distances).mean())

    distances = to_neighbours(z)
    inverse = _inverse_dimensions(distances)
    mean = float(inverse.mean())
    # neighbourhoods overlap: with all points asked, the scatter is 1.3 to 1.5 times that of
    # independent ones (tori of dimension 1 to 5), and none is seen at a fifth of them
    overlap = math.sqrt(1 + 1.25 * len(queries) / len(z))
    margin = 1.96 * overlap * float(inverse.std()) / math.sqrt(len(queries))
    gaussian = to_neighbours(rng.standard_normal((len(z), len(spectrum))) * spectrum)
    shuffled = to_neighbours(rng.permuted(z, axis=0))
    found = IntrinsicDimension(
        estimate=1 / mean,
        interval=(1 / (mean + margin), 1 / (mean - margin) if mean > margin else math.inf),
        nearest=dimension(distances[:, :2]),
        of_noise=(
            min(dimension(gaussian), dimension(shuffled)),
            min(dimension(gaussian[:, :2]), dimension(shuffled[:, :2])),
        ),
    )
    return found, distances[:, [0, -1]]


def _inverse_dimensions(distances: Floats) -> Floats:
    # grids have equal distances: a floor keeps the inverse of their mean finite
    smallest = np.finfo(np.float64).tiny
    ratio = np.maximum(distances[:, -1:], smallest) / np.maximum(distances[:, :-1], smallest)
    return np.maximum(np.log(ratio).mean(axis=1), 1e-12)


def _dependent_columns(triangle: Floats, tolerance: float, rank: int, rows: int) -> list[int]:
    """Columns of the QR triangle within the tolerance of the span of those to their left."""
    dim = triangle.shape[1]
    found: list[int] = []
    basis = np.zeros((len(triangle), 0))
    for j in range(dim if rank < dim else 0):
        column = triangle[:, j]
        if basis.shape[1] == rows - 1:
            # the rows are used up: any further column is in their span, but a copy is still a copy
            apart = np.linalg.norm(triangle[:, :j] - column[:, None], axis=0)
            found += [j] if rows > 2 and apart.min() <= tolerance else []
            continue
        for _ in range(2):  # once loses digits
            column = column - basis @ (basis.T @ column)
        length = np.linalg.norm(column)
        if length <= tolerance:
            found.append(j)
        else:
            basis = np.column_stack([basis, column / length])
    return found


def _judge(facts: Diagnosis, largest_share: Floats) -> tuple[Verdict, list[str]]:
    degenerate, nearly, notes = [], [], []
    varying = facts.dim - len(facts.constant_columns)
    most_rank = min(varying, facts.rows - 1)
    if facts.constant_columns:
        degenerate.append(f"{_columns(facts.constant_columns)} constant")
    if facts.dependent_columns:
        columns = _columns(facts.dependent_columns)
        degenerate.append(f"{columns} a linear combination of columns to the left")
    if facts.rank < most_rank:
        gap = ""
        if facts.rank:
            above, below = facts.spectrum[facts.rank - 1 : facts.rank + 1]
            gap = f", with a gap in the spectrum from {above:.1g} to {below:.1g}"
        degenerate.append(
            f"rank {facts.rank} of {varying} varying columns, at tolerance "
            f"{facts.tolerance:.1g} of a column's scale{gap}"
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
        text = f"{facts.duplicate_rows:,} of {facts.rows:,} rows repeat an earlier row"
        (nearly if facts.duplicate_rows / facts.rows >= ATOM_SHARE else notes).append(text)

    # least singular value of noise with as many rows: 1 - √(dim / rows), Marchenko and Pastur
    aspect = math.sqrt(min(1.0, facts.rank / max(1, facts.rows - 1)))
    full = facts.spectrum[: facts.rank]
    thin = full[full < THIN * (1 - aspect)]
    if thin.size:
        nearly.append(
            f"{thin.size} of {facts.rank} principal directions thinner than {THIN:.0%} of a "
            f"column's scale, down to {thin.min():.1g}"
        )

    full_text = "no constant, dependent or discrete column, no thin direction"
    if facts.intrinsic_dimension:
        value, (lower, upper), nearest, (of_noise, nearest_of_noise) = facts.intrinsic_dimension
        estimate = f"intrinsic dimension {value:.3g}"
        noise = f"where as many points of noise of rank {facts.rank} show {of_noise:.3g}"
        full_text += f"; {estimate}, {noise}"
        text = f"{estimate} ({lower:.3g} to {upper:.3g}), {noise}"
        if upper < LOW_DIMENSION * of_noise and nearest < LOW_DIMENSION * nearest_of_noise:
            degenerate.append(f"{text}: the points lie on a thin set")
        elif upper < LOW_DIMENSION * of_noise:
            nearly.append(f"{text}; nearer by, the set has a thickness")
    elif facts.rank:
        notes.append(
            f"fewer than {MIN_ROWS_FOR_DIMENSION} distinct rows: too few for an intrinsic dimension"
        )

    scale = facts.scale[facts.scale > 0]
    if scale.size and scale.max() > 100 * scale.min():
        notes.append(
            f"column scales from {scale.min():.2g} to {scale.max():.2g}: "
            "standardize first, one σ_fix serves all columns"
        )
    if degenerate:
        return "degenerate", degenerate + nearly + notes
    if nearly:
        return "nearly degenerate", nearly + notes
    return "full-dimensional", [full_text, *notes]


def _columns(columns: Sequence[int]) -> str:
    shown = ", ".join(map(str, columns[:8])) + (", ..." if len(columns) > 8 else "")
    return f"column {shown} is" if len(columns) == 1 else f"{len(columns)} columns ({shown}) are"
