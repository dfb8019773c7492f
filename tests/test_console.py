"""The console script: a user's own file in, a model, a page and rows out."""

import io
import json
import re
import sys

import numpy as np
import pandas as pd
import pytest
from people import people

from spread_jax.cli import app, fit
from spread_jax.data import parts, streams
from spread_jax.data.datasets import read_data

QUICK = ["--steps", "30", "--seeds", "2", "--hidden", "8", "--latent-sizes", "1", "2"]


def spread_jax(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["spread-jax", *map(str, arguments)])
    app.main()


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    """A folder with people.csv and a model of it, and what fit printed."""
    folder = tmp_path_factory.mktemp("job")
    people(120).to_csv(folder / "people.csv", index=False)
    told = io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdout", told)
        arguments = [folder / "people.csv", "--out", folder / "model", *QUICK, "--quiet"]
        spread_jax(patch, "fit", *arguments, "--no-compilation-cache")
    return folder, told.getvalue()


@pytest.mark.slow
def test_two_commands_from_a_file_to_rows_of_the_same_kind(job, monkeypatch, capsys):
    """Truth: names, types, the sum and the constant of the file."""
    folder, told = job
    assert "column 'sum' is height + weight" in told
    assert f"open {folder}/model/report.html" in told
    rows = folder / "rows.csv"
    arguments = ["sample", folder / "model", "-n", "500", "--out", rows, "--quiet"]
    spread_jax(monkeypatch, *arguments, "--no-compilation-cache")
    drawn, data = pd.read_csv(rows), people(120)
    assert len(drawn) == 500
    assert drawn.dtypes.tolist() == data.dtypes.tolist()
    assert list(drawn.columns) == list(data.columns)
    np.testing.assert_allclose(drawn["sum"], drawn["height"] + drawn["weight"])
    assert set(drawn["site"]) == {7}
    assert set(drawn["city"]) <= {"Ulm", "Rom", "Bern"}
    assert rows.with_suffix(".png").stat().st_size > 1_000
    seed = re.search(r"--seed (\d+)", capsys.readouterr().out)[1]
    again, other = folder / "again.tsv", folder / "other.csv"
    for out, wanted in ((again, ["--seed", seed]), (other, [])):
        arguments = ["sample", folder / "model", "-n", "500", "--out", out, *wanted, "--json"]
        spread_jax(monkeypatch, *arguments, "--no-compilation-cache")
    told = json.loads(capsys.readouterr().out.splitlines()[0])
    assert told == {"rows": 500, "seed": int(seed), "out": str(again)}
    pd.testing.assert_frame_equal(pd.read_csv(again, sep="\t"), drawn)
    assert not pd.read_csv(other).equals(drawn)  # tomorrow 500 more


@pytest.mark.slow
def test_the_folder_holds_the_model_the_page_and_last_the_numbers(job):
    folder = job[0] / "model"
    assert sorted(path.name for path in folder.iterdir()) == [
        *("arrays.npz", "metrics.json", "model.json", "numbers.json", "pairs.png"),
        *("report.html", "samples.png", "training.png"),
    ]
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["config"]["steps"] == 30
    assert metrics["columns"] == list(people(120).columns)
    assert metrics["numbers"]["rows"] == 12
    assert metrics["choices"]["rows"] == {"train": 97, "validation": 11}


@pytest.mark.slow
def test_the_page_needs_nothing_else_and_tells_what_was_assumed(job):
    page = (job[0] / "model" / "report.html").read_text(encoding="utf-8")
    assert not re.search(r"(src|href)=[\"'](?!data:)", page)
    assert page.count("data:image/png;base64,") == 3
    for words in ("is height + weight", "Bern", "sigma fix", "97 rows of 6 columns", "energy"):
        assert words in page


@pytest.mark.slow
@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_fits_a_browser_window(job, width, laid_out):
    """Truth: what headless Chromium lays out; a page must not be wider than its window."""
    found = laid_out(job[0] / "model" / "report.html", width)
    assert found["width"] <= width
    assert found["broken"] == []


