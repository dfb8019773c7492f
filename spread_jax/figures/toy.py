"""Figures of two modes on a line: the data, and clean samples over them."""

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from spread_jax.figures import style


@style.styled
def data_figure(x: np.ndarray) -> Figure:
    """The two-mode data, points ``[n, 2]``: in the plane, and their density along the line."""
    figure = Figure((style.COLUMN, 2.2))
    plane, density = figure.subplots(2, 1, sharex=True, height_ratios=(1, 1.2))
    plane.plot(*x.T, color=style.DATA_COLOR, markersize=2, alpha=0.3, **style.CLOUD)
    plane.set(ylim=(-1, 1), ylabel="$x_2$", title="the data: two modes on a line, $x_2 = 0$")
    reach = _reach(x)
    _draw_density(density, x, np.linspace(-reach, reach, 81), style.DATA_COLOR)
    density.set(xlabel="$x_1$ (data units)", ylabel="density of $x_1$")
    return figure


@style.styled
def samples_figure(x: np.ndarray, dataset: xr.Dataset, summary: xr.Dataset) -> Figure:
    """Clean samples of each arm over the data: in the plane above, along the line below.

    Args:
      x: data, ``[n, 2]``.
      dataset: arms with ``samples`` of the first seed ``[..., point, dim]``; what is not finite is
        left out.
      summary: :func:`spread_jax.over_seeds` of the same arms, whose ``recovered`` is the rate of
        the titles.
    """
    arms, rates = style.shown_arms(dataset), style.shown_arms(summary.sel(statistic="middle"))
    figure = Figure((style.COLUMN, 3.0))
    grid = figure.subplots(2, len(arms), sharex=True, sharey="row", squeeze=False)
    reach, height = _reach(x), 0.01
    edges = np.linspace(-reach, reach, 65)
    ticks = {"color": style.DATA_COLOR, "markersize": 5, "markeredgewidth": 0.3}
    for (plane, density), arm, rate in zip(grid.T, arms, rates, strict=True):
        color, points = arm["color"].item(), arm["samples"].transpose("point", "dim").values
        points = points[np.isfinite(points).all(axis=1)]
        height = max(height, np.abs(points[:, 1]).max(initial=0.0))
        if not len(points):
            style.write_note(plane, "no finite sample")
        plane.plot(*points.T, color=color, markersize=2, alpha=0.4, **style.CLOUD)
        below = np.full(len(x[:300]), 0.06)
        plane.plot(x[:300, 0], below, "|", transform=plane.get_xaxis_transform(), **ticks)
        found = float(rate["recovered"])
        plane.set_title(f"{arm['label'].item()}\nfound: {found:.0%} of seeds", fontsize=7)
        _draw_density(density, x, edges, style.DATA_COLOR)
        _draw_density(density, points, edges, color)
        density.set_xlabel("$x_1$ (data units)")
    grid[0, 0].set(ylabel="$x_2$ (data units)", xlim=(-reach, reach))
    grid[0, 0].set_ylim(-1.2 * height, 1.2 * height)
    grid[1, 0].set_ylabel("density of $x_1$")
    grid[1, 0].plot([], color=style.DATA_COLOR, label="data")
    grid[1, 0].legend(loc="upper center")
    return figure


def _reach(x: np.ndarray) -> float:
    """How far from 0 the line is shown: past the modes at ±1, and as far as the data reach."""
    return max(1.6, 1.05 * float(np.abs(x[:, 0]).max()))


def _draw_density(axes: Axes, points: np.ndarray, edges: np.ndarray, color: str) -> None:
    if len(points):
        counts, _ = np.histogram(points[:, 0], edges)
        axes.stairs(counts / len(points) / np.diff(edges), edges, color=color, linewidth=1)
