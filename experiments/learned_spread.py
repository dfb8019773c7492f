"""Spreads that learn: noise that maximises the spread KL while the model minimises it."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import spread_jax as sj
from spread_jax.cli.command import main, start_jax
from spread_jax.cli.output import OutputFolder
from spread_jax.cli.settings import TrainingSettings, require, require_distinct, require_positive
from spread_jax.cli.tables import fill, print_table
from spread_jax.progress import progress_bar

if TYPE_CHECKING:
    import xarray as xr

TITLES = {"ring": "ring in R^20", "spiral": "spiral in R^20", "digits": "digits", "mnist": "MNIST"}
MANIFOLD_DIM = 20


@dataclasses.dataclass(frozen=True)
class Settings(TrainingSettings):
    """Compares learned noise with fixed noise, for a VAE with a deterministic decoder on curves in
    R^20 and on images. The learned noise has a covariance or an injective mean that maximises the
    spread KL, with one noise step for k model steps. All arms take the same number of steps."""

    steps: int = 3_000
    """Optimizer steps of a run: those of the model plus those of the noise."""
    hidden: tuple[int, ...] = (64, 64)
    """Widths of the hidden layers of encoder and decoder."""
    data: tuple[Literal["ring", "spiral", "digits", "mnist"], ...] = ("ring", "spiral", "digits")
    """Data to train on; mnist needs the environment variable MNIST_DIR."""
    latent_dim: int | None = None
    """Dimension of z. By default it is 2 on the curves and 8 on images."""
    sigma_fix: float = 0.1
    """Standard deviation of the fixed noise, in data units. Learned noise has the same volume."""
    noise_end: float = 1.0
    """Last noise as a share of the first. Below 1 an arm whose noise falls in steps is added."""
    learning_rate: float = 1e-3
    """Adam's learning rate for the model."""
    noise_learning_rate: tuple[float, ...] = (1e-3,)
    """Adam's learning rates for the noise, each an arm of its own."""
    entropy_share: tuple[float, ...] = (1.0,)
    """1: the noise climbs the spread KL, without the entropy of the spread data; 0: -ELBO."""
    model_steps: int = 5
    """Number of model steps for each noise step."""
    latent_sizes: tuple[int, ...] = ()
    """Numbers of components of a fitted latent, with which samples are judged too."""
    out: Path = Path("outputs/learned_spread")
    """Folder for the results."""

    def check(self) -> None:
        super().check()
        require_distinct("--data", self.data)
        require_positive("--sigma-fix", self.sigma_fix, "data units")
        require(0 < self.noise_end <= 1, "--noise-end", self.noise_end, "above 0, at most 1")
        require_positive("--learning-rate", self.learning_rate)
        for rate in self.noise_learning_rate:
            require_positive("--noise-learning-rate", rate)
        require(self.model_steps >= 1, "--model-steps", self.model_steps, "at least 1")


def load(name: str) -> "tuple[sj.Dataset, int]":
    """The data, and the dimension of z."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    if name in ("digits", "mnist"):
        return sj.load_dataset(name), 8
    problem = {"ring": sj.problems.ring, "spiral": sj.problems.spiral}[name]()
    rotation_key, data_key = jax.random.split(jax.random.key(0))
    plane = problem.dataset(data_key, held_out=1000)
    train, validation, test = (
        np.asarray(sj.embed(rotation_key, jnp.asarray(x), MANIFOLD_DIM))
        for x in (plane.train, plane.validation, plane.test)
    )
    return plane._replace(train=train, validation=validation, test=test), 2


def run(settings: Settings) -> None:
    output = OutputFolder(settings.out)
    start_jax(settings)
    sweeps: dict[str, sj.Sweep] = {}
    judged = {str(name): judge_data(settings, name, sweeps) for name in settings.data}
    for name, dataset in judged.items():
        output.write_dataset(f"{name}.nc", dataset)
    summaries = [sj.over_seeds(dataset) for dataset in judged.values()]
    output.write_figure("learned.png", sj.figures.learned_figure([*judged.values()], summaries))
    if settings.save_params:
        output.write_params("params.npz", {n: runs.stacked_params for n, runs in sweeps.items()})
    results = {name: as_json(dataset) for name, dataset in judged.items()}
    compile_seconds = sum(runs.compile_seconds for runs in sweeps.values())
    output.finish(settings, compile_seconds, {"data": results})
    print_results(settings, results)


def judge_data(settings: Settings, name: str, sweeps: "dict[str, sj.Sweep]") -> "xr.Dataset":
    """The judged arms; their runs are added to ``sweeps``."""
    data, latent_dim = load(name)
    options = "batch_size sigma_fix noise_end learning_rate noise_learning_rate entropy_share"
    programs = sj.learned_comparison.noise_programs(
        data,
        latent_dim=settings.latent_dim or latent_dim,
        hidden=settings.hidden,
        num_steps=settings.steps,
        model_steps=settings.model_steps,
        **{option: getattr(settings, option) for option in options.split()},
    )
    trained = []
    for program in programs:
        with progress_bar(settings.quiet) as show:
            runs = sj.sweep(
                *(program.training, program.cells),
                num_seeds=settings.seeds,
                seed=settings.seed,
                on_record=show,
                data=data.train,
            )
        trained.append((program, runs))
        sweeps[f"{name}/{program.cells[0]['label']}"] = runs
    return sj.learned_comparison.judge_noise(
        trained,
        data,
        num_samples=min(sj.judgement.MAX_SAMPLES, len(data.test)),
        latent_sizes=settings.latent_sizes,
        seed=settings.seed,
    ).assign_attrs(data=TITLES[name])


def as_json(dataset: "xr.Dataset") -> dict[str, Any]:
    """Each arm's numbers, and on how many seeds it beats the noise that does not learn."""
    better = sj.learned_comparison.seeds_better(dataset)
    found = {}
    for i, label in enumerate(dataset["label"].values.tolist()):
        cell = dataset.isel(cell=i)
        numbers = {**sj.aggregate.per_seed_json(cell), **sj.aggregate.over_seeds_json(cell)}
        found[label] = numbers | {str(name): int(of[i]) for name, of in better.items()}
    return found


def print_results(settings: Settings, results: dict[str, Any]) -> None:
    text = "{median_energy_distance} [{energy_distance_interval[0]}, {energy_distance_interval[1]}]"
    of_learned = f"{text}; {{energy_distance_seeds_better}} of {settings.seeds}"
    texts = [text, *[of_learned] * (len(next(iter(results.values()))) - 1)]  # the first is fixed
    print_table(
        f"energy distance of clean samples to test points, {settings.seeds} seeds, "
        f"{settings.steps:,} steps, sigma_fix {settings.sigma_fix:g}",
        ["", *next(iter(results.values()))],
        [[TITLES[name], *map(fill, texts, arms.values())] for name, arms in results.items()],
        caption="median and its 95 % interval, data units; seeds that beat the fixed noise",
        width=120,
    )


if __name__ == "__main__":
    main(Settings, run)
