"""The loop over chunks of steps: it trains runs on all devices, tells of them, and saves them."""

import math
import time
import warnings
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import PyTree

from spread_jax.sweeps.checkpoints import Checkpoints
from spread_jax.sweeps.feeds import OnDevices, Stream
from spread_jax.sweeps.groups import Groups, OneRunPerDevice, bytes_per_run, initialiser
from spread_jax.sweeps.identity import names_of_runs
from spread_jax.sweeps.parts import Keeper, Part, make_parts, together
from spread_jax.sweeps.records import OnRecords, Records
from spread_jax.sweeps.sources import RowSource
from spread_jax.sweeps.split import devices_per_run
from spread_jax.training import Training, TrainState, count_records

NUM_CHUNKS = 20


class TrainedRuns(NamedTuple):
    """What :func:`train_runs` returns.

    Attributes:
      states: the last states, whose ``key`` is raw data, NumPy leaves ``[run, ...]``.
      curves: name → ``[run, record, ...]``.
      compile_seconds, train_seconds: spent before the first step, and in the steps.
      steps_before: ``[run]``, steps that were stored, and not trained by this call.
    """

    states: TrainState
    curves: dict[str, np.ndarray]
    compile_seconds: float
    train_seconds: float
    steps_before: np.ndarray


def train_runs(
    training: Training,
    seeds: np.ndarray,
    hyper: PyTree,
    *,
    record_every: int = 1,
    on_record: OnRecords = (),
    checkpoints: Checkpoints | None = None,
    data: PyTree = None,
) -> TrainedRuns:
    """Trains run i from ``key(seeds[i])`` with the i-th numbers of ``hyper``, for all i at once.

    The runs are spread over all devices of all processes, in groups small enough for the cache;
    the last group is padded. Python calls the steps in chunks, so that progress can be told, and a
    checkpoint saved, after each chunk. Runs that were stored equally far train together, and those
    of another step after them, in groups of the size that all runs together have.

    Args:
      training, record_every, on_record, checkpoints, data: as in :func:`spread_jax.sweep`, whose
        errors are raised here too; data to be read as they are needed come as a
        :class:`RowSource`.
      seeds: ``[run]``, integers from 0.
      hyper: leaves ``[run]``.
    """
    start = time.perf_counter()
    num_runs, num_records = len(seeds), count_records(training.num_steps, record_every)
    runs = (seeds.astype(np.uint32), hyper)
    init_run = initialiser(training)
    feed: Any = (Stream if isinstance(data, RowSource) else OnDevices)(training, data)
    record, has_convolution = feed.trace(init_run, runs)
    of_one_run = jax.eval_shape(init_run, jax.tree.map(lambda leaf: leaf[0], runs))
    # the program scans over the steps of many runs, but for what a CPU is slow at in a scan
    in_scan = not (has_convolution and jax.default_backend() == "cpu")
    devices = jax.devices() if in_scan else jax.local_devices()
    of_each = devices_per_run(num_runs, devices, feed.step, of_one_run, feed.shapes(), in_scan)
    groups: Any = (
        Groups(num_runs, bytes_per_run(init_run, runs), of_each)
        if in_scan
        else OneRunPerDevice(num_runs, feed.step, of_each)
    )
    keeper, records_before = None, np.zeros(num_runs, np.int32)
    if checkpoints:
        # asked before compiling, while processes are still in step: here they wait for each other
        identity = feed.identify(init_run, runs, record_every)
        keeper = Keeper(checkpoints, identity, names_of_runs(*runs))
        records_before = keeper.stored.records
        if keeper.stored.unused and jax.process_index() == 0:
            warnings.warn(keeper.stored.unused, stacklevel=3)
    parts = make_parts(records_before, num_records, record)
    for part in parts:
        if keeper and part.records:
            keeper.load(part, of_one_run)
            if part.records < num_records:
                part.states = groups.to_devices(part.states)
        else:
            of_part = jax.tree.map(lambda leaf, part=part: leaf[part.runs], runs)
            inputs = groups.to_devices(of_part)
            init = groups.compile(init_run, inputs[0])
            part.states = [init(group) for group in inputs]
    unfinished = [part for part in parts if part.records < num_records]
    longest = math.ceil(num_records / NUM_CHUNKS)
    chunks = [
        [min(longest, num_records - first) for first in range(part.records, num_records, longest)]
        for part in unfinished
    ]
    if unfinished:
        feed.prepare(groups, runs, longest, record_every)
    program = {
        length: feed.compile_records(unfinished[0].states[0], length)
        for length in {length for lengths in chunks for length in lengths}
    }
    compile_seconds = time.perf_counter() - start

    start = time.perf_counter()
    listeners = [on_record] if callable(on_record) else on_record
    labels = _labels(seeds, hyper)

    def tell(part: Part, num_new: int = 0, records_ahead: int = 0) -> None:
        done = sum(len(each.runs) * each.records for each in parts) + records_ahead
        records = Records(
            done=done * record_every,
            total=num_runs * training.num_steps,
            num_nonfinite=sum(each.num_nonfinite() for each in parts),
            runs=part.runs,
            labels={name: values[part.runs] for name, values in labels.items()},
            steps=record_every * np.arange(1, part.records + 1),
            curves=part.so_far(),
            num_new=num_new,
        )
        for listener in listeners:
            listener(records)

    try:
        tell((unfinished or parts)[0])
        for part, lengths in zip(unfinished, chunks, strict=True):
            with feed.of_part(part, runs, lengths) as shared:
                for length in lengths:
                    on_group = partial(tell, part, 0)
                    part.advance(groups, program[length], shared, length, on_group)
                    if keeper:
                        keeper.save(part, groups.to_host(part.states, len(part.runs)))
                    tell(part, num_new=length)  # a stop is heard here, when the chunk is saved
            part.states = groups.to_host(part.states, len(part.runs))
    finally:
        if keeper:
            keeper.wait()
    train_seconds = time.perf_counter() - start
    states, curves = together(parts)
    steps_before = records_before * record_every
    return TrainedRuns(states, curves, compile_seconds, train_seconds, steps_before)


def _labels(seeds: np.ndarray, hyper: PyTree) -> dict[str, np.ndarray]:
    """``seed`` and the numbers of the runs by their names; what is no number is left out."""
    labels = {"seed": seeds}
    for path, leaf in jax.tree_util.tree_flatten_with_path(hyper)[0]:
        if leaf.ndim == 1:
            labels[jax.tree_util.keystr(path, simple=True, separator="/")] = leaf
    return labels
