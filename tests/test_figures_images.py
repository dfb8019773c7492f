import numpy as np
import pytest
import xarray as xr
from matplotlib.backends.backend_agg import FigureCanvasAgg
from sklearn.decomposition import PCA

from spread_jax import figures, over_seeds
from spread_jax.arms import ARMS
from spread_jax.comparison import describe
from spread_jax.pictures import project_table


@pytest.fixture
def curves():
    """What the command fit writes, of two arms, three steps and images of 2 x 3."""
    rng = np.random.default_rng(0)
    names = ("loss", "loss_max", "min_sigma", "median_sigma")
    return xr.Dataset(
        {
            **{name: (("cell", "seed", "step"), rng.uniform(1, 2, (2, 2, 3))) for name in names},
            "sigma": (("cell", "seed", "step", "pixel"), rng.uniform(0.1, 1, (2, 2, 3, 6))),
            "floor": ("cell", [np.nan, 0.5]),
        },
        coords={"sigma_fix": ("cell", [0.0, 0.3]), "step": [1, 2, 3]},
    ).pipe(describe, [ARMS["vae"], ARMS["spread_vae"]])


def test_a_floor_is_drawn_where_an_arm_has_one(curves, tmp_path):
    plain, spread = draw_curves(curves, (2, 3), tmp_path)[0].axes
    assert [line.get_linestyle() for line in plain.lines].count("--") == 0
    assert [line.get_linestyle() for line in spread.lines].count("--") == 1


def draw_curves(dataset, shape, tmp_path):
    drawn = (
        figures.loss_figure(dataset),
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
    names = ["vae", "spread_vae", "shared_variance", "fixed_variance", "spread_delta"]
    dataset = xr.Dataset(
        {
            "worst": (("worst_image", "pixel"), rng.uniform(size=(count, np.prod(shape)))),
            "worst_bound": (("cell", "worst_image"), rng.uniform(-160, -50, (5, count))),
        },
    ).pipe(describe, [ARMS[name] for name in names])
    figure = figures.worst_images_figure(dataset, shape)
    figure.savefig(tmp_path / "worst.png")
    for axes in figure.axes:
        boxes = [text.get_window_extent() for text in axes.texts]
        tops = [axes.get_window_extent().y0, *(box.y0 for box in boxes)]
        assert all(top >= box.y1 for top, box in zip(tops, boxes, strict=False))
        assert boxes[-1].y0 >= figure.legends[0].get_window_extent().y1


def pictures_of(curves):
    """With what else the command fit draws, and the arms' names."""
    rng = np.random.default_rng(1)
    kinds = ("samples", "normal_samples", "fitted_samples", "fitted_means", "reconstructions")
    better = {"frechet": "lower", "precision": "higher", "recall": "higher"}
    variables = {
        **{name: (("cell", "picture", "pixel"), rng.uniform(size=(2, 4, 6))) for name in kinds},
        "held_out": (("picture", "pixel"), rng.uniform(size=(4, 6))),
        **{
            name: (("cell", "seed"), rng.uniform(0.1, 1, (2, 2)), {"better": direction})
            for name, direction in better.items()
        },
        "traversal": (("cell", "latent", "value", "pixel"), rng.uniform(size=(2, 2, 3, 6))),
        "worst": (("worst_image", "pixel"), rng.uniform(size=(3, 6))),
        "worst_bound": (("cell", "worst_image"), rng.uniform(-9, -5, (2, 3))),
    }
    return project_table(curves.assign(variables))


DRAWN = {
    "loss": figures.loss_figure,
    "arms_sigma": figures.arms_sigma_figure,
    "sigma_maps": lambda dataset: figures.sigma_maps_figure(dataset, (2, 3)),
    "sigma_maps_of_a_table": lambda dataset: figures.sigma_maps_figure(dataset, None),
    "mosaics": lambda dataset: figures.mosaics_figure(dataset, (2, 3)),
    "traversal": lambda dataset: figures.traversal_figure(dataset, (2, 3)),
    "worst_images": lambda dataset: figures.worst_images_figure(dataset, (2, 3)),
    "table_samples": figures.table_samples_figure,
    "sigma_fix": lambda dataset: figures.sigma_fix_figure(
        dataset, over_seeds(dataset), dict.fromkeys(("frechet", "precision", "recall"), 0.5), None
    ),
}


def pixels(figure):
    figure.set_dpi(50)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())


