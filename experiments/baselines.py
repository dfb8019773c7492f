"""Every honest alternative on equal budgets: is the spread more than a floor, noise, a GAN?"""

import dataclasses
import functools
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import spread_jax as sj
from experiments import baselines_report
from spread_jax.cli.command import main, start_jax
from spread_jax.cli.output import OutputFolder
from spread_jax.cli.settings import TrainingSettings, require, require_positive
from spread_jax.progress import progress_bar

if TYPE_CHECKING:
    import xarray as xr

    from spread_jax.comparison import Program
    from spread_jax.training import OfHyper

QUICK: dict[str, Any] = {"steps": 1_500, "curve_steps": 1_500, "seeds": 4, "num_samples": 200}
MAIN_ARMS = ("vae", "variance_floor", "noise_only", "soft_clip", "spread_vae", "annealed_spread")
# samples of δ-VAEs are two points, as those of fixed_variance are; no latent is fitted here,
# and points have no grey levels
NOT_HERE = ("spread_delta", "annealed_delta", "recipe", "dequantized")


@dataclasses.dataclass(frozen=True)
class Settings(TrainingSettings):
    """Trains the spread VAE and every alternative with the same networks, initialisation, seeds and
    gradient steps. All are judged by clean samples, beside what two true samples score."""

    seeds: int = 64
    """Number of seeds per cell: independent runs (initialisation, data, noise)."""
    steps: int = 6_000
    """Optimizer steps of a run on two modes; the steps of a WGAN's critic count too."""
    curve_steps: int = 4_000
    """Optimizer steps of a run on the ring and on the spiral."""
    sigma_fix: float = 0.1
    """Standard deviation of the noise, the floor or the fixed sigma of an arm, in data units."""
    learning_rate: float = 1e-3
    """Adam's learning rate in all arms."""
    data_std: tuple[float, ...] = (0.02, 0.05, 0.1, 0.3)
    """Standard deviations of a mode, in data units. All arms are trained, on fresh data."""
    data_size: tuple[int, ...] = (100, 1_000, 10_000)
    """Numbers of points of the finite data sets of two modes. The main arms are trained on them."""
    finite_data_std: float = 0.05
    """Standard deviation of a mode of the finite data sets, in data units."""
    num_samples: int = 500
    """Number of clean samples that a run is judged by. It must be even: half are of each mode."""
    quick: bool = False
    """Show all arms within a minute, with 4 seeds and 1,500 steps, before they have converged. This
    flag sets --seeds, --steps, --curve-steps and --num-samples."""
    out: Path = Path("outputs/baselines")
    """Folder for the results."""

    def check(self) -> None:
        super().check()
        for name in QUICK if self.quick else ():
            flag, value = f"--{name.replace('_', '-')}", getattr(self, name)
            accepted = "left out with --quick, which sets it"
            require(value == getattr(Settings, name), flag, value, accepted)
        require(self.curve_steps >= 1, "--curve-steps", self.curve_steps, "at least 1")
        require_positive("--sigma-fix", self.sigma_fix, "data units")
        require_positive("--learning-rate", self.learning_rate)
        require(len(self.data_std) > 0, "--data-std", "(nothing)", "one value or more")
        for data_std in self.data_std:
            require_positive("--data-std", data_std, "data units")
        require_positive("--finite-data-std", self.finite_data_std, "data units")
        for data_size in self.data_size:
            require(data_size >= 1, "--data-size", data_size, "at least 1")
        n = self.num_samples
        require(n >= 2 and n % 2 == 0, "--num-samples", n, "an even number, at least 2")


class Comparison(NamedTuple):
    """Arms, by name, on a law; ``others`` are the law's name and numbers, each a cell of every
    arm."""

    problem: "OfHyper[sj.problems.Problem]"
    arms: tuple[str, ...]
    others: list[dict[str, Any]]
    num_steps: int
    max_data_size: int | None = None  # of finite data sets; None: fresh data at every step

    @property
    def like(self) -> "sj.problems.Problem":
        """The law of the first cell: networks and latents are the same in all."""
        return self.problem(self.others[0])

    @property
    def has_modes(self) -> bool:
        return "data_std" in self.others[0]


def comparisons(settings: Settings) -> list[Comparison]:
    def modes(hyper):
        return sj.problems.two_modes(hyper["data_std"])

    every = tuple(name for name in sj.ARMS if name not in NOT_HERE)
    sizes, steps = settings.data_size, settings.curve_steps
    stds = [{"data": "two_modes", "data_std": std} for std in settings.data_std]
    found = [Comparison(modes, every, stds, settings.steps)]
    if sizes:
        law = {"data": "two_modes", "data_std": settings.finite_data_std}
        cells = [{**law, "data_size": float(size)} for size in sizes]
        found.append(Comparison(modes, MAIN_ARMS, cells, settings.steps, max(sizes)))
    for curve in (sj.problems.ring(), sj.problems.spiral()):
        problem = functools.partial(lambda curve, hyper: curve, curve)
        found.append(Comparison(problem, MAIN_ARMS, [{"data": curve.name}], steps))
    return found


