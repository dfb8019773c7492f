"""A grid of σ_fix × learning rate × seed on the two-mode data, as one program; resumable."""

import dataclasses
import hashlib
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments import command, toy

if TYPE_CHECKING:
    import xarray as xr

    from spread_jax.sweeps import Sweep

# what may differ between a sweep and its resumption: how it talks, and who computes
NOT_IDENTITY = (
    {"out", "quiet", "save_params", "no_compilation_cache", "resume"}
    | {"distributed", "coordinator", "num_processes", "process_id"}
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Settings(command.DistributedSettings, toy.TwoModeSettings):
    """σ_fix × learning rate × seed on two modes of a line, as one program on every core and
    device. σ_fix 0 is the plain VAE. Stopped at any moment, it goes on with --resume."""

    sigma_fix: tuple[float, ...] = (0.0, 0.03, 0.1, 0.3)
    """Standard deviations of the noise added to data and model, in data units."""
    learning_rate: tuple[float, ...] = (1e-3,)
    """Adam's learning rates; each falls to half over the last three tenths of the steps."""
    reference_sigma: float = 0.1
    """The one sigma_fix at which the spread KL of all cells is compared, in data units."""
    record_every: int | None = None
    """Steps per point of the curves; None: about 1,000 points, fewer from 1,000 runs on."""
    out: Path = Path("outputs/sweep")
    """Folder for the results and, until the end, the checkpoints."""
    resume: bool = False
    """Go on from the newest checkpoint under --out; start if there is none."""

    def check(self) -> None:
        super().check()
        for sigma in self.sigma_fix:
            command.require_non_negative("--sigma-fix", sigma, "data units")
        for rate in self.learning_rate:
            command.require_positive("--learning-rate", rate)
        for flag, values in (
            ("--sigma-fix", self.sigma_fix),
            ("--learning-rate", self.learning_rate),
        ):
            text = " ".join(f"{value:g}" for value in values)
            command.require(len(values) > 0, flag, text, "one value or more")
            command.require(len(set(values)) == len(values), flag, text, "all different")
        command.require_positive("--reference-sigma", self.reference_sigma, "data units")
        if self.record_every is not None:
            command.require(
                self.record_every >= 1 and self.steps % self.record_every == 0,
                "--record-every",
                self.record_every,
                f"a divisor of --steps {self.steps}",
            )


def run(settings: Settings) -> None:
    started = time.perf_counter()
    identity = {k: v for k, v in command.config(settings).items() if k not in NOT_IDENTITY}
    alone = not settings.distributed  # processes must not disagree
    if settings.resume and alone and command.already_done(settings.out, identity):
        return
    for sigma in settings.sigma_fix:
        toy.warn_of_sigma(sigma, settings.data_std)
    command.start_jax(settings)
    import jax
    import numpy as np

    from spread_jax import sweeps

    num_cells = len(settings.sigma_fix) * len(settings.learning_rate)
    record_every = settings.record_every or sweeps.default_record_every(
        settings.steps, num_cells * settings.seeds
    )
    is_writer = jax.process_index() == 0
    output = command.OutputFolder(settings.out) if is_writer else None
    with (
        command.checkpoints(settings.out, identity, resume=settings.resume) as (
            checkpoints,
            stop_if_told,
        ),
        command.progress_bar(settings.quiet or not is_writer) as show,
    ):
        alarms = toy.two_mode_guard(
            settings,
            np.repeat(settings.sigma_fix, len(settings.learning_rate) * settings.seeds),
            record_every,
        )
        watch = command.alarm_once(show, alarms, "A spread bounds it: --sigma-fix above 0")

        def on_progress(progress: sweeps.Progress) -> None:
            watch(progress) if is_writer else show(progress)
            stop_if_told()

        result = sweeps.sweep(
            toy.two_mode_training(settings),
            {
                "sigma_fix": settings.sigma_fix,
                "learning_rate": settings.learning_rate,
                "data_std": settings.data_std,
            },
            num_seeds=settings.seeds,
            seed=settings.seed,
            record_every=record_every,
            variables=toy.two_mode_variables(),
            on_progress=on_progress,
            checkpoints=checkpoints,
        )
    if output is not None:
        report(settings, output, result, started)
        checkpoints.discard()
        print(f"written to {output.path}/")


def report(
    settings: Settings, output: command.OutputFolder, result: "Sweep", started: float
) -> None:
    import jax

    from spread_jax import evaluation

    with command.stage_line(settings.quiet) as on_stage:
        on_stage("judging")
        dataset = judge(result.dataset, settings)
        output.write_dataset("results.nc", dataset)
        if settings.save_params:
            output.write_params("params.npz", result.params)
        on_stage("drawing")
        write_figures(output, settings, dataset)
    cells = [
        {
            "sigma_fix": sigma,
            "learning_rate": rate,
            **evaluation.over_seeds(cell),
            "spread_kl_at_reference": evaluation.median_over_runs(
                evaluation.known_numbers(cell["spread_kl_at_reference"])
            ),
        }
        for sigma in settings.sigma_fix
        for rate in settings.learning_rate
        for cell in [dataset.sel(sigma_fix=sigma, learning_rate=rate)]
    ]
    print_table(settings, cells)
    run_steps = len(cells) * settings.seeds * settings.steps
    output.write_metrics(
        {
            "config": command.config(settings),
            "environment": command.environment(started, result.compile_seconds),
            "run_steps_per_second": run_steps / result.train_seconds,
            "compile_seconds": result.compile_seconds,
            "wall_seconds": time.perf_counter() - started,
            "devices": jax.device_count(),
            "processes": jax.process_count(),
            "digest": digest(dataset),
            "cells": cells,
        }
    )


def judge(dataset: "xr.Dataset", settings: Settings) -> "xr.Dataset":
    """Each cell judged at its own sigma_fix, and all of them at the reference."""
    import xarray as xr

    from spread_jax import evaluation, oracles

    judged = xr.concat(
        [
            evaluation.judge_two_modes(dataset.sel(sigma_fix=[sigma]), settings.data_std, sigma)
            for sigma in settings.sigma_fix
        ],
        "sigma_fix",
        data_vars="minimal",
    )
    judged["spread_kl"].attrs["long_name"] = "spread KL to the truth at the cell's own sigma_fix"
    last = dataset[["mean", "std"]].isel(step=-1)
    at_reference = evaluation.spread_kl_of_components(
        oracles.two_modes(settings.data_std),
        last["mean"].values,
        last["std"].values,
        settings.reference_sigma,
    )
    name = f"spread KL to the truth at sigma_fix {settings.reference_sigma:g}"
    return judged.assign(
        spread_kl_at_reference=(
            judged["spread_kl"].dims,
            at_reference,
            {"long_name": name, "units": "nats"},
        )
    )


def digest(dataset: "xr.Dataset") -> str:
    """SHA-256 over the variables in name order: equal for runs of equal numbers."""
    import numpy as np

    sha = hashlib.sha256()
    for name in sorted(map(str, dataset.data_vars)):
        sha.update(name.encode())
        sha.update(np.ascontiguousarray(dataset[name].values).tobytes())
    return sha.hexdigest()


def write_figures(output: command.OutputFolder, settings: Settings, dataset: "xr.Dataset") -> None:
    from spread_jax import figures, oracles

    truth = oracles.two_modes(settings.data_std)
    power = {s: oracles.discriminating_power(truth, s) for s in settings.sigma_fix if s > 0}
    output.write_figure("recovery.png", figures.recovery_figure(dataset))
    output.write_figure("distance.png", figures.distance_figure(dataset))
    output.write_figure("stability.png", figures.stability_figure(dataset))
    output.write_figure("price.png", figures.price_figure(dataset, settings.data_std, power))
    output.write_figure("loss_fan.png", figures.loss_fan_figure(dataset))
    if len(settings.sigma_fix) > 1 and len(settings.learning_rate) > 1:
        output.write_figure("heat_map.png", figures.recovery_heat_map(dataset))


def print_table(settings: Settings, cells: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(
        title=f"two modes, {settings.seeds} seeds a cell, {settings.steps:,} steps",
        caption="medians over seeds; 95 % Wilson interval; spread KL in nats, at the cell's own "
        f"σ_fix and at {settings.reference_sigma:g} for all; energy distance in data units",
        padding=(0, 0),
    )
    for column in ("σ_fix", "lr", "both modes", "KL", f"KL at {settings.reference_sigma:g}"):
        table.add_column(column, justify="right")
    for column in ("energy", "late std", "max rise", "broken"):
        table.add_column(column, justify="right")
    for cell in cells:
        table.add_row(
            f"{cell['sigma_fix']:g}",
            f"{cell['learning_rate']:g}",
            toy.recovery_text(cell),
            toy.number_text(cell["median_spread_kl"]),
            toy.number_text(cell["spread_kl_at_reference"]),
            toy.number_text(cell["median_energy_distance"]),
            toy.number_text(cell["median_late_loss_std"]),
            toy.number_text(cell["median_max_loss_rise"]),
            f"{cell['nonfinite_rate']:.0%}",
        )
    Console().print(table)


if __name__ == "__main__":
    command.main(Settings, run)
