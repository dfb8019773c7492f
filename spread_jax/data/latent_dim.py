"""How many numbers z needs."""

import math

import numpy as np

from spread_jax.data.intrinsic_dimension import MIN_ROWS, estimated_dimension
from spread_jax.data.numbers import numbers_of
from spread_jax.data.rank import rank_of
from spread_jax.data.scaled_rows import scaled_rows

MOST_ROWS = 5_000
UNKNOWN = 20  # where there are too few rows for an estimate


def suggest_latent_dim(x: np.ndarray) -> int:
    """2 m + 1, m the intrinsic dimension of the rows, at most their rank.

    Args:
      x: rows that are standardized, ``[n, dim]``; the first 5,000 are looked at.

    Raises:
      ValueError: if x is no table of finite numbers with at least two rows.

    References:
      Whitney, "Differentiable manifolds", Annals of Mathematics 37 (1936): a smooth set of m
      dimensions fits into 2 m + 1 flat ones.
    """
    rows = scaled_rows(numbers_of(x[:MOST_ROWS], shift_large=True))
    z, wanted = rows.z, UNKNOWN
    if not z.shape[1]:
        return 1
    if len(rows.first_rows) >= MIN_ROWS:
        wanted = 2 * math.ceil(estimated_dimension(z[rows.first_rows])) + 1
    scaled = z / math.sqrt(len(z))
    for few in (10 * wanted, len(z)):  # some of the rows have at most the rank of all
        rank = rank_of(scaled[:few], rows.noise)
        if rank >= wanted:
            break
    return max(1, min(rank, wanted))
