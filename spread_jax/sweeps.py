"""Many training runs as one program: vmapped over a grid of numbers and seeds, and labelled."""

import math
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
import xarray as xr
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from jaxtyping import PyTree

from spread_jax.training import NEVER, Training, TrainState

MAX_RUNS_PER_DEVICE = 32
NUM_CHUNKS = 20

# XLA's YNNPACK fusions run these small batched products at half the speed of its own (jax 0.10.2)
CPU_COMPILER_OPTIONS: dict[str, str | bool] = {"xla_cpu_experimental_ynn_fusion_type": ""}


class Variable(NamedTuple):
    """How an observed array is labelled: its axes after (grid, seed, step), its name, its unit."""

    dims: tuple[str, ...]
    long_name: str
    units: str


class Progress(NamedTuple):
    """Where a sweep stands, told once it is compiled and after every chunk.

    Attributes:
      done, total: run-steps, the steps of all runs added up.
      num_nonfinite: runs whose loss has been non-finite so far.
    """

    done: int
    total: int
    num_nonfinite: int


class Sweep(NamedTuple):
    """Finished runs.

    Attributes:
      dataset: curves with dims (grid axes, seed, step, ...) and numbers per run with dims
        (grid axes, seed); every variable has ``long_name`` and ``units``.
      params: the final parameters, NumPy leaves with leading axes (grid axes, seed).
      compile_seconds: spent before the first step.
      train_seconds: spent in the steps.
    """

    dataset: xr.Dataset
    params: PyTree
    compile_seconds: float
    train_seconds: float


def use_all_cores() -> None:
    """One CPU device per core: XLA runs one CPU device on about one core.

    Must come before anything else asks JAX for its devices; afterwards it raises RuntimeError.
    """
    jax.config.update("jax_num_cpu_devices", len(os.sched_getaffinity(0)))


def sweep(
    training: Training,
    grid: Mapping[str, float | Sequence[float]],
    *,
    num_seeds: int,
    seed: int = 0,
    record_every: int | None = None,
    variables: Mapping[str, Variable] | None = None,
    on_progress: Callable[[Progress], None] = lambda progress: None,
) -> Sweep:
    """Trains every point of ``grid`` from ``num_seeds`` seeds, as one compiled program.

    A run depends on its own seed and numbers alone: run i of any grid point starts from
    ``jax.random.key(seed + i)``, and can be repeated alone. Its digits can differ between
    programs that train another number of runs per device, since XLA then reorders sums.

    Args:
      training: what to train; its ``hyper`` is a dict with the keys of ``grid``.
      grid: name → values, an axis of the results; or name → one value, the same for all runs.
      num_seeds: runs per grid point.
      seed: the first seed.
      record_every: steps per point of the recorded curves; must divide ``training.num_steps``.
        By default the curves have 1,000 points or a little more.
      variables: labels of what ``training.observe`` returns.
      on_progress: called after every chunk of steps, about 20 times.

    Raises:
      ValueError: if ``num_seeds`` or an axis is empty, or ``record_every`` does not divide.
    """
    axes = {name: np.atleast_1d(values) for name, values in grid.items() if np.ndim(values)}
    axes["seed"] = seed + np.arange(num_seeds)
    if not all(axis.size for axis in axes.values()):
        raise ValueError(f"every axis of a sweep needs a value, got {axes}")
    shape = tuple(axis.size for axis in axes.values())
    meshed = dict(zip(axes, np.meshgrid(*axes.values(), indexing="ij"), strict=True))
    hyper = {
        name: np.broadcast_to(meshed.get(name, values), shape).astype(np.float32).ravel()
        for name, values in grid.items()
    }
    if record_every is None:
        record_every = default_record_every(training.num_steps)

    finished = train_runs(
        training, meshed["seed"].ravel(), hyper, record_every=record_every, on_progress=on_progress
    )

    def unravel(leaf: np.ndarray) -> np.ndarray:
        return leaf.reshape(*shape, *leaf.shape[1:])

    statistics = finished.state.loss_statistics
    dataset = _label(
        axes,
        curves={name: unravel(curve) for name, curve in finished.history.items()},
        numbers={
            "late_loss_std": unravel(np.asarray(statistics.late_loss_std)),
            "max_loss_rise": unravel(np.asarray(statistics.max_loss_rise)),
            "first_nonfinite_step": unravel(np.asarray(statistics.first_nonfinite_step)),
        },
        record_every=record_every,
        variables=variables or {},
    )
    return Sweep(
        dataset.assign_attrs({name: v for name, v in grid.items() if name not in axes}),
        jax.tree.map(unravel, finished.state.params),
        finished.compile_seconds,
        finished.train_seconds,
    )


class FinishedRuns(NamedTuple):
    """What :func:`train_runs` returns: NumPy leaves with a leading axis of runs."""

    state: TrainState
    history: dict[str, np.ndarray]
    compile_seconds: float
    train_seconds: float


