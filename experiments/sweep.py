"""A grid of σ_fix × learning rate × seed on the two-mode data, as one program; resumable."""

import dataclasses
import itertools
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import spread_jax as sj
from experiments import two_modes
from spread_jax.cli.command import checkpoints, main, start_jax, watchers
from spread_jax.cli.output import OutputFolder, already_done, digest
from spread_jax.cli.settings import (
    DistributedSettings,
    require,
    require_distinct,
    require_non_negative,
    require_positive,
)
from spread_jax.cli.tables import fill, print_table
from spread_jax.progress import stage_line

if TYPE_CHECKING:
    import xarray as xr

# what may differ between a sweep and its repetition: how it talks, and who computes
NOT_IDENTITY = (
    {"out", "quiet", "save_params", "no_compilation_cache", "resume", "tensorboard"}
    | {"distributed", "coordinator", "num_processes", "process_id"}
)  # fmt: skip
# what a sweep can have more of, or look at otherwise, and keep the runs that it has
GROWS = {"sigma_fix", "learning_rate", "seeds", "seed", "reference_sigma", "record_every", "steps"}


@dataclasses.dataclass(frozen=True)
class Settings(DistributedSettings, two_modes.TwoModeSettings):
    """Trains every combination of σ_fix, learning rate and seed on two modes of a line, as one
    program on all cores and devices. σ_fix 0 is the plain VAE. Runs that are under --out already
    are not trained again, so the command goes on after a stop, and grows with more values."""

    sigma_fix: tuple[float, ...] = (0.0, 0.03, 0.1, 0.3)
    """Standard deviations of the noise on data and model, in data units."""
    learning_rate: tuple[float, ...] = (1e-3,)
    """Adam's learning rates. Each falls to half over the last three tenths of the steps."""
    reference_sigma: float = 0.1
    """The sigma_fix at which the spread KL of all cells is compared, in data units."""
    record_every: int | None = None
    """Steps per point of the curves. By default a curve has about 1,000 points, and fewer if there
    are 1,000 runs or more."""
    out: Path = Path("outputs/sweep")
    """Folder for the results and the checkpoints of all runs."""
    resume: bool = False
    """Do nothing where --out holds the results of these settings."""

    def check(self) -> None:
        super().check()
        for sigma in self.sigma_fix:
            require_non_negative("--sigma-fix", sigma, "data units")
        for rate in self.learning_rate:
            require_positive("--learning-rate", rate)
        require_distinct("--sigma-fix", self.sigma_fix)
        require_distinct("--learning-rate", self.learning_rate)
        require_positive("--reference-sigma", self.reference_sigma, "data units")
        if self.record_every is not None:
            divides = self.record_every >= 1 and self.steps % self.record_every == 0
            accepted = f"a divisor of --steps {self.steps}"
            require(divides, "--record-every", self.record_every, accepted)


def run(settings: Settings) -> None:
    identity = {k: v for k, v in dataclasses.asdict(settings).items() if k not in NOT_IDENTITY}
    # processes must not disagree
    if settings.resume and not settings.distributed and already_done(settings.out, identity):
        return
    for sigma in settings.sigma_fix:
        two_modes.warn_of_sigma(sigma, settings.data_std)
    start_jax(settings)
    import jax

    is_writer = jax.process_index() == 0
    output = OutputFolder(settings.out) if is_writer else None
    fixed = {name: value for name, value in identity.items() if name not in GROWS}
    with checkpoints(settings.out / "checkpoints", fixed) as (store, stop_if_asked):
        runs = two_modes.train(
            settings,
            settings.sigma_fix,
            settings.learning_rate,
            cure="--sigma-fix above 0",
            listeners=[*(watchers(settings) if is_writer else ()), stop_if_asked],
            record_every=settings.record_every,
            checkpoints=store,
        )
    if output is not None:
        report(settings, output, runs)


def report(settings: Settings, output: OutputFolder, runs: "sj.Sweep") -> None:
    import jax

    with stage_line(settings.quiet) as on_stage:
        on_stage("judging")
        arms = ["spread_vae" if sigma else "vae" for sigma in settings.sigma_fix]
        judged = two_modes.judge(settings, runs, arms, reference=settings.reference_sigma)
        output.write_dataset("results.nc", judged)
        if settings.save_params:
            output.write_params("params.npz", runs.stacked_params)
        on_stage("drawing")
        write_figures(output, settings, judged)
    cells = []
    for sigma, rate in itertools.product(settings.sigma_fix, settings.learning_rate):
        cell = two_modes.over_seeds_json(judged.sel(sigma_fix=sigma, learning_rate=rate))
        at_reference = {"spread_kl_at_reference": cell["median_spread_kl_at_reference"]}
        cells.append({"sigma_fix": sigma, "learning_rate": rate, **cell, **at_reference})
    results = {
        "trained_runs": runs.trained_runs,
        "run_steps_per_second": runs.trained_run_steps / runs.train_seconds,
        "compile_seconds": runs.compile_seconds,
        "wall_seconds": time.perf_counter() - output.started,
        "devices": jax.device_count(),
        "processes": jax.process_count(),
        "digest": digest(judged),
        "cells": cells,
    }
    output.finish(settings, runs.compile_seconds, results)
    print_cells(settings, cells)


def write_figures(output: OutputFolder, settings: Settings, judged: "xr.Dataset") -> None:
    truth = sj.problems.two_mode_mixture(settings.data_std)
    power = {s: sj.oracles.discriminating_power(truth, s) for s in settings.sigma_fix if s > 0}
    summary, figures = sj.over_seeds(judged), sj.figures
    output.write_figure("recovery.png", figures.recovery_figure(summary))
    output.write_figure("distance.png", figures.distance_figure(summary))
    output.write_figure("stability.png", figures.stability_figure(summary))
    output.write_figure("price.png", figures.price_figure(summary, power))
    output.write_figure(
        "loss_fan.png", figures.loss_fan_figure(sj.aggregate.fan_over_seeds(judged))
    )
    if len(settings.sigma_fix) > 1 and len(settings.learning_rate) > 1:
        output.write_figure("heat_map.png", figures.recovery_heat_map(summary))


def print_cells(settings: Settings, cells: list[dict[str, Any]]) -> None:
    reference = f"{settings.reference_sigma:g}"
    columns = {
        "σ_fix": "{sigma_fix:g}",
        "lr": "{learning_rate:g}",
        "both modes": "{recovery_rate:.0%} {recovery_interval:%}",
        "KL": "{median_spread_kl}",
        f"KL at {reference}": "{spread_kl_at_reference}",
        "energy": "{median_energy_distance}",
        "late std": "{median_late_loss_std}",
        "max rise": "{median_max_loss_rise}",
        "broken": "{nonfinite_rate:.0%}",
    }
    print_table(
        f"two modes, {settings.seeds} seeds a cell, {settings.steps:,} steps",
        list(columns),
        [[fill(template, cell) for template in columns.values()] for cell in cells],
        caption="medians over seeds; 95 % Wilson interval; spread KL in nats, at the cell's own "
        f"σ_fix and at {reference} for all; energy distance in data units",
    )


if __name__ == "__main__":
    main(Settings, run)
