"""The command that reads a table, diagnoses it, and says which σ_fix to start from."""

import dataclasses
import json
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tyro

from spread_jax.cli.output import OutputFolder, host_environment, strict
from spread_jax.cli.settings import BadInputError, require
from spread_jax.progress import stage_line

if TYPE_CHECKING:
    from spread_jax.data import Diagnosis, SuggestedSigma


@dataclasses.dataclass(frozen=True)
class Settings:
    """Is this data degenerate, will a learned-variance likelihood run away on it, and which
    sigma_fix to start from?"""

    file: tyro.conf.Positional[Path]
    """Table of finite numbers, rows are points: .npy, .npz with one array, .csv, .parquet, or IDX
    (the format of MNIST, also .gz)."""
    json: bool = False
    """Print one JSON object instead of a table."""
    out: Path = Path("outputs/diagnose")
    """Folder for the results."""
    quiet: bool = False
    """Show no progress."""

    def check(self) -> None:
        """Raises BadInputError if the file is not there."""
        # not file.exists(), which raises where a name is too long
        require(os.path.exists(self.file), "FILE", self.file, "a file that exists")


def run(settings: Settings) -> None:
    """Writes diagnosis.png and metrics.json, and prints the report or the JSON."""
    started = time.perf_counter()
    from spread_jax.data import DataFileError, diagnose, read_table, standardize, suggest_sigma
    from spread_jax.figures.diagnosis import diagnosis_figure

    with stage_line(settings.quiet) as on_progress:
        on_progress("reading")
        try:
            x = read_table(settings.file)
        except DataFileError as error:
            raise BadInputError("FILE", error.path, error.accepted) from None
        output = OutputFolder(settings.out)
        diagnosis, standardized = diagnose(x, on_progress), None
        if diagnosis.suggested_sigma:
            on_progress("the scale of the standardized columns")
            standardized = suggest_sigma(standardize(x)[0])
        on_progress("drawing")
        output.write_figure("diagnosis.png", diagnosis_figure(diagnosis))
    findings = as_json(diagnosis, standardized)
    environment = host_environment(started, ("numpy", "scipy", "scikit-learn"))
    config = dataclasses.asdict(settings)
    output.write_metrics({"config": config, "environment": environment, **findings})
    if settings.json:
        print(json.dumps(strict(findings), allow_nan=False))
        return
    print(f"{settings.file}: {diagnosis.rows:,} rows, {diagnosis.dim:,} columns")
    print(f"verdict: {diagnosis.verdict}", *diagnosis.reasons, sep="\n  - ")
    sigma = diagnosis.suggested_sigma
    if sigma is None or standardized is None:
        print("sigma_fix: none to suggest, nothing varies")
    else:
        print(f"sigma_fix to start from, in the data's units: {sigma.low:.3g} to {sigma.high:.3g}")
        print(f"  - {sigma.low:.3g}: {sigma.why_low}")
        print(f"  - {sigma.high:.3g}: {sigma.why_high}")
        print(
            "  for standardized columns, which experiments.fit makes of a table: "
            f"{standardized.low:.3g} to {standardized.high:.3g}"
        )
    print(f"written to {output.path}/")


def as_json(diagnosis: "Diagnosis", standardized: "SuggestedSigma | None") -> dict[str, Any]:
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
        "suggested_sigma_standardized": standardized and standardized[:2],
    }
