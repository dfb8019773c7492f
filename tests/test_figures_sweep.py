import itertools
import warnings

import numpy as np
import pytest
import xarray as xr

from spread_jax import figures

SIGMAS = (0.0, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, *np.arange(0.011, 0.019, 0.001).round(3))


def sweep_of(num_sigmas, num_rates):
    rng = np.random.default_rng(0)
    dims = ("sigma_fix", "learning_rate", "seed")
    values = rng.uniform(0.1, 1, (num_sigmas, num_rates, 3))
    names = ("spread_kl_at_reference", "energy_distance", "late_loss_std", "max_loss_rise")
    return xr.Dataset(
        dict.fromkeys(names, (dims, values)) | {"recovered": (dims, values > 0.5)},
        coords={
            "sigma_fix": sorted(SIGMAS[:num_sigmas]),
            "learning_rate": np.geomspace(1e-4, 3e-2, num_rates).round(4),
        },
    )


@pytest.mark.parametrize(("num_sigmas", "num_rates"), [(4, 1), (8, 3), (4, 6), (16, 6)])
def test_labels_of_a_sweep_do_not_overprint(num_sigmas, num_rates, tmp_path):
    dataset = sweep_of(num_sigmas, num_rates)
    drawn = [figures.recovery_figure(dataset), figures.distance_figure(dataset)]
    assert all(bool(figure.legends) == (num_rates > 3) for figure in drawn)
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
