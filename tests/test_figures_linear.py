import itertools

import matplotlib.pyplot as plt
import numpy as np
import pytest
import xarray as xr

from spread_jax import diagnose, figures, over_seeds
from spread_jax.linear_comparison import ALGORITHMS


@pytest.fixture
def linear_results():
    rng = np.random.default_rng(0)
    shape = (2, 3, 4, 5, 11)
    error = np.exp(-np.linspace(0, 5, 11)) * rng.uniform(0.5, 1, shape)
    error[0, 2, 3] = 0  # exact: a log axis has no place for it
    return xr.Dataset(
        {
            "error": (("model", "algorithm", "gamma", "seed", "iteration"), error),
            "seconds": (
                ("model", "algorithm", "iteration"),
                np.broadcast_to(np.linspace(0, 2, 11), (2, 3, 11)),
            ),
            "eigen_error": (("gamma", "seed"), rng.uniform(0.01, 0.02, (4, 5))),
            "fastica_error": (("seed",), rng.uniform(0.01, 0.02, 5)),
        },
        coords={
            "model": ["pca", "ica"],
            "algorithm": list(ALGORITHMS),
            "gamma": [0.1, 0.0, 1.0, 0.01],
            "seed": range(5),
            "iteration": 10 * np.arange(11),
        },
    )


def words(figure):
    return " ".join(text.get_text() for text in figure.findobj(plt.Text))


def is_not_blank(figure, tmp_path):
    figure.savefig(tmp_path / "figure.png")
    return plt.imread(tmp_path / "figure.png")[..., :3].std() > 0.05


def test_error_against_gamma_runs_from_the_largest_to_zero(linear_results, tmp_path):
    figure = figures.error_against_gamma_figure(over_seeds(linear_results))
    for axes in figure.axes:
        assert [label.get_text() for label in axes.get_xticklabels()] == ["1", "0.1", "0.01", "0"]
    for expected in ("PCA", "ICA", "ordinary EM", "eigen-solution", "FastICA", "data units"):
        assert expected in words(figure)
    middle = figure.axes[1].lines[0].get_ydata()[-1]
    last = linear_results["error"].isel(iteration=-1).sel(model="ica", algorithm="em", gamma=0)
    np.testing.assert_allclose(middle, np.median(last))
    assert is_not_blank(figure, tmp_path)


def test_convergence_is_drawn_at_the_smallest_gamma(linear_results, tmp_path):
    figure = figures.convergence_figure(over_seeds(linear_results), linear_results["seconds"])
    for expected in ("iterations", "seconds of one run", "γ = 0", "structured spread EM"):
        assert expected in words(figure)
    curve = figure.axes[2].lines[1].get_ydata()
    runs = linear_results["error"].sel(model="ica", algorithm="spread_em", gamma=0)
    np.testing.assert_allclose(curve, np.median(runs, axis=0))
    assert is_not_blank(figure, tmp_path)


def test_a_run_without_a_number_is_drawn_as_the_worst(linear_results):
    """Truth: the median of five runs, three of which are broken, is one of these; with two it is
    the largest of the others."""
    error = linear_results["error"]
    error.loc[{"model": "pca", "algorithm": "em", "gamma": 1.0, "seed": [0, 1, 2]}] = np.nan
    error.loc[{"model": "pca", "algorithm": "em", "gamma": 0.0, "seed": [0, 1]}] = np.nan
    drawn = (
        figures.error_against_gamma_figure(over_seeds(linear_results)).axes[0].lines[0].get_ydata()
    )
    known = error.isel(iteration=-1).sel(model="pca", algorithm="em", gamma=0.0, seed=[2, 3, 4])
    assert drawn[0] >= 1000
    np.testing.assert_allclose(drawn[-1], known.max())


