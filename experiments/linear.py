"""Deterministic linear models by EM: ordinary EM freezes as the noise vanishes, spread EM not."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spread_jax.cli.command import main, start_jax
from spread_jax.cli.output import OutputFolder
from spread_jax.cli.settings import (
    require,
    require_distinct,
    require_non_negative,
    require_positive,
    require_seeds,
)
from spread_jax.cli.tables import number_text, print_table
from spread_jax.progress import stage_line

if TYPE_CHECKING:
    import xarray as xr

RECORDS = 50  # as spread_jax.linear_comparison has, whose import would bring JAX


@dataclasses.dataclass(frozen=True)
class Settings:
    """Fits deterministic linear models x = A z by EM: PCA (z Gaussian) and ICA (z Laplace). It
    compares ordinary EM, spread EM with isotropic noise, and spread EM with noise of covariance
    sigma^2 A A^T, which follows the model, as the observation noise gamma goes to 0."""

    points: int = 20_000
    """Data points of a run."""
    observed: int = 20
    """Dimension of x."""
    latent: int = 10
    """Dimension of z."""
    gamma: tuple[float, ...] = (1.0, 0.3, 0.1, 0.01, 0.001, 0.0)
    """Standard deviations of the observation noise, in data units."""
    iterations: int = 500
    """EM iterations of every method. The number must be a multiple of 50."""
    sigma: float = 1.0
    """Standard deviation of the isotropic spread, in data units."""
    structured_sigma: float = 0.5
    """Standard deviation of the structured spread, in units of z. It is halved for the last 8 % of
    the iterations."""
    batch_size: int = 500
    """Points per iteration for the methods that sample z: ICA by ordinary and by isotropic EM."""
    samples: int = 20
    """Importance samples of z per point."""
    seeds: int = 16
    """Number of seeds: independent runs (A, data, start, noise)."""
    seed: int = 0
    """The first seed. Run i starts from key(seed + i)."""
    out: Path = Path("outputs/linear")
    """Folder for the results."""
    quiet: bool = False
    """Show no progress."""
    no_compilation_cache: bool = False
    """Do not keep compiled programs in the user's cache folder."""

    def check(self) -> None:
        latent, observed, points = self.latent, self.observed, self.points
        require(latent >= 1, "--latent", latent, "at least 1")
        accepted = f"at least the latent dimension, {latent}"
        require(observed >= latent, "--observed", observed, accepted)
        accepted = f"at least ten times the observed dimension, {10 * observed}"
        require(points >= 10 * observed, "--points", points, accepted)
        for gamma in self.gamma:
            require_non_negative("--gamma", gamma, "data units")
        require_distinct("--gamma", self.gamma)
        whole = self.iterations >= RECORDS and self.iterations % RECORDS == 0
        accepted = f"a multiple of {RECORDS}, at least {RECORDS}"
        require(whole, "--iterations", self.iterations, accepted)
        require_positive("--sigma", self.sigma, "data units")
        require_positive("--structured-sigma", self.structured_sigma, "units of z")
        accepted = f"between the latent dimension and the points, {latent} to {points}"
        require(latent <= self.batch_size <= points, "--batch-size", self.batch_size, accepted)
        require(self.samples >= 2, "--samples", self.samples, "at least 2")
        require_seeds(self.seeds, self.seed)


def run(settings: Settings) -> None:
    output = OutputFolder(settings.out)
    start_jax(settings)
    from spread_jax import over_seeds
    from spread_jax.figures import convergence_figure, error_against_gamma_figure
    from spread_jax.linear_comparison import compare_linear_models

    numbers = dataclasses.asdict(settings)
    for of_command in ("seeds", "out", "quiet", "no_compilation_cache"):
        del numbers[of_command]
    with stage_line(settings.quiet) as on_stage:
        dataset = compare_linear_models(num_seeds=settings.seeds, **numbers, on_stage=on_stage)
        summary = over_seeds(dataset)
        on_stage("drawing")
        output.write_dataset("results.nc", dataset)
        output.write_figure("error.png", error_against_gamma_figure(summary))
        output.write_figure("convergence.png", convergence_figure(summary, dataset["seconds"]))
    pca = as_json(dataset, "pca", ["eigen_error"])
    ica = as_json(dataset, "ica", ["fastica_error", "effective_sample_size"])
    ica["fastica_unconverged"] = dataset.attrs["fastica_unconverged"]
    output.finish(settings, dataset.attrs["compile_seconds"], {"pca": pca, "ica": ica})
    print_errors(settings, summary.isel(iteration=-1).sel(statistic="middle"))


def as_json(dataset: "xr.Dataset", model: str, others: list[str]) -> dict[str, Any]:
    """After the last iteration: lists over gamma and seed, and the medians over gamma."""
    from spread_jax import over_seeds

    last = dataset.isel(iteration=-1).sel(model=model)
    errors = last["error"].to_dataset("algorithm")
    runs = errors.rename({name: f"{name}_error" for name in errors}).assign(last[others])
    medians = over_seeds(runs).sel(statistic="middle")
    seconds = (last["seconds"] / last["iteration"]).values.tolist()
    return {
        "gamma": dataset["gamma"].values.tolist(),
        **{str(name): values.values.tolist() for name, values in runs.items()},
        **{f"median_{name}": values.values.tolist() for name, values in medians.items()},
        "seconds_per_iteration": dict(zip(errors, seconds, strict=True)),
    }


def print_errors(settings: Settings, medians: "xr.Dataset") -> None:
    from spread_jax.figures.linear import REFERENCES
    from spread_jax.linear_comparison import ALGORITHMS

    for model, (reference, label) in REFERENCES.items():
        errors = medians["error"].sel(model=model).transpose("gamma", "algorithm").values
        others = medians[reference].broadcast_like(medians["gamma"]).values
        print_table(
            f"{model.upper()}: relative error of A, median of {settings.seeds} seeds, "
            f"{settings.iterations} iterations",
            ["γ", *ALGORITHMS.values(), label],
            [
                [f"{gamma:g}", *map(number_text, (*of_gamma, other))]
                for gamma, of_gamma, other in zip(settings.gamma, errors, others, strict=True)
            ],
        )
    ess = float(medians["effective_sample_size"].median())
    print(f"isotropic spread EM: effective sample size {ess:.0%} of {settings.samples}")


if __name__ == "__main__":
    main(Settings, run)
