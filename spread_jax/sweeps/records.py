"""What a sweep tells while it trains: the records so far, and how far it is."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol, TypeAlias, runtime_checkable

import numpy as np


class Records(NamedTuple):
    """Where a sweep stands, told once it is compiled and after every chunk of every group.

    Attributes:
      done, total: run-steps, the steps of all runs added up, those that were stored among them.
      num_nonfinite: runs that have stopped, at a loss that is not finite.
      runs: ``[run]``, which runs of the sweep the curves are of: those that train together. Runs
        that were stored at different steps train one part after the other.
      labels: name → ``[run]``, their numbers, and ``seed``.
      steps: ``[record]``, optimizer steps done at each record.
      curves: name → ``[run, record, ...]``, all records so far: ``loss``, ``loss_max``,
        ``loss_rise``, and what the training observes. Views, not to be changed.
      num_new: how many of the records are new, the last ones; 0 where only ``done`` has moved.
    """

    done: int
    total: int
    num_nonfinite: int
    runs: np.ndarray
    labels: Mapping[str, np.ndarray]
    steps: np.ndarray
    curves: Mapping[str, np.ndarray]
    num_new: int


@runtime_checkable
class OnRecord(Protocol):
    """A listener: what watches a sweep. What it raises ends the sweep."""

    def __call__(self, records: Records, /) -> None:
        """``(records) -> None``, about 20 times for each group of runs, between two calls of the
        compiled program; so it should be quick."""


OnRecords: TypeAlias = OnRecord | Sequence[OnRecord]
"""A listener, or several of them."""
