"""The loop over chunks of steps: it trains runs on all devices, reports progress, and saves."""

import math
import time
import zlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import PyTree

from spread_jax.sweeps.checkpoints import Checkpoints
from spread_jax.sweeps.groups import (
    Groups,
    OneRunPerDevice,
    bytes_per_run,
    initialiser,
    stepper,
    trace,
)
from spread_jax.training import Training, TrainState, count_records

NUM_CHUNKS = 20


class Progress(NamedTuple):
    """Where a sweep stands, told once it is compiled and after every chunk of every group.

    Attributes:
      done, total: run-steps, the steps of all runs added up.
      num_nonfinite: runs that have stopped, at a loss that is not finite.
      history: the curves of the chunks that all runs have done, ``[run, record, ...]``; empty
        before the first.
    """

    done: int
    total: int
    num_nonfinite: int
    history: Mapping[str, np.ndarray]


def train_runs(
    training: Training,
    seeds: np.ndarray,
    hyper: PyTree,
    *,
    record_every: int = 1,
    on_progress: Callable[[Progress], None] = lambda progress: None,
    checkpoints: Checkpoints | None = None,
    data: PyTree = None,
) -> tuple[TrainState, dict[str, np.ndarray], float, float]:
    """Trains run i from ``key(seeds[i])`` with the i-th numbers of ``hyper``, for all i at once.

    The runs are spread over all devices of all processes, in groups small enough for the cache;
    the last group is padded. Python calls the steps in chunks, so that progress can be told, and a
    checkpoint saved, after each chunk.

    Args:
      training, record_every, on_progress, checkpoints, data: as in :func:`spread_jax.sweep`, whose
        errors are raised here too.
      seeds: ``[run]``, integers from 0.
      hyper: leaves ``[run]``.

    Returns:
      The last states, whose ``key`` is raw data, and the curves, NumPy leaves with a leading axis
      of runs; the seconds of compiling and of training.
    """
    start = time.perf_counter()
    num_runs, num_records = len(seeds), count_records(training.num_steps, record_every)
    runs = (seeds.astype(np.uint32), hyper)
    init_run, step = initialiser(training), stepper(training)
    record, has_convolution = trace(training, init_run, step, runs, data)
    # the program scans over the steps of many runs, but for what a CPU is slow at in a scan
    groups: Any = (
        OneRunPerDevice(num_runs, step)
        if has_convolution and jax.default_backend() == "cpu"
        else Groups(num_runs, bytes_per_run(init_run, runs))
    )
    longest = math.ceil(num_records / NUM_CHUNKS)
    chunks = [min(longest, num_records - first) for first in range(0, num_records, longest)]
    # asked before compiling, while the processes are still in step: here they wait for each other
    told_apart = _told_apart(training, seeds, hyper, record_every, data) if checkpoints else {}
    done = (checkpoints and checkpoints.latest(told_apart)) or 0

    inputs = groups.to_devices(runs)
    init = groups.compile(init_run, inputs[0])
    states = [init(group) for group in inputs]
    shared = groups.to_every_device(data)
    run = {
        length: groups.compile_records(training, states[0], shared, length, record_every)
        for length in set(chunks)
    }
    # the whole curves at once: to append chunk by chunk would hold them twice
    whole = {
        name: np.empty((num_runs, num_records, *number.shape), number.dtype)
        for name, number in record.items()
    }
    records = sum(chunks[:done])

    def history() -> dict[str, np.ndarray]:
        return {name: curve[:, :records] for name, curve in whole.items() if records}

    length_of_run = np.array([training.num_steps, record_every])
    if checkpoints and done:
        begun = groups.to_host(states)
        saved, curves, saved_length = checkpoints.restore((begun, history(), length_of_run))
        same = jax.tree.map(
            np.array_equal,
            (saved.hyper, saved.key, saved_length),
            (begun.hyper, begun.key, length_of_run),
        )
        if not all(jax.tree.leaves(same)):
            raise checkpoints.of_other_runs("its seeds and numbers are these in another order")
        states = groups.to_devices(saved)
        for name, curve in history().items():
            curve[...] = curves[name]
    compile_seconds = time.perf_counter() - start

    start = time.perf_counter()

    def tell(records_ahead: int = 0) -> None:
        curves = history()
        # a run that has stopped has a loss of NaN from then on
        num_nonfinite = int(np.isnan(curves["loss"][:, -1]).sum()) if curves else 0
        run_steps = (num_runs * records + records_ahead) * record_every
        on_progress(Progress(run_steps, num_runs * training.num_steps, num_nonfinite, curves))

    try:
        tell()
        for chunk, length in list(enumerate(chunks, start=1))[done:]:
            parts = []
            for i in range(len(states)):
                states[i], part = run[length](states[i], shared)
                parts.append(jax.block_until_ready(part))
                if i + 1 < len(states):
                    tell((i + 1) * groups.size * length)
            for name, curve in groups.to_host(parts).items():
                whole[name][:, records : records + length] = curve
            records += length
            if checkpoints:
                checkpoints.save(
                    chunk, (groups.to_host(states), history(), length_of_run), told_apart
                )
            tell()  # a stop is heard here, when the chunk is saved
    finally:
        if checkpoints:
            checkpoints.wait()
    train_seconds = time.perf_counter() - start
    return groups.to_host(states), whole, compile_seconds, train_seconds


def _told_apart(
    training: Training, seeds: np.ndarray, hyper: PyTree, record_every: int, data: PyTree
) -> dict[str, list]:
    """What a checkpoint of other runs differs in: names and JSON values."""
    paths = jax.tree_util.tree_flatten_with_path(hyper)[0]
    numbers = {
        jax.tree_util.keystr(path, simple=True, separator="/"): np.unique(leaf).tolist()
        for path, leaf in paths
    }
    crc, shapes = 0, []
    for leaf in jax.tree.leaves(data):
        if not isinstance(leaf, jax.Array) or leaf.is_fully_addressable:
            crc = zlib.crc32(np.ascontiguousarray(leaf).view(np.uint8).data, crc)
            shapes.append(f"{leaf.dtype} {list(leaf.shape)}")
    return {
        "number of steps": [training.num_steps],
        "record_every": [int(record_every)],
        "seed": np.unique(seeds).tolist(),
        **numbers,
        "number of runs": [len(seeds)],
        "data": [*shapes, f"of CRC-32 {crc:08x}"] if shapes else [],
    }
