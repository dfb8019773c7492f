"""Figures of the deterministic linear models."""

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from spread_jax.figures import style
from spread_jax.linear_comparison import ALGORITHMS

COLORS = {"em": "#D55E00", "spread_em": "#009E73", "structured_spread_em": "#0072B2"}
MODELS = {"pca": "PCA", "ica": "ICA"}
REFERENCES = {"pca": ("eigen_error", "eigen-solution"), "ica": ("fastica_error", "FastICA, γ = 0")}
# errors that are drawn: float32 resolves none below, and a broken run is above all others
LEAST_SHOWN, MOST_SHOWN = 1e-7, 1e3


@style.styled
def error_against_gamma_figure(summary: xr.Dataset) -> Figure:
    """Error of A after the last iteration against γ, median and its interval, PCA and ICA.

    Args:
      summary: :func:`spread_jax.over_seeds` of
        :func:`spread_jax.linear_comparison.compare_linear_models`.
    """
    summary = summary.sortby("gamma", ascending=False)
    gammas = summary["gamma"].values
    figure = Figure((style.PAGE, 2.6))
    panels = figure.subplots(1, 2)
    for axes, (model, title) in zip(panels, MODELS.items(), strict=True):
        last = summary["error"].sel(model=model).isel(iteration=-1)
        for i, (method, label) in enumerate(ALGORITHMS.items()):
            middle, low, high = _shown(last.sel(algorithm=method))
            places, interval = (
                np.arange(len(gammas)) + 0.08 * (i - 1),
                [middle - low, high - middle],
            )
            look = {"color": COLORS[method], "fmt": "o-", "markersize": 3, "linewidth": 0.9}
            axes.errorbar(places, middle, interval, label=label, **look)
        _draw_reference(axes, summary, model)
        axes.set_xticks(range(len(gammas)), [f"{gamma:g}" for gamma in gammas])
        axes.set(title=title, xlim=(-0.5, len(gammas) - 0.5), ylabel="relative error of A")
        axes.set_xlabel("observation noise γ (std, data units)")
        style.log_scale(axes)
    style.legend_below(figure, panels)
    return figure


@style.styled
def convergence_figure(summary: xr.Dataset, seconds: xr.DataArray) -> Figure:
    """Error of A against iterations and against seconds at the smallest γ, PCA above, ICA below.

    Args:
      summary: as in :func:`error_against_gamma_figure`.
      seconds: of one run, ``[model, algorithm, iteration]``.
    """
    gamma = float(summary["gamma"].min())
    summary = summary.sel(gamma=[gamma])
    figure = Figure((style.PAGE, 4.2))
    grid = figure.subplots(2, 2, sharey="row")
    for row, (model, title) in zip(grid, MODELS.items(), strict=True):
        for method, label in ALGORITHMS.items():
            here = {"model": model, "algorithm": method}
            middle, low, high = _shown(summary["error"].sel(here).isel(gamma=0))
            times = (summary["iteration"].values, seconds.sel(here).values)
            for axes, x in zip(row, times, strict=True):
                axes.fill_between(x, low, high, color=COLORS[method], alpha=0.2, linewidth=0)
                axes.plot(x, middle, color=COLORS[method], linewidth=1, label=label)
        for axes, name in zip(row, ("iterations", "seconds of one run"), strict=True):
            _draw_reference(axes, summary, model)
            axes.set(xlabel=name, title=f"{title}, γ = {gamma:g}", xlim=(0, None))
        row[0].set_ylabel("relative error of A")
        style.log_scale(row[0])
    style.legend_below(figure, grid.ravel())
    return figure


def _shown(errors: xr.DataArray) -> np.ndarray:
    """Middle, low and high ``[3, ...]``, clipped to the range that a log axis shows."""
    return errors.clip(LEAST_SHOWN, MOST_SHOWN).transpose("statistic", ...).values


def _draw_reference(axes: Axes, summary: xr.Dataset, model: str) -> None:
    name, label = REFERENCES[model]
    middle = _shown(summary[name])[0]
    if middle.size > 1:
        (line,) = axes.plot(np.arange(middle.size), middle)
    else:
        line = axes.axhline(middle.item())
    line.set(color=style.NOISE_COLOR, linestyle="--", linewidth=1, label=label)
