"""The runs of a sweep in parts: those that are equally far train and are stored together."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from jaxtyping import PyTree

from spread_jax.loss_statistics import lengthened
from spread_jax.sweeps.checkpoints import Checkpoints, Stored
from spread_jax.sweeps.identity import Identity
from spread_jax.training import TrainState


@dataclasses.dataclass
class Part:
    """Runs of a sweep that are equally far.

    Attributes:
      runs: ``[run]``, which of the sweep's they are.
      records: done so far.
      states: a list of groups on the devices while they train, NumPy leaves ``[run, ...]`` before
        and afterwards.
      curves: name → ``[run, record, ...]``, of the whole runs: to append chunk by chunk would hold
        them twice.
    """

    runs: np.ndarray
    records: int
    states: Any
    curves: dict[str, np.ndarray]

    def so_far(self) -> dict[str, np.ndarray]:
        """The curves of the records that are done."""
        return {name: curve[:, : self.records] for name, curve in self.curves.items()}

    def num_nonfinite(self) -> int:
        """Runs that have stopped: their loss is NaN from then on."""
        return int(np.isnan(self.curves["loss"][:, self.records - 1]).sum()) if self.records else 0

    def advance(
        self,
        groups: Any,
        program: Callable[[Any, Any], tuple[Any, Any]],
        shared: Any,
        length: int,
        on_group: Callable[[int], None],
    ) -> None:
        """``length`` records further, by a program for a group; ``on_group`` hears how many
        records of runs are done between two groups."""
        chunks = []
        for i in range(len(self.states)):
            self.states[i], curves = program(self.states[i], shared)
            chunks.append(jax.block_until_ready(curves))
            if i + 1 < len(self.states):
                on_group((i + 1) * groups.size * length)
        for name, curve in groups.to_host(chunks, len(self.runs)).items():
            self.curves[name][:, self.records : self.records + length] = curve
        self.records += length


class Keeper:
    """Stores and restores the parts of one sweep."""

    def __init__(self, checkpoints: Checkpoints, identity: Identity, names: list[str]) -> None:
        """Looks for what the checkpoints have of the runs with these names."""
        self._checkpoints, self._identity, self._names = checkpoints, identity, np.array(names)
        self.stored: Stored = checkpoints.find(identity, names)
        self.wait = checkpoints.wait

    def load(self, part: Part, state: PyTree) -> None:
        """The states and curves of a part's runs; ``state`` has the shapes of one run's."""
        like = (state, {name: curve[0] for name, curve in part.so_far().items()})
        part.states, curves = self._checkpoints.load(self.stored, part.runs, like)
        for name, curve in part.so_far().items():
            curve[...] = curves[name]
        others = self.stored.num_steps[part.runs] != self._identity.num_steps
        if others.any():
            now = part.states.loss_statistics
            longer = lengthened(
                now, curves["loss_rise"], self._identity.num_steps, self._identity.record_every
            )
            statistics = jax.tree.map(lambda x, y: np.where(others, x, y), longer, now)
            part.states = part.states._replace(loss_statistics=statistics)

    def save(self, part: Part, states: TrainState) -> None:
        """Begins to replace the file of a part, whose states are given as NumPy leaves."""
        names = self._names[part.runs].tolist()
        self._checkpoints.save(self._identity, names, part.records, (states, part.so_far()))


def make_parts(
    records: np.ndarray, num_records: int, record: Mapping[str, jax.ShapeDtypeStruct]
) -> list[Part]:
    """Parts without states, those that are furthest first.

    Args:
      records: ``[run]``, done before.
      num_records: of the whole run.
      record: name → shape of a record of one run.
    """
    parts = []
    for done in np.unique(records)[::-1].tolist():
        runs = np.flatnonzero(records == done)
        curves = {
            name: np.empty((len(runs), num_records, *number.shape), number.dtype)
            for name, number in record.items()
        }
        parts.append(Part(runs, done, None, curves))
    return parts


def together(parts: list[Part]) -> tuple[TrainState, dict[str, np.ndarray]]:
    """The states and the curves of all runs, in their order."""
    if len(parts) == 1:
        return parts[0].states, parts[0].curves
    order = np.argsort(np.concatenate([part.runs for part in parts]))
    return jax.tree.map(
        lambda *leaves: np.concatenate(leaves)[order],
        *((part.states, part.curves) for part in parts),
    )
