"""Data larger than memory, made ready for a fit: what is drawn of them, and what is trained on."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from spread_jax.data.datasets import Dataset
from spread_jax.data.images import CHANNELS, Images
from spread_jax.data.sources import Rows, RowsBut
from spread_jax.data.whole_tables import table_of_all

MOST_DRAWN, LEAST_DRAWN, NUMBERS_DRAWN = 20_000, 1_000, 2**24
SHARE_OF_VALIDATION, MOST_VALIDATION = 0.1, 5_000
FULL_WHITE = 255


class Streamed(NamedTuple):
    """Data that are ready for a fit.

    Attributes:
      data: ``train`` are rows drawn at random among those to train on, for all that is looked at;
        ``validation`` and ``test`` rows are none of them.
      transform: from the user's rows to those of the model, and back.
      rows: all rows to train on, ``[dim]``, a source; uint8 images stay uint8.
    """

    data: Dataset
    transform: Any
    rows: Any


def most_drawn(rows: Rows) -> int:
    """20,000 rows, or as many as have 16 million numbers, but at least 1,000."""
    width = max(1, int(np.prod(rows.shape[1:])))
    return min(MOST_DRAWN, max(LEAST_DRAWN, NUMBERS_DRAWN // width))


def drawn_rows(rows: Rows) -> Any:
    """Rows drawn at random, at most :func:`most_drawn`, in their order; the same every time."""
    count = min(most_drawn(rows), len(rows))
    return rows.as_given(np.sort(np.random.default_rng(0).choice(len(rows), count, replace=False)))


def streamed(rows: Rows, on_stage: Callable[[str], None], num_test: int = 0) -> Streamed:
    """What a fit needs of rows that stay where they are.

    A tenth of the rows, at most 5,000, are set aside for validation, and of the others at most
    :func:`most_drawn` are drawn; both at random, and the same every time, as of an array. Of a
    table all rows are read once, see :func:`~spread_jax.data.whole_tables.table_of_all`.

    Args:
      rows: more than :func:`most_drawn`, of a table or of images.
      on_stage: called with what is being done.
      num_test: rows that are set aside for a test part, at most as many as for validation.

    Raises:
      ValueError: if the rows are neither numbers of a table nor images, or cannot be used.
    """
    has_axes = len(rows.shape) in (2, 3) or (len(rows.shape) == 4 and rows.shape[3] in CHANNELS)
    if rows.dtype.kind not in "biuf" or not has_axes:
        accepted = "rows of numbers [columns], or images [height, width] or [height, width, 3]"
        raise ValueError(f"must be {accepted}, not of dtype {rows.dtype} and {rows.shape[1:]}")
    most = most_drawn(rows)
    num_validation = min(
        max(1, round(SHARE_OF_VALIDATION * len(rows))), MOST_VALIDATION, max(1, most // 4)
    )
    num_test = min(num_test, num_validation)
    num_aside = num_validation + num_test
    num_drawn = min(most, len(rows) - num_aside)
    on_stage(
        f"looking at {num_drawn:,} of {len(rows):,} rows, which stay where they are, and setting "
        f"{num_aside:,} aside"
    )
    places = np.random.default_rng(0).choice(len(rows), num_aside + num_drawn, replace=False)
    parts = np.split(places, [num_validation, num_aside])
    validation, test, chosen = (np.sort(part) for part in parts)
    aside = np.concatenate([validation, test])
    drawn, held_out = rows.read(chosen), rows.read(aside)
    if drawn.ndim > 2:
        images = Images.of(drawn)
        z, shape = images.apply(held_out), images.shape
        of_drawn = images.apply(drawn)
        data = Dataset("images", of_drawn, z[:num_validation], z[num_validation:], shape=shape)
        # the devices divide by 255
        as_pixels = _flat if images.white == FULL_WHITE else images.apply
        return Streamed(data, images, RowsBut(rows, aside, as_pixels))
    table = table_of_all(rows, chosen, on_stage)
    of_arrays = replace(table, kind="array")  # rows are read as such, also where columns have names

    def standardized(x: np.ndarray) -> np.ndarray:
        return of_arrays.apply(x).astype(np.float32)

    z = standardized(held_out)
    data = Dataset("table", standardized(drawn), z[:num_validation], z[num_validation:])
    return Streamed(data, table, RowsBut(rows, aside, standardized))


def _flat(images: np.ndarray) -> np.ndarray:
    return images.reshape(len(images), -1)
