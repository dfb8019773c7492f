"""What every command shares: its files, its progress."""

import importlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from spread_jax import sweeps
from spread_jax.cli import command
from spread_jax.cli.output import OutputFolder, already_done
from spread_jax.progress import progress_bar


def test_no_module_brings_jax():
    """Help and a wrong flag answer at once, JAX's import alone takes longer."""
    names = ("cli.command", "cli.output", "cli.settings", "progress")
    imports = "; ".join(f"import spread_jax.{name}" for name in names)
    check = f"{imports}; import sys; assert not {{'jax', 'numpy', 'xarray'}} & set(sys.modules)"
    assert subprocess.run([sys.executable, "-c", check]).returncode == 0


COMMANDS = sorted(
    path.stem
    for path in (Path(__file__).parents[1] / "experiments").glob("*.py")
    if "main(Settings, run)" in path.read_text()
)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_refuses_an_empty_out(name, refuses):
    """A path would take it for the folder that the command runs in."""
    refuses(importlib.import_module(f"experiments.{name}"), "--out", "")


def test_an_empty_value_after_an_equals_sign_is_refused_too(monkeypatch, capsys):
    experiment = importlib.import_module("experiments.toy")
    monkeypatch.setattr(sys, "argv", ["toy.py", "--steps", "5", "--out="])
    with pytest.raises(SystemExit) as exit:
        command.main(experiment.Settings, experiment.run)
    assert exit.value.code == 2
    assert (
        capsys.readouterr().err == "error: --out '': must be given a value, and not an empty one\n"
    )


PRINTS = """
import dataclasses, warnings
from spread_jax.cli.command import main

@dataclasses.dataclass
class Settings:
    "A command."
    def check(self): pass

def run(settings):
    warnings.warn("the σ is wide")
    print("σ = 0.1")

main(Settings, run)
"""


