"""The command that fits real data: its arms, its files, its refusals."""

import json
import os
import signal
import sys
import time

import forked
import numpy as np
import pytest
import xarray as xr

from experiments import fit, fit_report
from spread_jax import ARMS as TABLE
from spread_jax import comparison, data_comparison
from spread_jax.cli import command
from spread_jax.data import Dataset, load_dataset, streams

OF_SAMPLES = ("frechet", "precision", "recall", "energy_distance", "nearest_train")
BOTH_LATENTS = (*OF_SAMPLES, "frechet_of_means", "validation_frechet", "common_iw_bound")
FITTED = "_fitted_latent"
KEYS = {
    *("train_bound", "test_bound", "test_iw_bound", "worst_test_bound", "bits_per_dim", "kl"),
    *("active_dims", "min_sigma", "median_sigma", "max_loss_rise", *BOTH_LATENTS),
    *(f"{name}{FITTED}" for name in BOTH_LATENTS),
}
ARMS = (
    *("vae", "spread_vae", "annealed_spread", "spread_delta", "annealed_delta", "recipe"),
    "shared_variance",
)
PAIR = ("vae", "spread_vae")
IMAGE_FIGURES = {
    f"{name}.png" for name in ("loss", "sigma", "sigma_over_time", "samples", "traversal", "worst")
}


def run_here(monkeypatch, out, **flags):
    """In this process, whose JAX has begun."""
    monkeypatch.setattr(fit, "start_jax", lambda settings: None)
    short = {"steps": 100, "hidden": (16,), "latent_sizes": (1, 2), "iw_samples": 8}
    settings = fit.Settings(out=out, quiet=True, **{**short, **flags})
    settings.check()
    fit.run(settings)
    return json.loads((out / "metrics.json").read_text(), parse_constant=pytest.fail)


@pytest.fixture(scope="module")
def all_arms(tmp_path_factory):
    out = tmp_path_factory.mktemp("fit")
    with pytest.MonkeyPatch.context() as patch:
        metrics = run_here(
            patch,
            out,
            sigma_fix=(0.1, 0.3),
            seeds=2,
            arms=ARMS,
            save_params=True,
        )
    return metrics, out


@pytest.mark.slow
def test_the_command_keeps_the_contract_of_its_files(all_arms):
    metrics, out = all_arms
    assert {path.name for path in out.iterdir()} == {
        *IMAGE_FIGURES, "sigma_fix.png", "metrics.json", "results.nc", "params.npz", "checkpoints"
    }  # fmt: skip
    assert metrics["data"] == {
        **{"name": "digits", "train": 1437, "validation": 120, "test": 240},
        **{"dim": 64, "shape": [8, 8], "checksum_known": True, "constant_pixels": 4},
        "classifier_accuracy": metrics["data"]["classifier_accuracy"],
    }
    assert metrics["data"]["classifier_accuracy"] > 0.95
    assert tuple(metrics["arms"]) == ARMS
    for arm in metrics["arms"].values():
        assert set(arm) >= KEYS
        assert all(len(arm[key]) == 2 and f"median_{key}" in arm for key in KEYS)
    assert set(metrics["reference"]) == {*OF_SAMPLES}
    first = pytest.approx(metrics["suggested_sigma"][1])  # of the arms whose noise falls
    assert [(cell["arm"], cell["sigma_fix"]) for cell in metrics["cells"]] == [
        ("vae", 0),
        *(("spread_vae", s) for s in (0.1, 0.3)),
        ("annealed_spread", first),
        *(("spread_delta", s) for s in (0.1, 0.3)),
        ("annealed_delta", first),
        ("recipe", first),
        ("shared_variance", 0),
    ]


@pytest.mark.slow
def test_the_recipes_own_numbers_are_those_of_its_fitted_latent(all_arms):
    """Of no other arm they are, but for what both latents share; the recipe is the annealed δ-VAE,
    whose numbers with that latent are the same."""
    metrics, _ = all_arms
    for name, arm in metrics["arms"].items():
        for key in BOTH_LATENTS:
            is_none = not any(arm[key])  # after 100 steps a recall may be 0 with either
            is_own = arm[key] == arm[f"{key}{FITTED}"]
            assert is_own == (name == "recipe") or is_none, (name, key)
    recipe, delta = (metrics["arms"][name] for name in ("recipe", "annealed_delta"))
    for key in BOTH_LATENTS:
        np.testing.assert_allclose(recipe[key], delta[f"{key}{FITTED}"], rtol=1e-3)


