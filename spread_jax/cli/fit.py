"""The command that makes a model of the user's own data, and a page about it."""

import dataclasses
import hashlib
import json
import shutil
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from spread_jax.cli.command import start_jax
from spread_jax.cli.output import OutputFolder, jax_environment, json_values
from spread_jax.cli.reading import ReadingSettings, read, say_assumption
from spread_jax.cli.settings import BadInputError, require, require_positive, require_seeds
from spread_jax.cli.tables import number_text
from spread_jax.progress import stage_line

if TYPE_CHECKING:
    from spread_jax.fitted import Fitted

FEWEST_TO_HOLD_OUT = 50  # rows; with fewer all are needed to learn from
HELD_OUT, MOST_HELD_OUT = 0.1, 3_000


@dataclasses.dataclass(frozen=True)
class Settings(ReadingSettings):
    """Fits a model to a table or to images, and writes the model and a page about it, report.html.
    Then `spread-jax sample` draws clean rows like those of the file."""

    file: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="FILE")] = tyro.MISSING
    """A table (.csv, .tsv, also .gz, .parquet, .npy); images (a folder of .png, .jpg and so on of
    one size, .npy [n, height, width] or [n, height, width, 3], .npz, IDX, a folder of MNIST's
    files); a folder of .npy or .parquet files; or a name (digits, mnist-5k, mnist)."""
    out: Path = Path("model")
    """Folder for the model and the page."""
    steps: int | None = None
    """Number of optimizer steps. By default 20 epochs, but at least 3,000 and at most 10,000."""
    seeds: int = 3
    """Number of independent runs. They are trained together, and the run that is best on validation
    rows is kept."""
    seed: int = 0
    """Seed of everything that is random."""
    sigma_fix: float | None = None
    """Standard deviation of the noise at the first step, in pixels in [0, 1], or for a table in
    standard deviations of a column. By default the data suggest it."""
    noise_end: float = 0.05
    """Share of sigma_fix that is left at the end."""
    latent_dim: int | None = None
    """Dimension of z. By default the data suggest it."""
    latent_sizes: tuple[int, ...] = ()
    """Numbers of components of the prior, one of which is chosen. By default 1 to 200."""
    hidden: tuple[int, ...] = ()
    """Widths of the hidden layers. By default 400 for images, and 128 128 for a table."""
    network: Literal["mlp", "conv"] = "mlp"
    """Dense layers, or (for images only) two convolutions in the encoder and two in the decoder."""
    variance: Literal["none", "shared", "each"] = "none"
    """Variance of the decoder: none (it is deterministic), shared by all columns, or one for
    each."""
    batch_size: int = 128
    """Rows per step."""
    learning_rate: float = 1e-3
    """Adam's learning rate."""
    json: bool = False
    """Print one JSON object instead of a report."""
    quiet: bool = False
    """Show no progress."""
    no_compilation_cache: bool = False
    """Do not keep compiled programs in the user's cache folder."""

    def check(self) -> None:
        super().check()
        require_seeds(self.seeds, self.seed)
        whole = {"--steps": self.steps, "--latent-dim": self.latent_dim}
        whole |= {"--batch-size": self.batch_size}
        for flag, value in whole.items():
            require(value is None or value >= 1, flag, value, "at least 1")
        for flag, values in (("--hidden", self.hidden), ("--latent-sizes", self.latent_sizes)):
            shown = " ".join(map(str, values))
            require(all(value >= 1 for value in values), flag, shown, "at least 1 each")
        if self.sigma_fix is not None:
            require_positive("--sigma-fix", self.sigma_fix)
        require(0 < self.noise_end <= 1, "--noise-end", self.noise_end, "above 0, at most 1")
        require_positive("--learning-rate", self.learning_rate)


