"""Figures of the comparison of arms."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from spread_jax.figures.style import DATA_COLOR, FLOOR_COLOR, PAGE, STYLE, arm_style

CLOUD: dict[str, Any] = {"markersize": 2.5, "alpha": 0.5, "markeredgewidth": 0}
RATIO_LIMITS = (0.01, 50.0)  # of a learned σ to the true one; what is outside is at the edge


def baselines_figure(runs: xr.Dataset, predicted: Sequence[float]) -> Figure:
    """σ_x over the true σ_x above, W2 to the truth below; a row per arm, a column per data std.

    Args:
      runs: cells on two modes with ``arm`` and ``data_std`` ``[cell]``, and ``sigma_x``,
        ``recovered``, ``wasserstein``, ``wasserstein_truth`` ``[cell, seed]``.
      predicted: the σ_x of each cell's optimum, in data units.
    """
    data_stds = list(dict.fromkeys(runs["data_std"].values))
    arms = list(dict.fromkeys(runs["arm"].values))[::-1]  # the axis points upwards
    with mpl.rc_context(STYLE):
        figure = Figure((PAGE, 1.2 + 0.34 * len(arms)), layout="constrained")
        panels = figure.subplots(2, len(data_stds), sharey=True, sharex="row", squeeze=False)
        for (above, below), data_std in zip(panels.T, data_stds, strict=True):
            here = np.flatnonzero(runs["data_std"].values == data_std)
            for i in here:
                arm, cell = runs["arm"].values[i], runs.isel(cell=i)
                height, color = float(arms.index(arm)), arm_style(arm).color
                ratio = np.clip(cell["sigma_x"].values / data_std, *RATIO_LIMITS)
                goal = np.clip(predicted[int(i)] / data_std, *RATIO_LIMITS)
                _draw_seeds(above, ratio, height, color)
                above.plot(goal, height, "D", markersize=6, color="none", markeredgecolor="black")
                above.text(
                    1.0,
                    height,
                    f"{float(cell['recovered'].mean()):.0%}",
                    fontsize=6,
                    ha="right",
                    va="center",
                    transform=above.get_yaxis_transform(),
                )
                _draw_seeds(below, cell["wasserstein"].values, height, color)
            above.axvline(1, color=FLOOR_COLOR, linewidth=1, zorder=0)
            truth = np.nanmedian(runs["wasserstein_truth"].values[here])
            below.axvline(truth, color=FLOOR_COLOR, linestyle="--", linewidth=1, zorder=0)
            above.set(
                title=f"data std {data_std:g}", xscale="log", xlabel=r"learned ÷ true $\sigma_x$"
            )
            above.set_xlim(RATIO_LIMITS[0] / 1.5, RATIO_LIMITS[1] * 20)
            above.set_xticks([0.01, 1, 10], ["≤0.01", "1", "10"])
            below.set(xscale="log", xlabel="W2 (data units)")
        for axes in panels[:, 0]:
            axes.set_yticks(range(len(arms)), [arm_style(arm).label for arm in arms])
        figure.legend(
            handles=[
                Line2D([], [], color="#666666", linestyle="", marker="|", label="median of seeds"),
                Line2D([], [], color="#666666", linestyle="", marker=".", label="a seed"),
                Line2D(
                    [], [], color="none", marker="D", markeredgecolor="black", label="predicted"
                ),
                Line2D([], [], color=FLOOR_COLOR, label="the truth"),
                Line2D([], [], color=FLOOR_COLOR, linestyle="--", label="two true samples"),
            ],
            title="Above: width of a mode; at the right the seeds that recovered both modes.\n"
            "Below: distance of clean samples to true ones. Nearer the green line is better.",
            loc="outside lower center",
            ncols=5,
        )
    return figure


def curves_figure(truth: Mapping[str, np.ndarray], runs: xr.Dataset) -> Figure:
    """Clean samples of the first seed over the data: a row per curve, a column per arm.

    Args:
      truth: curve → points of the data, ``[n, 2]``.
      runs: cells with ``arm`` and ``data`` ``[cell]``, samples ``x`` ``[cell, point, dim]``, and
        ``wasserstein``, ``wasserstein_truth`` ``[cell, seed]``.
    """
    arms = list(dict.fromkeys(runs["arm"].values))
    with mpl.rc_context(STYLE):
        figure = Figure((PAGE, 0.4 + 1.4 * len(truth)), layout="constrained")
        panels = figure.subplots(len(truth), len(arms) + 1, sharex=True, sharey=True, squeeze=False)
        for row, (curve, points) in zip(panels, truth.items(), strict=True):
            here = runs.isel(cell=runs["data"].values == curve)
            own = float(here["wasserstein_truth"].median())
            row[0].plot(*points.T, ".", color=DATA_COLOR, **CLOUD)
            row[0].set_title(f"data\nW2 {own:.3f}", fontsize=7)
            row[0].set_ylabel(f"{curve}, $x_2$")
            for axes, arm in zip(row[1:], arms, strict=True):
                cell = here.isel(cell=list(here["arm"].values).index(arm))
                axes.plot(*cell["x"].values.T, ".", color=arm_style(arm).color, **CLOUD)
                distance = float(cell["wasserstein"].median())
                label = textwrap.fill(arm_style(arm).label, 14)
                axes.set_title(f"{label}\nW2 {distance:.3f}", fontsize=7)
        panels[0, 0].set(xlim=(-1.4, 1.4), ylim=(-1.4, 1.4))
        for axes in panels.flat:
            axes.set_aspect("equal")
        for axes in panels[-1]:
            axes.set_xlabel("$x_1$ (data units)")
    return figure


def _draw_seeds(axes: Axes, values: np.ndarray, height: float, color: str) -> None:
    """A faint dot a seed, and their median."""
    values = values[np.isfinite(values)]
    jitter = 0.25 * np.sin(np.arange(len(values)) * 2.4)  # spread out, the same in every run
    axes.plot(values, height + jitter, ".", color=color, **{**CLOUD, "alpha": 0.35})
    if len(values):
        axes.plot(np.median(values), height, "|", color=color, markersize=9, markeredgewidth=2)
