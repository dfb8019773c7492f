"""The figure of spreads that learn."""

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from spread_jax.aggregate import with_worst
from spread_jax.figures.style import mark_infinite, say, shown_arms, styled


@styled
def learned_figure(data: list[xr.Dataset], summaries: list[xr.Dataset]) -> Figure:
    """Energy distance of clean samples, a dot per seed and the median, a panel per data set.

    A run without a number is a triangle at the top.

    Args:
      data: of each data set, ``energy_distance`` [cell, seed], and its name in ``attrs["data"]``.
      summaries: :func:`spread_jax.over_seeds` of each.
    """
    figure = Figure((0.8 + 2.1 * len(data), 2.4))
    panels = figure.subplots(1, len(data), squeeze=False)[0]
    for axes, dataset, summary in zip(panels, data, summaries, strict=True):
        arms, every = shown_arms(dataset), with_worst(dataset["energy_distance"]).values
        largest = every.max(initial=0.0, where=np.isfinite(every))
        top = 1.08 * largest or 1.0
        if largest == 0:
            say(axes, "no finite distance above 0")
        middles = summary["energy_distance"].sel(statistic="middle").values
        for i, (arm, distance, middle) in enumerate(zip(arms, every, middles, strict=True)):
            color, places = arm["color"].item(), i + np.linspace(-0.2, 0.2, len(distance))
            axes.plot(places, distance, ".", color=color, markersize=4, alpha=0.6)
            mark_infinite(axes, places, distance, color)
            ends, height = [i - 0.3, i + 0.3], [min(middle, top)] * 2
            axes.plot(ends, height, color=color, linewidth=1.5, clip_on=False)
        labels = [arm["label"].item().replace(" ", "\n", 1) for arm in arms]
        axes.set_xticks(range(len(arms)), labels)
        axes.set(title=dataset.attrs["data"], xlim=(-0.5, len(arms) - 0.5), ylim=(0, top))
    panels[0].set_ylabel("energy distance (data units)")
    return figure
