"""Spreads that learn: noise that maximises the bound's loss while the model minimises it."""

import dataclasses
import functools
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import spread_jax as sj
from spread_jax.cli.command import main, start_jax
from spread_jax.cli.output import OutputFolder
from spread_jax.cli.settings import TrainingSettings, require, require_positive
from spread_jax.cli.tables import fill, print_table
from spread_jax.progress import progress_bar

if TYPE_CHECKING:
    import xarray as xr

TITLES = {"ring": "ring in R^20", "spiral": "spiral in R^20", "digits": "digits"}
NUM_JUDGED = 1000  # clean samples, and held-out points where there are so many
MANIFOLD_DIM = 20


@dataclasses.dataclass(frozen=True)
class Settings(TrainingSettings):
    """Compares learned noise with fixed noise, for a VAE with a deterministic decoder on curves in
    R^20 and on digits. The learned noise has a covariance or an injective mean that maximises the
    loss, with one noise step for k model steps. All arms take the same number of steps."""

    steps: int = 3_000
    """Optimizer steps of a run: those of the model plus those of the noise."""
    hidden: tuple[int, ...] = (64, 64)
    """Widths of the hidden layers of encoder and decoder."""
    data: tuple[Literal["ring", "spiral", "digits"], ...] = ("ring", "spiral", "digits")
    """Data to train on."""
    sigma_fix: float = 0.1
    """Standard deviation of the fixed noise, in data units. Learned noise has the same volume."""
    learning_rate: float = 1e-3
    """Adam's learning rate for the model."""
    noise_learning_rate: float = 1e-3
    """Adam's learning rate for the noise."""
    model_steps: int = 5
    """Number of model steps for each noise step."""
    out: Path = Path("outputs/learned_spread")
    """Folder for the results."""

    def check(self) -> None:
        super().check()
        once = len(self.data) > 0 and len(set(self.data)) == len(self.data)
        require(once, "--data", " ".join(self.data), "one name or more, each once")
        require_positive("--sigma-fix", self.sigma_fix, "data units")
        require_positive("--learning-rate", self.learning_rate)
        require_positive("--noise-learning-rate", self.noise_learning_rate)
        require(self.model_steps >= 1, "--model-steps", self.model_steps, "at least 1")


def load(name: str) -> "tuple[sj.Dataset, int]":
    """The data, and the dimension of z."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    if name == "digits":
        return sj.load_dataset("digits"), 8
    problem = {"ring": sj.problems.ring, "spiral": sj.problems.spiral}[name]()
    rotation_key, data_key = jax.random.split(jax.random.key(0))
    plane = problem.dataset(data_key, held_out=NUM_JUDGED)
    train, validation, test = (
        np.asarray(sj.embed(rotation_key, jnp.asarray(x), MANIFOLD_DIM))
        for x in (plane.train, plane.validation, plane.test)
    )
    return plane._replace(train=train, validation=validation, test=test), 2


def arms(
    settings: Settings, dim: int, latent_dim: int
) -> "Iterator[tuple[str, str, sj.Model, sj.Training]]":
    """Each arm's label, colour, model and training."""
    import optax

    from spread_jax.models import learned_spread as learned

    vae = sj.make_vae(dim, latent_dim=latent_dim, hidden=settings.hidden, variance="none")
    sigma, rates = settings.sigma_fix, (settings.learning_rate, settings.noise_learning_rate)
    fixed, min_max = optax.adam(rates[0]), learned.min_max_adam(*rates, settings.model_steps)
    models: list[tuple[str, str, sj.Model, Any]] = [
        ("fixed N(0, σ² I)", "#666666", vae, fixed),
        ("learned covariance", "#0072B2", learned.learned_covariance_vae(vae, dim, sigma), min_max),
        ("learned mean", "#009E73", learned.learned_mean_vae(vae, dim, sigma), min_max),
    ]
    for label, color, model, optimizer in models:
        training = sj.model_training(
            model,
            sample_batch=sj.rows(settings.batch_size),
            num_steps=settings.steps,
            spread=lambda hyper: sj.gaussian_spread(sigma),
            optimizer=functools.partial(lambda of_arm, hyper: of_arm, optimizer),
        )
        yield label, color, model, training


def run(settings: Settings) -> None:
    output = OutputFolder(settings.out)
    start_jax(settings)
    import xarray as xr

    sweeps: dict[str, sj.Sweep] = {}
    judged = [judge_data(settings, name, sweeps) for name in settings.data]
    output.write_dataset("results.nc", xr.concat(judged, "data", combine_attrs="drop"))
    summaries = [sj.over_seeds(dataset) for dataset in judged]
    output.write_figure("learned.png", sj.figures.learned_figure(judged, summaries))
    if settings.save_params:
        params = {name: runs.stacked_params for name, runs in sweeps.items()}
        output.write_params("params.npz", params)
    results: dict[str, Any] = dict(zip(settings.data, map(as_json, judged), strict=True))
    compile_seconds = sum(runs.compile_seconds for runs in sweeps.values())
    output.finish(settings, compile_seconds, {"data": results})
    print_results(settings, results)


def judge_data(settings: Settings, name: str, sweeps: "dict[str, sj.Sweep]") -> "xr.Dataset":
    """The judged arms; their runs are added to ``sweeps``."""
    import xarray as xr

    data, latent_dim = load(name)
    parts = []
    for label, color, model, training in arms(settings, data.train.shape[1], latent_dim):
        with progress_bar(settings.quiet) as on_progress:
            runs = sj.sweep(
                training,
                [{"arm": label, "label": label, "color": color}],
                num_seeds=settings.seeds,
                seed=settings.seed,
                on_progress=on_progress,
                data=data.train,
            )
        part = sj.judge(
            model,
            runs,
            data,
            [sj.metrics.ENERGY_DISTANCE],
            spread=lambda hyper: sj.gaussian_spread(settings.sigma_fix),
            num_samples=min(NUM_JUDGED, len(data.test)),
            seed=settings.seed,
        )
        parts.append(part)
        sweeps[f"{name}/{label}"] = runs
    return xr.concat(parts, "cell").assign_attrs(data=TITLES[name])


def as_json(dataset: "xr.Dataset") -> dict[str, Any]:
    """Each arm's numbers, and on how many seeds it beats the fixed noise."""
    distance = sj.aggregate.with_worst(dataset["energy_distance"])
    beats = (distance < distance.isel(cell=0)).sum("seed").values.tolist()
    found = {}
    for i, better in enumerate(beats):
        cell = dataset.isel(cell=i)
        numbers = {**sj.aggregate.per_seed_json(cell), **sj.aggregate.over_seeds_json(cell)}
        found[cell["label"].item()] = {**numbers, "seeds_better": better}
    return found


def print_results(settings: Settings, results: dict[str, Any]) -> None:
    labels = list(next(iter(results.values())))
    text = (
        "{median_energy_distance} [{energy_distance_interval[0]}, {energy_distance_interval[1]}]; "
        f"{{seeds_better}} of {settings.seeds}"
    )
    print_table(
        f"energy distance of clean samples to test points, {settings.seeds} seeds, "
        f"{settings.steps:,} steps, sigma_fix {settings.sigma_fix:g}",
        ["", *labels],
        [[TITLES[name], *(fill(text, a) for a in arms.values())] for name, arms in results.items()],
        caption="median and its 95 % interval, data units; seeds that beat the fixed noise",
        width=120,
    )


if __name__ == "__main__":
    main(Settings, run)