def test_divergences_show_every_sigma_and_what_is_missing_without_one(tmp_path):
    names, sigmas = ["kl", "reverse_kl", "js", "tv", "hellinger"], [0.0, 0.1, 1.0]
    values = np.ones((5, 3, 7)) * np.arange(7)
    values[0, 0] = np.inf
    dims = ("name", "sigma_fix", "distance")
    dataset = xr.Dataset(
        {"divergence": (dims, values), "slope": (dims, values)},
        coords={"name": names, "sigma_fix": sigmas, "distance": np.arange(7.0)},
    )
    figure = figures.divergence_figure(dataset)
    for expected in ("no spread: ∞", "no spread: none", "= 0.1", "= 1", "total variation"):
        assert expected in words(figure)
    assert all(len(axes.lines) == 3 for axes in figure.axes)
    assert is_not_blank(figure, tmp_path)


def learned_results(name, distance):
    labels, colors = ["fixed", "learned covariance", "learned mean"], ["#666666", "C0", "C1"]
    return xr.Dataset(
        {"energy_distance": (("cell", "seed"), distance)},
        coords={"label": ("cell", labels), "color": ("cell", colors), "seed": range(7)},
        attrs={"data": name},
    )


def test_learned_spreads_are_drawn_seed_by_seed(tmp_path):
    distance = np.random.default_rng(0).uniform(0.1, 0.3, (2, 3, 7))
    data = [learned_results(*of) for of in zip(("ring in R^20", "digits"), distance, strict=True)]
    figure = figures.learned_figure(data, [over_seeds(dataset) for dataset in data])
    for axes, of_data in zip(figure.axes, distance, strict=True):
        for i, values in enumerate(of_data):
            np.testing.assert_array_equal(axes.lines[2 * i].get_ydata(), values)
            np.testing.assert_allclose(axes.lines[2 * i + 1].get_ydata(), np.median(values))
    for expected in ("ring in R^20", "digits", "learned", "data units"):
        assert expected in words(figure)
    assert is_not_blank(figure, tmp_path)


def test_a_data_set_without_a_finite_distance_has_an_empty_panel(tmp_path):
    data = [learned_results("ring", np.full((3, 7), value)) for value in (np.nan, 0.2)]
    figure = figures.learned_figure(data, [over_seeds(dataset) for dataset in data])
    assert [len(axes.texts) for axes in figure.axes] == [1, 0]
    assert is_not_blank(figure, tmp_path)


def test_divergences_without_sigma_zero_say_nothing_of_it(tmp_path):
    names, sigmas = ["kl", "reverse_kl", "js", "tv", "hellinger"], np.arange(1.0, 14)
    dims = ("name", "sigma_fix", "distance")
    values = np.ones((5, 13, 7)) * np.linspace(0, 0.1, 7)
    dataset = xr.Dataset(
        {"divergence": (dims, values), "slope": (dims, values)},
        coords={"name": names, "sigma_fix": sigmas, "distance": np.arange(7.0)},
    )
    figure = figures.divergence_figure(dataset)
    figure.savefig(tmp_path / "figure.png")
    assert "no spread" not in words(figure)
    assert figure.axes[0].get_ylim()[1] < 0.2
    box = figure.legends[0].get_window_extent()
    assert box.x0 >= 0
    assert box.x1 <= figure.bbox.width


def test_one_gamma_has_one_place(linear_results):
    figure = figures.error_against_gamma_figure(over_seeds(linear_results.isel(gamma=[0])))
    assert [axes.get_xlim() for axes in figure.axes] == [(-0.5, 0.5)] * 2


@pytest.mark.parametrize("width", [1e-3, 0.3, 3.0])
def test_distances_of_a_diagnosis_have_plain_numbers_that_do_not_overprint(width, tmp_path):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((200, 30)) * np.exp(width * rng.standard_normal((200, 1)))
    x[:, 29] = 1
    figure = figures.diagnosis_figure(diagnose(x))
    figure.savefig(tmp_path / "figure.png")
    assert "of 29 varying" in figure.axes[0].get_title()
    axis = figure.axes[2].xaxis
    low, high = axis.get_view_interval()
    shown = [tick for tick in axis.get_major_ticks() if low <= tick.get_loc() <= high]
    boxes = [tick.label1.get_window_extent() for tick in shown]
    assert len(boxes) >= 2
    assert all(left.x1 <= right.x0 for left, right in itertools.pairwise(boxes))
    assert not any(label.get_text() for label in axis.get_minorticklabels())
