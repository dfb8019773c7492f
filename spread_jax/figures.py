"""Figures: each function takes results and returns a matplotlib Figure; none of them computes.

Widths are those of a paper's columns, colours are Okabe and Ito's (safe for colour-blind
readers), and an arm has the same colour everywhere.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure, FigureBase
from matplotlib.lines import Line2D

COLUMN = 3.4  # inches
PAGE = 7.0

STYLE: dict[Any, Any] = {
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "legend.frameon": False,
    "legend.fontsize": 7,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "savefig.facecolor": "white",
}

DATA_COLOR = "#000000"
FLOOR_COLOR = "#009E73"
NOISE_COLOR = "#666666"
CLOUD: dict[str, Any] = {"markersize": 2.5, "alpha": 0.5, "markeredgewidth": 0}
RATIO_LIMITS = (0.01, 50.0)  # of a learned σ to the true one; what is outside is at the edge


class ArmStyle(NamedTuple):
    """How an arm is named and coloured, everywhere."""

    label: str
    color: str


ARMS = {
    "vae": ArmStyle("plain VAE", "#D55E00"),
    "spread_vae": ArmStyle("spread VAE", "#0072B2"),
    "spread_annealed": ArmStyle("annealed spread VAE", "#56B4E9"),
    "variance_floor": ArmStyle("variance floor only", "#E69F00"),
    "noise_only": ArmStyle("noise only", "#CC79A7"),
    "clean_encoder": ArmStyle("clean encoder", "#666666"),
    "soft_clip": ArmStyle("soft clip of log σ", "#B8860B"),
    "shared_sigma": ArmStyle("one σ, learned", "#666666"),
    "optimal_sigma": ArmStyle("one σ, analytic", "#666666"),
    "fixed_sigma": ArmStyle("fixed σ", "#666666"),
    "beta_vae": ArmStyle("β-VAE", "#666666"),
    "gradient_clipping": ArmStyle("gradient clipping", "#666666"),
    "learning_rate_decay": ArmStyle("learning-rate decay", "#666666"),
    "wgan_gp": ArmStyle("WGAN-GP", "#666666"),
    "deconvolution": ArmStyle("exact optimum (ceiling)", "#000000"),
}


def data_figure(x: np.ndarray) -> Figure:
    """The two-mode data: points on a line of the plane, and their density along it.

    Args:
      x: points, ``[n, 2]``.
    """
    with mpl.rc_context(STYLE):
        figure = Figure((COLUMN, 2.2), layout="constrained")
        _draw_data(figure, x)
    return figure


def loss_figure(arms: Mapping[str, xr.Dataset], floor: float | None) -> Figure:
    """Training loss over steps, a panel per arm: every seed faint, the first one strong.

    Args:
      arms: name → dataset with ``loss`` and ``loss_max`` ``[seed, step]``.
      floor: entropy of the spread data, below which the spread loss cannot fall; None if none.
    """
    with mpl.rc_context(STYLE):
        figure = Figure((COLUMN, 3.4), layout="constrained")
        _draw_loss(figure, arms, floor)
    return figure


def samples_figure(
    x: np.ndarray, samples: Mapping[str, np.ndarray], rates: Mapping[str, float]
) -> Figure:
    """Clean samples of each arm over the data: in the plane above, along the line below.

    Args:
      x: data, ``[n, 2]``.
      samples: arm → clean samples of the first seed, ``[n, 2]``.
      rates: arm → share of seeds that recovered both modes, for the titles.
    """
    with mpl.rc_context(STYLE):
        figure = Figure((COLUMN, 3.0), layout="constrained")
        _draw_samples(figure, x, samples, rates)
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
        _draw_sigma(figure, arms, data_std, sigma_fix)
    return figure


def story_figure(
    x: np.ndarray,
    arms: Mapping[str, xr.Dataset],
    samples: Mapping[str, np.ndarray],
    rates: Mapping[str, float],
    *,
    floor: float | None,
    data_std: float,
    sigma_fix: float,
) -> Figure:
    """Data, loss, samples and σ on one page; arguments as in the four figures."""
    with mpl.rc_context(STYLE):
        figure = Figure((PAGE, 6.2), layout="constrained")
        quarters = figure.subfigures(
            2, 2, squeeze=False, height_ratios=(1, 1.05), wspace=0.04, hspace=0.04
        )
        _draw_data(quarters[0, 0], x)
        _draw_loss(quarters[0, 1], arms, floor)
        _draw_samples(quarters[1, 0], x, samples, rates)
        _draw_sigma(quarters[1, 1], arms, data_std, sigma_fix)
    return figure


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
                height, color = float(arms.index(arm)), ARMS[arm].color
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
            axes.set_yticks(range(len(arms)), [ARMS[arm].label for arm in arms])
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
        figure = Figure((PAGE, 0.5 + 1.6 * len(truth)), layout="constrained")
        panels = figure.subplots(len(truth), len(arms) + 1, sharex=True, sharey=True, squeeze=False)
        for row, (curve, points) in zip(panels, truth.items(), strict=True):
            here = runs.isel(cell=runs["data"].values == curve)
            own = float(here["wasserstein_truth"].median())
            row[0].plot(*points.T, ".", color=DATA_COLOR, **CLOUD)
            row[0].set_title(f"data\nW2 {own:.3f}")
            row[0].set_ylabel(f"{curve}, $x_2$")
            for axes, arm in zip(row[1:], arms, strict=True):
                cell = here.isel(cell=list(here["arm"].values).index(arm))
                axes.plot(*cell["x"].values.T, ".", color=ARMS[arm].color, **CLOUD)
                distance = float(cell["wasserstein"].median())
                axes.set_title(f"{ARMS[arm].label}\nW2 {distance:.3f}")
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


def _draw_data(figure: FigureBase, x: np.ndarray) -> None:
    plane, density = figure.subplots(2, 1, sharex=True, height_ratios=(1, 1.2))
    plane.plot(*x.T, ".", color=DATA_COLOR, markersize=2, alpha=0.3, markeredgewidth=0)
    plane.set(ylim=(-1, 1), ylabel="$x_2$", title="the data: two modes on a line, $x_2 = 0$")
    _draw_density(density, x[:, 0], np.linspace(-1.6, 1.6, 81), DATA_COLOR)
    density.set(xlabel="$x_1$ (data units)", ylabel="density of $x_1$")


def _draw_density(axes: Axes, x: np.ndarray, edges: np.ndarray, color: str) -> None:
    counts, _ = np.histogram(x, edges)
    axes.stairs(counts / len(x) / np.diff(edges), edges, color=color, linewidth=1)


def _draw_loss(figure: FigureBase, arms: Mapping[str, xr.Dataset], floor: float | None) -> None:
    panels = figure.subplots(len(arms), 1, sharex=True, squeeze=False)[:, 0]
    for axes, (arm, runs) in zip(panels, arms.items(), strict=True):
        style = ARMS[arm]
        steps = runs["step"].values
        top = runs["loss_max"].transpose("seed", "step").values
        mean = runs["loss"].transpose("seed", "step").values
        _draw_runs(axes, steps, top, style.color)
        axes.plot(steps, mean[0], color=style.color, linewidth=0.9)
        axes.set(ylabel="loss (nats)", title=style.label, xlim=(0, steps[-1]))
        axes.set_ylim(_loss_limits(mean, top, arm == "spread_vae"))
    if floor is not None and "spread_vae" in arms:
        axes = panels[list(arms).index("spread_vae")]
        axes.axhline(
            floor, color=FLOOR_COLOR, linestyle="--", linewidth=1, label="floor, $H(\\tilde p_d)$"
        )
        axes.legend(loc="upper right")
    panels[-1].set_xlabel("optimizer steps")


def _loss_limits(mean: np.ndarray, top: np.ndarray, skip_start: bool) -> tuple[float, float]:
    """What is seen after the first hundredth of the steps, which would flatten a bounded loss."""
    start = max(1, mean.shape[1] // 100) if skip_start and mean.shape[1] > 1 else 0
    low = np.nanmin(np.where(np.isfinite(mean), mean, np.nan)[:, start:], initial=0.0)
    high = np.nanmax(np.where(np.isfinite(top), top, np.nan)[:, start:], initial=low + 1e-3)
    margin = 0.06 * (high - low)
    return float(low - margin), float(high + margin)


def _draw_samples(
    figure: FigureBase,
    x: np.ndarray,
    samples: Mapping[str, np.ndarray],
    rates: Mapping[str, float],
) -> None:
    grid = figure.subplots(2, len(samples), sharex=True, sharey="row", squeeze=False)
    edges = np.linspace(-1.6, 1.6, 65)
    for (plane, density), (arm, points) in zip(grid.T, samples.items(), strict=True):
        style = ARMS[arm]
        plane.plot(*points.T, ".", color=style.color, markersize=2, alpha=0.4, markeredgewidth=0)
        plane.plot(
            x[:300, 0],
            np.full(len(x[:300]), 0.06),
            "|",
            color=DATA_COLOR,
            markersize=5,
            markeredgewidth=0.3,
            transform=plane.get_xaxis_transform(),
        )
        plane.set_title(f"{style.label}\nmodes found: {rates[arm]:.0%} of seeds")
        _draw_density(density, x[:, 0], edges, DATA_COLOR)
        _draw_density(density, points[:, 0], edges, style.color)
        density.set_xlabel("$x_1$ (data units)")
    grid[0, 0].set(ylabel="$x_2$ (data units)", xlim=(-1.6, 1.6))
    height = 1.2 * max(0.01, *(np.nanmax(np.abs(p[:, 1])) for p in samples.values()))
    grid[0, 0].set_ylim(-height, height)
    grid[1, 0].set_ylabel("density of $x_1$")
    grid[1, 0].plot([], color=DATA_COLOR, linewidth=1, label="data")
    grid[1, 0].legend(loc="upper center")


def _draw_sigma(
    figure: FigureBase, arms: Mapping[str, xr.Dataset], data_std: float, sigma_fix: float
) -> None:
    panels = figure.subplots(1, 2, sharey=True)
    for i, axes in enumerate(panels):
        for arm, runs in arms.items():
            std = runs["std"].isel(dim=i).transpose("component", "seed", "step").values
            for component in std:
                _draw_runs(axes, runs["step"].values, component, ARMS[arm].color)
                axes.plot(runs["step"].values, component[0], color=ARMS[arm].color, linewidth=0.9)
        axes.set(yscale="log", xlim=(0, runs["step"].values[-1]), xlabel="optimizer steps")
        axes.xaxis.set_major_locator(mpl.ticker.MaxNLocator(3))
        axes.set_title(f"$\\sigma_{{x_{i + 1}}}$ of the decoder")
    panels[0].set_ylabel("standard deviation (data units)")
    panels[0].axhline(data_std, color=DATA_COLOR, linestyle=":", linewidth=1)
    if sigma_fix:
        panels[1].axhline(sigma_fix, color=NOISE_COLOR, linestyle="--", linewidth=1)
    handles = [Line2D([], [], color=ARMS[arm].color, label=ARMS[arm].label) for arm in arms]
    truth = "truth, left (right: 0)"
    handles.append(Line2D([], [], color=DATA_COLOR, linestyle=":", label=truth))
    if sigma_fix:
        handles.append(
            Line2D([], [], color=NOISE_COLOR, linestyle="--", label="noise, $\\sigma_{fix}$")
        )
    figure.legend(handles=handles, loc="outside lower center", ncols=2)


def _draw_runs(axes: Axes, steps: np.ndarray, curves: np.ndarray, color: str) -> None:
    """One faint line a run."""
    lines = [np.column_stack([steps, curve]) for curve in curves]
    axes.add_collection(
        LineCollection(
            lines, colors=color, linewidths=0.4, alpha=max(0.05, 0.4 / len(lines) ** 0.5)
        )
    )
