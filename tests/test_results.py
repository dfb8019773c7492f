import subprocess
import sys
from pathlib import Path

import pytest

from experiments import command, results

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("name", results.TABLES)
def test_every_table_has_its_place_and_its_runs(name):
    table = results.TABLES[name]
    _, shown, after = results.around_table((ROOT / table.page).read_text(), name)
    assert shown.startswith("|")
    assert after.startswith("<!-- end -->")
    assert set(table.runs) <= set(results.RUNS)


def test_every_image_of_the_pages_is_there():
    for image, (run, _) in results.FIGURES.items():
        assert (ROOT / "docs/images" / image).exists()
        assert run in results.RUNS


def test_the_toys_table_is_that_of_its_metrics(tmp_path, monkeypatch, capsys):
    """A page is changed by --update alone, and what moved is said, row by row."""
    page = tmp_path / "page.md"
    page.write_text("above\n<!-- toy -->\n| old |\n<!-- end -->\nbelow\n")
    table = results.Table(str(page), ("toy-0.1",), lambda runs: f"| {runs['toy-0.1']['x']} |")
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
    for command_line in {line.split()[0] for line in results.RUNS.values()}:
        module = f"experiments.{command_line}"
        done = subprocess.run([sys.executable, "-m", module, "--help"], capture_output=True)
        assert done.returncode == 0, module
