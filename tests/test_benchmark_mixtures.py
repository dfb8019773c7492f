"""The benchmark of mixtures: its data, its table, and the files it writes."""

import json
import sys

import numpy as np
import pytest

from benchmarks import mixtures
from spread_jax.cli import command


def test_rows_lie_in_planes_and_a_step_off_one_is_as_far_as_it_is_long():
    """Truth: rows near each other span two directions of five; the others lead off their plane."""
    x, planes = mixtures.flat_data(1000)

    def distance(points):
        return planes.distances(points).min(axis=1)

    assert distance(x).max() < 1e-12
    near = x[np.argsort(np.linalg.norm(x - x[0], axis=1))[:10]]
    _, sizes, directions = np.linalg.svd(near[1:] - near[0])
    assert sizes[1] > 1e-3
    assert sizes[2] < 1e-12
    for normal in directions[2:]:
        assert distance(near[:1] + 1e-3 * normal)[0] == pytest.approx(1e-3, rel=1e-9)


def test_edge_on_a_plane_is_a_line():
    """Truth: rows of the first plane have a standard deviation of 1 along it, and are not off it;
    those of the other planes are left out."""
    x, planes = mixtures.flat_data(3000)
    along, off = planes.edge_on(x).T
    assert np.sum(planes.distances(x)[:, 0] < 1e-12) <= len(off) < 1.2 * len(x) / 3
    assert np.abs(off).max() < 1e-12
    assert along.std() == pytest.approx(1, abs=5 / np.sqrt(2 * len(along)))
    # the drawn normal is a unit vector of the span of these three: its squared parts add up to 1
    row = x[planes.distances(x)[:, 0] < 1e-12][:1]
    normals = np.linalg.svd(planes.axes[0])[0][:, 2:].T
    steps = [planes.edge_on(row + 1e-3 * normal)[0, 1] for normal in normals]
    assert np.linalg.norm(steps) == pytest.approx(1e-3, rel=1e-9)


def test_rows_of_the_table_are_worked_out_by_hand():
    one = {"rows": 1000, "components": 3, "off_by": 0.00612, "seconds": [9.73, 1.31]}
    other = {"rows": 2000, "components": 3, "off_by": 0.05, "seconds": [41.2]}
    assert list(mixtures.table({"way": [one, other]}, (1000, 2000))) == [
        "what | off by, 1,000 rows | components | seconds | again | "
        "off by, 2,000 rows | components | seconds | again",
        "way | 0.00612 | 3 | 9.73 | 1.31 | 0.05 | 3 | 41.2 | ",
    ]


def test_a_peer_that_is_not_installed_is_left_out_and_told(tmp_path, monkeypatch, capsys):
    """The seconds of a second call are kept of what compiles alone."""
    ways = {name: lambda x: (3, x[:10]) for name in ("ours", "theirs")}
    monkeypatch.setattr(mixtures, "OURS", {"ours": ways["ours"]})
    monkeypatch.setattr(mixtures, "ways", lambda rows: ways)
    monkeypatch.setattr(mixtures.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(sys, "argv", ["mixtures", "--rows", "100", "--out", str(tmp_path)])
    command.main(mixtures.Settings, mixtures.run)
    assert "astroML is left out: pip install -e '.[bench]'" in capsys.readouterr().out
    assert {path.name for path in tmp_path.iterdir()} == {"metrics.json", "mixtures.png"}
    results = json.loads((tmp_path / "metrics.json").read_text())["results"]
    assert [len(results[name][0]["seconds"]) for name in ways] == [2, 1]
    assert results["ours"][0]["off_by"] < 1e-12  # rows of the data themselves


def test_bad_values_are_named(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["mixtures", "--rows", "99", "--out", str(tmp_path)])
    with pytest.raises(SystemExit) as exit:
        command.main(mixtures.Settings, mixtures.run)
    assert exit.value.code == 2
    assert "--rows 99: must be numbers of at least 100" in capsys.readouterr().err


@pytest.mark.slow
def test_extreme_deconvolution_of_astroml_is_nearer_than_the_rows(monkeypatch):
    """Truth: the planes; the rows are √3 · 0.03 off, by three of their five columns."""
    pytest.importorskip("astroML", reason="astroML is not installed: pip install -e '.[bench]'")
    monkeypatch.setattr(mixtures, "PEER_ROWS", 50_000)
    x, planes = mixtures.flat_data(500)
    components, samples = mixtures.astro_ml(x, 0.03)
    assert components == mixtures.PLANES
    assert np.sqrt(np.mean(planes.distances(samples).min(axis=1) ** 2)) < 0.5 * np.sqrt(3) * 0.03
