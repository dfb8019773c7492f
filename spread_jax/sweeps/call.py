"""The one call for many runs: a grid of numbers × seeds in, labelled results out."""

import math
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import xarray as xr
from jaxtyping import PyTree

from spread_jax.arguments import described, is_whole, require_function, require_whole
from spread_jax.sweeps.breaks import what_broke
from spread_jax.sweeps.checkpoints import Checkpoints
from spread_jax.sweeps.engine import train_runs
from spread_jax.sweeps.inputs import checked_data
from spread_jax.sweeps.labels import (
    Grid,
    Layout,
    Variable,
    default_record_every,
    label,
    lay_out,
    select,
)
from spread_jax.sweeps.records import OnRecords
from spread_jax.training import Training


class Sweep(NamedTuple):
    """Finished runs.

    Attributes:
      dataset: curves with dims (grid axes or ``cell``, seed, step, ...) and numbers per run with
        dims (grid axes or ``cell``, seed); every variable has ``long_name`` and ``units``, and
        ``better``, "lower" or "higher", where one of them is.
      stacked_params: the final parameters, NumPy leaves with leading axes (grid axes or ``cell``,
        seed).
      hyper: the numbers that the runs were given, float32 with the same leading axes.
      compile_seconds, train_seconds: spent before the first step, and in the steps.
      what_broke: a sentence on the runs that broke: how many, the first step, and what was not
        finite first; "" if none did.
      trained_runs, trained_run_steps: how many runs this call trained, at least in part, and their
        steps added up; the rest was stored.
    """

    dataset: xr.Dataset
    stacked_params: PyTree
    hyper: dict[str, np.ndarray]
    compile_seconds: float
    train_seconds: float
    what_broke: str = ""
    trained_runs: int = 0
    trained_run_steps: int = 0

    @property
    def sizes(self) -> dict[str, int]:
        """The axes of the runs and their lengths: those of the grid, or ``cell``, and seed."""
        return {str(dim): n for dim, n in self.dataset["first_nonfinite_step"].sizes.items()}

    def params(self, **labels: Any) -> PyTree:
        """The final parameters of the runs with these labels: ``params(sigma_fix=0.1, seed=3)``.

        A label is any coordinate of the runs, or a constant of the grid; numbers agree to 1e-6 of
        their size. An axis that a label reduces to one place is dropped; the others stay, in order.

        Raises:
          ValueError: if no run has such a label, value, or values together.
        """
        indices, dropped = select(self.dataset, labels)
        return jax.tree.map(
            lambda leaf: leaf[np.ix_(*indices)].squeeze(axis=dropped), self.stacked_params
        )