def run(settings: Settings) -> None:
    output = OutputFolder(settings.out)
    if settings.quick:
        settings = dataclasses.replace(settings, **QUICK)
    start_jax(settings)
    compared = comparisons(settings)
    trained = [each for comparison in compared for each in train(settings, comparison)]
    names, sweeps, parts = zip(*trained, strict=True)
    truth = baselines_report.true_samples(settings, compared)
    arms = baselines_report.arms()
    dataset = sj.comparison.together(parts, arms)
    cells = zip(dataset["arm"].values, dataset["data_std"].values, strict=True)
    predicted = [arms[name].predicted_std(std, settings.sigma_fix) for name, std in cells]
    words = {"long_name": "σ_x at the arm's optimum, by theory", "units": "data units"}
    dataset = dataset.assign(predicted=("cell", predicted, words))
    if "data_size" not in dataset:
        dataset = dataset.assign_coords(data_size=dataset["data_std"] * math.nan)
    rows = baselines_report.rows(dataset, truth)

    output.write_dataset("results.nc", dataset)
    if settings.save_params:
        params = [runs.stacked_params for runs in sweeps]
        output.write_params("params.npz", dict(zip(names, params, strict=True)))
    baselines_report.write_figures(output, settings, dataset, truth)
    output.finish(settings, sum(runs.compile_seconds for runs in sweeps), {"rows": rows})
    baselines_report.print_rows(settings, rows)


def programs_of(settings: Settings, comparison: Comparison) -> "list[Program]":
    import jax

    from spread_jax.problems.two_modes import watch_components

    # a GAN's critic is the encoder of two modes: it maps a point to one number
    variances = {"optimal": "none", "gan": "each"}

    def make_model(structure):
        variance = variances.get(structure.variance, structure.variance)
        return comparison.like.vae(
            settings.hidden, variance=variance, sigma_floor=structure.sigma_floor
        )

    def sample_batch(key, data, hyper):
        if data is None:
            return comparison.problem(hyper).sample(key, settings.batch_size)
        size = hyper["data_size"].astype(int)
        return data[jax.random.randint(key, (settings.batch_size,), 0, size)]

    def make_data(key, hyper):
        size = comparison.max_data_size
        return None if size is None else comparison.problem(hyper).sample(key, size)

    return sj.comparison.programs(
        {name: sj.ARMS[name] for name in comparison.arms},
        make_model,
        sigma_fix=[settings.sigma_fix],
        others=[{**other, "learning_rate": settings.learning_rate} for other in comparison.others],
        sample_batch=sample_batch,
        num_steps=comparison.num_steps,
        observe=watch_components if comparison.has_modes else lambda model: lambda params: {},
        make_data=make_data,
    )


def train(
    settings: Settings, comparison: Comparison
) -> "Iterator[tuple[str, sj.Sweep, xr.Dataset]]":
    """Program by program, and the exact optimum where it is known: a name, runs, these judged."""
    import numpy as np

    from spread_jax.problems.deconvolution import deconvolved_runs, two_component_vae

    steps = comparison.num_steps
    for program in programs_of(settings, comparison):
        name = f"{comparison.like.name}: {', '.join(program.arms)}"
        if not settings.quiet:
            print(f"{name}, {len(program.cells)} cells x {settings.seeds} seeds", file=sys.stderr)
        with progress_bar(settings.quiet) as show:
            runs = sj.sweep(
                program.training,
                program.cells,
                num_seeds=settings.seeds,
                seed=settings.seed,
                record_every=steps // math.gcd(steps, 100),
                on_record=show,
            )
        model = program.model._replace(latent=comparison.like.evenly.latent)
        yield name, runs, judge(settings, comparison, model, runs, program.spread)
    if comparison.has_modes:
        cells = [{"arm": "deconvolution", **other} for other in comparison.others]
        seeds = settings.seed + np.arange(settings.seeds)
        runs = deconvolved_runs(cells, settings.sigma_fix, seeds)
        model = two_component_vae(comparison.like.evenly.latent)
        judged = judge(settings, comparison, model, runs, lambda hyper: sj.no_spread())
        yield "deconvolution", runs, judged


def judge(
    settings: Settings,
    comparison: Comparison,
    model: "sj.VAE",
    runs: "sj.Sweep",
    spread: "OfHyper[sj.Spread]",
) -> "xr.Dataset":
    import jax

    from spread_jax.judgement import first_samples
    from spread_jax.problems.two_modes import two_mode_metrics

    n, seed = settings.num_samples, settings.seed
    metrics = sj.problems.problem_metrics(comparison.problem, n)
    if "loss" in runs.dataset:
        metrics.append(sj.metrics.NONFINITE)
    if comparison.has_modes:
        shown = ("recovered", "sigma_x", "position_bias")
        metrics += [metric for metric in two_mode_metrics() if metric.name in shown]
    data = comparison.like.dataset(jax.random.key(0), 2, 2)
    judged = sj.judge(model, runs, data, metrics, spread=spread, num_samples=n, seed=seed)
    samples = first_samples(model, runs, data, n, spread=spread, seed=seed)
    return judged.drop_vars("loss_max", errors="ignore").assign(samples=samples)


if __name__ == "__main__":
    main(Settings, run)
