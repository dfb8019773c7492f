"""Figures of the failure case: the data, the loss, the samples and the learned σ."""

from collections.abc import Mapping

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
    arm_style,
    loss_limits,
    one_record,
    say,
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


def loss_figure(arms: Mapping[str, xr.Dataset], floor: float | None) -> Figure:
    """Training loss over steps, a panel per arm: every seed faint, the first one strong.

    Args:
      arms: name → dataset with ``loss`` and ``loss_max`` ``[seed, step]``.
      floor: entropy of the spread data, below which the spread loss cannot fall; None if none.
    """
    with mpl.rc_context(STYLE):
        figure = Figure((COLUMN, 3.4), layout="constrained")
        panels = figure.subplots(len(arms), 1, sharex=True, squeeze=False)[:, 0]
        for axes, (arm, runs) in zip(panels, arms.items(), strict=True):
            style = arm_style(arm)
            steps = runs["step"].values
            top = runs["loss_max"].transpose("seed", "step").values
            mean = runs["loss"].transpose("seed", "step").values
            _draw_runs(axes, steps, top, style.color)
            axes.plot(steps, mean[0], color=style.color, linewidth=0.9, **one_record(steps))
            axes.set(ylabel="loss (nats)", title=style.label, xlim=(0, steps[-1]))
            bounded = arm == "spread_vae"
            axes.set_ylim(loss_limits(mean, top, bounded, floor if bounded else None))
            if bounded and floor is not None:
                axes.axhline(
                    floor,
                    color=FLOOR_COLOR,
                    linestyle="--",
                    linewidth=1,
                    label="floor, $H(\\tilde p_d)$",
                )
                axes.legend(loc="upper right")
        panels[-1].set_xlabel("optimizer steps")
    return figure


def samples_figure(
    x: np.ndarray, samples: Mapping[str, np.ndarray], rates: Mapping[str, float]
) -> Figure:
    """Clean samples of each arm over the data: in the plane above, along the line below.

    Args:
      x: data, ``[n, 2]``.
      samples: arm → clean samples of the first seed, ``[n, 2]``; what is not finite is left out.
      rates: arm → share of seeds that recovered both modes, for the titles.
    """
    with mpl.rc_context(STYLE):
        figure = Figure((COLUMN, 3.0), layout="constrained")
        grid = figure.subplots(2, len(samples), sharex=True, sharey="row", squeeze=False)
        reach = _reach(x)
        edges = np.linspace(-reach, reach, 65)
        height = 0.01
        for (plane, density), (arm, points) in zip(grid.T, samples.items(), strict=True):
            style = arm_style(arm)
            points = points[np.isfinite(points).all(axis=1)]
            height = max(height, np.abs(points[:, 1]).max(initial=0.0))
            if not len(points):
                say(plane, "no finite sample")
            plane.plot(
                *points.T, ".", color=style.color, markersize=2, alpha=0.4, markeredgewidth=0
            )
            plane.plot(
                x[:300, 0],
                np.full(len(x[:300]), 0.06),
                "|",
                color=DATA_COLOR,
                markersize=5,
                markeredgewidth=0.3,
                transform=plane.get_xaxis_transform(),
            )
            plane.set_title(f"{style.label}\nfound: {rates[arm]:.0%} of seeds", fontsize=7)
            _draw_density(density, x[:, 0], edges, DATA_COLOR)
            _draw_density(density, points[:, 0], edges, style.color)
            density.set_xlabel("$x_1$ (data units)")
        grid[0, 0].set(ylabel="$x_2$ (data units)", xlim=(-reach, reach))
        grid[0, 0].set_ylim(-1.2 * height, 1.2 * height)
        grid[1, 0].set_ylabel("density of $x_1$")
        grid[1, 0].plot([], color=DATA_COLOR, linewidth=1, label="data")
        grid[1, 0].legend(loc="upper center")
    return figure


def sigma_figure(arms: Mapping[str, xr.Dataset], data_std: float, sigma_fix: float) -> Figure:
    """The decoder's clean σ_x and σ_y over steps, log axis; every seed faint, the first strong.

    Args:
      arms: name → dataset with ``std`` ``[seed, step, component, dim]``.
      data_std: the true σ_x; the true σ_y is 0.
      sigma_fix: standard deviation of the noise, drawn for scale where it is not 0.
    """
    with mpl.rc_context(STYLE):
        figure = Figure((COLUMN, 2.8), layout="constrained")
        panels = figure.subplots(1, 2, sharey=True)
        for i, axes in enumerate(panels):
            for arm, runs in arms.items():
                steps, color = runs["step"].values, arm_style(arm).color
                std = runs["std"].isel(dim=i).transpose("component", "seed", "step").values
                for component in std:
                    _draw_runs(axes, steps, component, color)
                    axes.plot(steps, component[0], color=color, linewidth=0.9, **one_record(steps))
            axes.set(yscale="log", xlim=(0, steps[-1]), xlabel="optimizer steps")
            axes.xaxis.set_major_locator(mpl.ticker.MaxNLocator(3, integer=True, min_n_ticks=1))
            axes.set_title(f"$\\sigma_{{x_{i + 1}}}$ of the decoder")
        panels[0].set_ylabel("standard deviation (data units)")
        panels[0].axhline(data_std, color=DATA_COLOR, linestyle=":", linewidth=1)
        if sigma_fix:
            panels[1].axhline(sigma_fix, color=NOISE_COLOR, linestyle="--", linewidth=1)
        handles = [Line2D([], [], **arm_style(arm)._asdict()) for arm in arms]
        truth = "truth, left (right: 0)"
        handles.append(Line2D([], [], color=DATA_COLOR, linestyle=":", label=truth))
        if sigma_fix:
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