@pytest.mark.slow
def test_an_arm_is_shown_at_the_sigma_of_its_smallest_validation_distance(all_arms):
    metrics, _ = all_arms
    key = "median_validation_frechet"
    for name, arm in metrics["arms"].items():
        cells = [cell for cell in metrics["cells"] if cell["arm"] == name]
        assert arm[key] == min(cell[key] for cell in cells)
        assert arm[key] != arm["median_frechet"]  # which is of test data


def judged_by_hand(validation, test):
    """The plain arm, and the spread one at σ_fix 0.1, 0.3 and 1: energy distances ``[cell, seed]``
    to validation and to test data."""
    lower = {"better": "lower", "units": "data units"}
    found = {"validation_energy_distance": validation, "energy_distance": test}
    return xr.Dataset(
        {name: (("cell", "seed"), np.array(v), lower) for name, v in found.items()},
        {
            "arm": ("cell", ["vae", *["spread_vae"] * 3]),
            "sigma_fix": ("cell", [0.0, 0.1, 0.3, 1.0]),
            "seed": [0, 1, 2],
        },
    )


@pytest.fixture
def compared(monkeypatch, as_users_run_it):
    """``(judged) -> Comparison``: what fit makes of these numbers of a table without labels."""
    rng = np.random.default_rng(0)
    data = Dataset("by hand", *(rng.normal(size=(9, 2)).astype(np.float32) for _ in range(3)))

    def compare(judged):
        program = comparison.Program(
            None, None, None, None, [{"arm": "vae"}, {"arm": "spread_vae"}]
        )
        replaced = {
            "with_fitted_latents": lambda *args, **options: (None, None),
            "judge_on_data": lambda *args, **options: judged,
            "pictures_of_arms": lambda trained, shown, *_, **__: shown,
        }
        for name, function in replaced.items():
            monkeypatch.setattr(data_comparison, name, function)
        arms = fit.Settings().chosen_arms
        return data_comparison.compare_on_data([(program, None)], arms, data), data

    return compare


def test_sigma_fix_is_chosen_on_validation_data_and_reported_on_test(compared):
    """By hand: validation prefers 0.3, test data 1; a broken run of three, at 0.1, is no help to
    two that are best, and two broken ones leave nothing to be chosen."""
    validation = [[2.0, 2.0, 2.0], [0.1, np.nan, np.nan], [0.5, 0.6, 0.7], [0.9, 0.9, 0.9]]
    test = [[3.0, 3.0, 3.0], [0.4, 0.4, 0.4], [5.0, np.nan, np.nan], [0.1, 0.1, 0.1]]
    found, data = compared(judged_by_hand(validation, test))
    metrics = fit_report.as_metrics(fit.Settings(sigma_fix=(0.1, 0.3, 1.0)), data, found, 9)
    shown = metrics["arms"]["spread_vae"]
    assert shown["sigma_fix"] == 0.3
    assert shown["median_validation_energy_distance"] == 0.6
    assert shown["energy_distance"] == [5.0, None, None]
    assert shown["median_energy_distance"] is None
    assert shown["energy_distance_interval"] == [5.0, None]
    assert [cell["sigma_fix"] for cell in metrics["cells"]] == [0.0, 0.1, 0.3, 1.0]


def test_an_arm_whose_runs_all_broke_is_shown_with_dashes(compared, capsys):
    test = np.full((4, 3), np.nan)
    test[0] = 3.0
    found, data = compared(judged_by_hand(test, test))
    settings = fit.Settings(seeds=3)
    metrics = fit_report.as_metrics(settings, data, found, 9)
    fit_report.print_results(settings, json.loads(json.dumps(metrics, allow_nan=False)))
    shown = capsys.readouterr().out.splitlines()
    rows = [[cell.strip() for cell in line.split("│")] for line in shown]
    last = {row[1]: row[2:] for row in rows if len(row) > 2 and row[1]}  # of the table of samples
    assert last["plain VAE"][0] == "3"
    assert last["spread VAE, 0.1"][0] == "-"