def train_runs(
    training: Training,
    seeds: np.ndarray,
    hyper: PyTree,
    *,
    record_every: int = 1,
    on_progress: Callable[[Progress], None] = lambda progress: None,
) -> FinishedRuns:
    """Trains run i from ``key(seeds[i])`` with the i-th numbers of ``hyper``, for all i at once.

    The runs are spread over all devices, in groups small enough for the cache; the last group is
    padded. Steps come in chunks, called from Python, so that progress can be told.

    Args:
      training: what to train.
      seeds: ``[run]``, integers from 0.
      hyper: leaves ``[run]``.
      record_every: steps per point of the recorded curves.
      on_progress: called after every chunk.
    """
    num_records, remainder = divmod(training.num_steps, record_every)
    if remainder:
        raise ValueError(
            f"record_every must divide the {training.num_steps} steps, got {record_every}"
        )
    devices = jax.devices()
    num_runs = len(seeds)
    runs_per_device = min(MAX_RUNS_PER_DEVICE, math.ceil(num_runs / len(devices)))
    group_size = runs_per_device * len(devices)
    padded = np.arange(math.ceil(num_runs / group_size) * group_size) % num_runs
    mesh = jax.make_mesh((len(devices),), ("run",), axis_types=(AxisType.Auto,))
    by_run = NamedSharding(mesh, PartitionSpec("run"))

    def compiled(function: Callable, *args: Any, donate: bool) -> Callable:
        options = CPU_COMPILER_OPTIONS if devices[0].platform == "cpu" else None
        program = jax.jit(
            jax.vmap(function),
            in_shardings=by_run,
            out_shardings=by_run,
            donate_argnums=0 if donate else (),
        )
        return program.lower(*args).compile(compiler_options=options)

    start = time.perf_counter()
    groups = padded.reshape(-1, group_size)
    inputs = [
        jax.device_put(
            jax.tree.map(lambda leaf, group=group: leaf[group], (np.uint32(seeds), hyper)), by_run
        )
        for group in groups
    ]
    init = compiled(
        lambda seed, hyper: training.init(jax.random.key(seed), hyper), *inputs[0], donate=False
    )
    states = [init(*group) for group in inputs]
    chunks = list(_chunk_lengths(num_records))
    runs = {
        length: compiled(
            lambda state, length=length: training.run(state, length * record_every, record_every),
            states[0],
            donate=True,
        )
        for length in set(chunks)
    }
    compile_seconds = time.perf_counter() - start

    start = time.perf_counter()
    histories: list[list[dict[str, np.ndarray]]] = [[] for _ in groups]
    nonfinite = np.zeros((len(groups), group_size), bool)
    done, total = 0, num_runs * training.num_steps
    on_progress(Progress(done, total, 0))
    for length in chunks:
        for i in range(len(groups)):
            states[i], history = runs[length](states[i])
            histories[i].append(jax.tree.map(np.asarray, history))
            nonfinite[i] = np.asarray(states[i].loss_statistics.first_nonfinite_step) != NEVER
            done += length * record_every * min(group_size, num_runs - i * group_size)
            on_progress(Progress(done, total, int(nonfinite.ravel()[:num_runs].sum())))
    train_seconds = time.perf_counter() - start

    def gather(*leaves: Any) -> np.ndarray:
        return np.concatenate([np.asarray(leaf) for leaf in leaves])[:num_runs]

    # keys are not numbers, and a finished run needs none
    states = [state._replace(key=jax.random.key_data(state.key)) for state in states]
    per_group = [
        jax.tree.map(lambda *parts: np.concatenate(parts, axis=1), *history)
        for history in histories
    ]
    return FinishedRuns(
        jax.tree.map(gather, *states),
        jax.tree.map(gather, *per_group),
        compile_seconds,
        train_seconds,
    )


def default_record_every(num_steps: int) -> int:
    """The largest divisor of ``num_steps`` that leaves at least 1,000 records, else 1."""
    return max(
        (n for n in range(1, max(1, num_steps // 1000) + 1) if num_steps % n == 0), default=1
    )


def _chunk_lengths(num_records: int) -> Iterator[int]:
    length = math.ceil(num_records / NUM_CHUNKS)
    for first in range(0, num_records, length):
        yield min(length, num_records - first)


_LOSS_VARIABLES = {
    "loss": Variable((), "training loss, mean over the steps of the record", "nats"),
    "loss_max": Variable((), "training loss, largest over the steps of the record", "nats"),
    "late_loss_std": Variable(
        (), "standard deviation of the per-step training loss over the last tenth", "nats"
    ),
    "max_loss_rise": Variable(
        (), "largest rise of the loss above its earlier minimum, last nine tenths", "nats"
    ),
    "first_nonfinite_step": Variable((), "first step with a non-finite loss, -1 if none", "step"),
}


def _label(
    axes: Mapping[str, np.ndarray],
    *,
    curves: Mapping[str, np.ndarray],
    numbers: Mapping[str, np.ndarray],
    record_every: int,
    variables: Mapping[str, Variable],
) -> xr.Dataset:
    variables = {**_LOSS_VARIABLES, **variables}
    num_records = next(iter(curves.values())).shape[len(axes)]
    steps = record_every * np.arange(1, num_records + 1)
    dataset = xr.Dataset(
        coords={
            **{name: (name, axis) for name, axis in axes.items()},
            "step": ("step", steps, {"long_name": "optimizer steps done", "units": "steps"}),
        }
    )
    for dims, arrays in (((*axes, "step"), curves), (tuple(axes), numbers)):
        for name, array in arrays.items():
            inner = tuple(f"{name}_{i}" for i in range(array.ndim - len(dims)))
            variable = variables.get(name, Variable(inner, name, "1"))
            attrs = {"long_name": variable.long_name, "units": variable.units}
            dataset[name] = ((*dims, *variable.dims), array, attrs)
    return dataset
