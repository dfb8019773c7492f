import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import pytest
import xarray as xr

import spread_jax as sj
from spread_jax import figures
from spread_jax.aggregate import fan_over_seeds


@pytest.fixture(scope="module")
def arms(short_toy):
    x = np.asarray(sj.sample_two_modes(jax.random.key(0), 500))
    return with_samples(short_toy, [x, x])


def with_samples(dataset, samples):
    return dataset.assign(samples=(("sigma_fix", "point", "dim"), np.stack(samples)))


def legend_and_titles(figure):
    yield from (text.get_text() for text in figure.findobj(plt.Text))


@pytest.mark.slow
def test_every_seed_is_drawn_and_the_floor_only_where_there_is_one(arms):
    figure = figures.loss_figure(arms, floor=-0.7276)
    plain, spread = figure.axes
    for axes, arm in ((plain, 0), (spread, 1)):
        for drawn, name in zip(axes.collections, ("loss_max", "loss"), strict=True):
            curves = [segment[:, 1] for segment in drawn.get_segments()]
            np.testing.assert_array_equal(curves, arms[name].isel(sigma_fix=arm))
        assert axes.get_ylabel() == "loss (nats)"
    assert len(plain.lines) == 1
    assert len(spread.lines) == 2
    np.testing.assert_array_equal(spread.lines[1].get_ydata(), [-0.7276, -0.7276])


@pytest.mark.slow
def test_an_arm_has_its_own_label_and_colour_whatever_it_is_called(arms):
    x = np.zeros((10, 2))
    renamed = arms.assign_coords(label=("sigma_fix", ["one", "other"]))
    loss = figures.loss_figure(renamed)
    clean = figures.samples_figure(x, renamed, sj.over_seeds(renamed))
    for i, color in enumerate((sj.ARMS["vae"].color, sj.ARMS["spread_vae"].color)):
        assert loss.axes[i].lines[0].get_color() == color
        assert clean.axes[i].lines[0].get_color() == color
        assert loss.axes[i].get_title() == ("one", "other, $\\sigma_{fix}$ = 0.1")[i]


@pytest.mark.slow
def test_figures_say_what_they_show(arms, tmp_path):
    x = arms["samples"].values[0]
    summary = sj.over_seeds(arms)
    rate = f"{float(summary['recovered'][0].sel(statistic='middle')):.0%} of seeds"
    drawn = {
        figures.data_figure(x): ("data units", "density"),
        figures.loss_figure(arms, -0.7): ("nats", "optimizer steps", "plain VAE", "floor"),
        figures.samples_figure(x, arms, summary): ("data units", rate, "spread VAE"),
        figures.sigma_figure(arms, 0.1, 0.1): ("data units", "optimizer steps", "truth", "noise"),
    }
    for figure, expected in drawn.items():
        words = " ".join(legend_and_titles(figure))
        assert all(word in words for word in expected)
        figure.savefig(tmp_path / "figure.png")
        pixels = plt.imread(tmp_path / "figure.png")
        assert pixels[..., :3].std() > 0.05  # not a blank page


@pytest.mark.slow
def test_curves_with_nothing_finite_are_drawn_all_the_same(arms, tmp_path):
    broken = arms.assign(loss=arms["loss"] * np.nan, loss_max=arms["loss_max"] * np.nan)
    figures.loss_figure(broken, 0.0).savefig(tmp_path / "loss.png")


def test_medians_and_intervals_are_the_aggregators():
    """Truths: NumPy's median; with four seeds the interval is their range, and a run without a
    number is the worst. A sweep of one learning rate has no axis of it, and is drawn as the first
    of two."""
    values = np.random.default_rng(0).lognormal(size=(2, 2, 2, 4))
    values[0, 1, 1, 2] = np.nan
    names = ("late_loss_std", "max_loss_rise")
    dims = ("learning_rate", "sigma_fix", "seed")
    two = xr.Dataset(
        {name: (dims, v, {"better": "lower"}) for name, v in zip(names, values, strict=True)},
        coords={"sigma_fix": [0.0, 0.1], "learning_rate": [1e-3, 1e-2]},
    )
    worst = np.nan_to_num(values, nan=np.inf)
    one = two.isel(learning_rate=0, drop=True)
    for dataset, num_rates in ((two, 2), (one, 1), (one.assign_attrs(learning_rate=1e-3), 1)):
        figure = figures.stability_figure(sj.over_seeds(dataset))
        for axes, of_panel in zip(figure.axes, worst, strict=True):
            for marks, of_rate in zip(axes.containers, of_panel[:num_rates], strict=True):
                points, _, (bars,) = marks
                np.testing.assert_allclose(points.get_ydata(), np.median(of_rate, axis=1))
                for bar, cell in zip(bars.get_segments(), of_rate, strict=True):
                    if np.isfinite(cell).all():  # matplotlib draws no bar without an end
                        np.testing.assert_allclose(bar[:, 1], [cell.min(), cell.max()])
        words = " ".join(legend_and_titles(figure))
        assert ("learning rate 0.001" in words) == (dataset is not one)


