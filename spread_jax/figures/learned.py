"""The figure of spreads that learn."""

from collections.abc import Mapping

import matplotlib as mpl
import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from spread_jax.figures.style import STYLE, say

ARM_COLORS = ("#666666", "#0072B2", "#009E73")


def learned_figure(
    dataset: xr.Dataset, data_labels: Mapping[str, str], arm_labels: Mapping[str, str]
) -> Figure:
    """Energy distance of clean samples, a dot per seed and the median, a panel per data set.

    Args:
      dataset: ``energy_distance`` [data, arm, seed].
      data_labels, arm_labels: what stands above a panel, and below a column.
    """
    with mpl.rc_context(STYLE):
        names = [str(name) for name in dataset["data"].values]
        arms = [str(arm) for arm in dataset["arm"].values]
        figure = Figure((0.8 + 2.1 * len(names), 2.4), layout="constrained")
        panels = figure.subplots(1, len(names), squeeze=False)[0]
        for axes, name in zip(panels, names, strict=True):
            distances = dataset["energy_distance"].sel(data=name).transpose("arm", "seed").values
            for i, (distance, color) in enumerate(zip(distances, ARM_COLORS, strict=True)):
                places = i + np.linspace(-0.2, 0.2, len(distance))
                axes.plot(places, distance, ".", color=color, markersize=4, alpha=0.6)
                known = distance[~np.isnan(distance)]
                middle = np.median(known) if known.size else np.nan
                axes.plot([i - 0.3, i + 0.3], [middle] * 2, color=color, linewidth=1.5)
            labels = [arm_labels[arm].replace(" ", "\n", 1) for arm in arms]
            axes.set(xticks=range(len(arms)), xticklabels=labels, title=data_labels[name])
            axes.set_xlim(-0.5, len(arms) - 0.5)
            largest = distances.max(initial=0.0, where=np.isfinite(distances))
            if largest == 0:
                say(axes, "no finite distance above 0")
            axes.set_ylim(0, 1.08 * largest or 1.0)
        panels[0].set_ylabel("energy distance (data units)")
    return figure
