import json
import subprocess
import sys

import jax
import numpy as np
import pytest

from benchmarks import contestants, fit, scaling, sweep, timing
from spread_jax.cli import command

MISSING = "PyTorch is not installed: pip install -e '.[bench]'"


def run_benchmark(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "benchmarks.sweep", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.fixture(scope="module")
def losses():
    torch = pytest.importorskip("torch", reason=MISSING)
    return sweep.losses_side_by_side(torch.device("cpu"))


@pytest.mark.parametrize("name", ["loop", "stacked"])
def test_pytorch_trains_as_the_sweep_does(losses, name):
    """Truth: another library. The first losses are of equal weights, data and noise; those after
    them have taken each library's own gradients and Adam steps."""
    assert losses[name].shape == losses["sweep"].shape == (3, 3)
    assert np.ptp(losses["sweep"]) > 0.01
    np.testing.assert_allclose(losses[name], losses["sweep"], rtol=1e-5, atol=1e-5)


def test_losses_that_differ_end_the_benchmark():
    """By hand: 2e-5 of less than a nat is too much, of ten nats it is not."""
    ours = np.array([[0.0, 10.0]])
    with pytest.raises(RuntimeError, match=r"2.0e-05"):
        timing.require_same_losses({"sweep": ours, "loop": ours + np.array([2e-5, 0.0])})
    with pytest.raises(RuntimeError, match="nan"):
        timing.require_same_losses({"sweep": ours, "loop": ours, "stacked": ours * np.nan})
    close = {"sweep": ours, "loop": ours, "stacked": ours + np.array([0.0, 2e-5])}
    assert timing.require_same_losses(close) == pytest.approx(2e-6)


@pytest.mark.slow
def test_the_sweep_that_is_timed_trains():
    """Without PyTorch too: its parameters move, and it is worth its steps."""
    compiled = contestants.CompiledSweep(contestants.toy_training(20), 3, 2, record_every=5)
    before = compiled.params()
    compiled.train()
    after = compiled.params()
    assert compiled.run_steps == 30
    assert compiled.bytes_per_run > 0
    moved = jax.tree.map(
        lambda a, b: np.abs(a - b).max(axis=tuple(range(1, a.ndim))), before, after
    )
    assert all((m > 0).any() for m in jax.tree.leaves(moved))


@pytest.mark.slow
def test_a_row_of_the_scaling_is_measured(monkeypatch):
    monkeypatch.setattr(scaling, "REPEATS", 1)
    said = []
    (row,) = scaling.measure("dimension", (5,), True, said.append)
    assert row.value == 5
    assert row.seconds_per_run_step > 0
    assert said[0] == "compiling: dimension 5"


@pytest.mark.slow
def test_the_fit_that_is_timed_trains():
    ours = fit.OurRun(fit.make_images(50), 2)
    ours.train()
    after = jax.device_get(ours._state.params)
    moved = jax.tree.map(lambda a, b: np.abs(a - b).max(), ours.params, after)
    assert all(m > 0 for m in jax.tree.leaves(moved))


def test_the_command_keeps_the_contract_of_its_files(monkeypatch, capsys, tmp_path):
    torch = pytest.importorskip("torch", reason=MISSING)
    monkeypatch.setattr(sweep, "start_devices", lambda: torch.device("cpu"))  # JAX has begun
    monkeypatch.setattr(scaling, "AXES", {"width": (32, 64)})
    flags = ["--quick", "--runs", "1", "--repeats", "2", "--out", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["sweep.py", *flags])
    command.main(sweep.Settings, sweep.run)
    assert {path.name for path in tmp_path.iterdir()} == {"sweep.json", "throughput.png"}
    results = json.loads((tmp_path / "sweep.json").read_text(), parse_constant=pytest.fail)
    assert set(results["throughput"]) == set(results["throughput_stacked"]) == {"1", "64"}
    for key in ("ratio_to_loop", "ratio_to_stacked", "fraction_of_limit"):
        assert results[key] > 0
    assert {axis: len(each["rows"]) for axis, each in results["scaling"].items()} == {
        "runs": 2,
        "width": 1,
    }
    assert results["loss_difference"] <= 1e-5
    assert results["environment"]["versions"]["torch"].startswith("2.13.0")
    shown = capsys.readouterr()
    for words in ("x the loop", "x the stacked", "of the limit", "kB per run"):
        assert words in shown.out
    assert "comparing the losses" in shown.err


def test_multiply_adds_of_a_step():
    """By hand: the encoder 2-64-64-1 on 128 points, the decoder 1-64-64-4 on 2."""
    encoder = (2 * 64 + 64 * 64 + 64) * 2 + (64 * 64 + 64)
    decoder = (64 + 64 * 64 + 64 * 4) * 2 + (64 * 64 + 64 * 4)
    assert contestants.multiply_adds(contestants.BASE) == 128 * encoder + 2 * decoder


def test_where_time_is_linear():
    costs = {1: 3.0, 16: 1.1, 64: 1.0, 256: 1.2, 1024: 1.4}
    rows = [scaling.Row(n, 1.0, cost, 1.0) for n, cost in costs.items()]
    assert scaling.where_linear("runs", rows) == "linear from 16 to 256; 3 x at 1; 1.4 x at 1,024"


@pytest.mark.parametrize(
    ("flag", "values"), [("--runs", ["0"]), ("--runs", ["64", "-1"]), ("--repeats", ["0"])]
)
def test_bad_values_name_the_flag_the_value_and_what_is_accepted(
    flag, values, monkeypatch, capsys, tmp_path
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["sweep.py", flag, *values])
    with pytest.raises(SystemExit) as exit:
        command.main(sweep.Settings, sweep.run)
    error = capsys.readouterr().err
    assert exit.value.code == 2
    assert error.startswith(f"error: {flag} {' '.join(values)}: must be")
    assert not list(tmp_path.iterdir())


def test_without_pytorch_it_says_how_to_get_it(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["sweep.py"])
    monkeypatch.setattr(timing.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SystemExit) as exit:
        command.main(sweep.Settings, sweep.run)
    assert exit.value.code == 2
    assert ".[bench]" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_help_names_the_command():
    done = run_benchmark("--help")
    assert done.returncode == 0
    assert "python -m benchmarks.sweep" in done.stdout


def test_pytorch_fits_images_as_this_package_does():
    """Truth: another library, from equal weights, batches and noise; later losses have taken each
    library's own gradients and Adam steps."""
    torch = pytest.importorskip("torch", reason=MISSING)
    losses = fit.losses_side_by_side(torch.device("cpu"), names=("eager",))
    assert np.ptp(losses["this package"]) > 1
    np.testing.assert_allclose(losses["eager"], losses["this package"], rtol=1e-5)


def test_ratios_are_taken_within_a_round():
    """By hand: 4/2 and 9/3 to eager, 4/1 and 9/4 to compiled."""
    rates = {"this package": [4.0, 9.0], "eager": [2.0, 3.0], "compiled": [1.0, 4.0]}
    results = fit.summarise(rates)
    assert results["ratio_to_eager"] == 2.5
    assert results["ratio_to_compiled"] == 3.125
    assert results["ratio_to_faster"] == (2 + 2.25) / 2


@pytest.mark.slow
def test_the_benchmark_of_the_fit_keeps_its_contract(tmp_path):
    pytest.importorskip("torch", reason=MISSING)
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.fit", "--quick", "--repeats", "1", "--out", tmp_path],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    results = json.loads((tmp_path / "fit.json").read_text(), parse_constant=pytest.fail)
    assert results["ratio_to_faster"] > 0
    assert results["loss_difference"] <= 1e-5
    assert set(results["steps_per_second"]) == {"this package", "eager", "compiled"}
    assert "x the faster of the two" in done.stdout
