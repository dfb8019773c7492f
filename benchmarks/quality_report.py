"""What :mod:`benchmarks.quality` says of its contestants: its numbers, figure and table."""

import dataclasses
import math
from collections.abc import Iterator
from importlib import metadata
from typing import TYPE_CHECKING, Any

from spread_jax.cli.output import OutputFolder, jax_environment
from spread_jax.cli.tables import fill, number_text, print_table

if TYPE_CHECKING:
    import xarray as xr

    from benchmarks.quality import Judge, Settings
    from spread_jax.data.datasets import Dataset
    from spread_jax.judgement import Metric


def as_metrics(
    data: "Dataset", judge: "Judge", found: "xr.Dataset", target: float
) -> dict[str, Any]:
    """What metrics.json holds: of every cell the lists over the seeds, and their middles."""
    from spread_jax.aggregate import over_seeds_json, per_seed_json

    cells = []
    for i in range(found.sizes["cell"]):
        cell = found.isel(cell=i)
        labels = {name: cell[name].item() for name in ("contestant", "epochs")}
        cells.append({**labels, **per_seed_json(cell), **over_seeds_json(cell)})
    parts = {part: len(getattr(data, part)) for part in ("train", "validation", "test")}
    facts = {"name": data.name, "dim": data.train.shape[1], **parts}
    tables = (
        {"peers": list(peer_rows(cells, judge.reference, judge.training))}
        if "frechet" in found
        else {}
    )
    return {
        "data": {**facts, "classifier_accuracy": judge.accuracy},
        "tables": tables,
        "threads": found.attrs["threads"],
        "reference": judge.reference,
        "training": judge.training,
        "cells": cells,
        "seconds_to_target": seconds_to(target, cells) if "frechet" in found else None,
    }


def peer_rows(
    cells: list[dict[str, Any]], reference: dict[str, float], training: dict[str, float] | None
) -> Iterator[str]:
    """The table of all contestants on images after the most epochs, its cells with " | " between
    them, titles first."""
    yield "contestant | Fréchet distance | to all images | from | to | precision | recall"
    most = max(cell["epochs"] for cell in cells)
    to_all = "{median_frechet_to_all:.2f} | {frechet_to_all_interval[0]:.2f}"
    to_all += " | {frechet_to_all_interval[1]:.2f}"
    numbers = (
        f"{{median_frechet:.2f}} | {to_all} | {{median_precision:.2f}} | {{median_recall:.2f}}"
    )
    for cell in (cell for cell in cells if cell["epochs"] == most):
        yield f"{cell['contestant']} | {fill(numbers, cell)}"
    of_data = "{frechet:.2f} | {frechet_to_all:.2f} |  |  | {precision:.2f} | {recall:.2f}"
    yield f"held-out data | {fill(of_data, reference)}"
    if training:
        yield f"training images | {fill(of_data, {'frechet_to_all': None, **training})}"


def seconds_to(target: float, cells: list[dict[str, Any]]) -> dict[str, float | None]:
    """Of each contestant the fewest seconds, a median, of a cell whose median Fréchet distance is
    the target or less; None where there is no such cell."""
    found: dict[str, float | None] = {cell["contestant"]: None for cell in cells}
    for cell in cells:
        distance, seconds = cell["median_frechet"], cell["median_seconds"]
        if distance is not None and distance <= target:
            found[cell["contestant"]] = min(found[cell["contestant"]] or math.inf, seconds)
    return found


def title(metric: "Metric") -> str:
    """The metric's name alone, without what it is of."""
    return metric.long_name.split(" of ")[0]


def write(
    output: OutputFolder,
    settings: "Settings",
    metrics: dict[str, Any],
    judge: "Judge",
    found: "xr.Dataset",
    peer: str,
) -> None:
    from spread_jax.aggregate import with_worst
    from spread_jax.figures import quality_figure

    shown = judge.shown
    points = {
        name: (cells["seconds"].values, with_worst(cells[shown.name]).values)
        for name, cells in found.groupby("contestant")
    }
    in_order = {name: points[name] for name in dict.fromkeys(found["contestant"].values.tolist())}
    figure = quality_figure(in_order, judge.reference[shown.name], title(shown))
    output.write_figure("quality.png", figure)
    environment = jax_environment(output.started, compile_seconds=0)
    del environment["compile_seconds"]  # they are among the seconds of training
    peers = ("torch", "scikit-learn", peer)
    environment["versions"] |= {name: metadata.version(name) for name in peers}
    config = dataclasses.asdict(settings)
    output.write_metrics({"config": config, "environment": environment, **metrics})


def print_results(settings: "Settings", metrics: dict[str, Any], judge: "Judge") -> None:
    metrics_shown = [*judge.metrics, *judge.of_all]
    names = [metric.name for metric in metrics_shown]
    titles = [title(metric) for metric in metrics_shown]
    rows = []
    for cell in metrics["cells"]:
        seconds = [number_text(cell[f"median_{name}_seconds"]) for name in ("train", "sample")]
        row = [cell["contestant"], str(cell["epochs"] or "-"), *seconds]
        for name in names:
            text = number_text(cell[f"median_{name}"])
            if name in (judge.shown.name, "frechet_to_all"):
                text += f" [{', '.join(map(number_text, cell[f'{name}_interval']))}]"
            row.append(text)
        rows.append(row)
    for label, found in (("real data", judge.reference), ("training images", judge.training)):
        if found:
            rows.append([label, "", "", "", *(number_text(found.get(name)) for name in names)])
    data = metrics["data"]
    caption = "energy distance and W2"
    if "frechet" in names:
        caption = (
            "Fréchet distance, precision and recall in features of a classifier of these data (not "
            "comparable with Inception FID); energy distance"
        )
    print_table(
        f"{data['name']}: {data['train']:,} rows to train on, seeds: {settings.seeds}",
        ["", "epochs", "seconds of\ntraining", "of\nsampling", *titles],
        rows,
        caption=f"medians over seeds, of distances with their intervals; {caption} of samples to "
        "held-out data; in the row of real data they are of held-out images, or of training rows",
        width=130,
    )
    for name, seconds in (metrics["seconds_to_target"] or {}).items():
        reached = f"after {number_text(seconds)} s" if seconds else "not reached"
        print(f"Fréchet distance {settings.target:g}: {name} {reached}")