REFUSED = {
    "no file": (["fit", "none.csv"], "none.csv: must be one of digits"),
    "missing cell": (["fit", "gap.csv"], "gap.csv: must be .*line 3, column 'b' is missing"),
    "one row": (["fit", "one.csv"], "FILE one.csv: must be .*2 rows or more"),
    "no such column": (["fit", "x.csv", "--drop", "c"], "--drop c: must be a column .*: a, b"),
    "no column left": (["fit", "x.csv", "--drop", "a", "b"], "a column is left"),
    "both": (["fit", "x.csv", "--drop", "a", "--only", "b"], "--drop a: must be without --only"),
    "no steps": (["fit", "x.csv", "--steps", "0"], "--steps 0: must be at least 1"),
    "no model": (["sample", "model"], "MODEL model: must be a folder that exists"),
    "other folder": (["sample", "."], "MODEL .: must be a folder that Fitted.save wrote"),
    "no rows": (["sample", ".", "-n", "0"], "-n 0: must be 1 to"),
    "other ending": (
        ["sample", ".", "--out", "x.xlsx"],
        "--out x.xlsx: must be a file name that ends in .csv",
    ),
    "no folder": (["sample", ".", "--out", "a/b/x.csv"], "in a folder that exists"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_be_used_is_refused_in_one_line(kind, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    pd.DataFrame({"a": [1.5, 2, 4, 3], "b": [3, 4, 7, 1]}).to_csv("x.csv", index=False)
    pd.DataFrame({"a": [1.5], "b": [3]}).to_csv("one.csv", index=False)
    (tmp_path / "gap.csv").write_text("a,b\n1,2\n3,\n5,6\n")
    arguments, words = REFUSED[kind]
    with pytest.raises(SystemExit) as error:
        spread_jax(monkeypatch, *arguments)
    assert error.value.code == 2
    told = capsys.readouterr().err.strip().splitlines()
    assert re.search(words, told[-1]), told
    assert not (tmp_path / "model" / "metrics.json").exists()


def test_rows_that_set_the_scale_are_named_before_training():
    x = np.random.default_rng(0).poisson(3, (100, 2)).astype(float)
    x[:3, 0] = [1e12, 2e12, 3e12]
    constant = pd.DataFrame(np.ones((100, 1)), columns=["one"])
    assert fit.notes_on(constant) == []
    (note,) = fit.notes_on(pd.DataFrame(x, columns=["count", "other"]))
    assert "3 rows, the first of them row 1, set the scale of column 'count'" in note
    assert fit.notes_on(pd.DataFrame({"city": ["Ulm", "Rom"]})) == []


@pytest.fixture(params=["large file", "folder", "parquet"])
def on_disk(request, tmp_path, monkeypatch):
    """A path of 900 rows that stay on the disk, and the names of their columns."""
    monkeypatch.setattr(parts, "LARGE_BYTES", 1000)
    monkeypatch.setattr(streams, "MOST_DRAWN", 300)
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 900))
    x, path = np.column_stack([a, b, a + b, np.full(900, 4.0)]), tmp_path / "x"
    if request.param == "large file":
        path = tmp_path / "x.npy"
        np.save(path, x)
        return path, ["1", "2", "3", "4"]
    path.mkdir()
    if request.param == "folder":
        np.save(path / "1.npy", x[:500])
        np.save(path / "2.npy", x[500:])
        return path, ["1", "2", "3", "4"]
    pytest.importorskip("pyarrow", reason="pyarrow, of the data extra, is not installed")
    frame = pd.DataFrame(x, columns=["a", "b", "sum", "four"]).astype({"four": int})
    frame.to_parquet(path / "1.parquet", index=False)
    return path, list(frame.columns)


@pytest.mark.slow
def test_a_folder_of_images_becomes_images_and_a_picture(monkeypatch, capsys, tmp_path):
    """Truth: the images' own greys, in the array, in the .png files and in the picture."""
    image = pytest.importorskip("PIL.Image", reason="Pillow, of the figures extra, is missing")
    (tmp_path / "photos").mkdir()
    for i in range(60):
        photo = np.full((4, 5), 60 + i % 30, np.uint8)
        image.fromarray(photo).save(tmp_path / "photos" / f"{i}.png")
    monkeypatch.chdir(tmp_path)
    spread_jax(monkeypatch, "fit", "photos", *QUICK, "--quiet", "--no-compilation-cache")
    assert "--out rows.npy" in capsys.readouterr().out
    spread_jax(monkeypatch, "sample", "model", "-n", "40", "--quiet", "--no-compilation-cache")
    drawn = np.load(tmp_path / "rows.npy")
    assert (drawn.shape, drawn.dtype) == ((40, 4, 5), np.uint8)
    arguments = ["sample", "model", "-n", "40", "--out", "drawn", "--quiet"]
    spread_jax(monkeypatch, *arguments, "--no-compilation-cache")
    assert sorted(path.name for path in (tmp_path / "drawn").iterdir())[:2] == ["01.png", "02.png"]
    there = read_data(tmp_path / "drawn", [].append)
    assert (there.shape, there.dtype) == ((40, 4, 5), np.uint8)
    assert drawn.max() <= 89
    assert there.max() <= 89
    assert abs(there.mean() - drawn.mean()) < 10  # of other draws
    with pytest.raises(SystemExit):
        spread_jax(monkeypatch, *arguments)
    assert "--out drawn: must be a folder that is empty or not there" in capsys.readouterr().err
    grey = np.asarray(image.open(tmp_path / "rows.png").convert("L"))
    shown = grey[grey < 250] * (89 / 255)  # white is the brightest pixel, 89
    assert abs(np.median(shown) - np.median(drawn)) < 10
    with pytest.raises(SystemExit):
        spread_jax(monkeypatch, "sample", "model", "--out", ".")
    assert "--out .: must be a file name" in capsys.readouterr().err


@pytest.mark.slow
def test_a_model_of_what_stays_on_the_disk(on_disk, monkeypatch, capsys, tmp_path):
    """Truth: the sum and the constant of the rows; 90 are held out, and of 810 75 are set aside."""
    path, names = on_disk
    arguments = [path, "--out", tmp_path / "model", *QUICK, "--quiet", "--no-compilation-cache"]
    spread_jax(monkeypatch, "fit", *arguments)
    told = capsys.readouterr()
    assert "rows stay on the disk, and are read as they are needed" in told.err
    assert "810 rows to train and choose by" in told.out
    metrics = json.loads((tmp_path / "model" / "metrics.json").read_text())
    assert metrics["choices"]["rows"] == {"train": 735, "validation": 75, "looked_at": 300}
    assert metrics["numbers"]["rows"] == 90
    assert metrics["columns"] == names
    rows = tmp_path / "rows.csv"
    spread_jax(monkeypatch, "sample", tmp_path / "model", "-n", 50, "--out", rows, "--quiet")
    drawn = pd.read_csv(rows)
    np.testing.assert_allclose(drawn.iloc[:, 2], drawn.iloc[:, 0] + drawn.iloc[:, 1], atol=1e-6)
    assert set(drawn.iloc[:, 3]) == {4}
    if path.is_dir() and names[0] == "a":
        assert list(drawn.columns) == names
        assert drawn["four"].dtype == int


def test_what_stays_on_the_disk_is_diagnosed_by_drawn_rows(on_disk, monkeypatch, capsys, tmp_path):
    """Truth: of four columns one is constant and one a sum."""
    path, names = on_disk
    spread_jax(monkeypatch, "diagnose", path, "--json", "--out", tmp_path / "out")
    told = capsys.readouterr()
    assert "assumed: 300 of 900 rows, drawn at random, stand for all of them" in told.err
    found = json.loads(told.out)
    assert (found["rows"], found["constant_columns"], found["rank"]) == (300, [3], 2)
    chosen = ["--drop", names[3], names[0], "--out", tmp_path / "out", "--json"]
    spread_jax(monkeypatch, "diagnose", path, *chosen)
    found = json.loads(capsys.readouterr().out)
    assert list(map(str, found["columns"])) == (names[1:3] if names[0] == "a" else ["1", "2"])
    assert found["verdict"] == "full-dimensional"


def test_small_files_are_read_as_before(tmp_path):
    """Truth: the array."""
    np.save(tmp_path / "x.npy", np.eye(3))
    told = []
    found = read_data(tmp_path / "x.npy", told.append)
    assert (type(found), told) == (np.ndarray, [])
    np.testing.assert_array_equal(found, np.eye(3))


def test_a_large_damaged_file_is_refused_in_one_line(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(parts, "LARGE_BYTES", 10)
    (tmp_path / "x.npy").write_bytes(b"no array at all")
    with pytest.raises(SystemExit):
        spread_jax(monkeypatch, "diagnose", tmp_path / "x.npy", "--out", tmp_path / "out")
    assert "x.npy: must be a whole .npy file of numbers" in capsys.readouterr().err


def test_columns_are_chosen_by_name_or_by_number(monkeypatch, tmp_path):
    from spread_jax.cli.reading import ReadingSettings, read

    frame = pd.DataFrame({"a": [1.5, 2], "b": [3, 4], "c": [5, 6]})
    frame.to_csv(tmp_path / "x.csv", index=False)
    np.save(tmp_path / "x.npy", frame.to_numpy())
    for settings, kept in (
        (ReadingSettings(drop=("b",)), ["a", "c"]),
        (ReadingSettings(only=("b",)), ["b"]),
    ):
        assert list(read(settings, str(tmp_path / "x.csv"), print).columns) == kept
    only = read(ReadingSettings(only=("3", "1")), str(tmp_path / "x.npy"), print)
    np.testing.assert_array_equal(only, frame[["a", "c"]])
