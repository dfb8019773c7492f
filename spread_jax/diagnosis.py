"""Is this data degenerate, will a learned variance run away on it, and which σ_fix to start from?

NumPy, SciPy and scikit-learn only: it runs before any model is built.
"""

import math
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from spread_jax.files import as_table

Floats = NDArray[np.float64]
Verdict = Literal["degenerate", "nearly degenerate", "full-dimensional"]

RANK_TOLERANCE = (
    1e-6  # of a column's scale: about ten steps of float32, which cannot tell it from 0
)
THIN = 0.01  # of the scale: where the alarm of a training run goes off
ATOM_SHARE = 0.05  # of the rows in one value: enough for one component of a mixture to sit on
NUM_NEIGHBOURS = 10
NUM_QUERIES = 1000
LOW_DIMENSION = 0.8  # of what noise shows
MIN_ROWS_FOR_DIMENSION = 30
DIFFERENT_SCALES = 100.0

MAX_MIXTURE_ROWS = 2000
MAX_MIXTURE_DIM = 10
NUM_COMPONENTS = (1, 2, 3, 4, 5, 6, 8, 10, 12, 16)


class Standardization(NamedTuple):
    """x ↦ (x - mean) / scale, column by column, and back.

    Attributes:
      mean: ``[columns]``, data units.
      scale: ``[columns]``, the standard deviation, and 1 where the column is constant.
      constant_columns: the columns, from 0, that hold one value only.
    """

    mean: Floats
    scale: Floats
    constant_columns: list[int]

    def apply(self, x: ArrayLike) -> Floats:
        """(x - mean) / scale."""
        return (np.asarray(x, np.float64) - self.mean) / self.scale

    def inverse(self, z: ArrayLike) -> Floats:
        """mean + scale z: back to data units."""
        return self.mean + self.scale * np.asarray(z, np.float64)


def standardize(x: ArrayLike) -> tuple[Floats, Standardization]:
    """z = (x - mean) / std, column by column; a constant column becomes 0, with scale 1.

    ``scaling.inverse(z)`` is x again, and ``scaling.constant_columns`` says where scale 1 stands
    for a standard deviation of 0.

    Args:
      x: data, ``[rows, columns]``, any units.

    Returns:
      z, float64, and the scaling.

    Raises:
      ValueError: if x is no table of finite numbers with at least two rows.

    Examples:
      >>> z, scaling = sj.standardize([[1.0, 5.0], [3.0, 5.0]])
      >>> print(z, scaling.constant_columns)
      [[-1.  0.]
       [ 1.  0.]] [1]
    """
    scaling = _scaling(as_table(x))
    return scaling.apply(as_table(x)), scaling


def _less_first(x: np.ndarray) -> np.ndarray:
    """Large integers, nanoseconds say, less their first row: beyond 2^53 no float64 tells them."""
    if x.dtype.kind not in "iu" or max(int(x.max()), -int(x.min())) < 2**53:
        return x
    first = x[:1].astype(object)
    return (x.astype(object) - first).astype(np.float64)


def _scaling(x: np.ndarray) -> Standardization:
    low, high = x.min(axis=0).astype(np.float64), x.max(axis=0).astype(np.float64)
    constant = low == high
    # in units of the largest value, so that no square over- or underflows
    unit = np.maximum(np.abs(low), np.abs(high))
    unit[unit == 0] = 1
    mean, scale = low.copy(), np.ones(x.shape[1])
    for j in np.flatnonzero(~constant):
        column = x[:, j] / unit[j]
        mean[j], scale[j] = unit[j] * column.mean(), unit[j] * column.std()
    return Standardization(mean, scale, np.flatnonzero(constant).tolist())