@pytest.mark.slow
def test_numbers_of_an_arm_agree_with_each_other(all_arms):
    """Truths: bits are nats of the held-out bound over 64 log 2; a decoder without a variance has
    no σ; the shared one is one number."""
    metrics, _ = all_arms
    for cell in metrics["cells"]:
        bits = -np.array(cell["test_bound"]) / (64 * np.log(2))
        np.testing.assert_allclose(cell["bits_per_dim"], bits, rtol=1e-6)
        assert (np.array(cell["worst_test_bound"]) < cell["test_bound"]).all()
        # more draws of z never loosen the bound, on average
        assert (np.array(cell["test_iw_bound"]) > cell["test_bound"]).all()
        if TABLE[cell["arm"]].variance == "none":
            assert cell["median_sigma"] == [None, None]
        if cell["arm"] == "shared_variance":
            np.testing.assert_allclose(cell["min_sigma"], cell["median_sigma"], rtol=1e-6)


@pytest.mark.slow
def test_no_spread_loss_is_below_its_floor(all_arms):
    """Truth: the entropy of the spread training data bounds every model's expected loss."""
    metrics, out = all_arms
    shown = metrics["arms"]["spread_vae"]["sigma_fix"]
    with xr.open_dataset(out / "results.nc") as dataset:
        for arm in ("spread_vae", "spread_delta"):
            cell = (dataset["arm"] == arm) & (dataset["sigma_fix"] == shown)
            loss = dataset["loss"].isel(cell=np.flatnonzero(cell))
            assert loss.size
            assert (loss > metrics["floor"]).all()
        assert dict(dataset.sizes)["cell"] == 9
        assert dict(dataset["samples"].sizes) == {"cell": 9, "picture": 32, "pixel": 64}
        drawn = dataset["samples"].isel(cell=np.flatnonzero(dataset["shown"])).values
        assert np.isfinite(drawn).all()
        assert len(drawn) == len(ARMS)
        assert all({"long_name", "units"} <= set(dataset[v].attrs) for v in ("loss", "frechet"))


@pytest.mark.slow
def test_a_table_trains_and_has_no_classifier(monkeypatch, tmp_path, capsys):
    rng = np.random.default_rng(0)
    table = np.column_stack([100 * rng.normal(size=(400, 3)), np.full(400, 7.0)])
    np.save(tmp_path / "table.npy", table)
    flags = {"data": str(tmp_path / "table.npy"), "arms": PAIR}
    metrics = run_here(monkeypatch, tmp_path / "out", **flags, seeds=1)
    assert metrics["data"]["shape"] is None
    assert metrics["data"]["constant_pixels"] == 1
    assert not metrics["data"]["checksum_known"]
    assert set(metrics["reference"]) == {"energy_distance", "nearest_train"}
    assert metrics["reference"]["energy_distance"] > 0
    assert "frechet" not in metrics["arms"]["spread_vae"]
    assert "checksum unknown" in (shown := capsys.readouterr().out)
    assert "no labels" in shown
    figures = {"loss.png", "sigma.png", "sigma_over_time.png", "samples.png"}
    assert figures <= {path.name for path in (tmp_path / "out").iterdir()}


@pytest.mark.slow
def test_convolutions_train_too(monkeypatch, tmp_path):
    # of arms with constant noise: where it falls, the losses of two steps are not comparable
    metrics = run_here(monkeypatch, tmp_path, network="conv", seeds=1, steps=200, arms=PAIR)
    with xr.open_dataset(tmp_path / "results.nc") as dataset:
        loss = dataset["loss"].values
        assert (loss[..., -10:].mean(-1) < loss[..., :10].mean(-1) - 10).all()
    assert metrics["arms"]["spread_vae"]["max_loss_rise"][0] < 20


