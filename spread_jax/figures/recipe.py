"""Figures of a model of a user's data: its training, and its samples beside the data."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from spread_jax.figures import style
from spread_jax.figures.images import draw_mosaic

MOST_COLUMNS = 12
NUM_BINS = 40


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
    above.set(ylabel="loss (nats)", title="the loss rises where the noise falls")
    below.plot(steps, sigma, color=style.NOISE_COLOR)
    below.set(ylabel="σ of the noise", xlabel="optimizer steps")
    style.log_scale(below)
    return figure


@style.styled
def images_beside_samples_figure(
    data: np.ndarray, samples: np.ndarray, shape: tuple[int, int]
) -> Figure:
    """Images of the data, and clean samples, ``[n, pixels]`` each, 32 of them."""
    figure = Figure((style.PAGE, 2.1))
    panels = figure.subplots(1, 2)
    for axes, images, title in zip(panels, (data, samples), ("data", "samples"), strict=True):
        draw_mosaic(axes, images, shape)
        axes.set_title(title)
    return figure


@style.styled
def columns_beside_samples_figure(
    names: Sequence[str], data: np.ndarray, samples: np.ndarray
) -> Figure:
    """Histograms of the first twelve columns, of the data and of as many clean samples.

    Args:
      names: of the columns.
      data, samples: ``[n, column]``, in the columns' own units.
    """
    count = min(len(names), MOST_COLUMNS)
    across = min(4, count)
    down = -(-count // across)
    figure = Figure((style.PAGE, 0.5 + 1.4 * down))
    panels = figure.subplots(down, across, squeeze=False).ravel()
    for axes in panels[count:]:
        axes.remove()
    for i, axes in enumerate(panels[:count]):
        low, high = np.min(data[:, i]), np.max(data[:, i])
        margin = 0.1 * (high - low) or 1.0
        bins = np.linspace(low - margin, high + margin, NUM_BINS)
        for rows, color in ((data, style.DATA_COLOR), (samples, style.LOST_COLOR)):
            axes.hist(rows[:, i].clip(bins[0], bins[-1]), bins, color=color, histtype="step")
        axes.set(title=names[i], yticks=[])
    panels[0].plot([], color=style.DATA_COLOR, label="data")
    panels[0].plot([], color=style.LOST_COLOR, label="clean samples")
    style.legend_below(figure, panels[:1])
    return figure
