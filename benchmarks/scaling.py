"""Time and memory of a sweep as one thing grows: where does it stop being linear?"""

import math
from collections.abc import Mapping, Sequence
from statistics import median
from typing import TYPE_CHECKING, NamedTuple

from benchmarks.contestants import BASE, CompiledSweep, multiply_adds
from benchmarks.timing import BATCH, OnStage, take_turns

if TYPE_CHECKING:
    from spread_jax.training import Training

AXES = {
    "steps": (100, 1_000, 10_000),
    "width": (16, 32, 64, 128, 256, 512),
    "dimension": (2, 8, 32, 128, 784),
}
REPEATS = 3
LINEAR = 1.25  # a multiply-add that costs this much more or less than the base's is not linear


class Row(NamedTuple):
    """A sweep that was measured. Bytes are those of the compiled program, by XLA's account;
    ``group`` runs train at a time on each of ``devices``."""

    point: Mapping[str, int]
    devices: int
    group: int
    seconds_per_run_step: float
    seconds_per_multiply_add: float
    bytes_per_run: float


def make_row(point: Mapping[str, int], sweep: CompiledSweep, rate: float) -> Row:
    cost = 1 / rate, 1 / rate / multiply_adds(point)
    return Row(point, sweep.num_devices, sweep.group, *cost, sweep.bytes_per_run)


def measure_axis(axis: str, values: Sequence[int], quick: bool, on_stage: OnStage) -> list[Row]:
    """One thing varied, the others as in BASE."""
    return measure(
        {f"{axis} {value:,}": {**BASE, axis: value} for value in values}, quick, on_stage
    )


def measure(points: Mapping[str, Mapping[str, int]], quick: bool, on_stage: OnStage) -> list[Row]:
    """Sweeps that take turns, by their names."""
    from spread_jax import sweeps

    compiled, contestants = [], {}
    for name, point in points.items():
        on_stage(f"compiling: {name}")
        record_every = sweeps.default_record_every(point["steps"], num_runs=1)
        chunk = math.ceil(point["steps"] / record_every / sweeps.NUM_CHUNKS)
        share = min(1, 2 * multiply_adds(BASE) / multiply_adds(point))
        num_records = 1 if quick else max(1, round(chunk * share))
        training = embedded_training(point)
        compiled.append(CompiledSweep(training, point["runs"], num_records, record_every))
        contestants[name] = compiled[-1].contestant()
    rates = map(median, take_turns(contestants, REPEATS, on_stage).values())
    return list(map(make_row, points.values(), compiled, rates))


def embedded_training(point: Mapping[str, int]) -> "Training":
    """The failure case's VAE with the plane of the data turned into a space of any dimension."""
    import jax.numpy as jnp

    import spread_jax as sj
    from spread_jax.models.networks import BernoulliEncoder, GaussianDecoder

    dim, hidden = point["dimension"], (point["width"],) * 2
    encoder = BernoulliEncoder(hidden, activation=jnp.tanh)
    decoder = GaussianDecoder(hidden, dim=dim, activation=jnp.tanh)
    return sj.model_training(
        sj.linen_vae(encoder, decoder, sj.bernoulli_latent(), dim=dim),
        make_data=lambda key, hyper: sj.embed(key, jnp.eye(2), dim),
        sample_batch=lambda key, rows, hyper: (
            sj.sample_two_modes(key, BATCH, hyper["data_std"]) @ rows
        ),
        num_steps=point["steps"],
    )


def where_linear(axis: str, rows: Sequence[Row]) -> str:
    """Says over which values around the base a multiply-add costs about the same."""
    values = [row.point[axis] for row in rows]
    base = values.index(BASE[axis])
    cost = [row.seconds_per_multiply_add / rows[base].seconds_per_multiply_add for row in rows]
    first = last = base
    while first > 0 and 1 / LINEAR <= cost[first - 1] <= LINEAR:
        first -= 1
    while last + 1 < len(rows) and 1 / LINEAR <= cost[last + 1] <= LINEAR:
        last += 1
    beyond = [
        f"{cost[i]:.2g} x at {values[i]:,}" for i in (first - 1, last + 1) if 0 <= i < len(rows)
    ]
    return f"linear from {values[first]:,} to {values[last]:,}" + "".join(f"; {b}" for b in beyond)
