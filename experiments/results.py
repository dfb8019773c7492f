"""Remakes the tables and figures that README and docs show, and says which numbers moved."""

import dataclasses
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from experiments import command
from experiments.baselines import recovery_text

ROOT = Path(__file__).parents[1]
Metrics = dict[str, Any]

RUNS = {
    **{f"toy-{s}": f"toy --seeds 256 --sigma-fix {s}" for s in ("0.03", "0.1", "0.3", "0.5")},
    "defaults": "toy --seeds 64",
    "signed": "toy --seeds 64 --signed-latent",
    "fast": "toy --seeds 64 --learning-rate 1e-2 --steps 5000",
    "narrow": "toy --seeds 64 --initial-log-var -5",
    "wide-tanh": "toy --seeds 64 --hidden 64 64 --activation tanh --steps 5000 "
    "--initial-log-var 0 --no-zero-log-var-kernel",
    "wide-relu": "toy --seeds 64 --hidden 64 64 --learning-rate 1e-2 --steps 5000 "
    "--initial-log-var 0 --no-zero-log-var-kernel",
    "baselines": "baselines",
}
"""Every run that a page shows: its name, and the command after ``python -m experiments.``."""


def row(*cells: object) -> str:
    return "| " + " | ".join(map(str, cells)) + " |"


def head(*titles: str) -> list[str]:
    return [row(*titles), "|" + "---|" * len(titles)]


def found(arm: Metrics) -> str:
    return f"{sum(arm['recovered'])} of {len(arm['recovered'])}"


def toy_table(runs: dict[str, Metrics]) -> str:
    plain = runs["toy-0.1"]["arms"]["vae"]
    lines = head("σ_fix", "both modes found", "median spread KL, nats", "late loss std, nats")
    lines.append(row("0 (plain VAE)", found(plain), "", f"{plain['median_late_loss_std']:.2f}"))
    for name in ("toy-0.03", "toy-0.1", "toy-0.3", "toy-0.5"):
        arm = runs[name]["arms"]["spread_vae"]
        kl, std = arm["median_spread_kl"], arm["median_late_loss_std"]
        lines.append(row(name.removeprefix("toy-"), found(arm), f"{kl:.4f}", f"{std:.3f}"))
    return "\n".join(lines)


def settings_table(runs: dict[str, Metrics]) -> str:
    lines = head("flags", "plain VAE: found both", "late loss std", "largest rise", "spread VAE")
    for name in ("defaults", "signed", "fast", "narrow", "wide-tanh", "wide-relu"):
        flags = RUNS[name].removeprefix("toy --seeds 64").strip()
        plain, spread = runs[name]["arms"]["vae"], runs[name]["arms"]["spread_vae"]
        std, rise = plain["median_late_loss_std"], plain["median_max_loss_rise"]
        lines.append(
            row(
                f"`{flags}`" if flags else "(defaults)",
                found(plain),
                f"{std:.1f}",
                f"{rise:.0f}",
                found(spread),
            )
        )
    return "\n".join(lines)


def arms_table(runs: dict[str, Metrics]) -> str:
    """Two modes with fresh data; σ_x and W2 at each data std."""
    from spread_jax.figures import ARMS

    rows = [r for r in runs["baselines"]["rows"] if r["data_std"] and not r["data_size"]]
    stds = list(dict.fromkeys(r["data_std"] for r in rows))
    lines = head("", *(f"std {s:g}: σ_x, found both, W2" for s in stds))
    for arm in dict.fromkeys(r["arm"] for r in rows):
        cells = [next(r for r in rows if (r["arm"], r["data_std"]) == (arm, s)) for s in stds]
        texts = [
            f"{r['sigma_x']:.4f}, {r['recovery_rate']:.0%}, {r['wasserstein']:.4f}" for r in cells
        ]
        lines.append(row(ARMS[arm].label, *texts))
    truths = [next(r["wasserstein_truth"] for r in rows if r["data_std"] == s) for s in stds]
    lines.append(
        row(
            "*truth against truth*",
            *(f"{s:g}, , {w:.4f}" for s, w in zip(stds, truths, strict=True)),
        )
    )
    return "\n".join(lines)


