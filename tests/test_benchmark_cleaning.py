"""The benchmark of clean samples: its law, its table, and the files it writes."""

import json
import sys

import jax
import numpy as np
import pytest

from benchmarks import cleaning
from spread_jax.cli import command


def test_the_law_is_a_mixture_of_spread_gaussians():
    """Truth: SciPy's density, of width √(0.05² + 0.1²), up to a constant."""
    from scipy import stats

    log_prob, means, y = cleaning.spread_law(2, 50)
    scale = np.hypot(0.05, 0.1)
    each = [stats.norm.pdf(y, mean, scale).prod(axis=1) for mean in np.asarray(means)]
    difference = np.asarray(log_prob(y)) - np.log(np.sum(each, axis=0))
    np.testing.assert_allclose(difference, difference[0], atol=1e-4)


def test_rows_of_the_table_are_worked_out_by_hand():
    seconds = {"ours": [0.1, 0.2, 0.4], "formulas": [0.2, 0.6, 0.4]}
    each = {"dim": 20, "points": 2000, "seconds": seconds}
    assert list(cleaning.table([each]))[1:] == ["20 | 2,000 | 0.2 | 0.4 | 2"]


@pytest.mark.slow
def test_both_ways_draw_points_of_the_clean_law(tmp_path, monkeypatch):
    """Truth: its width of 0.05 about each mean, within 5 standard errors, of 2,000 and of 50 points
    in 20 and 784 dimensions; in the plane the ten overlap."""
    arguments = ["cleaning", "--points", "10", "2000", "50", "--repeats", "1"]
    monkeypatch.setattr(sys, "argv", [*arguments, "--out", str(tmp_path)])
    command.main(cleaning.Settings, cleaning.run)
    _, *found = json.loads((tmp_path / "metrics.json").read_text())["results"]
    for each in found:
        error = 0.05 / np.sqrt(2 * each["dim"] * each["points"])
        for width in each["widths"].values():
            assert abs(width - 0.05) < 5 * error
        assert all(len(seconds) == 1 for seconds in each["seconds"].values())


def test_bad_values_are_named(tmp_path, monkeypatch, capsys):
    for flags, said in (
        (["--points", "9", "0", "9"], "--points 9 0 9: must be 3 numbers of at least 1"),
        (["--repeats", "0"], "--repeats 0: must be at least 1"),
    ):
        monkeypatch.setattr(sys, "argv", ["cleaning", *flags, "--out", str(tmp_path)])
        with pytest.raises(SystemExit) as exit:
            command.main(cleaning.Settings, cleaning.run)
        assert exit.value.code == 2
        assert said in capsys.readouterr().err


def test_a_width_is_taken_about_the_nearest_mean():
    """By hand: off by 0.3 and by 0.4, in one of two coordinates each."""
    means = jax.numpy.array([[0.0, 0.0], [5.0, 0.0]])
    x = jax.numpy.array([[0.3, 0.0], [5.0, 0.4]])
    assert cleaning.width(x, means) == pytest.approx(np.sqrt((0.09 + 0.16) / 4), rel=1e-6)
