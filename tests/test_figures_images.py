import numpy as np
import pytest
import xarray as xr

from spread_jax import figures


@pytest.fixture
def curves():
    """What the command fit writes, of two arms, three steps and images of 2 x 3."""
    rng = np.random.default_rng(0)
    names = ("loss", "loss_max", "min_sigma", "median_sigma")
    return xr.Dataset(
        {
            **{name: (("cell", "seed", "step"), rng.uniform(1, 2, (2, 2, 3))) for name in names},
            "sigma": (("cell", "seed", "step", "pixel"), rng.uniform(0.1, 1, (2, 2, 3, 6))),
        },
        coords={
            "arm": ["vae", "spread_vae"],
            "shown_cell": ("arm", [0, 1]),
            "cell_sigma_fix": ("cell", [0.0, 0.3]),
            "step": [1, 2, 3],
        },
        attrs={"sigma_fix": 0.3, "floor": 0.5},
    )


def draw_curves(dataset, shape, tmp_path):
    drawn = (
        figures.arms_loss_figure(dataset),
        figures.arms_sigma_figure(dataset),
        figures.sigma_maps_figure(dataset, shape),
    )
    for figure in drawn:
        figure.savefig(tmp_path / "figure.png")
    return drawn


@pytest.mark.parametrize("shape", [(2, 3), None])
def test_runs_without_a_finite_number_are_drawn_all_the_same(curves, shape, tmp_path):
    draw_curves(xr.full_like(curves, np.nan), shape, tmp_path)
