"""Figures of comparisons of arms: of every baseline, and of spreads that learn."""

import textwrap
from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from spread_jax.aggregate import with_worst
from spread_jax.figures import style

RATIO_LIMITS = (0.01, 50.0)  # learned σ ÷ true σ; a value outside is drawn at the edge
PREDICTED = {"linestyle": "", "marker": "D", "color": "none", "markeredgecolor": "black"}
TRUTH = {"color": style.FLOOR_COLOR}
TWO_TRUE_SAMPLES = {"color": style.FLOOR_COLOR, "linestyle": "--"}
MARK = {"color": style.NOISE_COLOR, "linestyle": ""}
BROKEN = {**MARK, "marker": ">", "markersize": 4, "clip_on": False}
LEGEND: dict[str, dict[str, Any]] = {
    "median of seeds": {**MARK, "marker": "|"},
    "a seed": {**MARK, "marker": "."},
    "predicted": PREDICTED,
    "the truth": TRUTH,
    "two true samples": TWO_TRUE_SAMPLES,
    "broken runs": BROKEN,
}


@style.styled
def baselines_figure(dataset: xr.Dataset, summary: xr.Dataset, truth: xr.Dataset) -> Figure:
    """Learned ÷ true σ_x above, W2 to the truth below; a row per arm, a column per data std.

    An arm has a triangle at the right edge where too many of its runs broke for a finite median.

    Args:
      dataset: cells on two modes with ``data_std`` and ``predicted`` (the σ_x of each cell's
        optimum) ``[cell]``, ``sigma_x`` and ``wasserstein`` ``[cell, seed]``.
      summary: :func:`spread_jax.over_seeds` of it, ``recovered`` among it.
      truth: ``wasserstein`` ``[cell, statistic]`` between two true samples, a cell per data std.
    """
    labels = dict(zip(dataset["arm"].values, dataset["label"].values, strict=True))
    names = list(labels)[::-1]  # the axis points upwards
    data_stds, middles = truth["data_std"].values, summary.sel(statistic="middle")
    figure = Figure((style.PAGE, 1.6 + 0.34 * len(names)))
    panels = figure.subplots(2, len(data_stds), sharey=True, sharex="row", squeeze=False)
    of_truth = truth["wasserstein"].sel(statistic="middle").values
    for data_std, own, (above, below) in zip(data_stds, of_truth, panels.T, strict=True):
        for cell in np.flatnonzero(dataset["data_std"] == data_std):
            arm, middle = dataset.isel(cell=cell), middles.isel(cell=cell)
            height, color = float(names.index(arm["arm"].item())), arm["color"].item()
            learned, typical, predicted = (
                np.clip(values.values / data_std, *RATIO_LIMITS)
                for values in (with_worst(arm["sigma_x"]), middle["sigma_x"], arm["predicted"])
            )
            _draw_seeds(above, learned, typical, height, color)
            above.plot(predicted, height, markersize=6, **PREDICTED)
            edge, rate = above.get_yaxis_transform(), f"{float(middle['recovered']):.0%}"
            above.text(1, height, rate, fontsize=6, ha="right", va="center", transform=edge)
            distances, typical = with_worst(arm["wasserstein"]).values, middle["wasserstein"].item()
            _draw_seeds(below, distances, typical, height, color)
            if typical == np.inf:
                edge = below.get_yaxis_transform()
                below.plot(1, height, transform=edge, **BROKEN | {"color": color})
        above.axvline(1, zorder=0, **TRUTH)
        below.axvline(own, zorder=0, **TWO_TRUE_SAMPLES)
        above.set(title=f"data std {data_std:g}", xlabel=r"learned ÷ true $\sigma_x$")
        above.set(xscale="log", xlim=(RATIO_LIMITS[0] / 1.5, RATIO_LIMITS[1] * 20))
        above.set_xticks([0.01, 1, 10], ["≤0.01", "1", "10"])
        above.minorticks_off()
        below.set(xscale="log", xlabel="W2 (data units)")
    for axes in panels[:, 0]:
        axes.set_yticks(range(len(names)), [labels[name] for name in names])
        axes.set_ylim(-0.7, len(names) - 0.3)
    shown = len(LEGEND) if (middles["wasserstein"] == np.inf).any() else len(LEGEND) - 1
    figure.legend(
        handles=[Line2D([], [], label=label, **look) for label, look in LEGEND.items()][:shown],
        title="Above: width of a mode; at the right the seeds that recovered both modes.\n"
        "Below: distance of clean samples to true ones. Nearer the green line is better.",
        loc="outside lower center",
        ncols=6,
    )
    return figure


