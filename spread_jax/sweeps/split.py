"""Whether the batch of a run is worth several devices, and how many."""

import math
import re
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import PyTree

from spread_jax.batches import BATCH, on_mesh
from spread_jax.sweeps.compiler import UNOPTIMIZED, compile_program

# Of a step, that each device must have to do. Measured on two cores: two processes take 50 ms to
# add up gradients, in which a core does 4e9. Steps called from Python, 5.6e8 with a convolution,
# are 1.2 times as fast on two devices of one process of a quiet machine. On accelerators untested
MIN_FLOPS_PER_DEVICE = 5e9
MIN_FLOPS_FROM_PYTHON = 2.5e8

COLLECTIVE = re.compile(
    r" (all-reduce|all-gather|all-to-all|reduce-scatter|collective-\w+)(?:-start)?\("
)


def devices_per_run(
    num_runs: int, devices: Sequence[Any], step: Any, state: PyTree, shared: PyTree, at_once: bool
) -> int:
    """How many devices share the batch of each run: more than one where there are fewer runs than
    devices, each has enough to do, and all that they must tell each other are sums over the batch.

    Args:
      devices: that there are, of all processes or of this one.
      step: a stepper.
      state, shared: of one run, or their shapes.
      at_once: whether a program holds the runs of several devices, and not of one.
    """
    several = list(range(2, len(devices) // num_runs + 1))
    if jax.process_count() > 1 and at_once:  # every device has a part in every program
        several = [number for number in several if len(devices) % number == 0]
    least = least_flops(at_once)
    if not several or math.isinf(least):
        return 1
    state, shared = jax.eval_shape(lambda *x: x, state, shared)
    flops = (step.lower(state, shared).cost_analysis() or {}).get("flops", 0.0)
    number = max((n for n in several if flops >= n * least), default=1)
    if number > 1 and not _only_adds_up(devices, number, step, state, shared, at_once):
        return 1
    return number


def least_flops(at_once: bool) -> float:
    """Of a step, that each of several devices must have to do to be worth it."""
    if jax.default_backend() != "cpu":
        return MIN_FLOPS_PER_DEVICE
    if not at_once:
        return MIN_FLOPS_FROM_PYTHON
    # the cores of idle devices help with each operation: one run of 5.4e9 takes 38 ms a step so,
    # and 39 ms on two devices; of 6.9e8, 6.6 and 9.2 ms
    return MIN_FLOPS_PER_DEVICE if jax.process_count() > 1 else math.inf


def _only_adds_up(
    devices: Sequence[Any], number: int, step: Any, state: PyTree, shared: PyTree, at_once: bool
) -> bool:
    """Whether the devices of a run tell each other sums alone, on a CPU in one operation.

    XLA gathers the whole batch for what it cannot split, such as a triangular solve. That gains
    nothing; and where CPU devices wait for each other in the middle of a step, the threads that
    they wait with can be those that others need to get there, and the program stands still.
    """
    num_rows = len(devices) // number if at_once else 1
    mesh = Mesh(np.reshape(devices[: num_rows * number], (num_rows, number)), ("run", BATCH))
    everywhere = by_run = NamedSharding(mesh, PartitionSpec())
    function = on_mesh(step, mesh)
    if at_once:
        by_run = NamedSharding(mesh, PartitionSpec("run"))
        function = jax.vmap(function, in_axes=(0, None), spmd_axis_name="run")
        state = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct((num_rows, *leaf.shape), leaf.dtype), state
        )
    program = jax.jit(function, in_shardings=(by_run, everywhere), out_shardings=by_run)
    compiled = compile_program(program.lower(state, shared), UNOPTIMIZED)
    found = COLLECTIVE.findall(compiled.as_text() or "")
    in_one = len(found) == 1 or devices[0].platform != "cpu"
    return set(found) == {"all-reduce"} and in_one
