import subprocess
import sys
from pathlib import Path

import pytest

from experiments import command, results, shown

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("name", shown.TABLES)
def test_every_table_has_its_place_and_its_runs(name):
    table = shown.TABLES[name]
    _, table_there, after = results.around_table((ROOT / table.page).read_text(), name)
    assert "\n|---" in table_there
    assert after.startswith("<!-- end -->")
    assert set(table.runs) <= set(shown.RUNS)


def test_every_image_of_the_pages_is_there():
    for image, (run, _) in shown.FIGURES.items():
        assert (ROOT / "docs/images" / image).exists()
        assert run in shown.RUNS


def test_the_toys_table_is_that_of_its_metrics(tmp_path, monkeypatch, capsys):
    """A page is changed by --update alone, and what moved is said, row by row."""
    page = tmp_path / "page.md"
    page.write_text("above\n<!-- toy -->\n| old |\n<!-- end -->\nbelow\n")
    table = shown.Table(str(page), ("toy-0.1",), lambda runs: f"| {runs['toy-0.1']['x']} |")
    settings = results.Settings(only=("toy-0.1",), keep=True, out=tmp_path / "out")
    (settings.out / "toy-0.1").mkdir(parents=True)
    (settings.out / "toy-0.1/metrics.json").write_text('{"x": 7}')
    monkeypatch.setattr(results, "TABLES", {"toy": table})
    monkeypatch.setattr(results, "FIGURES", {})
    results.run(settings)
    assert "| old |  →  | 7 |" in capsys.readouterr().out
    assert "| old |" in page.read_text()
    assert (settings.out / "toy.md").read_text() == "| 7 |\n"
    results.run(results.Settings(**{**vars(settings), "update": True}))
    assert page.read_text() == "above\n<!-- toy -->\n| 7 |\n<!-- end -->\nbelow\n"
    capsys.readouterr()
    results.run(settings)
    assert "toy: as shown" in capsys.readouterr().out


def test_rows_that_come_and_go_are_told():
    assert results.differences("a\nb", "a\nc\nd") == ["b  →  c", "(nothing)  →  d"]


def test_an_unknown_run_is_refused(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["results.py", "--only", "nothing"])
    with pytest.raises(SystemExit) as exit:
        command.main(results.Settings, results.run)
    assert exit.value.code == 2
    assert "--only nothing: must be one of toy-0.03" in capsys.readouterr().err


def test_every_command_of_the_pages_parses():
    """--help after the flags: tyro checks what stands before it."""
    for run in shown.RUNS.values():
        line = [sys.executable, "-m", *run.command.split(), "--help"]
        assert subprocess.run(line, capture_output=True).returncode == 0, run.command


@pytest.mark.parametrize(
    ("run", "page"),
    [
        ("baselines", "docs/results.md"),
        ("digits", "docs/images.md"),
        ("mnist", "docs/images.md"),
        ("mnist-5k", "docs/images.md"),
        ("learned", "docs/noise_laws.md"),
        ("divergences", "docs/noise_laws.md"),
        ("linear", "docs/linear.md"),
        ("benchmark-sweep", "docs/benchmarks.md"),
        ("benchmark-fit", "docs/images.md"),
    ],
)
def test_a_page_shows_the_command_that_is_run(run, page):
    text = " ".join((ROOT / page).read_text().replace("\\\n", " ").split())
    assert f"python -m {shown.RUNS[run].command}" in text


def test_a_run_that_lacks_what_it_needs_is_left_out_and_told(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(results, "RUNS", {"far": shown.Run("experiments.fit", needs="NOT_HERE")})
    monkeypatch.setattr(results, "TABLES", {})
    results.run(results.Settings(out=tmp_path))
    assert "left out, it needs NOT_HERE" in capsys.readouterr().out
    monkeypatch.setenv("NOT_HERE", "/a/folder")
    assert shown.Run("experiments.fit", needs="NOT_HERE").has_what_it_needs()
    assert shown.Run("experiments.fit", needs="numpy").has_what_it_needs()


def test_tables_of_small_metrics():
    """Truth: worked out by hand."""
    arms = {
        "fixed": {"energy_distance": [0.3, 0.1, 0.2]},
        "covariance": {"energy_distance": [0.2, 0.2, 0.1]},
        "mean": {"energy_distance": [0.4, None, 0.3]},
    }
    table = shown.learned_table({"learned": {"data": {"ring": arms}}})
    assert table.splitlines()[-1] == "| ring in R^20 | 0.200 | 0.200, 2 of 3 | 0.400, 0 of 3 |"

    errors = {f"{name}_error": [[0.1, 0.3, 0.2]] for name in ("em", "spread_em", "eigen")}
    errors["structured_spread_em_error"] = [[1e-7, 3e-7, 2e-7]]
    table = shown.linear_table({"linear": {"pca": {"gamma": [0.0], **errors}, "ica": errors}})
    assert table.splitlines()[-1] == "| 0 | 0.2 | 0.2 | 2e-07 | 0.2 | 0.2 | 0.2 | 2e-07 |"

    slopes = {name: {"0": None, "0.1": 3.978} for name in ("kl", "js", "tv", "hellinger")}
    table = shown.slopes_table({"divergences": {"largest_slope": slopes}})
    assert "| total variation | 3.98 |" in table

    cells = [
        {"arm": arm, "sigma_fix": sigma, "median_frechet": 100 * sigma}
        | {"median_precision": None, "median_recall": 0.5}
        for arm in ("spread_vae", "fixed_variance")
        for sigma in (0.1, 0.5)
    ]
    table = shown.sigma_table({"mnist-5k": {"cells": cells}})
    assert table.splitlines()[0] == "| σ_fix | 0.1 | 0.5 |"
    assert table.splitlines()[2:4] == [
        "| spread: Fréchet distance | 10 | 50 |",
        "| spread: precision | - | - |",
    ]

    arm = {
        "sigma_fix": 0.1,
        "median_frechet": 1234.4,
        "median_precision": 0.5,
        "median_recall": 0.25,
    }
    fit = {"arms": {"spread_vae": arm}, "reference": {"frechet": 1.0, "precision": 0.9}}
    lines = shown.fit_table(shown.SAMPLES, "digits")({"digits": fit}).splitlines()
    assert lines[2:] == [
        "| Fréchet distance | 1,234 | 1 |",
        "| precision | 0.5 | 0.9 |",
        "| recall | 0.25 |  |",
    ]
