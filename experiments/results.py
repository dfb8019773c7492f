"""Remakes the tables and figures that README and docs show, and says which numbers moved."""

import dataclasses
import json
import shutil
import subprocess
import sys
from pathlib import Path

from experiments import command
from experiments.shown import FIGURES, RUNS, TABLES, Table

ROOT = Path(__file__).parents[1]


@dataclasses.dataclass(frozen=True)
class Settings:
    """Remakes the tables and figures that README and docs show, from their commands, and says which
    numbers moved. All of them take more than an hour on two cores."""

    only: tuple[str, ...] = ()
    """Runs to make; none: all that are shown."""
    keep: bool = False
    """Do not repeat a run whose results are already under --out."""
    update: bool = False
    """Write what was made into README and docs."""
    out: Path = Path("outputs/results")
    """Folder for the results, one folder per run."""

    def check(self) -> None:
        for name in self.only:
            command.require(name in RUNS, "--only", name, "one of " + ", ".join(RUNS))


def run(settings: Settings) -> None:
    made = settings.only or tuple(RUNS)
    for i, name in enumerate(made):
        line = f"{i + 1}/{len(made)}: python -m {RUNS[name].command}"
        if settings.keep and (settings.out / name / RUNS[name].metrics).exists():
            continue
        if not RUNS[name].has_what_it_needs():
            print(f"{line}: left out, it needs {RUNS[name].needs}")
            continue
        print(line, flush=True)
        remake_run(name, settings.out)
    metrics = {
        name: json.loads((settings.out / name / run.metrics).read_text())
        for name, run in RUNS.items()
        if (settings.out / name / run.metrics).exists()
    }
    for name, table in TABLES.items():
        if all(run in metrics for run in table.runs):
            remake_table(settings, name, table, table.text(metrics))
    for image, (name, file) in FIGURES.items():
        made_here = settings.out / name / file
        if made_here.exists():
            shutil.copy(made_here, settings.out / image)
            if settings.update:
                shutil.copy(made_here, ROOT / "docs/images" / image)
    print(f"written to {settings.out}/")


def remake_run(name: str, out: Path) -> None:
    log = out / f"{name}.txt"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w") as log_file:
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                *RUNS[name].command.split(),
                "--out",
                str((out / name).resolve()),
            ],
            cwd=ROOT,
            stdout=log_file,
            stderr=subprocess.STDOUT,
        )
    command.require(done.returncode == 0, f"{name}:", f"failed, see {log}", "a run that ends")


def remake_table(settings: Settings, name: str, table: Table, text: str) -> None:
    """Writes a table, says how it differs from the page's, and with --update puts it there."""
    (settings.out / f"{name}.md").write_text(text + "\n")
    page = ROOT / table.page
    before, shown, after = around_table(page.read_text(), name)
    moved = differences(shown, text)
    print(f"{table.page}, {name}: " + ("as shown" if not moved else f"{len(moved)} rows moved"))
    for line in moved:
        print(f"  {line}")
    if settings.update:
        page.write_text(f"{before}{text}\n{after}")


def around_table(page: str, name: str) -> tuple[str, str, str]:
    """A page before a table, the table, and the page after it, its marks outside."""
    mark = f"<!-- {name} -->\n"
    before, found, rest = page.partition(mark)
    table, end, after = rest.partition("<!-- end -->")
    if not found or not end:
        raise ValueError(f"no table {name} between <!-- {name} --> and <!-- end -->")
    return before + mark, table.removesuffix("\n"), end + after


def differences(shown: str, made: str) -> list[str]:
    """Row by row, ``was → is``."""
    old, new = shown.splitlines(), made.splitlines()
    length = max(len(old), len(new))
    old, new = (lines + ["(nothing)"] * (length - len(lines)) for lines in (old, new))
    return [f"{was}  →  {now}" for was, now in zip(old, new, strict=True) if was != now]


if __name__ == "__main__":
    command.main(Settings, run)
