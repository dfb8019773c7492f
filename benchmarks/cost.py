"""How time and memory of a sweep grow: a model fitted to measured sweeps, and what it predicts."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from benchmarks.contestants import BASE, multiply_adds
from benchmarks.scaling import Row
from benchmarks.timing import BATCH

Point = Mapping[str, int]  # runs, steps, width, dimension
TIME_TERMS = {
    "start of a step": "ns a step of a group",
    "multiply-adds": "ns each",
    "hidden units × batch": "ns each",
    "numbers of a batch": "ns each",
    "parameters": "ns each",
}
FLOAT32 = 4  # bytes
UNSEEN = {
    "256 runs, width 96, dimension 16": {**BASE, "runs": 256, "width": 96, "dimension": 16},
    "16 runs, width 192, dimension 256": {**BASE, "runs": 16, "width": 192, "dimension": 256},
}
"""Points that are measured, and not fitted to."""


class Cost(NamedTuple):
    """Seconds of a device: ``time``, one number for each of TIME_TERMS. Float32 numbers that are
    held: ``kept`` for each parameter of a run, ``work`` for each number of a step of a group."""

    time: tuple[float, ...]
    kept: float
    work: float


def num_params(point: Point) -> int:
    """Of encoder and decoder, with biases."""
    width, dim = point["width"], point["dimension"]
    encoder, decoder = (dim, width, width, 1), (1, width, width, 2 * dim)
    return sum((a + 1) * b for net in (encoder, decoder) for a, b in itertools.pairwise(net))


def time_terms(point: Point, group: int) -> list[float]:
    """What a run-step on a device has of each of TIME_TERMS."""
    return [
        1 / group,
        multiply_adds(point),
        2 * point["width"] * BATCH,
        point["dimension"] * BATCH,
        num_params(point),
    ]


def memory_terms(point: Point, devices: int, group: int) -> list[float]:
    """Float32 numbers of a run: what is kept, and its share of the work of the group that trains,
    which has the numbers of the batch, the hidden units and the parameters."""
    share = min(1, devices * group / point["runs"])
    numbers = BATCH * (point["dimension"] + 2 * point["width"]) + num_params(point)
    return [num_params(point), share * numbers]


def fit_cost(measured: Sequence[Row]) -> Cost:
    """Least squares of the relative error, with no term below zero.

    A device trains its runs alone, so a run-step of the sweep takes a device's time over the number
    of devices.
    """
    import numpy as np
    from scipy.optimize import nnls

    seconds = np.array([m.seconds_per_run_step * m.devices for m in measured])
    of_time = np.array([time_terms(m.point, m.group) for m in measured])
    numbers = np.array([m.bytes_per_run / FLOAT32 for m in measured])
    of_memory = np.array([memory_terms(m.point, m.devices, m.group) for m in measured])
    time, memory = (
        nnls(terms / truth[:, None], np.ones(len(truth)))[0]
        for terms, truth in ((of_time, seconds), (of_memory, numbers))
    )
    return Cost(tuple(map(float, time)), *map(float, memory))


def seconds_per_run_step(cost: Cost, point: Point, devices: int, group: int) -> float:
    used = min(devices, point["runs"])
    terms = zip(cost.time, time_terms(point, group), strict=True)
    return sum(each * amount for each, amount in terms) / used


def bytes_of_sweep(cost: Cost, point: Point, devices: int, group: int) -> float:
    kept, work = memory_terms(point, devices, group)
    return FLOAT32 * point["runs"] * (cost.kept * kept + cost.work * work)


def summarise(measured: Sequence[Row], unseen: Mapping[str, Row]) -> dict[str, Any]:
    """The fitted terms, how well they tell what was fitted and what was not, and predictions."""
    cost = fit_cost(measured)
    errors = sorted(abs(_predicted(cost, m)[0] / m.seconds_per_run_step - 1) for m in measured)
    big = {**BASE, "runs": 100_000}
    base = next(m for m in measured if m.point == BASE)
    return {
        "terms": dict(zip(TIME_TERMS, (1e9 * each for each in cost.time), strict=True)),
        "numbers_kept_per_parameter": cost.kept,
        "numbers_of_work": cost.work,
        "median_error": errors[len(errors) // 2],
        "largest_error": errors[-1],
        "unseen": {
            name: {
                "seconds_per_run_step": m.seconds_per_run_step,
                "predicted_seconds_per_run_step": _predicted(cost, m)[0],
                "bytes_per_run": m.bytes_per_run,
                "predicted_bytes_per_run": _predicted(cost, m)[1],
            }
            for name, m in unseen.items()
        },
        "hundred_thousand_runs": {
            str(devices): {
                "hours": big["runs"]
                * big["steps"]
                * seconds_per_run_step(cost, big, devices, base.group)
                / 3600,
                "gigabytes": bytes_of_sweep(cost, big, devices, base.group) / 1e9,
            }
            for devices in (2, 16, 64)
        },
    }


def _predicted(cost: Cost, m: Row) -> tuple[float, float]:
    seconds = seconds_per_run_step(cost, m.point, m.devices, m.group)
    return seconds, bytes_of_sweep(cost, m.point, m.devices, m.group) / m.point["runs"]


def cost_rows(summary: Mapping[str, Any]) -> Iterator[str]:
    """The table of the terms, its cells with " | " between them, titles first."""
    yield "a run-step on one device | unit | fitted"
    for (name, unit), value in zip(TIME_TERMS.items(), summary["terms"].values(), strict=True):
        yield (
            f"{name} | {unit} | {value:,.0f}" if value >= 100 else f"{name} | {unit} | {value:.3g}"
        )
    kept, work = summary["numbers_kept_per_parameter"], summary["numbers_of_work"]
    yield f"parameters | float32 numbers kept for each | {kept:.3g}"
    yield f"work of a step | float32 numbers for each | {work:.3g}"
    yield f"error of the time, median | % | {100 * summary['median_error']:.0f}"
    yield f"error of the time, largest | % | {100 * summary['largest_error']:.0f}"


def unseen_rows(summary: Mapping[str, Any]) -> Iterator[str]:
    yield "not fitted to | µs per run-step | predicted | kB per run | predicted"
    for name, m in summary["unseen"].items():
        time = f"{1e6 * m['seconds_per_run_step']:,.1f}"
        predicted = f"{1e6 * m['predicted_seconds_per_run_step']:,.1f}"
        memory = f"{m['bytes_per_run'] / 1e3:,.0f} | {m['predicted_bytes_per_run'] / 1e3:,.0f}"
        yield f"{name} | {time} | {predicted} | {memory}"


def prediction_rows(summary: Mapping[str, Any]) -> Iterator[str]:
    yield "CPU cores | hours for 100,000 runs of 10,000 steps | GB"
    for devices, predicted in summary["hundred_thousand_runs"].items():
        yield f"{devices} | {predicted['hours']:,.1f} | {predicted['gigabytes']:,.1f}"
