"""The command that reads a table, diagnoses it, and says which σ_fix to start from."""

import dataclasses
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from spread_jax.cli.output import OutputFolder, host_environment, json_values
from spread_jax.cli.reading import ReadingSettings, read, say_assumption
from spread_jax.cli.settings import BadInputError
from spread_jax.progress import stage_line

if TYPE_CHECKING:
    from spread_jax.data import Diagnosis


@dataclasses.dataclass(frozen=True)
class Settings(ReadingSettings):
    """Says whether data are degenerate, so that a likelihood with a learned variance runs away on
    them, and with which sigma_fix to start."""

    file: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="FILE")] = tyro.MISSING
    """A table (.csv, .tsv, also .gz, .parquet, .npy); images, uint8 or floats in [0, 1] (a
    folder of .png, .jpg and so on of one size, .npy [n, height, width] or [n, height, width, 3],
    .npz, IDX, a folder of MNIST's files); a folder of .npy or .parquet files; or a name (digits,
    mnist-5k, mnist)."""
    json: bool = False
    """Print one JSON object instead of a table."""
    out: Path = Path("outputs/diagnose")
    """Folder for the results."""
    quiet: bool = False
    """Show no progress."""


def run(settings: Settings) -> None:
    """Writes diagnosis.png and metrics.json, and prints the report or the JSON."""
    started = time.perf_counter()
    from spread_jax.data import Dataset, diagnose
    from spread_jax.data.sources import Rows, is_source
    from spread_jax.data.streams import drawn_rows
    from spread_jax.figures.diagnosis import diagnosis_figure

    with stage_line(settings.quiet) as on_progress:
        on_progress("reading")
        x = read(settings, settings.file, say_assumption)
        if isinstance(x, Dataset):
            x = x.train if x.shape is None else x.train.reshape(-1, *x.shape)
        output = OutputFolder(settings.out)
        try:
            if is_source(x):
                num_rows, x = len(x), drawn_rows(Rows(x))
                if len(x) < num_rows:
                    drawn = f"{len(x):,} of {num_rows:,} rows, drawn at random,"
                    say_assumption(f"{drawn} stand for all of them")
            diagnosis = diagnose(x, on_progress)
        except ValueError as error:
            accepted = str(error).removeprefix("must be ")
            raise BadInputError("FILE", settings.file, accepted) from None
        on_progress("drawing")
        output.write_figure("diagnosis.png", diagnosis_figure(diagnosis))
    findings = as_json(diagnosis)
    environment = host_environment(started, ("numpy", "scipy", "scikit-learn"))
    config = dataclasses.asdict(settings)
    output.write_metrics({"config": config, "environment": environment, **findings})
    if settings.json:
        print(json.dumps(json_values(findings), allow_nan=False))
        return
    columns = f"{diagnosis.dim:,} column{'s' * (diagnosis.dim != 1)}"
    print(f"{settings.file}: {diagnosis.rows:,} rows, {columns}")
    print(*suggestion(diagnosis), sep="\n  - ")
    print(f"verdict: {diagnosis.verdict}", *diagnosis.reasons, sep="\n  - ")
    print(f"written to {output.path}/")


def suggestion(diagnosis: "Diagnosis") -> list[str]:
    """Which σ_fix to start with, in one line, and the range about it, each end with its reason."""
    sigma = diagnosis.suggested_sigma
    if sigma is None:
        return ["no σ_fix to start with: nothing varies"]
    return [
        f"start with σ_fix = {diagnosis.start_with:.2g} ({diagnosis.sigma_unit})",
        f"the middle of the range {sigma.low:.3g} to {sigma.high:.3g}, for constant noise; fit, "
        "whose noise falls, starts at the upper end",
        f"{sigma.low:.3g}: {sigma.why_low}",
        f"{sigma.high:.3g}: {sigma.why_high}",
    ]


def as_json(diagnosis: "Diagnosis") -> dict[str, Any]:
    """All findings except the distances, which are too many."""
    found = diagnosis._asdict()
    del found["distances"]
    intrinsic, sigma = diagnosis.intrinsic_dimension, diagnosis.suggested_sigma
    return {
        **found,
        **{name: found[name].tolist() for name in ("scale", "distinct_values", "spectrum")},
        "intrinsic_dimension": intrinsic and intrinsic._asdict(),
        "suggested_sigma": sigma and sigma[:2],
        "suggested_sigma_why": sigma and sigma[2:],
    }
