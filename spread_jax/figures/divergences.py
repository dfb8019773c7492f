"""The figure of the f-divergences under a spread."""

from typing import Any

import matplotlib as mpl
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from spread_jax.figures import style

DIVERGENCES = {
    "kl": "KL (nats)",
    "js": "Jensen-Shannon (nats)",
    "tv": "total variation",
    "hellinger": "squared Hellinger",
}


@style.styled
def divergence_figure(dataset: xr.Dataset) -> Figure:
    """Divergence of two points against their distance, for several σ_fix, and its slope below.

    Args:
      dataset: ``divergence`` and ``slope`` [name, sigma_fix, distance]; σ_fix 0 is the unspread
        divergence, whose jump at distance 0 is drawn as such.
    """
    sigmas = sorted(map(float, dataset["sigma_fix"].values))
    more_rows = (len(sigmas) - 1) // style.LEGEND_COLUMNS
    distance = dataset["distance"].values
    figure = Figure((style.PAGE, 3.4 + style.LEGEND_ROW * more_rows))
    grid = figure.subplots(2, len(DIVERGENCES), sharex=True)
    for (top, bottom), (name, title) in zip(grid.T, DIVERGENCES.items(), strict=True):
        for sigma in sigmas:
            runs = dataset.sel(name=name, sigma_fix=sigma)
            place = sigmas.index(sigma) / len(sigmas)
            line: dict[str, Any] = {"color": mpl.colormaps["viridis"](0.9 * place)}
            label = f"$\\sigma_{{fix}}$ = {sigma:g}"
            if sigma == 0:
                line, label = {"color": style.LOST_COLOR, "linestyle": "--"}, "no spread"
            top.plot(distance, runs["divergence"].values, linewidth=1, label=label, **line)
            bottom.plot(distance, runs["slope"].values, linewidth=1, **line)
        top.set_title(title)
        bottom.set_xlabel("distance (data units)")
        if name == "kl":
            _limit(top, 8.0)
            _limit(bottom, 16.0)
        if name == "kl" and 0 in sigmas:
            look: dict[str, Any] = {"fontsize": 7, "color": style.LOST_COLOR, "ha": "right"}
            top.text(0.97, 0.87, "no spread: ∞", transform=top.transAxes, **look)
            bottom.text(0.97, 0.47, "no spread: none", transform=bottom.transAxes, **look)
    grid[0, 0].set_ylabel("divergence")
    grid[1, 0].set_ylabel("its slope")
    style.legend_below(figure, grid.ravel())
    return figure


def _limit(axes: Axes, most: float) -> None:
    """Limits the y-axis to the curves, and to ``most``: a small σ_fix would flatten the others."""
    values = np.concatenate([line.get_ydata() for line in axes.lines])
    high = min(most, 1.05 * values.max(initial=0.0, where=np.isfinite(values))) or most
    axes.set_ylim(-high / 32, high)
