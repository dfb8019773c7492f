"""Figures of the failure case: the data, the loss, the samples and the learned σ."""

import matplotlib as mpl
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from spread_jax.figures.style import (
    COLUMN,
    DATA_COLOR,
    FLOOR_COLOR,
    NOISE_COLOR,
    STYLE,
    arm_handles,
    color_of,
    label_of,
    loss_limits,
    one_record,
    say,
    shown_arms,
)


def data_figure(x: np.ndarray) -> Figure:
    """The two-mode data: points on a line of the plane, and their density along it.

    Args:
      x: points, ``[n, 2]``.
    """
    with mpl.rc_context(STYLE):
        figure = Figure((COLUMN, 2.2), layout="constrained")
        plane, density = figure.subplots(2, 1, sharex=True, height_ratios=(1, 1.2))
        plane.plot(*x.T, ".", color=DATA_COLOR, markersize=2, alpha=0.3, markeredgewidth=0)
        plane.set(ylim=(-1, 1), ylabel="$x_2$", title="the data: two modes on a line, $x_2 = 0$")
        reach = _reach(x)
        _draw_density(density, x[:, 0], np.linspace(-reach, reach, 81), DATA_COLOR)
        density.set(xlabel="$x_1$ (data units)", ylabel="density of $x_1$")
    return figure


def loss_figure(dataset: xr.Dataset, floor: float | None = None) -> Figure:
    """Training loss over steps, a panel per arm: every seed faint, the first one strong.

    Args:
      dataset: arms with ``loss`` and ``loss_max`` ``[..., seed, step]``.
      floor: entropy of the spread data, drawn where an arm has a floor; None if it is not known.
    """
    with mpl.rc_context(STYLE):
        arms = shown_arms(dataset)
        figure = Figure((COLUMN, 0.4 + 1.5 * len(arms)), layout="constrained")
        panels = figure.subplots(len(arms), 1, sharex=True, squeeze=False)[:, 0]
        for axes, arm in zip(panels, arms, strict=True):
            color, steps = color_of(arm), arm["step"].values
            top = arm["loss_max"].transpose("seed", "step").values
            mean = arm["loss"].transpose("seed", "step").values
            own_floor = floor if arm["has_floor"] else None
            _draw_runs(axes, steps, top, color)
            axes.plot(steps, mean[0], color=color, linewidth=0.9, **one_record(steps))
            axes.set(ylabel="loss (nats)", title=label_of(arm), xlim=(0, steps[-1]))
            axes.set_ylim(loss_limits(mean, top, bool(arm["has_noise"]), own_floor))
            if own_floor is not None:
                axes.axhline(
                    own_floor,
                    color=FLOOR_COLOR,
                    linestyle="--",
                    linewidth=1,
                    label="floor, $H(\\tilde p_d)$",
                )
                axes.legend(loc="upper right")
        panels[-1].set_xlabel("optimizer steps")
    return figure


def samples_figure(x: np.ndarray, dataset: xr.Dataset, summary: xr.Dataset) -> Figure:
    """Clean samples of each arm over the data: in the plane above, along the line below.

    Args:
      x: data, ``[n, 2]``.
      dataset: arms with ``samples`` of the first seed ``[..., point, dim]``; what is not finite is
        left out.
      summary: :func:`spread_jax.over_seeds` of the same arms, whose ``recovered`` is the rate of
        the titles.
    """
    with mpl.rc_context(STYLE):
        arms, rates = shown_arms(dataset), shown_arms(summary)
        figure = Figure((COLUMN, 3.0), layout="constrained")
        grid = figure.subplots(2, len(arms), sharex=True, sharey="row", squeeze=False)
        reach = _reach(x)
        edges = np.linspace(-reach, reach, 65)
        height = 0.01
        for (plane, density), arm, rate in zip(grid.T, arms, rates, strict=True):
            color, points = color_of(arm), arm["samples"].transpose("point", "dim").values
            points = points[np.isfinite(points).all(axis=1)]
            height = max(height, np.abs(points[:, 1]).max(initial=0.0))
            if not len(points):
                say(plane, "no finite sample")
            plane.plot(*points.T, ".", color=color, markersize=2, alpha=0.4, markeredgewidth=0)
            plane.plot(
                x[:300, 0],
                np.full(len(x[:300]), 0.06),
                "|",
                color=DATA_COLOR,
                markersize=5,
                markeredgewidth=0.3,
                transform=plane.get_xaxis_transform(),
            )
            found = float(rate["recovered"].sel(statistic="middle"))
            plane.set_title(f"{label_of(arm)}\nfound: {found:.0%} of seeds", fontsize=7)
            _draw_density(density, x[:, 0], edges, DATA_COLOR)
            _draw_density(density, points[:, 0], edges, color)
            density.set_xlabel("$x_1$ (data units)")
        grid[0, 0].set(ylabel="$x_2$ (data units)", xlim=(-reach, reach))
        grid[0, 0].set_ylim(-1.2 * height, 1.2 * height)
        grid[1, 0].set_ylabel("density of $x_1$")
        grid[1, 0].plot([], color=DATA_COLOR, linewidth=1, label="data")
        grid[1, 0].legend(loc="upper center")
    return figure


