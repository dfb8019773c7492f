"""Figures of models of images and tables: each takes results and returns a matplotlib Figure.

A *dataset* holds the arms that are shown: curves with dims (cell, seed, step, pixel), one cell for
each arm, and the pictures of the first seed with dims (cell, picture, pixel).
"""

import matplotlib as mpl
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from spread_jax.figures.style import (
    COLUMN,
    DATA_COLOR,
    FLOOR_COLOR,
    NOISE_COLOR,
    PAGE,
    STYLE,
    arm_handles,
    color_of,
    label_of,
    log_scale,
    loss_limits,
    one_record,
    shown_arms,
)

NUM_MAPS = 6
LEAST_SIGMA = 1e-10  # on a log axis, where a sigma is 0
MOSAIC = (4, 8)
LINE_OF_BOUNDS = 8.5  # points, of numbers of 7


def arms_loss_figure(dataset: xr.Dataset) -> Figure:
    """Training loss over steps, a panel per arm: mean and largest of every record, every seed.

    The first hundredth of the records is left out of the limits. ``floor`` ``[cell]`` is the
    entropy of the spread data, NaN where an arm has none; it may be left out.
    """
    with mpl.rc_context(STYLE):
        arms = shown_arms(dataset)
        figure = Figure((COLUMN, 0.5 + 1.15 * len(arms)), layout="constrained")
        panels = figure.subplots(len(arms), 1, sharex=True, squeeze=False)[:, 0]
        for axes, arm in zip(panels, arms, strict=True):
            color, steps = color_of(arm), arm["step"].values
            mean = arm["loss"].transpose("seed", "step").values
            top = arm["loss_max"].transpose("seed", "step").values
            dot = one_record(steps)
            axes.plot(steps, top.T, color=color, linewidth=0.4, alpha=0.4, **dot)
            axes.plot(steps, mean.T, color=color, linewidth=0.8, **dot)
            floor = float(arm["floor"]) if "floor" in arm else np.nan
            known = np.isfinite(floor)
            axes.set_ylim(loss_limits(mean, top, True, floor if known else None))
            if known:
                axes.axhline(floor, color=FLOOR_COLOR, linestyle="--", linewidth=1)
                axes.annotate(
                    "floor, $H(\\tilde p_d)$ of the training data",
                    (0.98, floor),
                    (0, 2),
                    xycoords=("axes fraction", "data"),
                    textcoords="offset points",
                    ha="right",
                    fontsize=7,
                    color=FLOOR_COLOR,
                )
            axes.set(xlim=(0, steps[-1]), title=_title(arm))
        panels[-1].set_xlabel("optimizer steps")
        figure.supylabel("training loss (nats): mean, and largest of each record", fontsize=8)
    return figure


def arms_sigma_figure(dataset: xr.Dataset) -> Figure:
    """Smallest and median σ of the decoder over steps, log axis, every seed of every arm that has
    a σ."""
    with mpl.rc_context(STYLE):
        figure = Figure((COLUMN, 2.8), layout="constrained")
        panels = figure.subplots(1, 2, sharey=True)
        arms = [arm for arm in shown_arms(dataset) if _has_sigma(arm)]
        for axes, key, title in zip(
            panels, ("min_sigma", "median_sigma"), ("smallest σ", "median σ"), strict=True
        ):
            for arm in arms:
                sigma = arm[key].transpose("seed", "step").values.clip(LEAST_SIGMA)
                dot = one_record(arm["step"].values)
                axes.plot(arm["step"], sigma.T, color=color_of(arm), linewidth=0.8, **dot)
                if arm["has_noise"]:
                    noise = float(arm["sigma_fix"])
                    axes.axhline(noise, color=NOISE_COLOR, linestyle="--", linewidth=1)
            axes.set(title=title, xlabel="optimizer steps")
            log_scale(axes)
            axes.set_xlim(0, dataset["step"].values[-1])
            axes.xaxis.set_major_locator(mpl.ticker.MaxNLocator(3, integer=True, min_n_ticks=1))
        panels[0].set_ylabel("σ of the decoder (data units)")
        noise_label = "noise, $\\sigma_{fix}$"
        handles = [
            *arm_handles(arms),
            Line2D([], [], color=NOISE_COLOR, linestyle="--", label=noise_label),
        ]
        figure.legend(handles=handles, loc="outside lower center", ncols=2)
    return figure


