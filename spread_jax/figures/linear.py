"""Figures of the deterministic linear models."""

from typing import Any

import matplotlib as mpl
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from spread_jax.figures.style import NOISE_COLOR, PAGE, STYLE, legend_below, log_scale

METHODS = {
    "em": ("ordinary EM", "#D55E00"),
    "spread_em": ("isotropic spread EM", "#009E73"),
    "structured_spread_em": ("structured spread EM", "#0072B2"),
}
MODELS = {"pca": "PCA", "ica": "ICA"}
REFERENCES = {"pca": ("eigen_error", "eigen-solution"), "ica": ("fastica_error", "FastICA, γ = 0")}
LEAST_SHOWN = 1e-7  # of an error: float32 knows no less


def error_against_gamma_figure(dataset: xr.Dataset) -> Figure:
    """Error of A after the last iteration against γ, median and quartiles, PCA and ICA.

    Args:
      dataset: ``error`` [model, algorithm, gamma, seed, iteration], ``eigen_error`` [gamma, seed],
        ``fastica_error`` [seed].
    """
    order = np.argsort(-dataset["gamma"].values)
    dataset = dataset.isel(gamma=order)
    gammas = dataset["gamma"].values
    with mpl.rc_context(STYLE):
        figure = Figure((PAGE, 2.6), layout="constrained")
        panels = figure.subplots(1, 2)
        for axes, (model, title) in zip(panels, MODELS.items(), strict=True):
            last = dataset["error"].sel(model=model).isel(iteration=-1)
            for i, (method, (label, color)) in enumerate(METHODS.items()):
                errors = last.sel(algorithm=method).transpose("gamma", "seed").values
                low, middle, high = np.quantile(
                    np.maximum(errors, LEAST_SHOWN), [0.25, 0.5, 0.75], 1
                )
                axes.errorbar(
                    np.arange(len(gammas)) + 0.08 * (i - 1),
                    middle,
                    [middle - low, high - middle],
                    color=color,
                    fmt="o-",
                    markersize=3,
                    linewidth=0.9,
                    label=label,
                )
            _draw_reference(axes, dataset, model)
            axes.set(
                title=title,
                xlim=(-0.5, len(gammas) - 0.5),
                xticks=range(len(gammas)),
                xticklabels=[f"{gamma:g}" for gamma in gammas],
                xlabel="observation noise γ (std, data units)",
                ylabel="relative error of A",
            )
            log_scale(axes)
        legend_below(figure, panels)
    return figure


def convergence_figure(dataset: xr.Dataset) -> Figure:
    """Error of A against iterations and against seconds at the smallest γ, PCA above, ICA below.

    Median and quartiles over seeds. Arguments as in :func:`error_against_gamma_figure`, and
    ``seconds`` [model, algorithm, iteration] of one run.
    """
    gamma = float(dataset["gamma"].min())
    dataset = dataset.isel(gamma=[int(np.argmin(dataset["gamma"].values))])
    with mpl.rc_context(STYLE):
        figure = Figure((PAGE, 4.2), layout="constrained")
        grid = figure.subplots(2, 2, sharey="row")
        for row, (model, title) in zip(grid, MODELS.items(), strict=True):
            runs = dataset.sel(model=model)
            for method, (label, color) in METHODS.items():
                errors = runs["error"].sel(algorithm=method).isel(gamma=0)
                errors = np.maximum(errors.transpose("iteration", "seed").values, LEAST_SHOWN)
                low, middle, high = np.quantile(errors, [0.25, 0.5, 0.75], axis=1)
                seconds = runs["seconds"].sel(algorithm=method).values
                for axes, x in zip(row, (dataset["iteration"].values, seconds), strict=True):
                    axes.fill_between(x, low, high, color=color, alpha=0.2, linewidth=0)
                    axes.plot(x, middle, color=color, linewidth=1, label=label)
            for axes, name in zip(row, ("iterations", "seconds of one run"), strict=True):
                _draw_reference(axes, dataset, model)
                axes.set(xlabel=name, title=f"{title}, γ = {gamma:g}")
                axes.set_xlim(left=0)
            row[0].set_ylabel("relative error of A")
            log_scale(row[0])
        legend_below(figure, grid.ravel())
    return figure


def _draw_reference(axes: Axes, dataset: xr.Dataset, model: str) -> None:
    name, label = REFERENCES[model]
    errors = dataset[name].median("seed").values
    style: dict[str, Any] = {
        "color": NOISE_COLOR,
        "linestyle": "--",
        "linewidth": 1,
        "label": label,
    }
    if errors.size > 1:
        axes.plot(np.arange(errors.size), np.maximum(errors, LEAST_SHOWN), **style)
    else:
        axes.axhline(max(float(errors.squeeze()), LEAST_SHOWN), **style)
