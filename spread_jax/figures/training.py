"""Figures of training: the loss, and the decoder's σ, over the steps of the runs."""

from collections.abc import Callable, Mapping, Sequence
from itertools import cycle
from typing import Any, TypeAlias

import matplotlib as mpl
import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from spread_jax.figures import style

LEAST_SIGMA = 1e-10  # drawn in place of a sigma of 0, which a log axis cannot show
NOISE_LABEL = "noise, $\\sigma_{fix}$"
NOISE: dict[str, Any] = {"color": style.NOISE_COLOR, "linestyle": "--", "label": NOISE_LABEL}
Panel: TypeAlias = tuple[str, Callable[[xr.Dataset], xr.DataArray], dict[float, dict[str, Any]]]
"""A title, a function from an arm to its curves, and heights of lines with the lines' keywords."""


@style.styled
def loss_figure(dataset: xr.Dataset, floor: float | None = None) -> Figure:
    """Training loss over steps, a panel per arm: the mean and the largest loss of each record are
    faint for every seed, the first seed's mean is strong.

    Args:
      dataset: arms with ``loss`` and ``loss_max`` ``[..., seed, step]``; and ``floor``, where each
        has its own.
      floor: entropy of the spread data, drawn where an arm has a floor; None if it is not known.
    """
    arms = style.shown_arms(dataset)
    figure = Figure((style.COLUMN, 0.4 + 1.4 * len(arms)))
    panels = figure.subplots(len(arms), 1, sharex=True, squeeze=False)[:, 0]
    for axes, arm in zip(panels, arms, strict=True):
        height = np.nan if floor is None else floor
        own = float(arm.get("floor", height)) if arm["has_floor"] else np.nan
        style.draw_runs(axes, arm, arm["loss"], arm["loss_max"])
        title = arm["label"].item()
        if arm["has_noise"] and "sigma_fix" in arm:
            title += f", $\\sigma_{{fix}}$ = {float(arm['sigma_fix']):g}"
        axes.set(ylabel="loss (nats)", title=title)
        curves = (arm[name].transpose(..., "step").values for name in ("loss", "loss_max"))
        axes.set_ylim(style.loss_limits(*curves, floor=own))
        if np.isfinite(own):
            line = axes.axhline(own, color=style.FLOOR_COLOR, linestyle="--")
            axes.legend([line], ["floor, $H(\\tilde p_d)$"], loc="upper right")
    panels[-1].set_xlabel("optimizer steps")
    return figure


@style.styled
def loss_so_far_figure(
    steps: np.ndarray, cells: Mapping[str, tuple[np.ndarray, np.ndarray]]
) -> Figure:
    """Training loss over the steps so far: the middle of the runs strong, the worst of them faint.

    Args:
      steps: optimizer steps done, ``[record]``.
      cells: name → median and largest loss of its runs, ``[record]`` each, in nats.
    """
    figure = Figure((style.PAGE, 3.0))
    axes = figure.subplots()
    for (name, (middle, worst)), color in zip(cells.items(), cycle(style.CYCLE), strict=False):
        axes.plot(steps, worst, color=color, linewidth=0.5, alpha=0.5)
        axes.plot(steps, middle, color=color, label=name, **style.one_record(steps))
    axes.set(xlabel="optimizer steps", ylabel="loss (nats)", title="median and worst of the runs")
    axes.set_ylim(style.loss_limits(*(curve for pair in cells.values() for curve in pair)))
    style.legend_below(figure, np.array([axes]), columns=3)
    return figure


@style.styled
def sigma_figure(dataset: xr.Dataset, data_std: float, sigma_fix: float) -> Figure:
    """The decoder's clean σ_x and σ_y over steps, log axis; every seed faint, the first strong.

    Args:
      dataset: arms with ``std`` ``[..., seed, step, component, dim]``.
      data_std: the true σ_x; the true σ_y is 0.
      sigma_fix: standard deviation of the noise, drawn for scale where it is not 0.
    """
    truth = {"color": style.DATA_COLOR, "linestyle": ":", "label": "truth, left (right: 0)"}
    noise = {sigma_fix: NOISE} if sigma_fix else {}
    return _sigma_panels(
        style.shown_arms(dataset),
        ("$\\sigma_{x_1}$ of the decoder", lambda arm: arm["std"].isel(dim=0), {data_std: truth}),
        ("$\\sigma_{x_2}$ of the decoder", lambda arm: arm["std"].isel(dim=1), noise),
    )


@style.styled
def arms_sigma_figure(dataset: xr.Dataset) -> Figure:
    """Smallest and median σ of the decoder over steps, log axis, every seed of every arm that has
    a σ: ``min_sigma`` and ``median_sigma`` ``[..., seed, step]``."""
    every = style.shown_arms(dataset) if "min_sigma" in dataset else []
    arms = [arm for arm in every if arm["min_sigma"].notnull().any()]
    if not arms:
        figure = Figure((style.COLUMN, 1))
        style.write_note(figure.subplots(), "no decoder has a σ")
        return figure
    noises = {float(arm["sigma_fix"]): NOISE for arm in arms if arm["has_noise"]}
    return _sigma_panels(
        arms,
        ("smallest σ", lambda arm: arm["min_sigma"], noises),
        ("median σ", lambda arm: arm["median_sigma"], noises),
    )


def _sigma_panels(arms: Sequence[xr.Dataset], *panels: Panel) -> Figure:
    figure = Figure((style.COLUMN, 2.8))
    every = figure.subplots(1, len(panels), sharey=True)
    for axes, (title, curves, heights) in zip(every, panels, strict=True):
        for arm in arms:
            style.draw_runs(axes, arm, curves(arm).clip(LEAST_SIGMA))
        for height, look in heights.items():
            axes.axhline(height, **look)
        axes.set(title=title, xlabel="optimizer steps")
        axes.xaxis.set_major_locator(mpl.ticker.MaxNLocator(3, integer=True, min_n_ticks=1))
        style.log_scale(axes)
    every[0].set_ylabel("σ of the decoder (data units)")
    style.legend_below(figure, every, columns=2)
    return figure
