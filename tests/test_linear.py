import json
import sys

import numpy as np
import pytest
import xarray as xr

from experiments import linear
from spread_jax.cli import command
from spread_jax.linear_comparison import ALGORITHMS, compare_linear_models


def run(monkeypatch, out, *flags):
    arguments = ["linear.py", *map(str, flags), "--out", str(out), "--quiet"]
    monkeypatch.setattr(sys, "argv", arguments)
    monkeypatch.setattr(linear, "start_jax", lambda settings: None)  # the tests' devices stay
    command.main(linear.Settings, linear.run)


SMALL = (
    *("--points", 400, "--observed", 6, "--latent", 3, "--iterations", 50, "--seeds", 3),
    *("--seed", 5, "--gamma", 1, 0, "--batch-size", 100),
)


@pytest.fixture(scope="module")
def small_run(tmp_path_factory):
    out = tmp_path_factory.mktemp("linear")
    with pytest.MonkeyPatch.context() as monkeypatch:
        run(monkeypatch, out, *SMALL)
    return out, json.loads((out / "metrics.json").read_text(), parse_constant=pytest.fail)


@pytest.mark.slow
def test_the_command_keeps_the_contract_of_its_files(small_run):
    out, metrics = small_run
    files = {"metrics.json", "results.nc", "error.png", "convergence.png"}
    assert {path.name for path in out.iterdir()} == files
    assert metrics["config"]["seeds"] == 3
    for model in ("pca", "ica"):
        assert metrics[model]["gamma"] == [1.0, 0.0]
        for method in ALGORITHMS:
            assert np.shape(metrics[model][f"{method}_error"]) == (2, 3)
            assert metrics[model]["seconds_per_iteration"][method] > 0
            error = metrics[model][f"{method}_error"]
            np.testing.assert_allclose(
                metrics[model][f"median_{method}_error"], np.median(error, 1)
            )
    assert np.shape(metrics["ica"]["fastica_error"]) == (3,)
    assert np.shape(metrics["ica"]["effective_sample_size"]) == (2, 3)
    assert np.shape(metrics["pca"]["eigen_error"]) == (2, 3)


@pytest.mark.slow
def test_results_hold_what_metrics_say(small_run):
    out, metrics = small_run
    with xr.open_dataset(out / "results.nc") as dataset:
        last = dataset["error"].isel(iteration=-1).sel(model="ica", algorithm="em")
        np.testing.assert_allclose(last, metrics["ica"]["em_error"])
        np.testing.assert_array_equal(dataset["seed"], [5, 6, 7])
        better = {name: of.attrs["better"] for name, of in dataset.items()}
        assert [name for name in better if better[name] == "higher"] == ["effective_sample_size"]
        seconds = dataset["seconds"].values
        assert (np.diff(seconds, axis=-1) >= 0).all()


@pytest.mark.slow
def test_structured_pca_is_exact_without_noise_and_ordinary_em_is_not(small_run):
    pca = small_run[1]["pca"]
    assert np.max(pca["structured_spread_em_error"][1]) < 1e-4
    assert np.min(pca["em_error"][1]) > 0.1


@pytest.mark.slow
def test_a_seed_alone_is_the_same_run(small_run, tmp_path, monkeypatch):
    """To 2 %: XLA reorders the sums of another number of runs, and 50 iterations carry that on."""
    run(monkeypatch, tmp_path, *SMALL, "--seeds", 1, "--gamma", 0)
    alone = json.loads((tmp_path / "metrics.json").read_text())
    for method in ALGORITHMS:
        together = small_run[1]["ica"][f"{method}_error"][1][0]
        np.testing.assert_allclose(alone["ica"][f"{method}_error"][0][0], together, rtol=0.02)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--latent", 0), "at least 1"),
        (("--observed", 5), "at least the latent dimension, 10"),
        (("--points", 10), "at least ten times"),
        (("--gamma", -1), "0, or"),
        (("--gamma", "nan"), "0, or"),
        (("--gamma", 1, 1), "given once each"),
        (("--iterations", 70), "a multiple of 50"),
        (("--sigma", 0), "above 0"),
        (("--structured-sigma", "inf"), "above 0"),
        (("--batch-size", 30_000), "between the latent dimension and the points"),
        (("--samples", 1), "at least 2"),
        (("--seeds", 0), "at least 1"),
        (("--seed", -1), "at least 0"),
    ],
)
def test_a_bad_flag_is_named_in_one_line_and_nothing_is_written(
    flags, words, tmp_path, monkeypatch, capsys
):
    out = tmp_path / "out"
    with pytest.raises(SystemExit) as exit:
        run(monkeypatch, out, *flags)
    error = capsys.readouterr().err
    assert exit.value.code == 2
    assert error.startswith(f"error: {flags[0]} ")
    assert words in error
    assert error.count("\n") == 1
    assert not out.exists()


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"iterations": 70}, "a multiple of 50, got 70"),
        ({"observed": 5}, "latent 10, observed 5"),
        ({"batch_size": 9}, "batch_size 9"),
        ({"points": 400}, "batch_size 500, points 400"),
    ],
)
def test_numbers_that_do_not_fit_are_refused(wrong, words):
    with pytest.raises(ValueError, match=words):
        compare_linear_models(**wrong)


@pytest.mark.slow
def test_structured_spread_em_without_noise_is_as_good_as_fastica():
    """8 seeds at full size, gamma 0: an error of at most 0.03 on each, and no worse than the
    median of scikit-learn's FastICA and a fifth."""
    results = compare_linear_models(gamma=(0.0,), num_seeds=8)
    error = results["error"].sel(model="ica", algorithm="structured_spread_em", gamma=0.0)[:, -1]
    assert (error <= 0.03).all()
    assert np.median(error) <= 1.2 * np.median(results["fastica_error"])