class SuggestedSigma(NamedTuple):
    """A range of σ_fix to start from, in the data's units, each end explained in words."""

    low: float
    high: float
    why_low: str
    why_high: str


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

    References:
      Levina, Bickel, "Maximum likelihood estimation of intrinsic dimension", NIPS 2004; Facco,
      d'Errico, Rodriguez, Laio, Scientific Reports 7 (2017).
    """
    x = _less_first(as_table(x))
    rows, dim = x.shape
    on_progress("scales")
    scaling = _scaling(x)
    varying = np.setdiff1d(np.arange(dim), scaling.constant_columns)
    on_progress("distinct values and rows")
    distinct_values, largest_share = _column_values(x)
    first_rows = _first_of_equal_rows(x)
    duplicate_rows = rows - len(first_rows)
    discrete = _discrete_columns(distinct_values, largest_share, rows)

    z = x[:, varying].astype(np.float64)
    z -= scaling.mean[varying]
    z /= scaling.scale[varying]
    on_progress("rank")
    tolerance = max(RANK_TOLERANCE, _rounding(x, scaling, varying))
    triangle: Floats = np.asarray(np.linalg.qr(z, mode="r")) / math.sqrt(rows)
    spectrum: Floats = np.linalg.svd(triangle, compute_uv=False).astype(np.float64)
    rank = int(np.sum(spectrum > tolerance))
    dependent = varying[_dependent(triangle, tolerance, rank, rows)].tolist()
    on_progress("nearest neighbours")
    intrinsic, distances = None, np.zeros((0, 2))
    if rank and len(first_rows) >= MIN_ROWS_FOR_DIMENSION:
        points = z if not duplicate_rows else z[first_rows]
        intrinsic, distances = _intrinsic_dimension(points, spectrum[:rank])
    del z
    on_progress("width of the modes")
    sigma = suggest_sigma(x) if varying.size else None

    facts = Diagnosis(
        verdict="full-dimensional",
        reasons=[],
        rows=rows,
        dim=dim,
        constant_columns=scaling.constant_columns,
        dependent_columns=dependent,
        discrete_columns=discrete,
        duplicate_rows=duplicate_rows,
        rank=rank,
        tolerance=tolerance,
        spectrum=spectrum,
        scale=np.where(np.isin(np.arange(dim), varying), scaling.scale, 0.0),
        distinct_values=distinct_values,
        intrinsic_dimension=intrinsic,
        distances=distances,
        suggested_sigma=sigma,
    )
    verdict, reasons = _judge(facts, largest_share)
    return facts._replace(verdict=verdict, reasons=reasons)


def suggest_sigma(x: ArrayLike) -> SuggestedSigma:
    """[s/3, 2s/3], s the width of the narrowest mode: a range of σ_fix, in the data's units.

    The modes are the components of a Gaussian mixture on at most 2,000 distinct rows, along at
    most 10 principal directions, their number chosen by the Bayesian information criterion (BIC);
    width s = √(tr C² / tr C) of a component's covariance C, which is the standard deviation of a
    line and of a ball alike; a component with less than 5 % of the rows is no mode. One σ_fix
    serves all columns, so standardize columns of different scales first.

    Args:
      x: data, ``[rows, columns]``.

    Raises:
      ValueError: if x is no table of finite numbers with at least two rows, or is constant.

    Examples:
      >>> x = sj.sample_two_modes(jax.random.key(0), 1000, data_std=0.3)
      >>> low, high = sj.suggest_sigma(x)[:2]
      >>> round(low, 1), round(high, 1)  # a third to two thirds of 0.3
      (0.1, 0.2)

    References:
      Schwarz, "Estimating the dimension of a model", Annals of Statistics 6 (1978), for BIC; the
      rule is this package's own.
    """
    x = as_table(x)
    rng = np.random.default_rng(0)
    rows = _first_of_equal_rows(x)
    if len(rows) < 2:
        raise ValueError("x must vary: all its rows are equal, and no scale can be read from them")
    rows = rng.choice(rows, min(len(rows), MAX_MIXTURE_ROWS), replace=False)
    # before dividing, and integers before they are floats: a large offset would leave no digits
    points = _less_first(x)[rows].astype(np.float64)
    points -= points[0]
    unit = np.abs(points).max()
    points = points / unit
    points -= points.mean(axis=0)
    left, spread, _ = np.linalg.svd(points, full_matrices=False)
    kept = np.flatnonzero(spread > RANK_TOLERANCE * spread[0])[:MAX_MIXTURE_DIM]
    scores = left[:, kept] * (spread[kept] / spread[0]) * math.sqrt(len(points))
    width, num_modes = _narrowest_mode(scores)
    width *= float(unit * spread[0] / math.sqrt(len(points)))
    modes = "only mode" if num_modes == 1 else f"narrowest of {num_modes} modes"
    return SuggestedSigma(
        low=width / 3,
        high=2 * width / 3,
        why_low=f"a third of the width {width:.3g} of the {modes} (of a Gaussian mixture, by "
        "BIC): on the toy data smaller worked too, but the loss grows as steep as a plain VAE's",
        why_high="two thirds of that width: beyond about one width the modes begin to merge",
    )


def _narrowest_mode(scores: Floats) -> tuple[float, int]:
    """Width of the narrowest component, in the unit of ``scores``, and the number of components."""
    from sklearn.mixture import GaussianMixture
    from threadpoolctl import threadpool_limits

    best, best_bic, worse = None, np.inf, 0
    for k in NUM_COMPONENTS:
        if len(scores) < 5 * k:
            break
        mixture = GaussianMixture(k, init_params="k-means++", n_init=2, random_state=0)
        with threadpool_limits(1):  # products this small lose a factor 7 to 10 to waiting threads
            bic = mixture.fit(scores).bic(scores)
        if bic < best_bic:
            best, best_bic, worse = mixture, bic, 0
        else:
            worse += 1
            if worse == 2:
                break
    if best is None:
        return float(_width(np.atleast_2d(np.cov(scores.T, bias=True))[None])[0]), 1
    widths = _width(best.covariances_)
    return float(widths[best.weights_ >= min(ATOM_SHARE, best.weights_.max())].min()), len(widths)


def _width(covariance: Floats) -> Floats:
    """√(tr C² / tr C), ``[component, d, d] -> [component]``."""
    return np.sqrt(np.sum(covariance**2, (-2, -1)) / np.trace(covariance, axis1=-2, axis2=-1))


def _column_values(x: np.ndarray) -> tuple[NDArray[np.int64], Floats]:
    """Number of distinct values of each column, and the share of rows with the commonest."""
    distinct, largest = np.empty(x.shape[1], np.int64), np.empty(x.shape[1])
    for j in range(x.shape[1]):
        _, counts = np.unique(x[:, j], return_counts=True)
        distinct[j], largest[j] = len(counts), counts.max() / len(x)
    return distinct, largest


def _discrete_columns(distinct: NDArray[np.int64], share: Floats, rows: int) -> list[int]:
    few = distinct <= rows / 2
    atom = share * rows >= max(3, ATOM_SHARE * rows)
    return np.flatnonzero((distinct > 1) & (few | atom)).tolist()


def _first_of_equal_rows(x: np.ndarray) -> NDArray[np.intp]:
    """Indices of the rows that equal no earlier row."""
    seen: dict[bytes, int] = {}
    for i, row in enumerate(x):
        seen.setdefault((row + 0).tobytes(), i)  # + 0: -0.0 equals 0.0
    return np.fromiter(seen.values(), np.intp, len(seen))


def _rounding(x: np.ndarray, scaling: Standardization, varying: NDArray[np.intp]) -> float:
    """What rounding to x's own float type can leave along a dependent direction, column scales."""
    if x.dtype.kind != "f" or not varying.size:
        return 0.0
    largest = np.abs(x[:, varying]).max(axis=0) / scaling.scale[varying]
    return float(np.finfo(x.dtype).eps * largest.max() * math.sqrt(varying.size))