@pytest.mark.parametrize(
    ("encoding", "shown"), [("ascii", "?"), ("cp1252", "?"), ("ascii:strict", "?"), ("utf-8", "σ")]
)
def test_a_console_that_cannot_print_a_character_loses_it_alone(encoding, shown):
    done = subprocess.run(
        [sys.executable, "-c", PRINTS],
        capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": encoding},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.decode() == f"{shown} = 0.1\n"
    assert done.stderr.decode() == f"warning: the {shown} is wide\n"


@pytest.mark.slow
def test_a_table_with_sigma_is_printed_on_an_ascii_console(tmp_path):
    flags = ["--steps", "20", "--seeds", "1", "--sigma-fix", "0.1", "--learning-rate", "1e-3"]
    done = subprocess.run(
        [sys.executable, "-m", "experiments.sweep", *flags, "--out", str(tmp_path), "--quiet"],
        capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert b"?_fix" in done.stdout
    assert (tmp_path / "metrics.json").exists()


@pytest.mark.slow
def test_results_are_written_before_they_are_printed(tmp_path, monkeypatch):
    toy = importlib.import_module("experiments.toy")
    settings = toy.Settings(steps=20, seeds=1, out=tmp_path, quiet=True)
    monkeypatch.setattr(toy, "start_jax", lambda settings: None)
    monkeypatch.setattr(toy, "print_table", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        toy.run(settings)
    assert {"metrics.json", "results.nc", "loss.png"} <= {path.name for path in tmp_path.iterdir()}


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_every_command_brings_no_jax(name):
    """What makes help answer at once; test_toy times it."""
    check = f"""
import runpy, sys
sys.argv = ["{name}.py", "--help"]
try:
    runpy.run_module("experiments.{name}", run_name="__main__")
except SystemExit as exit:
    assert not exit.code
assert not {{"jax", "numpy", "xarray", "matplotlib"}} & set(sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "(default:" in done.stdout


def test_a_command_ends_with_its_metrics_and_says_where(tmp_path, capsys):
    output = OutputFolder(tmp_path)
    output.finish({"steps": 3}, 1.5, {"arms": {}})
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert list(metrics) == ["config", "environment", "arms"]
    assert metrics["config"] == {"steps": 3}
    assert metrics["environment"]["compile_seconds"] == 1.5
    assert capsys.readouterr().out == f"written to {tmp_path}/\n"


def test_a_stop_is_heard_after_the_chunk_and_checkpoints_stay(tmp_path, monkeypatch, capsys):
    """The handlers are as before afterwards; a second signal would be theirs."""
    monkeypatch.setattr(sys, "argv", ["experiments/sweep.py", "--seeds", "2"])
    before, told = signal.getsignal(signal.SIGTERM), []

    def work():
        with command.checkpoints(tmp_path / "c", {}) as (_, stop_if_told):
            stop_if_told("first")
            told.append("first")
            signal.raise_signal(signal.SIGTERM)
            assert signal.getsignal(signal.SIGTERM) is before
            told.append("second")
            stop_if_told("second")
            told.append("not reached")

    with pytest.raises(SystemExit) as exit:
        work()
    assert told == ["first", "second"]
    assert exit.value.code == 128 + signal.SIGTERM
    error = capsys.readouterr().err
    assert "python -m experiments.sweep --seeds 2 --resume" in error


def test_files_appear_whole_or_not_at_all(tmp_path):
    output = OutputFolder(tmp_path)
    with pytest.raises(TypeError):
        output.write_metrics({"not": {1, 2}})
    assert not list(tmp_path.iterdir())
    output.write_metrics({"a": [float("nan"), float("inf"), 1.0]})
    assert json.loads((tmp_path / "metrics.json").read_text()) == {"a": [None, None, 1.0]}


def test_what_is_done_is_left_as_it_is_only_with_the_same_settings(tmp_path, capsys):
    settings = {"steps": 10, "sigma_fix": (0.0, 0.1)}
    assert not already_done(tmp_path, settings)
    (tmp_path / "metrics.json").write_text(
        '{"config": {"steps": 10, "sigma_fix": [0, 0.1], "a": 1}}'
    )
    assert already_done(tmp_path, settings)
    assert "done already" in capsys.readouterr().out
    assert not already_done(tmp_path, {**settings, "steps": 20})
    assert not already_done(tmp_path, {**settings, "data_std": 0.1})
    (tmp_path / "metrics.json").write_text("{")
    assert not already_done(tmp_path, settings)


def records(loss, **others):
    """Of runs ``[run, record]``."""
    told = {"done": loss.size, "total": 12, "num_nonfinite": 0, "num_new": loss.shape[1]}
    return sweeps.Records(
        **{**told, **others},
        runs=np.arange(len(loss)),
        labels={"seed": np.arange(len(loss))},
        steps=np.arange(1, loss.shape[1] + 1),
        curves={"loss": loss, "loss_max": loss} if loss.size else {},
    )


def test_the_alarm_is_told_once_at_the_chunk_that_shows_it(capsys):
    asked = []
    answers = iter([[-1, -1, -1], [-1, 240, 700], [300, -1, 500]])

    def alarms(curves, runs, first):
        asked.append(first)
        return np.array(next(answers))

    with progress_bar(True, alarms, "Do this") as show:
        # a chunk of several groups is told after each of them, and asked about once
        for num_records in (0, 2, 2, 2, 4, 4, 6):
            show(records(np.zeros((3, num_records))))
    error = capsys.readouterr().err
    assert asked == [0, 2, 4]  # only about the newest records
    assert error.count("\n") == 1
    assert error.startswith("warning: the likelihood is running away in 2 of 3 runs")
    assert "step 240" in error
    assert error.endswith("Do this\n")


def test_the_progress_line_shows_the_middle_and_the_worst_loss_and_the_alarms(capsys, monkeypatch):
    """Truth, by hand: of 1, 2, 9 and a broken run, which is the worst, half of 2 + 9; runs 0 and 2
    have had an alarm."""
    monkeypatch.setattr("spread_jax.progress.SECONDS_BETWEEN_LINES", -1.0)
    answers = iter([[30, -1, -1, -1], [-1, -1, 40, -1]])
    with progress_bar(False, lambda *_: np.array(next(answers)), "Do this") as show:
        show(records(np.zeros((4, 0)), total=16))
        show(records(np.ones((4, 1)), total=16))
        loss = np.array([[1.0, 2.0], [1.0, 1.0], [1.0, 9.0], [1.0, np.nan]])
        show(records(loss, total=16, num_new=1, num_nonfinite=1))
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "compiling ..."
    assert lines[1].startswith("compiled in ")
    assert ", loss 1, worst 1, alarms 1" in lines[-2]
    assert lines[-1].startswith(" 50%  8 run-steps, ")
    assert lines[-1].endswith(", loss 5.5, worst 9, alarms 2, 1 non-finite")