@pytest.mark.parametrize("name", DRAWN)
def test_the_name_of_an_arm_changes_nothing(name, curves):
    """Truth: the same picture, pixel by pixel, where only the arms' names differ."""
    named = [
        pictures_of(curves).assign_coords(arm=("cell", names))
        for names in (["vae", "spread_vae"], ["spread_vae", "anything"])
    ]
    first, second = (pixels(DRAWN[name](dataset)) for dataset in named)
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("name", DRAWN)
def test_an_arm_whose_runs_all_broke_is_drawn_all_the_same(name, curves, tmp_path):
    dataset = pictures_of(curves).assign_coords(arm=("cell", ["vae", "spread_vae"]))
    known = ("held_out", "held_out_projected", "worst")  # the data
    is_second = xr.DataArray([False, True], dims="cell")
    broken = dataset.assign(
        {k: v.where(~is_second) for k, v in dataset.data_vars.items() if k not in known}
    )
    DRAWN[name](broken).savefig(tmp_path / "figure.png")


def test_a_mosaic_for_each_way_to_draw_under_the_data(curves):
    """Truth: the first picture of each is the top left tile of its mosaic, in the order here."""
    dataset = pictures_of(curves).isel(cell=[0])
    figure = figures.mosaics_figure(dataset, (2, 3))
    names = ("normal_samples", "fitted_samples", "fitted_means", "reconstructions")
    shown = [[dataset["held_out"]] * len(names), [dataset[name].isel(cell=0) for name in names]]
    panels = np.reshape(figure.axes, (2, len(names)))
    tiles = [[axes.images[0].get_array()[:2, :3] for axes in row] for row in panels]
    for row, of_row in zip(tiles, shown, strict=True):
        for tile, images in zip(row, of_row, strict=True):
            np.testing.assert_allclose(tile, images.values[0].reshape(2, 3))
    titles = [axes.get_title() for axes in panels[1]]
    assert titles == [
        "samples,\nz from N(0, I)",
        "samples,\nz from the fitted latent",
        "means,\nz from the fitted latent",
        "reconstructions\nof the data above",
    ]


@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 1), (2, 3, 3)])
def test_a_mosaic_is_its_images_a_pixel_apart(shape):
    """Truth: the images themselves; between them white, which is 1 of light."""
    images = np.random.default_rng(0).uniform(0.1, 0.9, (3, np.prod(shape)))
    images[2] = np.nan  # of a broken run
    canvas = figures.images_figure(images, shape).axes[0].images[0].get_array()
    shown = images.reshape(-1, *(shape if shape[-1:] == (3,) and len(shape) > 2 else shape[:2]))
    for i in range(2):
        np.testing.assert_array_equal(canvas[:2, 4 * i : 4 * i + 3], shown[i])
    if canvas.ndim == 3:
        assert (canvas[:2, 8:11] == 1).all()
    assert (canvas[2] == 1).all()


def test_figures_of_colours_are_drawn(curves, tmp_path):
    """The σ of a place is the geometric mean of its channels: truth by hand."""
    dataset = pictures_of(curves).assign_coords(arm=("cell", ["vae", "spread_vae"]))
    shape = (1, 2, 3)
    tiles = {"mosaics_figure": "held_out", "traversal_figure": "traversal"}
    for name, variable in tiles.items():
        figure = getattr(figures, name)(dataset, shape)
        figure.savefig(tmp_path / "figure.png")
        tile = figure.axes[0].images[0].get_array()[:1, :2]
        first = dataset[variable].values.reshape(-1, *shape)[0]
        np.testing.assert_allclose(tile, first)
    worst = figures.worst_images_figure(dataset, shape)
    worst.savefig(tmp_path / "figure.png")
    shown = worst.axes[0].images[0].get_array()
    np.testing.assert_allclose(shown, dataset["worst"].values[0].reshape(shape))
    figure = figures.sigma_maps_figure(dataset, shape)
    last = figure.axes[2].images[0].get_array()
    sigma = dataset["sigma"].values[0, 0, -1].reshape(2, 3)
    np.testing.assert_allclose(last[0], np.log10(sigma).mean(axis=1))


@pytest.mark.parametrize("columns", [1, 2, 6])
def test_a_table_is_projected_on_its_main_directions(columns, curves):
    """Truth: scikit-learn's principal components, whose signs are free."""
    shown = pictures_of(curves)[["samples", "held_out"]].isel(pixel=slice(columns))
    projected = project_table(shown)
    known = PCA(min(columns, 2)).fit(shown["held_out"].values)
    for name, dims in (("samples", ("cell", "picture")), ("held_out", ("picture",))):
        found = projected[f"{name}_projected"]
        assert found.dims == (*dims, "direction")
        expected = known.transform(shown[name].values.reshape(-1, columns))
        expected = np.pad(expected, ((0, 0), (0, 2 - expected.shape[1])))
        np.testing.assert_allclose(np.abs(found.values.reshape(-1, 2)), np.abs(expected), atol=1e-9)
