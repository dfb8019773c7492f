"""Which rows are trained on, which choices are made on, and which are reported: always the same."""

from functools import partial

import numpy as np
from numpy.typing import NDArray

SPLIT_SEED = 0
HELD_OUT = 0.2  # of data without a split of their own; a third of it for validation
VALIDATION = 0.1  # of published training rows
MAX_VALIDATION = 5_000
MIN_ROWS = 8  # a fifth of 8 is 2: one row for validation, one to test

Rows = dict[str, NDArray[np.intp]]


def three_parts(num_rows: int, labels: NDArray[np.int64] | None = None) -> Rows:
    """Shuffled: four fifths to train on; of the rest a third for validation, two thirds to test.

    With labels, every class is shared out in these proportions. Fewer than 8 rows: a ValueError.
    """
    if num_rows < MIN_ROWS:
        raise ValueError(
            f"must be data of {MIN_ROWS} rows or more, to hold some out, not of {num_rows}"
        )
    if labels is None:
        order = np.random.default_rng(SPLIT_SEED).permutation(num_rows)
        held_out, train = np.split(order, [round(HELD_OUT * num_rows)])
        validation, test = np.split(held_out, [round(len(held_out) / 3)])
    else:
        from sklearn.model_selection import train_test_split

        split = partial(train_test_split, random_state=SPLIT_SEED)
        train, held_out = split(np.arange(num_rows), test_size=HELD_OUT, stratify=labels)
        count = round(len(held_out) / 3)
        validation, test = split(held_out, train_size=count, stratify=labels[held_out])
    return {"train": train, "validation": validation, "test": test}


def train_and_validation(num_rows: int) -> Rows:
    """Of published training rows a tenth, at most 5,000, for validation; both parts in order."""
    count = min(max(1, round(VALIDATION * num_rows)), MAX_VALIDATION)
    chosen = np.zeros(num_rows, bool)
    chosen[np.random.default_rng(SPLIT_SEED).choice(num_rows, count, replace=False)] = True
    return {"train": np.flatnonzero(~chosen), "validation": np.flatnonzero(chosen)}