def run(settings: Settings) -> None:
    """Writes the model, report.html, figures and, last, metrics.json; prints what was found."""
    started = time.perf_counter()
    assumed = list[str]()

    def on_assumption(assumption: str) -> None:
        assumed.append(assumption)
        say_assumption(assumption)

    with stage_line(settings.quiet) as on_stage:
        on_stage("reading")
        data = read(settings, settings.file, on_assumption)
    for note in notes_on(data):
        assumed.append(note)
        print(f"note: {note}", file=sys.stderr)
    output = OutputFolder(settings.out)
    start_jax(settings)
    import jax

    import spread_jax as sj
    from spread_jax.models.fitted_latent import SIZES

    fit_key, report_key = jax.random.split(jax.random.key(settings.seed))
    config = dataclasses.asdict(settings)
    # other settings begin anew, the same ones go on
    key = hashlib.sha256(json.dumps(json_values(config)).encode()).hexdigest()[:16]
    unfinished = settings.out / "unfinished"
    try:
        to_fit, to_report, are_held_out = parts(data)
        fitted = sj.fit(
            fit_key,
            to_fit,
            sigma_fix=settings.sigma_fix,
            noise_end=settings.noise_end,
            variance=settings.variance,
            latent_dim=settings.latent_dim,
            latent_sizes=settings.latent_sizes or SIZES,
            hidden=settings.hidden or None,
            network=settings.network,
            num_steps=settings.steps,
            num_seeds=settings.seeds,
            batch_size=settings.batch_size,
            learning_rate=settings.learning_rate,
            checkpoints=unfinished / key,
            quiet=settings.quiet,
        )
    except KeyboardInterrupt:
        print("stopped; the same command goes on from its last checkpoint", file=sys.stderr)
        raise SystemExit(130) from None
    except ValueError as error:
        says_what = str(error).startswith("must be ")
        accepted = str(error).removeprefix("must be ")
        accepted = accepted if says_what else f"data that can be used: {error}"
        raise BadInputError("FILE", settings.file, accepted) from None
    fitted.save(settings.out)
    rows = "a tenth of the rows is held out for the numbers"
    rows = rows if are_held_out else "there are few rows: the numbers are of those trained on"
    report = fitted.report(report_key, to_report, [*assumed, rows])
    report.save(settings.out)
    found = {
        "columns": [name for name, _, _ in report.columns],
        "assumptions": report.assumptions,
        "choices": fitted.choices,
        "numbers": report.numbers,
    }
    environment = jax_environment(started, 0.0)
    shutil.rmtree(unfinished)
    output.write_metrics({"config": config, "environment": environment, **found})
    if settings.json:
        print(json.dumps(json_values(found), allow_nan=False))
    else:
        print_found(settings, fitted, found)


def notes_on(data: Any) -> list[str]:
    """What is to be said of rows that set a column's scale; nothing of images."""
    from spread_jax.data import Dataset
    from spread_jax.data.numbers import numbers_of
    from spread_jax.data.rare_rows import notes_on_rare_rows
    from spread_jax.data.sources import is_source

    if isinstance(data, Dataset) or is_source(data) or data.ndim != 2:
        return []
    try:
        return notes_on_rare_rows(numbers_of(data, leave_out_text=True))
    except ValueError:  # no column is numeric, or fit refuses the data with its own words
        return []


def parts(data: Any) -> tuple[Any, Any, bool]:
    """What to fit, the rows to report on, and whether these are held out."""
    import numpy as np

    from spread_jax.data import Dataset
    from spread_jax.data.sources import Rows, RowsBut, is_source

    if isinstance(data, Dataset):
        test = data.test if data.shape is None else data.test.reshape(-1, *data.shape)
        return data, test, True
    if len(data) < FEWEST_TO_HOLD_OUT:
        data = Rows(data).as_given(np.arange(len(data))) if is_source(data) else data
        return data, data, False
    count = min(round(HELD_OUT * len(data)), MOST_HELD_OUT)
    if is_source(data):
        rows = Rows(data)
        held_out = np.sort(np.random.default_rng(0).choice(len(rows), count, replace=False))
        return RowsBut(rows, held_out), rows.as_given(held_out), True
    held_out, rest = np.split(np.random.default_rng(0).permutation(len(data)), [count])
    of = data.iloc if hasattr(data, "iloc") else data
    return of[np.sort(rest)], of[np.sort(held_out)], True


def print_found(settings: Settings, fitted: "Fitted", found: dict[str, Any]) -> None:
    """The report on the terminal."""
    from spread_jax.data.tables import Table

    rows, choices, numbers = fitted.choices["rows"], found["choices"], found["numbers"]
    num_rows = rows["train"] + rows["validation"]
    print(f"{settings.file}: {num_rows:,} rows to train and choose by")
    for assumption in found["assumptions"]:
        print(f"  - {assumption}")
    last = choices["sigma_fix"] * choices["noise_end"]
    runs = "1 run" if choices["num_seeds"] == 1 else f"{choices['num_seeds']} runs"
    print(
        f"trained: {runs} of {choices['num_steps']:,} steps, "
        f"noise from {choices['sigma_fix']:.3g} to {last:.3g}, z of "
        f"{fitted.architecture['latent_dim']} numbers, a prior of "
        f"{choices['latent_components']} components"
    )
    halves = number_text(numbers["energy_distance_of_two_halves"])
    print(
        f"samples: energy distance {number_text(numbers['energy_distance'])} from the data; "
        f"between two halves of the data {halves}"
    )
    print(f"written to {settings.out}/: open {settings.out}/report.html")
    rows_file = "rows.csv" if isinstance(fitted.transform, Table) else "rows.npy"
    print(f"more rows: spread-jax sample {settings.out} -n 500 --out {rows_file}")
