"""What :mod:`experiments.fit` says of its runs: its numbers, figures and tables."""

import contextlib
import math
from typing import TYPE_CHECKING, Any

import spread_jax as sj
from spread_jax.cli.output import OutputFolder
from spread_jax.cli.tables import number_text, print_table

if TYPE_CHECKING:
    import xarray as xr

    from experiments.fit import Settings
    from spread_jax.data_comparison import Comparison


def as_metrics(
    settings: "Settings", data: "sj.Dataset", found: "Comparison", num_train: int
) -> dict[str, Any]:
    """What metrics.json holds: the lists over seeds and their middles, of every cell and arm;
    ``num_train`` rows were trained on."""

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
            **{"train": num_train, "validation": len(data.validation), "test": len(data.test)},
            "dim": data.train.shape[1],
            "classifier_accuracy": found.accuracy,
        },
        "epochs": settings.steps * settings.batch_size / num_train,
        "floor": floors[0] if floors else None,
        "floor_of_memoriser": _memorisers_loss(data, found) if floors else None,
        "suggested_sigma": suggested,
        "reference": found.reference,
        "arms": {cell["arm"]: cell for cell in cells_of(found.shown)},
        "cells": cells_of(found.cells),
    }


def _memorisers_loss(data: "sj.Dataset", found: "Comparison") -> float:
    """log n + d/2 log 2πeσ²: the entropy of n rows with noise that never meets, in nats, at the
    noise of the first arm that has a floor."""
    with_floor = found.shown.isel(cell=found.shown["has_floor"].values)
    sigma = float((with_floor["sigma_fix"] * with_floor["noise_end"])[0])
    n, dim = data.train.shape
    return math.log(n) + dim / 2 * math.log(2 * math.pi * math.e * sigma**2)


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


OF_TRAINING = {
    "bound,\none noise,\nnats": "common_iw_bound",
    "largest\nrise,\nnats": "max_loss_rise",
    "late\nloss std,\nnats": "late_loss_std",
    "alarm,\nstep": "alarm_step",
    "least\nσ": "min_sigma",
    "median\nσ": "median_sigma",
}
OF_SAMPLES = {
    "pre-\ncision": "precision",
    "recall": "recall",
    "energy\ndistance": "energy_distance",
    "nearest\ntrain-\ning row": "nearest_train",
}
WIDTH = 112


def print_results(settings: "Settings", metrics: dict[str, Any]) -> None:
    arms, reference = metrics["arms"], metrics["reference"]
    has_classes = "frechet" in reference
    # what samples are judged by first, with either latent; the others with the fitted one
    measure, title = ("frechet", "Fréchet") if has_classes else ("energy_distance", "energy")
    others = (key for key in OF_SAMPLES if OF_SAMPLES[key] in reference)
    wanted = {key: OF_SAMPLES[key] for key in others if OF_SAMPLES[key] != measure}
    of_training, of_samples = [], []
    for name, arm in arms.items():
        sigma = f", {arm['sigma_fix']:.3g}" if arm["sigma_fix"] else ""
        label = sj.ARMS[name].label + sigma
        row = [number_text(arm.get(f"median_{key}")) for key in OF_TRAINING.values()]
        if sj.ARMS[name].is_annealed:
            row[1] = "-"  # its loss rises because its noise falls
        of_training.append([label, *row])
        plain = None if sj.ARMS[name].fitted_latent else arm.get(f"median_{measure}")
        first = [number_text(plain), *_with_interval(arm, f"{measure}_fitted_latent")]
        row = [number_text(arm.get(f"median_{key}_fitted_latent")) for key in wanted.values()]
        of_samples.append([label, *first, *row])
    real = [number_text(reference[key]) for key in wanted.values()]
    first = ["", number_text(reference[measure]), ""]
    of_samples.append(["held-out data", *first, *real])
    subject = f"{metrics['data']['name']}, medians of {settings.seeds} seeds, "
    subject += f"{settings.steps:,} steps ({metrics['epochs']:.3g} epochs)"
    print_table(
        f"{subject}: training",
        ["", *OF_TRAINING],
        of_training,
        caption="the bound is importance-weighted, of test data, with one noise of σ "
        f"{settings.common_sigma:g} for all arms, and with z from N(0, I) but for the recipe",
        width=WIDTH,
    )
    ways = [f"{title},\nz from\nN(0, I)", f"{title},\nfitted\nlatent", "interval"]
    print_table(
        f"{subject}: clean samples",
        ["", *ways, *wanted],
        of_samples,
        caption="the interval holds the median with 95 %, of fewer than 6 seeds it is their range; "
        "the columns after it are of the fitted latent; Fréchet distance, precision and recall are "
        "taken in features of a classifier of these data (not comparable with Inception FID); "
        "energy distance to held-out data, in the last row of training data",
        width=WIDTH,
    )
    for name, arm in arms.items():
        if arm.get("median_discrete_bits_per_dim") is not None:
            median, interval = _with_interval(arm, "discrete_bits_per_dim")
            print(f"{sj.ARMS[name].label}: {median} {interval} bits per dimension of test data")
    if metrics["floor"] is not None:
        print(
            f"floor of the loss under the spread: {metrics['floor']:.1f} nats, the entropy of the "
            "spread training data; without a spread there is none"
        )
        if metrics["floor_of_memoriser"] - metrics["floor"] < 1:
            print(
                "this floor says only that rows lie further apart than the noise reaches: it is "
                "log(rows) + the entropy of the noise, as of a model that knows the rows by heart"
            )
    if "frechet" not in reference:
        print("no labels, so no classifier: samples are judged by energy distance alone")
    if metrics["suggested_sigma"]:
        low, high = metrics["suggested_sigma"]
        line = f"suggested σ_fix: {low:.3g} to {high:.3g}"
        if len(settings.sigma_fix) > 1 and "spread_vae" in arms:
            best = arms["spread_vae"]["sigma_fix"]
            line += f"; best on validation data: {best:g}; all are in metrics.json"
        print(line)


def _with_interval(arm: dict[str, Any], key: str) -> list[str]:
    low, high = map(number_text, arm.get(f"{key}_interval", (None, None)))
    return [number_text(arm.get(f"median_{key}")), f"[{low}, {high}]"]
