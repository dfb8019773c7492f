"""The model of a sweep's time and memory. Truth: a machine whose costs are known, and numbers
worked out by hand."""

import math

import numpy as np
import pytest

from benchmarks import accelerators, cost
from benchmarks.contestants import BASE, multiply_adds
from benchmarks.scaling import Row

KNOWN = cost.Cost(time=(2e-4, 2e-11, 3e-10, 4e-9, 1e-9), kept=4.0, work=1.5)
POINTS = [
    (point, 2, min(32, math.ceil(point["runs"] / 2)))
    for point in (
        BASE,
        *({**BASE, "runs": runs} for runs in (2, 4, 16, 1_024)),
        *({**BASE, "width": width} for width in (16, 32, 128, 256)),
        *({**BASE, "dimension": dim} for dim in (8, 32, 784)),
    )
]


def of_known_machine(point, devices, group):
    seconds = cost.seconds_per_run_step(KNOWN, point, devices, group)
    held = cost.bytes_of_sweep(KNOWN, point, devices, group) / point["runs"]
    return Row(point, devices, group, seconds, seconds / multiply_adds(point), held)


def test_the_parameters_of_the_networks():
    """By hand: 2-64-64-1, and 1-64-64 with two heads of 2."""
    encoder = 3 * 64 + 65 * 64 + 65
    decoder = 2 * 64 + 65 * 64 + 65 * 4
    assert cost.num_params(BASE) == encoder + decoder


def test_a_run_step_and_its_memory_by_hand():
    point = {"runs": 128, "steps": 1, "width": 64, "dimension": 2}
    params, madds = cost.num_params(point), multiply_adds(point)
    device = 2e-4 / 32 + 2e-11 * madds + 3e-10 * 128 * 128 + 4e-9 * 256 + 1e-9 * params
    assert cost.seconds_per_run_step(KNOWN, point, 2, 32) == pytest.approx(device / 2)
    work = 128 * (2 + 128) + params  # of the 64 of 128 runs that train at a time
    assert cost.bytes_of_sweep(KNOWN, point, 2, 32) == pytest.approx(
        4 * (128 * 4 * params + 64 * 1.5 * work)
    )


def test_devices_without_a_run_do_not_help():
    one = {**BASE, "runs": 1}
    assert cost.seconds_per_run_step(KNOWN, one, 8, 1) == cost.seconds_per_run_step(
        KNOWN, one, 1, 1
    )


def test_the_costs_of_a_known_machine_are_found():
    found = cost.fit_cost([of_known_machine(*each) for each in POINTS])
    np.testing.assert_allclose(found.time, KNOWN.time, rtol=1e-6)
    assert found.kept == pytest.approx(KNOWN.kept)
    assert found.work == pytest.approx(KNOWN.work)


def test_what_was_not_fitted_is_predicted():
    unseen = {name: of_known_machine(point, 2, 8) for name, point in cost.UNSEEN.items()}
    summary = cost.summarise([of_known_machine(*each) for each in POINTS], unseen)
    assert summary["largest_error"] < 1e-6
    for each in summary["unseen"].values():
        for name in ("seconds_per_run_step", "bytes_per_run"):
            assert each[f"predicted_{name}"] == pytest.approx(each[name])
    hours = 1e5 * 1e4 * cost.seconds_per_run_step(KNOWN, BASE, 2, 32) / 3600
    assert summary["hundred_thousand_runs"]["2"]["hours"] == pytest.approx(hours)
    assert summary["hundred_thousand_runs"]["64"]["hours"] == pytest.approx(hours / 32)


def test_no_cost_is_below_zero():
    """A machine that costs less as it does more is none."""
    rows = [of_known_machine(*each) for each in POINTS]
    odd = [row._replace(seconds_per_run_step=1 / row.point["dimension"]) for row in rows]
    assert min(cost.fit_cost(odd).time) >= 0


def test_a_step_of_images_by_hand():
    """2 images of 3 numbers, 5 hidden units, 1 latent; 4 devices."""
    images = accelerators.Images(rows=8, epochs=3, batch=2, dim=3, hidden=5, latent_dim=1)
    assert images.num_steps == 12
    encoder, decoder = 3 * 5 + 2 * 5, 5 + 5 * 3
    assert images.multiply_adds == 2 * (3 * (encoder + decoder) - 15)
    assert images.gradient_bytes == 4 * ((3 + 1) * 5 + 2 * (5 + 1) + (1 + 1) * 5 + (5 + 1) * 3)
    each = accelerators.Accelerator(flops=100.0, link=10.0, start=1.0)
    seconds = 1 + 2 * images.multiply_adds / 400 + 1.5 * images.gradient_bytes / 10
    assert accelerators.split_step_seconds(images, 4, each) == pytest.approx(seconds)
    assert accelerators.split_step_seconds(images, 1, each) == 1 + 2 * images.multiply_adds / 100