def sigma_maps_figure(dataset: xr.Dataset, shape: tuple[int, int] | None) -> Figure:
    """The decoder's σ, pixel by pixel, at six moments of the first run; of a table, at all steps.

    Args:
      dataset: see the module; arms whose decoder has a σ for each pixel are shown.
      shape: height and width of the images, None for a table.
    """
    arms = [arm for arm in shown_arms(dataset) if arm["variance"].item() == "each"]
    maps = [
        np.log10(arm["sigma"].isel(seed=0).transpose("step", "pixel").values.clip(LEAST_SIGMA))
        for arm in arms
    ]
    every = np.concatenate(maps)
    every = every[np.isfinite(every)]
    low, high = (every.min(), every.max()) if every.size else (-1.0, 0.0)  # panels stay empty
    limits = {"vmin": float(low), "vmax": float(high)}
    steps = dataset["step"].values
    with mpl.rc_context(STYLE):
        if shape is None:
            figure = Figure((PAGE, 2.6), layout="constrained")
            grid = figure.subplots(1, len(arms), sharey=True, squeeze=False)[0]
            for axes, arm, sigma in zip(grid, arms, maps, strict=True):
                image = axes.imshow(
                    sigma.T,
                    aspect="auto",
                    interpolation="nearest",
                    cmap="cividis",
                    extent=(0, steps[-1], sigma.shape[1] - 0.5, -0.5),
                    **limits,
                )
                axes.set(title=label_of(arm), xlabel="optimizer steps")
                axes.yaxis.set_major_locator(mpl.ticker.MaxNLocator(integer=True, min_n_ticks=1))
            grid[0].set_ylabel("column")
        else:
            moments = np.unique(np.geomspace(1, len(steps), NUM_MAPS).round().astype(int) - 1)
            figure = Figure((PAGE, 0.4 + 1.15 * len(arms)), layout="constrained")
            panels = figure.subplots(len(arms), len(moments), squeeze=False)
            for row, arm, sigma in zip(panels, arms, maps, strict=True):
                for axes, moment in zip(row, moments, strict=True):
                    image = axes.imshow(sigma[moment].reshape(shape), cmap="cividis", **limits)
                    _bare(axes)
                row[0].set_ylabel(label_of(arm))
            for axes, moment in zip(panels[0], moments, strict=True):
                axes.set_title(f"step {steps[moment]:,}")
        bar = figure.colorbar(image, ax=figure.axes, shrink=0.9, pad=0.01)
        bar.set_label("$\\log_{10}$ σ of the decoder")
    return figure


def mosaics_figure(dataset: xr.Dataset, shape: tuple[int, int]) -> Figure:
    """Clean samples, spread samples and reconstructions of every arm, under held-out data."""
    arms = shown_arms(dataset)
    columns = ("samples", "spread_samples", "reconstructions")
    titles = ("clean samples", "samples with the noise", "reconstructions of the data above")
    with mpl.rc_context(STYLE):
        figure = Figure((PAGE, 0.3 + 1.27 * (len(arms) + 1)), layout="constrained")
        panels = figure.subplots(len(arms) + 1, 3, squeeze=False)
        first = ("held_out", "held_out_spread", "held_out")
        for axes, name, title in zip(
            panels[0], first, ("held-out data", "held-out data with the noise", ""), strict=True
        ):
            _draw_mosaic(axes, dataset[name].values, shape)
            axes.set_title(title or "held-out data")
        panels[0, 0].set_ylabel("data")
        for row, arm in zip(panels[1:], arms, strict=True):
            for axes, name in zip(row, columns, strict=True):
                _draw_mosaic(axes, arm[name].values, shape)
            row[0].set_ylabel(label_of(arm))
        for axes, title in zip(panels[1], titles, strict=True):
            axes.set_title(title)
    return figure