@pytest.mark.slow
def test_plain_runs_away_and_spread_does_not(monkeypatch, tmp_path):
    """The claim on digits, 3 seeds: the plain loss rises by tens of nats; the spread one stays
    smooth, and its samples are nearer to the data."""
    metrics = run_here(monkeypatch, tmp_path, steps=3000, hidden=(400,), seeds=3, arms=PAIR)
    plain, spread = metrics["arms"]["vae"], metrics["arms"]["spread_vae"]
    assert min(plain["max_loss_rise"]) > 5 * max(spread["max_loss_rise"])
    assert min(plain["late_loss_std"]) > 5 * max(spread["late_loss_std"])
    assert max(spread["frechet"]) < min(plain["frechet"]) / 2
    assert min(spread["precision"]) > max(plain["precision"])
    assert max(plain["alarm_step"]) <= 300  # the first rise by 10 nats comes after step 300
    assert spread["alarm_step"] == [None] * 3


@pytest.mark.slow
@pytest.mark.skipif("MNIST_DIR" not in os.environ, reason="MNIST_DIR is not set")
def test_full_mnist_runs_away_too(monkeypatch, tmp_path):
    flags = {"data": "mnist", "hidden": (400,), "arms": PAIR, "iw_samples": 2}
    metrics = run_here(monkeypatch, tmp_path, **flags, steps=400, seeds=1)
    constant = np.ptp(load_dataset("mnist").train, axis=0) == 0
    assert metrics["data"]["constant_pixels"] == constant.sum() >= 67  # of all 60,000
    assert metrics["data"]["checksum_known"]
    plain, spread = metrics["arms"]["vae"], metrics["arms"]["spread_vae"]
    assert plain["max_loss_rise"][0] > 5 * spread["max_loss_rise"][0]
    assert plain["worst_test_bound"][0] < spread["worst_test_bound"][0]


@pytest.mark.slow
def test_a_stopped_fit_goes_on_and_loses_nothing(monkeypatch, tmp_path):
    """Truth: the run without a break."""
    flags = {"steps": 1000, "seeds": 1, "iw_samples": 2, "arms": PAIR, "latent_sizes": (1,)}
    whole = run_here(monkeypatch, tmp_path / "whole", **flags)
    out = tmp_path / "stopped"
    words = ["--quiet", "--steps", 1000, "--hidden", 16, "--seeds", 1, "--iw-samples", 2]
    words += ["--arms", *PAIR, "--latent-sizes", 1, "--out", out]
    stopped = forked.start("-m", "experiments.fit", *words)
    while not list((out / "checkpoints" / "vae").glob("*.checkpoint")):
        assert stopped.poll() is None
        time.sleep(0.01)
    stopped.send_signal(signal.SIGINT)
    _, error = stopped.communicate(timeout=300)
    assert stopped.returncode == 130, error
    assert "--resume" in error
    assert not (out / "metrics.json").exists()
    resumed = run_here(monkeypatch, out, **flags, resume=True)
    assert resumed["trained_runs"] == 2
    assert resumed["arms"] == whole["arms"]


def refused(monkeypatch, capsys, folder, *arguments):
    """What one line on stderr says; exit status 2, nothing written."""
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", ["fit.py", *map(str, arguments)])
    with pytest.raises(SystemExit) as exit:
        command.main(fit.Settings, fit.run)
    shown = capsys.readouterr()
    assert exit.value.code == 2
    assert shown.out == ""
    assert shown.err.count("\n") == 1
    assert not list(folder.iterdir())
    return shown.err


@pytest.mark.parametrize(
    ("flag", "values"),
    [
        ("--sigma-fix", ["0"]),
        ("--sigma-fix", ["0.1", "nan"]),
        ("--sigma-fix", ["0.1", "0.1"]),
        ("--arms", ["spread_delta", "anything"]),
        ("--arms", ["vae", "vae"]),
        ("--anneal-from", ["0"]),
        ("--common-sigma", ["-1"]),
        ("--latent-dim", ["0"]),
        ("--latent-sizes", ["1", "0"]),
        ("--iw-samples", ["0"]),
        ("--learning-rate", ["-1"]),
        ("--steps", ["0"]),
        ("--steps", ["10007"]),
        ("--data", ["mnits"]),
    ],
)
def test_bad_values_are_named(flag, values, monkeypatch, capsys, tmp_path):
    error = refused(monkeypatch, capsys, tmp_path / "run", flag, *values)
    assert error.startswith(f"error: {flag} ")
    assert "must be" in error


