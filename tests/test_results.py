import subprocess
import sys
from pathlib import Path

import pytest

from experiments import results
from experiments.results import FIGURES, RUNS, Command
from experiments.results_tables import (
    IN_README,
    SETTINGS,
    TABLES,
    delta_mnist,
    fit,
    learned,
    linear,
    slopes,
)
from spread_jax.cli import command
from spread_jax.cli.tables import fill, markdown

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("name", TABLES)
def test_every_table_has_its_place_and_its_runs(name):
    page, runs, _ = TABLES[name]
    _, table_there, after = results.around_table((ROOT / page).read_text(), name)
    assert "\n|---" in table_there
    assert len({row.count("|") for row in table_there.splitlines()}) == 1
    assert after.startswith("<!-- end -->")
    assert set(runs) <= set(RUNS)


def test_every_image_of_the_pages_is_there():
    for image, run in FIGURES.items():
        assert (ROOT / "docs/images" / image).exists()
        assert run.split("/")[0] in RUNS


def test_a_page_is_changed_by_update_alone_and_what_moved_is_told(tmp_path, monkeypatch, capsys):
    """Row by row, those that come and go too."""
    page = tmp_path / "page.md"
    page.write_text("above\n<!-- toy -->\n| x |\n|---|\n| old |\n<!-- end -->\nbelow\n")
    made = "| x |\n|---|\n| 7 |\n| 8 |\n"
    settings = results.Settings(only=("toy-0.1",), keep=True, out=tmp_path / "out")
    (settings.out / "toy-0.1").mkdir(parents=True)
    (settings.out / "toy-0.1/metrics.json").write_text('{"x": 7}')
    table = (str(page), ["toy-0.1"], lambda run: ["x", f"{run['x']}", f"{run['x'] + 1}"])
    monkeypatch.setattr(results, "TABLES", {"toy": table})
    monkeypatch.setattr(results, "FIGURES", {})
    results.run(settings)
    said = capsys.readouterr().out
    assert "toy: 2 rows moved\n  | old |  →  | 7 |\n  (nothing)  →  | 8 |\n" in said
    assert "| old |" in page.read_text()
    assert (settings.out / "toy.md").read_text() == made
    results.run(results.Settings(**{**vars(settings), "update": True}))
    assert page.read_text() == f"above\n<!-- toy -->\n{made}<!-- end -->\nbelow\n"
    capsys.readouterr()
    results.run(settings)
    assert "toy: as shown" in capsys.readouterr().out


def test_an_unknown_run_is_refused(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["results.py", "--only", "nothing"])
    with pytest.raises(SystemExit) as exit:
        command.main(results.Settings, results.run)
    assert exit.value.code == 2
    assert "--only nothing: must be one of toy-0.03" in capsys.readouterr().err


@pytest.mark.slow
def test_every_command_of_the_pages_parses():
    """--help after the flags: tyro checks what stands before it."""
    for run in RUNS.values():
        line = [sys.executable, "-m", *run.command.split(), "--help"]
        assert subprocess.run(line, capture_output=True).returncode == 0, run.command


@pytest.mark.parametrize(
    ("run", "page"),
    [
        ("baselines", "docs/results.md"),
        ("digits", "docs/images.md"),
        ("mnist", "docs/images.md"),
        ("quality", "docs/images.md"),
        ("mnist-5k", "docs/images.md"),
        ("flows", "docs/flows.md"),
        ("recipe", "docs/results.md"),
        ("mixtures", "docs/mixtures.md"),
        ("cleaning", "docs/noise_laws.md"),
        ("learned", "docs/noise_laws.md"),
        ("delta-mnist", "docs/paper.md"),
        ("divergences", "docs/noise_laws.md"),
        ("linear", "docs/linear.md"),
        ("benchmark-sweep", "docs/benchmarks.md"),
        ("benchmark-fit", "docs/benchmarks.md"),
    ],
)
def test_a_page_shows_the_command_that_is_run(run, page):
    text = " ".join((ROOT / page).read_text().replace("\\\n", " ").split())
    assert f"python -m {RUNS[run].command}" in text