def _dependent(triangle: Floats, tolerance: float, rank: int, rows: int) -> Sequence[int]:
    """Columns of the QR triangle within the tolerance of the span of those to their left."""
    dim = triangle.shape[1]
    found: list[int] = []
    basis = np.zeros((len(triangle), 0))
    if rank == dim:
        return found
    for j in range(dim):
        if basis.shape[1] == rows - 1:
            # the rows are used up: any further column is in their span, but a copy is still a copy
            apart = np.linalg.norm(triangle[:, :j] - triangle[:, j : j + 1], axis=0)
            found.extend([j] if rows > 2 and apart.min() <= tolerance else [])
            continue
        residual = triangle[:, j]
        for _ in range(2):  # once loses digits
            residual = residual - basis @ (basis.T @ residual)
        length = np.linalg.norm(residual)
        if length <= tolerance:
            found.append(j)
        else:
            basis = np.column_stack([basis, residual / length])
    return found


def _intrinsic_dimension(z: Floats, spectrum: Floats) -> tuple[IntrinsicDimension, Floats]:
    """1 / mean_i mean_j log(T_k(z_i) / T_j(z_i)), T_j the distance to the j-th neighbour, k = 10.

    References:
      Levina, Bickel, "Maximum likelihood estimation of intrinsic dimension", NIPS 2004; the
      averaging of inverses: MacKay, Ghahramani, comments on it, 2005; k = 2: Facco, d'Errico,
      Rodriguez, Laio, Scientific Reports 7 (2017).
    """
    rng = np.random.default_rng(0)
    queries = rng.choice(len(z), min(len(z), NUM_QUERIES), replace=False)
    distances = _neighbour_distances(z, queries)
    inverse = _inverse_dimension(distances)
    # neighbourhoods overlap: with all points asked, the scatter is 1.3 to 1.5 times that of
    # independent ones (tori of dimension 1 to 5), and none is seen at a fifth of them
    overlap = math.sqrt(1 + 1.25 * len(queries) / len(z))
    margin = 1.96 * overlap * inverse.std() / math.sqrt(len(queries))
    estimate, mean = 1 / inverse.mean(), inverse.mean()
    noises = (
        _neighbour_distances(rng.standard_normal((len(z), len(spectrum))) * spectrum, queries),
        _neighbour_distances(rng.permuted(z, axis=0), queries),
    )
    return IntrinsicDimension(
        estimate=float(estimate),
        interval=(
            float(1 / (mean + margin)),
            float(1 / (mean - margin)) if mean > margin else math.inf,
        ),
        nearest=float(1 / _inverse_dimension(distances[:, :2]).mean()),
        of_noise=(
            min(float(1 / _inverse_dimension(noise).mean()) for noise in noises),
            min(float(1 / _inverse_dimension(noise[:, :2]).mean()) for noise in noises),
        ),
    ), distances[:, [0, -1]]


