"""What :mod:`experiments.fit` says of its runs: its numbers, figures and tables."""

import contextlib
from typing import TYPE_CHECKING, Any

import spread_jax as sj
from spread_jax.cli.output import OutputFolder
from spread_jax.cli.tables import number_text, print_table

if TYPE_CHECKING:
    import xarray as xr

    from experiments.fit import Settings
    from spread_jax.comparison import Comparison


def describe(data: "sj.Dataset") -> str:
    kind = "columns" if data.shape is None else f"{data.shape[0]} x {data.shape[1]} pixels"
    width = f"{data.train.shape[1]} " if data.shape is None else ""
    checksum = "known" if data.checksum_known else "unknown"
    return (
        f"{data.name}: {len(data.train):,} rows to train on, {len(data.validation):,} to choose "
        f"by, {len(data.test):,} to report on; {width}{kind}, {data.constant_pixels} of them "
        f"constant, checksum {checksum}"
    )


def as_metrics(settings: "Settings", data: "sj.Dataset", found: "Comparison") -> dict[str, Any]:
    """What metrics.json holds: the lists over seeds and their middles, of every cell and arm."""

    def cells_of(dataset: "xr.Dataset") -> list[dict[str, Any]]:
        cells = (dataset.isel(cell=i) for i in range(dataset.sizes["cell"]))
        numbers = (
            {name: cell[name].item() for name in ("arm", "sigma_fix")}
            | sj.aggregate.per_seed_json(cell)
            | sj.aggregate.over_seeds_json(cell)
            for cell in cells
        )
        # here σ is that of the last step; its curves stand in results.nc under the same name
        return [{key.replace("last_", ""): value for key, value in n.items()} for n in numbers]

    suggested = None
    with contextlib.suppress(ValueError):  # all rows are equal
        suggested = list(sj.suggest_sigma(data.train)[:2])
    floors = found.shown["floor"].dropna("cell").values.tolist() if "floor" in found.shown else []
    facts = ("name", "shape", "checksum_known", "constant_pixels")
    return {
        "data": {
            **{fact: getattr(data, fact) for fact in facts},
            **{part: len(getattr(data, part)) for part in ("train", "validation", "test")},
            "dim": data.train.shape[1],
            "classifier_accuracy": found.accuracy,
        },
        "epochs": settings.steps * settings.batch_size / len(data.train),
        "floor": floors[0] if floors else None,
        "suggested_sigma": suggested,
        "reference": found.reference,
        "arms": {cell["arm"]: cell for cell in cells_of(found.shown)},
        "cells": cells_of(found.cells),
    }


def write_figures(
    output: OutputFolder, data: "sj.Dataset", found: "Comparison", suggested: list[float] | None
) -> None:
    figures, shown, shape = sj.figures, found.shown, data.shape
    output.write_figure("loss.png", figures.loss_figure(shown))
    output.write_figure("sigma.png", figures.arms_sigma_figure(shown))
    output.write_figure("sigma_over_time.png", figures.sigma_maps_figure(shown, shape))
    if shape is None:
        output.write_figure("samples.png", figures.table_samples_figure(shown))
    else:
        output.write_figure("samples.png", figures.mosaics_figure(shown, shape))
        output.write_figure("traversal.png", figures.traversal_figure(shown, shape))
        output.write_figure("worst.png", figures.worst_images_figure(shown, shape))
    if found.cells.sizes["cell"] > shown.sizes["cell"] and "frechet" in found.cells:
        summary = sj.over_seeds(found.cells)
        figure = figures.sigma_fix_figure(found.cells, summary, found.reference, suggested)
        output.write_figure("sigma_fix.png", figure)


ROWS = {
    "train bound, nats": "train_bound",
    "held-out bound, nats": "test_bound",
    "same, IW, nats": "test_iw_bound",
    "worst one, nats": "worst_test_bound",
    "bits per dimension": "bits_per_dim",
    "KL, nats": "kl",
    "active dimensions": "active_dims",
    "largest rise, nats": "max_loss_rise",
    "late loss std, nats": "late_loss_std",
    "runaway alarm, step": "alarm_step",
    "smallest decoder σ": "min_sigma",
    "median decoder σ": "median_sigma",
    "Fréchet distance": "frechet",
    "precision": "precision",
    "recall": "recall",
    "Fréchet, means": "frechet_of_means",
    "precision, means": "precision_of_means",
    "recall, means": "recall_of_means",
    "energy distance": "energy_distance",
}


def print_results(settings: "Settings", metrics: dict[str, Any]) -> None:
    arms, reference = metrics["arms"], metrics["reference"]
    titles = [
        sj.ARMS[name].label + (f"\nσ_fix {arm['sigma_fix']:g}" if arm["sigma_fix"] else "")
        for name, arm in arms.items()
    ]
    rows = []
    for title, key in ROWS.items():
        values = [arm.get(f"median_{key}") for arm in arms.values()]
        real = number_text(reference[key]) if key in reference else ""
        if any(value is not None for value in values):
            rows.append([title, *map(number_text, values), real])
    print_table(
        f"{metrics['data']['name']}, seeds: {settings.seeds}, {settings.steps:,} steps "
        f"({metrics['epochs']:.3g} epochs)",
        ["", *titles, "held-out\ndata"],
        rows,
        caption="medians over seeds, on test data; an arm's bounds are in the space of its own "
        "noise; Fréchet distance, precision and recall in features of a classifier of these data "
        "(not comparable with Inception FID); energy distance of clean samples to held-out data, "
        "of training data in the last column",
    )
    if metrics["floor"] is not None:
        print(
            f"floor of the spread VAE's training loss: {metrics['floor']:.1f} nats (the entropy "
            "of the spread training data); the plain one has none"
        )
    if "frechet" not in reference:
        print("no labels, so no classifier: samples are judged by energy distance alone")
    if metrics["suggested_sigma"]:
        low, high = metrics["suggested_sigma"]
        line = f"suggested σ_fix: {low:.3g} to {high:.3g}"
        if len(settings.sigma_fix) > 1:
            best = arms["spread_vae"]["sigma_fix"]
            line += f"; best on validation data: {best:g}; all are in metrics.json"
        print(line)