def traversal_figure(dataset: xr.Dataset, shape: tuple[int, int]) -> Figure:
    """Decoder's means along the six latent dimensions that the posterior means vary in most."""
    arms = shown_arms(dataset)
    with mpl.rc_context(STYLE):
        columns = min(3, len(arms))
        rows = -(-len(arms) // columns)
        figure = Figure((PAGE, 0.4 + 1.9 * rows), layout="constrained")
        panels = figure.subplots(rows, columns, squeeze=False).ravel()
        for axes, arm in zip(panels, arms, strict=False):
            images = arm["traversal"].transpose("latent", "value", "pixel").values
            latents, values, pixels = images.shape
            _draw_mosaic(axes, images.reshape(-1, pixels), shape, (latents, values))
            axes.set_title(label_of(arm))
            axes.set_xlabel("$z_i$ from -2 to 2")
        for axes in panels[len(arms) :]:
            axes.remove()
        figure.supylabel("latent dimension, most used first", fontsize=8)
    return figure


def worst_images_figure(dataset: xr.Dataset, shape: tuple[int, int]) -> Figure:
    """The ten held-out images of the worst plain bound, with the bound of each arm's first run."""
    arms = shown_arms(dataset)
    bounds = dataset["worst_bound"].transpose("cell", "worst_image").values
    with mpl.rc_context(STYLE):
        count = bounds.shape[1]
        image_height = min(1.2, 0.9 * PAGE / count * shape[0] / shape[1])
        lines_height = LINE_OF_BOUNDS / 72 * len(arms)
        figure = Figure((PAGE, 0.65 + image_height + lines_height), layout="constrained")
        for axes, x, column in zip(
            figure.subplots(1, count, squeeze=False)[0],
            dataset["worst"].values,
            bounds.T,
            strict=True,
        ):
            axes.imshow(x.reshape(shape), cmap="gray_r", vmin=0, vmax=1)
            axes.set_anchor("N")  # what room is left stays below the numbers
            _bare(axes)
            for line, (arm, bound) in enumerate(zip(arms, column, strict=True)):
                axes.annotate(
                    f"{bound:,.0f}",
                    (0.5, 0),
                    (0, -2 - LINE_OF_BOUNDS * line),
                    xycoords="axes fraction",
                    textcoords="offset points",
                    color=color_of(arm),
                    ha="center",
                    va="top",
                    fontsize=7,
                )
        handles = arm_handles(arms)
        figure.suptitle(
            "held-out images with the worst plain bound, and their bounds (nats)", fontsize=8
        )
        figure.legend(handles=handles, loc="outside lower center", ncols=len(arms))
    return figure


def table_samples_figure(dataset: xr.Dataset) -> Figure:
    """Clean samples of each arm over held-out rows, in the data's two main directions."""
    data = dataset["held_out"].values
    centre = data.mean(axis=0)
    directions = np.linalg.svd(data - centre, full_matrices=False)[2][:2].T
    arms = shown_arms(dataset)
    with mpl.rc_context(STYLE):
        figure = Figure((PAGE, 2.4), layout="constrained")
        panels = figure.subplots(1, len(arms), sharex=True, sharey=True, squeeze=False)[0]
        for axes, arm in zip(panels, arms, strict=True):
            for points, color, label in (
                (data, DATA_COLOR, "held-out data"),
                (arm["samples"].values, color_of(arm), "samples"),
            ):
                shown = (points - centre) @ directions
                if shown.shape[1] == 1:
                    shown = np.column_stack([shown, np.zeros(len(shown))])
                axes.plot(*shown.T, ".", color=color, markersize=4, alpha=0.6, label=label)
            axes.set_title(label_of(arm))
            axes.set_xlabel("first direction")
        panels[0].set_ylabel("second direction\n(column scales)")
        low, high = np.min((data - centre) @ directions), np.max((data - centre) @ directions)
        margin = 0.2 * (high - low) or 1.0
        panels[0].set(xlim=(low - margin, high + margin), ylim=(low - margin, high + margin))
        handles = [
            Line2D([], [], color=DATA_COLOR, marker=".", linestyle="", label="held-out data"),
            Line2D([], [], color=NOISE_COLOR, marker=".", linestyle="", label="clean samples"),
        ]
        figure.legend(handles=handles, loc="outside lower center", ncols=2)
    return figure


def _title(arm: xr.Dataset) -> str:
    """The arm's label, and its noise where it has some."""
    noise = f", $\\sigma_{{fix}}$ = {float(arm['sigma_fix']):g}" if arm["has_noise"] else ""
    return label_of(arm) + noise


def _has_sigma(arm: xr.Dataset) -> bool:
    """Whether its decoder has a σ that was watched."""
    return "min_sigma" in arm and bool(arm["min_sigma"].notnull().any())


def _bare(axes: Axes) -> None:
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)


def _draw_mosaic(
    axes: Axes, images: np.ndarray, shape: tuple[int, int], grid: tuple[int, int] = MOSAIC
) -> None:
    """Images ``[n, pixels]``, ink dark as on paper, one pixel apart."""
    height, width = shape
    rows, columns = grid
    canvas = np.zeros((rows * (height + 1), columns * (width + 1)))
    for i, image in enumerate(images[: rows * columns]):
        top, left = (i // columns) * (height + 1), (i % columns) * (width + 1)
        canvas[top : top + height, left : left + width] = image.reshape(shape)
    axes.imshow(canvas, cmap="gray_r", vmin=0, vmax=1, interpolation="nearest")
    _bare(axes)
