"""The rank of standardized columns, each known up to a rounding of its own."""

import numpy as np
from scipy.linalg import solve_triangular

from spread_jax.data.standardization import Floats

COLUMNS_AT_ONCE = 512
ROUNDING = 1e-9  # of a square that is a difference of squares, more than enough


def rank_of(triangle: Floats, noise: Floats) -> int:
    """Directions v along which Z varies by more than noise: ‖Z v‖ > √(Σ_j v_j² noise_j²).

    With u_j = v_j noise_j these are the singular values above 1 of Z with each column over its
    noise. So a column of few digits does not hide what the others say.

    Args:
      triangle: R of Z = QR, over √rows.
      noise: of each column, the standard deviation that counts as 0.
    """
    return int(np.sum(np.linalg.svd(triangle / noise, compute_uv=False) > 1))


def _copies(triangle: Floats, noise: Floats, first: int) -> list[int]:
    """Columns from ``first`` on that are one to their left, or its negative, but for rounding."""
    found = list[int]()
    squares = np.sum(triangle**2, axis=0)
    for start in range(max(first, 1), triangle.shape[1], COLUMNS_AT_ONCE):
        end = min(start + COLUMNS_AT_ONCE, triangle.shape[1])
        products = np.abs(triangle[:, :end].T @ triangle[:, start:end])
        lengths = squares[:end, None] + squares[None, start:end]
        close = noise[:end, None] ** 2 + noise[None, start:end] ** 2 + ROUNDING * lengths
        # the difference has lost digits, so those that are near are looked at themselves
        is_near = lengths - 2 * products <= close
        for j in range(start, end):
            near = np.flatnonzero(is_near[:j, j - start])
            others, own = triangle[:, near], triangle[:, j : j + 1]
            apart = np.minimum(*(np.linalg.norm(others + s * own, axis=0) for s in (1, -1)))
            found += [j] if np.any(apart <= np.hypot(noise[near], noise[j])) else []
    return found


def dependent_columns(triangle: Floats, noise: Floats, rank: int, rows: int) -> list[int]:
    """Columns z_j = Σ c_i z_i of those to their left, but for √(noise_j² + Σ c_i² noise_i²).

    Args:
      triangle, noise: as in :func:`rank_of`.
      rank: what that found; a full rank leaves nothing to look for.
      rows: of Z.
    """
    dim = triangle.shape[1]
    if rank == dim:
        return []
    columns = triangle / noise
    most = min(rows - 1, len(columns), dim)
    basis, r = np.zeros((len(columns), most)), np.zeros((most, most))
    found, size = list[int](), 0
    for j in range(dim):
        if size == most:
            # the rows are used up: any further column is in their span, but a copy is still a copy
            return found + (_copies(triangle, noise, j) if rows > 2 else [])
        column, along = columns[:, j], np.zeros(size)
        for _ in range(2):  # once loses digits
            again = basis[:, :size].T @ column
            column, along = column - basis[:, :size] @ again, along + again
        length = np.linalg.norm(column)
        c = solve_triangular(r[:size, :size], along) if size else along
        if length <= np.sqrt(1 + c @ c):
            found.append(j)
        else:
            basis[:, size], r[:size, size], r[size, size] = column / length, along, length
            size += 1
    return found
