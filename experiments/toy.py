"""The failure case and its cure: a plain VAE and a spread VAE on two modes of a line."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import spread_jax as sj
from experiments import two_modes
from spread_jax.cli.command import main, start_jax, watchers
from spread_jax.cli.output import OutputFolder
from spread_jax.cli.settings import require_non_negative, require_positive
from spread_jax.cli.tables import fill, print_table

if TYPE_CHECKING:
    import xarray as xr

ARMS = ("vae", "spread_vae")


@dataclasses.dataclass(frozen=True)
class Settings(two_modes.TwoModeSettings):
    """Shows the failure case and its cure: trains a plain VAE (sigma_fix = 0) and a spread VAE on
    two modes of a line in the plane. All seeds of both are one compiled program."""

    sigma_fix: float = 0.1
    """Standard deviation of the noise on data and model, in data units."""
    learning_rate: float = 1e-3
    """Adam's learning rate. It falls to half over the last three tenths of the steps."""
    out: Path = Path("outputs/toy")
    """Folder for the results."""

    def check(self) -> None:
        super().check()
        require_non_negative("--sigma-fix", self.sigma_fix, "data units")
        require_positive("--learning-rate", self.learning_rate)


def run(settings: Settings) -> None:
    output = OutputFolder(settings.out)
    sigma, data_std = settings.sigma_fix, settings.data_std
    two_modes.warn_of_sigma(sigma, data_std)
    start_jax(settings)
    import jax
    import numpy as np

    cure = f"see the arm with --sigma-fix {sigma:g}" if sigma else "--sigma-fix above 0"
    runs = two_modes.train(
        settings, (0.0, sigma), settings.learning_rate, cure=cure, listeners=watchers(settings)
    )
    x = np.asarray(sj.sample_two_modes(jax.random.key(settings.seed), 2000, data_std))
    data = sj.Dataset("two_modes", x, x, x)
    judged = two_modes.judge(settings, runs, ARMS, sigma_fix=sigma)
    model = two_modes.make_model(settings)
    judged["samples"] = sj.judgement.first_samples(model, runs, data, 2000, seed=settings.seed)
    cells = [judged.isel(sigma_fix=i) for i in range(len(ARMS))]
    numbers = [{**per_seed(cell), **two_modes.over_seeds_json(cell)} for cell in cells]
    arms = dict(zip(ARMS, numbers, strict=True))
    # below the entropy of the spread data no spread loss can fall
    truth = sj.problems.two_mode_mixture(data_std)
    floor = sj.oracles.spread_entropy(truth, sigma) if sigma else None

    output.write_dataset("results.nc", judged)
    if settings.save_params:
        output.write_params("params.npz", runs.stacked_params)
    figures = sj.figures
    output.write_figure("data.png", figures.data_figure(x))
    output.write_figure("loss.png", figures.loss_figure(judged, floor))
    output.write_figure("samples.png", figures.samples_figure(x, judged, sj.over_seeds(judged)))
    output.write_figure("sigma.png", figures.sigma_figure(judged, data_std, sigma))
    results = {"trained_runs": runs.trained_runs, "floor": floor, "arms": arms}
    output.finish(settings, runs.compile_seconds, results)
    print_arms(settings, arms)


def per_seed(arm: "xr.Dataset") -> dict[str, Any]:
    last = arm[["mean", "std"]].isel(step=-1).transpose("seed", "component", "dim")
    components = {name: last[name].values.tolist() for name in ("mean", "std")}
    return {**components, **sj.aggregate.per_seed_json(arm)}


def print_arms(settings: Settings, arms: dict[str, dict[str, Any]]) -> None:
    rows = {
        "both modes recovered": "{recovery_rate:.0%} {recovery_interval:%}",
        "exact spread KL, nats": "{median_spread_kl}",
        "late loss std, nats": "{median_late_loss_std}",
        "largest loss rise, nats": "{median_max_loss_rise}",
        "smallest decoder σ": "{median_min_sigma}",
        "runs ever non-finite": "{nonfinite_rate:.0%}",
        "first non-finite step": "{median_first_nonfinite_step}",
    }
    lines = [[row, *(fill(text, arm) for arm in arms.values())] for row, text in rows.items()]
    print_table(
        f"two modes, sigma_fix {settings.sigma_fix:g}, {settings.seeds} seeds, "
        f"{settings.steps:,} steps",
        ["", *(sj.ARMS[name].label for name in arms)],
        [*lines, ["runaway alarm", *map(alarm_text, arms.values())]],
        caption="medians over seeds; 95 % Wilson interval",
    )


def alarm_text(arm: dict[str, Any]) -> str:
    step = arm["median_alarm_step"]
    return f"{arm['alarm_rate']:.0%}" + (f", step {step:,.0f}" if step else "")


if __name__ == "__main__":
    main(Settings, run)
