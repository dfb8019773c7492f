"""A table's distinct values, equal rows, and columns that depend on others, counted exactly."""

import math

import numpy as np
from numpy.typing import NDArray

from spread_jax.data.standardization import Floats, Standardization

# of a column's scale: about ten steps of float32, which cannot tell it from 0
RANK_TOLERANCE = 1e-6
ATOM_SHARE = 0.05  # of the rows in one value: enough for one component of a mixture to sit on


def less_first_row(x: np.ndarray) -> np.ndarray:
    """Large integers, nanoseconds say, less their first row: beyond 2^53 no float64 tells them."""
    if x.dtype.kind not in "iu" or max(int(x.max()), -int(x.min())) < 2**53:
        return x
    first = x[:1].astype(object)
    return (x.astype(object) - first).astype(np.float64)


def column_values(x: np.ndarray) -> tuple[NDArray[np.int64], Floats]:
    """Number of distinct values of each column, and the share of rows with the commonest."""
    distinct, largest = np.empty(x.shape[1], np.int64), np.empty(x.shape[1])
    for j in range(x.shape[1]):
        _, counts = np.unique(x[:, j], return_counts=True)
        distinct[j], largest[j] = len(counts), counts.max() / len(x)
    return distinct, largest


def discrete_columns(distinct: NDArray[np.int64], share: Floats, rows: int) -> list[int]:
    """Columns that vary, with few distinct values or one that is frequent."""
    few = distinct <= rows / 2
    atom = share * rows >= max(3, ATOM_SHARE * rows)
    return np.flatnonzero((distinct > 1) & (few | atom)).tolist()


def first_of_equal_rows(x: np.ndarray) -> NDArray[np.intp]:
    """Indices of the rows that equal no earlier row."""
    seen: dict[bytes, int] = {}
    for i, row in enumerate(x):
        seen.setdefault((row + 0).tobytes(), i)  # + 0: -0.0 equals 0.0
    return np.fromiter(seen.values(), np.intp, len(seen))


def rank_tolerance(x: np.ndarray, scaling: Standardization, varying: NDArray[np.intp]) -> float:
    """RANK_TOLERANCE, or what rounding to x's own float type can leave along a dependent direction.

    In column scales, like a singular value of the standardized columns.
    """
    if x.dtype.kind != "f" or not varying.size:
        return RANK_TOLERANCE
    largest = (np.abs(x[:, varying]).max(axis=0) / scaling.scale[varying]).max()
    return max(RANK_TOLERANCE, float(np.finfo(x.dtype).eps * largest * math.sqrt(varying.size)))


def dependent_columns(triangle: Floats, tolerance: float, rank: int, rows: int) -> list[int]:
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