def sweep(
    training: Training,
    grid: Grid,
    *,
    num_seeds: int,
    seed: int = 0,
    record_every: int | None = None,
    variables: Mapping[str, Variable] | None = None,
    on_record: OnRecords = (),
    checkpoints: Checkpoints | Path | str | None = None,
    data: PyTree = None,
) -> Sweep:
    """Trains every point of ``grid`` from ``num_seeds`` seeds, as one compiled program.

    A run depends on its own seed and numbers alone: run i of any grid point starts from
    ``jax.random.key(seed + i)``, and can be repeated alone. Its digits can differ between
    programs that train another number of runs per device, or have fewer runs than there are
    devices, since XLA then reorders sums.

    Args:
      training: what to train; its ``hyper`` is a dict with the numbers of ``grid``.
      grid: name → values, an axis of the results; or name → one value, the same for all runs.
        Or a list of cells, each name → one value, where the runs are no product: the results have
        an axis ``cell`` with every name as a coordinate. A name with strings only labels cells.
      num_seeds: runs per grid point.
      seed: the first seed.
      record_every: steps per point of the recorded curves; must divide ``training.num_steps``.
        By default the curves have 1,000 points or a little more, fewer from 1,000 runs on.
      variables: labels of what ``training.observe`` returns.
      on_record: a function, or several, that hear the newest :class:`Records` once all is compiled,
        and after every chunk of every group of runs, about 20 times for each group.
      checkpoints: a folder where all runs are kept. Those that are there are not trained again, be
        they from this sweep, a smaller one, or one of fewer steps whose training does not depend on
        the number of steps; those that are there in part go on.
      data: arrays, a data set that all runs share in place of the one that ``training`` would
        make. Each device holds it once, and checkpoints do not contain it. Of a DataFrame or a list
        of rows, the numbers that it holds. A ``numpy.memmap``, and an object with ``len(data)`` and
        ``data[i]`` that is no array, stays where it is: the rows of the next steps are read while
        the devices train, and uint8 become floats in [0, 1] on the device.

    Raises:
      ValueError: if ``num_seeds``, ``seed`` or a value of the grid cannot be used, an axis is empty
        or has the name of another, cells differ in their names, the training reads a name that the
        grid does not give or does not read one that it gives, ``record_every`` does not divide,
        ``data`` hold something else than finite numbers (of a memmap or another source, up to 1,000
        rows are looked at), or rows of a source differ in shape or dtype.
      TypeError: if ``training``, ``on_record`` or ``checkpoints`` is something else.
      CheckpointError: if a checkpoint cannot be read or written.

    Warns:
      UserWarning: if columns of the data differ in scale by more than 10,000, runs broke, or the
        checkpoints have runs of these seeds and numbers that were trained in another way: it says
        what differs, and they stay there.

    Examples:
      >>> training = sj.make_training(
      ...     init_params=lambda key: jax.random.normal(key),
      ...     loss_fn=lambda params, key, x, hyper: (x - params) ** 2,
      ...     sample_batch=lambda key, data, hyper: hyper["target"],
      ...     optimizer=lambda hyper: optax.adam(0.1),
      ...     num_steps=200,
      ... )
      >>> done = sj.sweep(training, {"target": [1.0, 2.0, 3.0]}, num_seeds=4)
      >>> dict(done.dataset["loss"].sizes)
      {'target': 3, 'seed': 4, 'step': 200}
      >>> print(done.params(target=2.0).mean().round())  # over the seeds
      2.0
    """
    if not isinstance(training, Training):
        wanted = "what model_training or make_training returns"
        raise TypeError(f"training must be {wanted}, got {described(training)}")
    for listener in on_record if isinstance(on_record, list | tuple) else [on_record]:
        require_function("on_record", listener, "print")
    if isinstance(checkpoints, str | Path):
        checkpoints = Checkpoints(checkpoints)
    elif not isinstance(checkpoints, Checkpoints | None):
        raise TypeError(f"checkpoints must be a folder, got {described(checkpoints)}")
    require_whole("num_seeds", num_seeds)
    if not (is_whole(seed, least=0) and seed <= 2**32 - num_seeds):
        raise ValueError(
            f"seed must be a whole number from 0 to 2^32 - num_seeds, got {described(seed)}"
        )
    data = checked_data(data)
    seeds = seed + np.arange(num_seeds)
    layout = lay_out(grid, seeds)
    if record_every is None:
        record_every = default_record_every(training.num_steps, math.prod(layout.shape))
    seed_of_run = np.broadcast_to(seeds, layout.shape).ravel()
    trained = train_runs(
        training,
        seed_of_run,
        {name: numbers.ravel() for name, numbers in layout.hyper.items()},
        record_every=record_every,
        on_record=on_record,
        checkpoints=checkpoints,
        data=data,
    )
    state = trained.states
    broke = what_broke(training, state, seed_of_run, data, lambda run: _name(layout, run))
    if broke and jax.process_index() == 0:
        warnings.warn(broke, stacklevel=2)
    # what a longer run needs of a shorter one, and no one else
    shown = {name: curve for name, curve in trained.curves.items() if name != "loss_rise"}
    params, statistics, curves = jax.tree.map(
        lambda leaf: leaf.reshape(*layout.shape, *leaf.shape[1:]),
        (state.params, state.loss_statistics, shown),
    )
    dataset = label(layout, curves, statistics, record_every, variables or {})
    steps = training.num_steps - trained.steps_before
    return Sweep(
        dataset,
        params,
        layout.hyper,
        trained.compile_seconds,
        trained.train_seconds,
        broke,
        trained_runs=int((steps > 0).sum()),
        trained_run_steps=int(steps.sum()),
    )


def _name(layout: Layout, run: int) -> str:
    """``sigma_fix 0.1, seed 3``."""
    at = dict(zip(layout.dims, np.unravel_index(run, layout.shape), strict=True))
    return ", ".join(f"{name} {values[at[dim]]}" for name, (dim, values) in layout.coords.items())