@pytest.mark.parametrize("flag", ["--sigma-fix", "--anneal-from", "--common-sigma"])
@pytest.mark.parametrize("unit", ["standard deviations of a column", "pixels in [0, 1]"])
def test_noise_beyond_any_use_is_refused_in_the_unit_of_the_data(
    flag, unit, monkeypatch, capsys, tmp_path
):
    """Truth: by hand, 10, as there are fewer than 100 columns or pixels."""
    np.save(tmp_path / "x.npy", 2000 * np.random.default_rng(0).normal(size=(20, 4)))
    data = tmp_path / "x.npy" if unit.startswith("standard") else "digits"
    error = refused(monkeypatch, capsys, tmp_path / "run", "--data", data, flag, "2190")
    assert error == f"error: {flag} 2190: must be a number above 0, up to 10 ({unit})\n"


def test_bad_data_get_one_line_and_nothing_is_written(monkeypatch, capsys, tmp_path):
    np.save(tmp_path / "x.npy", np.zeros((20, 4, 4), np.uint16))
    error = refused(monkeypatch, capsys, tmp_path / "run", "--data", tmp_path / "x.npy")
    assert error.startswith(f"error: --data {tmp_path / 'x.npy'}: must be")
    assert "uint16" in error


def test_a_table_has_no_convolutions(monkeypatch, capsys, tmp_path):
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(20, 4)))
    error = refused(
        monkeypatch, capsys, tmp_path / "run", "--data", tmp_path / "x.npy", "--network", "conv"
    )
    assert "--network" in error


def test_arms_are_chosen_by_name_in_the_order_of_the_table():
    assert list(fit.Settings(arms=("recipe", "vae")).chosen_arms) == ["vae", "recipe"]
    every = fit.Settings(arms=("all",)).chosen_arms
    assert set(TABLE) - set(every) == {"wgan_gp", "clean_encoder", "optimal_variance"}


@pytest.mark.parametrize("steps", [1, 7, 99, 100, 3000, 4000, 9375, 10_000])
def test_curves_have_100_to_1000_points(steps):
    settings = fit.Settings(steps=steps)
    settings.check()
    assert steps % settings.record_every == 0
    assert min(steps, 100) <= steps // settings.record_every <= 1000


@pytest.mark.slow
def test_images_that_stay_on_the_disk_are_trained_on(monkeypatch, tmp_path):
    """Truth: of 900 images 75 are for validation and as many to test, and all others are trained
    on; a second call trains none again. A table is refused."""
    monkeypatch.setattr(streams, "MOST_DRAWN", 300)
    (tmp_path / "parts").mkdir()
    images = np.random.default_rng(0).integers(0, 256, (900, 4, 4)).astype(np.uint8)
    np.save(tmp_path / "parts" / "1.npy", images[:500])
    np.save(tmp_path / "parts" / "2.npy", images[500:])
    flags = {"data": str(tmp_path / "parts"), "arms": PAIR, "seeds": 2}
    metrics = run_here(monkeypatch, tmp_path / "out", **flags, latent_dim=2)
    told = metrics["data"]
    assert (told["train"], told["validation"], told["test"]) == (750, 75, 75)
    assert metrics["epochs"] == 100 * 128 / 750
    assert metrics["floor"] is None
    assert all(np.isfinite(arm["median_test_bound"]) for arm in metrics["arms"].values())
    again = run_here(monkeypatch, tmp_path / "out", **flags, latent_dim=2)
    assert (metrics["trained_runs"], again["trained_runs"]) == (4, 0)
    assert again["arms"] == metrics["arms"]
    np.save(tmp_path / "parts" / "1.npy", np.zeros((9, 4)))
    np.save(tmp_path / "parts" / "2.npy", np.zeros((9, 4)))
    with pytest.raises(command.BadInputError, match="must be images, of a table one file"):
        run_here(monkeypatch, tmp_path / "other", **flags)
