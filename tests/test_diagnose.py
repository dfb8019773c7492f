import json
import subprocess
import sys

import jax
import matplotlib.pyplot as plt
import numpy as np
import pytest

import spread_jax as sj
from spread_jax.cli import command, diagnose

KEYS = {
    "verdict",
    "reasons",
    "constant_columns",
    "dependent_columns",
    "discrete_columns",
    "duplicate_rows",
    "rank",
    "dim",
    "rows",
    "intrinsic_dimension",
    "suggested_sigma",
    "suggested_sigma_why",
    "columns",
    "start_with",
    "sigma_unit",
}


def run_diagnose(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "experiments.diagnose", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.fixture(scope="module")
def two_modes(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "two_modes.csv"
    x = np.asarray(sj.sample_two_modes(jax.random.key(0), 300), np.float64)
    np.savetxt(path, x, delimiter=",", header="x,y", comments="")
    return path


@pytest.mark.slow
def test_json_is_one_object_with_the_keys_of_the_contract(two_modes, tmp_path):
    done = run_diagnose(two_modes, "--json", "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout, parse_constant=pytest.fail)
    assert set(found) >= KEYS
    assert found["verdict"] == "degenerate"
    assert (found["rows"], found["dim"], found["rank"]) == (300, 2, 1)
    assert found["constant_columns"] == [1]
    low, high = found["intrinsic_dimension"]["interval"]
    assert low < 1.05
    assert high > 1
    low, high = found["suggested_sigma"]
    assert 0.02 < low < found["start_with"] < high < 0.1
    assert found["sigma_unit"] == "standard deviations of a column"
    assert "suggested_sigma_standardized" not in found
    assert "nearest neighbours ..." in done.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"diagnosis.png", "metrics.json"}
    metrics = json.loads((tmp_path / "metrics.json").read_text(), parse_constant=pytest.fail)
    assert metrics["config"]["file"] == str(two_modes)
    assert metrics["environment"]["versions"]["scikit-learn"]
    assert {key: metrics[key] for key in found} == found


def test_the_report_gives_verdict_reasons_and_both_ends(two_modes, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(
        sys, "argv", ["diagnose.py", str(two_modes), "--out", str(tmp_path), "--quiet"]
    )
    command.main(diagnose.Settings, diagnose.run)
    captured = capsys.readouterr()
    for words in ("verdict: degenerate", "column 'y' is constant", "a third of"):
        assert words in captured.out
    assert captured.err == ""


def report_of(path, tmp_path, monkeypatch, capsys, *flags):
    arguments = ["diagnose.py", str(path), "--out", str(tmp_path / "out"), "--quiet", *flags]
    monkeypatch.setattr(sys, "argv", arguments)
    command.main(diagnose.Settings, diagnose.run)
    captured = capsys.readouterr()
    assert captured.err == ""
    return captured.out


def test_one_answer_stands_first_in_the_unit_that_fit_takes(tmp_path, monkeypatch, capsys):
    """Truth: suggest_sigma of the standardized columns, which are 1,000 wide here."""
    x = 1000 * np.random.default_rng(0).standard_normal((200, 2))
    np.save(tmp_path / "x.npy", x)
    sigma = sj.suggest_sigma(sj.standardize(x)[0])
    first, second, *_ = report_of(tmp_path / "x.npy", tmp_path, monkeypatch, capsys).splitlines()
    assert first.endswith("200 rows, 2 columns")
    answer = f"{(sigma.low * sigma.high) ** 0.5:.2g}"
    assert second == f"start with σ_fix = {answer} (standard deviations of a column)"


def test_files_of_images_are_answered_in_pixels(tmp_path, monkeypatch, capsys):
    """Truth: suggest_sigma of the rows over 255."""
    x = np.random.default_rng(0).integers(0, 256, (100, 4, 4), np.uint8)
    np.save(tmp_path / "x.npy", x)
    sigma = sj.suggest_sigma(x.reshape(100, 16).astype(np.float32) / 255)
    report = report_of(tmp_path / "x.npy", tmp_path, monkeypatch, capsys, "--json")
    found = json.loads(report)
    assert found["sigma_unit"] == "pixels in [0, 1]"
    assert found["suggested_sigma"] == pytest.approx(sigma[:2], rel=1e-5)
    assert found["start_with"] == pytest.approx((sigma.low * sigma.high) ** 0.5, rel=1e-5)


def test_where_nothing_varies_there_is_no_answer(tmp_path, monkeypatch, capsys):
    np.save(tmp_path / "x.npy", np.ones((10, 2)))
    report = report_of(tmp_path / "x.npy", tmp_path, monkeypatch, capsys)
    assert "no σ_fix to start with: nothing varies" in report


def test_help_answers_at_once(best_cpu_seconds):
    done, seconds = best_cpu_seconds(lambda: run_diagnose("--help"))
    assert done.returncode == 0
    assert "outputs/diagnose" in done.stdout
    assert seconds < 0.5


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("missing.npy", None, "a file or folder that exists"),
        ("nan.csv", "1,2\n3,nan\n", "line 2, column 2 is missing"),
        ("ragged.csv", "1,2\n3\n", "rows of equal length"),
        ("empty.npy", "", "not an empty one"),
        ("words.txt", "hello", "this one has none"),
        ("words.doc", "hello", ".npy, .npz, .csv"),
    ],
)
def test_a_bad_file_is_named_in_one_line_and_nothing_is_written(
    name, content, words, monkeypatch, capsys, tmp_path
):
    path = tmp_path / name
    if content is not None:
        path.write_text(content)
    out = tmp_path / "out"
    arguments = ["diagnose.py", str(path), "--out", str(out), "--quiet"]
    monkeypatch.setattr(sys, "argv", arguments)
    with pytest.raises(SystemExit) as exit:
        command.main(diagnose.Settings, diagnose.run)
    error = capsys.readouterr().err
    assert exit.value.code == 2
    assert error.startswith(f"error: FILE {path}: must be ")
    assert words in error
    assert error.count("\n") == 1
    assert not out.exists()


@pytest.mark.parametrize(
    "x",
    [
        np.random.default_rng(0).standard_normal((100, 5)),
        np.random.default_rng(0).integers(0, 3, (100, 5)),
        np.ones((10, 2)),
        np.arange(2.0)[:, None],
    ],
)
def test_the_picture_is_drawn_for_any_table(x, tmp_path):
    found = sj.diagnose(x)
    figure = sj.figures.diagnosis_figure(found)
    words = " ".join(text.get_text() for text in figure.findobj(plt.Text))
    for expected in (found.verdict, "column scales", "distinct values", "rank"):
        assert expected in words
    figure.savefig(tmp_path / "diagnosis.png")
    assert plt.imread(tmp_path / "diagnosis.png")[..., :3].std() > 0.05  # not a blank page