@pytest.mark.slow
@pytest.mark.parametrize("bad", [[np.nan, np.nan], [0.3, np.inf], [-np.inf, 0.2]])
@pytest.mark.parametrize("every", [False, True])
def test_samples_without_numbers_are_left_out(bad, every, arms, tmp_path):
    x = np.random.default_rng(0).normal(size=(50, 2))
    broken = np.where(np.arange(50)[:, None] % 5 == 0, bad, x)
    shown = with_samples(arms.drop_vars("samples"), [np.tile(bad, (50, 1)) if every else broken, x])
    figure = figures.samples_figure(x, shown, sj.over_seeds(arms))
    assert len(figure.axes[0].lines[0].get_xdata()) == (0 if every else 40)
    assert ("no finite sample" in legend_and_titles(figure)) == every
    figure.savefig(tmp_path / "samples.png")


@pytest.mark.slow
def test_wide_data_is_seen_whole(arms):
    x = np.array([[-15.0, 0.0], [1.0, 0.0], [12.0, 0.0]])
    shown = with_samples(arms.drop_vars("samples"), [x, x])
    figure = figures.samples_figure(x, shown, sj.over_seeds(arms))
    low, high = figure.axes[0].get_xlim()
    assert low < -15
    assert high > 12
    for density in (figures.data_figure(x).axes[1], figure.axes[2]):
        values, edges, _ = density.patches[0].get_data()
        np.testing.assert_allclose(np.sum(values * np.diff(edges)), 1)


@pytest.mark.slow
def test_a_sweep_that_no_arm_describes_is_named_by_its_axis(arms):
    plain = arms.drop_vars(["label", "color", "has_noise", "has_floor", "variance", "samples"])
    figure = figures.loss_figure(plain)
    assert [axes.get_title() for axes in figure.axes] == ["sigma_fix 0", "sigma_fix 0.1"]


@pytest.mark.slow
def test_runs_without_an_axis_are_one_panel_and_several_axes_need_a_choice(tmp_path):
    training = sj.model_training(
        sj.mixture_model(2, 1), sample_batch=lambda key, data, hyper: jnp.zeros((2, 2)), num_steps=3
    )
    one = {"sigma_fix": 0.1, "learning_rate": 1e-3}
    two = {"sigma_fix": [0.1, 0.3], "learning_rate": [1e-3, 1e-2]}
    alone, crossed = (sj.sweep(training, grid, num_seeds=2).dataset for grid in (one, two))
    for figure in (figures.loss_figure(alone), figures.loss_fan_figure(fan_over_seeds(alone))):
        figure.savefig(tmp_path / "loss.png")
        assert [axes.get_title() for axes in figure.axes] == ["all runs"]
    with pytest.raises(ValueError, match="sigma_fix, learning_rate: select one value of all"):
        figures.loss_figure(crossed)
    for rates in ([0], 0):  # an axis of one place is none
        figure = figures.loss_figure(crossed.isel(learning_rate=rates))
        assert [axes.get_title() for axes in figure.axes] == ["sigma_fix 0.1", "sigma_fix 0.3"]
    assert len(figures.loss_fan_figure(fan_over_seeds(crossed)).axes) == 2  # at the first rate


def test_limits_hold_the_loss_and_the_floor_and_nothing_else():
    from spread_jax.figures.style import loss_limits

    loss = np.array([[np.nan, 7.5, 5.8, np.inf]])
    assert loss_limits(loss, loss) == pytest.approx((5.7, 7.6), abs=0.01)
    assert loss_limits(loss, loss, floor=5.0) == pytest.approx((4.85, 7.65), abs=0.01)
    for nothing in (np.full((2, 3), np.nan), np.full((2, 1), np.inf)):
        assert loss_limits(nothing, nothing) == pytest.approx((-0.06, 1.06))
    low, high = loss_limits(np.full((1, 2), 1e20))
    assert low < 1e20 < high


@pytest.mark.slow
def test_one_record_is_a_dot(arms):
    one = arms.isel(step=[0])
    for figure in (figures.loss_figure(one), figures.sigma_figure(one, 0.1, 0.0)):
        curves = [line for axes in figure.axes for line in axes.lines if len(line.get_xdata()) == 1]
        assert len(curves) > 16
        assert {line.get_marker() for line in curves} == {"."}


def test_quality_against_seconds_shows_every_point_and_those_without_a_number(tmp_path):
    """Of two contestants, three seeds each: one at two numbers of epochs, one broken once."""
    seconds = np.array([[1.0, 1.1, 1.2], [10.0, 11.0, 12.0]])
    points = {
        "curve": (seconds, 100 / seconds),
        "one": (seconds[:1], np.array([[20.0, np.inf, 30.0]])),
    }
    figure = figures.quality_figure(points, 1.5, "Fréchet distance")
    words = " ".join(legend_and_titles(figure))
    assert all(word in words for word in ("curve", "one", "real data"))
    (axes,) = figure.axes
    np.testing.assert_allclose(axes.lines[1].get_ydata(), 100 / seconds[:, 1])
    assert axes.get_xscale() == axes.get_yscale() == "log"
    marks = [line for line in axes.lines if line.get_marker() == "^" and not line.get_clip_on()]
    assert [list(line.get_xdata()) for line in marks] == [[1.1]]
    figure.savefig(tmp_path / "quality.png")