@style.styled
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
    distances, own = (of["wasserstein"].sel(statistic="middle").values for of in (summary, truth))
    columns = 1 + len(np.unique(dataset["arm"]))
    figure = Figure((style.PAGE, 0.4 + 1.4 * len(curves)))
    panels = figure.subplots(len(curves), columns, sharex=True, sharey=True, squeeze=False)
    for row, (curve, x), of_data in zip(panels, curves.items(), own, strict=True):
        shown = [("data", x, style.DATA_COLOR, of_data)]
        for cell in np.flatnonzero(dataset["data"] == curve):
            arm = dataset.isel(cell=cell)
            points = arm["samples"].transpose("point", "dim").values
            label = textwrap.fill(arm["label"].item(), 14)
            shown.append((label, points, arm["color"].item(), distances[cell]))
        for axes, (label, points, color, distance) in zip(row, shown, strict=True):
            axes.plot(*points.T, color=color, markersize=2.5, alpha=0.5, **style.CLOUD)
            if not np.isfinite(points).any():
                style.write_note(axes, "no finite sample")
            axes.set_title(f"{label}\nW2 {distance:.3f}", fontsize=7)
            axes.set_aspect("equal")
        row[0].set_ylabel(f"{curve}, $x_2$")
    panels[0, 0].set(xlim=(-1.4, 1.4), ylim=(-1.4, 1.4))
    for axes in panels[-1]:
        axes.set_xlabel("$x_1$ (data units)")
    return figure


@style.styled
def learned_figure(data: list[xr.Dataset], summaries: list[xr.Dataset]) -> Figure:
    """Energy distance of clean samples, a dot per seed and the median, a panel per data set.

    A run without a number is a triangle at the top.

    Args:
      data: for each data set ``energy_distance`` [cell, seed], and its name in ``attrs["data"]``.
      summaries: :func:`spread_jax.over_seeds` of each.
    """
    figure = Figure((0.8 + 2.1 * len(data), 3.0))
    panels = figure.subplots(1, len(data), squeeze=False)[0]
    for axes, dataset, summary in zip(panels, data, summaries, strict=True):
        arms, every = style.shown_arms(dataset), with_worst(dataset["energy_distance"]).values
        largest = every.max(initial=0.0, where=np.isfinite(every))
        top = 1.08 * largest or 1.0
        if largest == 0:
            style.write_note(axes, "no finite distance above 0")
        middles = summary["energy_distance"].sel(statistic="middle").values
        for i, (arm, distance, middle) in enumerate(zip(arms, every, middles, strict=True)):
            color, places = arm["color"].item(), i + np.linspace(-0.2, 0.2, len(distance))
            axes.plot(places, distance, ".", color=color, markersize=4, alpha=0.6)
            style.mark_infinite(axes, places, distance, color)
            ends, height = [i - 0.3, i + 0.3], [min(middle, top)] * 2
            axes.plot(ends, height, color=color, linewidth=1.5, clip_on=False)
        labels = [arm["label"].item() for arm in arms]
        slanted = {"rotation": 30, "horizontalalignment": "right", "rotation_mode": "anchor"}
        axes.set_xticks(range(len(arms)), labels, **slanted)
        axes.set(title=dataset.attrs["data"], xlim=(-0.5, len(arms) - 0.5), ylim=(0, top))
    panels[0].set_ylabel("energy distance (data units)")
    return figure


def _draw_seeds(axes: Axes, values: np.ndarray, middle: float, height: float, color: str) -> None:
    """A faint dot for each seed, and a mark at their middle; matplotlib leaves out NaN and inf."""
    jitter = 0.25 * np.sin(np.arange(len(values)) * 2.4)  # spread out, the same in every run
    axes.plot(values, height + jitter, color=color, markersize=2.5, alpha=0.35, **style.CLOUD)
    axes.plot(middle, height, "|", color=color, markersize=9, markeredgewidth=2)
