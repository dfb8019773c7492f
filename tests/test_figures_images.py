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


def test_one_record_is_a_dot(curves, tmp_path):
    loss, sigma, _ = draw_curves(curves.isel(step=[0]), (2, 3), tmp_path)
    for figure in (loss, sigma):
        assert {line.get_marker() for line in figure.axes[0].lines[:2]} == {"."}


def test_words_of_the_sigma_figures_have_room(curves, tmp_path):
    _, sigma, maps = draw_curves(curves.isel(pixel=[0]), None, tmp_path)
    left, right = (axes.title.get_window_extent() for axes in sigma.axes)
    assert left.x1 < right.x0
    assert [tick for tick in maps.axes[0].get_yticks() if abs(tick) < 1] == [0]


@pytest.mark.parametrize("shape", [(8, 8), (10, 40), (40, 10)])
@pytest.mark.parametrize("count", [2, 10])
def test_bounds_of_the_worst_images_do_not_overprint(shape, count, tmp_path):
    rng = np.random.default_rng(0)
    names = ["vae", "spread_vae", "shared_variance", "fixed_variance", "delta_vae"]
    dataset = xr.Dataset(
        {
            "worst": (("worst_image", "pixel"), rng.uniform(size=(count, np.prod(shape)))),
            "worst_bound": (("arm", "worst_image"), rng.uniform(-160, -50, (5, count))),
        },
        coords={"arm": names},
    )
    figure = figures.worst_images_figure(dataset, shape)
    figure.savefig(tmp_path / "worst.png")
    for axes in figure.axes:
        boxes = [text.get_window_extent() for text in axes.texts]
        tops = [axes.get_window_extent().y0, *(box.y0 for box in boxes)]
        assert all(top >= box.y1 for top, box in zip(tops, boxes, strict=False))
        assert boxes[-1].y0 >= figure.legends[0].get_window_extent().y1
