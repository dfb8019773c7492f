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
    assert table_there.startswith("|")
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
    for module in {run.command.split()[0] for run in shown.RUNS.values()}:
        done = subprocess.run([sys.executable, "-m", module, "--help"], capture_output=True)
        assert done.returncode == 0, module


def test_a_run_that_lacks_what_it_needs_is_left_out_and_told(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(results, "RUNS", {"far": shown.Run("experiments.fit", needs="NOT_HERE")})
    monkeypatch.setattr(results, "TABLES", {})
    results.run(results.Settings(out=tmp_path))
    assert "left out, it needs NOT_HERE" in capsys.readouterr().out
    monkeypatch.setenv("NOT_HERE", "/a/folder")
    assert shown.Run("experiments.fit", needs="NOT_HERE").has_what_it_needs()
    assert shown.Run("experiments.fit", needs="numpy").has_what_it_needs()