def test_a_run_that_lacks_what_it_needs_is_left_out_and_told(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(results, "RUNS", {"far": Command("experiments.fit", needs="NOT_HERE")})
    monkeypatch.setattr(results, "TABLES", {})
    results.run(results.Settings(out=tmp_path))
    assert "left out, it needs NOT_HERE" in capsys.readouterr().out
    monkeypatch.setenv("NOT_HERE", "/a/folder")
    assert Command("experiments.fit", needs="NOT_HERE").has_what_it_needs()
    assert Command("experiments.fit", needs="numpy").has_what_it_needs()


def test_a_template_is_filled_as_str_format_does_and_what_is_missing_is_a_dash():
    """Truth: str.format, and by hand."""
    assert fill("{a:.2f}, {b[c]:g}", {"a": 1, "b": {"c": 2.0}}) == "1.00, 2"
    assert fill("{a} | {b:.1f} | {c} | {d}", {"a": 1234.4, "b": None, "c": "x", "d": 7}) == (
        "1,234 | - | x | 7"
    )
    assert fill("{found}", {"found": [True, False, True]}) == "2 of 3"


def test_tables_of_small_metrics():
    """Truth: worked out by hand."""
    found = {
        "fixed": ([0.3, 0.1, 0.2], 0),
        "covariance": ([0.2, 0.2, 0.1], 2),
        "mean": ([0.4] * 3, 0),
    }
    arms = {
        name: {
            "energy_distance": distances,
            "median_energy_distance": sorted(distances)[1],
            "energy_distance_seeds_better": wins,
        }
        for name, (distances, wins) in found.items()
    }
    assert list(learned({"data": {"ring": arms}})) == [
        " | fixed | covariance | mean",
        "ring in R^20 | 0.200 | 0.200, 2 of 3 | 0.400, 0 of 3",
    ]

    arm = {"median_frechet": 100.4, "frechet_interval": [99.0, 101.6]}
    arm |= {"median_energy_distance": None, "energy_distance_interval": [1.5, None]}
    found = list(delta_mnist({"data": {"mnist": {"fixed": arm}}}))
    assert found[1:] == ["fixed | 100 [99, 102] | - [1.5, -]"]

    errors = {f"median_{name}_error": [0.2] for name in ("em", "spread_em", "eigen")}
    errors["median_structured_spread_em_error"] = [2e-7]
    table = markdown(linear({"pca": {"gamma": [0.0], **errors}, "ica": errors}))
    assert table.splitlines()[1:] == [
        "|---|---|---|---|---|---|---|---|",
        "| 0 | 0.2 | 0.2 | 2e-07 | 0.2 | 0.2 | 0.2 | 2e-07 |",
    ]

    largest = {name: {"0": None, "0.1": 3.978} for name in ("kl", "js", "tv", "hellinger")}
    assert "total variation | 3.98" in slopes({"largest_slope": largest})

    of_fitted = {"frechet": 1.254, "precision": 0.5, "recall": 0.25, "nearest_train": 2.0}
    arm = {f"median_{name}_fitted_latent": number for name, number in of_fitted.items()}
    arm |= {"median_frechet": 1234.4, "frechet_fitted_latent_interval": [1.0, 2.0]}
    arm |= {"median_max_loss_rise": 7.0, "sigma_fix": 0.1}
    reference = {**of_fitted, "frechet": 1.0}
    run = {"arms": {"spread_vae": arm, "recipe": arm}, "reference": reference}
    assert list(fit(run))[1:] == [
        "spread VAE, 0.1 | 7 | 1,234 | 1.25 [1.00, 2.00] | 0.50 | 0.25 | 2.00",
        "recipe, 0.1 | - | - | 1.25 [1.00, 2.00] | 0.50 | 0.25 | 2.00",
        "held-out data |  |  | 1 | 0.50 | 0.25 | 2.00",
    ]


def made(table, *metrics):
    return list(TABLES[table][2](*metrics))


def test_tables_of_the_toy():
    """Truth: worked out by hand."""
    arms = {
        "vae": {
            "recovered": [True, False],
            "median_late_loss_std": 2.714,
            "median_max_loss_rise": 96.6,
        },
        "spread_vae": {
            "recovered": [True, True],
            "median_late_loss_std": 0.0881,
            "median_spread_kl": 0.00281,
        },
    }
    run = {"arms": arms, "config": {"sigma_fix": 0.1}}
    assert made("toy", run, run)[1:] == [
        "0 (plain VAE) | 1 of 2 |  | 2.71",
        "0.1 | 2 of 2 | 0.0028 | 0.088",
    ]
    rows = made("settings", *[run] * len(SETTINGS))
    assert rows[1] == "(defaults) | 1 of 2 | 2.7 | 97 | 2 of 2"
    assert rows[2].startswith("`--signed-latent` | 1 of 2")
    assert len(rows) == 1 + len(SETTINGS)


def test_tables_of_the_baselines():
    """Truth: worked out by hand."""
    numbers = {"median_sigma_x": 0.01234, "predicted_sigma_x": 0.05, "recovered_rate": 0.5}
    numbers |= {"recovered_interval": [0.25, 0.75], "median_off_data": 0.3}
    modes = {"data": "two-modes", "data_size": 0, **numbers}
    arms = ("variance_floor", "noise_only", "spread_vae", "annealed_spread")
    rows = [{**modes, "arm": a, "data_std": std} for a in arms for std in (0.05, 0.1)]
    rows.append({**rows[0], "data_size": 100, "median_sigma_x": 9.0})  # another experiment
    rows += [{**numbers, "data": d, "arm": "vae", "data_std": None} for d in ("ring", "spiral")]
    run = {"rows": rows}
    assert made("bias", run)[1].startswith("floor only (σ_fix on the model) | 0.0500 | 0.0123")
    assert made("bias", run)[3] == "spread (on both) | 0.0500 | 0.0123 | 50% [25%, 75%]"
    assert made("curve-distance", run) == [" | ring | spiral", "plain VAE | 0.300 | 0.300"]


def test_table_of_images():
    """Truth: worked out by hand."""
    arm = {"median_frechet": 104.2, "median_frechet_fitted_latent": 1.254}
    digits = {"arms": dict.fromkeys(IN_README, arm), "reference": {"frechet": 1.49}}
    better = {"median_frechet": 61.0, "median_frechet_fitted_latent": 0.5}
    mnist = {"arms": dict.fromkeys(IN_README, better), "reference": {"frechet": 1.2}}
    rows = made("images", digits, mnist)
    assert rows[1] == "plain VAE | 104 | 1.25 | 61 | 0.50"
    assert rows[-2:] == ["recipe | - | 1.25 | - | 0.50", "held-out data |  | 1.49 |  | 1.20"]


def test_no_table_is_left_out_of_these_tests():
    here = Path(__file__).read_text()
    called = {"digits", "mnist", "best", "learned", "linear", "slopes", "delta-mnist"}
    # tests/test_benchmark_flows.py, tests/test_benchmark_cleaning.py, tests/test_benchmarks.py
    of_runs = {"flows-distance", "mixtures", "cleaning"}
    of_runs |= {"ratios", "one-model", "cost", "cost-unseen", "cost-predicted", "cost-images"}
    made_here = {name for name in TABLES if f'made("{name}"' in here}
    assert made_here | called | of_runs | {"peers", "recipe"} == set(TABLES)
    assert made("peers", {"tables": {"peers": ["a | b", "c | d"]}}) == ["a | b", "c | d"]
