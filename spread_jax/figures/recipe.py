"""Figures of a model of a user's data: its training, and its samples beside the data."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from spread_jax.figures import style
from spread_jax.figures.images import draw_mosaic

MOST_COLUMNS = 12
NUM_BINS = 40
MOST_PAIRED = 4


@style.styled
def recipe_training_figure(steps: np.ndarray, loss: np.ndarray, sigma: np.ndarray) -> Figure:
    """Training loss, and the noise that falls meanwhile, over the steps.

    Args:
      steps: optimizer steps done, ``[record]``.
      loss: ``[record]``, in nats.
      sigma: standard deviation of the noise, ``[record]``.
    """
    figure = Figure((style.COLUMN, 3.2))
    above, below = figure.subplots(2, 1, sharex=True)
    above.plot(steps, loss, color=style.DATA_COLOR)
    above.set(ylabel="loss (nats)", title="loss, while the noise falls")
    below.plot(steps, sigma, color=style.NOISE_COLOR)
    below.set(ylabel="σ of the noise", xlabel="optimizer steps")
    style.log_scale(below)
    return figure


@style.styled
def clouds_figure(clouds: Mapping[str, Mapping[str, np.ndarray]]) -> Figure:
    """Clouds of points of a plane: a row for each data set, a column for each of its clouds.

    Args:
      clouds: data set → title → ``[n, 2]``, the data first. The window is that of the data, and
        what is not finite is left out.
    """
    figure = Figure((style.COLUMN, 1.02 * len(clouds) + 0.25))
    titles = list(next(iter(clouds.values())))
    grid = figure.subplots(len(clouds), len(titles), squeeze=False)
    colors = (style.DATA_COLOR, style.LOST_COLOR, style.FOUND_COLOR)
    for row, (name, of_data) in zip(grid, clouds.items(), strict=True):
        low, high = np.nanmin(of_data[titles[0]], axis=0), np.nanmax(of_data[titles[0]], axis=0)
        margin = 0.15 * (high - low)
        for axes, title, color in zip(row, titles, colors, strict=False):
            points = of_data[title]
            points = points[np.isfinite(points).all(axis=1)]
            axes.plot(*points.T, color=color, markersize=1.5, alpha=0.5, **style.CLOUD)
            axes.set(xlim=(low[0] - margin[0], high[0] + margin[0]), xticks=[], yticks=[])
            axes.set_ylim(low[1] - margin[1], high[1] + margin[1])
            if not len(points):
                style.write_note(axes, "no finite sample")
        row[0].set_ylabel(name)
    for axes, title in zip(grid[0], titles, strict=True):
        axes.set_title(title)
    return figure


@style.styled
def images_beside_samples_figure(
    data: np.ndarray, samples: np.ndarray, shape: tuple[int, ...]
) -> Figure:
    """Images of the data, and clean samples, ``[n, pixels]`` in [0, 1] each, 32 of them; 0 is black
    and 1 is white, as in a viewer of images."""
    figure = Figure((style.PAGE, 2.1))
    panels = figure.subplots(1, 2)
    for axes, images, title in zip(panels, (data, samples), ("data", "samples"), strict=True):
        draw_mosaic(axes, images, shape, is_ink=False)
        axes.set_title(title)
    return figure


@style.styled
def images_figure(images: np.ndarray, shape: tuple[int, ...]) -> Figure:
    """32 of the images ``[n, pixels]``, from 0, black, to 1, white."""
    figure = Figure((style.COLUMN, 1.9))
    draw_mosaic(figure.subplots(), images, shape, is_ink=False)
    return figure


@style.styled
def columns_figure(names: Sequence[str], samples: np.ndarray) -> Figure:
    """Histograms of the first twelve columns ``[n, column]`` of clean samples."""
    return _histograms(names, ((samples, style.LOST_COLOR, "clean samples"),))


@style.styled
def columns_beside_samples_figure(
    names: Sequence[str], data: np.ndarray, samples: np.ndarray
) -> Figure:
    """Histograms of the first twelve columns, of the data and of as many clean samples.

    Args:
      names: of the columns.
      data, samples: ``[n, column]``, in the columns' own units.
    """
    groups = ((data, style.DATA_COLOR, "data"), (samples, style.LOST_COLOR, "clean samples"))
    return _histograms(names, groups)


def _histograms(names: Sequence[str], tables: Sequence[tuple[np.ndarray, str, str]]) -> Figure:
    """One panel for each column; the bins are those of the first table."""
    count = min(len(names), MOST_COLUMNS)
    across = min(4, count)
    down = -(-count // across)
    figure = Figure((style.PAGE, 0.5 + 1.4 * down))
    panels = figure.subplots(down, across, squeeze=False).ravel()
    for axes in panels[count:]:
        axes.remove()
    for i, axes in enumerate(panels[:count]):
        low, high = np.min(tables[0][0][:, i]), np.max(tables[0][0][:, i])
        margin = 0.1 * (high - low) or 1.0
        bins = np.linspace(low - margin, high + margin, NUM_BINS)
        for rows, color, _ in tables:
            axes.hist(rows[:, i].clip(bins[0], bins[-1]), bins, color=color, histtype="step")
        axes.set(title=names[i], yticks=[])
    for _, color, label in tables:
        panels[0].plot([], color=color, label=label)
    style.legend_below(figure, panels[:1])
    return figure


@style.styled
def pairs_beside_samples_figure(
    names: Sequence[str], data: np.ndarray, samples: np.ndarray
) -> Figure:
    """Points of each pair of the first four columns: of the data to the left, of as many clean
    samples to the right.

    Args:
      names: of the columns, two or more.
      data, samples: ``[n, column]``, in the columns' own units; 1,000 points of each are drawn.
    """
    pairs = [(i, j) for j in range(min(len(names), MOST_PAIRED)) for i in range(j)]
    down = -(-len(pairs) // 2)
    figure = Figure((style.PAGE, 1.8 * down))
    panels = figure.subplots(down, 4 if len(pairs) > 1 else 2, squeeze=False).ravel()
    for axes in panels[2 * len(pairs) :]:
        axes.remove()
    for k, (i, j) in enumerate(pairs):
        left, right = panels[2 * k : 2 * k + 2]
        right.sharex(left)
        right.sharey(left)
        for axes, rows, color, title in (
            (left, data, style.DATA_COLOR, "data"),
            (right, samples, style.LOST_COLOR, "clean samples"),
        ):
            axes.scatter(*rows[:1000, [i, j]].T, 2, color, linewidths=0, rasterized=True)
            axes.set_title(title)
            axes.set_xlabel(names[i])
        left.set_ylabel(names[j])
        right.tick_params(labelleft=False)
    return figure