def _neighbour_distances(z: Floats, queries: NDArray[np.intp]) -> Floats:
    from sklearn.neighbors import NearestNeighbors

    neighbours = NearestNeighbors(n_neighbors=NUM_NEIGHBOURS + 1).fit(z)
    return neighbours.kneighbors(z[queries])[0][:, 1:]  # the nearest is the point itself


def _inverse_dimension(distances: Floats) -> Floats:
    # grids have equal distances: a floor keeps the inverse of their mean finite
    smallest = np.finfo(np.float64).tiny
    ratio = np.maximum(distances[:, -1:], smallest) / np.maximum(distances[:, :-1], smallest)
    return np.maximum(np.log(ratio).mean(axis=1), 1e-12)


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
        few = facts.distinct_values[grid]
        span = _span(int(few.min()), int(few.max()))
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
    thin = full[full < THIN * (1 - aspect)] if full.size else full
    if thin.size:
        nearly.append(
            f"{thin.size} of {facts.rank} principal directions thinner than {THIN:.0%} of a "
            f"column's scale, down to {thin.min():.1g}"
        )

    dimension = facts.intrinsic_dimension
    if dimension is None and facts.rank:
        notes.append(
            f"fewer than {MIN_ROWS_FOR_DIMENSION} distinct rows: too few for an intrinsic dimension"
        )
    elif dimension is not None and dimension.interval[1] < LOW_DIMENSION * dimension.of_noise[0]:
        low, high = dimension.interval
        text = (
            f"intrinsic dimension {dimension.estimate:.3g} ({low:.3g} to {high:.3g}), where as "
            f"many points of noise of rank {facts.rank} show {dimension.of_noise[0]:.3g}"
        )
        if dimension.nearest < LOW_DIMENSION * dimension.of_noise[1]:
            degenerate.append(text + ": the points lie on a thin set")
        else:
            nearly.append(text + "; nearer by, the set has a thickness")

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
    full_text = "no constant, dependent or discrete column, no thin direction"
    if dimension is not None:
        full_text += (
            f"; intrinsic dimension {dimension.estimate:.3g}, where as many points of noise of "
            f"rank {facts.rank} show {dimension.of_noise[0]:.3g}"
        )
    return "full-dimensional", [full_text, *notes]


def _columns(columns: Sequence[int], most: int = 8) -> str:
    shown = ", ".join(map(str, columns[:most])) + (", ..." if len(columns) > most else "")
    return f"column {shown} is" if len(columns) == 1 else f"{len(columns)} columns ({shown}) are"


def _span(low: int, high: int) -> str:
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def _gap(facts: Diagnosis) -> str:
    if not 0 < facts.rank < len(facts.spectrum):
        return ""
    above, below = facts.spectrum[facts.rank - 1 : facts.rank + 1]
    return f", with a gap in the spectrum from {above:.1g} to {below:.1g}"