def sigma_figure(dataset: xr.Dataset, data_std: float, sigma_fix: float) -> Figure:
    """The decoder's clean σ_x and σ_y over steps, log axis; every seed faint, the first strong.

    Args:
      dataset: arms with ``std`` ``[..., seed, step, component, dim]``.
      data_std: the true σ_x; the true σ_y is 0.
      sigma_fix: standard deviation of the noise, drawn for scale where it is not 0.
    """
    with mpl.rc_context(STYLE):
        arms = shown_arms(dataset)
        figure = Figure((COLUMN, 2.8), layout="constrained")
        panels = figure.subplots(1, 2, sharey=True)
        for i, axes in enumerate(panels):
            for arm in arms:
                steps, color = arm["step"].values, color_of(arm)
                std = arm["std"].isel(dim=i).transpose("component", "seed", "step").values
                for component in std:
                    _draw_runs(axes, steps, component, color)
                    axes.plot(steps, component[0], color=color, linewidth=0.9, **one_record(steps))
            axes.set(yscale="log", xlim=(0, steps[-1]), xlabel="optimizer steps")
            axes.xaxis.set_major_locator(mpl.ticker.MaxNLocator(3, integer=True, min_n_ticks=1))
            axes.set_title(f"$\\sigma_{{x_{i + 1}}}$ of the decoder")
        panels[0].set_ylabel("standard deviation (data units)")
        panels[0].axhline(data_std, color=DATA_COLOR, linestyle=":", linewidth=1)
        handles = arm_handles(arms)
        truth = "truth, left (right: 0)"
        handles.append(Line2D([], [], color=DATA_COLOR, linestyle=":", label=truth))
        if sigma_fix:
            panels[1].axhline(sigma_fix, color=NOISE_COLOR, linestyle="--", linewidth=1)
            handles.append(
                Line2D([], [], color=NOISE_COLOR, linestyle="--", label="noise, $\\sigma_{fix}$")
            )
        figure.legend(handles=handles, loc="outside lower center", ncols=2)
    return figure


def _reach(x: np.ndarray) -> float:
    """How far from 0 the line is shown: the two modes at ±1, or all data where it is wider."""
    return max(1.6, 1.05 * float(np.abs(x[:, 0]).max()))


def _draw_density(axes: Axes, x: np.ndarray, edges: np.ndarray, color: str) -> None:
    if not len(x):
        return
    counts, _ = np.histogram(x, edges)
    axes.stairs(counts / len(x) / np.diff(edges), edges, color=color, linewidth=1)


def _draw_runs(axes: Axes, steps: np.ndarray, curves: np.ndarray, color: str) -> None:
    """One faint line a run."""
    alpha = max(0.05, 0.4 / len(curves) ** 0.5)
    if len(steps) == 1:
        axes.plot(steps, curves.T, color=color, alpha=alpha, **one_record(steps))
        return
    lines = [np.column_stack([steps, curve]) for curve in curves]
    axes.add_collection(LineCollection(lines, colors=color, linewidths=0.4, alpha=alpha))