def bias_table(runs: dict[str, Metrics]) -> str:
    rows = {
        r["arm"]: r
        for r in runs["baselines"]["rows"]
        if r["data_std"] == 0.05 and not r["data_size"]
    }
    lines = head("data std 0.05, σ_fix 0.1", "predicted σ_x", "learned σ_x", "found both")
    for arm, name in (
        ("variance_floor", "floor only (σ_fix on the model)"),
        ("noise_only", "noise only (σ_fix on the data)"),
        ("spread_vae", "spread (on both)"),
        ("spread_annealed", "spread, σ_fix annealed to a tenth"),
    ):
        r = rows[arm]
        lines.append(
            row(name, f"{r['sigma_x_predicted']:.4f}", f"{r['sigma_x']:.4f}", recovery_text(r))
        )
    return "\n".join(lines)


def curves_table(runs: dict[str, Metrics]) -> str:
    from spread_jax.figures import ARMS

    rows = [r for r in runs["baselines"]["rows"] if r["data"] in ("ring", "spiral")]
    lines = head("", "ring: W2, energy distance, off data", "spiral: W2, energy distance, off data")
    for arm in dict.fromkeys(r["arm"] for r in rows):
        cells = [
            next(r for r in rows if (r["arm"], r["data"]) == (arm, d)) for d in ("ring", "spiral")
        ]
        texts = [
            f"{r['wasserstein']:.3f}, {r['energy_distance']:.3f}, {r['off_manifold']:.3f}"
            for r in cells
        ]
        lines.append(row(ARMS[arm].label, *texts))
    truths = [next(r for r in rows if r["data"] == d) for d in ("ring", "spiral")]
    texts = [f"{r['wasserstein_truth']:.3f}, {r['energy_distance_truth']:.3f}, 0" for r in truths]
    lines.append(row("*truth against truth*", *texts))
    return "\n".join(lines)


class Table(NamedTuple):
    """A table between ``<!-- NAME -->`` and ``<!-- end -->`` of a page.

    Attributes:
      page: relative to the root.
      runs: names in RUNS that it needs.
      text: their metrics by name → the table in Markdown.
    """

    page: str
    runs: tuple[str, ...]
    text: Callable[[dict[str, Metrics]], str]


TOY = tuple(name for name in RUNS if name.startswith("toy-"))
SETTINGS = ("defaults", "signed", "fast", "narrow", "wide-tanh", "wide-relu")
TABLES = {
    "toy": Table("README.md", TOY, toy_table),
    "settings": Table("README.md", SETTINGS, settings_table),
    "bias": Table("README.md", ("baselines",), bias_table),
    "arms": Table("docs/results.md", ("baselines",), arms_table),
    "curves": Table("docs/results.md", ("baselines",), curves_table),
}
FIGURES = {
    "loss.png": ("toy-0.1", "loss.png"),
    "samples.png": ("toy-0.1", "samples.png"),
    "baselines.png": ("baselines", "baselines.png"),
    "curves.png": ("baselines", "curves.png"),
}
"""docs/images → the run it is made by, and its name there."""


@dataclasses.dataclass(frozen=True)
class Settings:
    """Remakes the tables and figures that README and docs show, from their commands, and says which
    numbers moved. All of them take about an hour on two cores."""

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
        out = settings.out / name
        if settings.keep and (out / "metrics.json").exists():
            continue
        print(f"{i + 1}/{len(made)}: python -m experiments.{RUNS[name]}", flush=True)
        arguments = ["-m", f"experiments.{RUNS[name].split()[0]}", *RUNS[name].split()[1:]]
        log = settings.out / f"{name}.txt"
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("w") as log_file:
            done = subprocess.run(
                [sys.executable, *arguments, "--out", str(out.resolve()), "--quiet"],
                cwd=ROOT,
                stdout=log_file,
                stderr=subprocess.STDOUT,
            )
        command.require(done.returncode == 0, f"{name}:", f"failed, see {log}", "a run that ends")
    metrics = {
        name: json.loads((settings.out / name / "metrics.json").read_text())
        for name in RUNS
        if (settings.out / name / "metrics.json").exists()
    }
    for name, table in TABLES.items():
        if all(run in metrics for run in table.runs):
            remake(settings, name, table, table.text(metrics))
    for image, (name, file) in FIGURES.items():
        made_here = settings.out / name / file
        if made_here.exists():
            shutil.copy(made_here, settings.out / image)
            if settings.update:
                shutil.copy(made_here, ROOT / "docs/images" / image)
    print(f"written to {settings.out}/")


def remake(settings: Settings, name: str, table: Table, text: str) -> None:
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
