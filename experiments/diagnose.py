"""Is this data degenerate, will a learned variance run away on it, and which σ_fix to try?"""

import dataclasses
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tyro

from experiments import command

if TYPE_CHECKING:
    from spread_jax.diagnosis import Diagnosis, SuggestedSigma


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
        try:
            exists = self.file.exists()
        except OSError as error:  # a name too long
            raise command.BadInputError("FILE", self.file, str(error.strerror)) from None
        command.require(exists, "FILE", self.file, "a file that exists")


def run(settings: Settings) -> None:
    started = time.perf_counter()
    from spread_jax.diagnosis import diagnose, standardize, suggest_sigma
    from spread_jax.files import DataFileError, read_table

    with command.stage_line(settings.quiet) as on_progress:
        on_progress("reading")
        try:
            x = read_table(settings.file)
        except DataFileError as error:
            raise command.BadInputError("FILE", error.path, error.accepted) from None
        output = command.OutputFolder(settings.out)
        diagnosis = diagnose(x, on_progress)
        standardized = None
        if diagnosis.suggested_sigma:
            on_progress("the scale of the standardized columns")
            standardized = suggest_sigma(standardize(x)[0])
        on_progress("drawing")
        from spread_jax.figures import diagnosis_figure

        output.write_figure("diagnosis.png", diagnosis_figure(diagnosis))
    findings = {
        **as_json(diagnosis),
        "suggested_sigma_standardized": standardized and [standardized.low, standardized.high],
    }
    output.write_metrics(
        {
            "config": command.config(settings),
            "environment": command.host_environment(started, ("numpy", "scipy", "scikit-learn")),
            **findings,
        }
    )
    if settings.json:
        print(json.dumps(command.strict(findings), allow_nan=False))
    else:
        print_report(settings, diagnosis, standardized)
        print(f"written to {output.path}/")


def as_json(diagnosis: "Diagnosis") -> dict[str, Any]:
    intrinsic, sigma = diagnosis.intrinsic_dimension, diagnosis.suggested_sigma
    return {
        **{
            name: getattr(diagnosis, name)
            for name in (
                "verdict",
                "reasons",
                "rows",
                "dim",
                "rank",
                "tolerance",
                "constant_columns",
                "dependent_columns",
                "discrete_columns",
                "duplicate_rows",
            )
        },
        "intrinsic_dimension": intrinsic and intrinsic._asdict(),
        "suggested_sigma": sigma and [sigma.low, sigma.high],
        "suggested_sigma_why": sigma and [sigma.why_low, sigma.why_high],
        "scale": diagnosis.scale.tolist(),
        "distinct_values": diagnosis.distinct_values.tolist(),
        "spectrum": diagnosis.spectrum.tolist(),
    }


def print_report(
    settings: Settings, diagnosis: "Diagnosis", standardized: "SuggestedSigma | None"
) -> None:
    print(f"{settings.file}: {diagnosis.rows:,} rows, {diagnosis.dim:,} columns")
    print(f"verdict: {diagnosis.verdict}")
    for reason in diagnosis.reasons:
        print(f"  - {reason}")
    sigma = diagnosis.suggested_sigma
    if sigma is None:
        print("sigma_fix: none to suggest, nothing varies")
        return
    print(f"sigma_fix to start from, in the data's units: {sigma.low:.3g} to {sigma.high:.3g}")
    print(f"  - {sigma.low:.3g}: {sigma.why_low}")
    print(f"  - {sigma.high:.3g}: {sigma.why_high}")
    if standardized:
        print(
            f"  for standardized columns, which experiments.fit makes of a table: "
            f"{standardized.low:.3g} to {standardized.high:.3g}"
        )


if __name__ == "__main__":
    command.main(Settings, run)
