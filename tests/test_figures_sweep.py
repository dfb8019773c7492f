import itertools
import warnings

import numpy as np
import pytest
import xarray as xr

from spread_jax import figures, over_seeds
from spread_jax.aggregate import fan_over_seeds

SIGMAS = (0.0, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, *np.arange(0.011, 0.019, 0.001).round(3))


def sweep_of(num_sigmas, num_rates):
    rng = np.random.default_rng(0)
    dims = ("sigma_fix", "learning_rate", "seed")
    values = rng.uniform(0.1, 1, (num_sigmas, num_rates, 3))
    names = ("spread_kl_at_reference", "energy_distance", "late_loss_std", "max_loss_rise")
    dataset = xr.Dataset(
        dict.fromkeys(names, (dims, values)) | {"recovered": (dims, values > 0.5)},
        coords={
            "sigma_fix": sorted(SIGMAS[:num_sigmas]),
            "learning_rate": np.geomspace(1e-4, 3e-2, num_rates).round(4),
        },
    )
    return over_seeds(dataset)


@pytest.mark.parametrize(("num_sigmas", "num_rates"), [(4, 1), (8, 3), (4, 6), (16, 6)])
def test_labels_of_a_sweep_do_not_overprint(num_sigmas, num_rates, tmp_path):
    dataset = sweep_of(num_sigmas, num_rates)
    drawn = [figures.recovery_figure(dataset), figures.distance_figure(dataset)]
    assert all(bool(figure.legends) == (num_rates > 1) for figure in drawn)
    for figure in (*drawn, figures.recovery_heat_map(dataset)):
        figure.savefig(tmp_path / "figure.png")
        axes = figure.axes[1 if figure is drawn[1] else 0]
        boxes = [label.get_window_extent() for label in axes.get_xticklabels()]
        assert all(left.x1 <= right.x0 for left, right in itertools.pairwise(boxes))
        for legend in figure.legends:
            box = legend.get_window_extent()
            assert 0 <= box.x0 < box.x1 <= figure.bbox.width
            assert box.y1 <= axes.xaxis.label.get_window_extent().y0


def test_a_panel_of_zeros_stays_linear(tmp_path):
    dataset = sweep_of(4, 1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure = figures.stability_figure(dataset.assign(max_loss_rise=0 * dataset.max_loss_rise))
        figure.savefig(tmp_path / "figure.png")
    assert [axes.get_yscale() for axes in figure.axes] == ["log", "linear"]


def broken_sweep(num_broken):
    """Seven seeds at each of three σ_fix; of the second, the first runs have no number."""
    values = np.random.default_rng(0).lognormal(size=(3, 7))
    values[1, :num_broken] = np.nan
    names = ("late_loss_std", "max_loss_rise", "mode_error", "std_error", "energy_distance")
    return xr.Dataset(
        {name: (("sigma_fix", "seed"), values, {"better": "lower"}) for name in names},
        {"sigma_fix": [0.0, 0.1, 0.3]},
    ).assign(spread_kl_at_reference=(("sigma_fix", "seed"), values))


def triangles(axes):
    """Places of the marks of broken runs, and their heights as shares of the panel."""
    marks = [line.get_xydata() for line in axes.lines if line.get_marker() in "v^<>"]
    return np.concatenate([np.empty((0, 2)), *marks])


@pytest.mark.parametrize("num_broken", [1, 3, 4, 7])
def test_broken_runs_reach_the_top_of_their_panel(num_broken, tmp_path):
    """By hand: of seven seeds the middle is the fourth, and the interval their range: from one
    broken run on the interval has no end, from four on the middle has no number."""
    summary = over_seeds(broken_sweep(num_broken))
    drawn = [
        figures.stability_figure(summary),
        figures.distance_figure(summary),
        figures.price_figure(summary, {0.1: 1.0, 0.3: 0.5}),
    ]
    for figure in drawn:
        figure.savefig(tmp_path / "figure.png")
        for axes in figure.axes[:2]:
            top = axes.get_ylim()[1]
            expected = [[1.0, 1.0]] if num_broken >= 4 else []
            np.testing.assert_allclose(triangles(axes), np.reshape(expected, (-1, 2)))
            (_, to_the_top) = axes.collections
            ((low, high),) = to_the_top.get_segments()
            assert low[0] == high[0] == 1.0
            assert high[1] == top
            assert (low[1] == top) == (num_broken == 7)


@pytest.mark.parametrize(("num_broken", "height"), [(0, 2.0), (1, None), (2, None)])
def test_a_fan_of_broken_runs_goes_to_the_top(num_broken, height, tmp_path):
    """By hand: of two runs at losses 1 and 2, the upper 5 % is above any number once one breaks."""
    loss = np.tile([[[1.0], [2.0]]], (1, 1, 4))
    loss[0, :num_broken, 2:] = np.nan
    runs = xr.Dataset(
        dict.fromkeys(("loss", "loss_max"), (("sigma_fix", "seed", "step"), loss)),
        {"sigma_fix": [0.1], "step": [1, 2, 3, 4]},
    )
    figure = figures.loss_fan_figure(fan_over_seeds(runs))
    figure.savefig(tmp_path / "figure.png")
    (axes,) = figure.axes
    (band,) = axes.collections
    highest = band.get_paths()[0].vertices[:, 1].max()
    assert highest == pytest.approx(axes.get_ylim()[1] if height is None else height, rel=0.06)
    assert np.isfinite(axes.lines[0].get_ydata()).all()


def test_quality_against_sigma_marks_broken_runs_at_the_worse_edge(tmp_path):
    """Truths: a Fréchet distance is worst at the top, precision and recall at the bottom."""
    better = {"frechet": "lower", "precision": "higher", "recall": "higher"}
    values = np.random.default_rng(0).uniform(0.2, 0.9, (3, 3))
    values[2, 0] = np.nan
    dataset = xr.Dataset(
        {name: (("cell", "seed"), values, {"better": b}) for name, b in better.items()},
        {
            "arm": ("cell", ["plain", "mine", "mine"]),
            "sigma_fix": ("cell", [0.0, 0.1, 0.3]),
            "label": ("cell", ["plain", "mine", "mine"]),
            "color": ("cell", ["#000000", "#0072B2", "#0072B2"]),
            "has_noise": ("cell", [False, True, True]),
        },
    )
    reference = dict.fromkeys(better, 0.5)
    figure = figures.sigma_fix_figure(dataset, over_seeds(dataset), reference, [0.1, 0.2])
    figure.savefig(tmp_path / "figure.png")
    for axes, edge in zip(figure.axes, (1, 0, 0), strict=True):
        np.testing.assert_allclose(triangles(axes), [[0.3, edge]])
