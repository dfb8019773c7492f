"""Figures of the comparison of arms."""

import textwrap
from collections.abc import Mapping
from typing import Any

import matplotlib as mpl
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from spread_jax.aggregate import with_worst
from spread_jax.figures.style import (
    DATA_COLOR,
    FLOOR_COLOR,
    PAGE,
    STYLE,
    color_of,
    label_of,
    mark_infinite,
    say,
)

CLOUD: dict[str, Any] = {"markersize": 2.5, "alpha": 0.5, "markeredgewidth": 0}
RATIO_LIMITS = (0.01, 50.0)  # of a learned σ to the true one; what is outside is at the edge


def baselines_figure(dataset: xr.Dataset, summary: xr.Dataset, truth: xr.Dataset) -> Figure:
    """σ_x over the true σ_x above, W2 to the truth below; a row per arm, a column per data std.

    An arm without a middle, for its runs broke, has a triangle at the right edge.

    Args:
      dataset: cells on two modes with ``data_std`` and ``predicted`` (the σ_x of each cell's
        optimum) ``[cell]``, ``sigma_x`` and ``wasserstein`` ``[cell, seed]``.
      summary: :func:`spread_jax.over_seeds` of it, ``recovered`` among it.
      truth: ``wasserstein`` ``[cell, statistic]`` between two true samples, a cell per data std.
    """
    data_stds = truth["data_std"].values
    names = list(dict.fromkeys(dataset["arm"].values))[::-1]  # the axis points upwards
    labels = dict(zip(dataset["arm"].values, dataset["label"].values, strict=True))
    with mpl.rc_context(STYLE):
        figure = Figure((PAGE, 1.6 + 0.34 * len(names)), layout="constrained")
        broken: list[tuple[Axes, float, float, str]] = []
        panels = figure.subplots(2, len(data_stds), sharey=True, sharex="row", squeeze=False)
        for i, (above, below) in enumerate(panels.T):
            for cell in np.flatnonzero(dataset["data_std"].values == data_stds[i]):
                arm, middle = dataset.isel(cell=cell), summary.isel(cell=cell, statistic=0)
                height, color = float(names.index(arm["arm"].item())), color_of(arm)
                learned, typical, predicted = (
                    np.clip(values / data_stds[i], *RATIO_LIMITS)
                    for values in (with_worst(arm["sigma_x"]), middle["sigma_x"], arm["predicted"])
                )
                _draw_seeds(above, learned.values, float(typical), height, color)
                above.plot(
                    predicted, height, "D", markersize=6, color="none", markeredgecolor="black"
                )
                above.text(
                    1.0,
                    height,
                    f"{float(middle['recovered']):.0%}",
                    fontsize=6,
                    ha="right",
                    va="center",
                    transform=above.get_yaxis_transform(),
                )
                distances = with_worst(arm["wasserstein"]).values, float(middle["wasserstein"])
                _draw_seeds(below, *distances, height, color)
                broken.append((below, height, distances[1], color))
            above.axvline(1, color=FLOOR_COLOR, linewidth=1, zorder=0)
            own = float(truth["wasserstein"].sel(statistic="middle").isel(cell=i))
            below.axvline(own, color=FLOOR_COLOR, linestyle="--", linewidth=1, zorder=0)
            title = f"data std {data_stds[i]:g}"
            above.set(title=title, xscale="log", xlabel=r"learned ÷ true $\sigma_x$")
            above.set_xlim(RATIO_LIMITS[0] / 1.5, RATIO_LIMITS[1] * 20)
            above.set_xticks([0.01, 1, 10], ["≤0.01", "1", "10"])
            above.minorticks_off()
            below.set(xscale="log", xlabel="W2 (data units)")
        for below, height, distance, color in broken:  # once the axes' common limits are known
            mark_infinite(below, height, distance, color, on_x=True)
        for axes in panels[:, 0]:
            axes.set_yticks(range(len(names)), [labels[name] for name in names])
            axes.set_ylim(-0.7, len(names) - 0.3)
        figure.legend(
            handles=[
                Line2D([], [], color="#666666", linestyle="", marker="|", label="median of seeds"),
                Line2D([], [], color="#666666", linestyle="", marker=".", label="a seed"),
                Line2D(
                    [], [], color="none", marker="D", markeredgecolor="black", label="predicted"
                ),
                Line2D([], [], color=FLOOR_COLOR, label="the truth"),
                Line2D([], [], color=FLOOR_COLOR, linestyle="--", label="two true samples"),
                Line2D([], [], color="#666666", linestyle="", marker=">", label="broken runs"),
            ][: 6 if any(distance == np.inf for *_, distance, _ in broken) else 5],
            title="Above: width of a mode; at the right the seeds that recovered both modes.\n"
            "Below: distance of clean samples to true ones. Nearer the green line is better.",
            loc="outside lower center",
            ncols=6,
        )
    return figure


def curves_figure(
    curves: Mapping[str, np.ndarray], dataset: xr.Dataset, summary: xr.Dataset, truth: xr.Dataset
) -> Figure:
    """Clean samples of the first seed over the data: a row per curve, a column per arm.

    Args:
      curves: name → points of the data, ``[n, 2]``.
      dataset: cells with ``data``, the name of their curve, and ``samples``
        ``[cell, point, dim]``.
      summary: :func:`spread_jax.over_seeds` of it, ``wasserstein`` among it.
      truth: ``wasserstein`` ``[cell, statistic]`` between two true samples, a cell per curve.
    """
    columns = len(dict.fromkeys(dataset["arm"].values))
    distances = summary["wasserstein"].sel(statistic="middle").values
    with mpl.rc_context(STYLE):
        figure = Figure((PAGE, 0.4 + 1.4 * len(curves)), layout="constrained")
        panels = figure.subplots(len(curves), columns + 1, sharex=True, sharey=True, squeeze=False)
        for i, (row, (curve, points)) in enumerate(zip(panels, curves.items(), strict=True)):
            own = float(truth["wasserstein"].sel(statistic="middle").isel(cell=i))
            row[0].plot(*points.T, ".", color=DATA_COLOR, **CLOUD)
            row[0].set_title(f"data\nW2 {own:.3f}", fontsize=7)
            row[0].set_ylabel(f"{curve}, $x_2$")
            cells = np.flatnonzero(dataset["data"].values == curve)
            for axes, cell in zip(row[1:], cells, strict=True):
                arm = dataset.isel(cell=cell)
                points = arm["samples"].transpose("point", "dim").values
                axes.plot(*points.T, ".", color=color_of(arm), **CLOUD)
                if not np.isfinite(points).any():
                    say(axes, "no finite sample")
                label = textwrap.fill(label_of(arm), 14)
                axes.set_title(f"{label}\nW2 {distances[cell]:.3f}", fontsize=7)
        panels[0, 0].set(xlim=(-1.4, 1.4), ylim=(-1.4, 1.4))
        for axes in panels.flat:
            axes.set_aspect("equal")
        for axes in panels[-1]:
            axes.set_xlabel("$x_1$ (data units)")
    return figure


def _draw_seeds(axes: Axes, values: np.ndarray, middle: float, height: float, color: str) -> None:
    """A faint dot a seed, and their middle; what is not finite is not seen."""
    jitter = 0.25 * np.sin(np.arange(len(values)) * 2.4)  # spread out, the same in every run
    axes.plot(values, height + jitter, ".", color=color, **{**CLOUD, "alpha": 0.35})
    axes.plot(middle, height, "|", color=color, markersize=9, markeredgewidth=2)
