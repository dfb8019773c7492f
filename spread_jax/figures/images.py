"""Figures of models of images and tables.

A *dataset* holds the arms that are shown: curves with dims (cell, seed, step, pixel), one cell for
each arm, and the pictures of the first seed with dims (cell, picture, pixel).
"""

import textwrap
from typing import Any

import matplotlib as mpl
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from spread_jax.figures import style
from spread_jax.figures.training import LEAST_SIGMA

NUM_MAPS = 6
MOSAIC = (4, 8)
LEGEND_COLUMNS = 4  # the labels of arms are long
INK: dict[str, Any] = {"cmap": "gray_r", "vmin": 0, "vmax": 1}  # colours keep their own
LINE_OF_BOUNDS = 8.5  # points, for numbers of 7 points


@style.styled
def sigma_maps_figure(dataset: xr.Dataset, shape: tuple[int, ...] | None) -> Figure:
    """The decoder's σ, pixel by pixel, at six moments of the first run; of a table, at all steps.

    Args:
      dataset: see the module; arms whose decoder has a σ for each pixel are shown.
      shape: of an image, None for a table. Of colours, the geometric mean of a place's σ is shown.
    """
    arms = [arm for arm in style.shown_arms(dataset) if arm["variance"] == "each"]
    if not arms:
        figure = Figure((style.COLUMN, 1))
        style.write_note(figure.subplots(), "no decoder has a σ for each pixel")
        return figure
    sigmas = [arm["sigma"].isel(seed=0).transpose("step", "pixel").values for arm in arms]
    maps = np.log10(np.clip(sigmas, LEAST_SIGMA, None))
    norm = mpl.colors.Normalize()
    norm.autoscale_None(maps[np.isfinite(maps)])
    steps = dataset["step"].values
    if shape is None:
        figure = Figure((style.PAGE, 2.6))
        panels = figure.subplots(1, len(arms), sharey=True, squeeze=False)
        extent = (0, steps[-1], maps.shape[2] - 0.5, -0.5)
        for axes, arm, sigma in zip(panels[0], arms, maps, strict=True):
            image = axes.imshow(sigma.T, "cividis", norm, extent=extent, aspect="auto")
            axes.set(title=arm["label"].item(), xlabel="optimizer steps")
            axes.yaxis.set_major_locator(mpl.ticker.MaxNLocator(integer=True, min_n_ticks=1))
        panels[0, 0].set_ylabel("column")
    else:
        moments = np.unique(np.geomspace(1, len(steps), NUM_MAPS).round().astype(int) - 1)
        figure = Figure((style.PAGE, 0.4 + 1.15 * len(arms)))
        panels = figure.subplots(len(arms), len(moments), squeeze=False)
        for (i, j), axes in np.ndenumerate(panels):
            places = maps[i, moments[j]].reshape(*shape[:2], -1).mean(axis=2)
            image = axes.imshow(places, "cividis", norm)
            _bare(axes)
            if i == 0:
                axes.set_title(f"step {steps[moments[j]]:,}")
            if j == 0:
                axes.set_ylabel(arms[i]["label"].item())
    label = "$\\log_{10}$ σ of the decoder"
    figure.colorbar(image, ax=figure.axes, shrink=0.9, pad=0.01, label=label)
    return figure


@style.styled
def mosaics_figure(dataset: xr.Dataset, shape: tuple[int, ...]) -> Figure:
    """Clean samples, with z from N(0, I) and from the fitted latent, the decoder's means there, and
    reconstructions, of every arm, under held-out data."""
    arms = style.shown_arms(dataset)
    columns = {
        "normal_samples": "samples,\nz from N(0, I)",
        "fitted_samples": "samples,\nz from the fitted latent",
        "fitted_means": "means,\nz from the fitted latent",
        "reconstructions": "reconstructions\nof the data above",
    }
    figure = Figure((style.PAGE, 0.45 + 0.98 * (len(arms) + 1)))
    panels = figure.subplots(len(arms) + 1, len(columns), squeeze=False)
    for column, (name, title) in zip(panels.T, columns.items(), strict=True):
        shown = [dataset["held_out"], *(arm[name] for arm in arms)]
        for axes, images in zip(column, shown, strict=True):
            draw_mosaic(axes, images.values, shape)
        column[0].set_title("held-out data")
        column[1].set_title(title)
    for axes, label in zip(panels[:, 0], ["data", *dataset["label"].values], strict=True):
        axes.set_ylabel(textwrap.fill(label, 16))
    return figure


@style.styled
def traversal_figure(dataset: xr.Dataset, shape: tuple[int, ...]) -> Figure:
    """Decoder's means along the six latent dimensions that the posterior means vary in most."""
    arms = style.shown_arms(dataset)
    columns = min(3, len(arms))
    rows = -(-len(arms) // columns)
    figure = Figure((style.PAGE, 0.4 + 1.9 * rows))
    for i, arm in enumerate(arms):
        axes = figure.add_subplot(rows, columns, i + 1)
        images = arm["traversal"].transpose("latent", "value", "pixel").values
        latents, values, pixels = images.shape
        draw_mosaic(axes, images.reshape(-1, pixels), shape, (latents, values))
        axes.set(title=arm["label"].item(), xlabel="$z_i$ from -2 to 2")
    figure.supylabel("latent dimension, most used first")
    return figure


@style.styled
def worst_images_figure(dataset: xr.Dataset, shape: tuple[int, ...]) -> Figure:
    """Held-out images with the first arm's worst bounds, and every arm's bounds of them; all bounds
    are of the first runs, and in the space of one noise, so that they can be compared."""
    arms = style.shown_arms(dataset)
    images = dataset["worst"].values
    image_height = min(1.2, 0.9 * style.PAGE / len(images) * shape[0] / shape[1])
    legend_height = style.LEGEND_ROW * -(-len(arms) // LEGEND_COLUMNS)
    below = LINE_OF_BOUNDS / 72 * len(arms) + legend_height
    figure = Figure((style.PAGE, 0.7 + image_height + below))
    panels = figure.subplots(1, len(images), squeeze=False)[0]
    for i, (axes, x) in enumerate(zip(panels, images, strict=True)):
        axes.imshow(_shown(x[None], shape)[0], **INK)
        axes.set_anchor("N")  # what room is left stays below the numbers
        _bare(axes)
        for line, arm in enumerate(arms):
            bound, place = f"{float(arm['worst_bound'][i]):,.0f}", (0, -2 - LINE_OF_BOUNDS * line)
            look = {"color": arm["color"].item(), "ha": "center", "va": "top", "fontsize": 7}
            axes.annotate(bound, (0.5, 0), place, "axes fraction", "offset points", **look)
    for arm in arms:
        panels[0].plot([], color=arm["color"].item(), label=arm["label"].item())
    figure.suptitle(
        "held-out images with the worst plain bound,\nall bounds in the space of one noise (nats)"
    )
    style.legend_below(figure, panels, LEGEND_COLUMNS)
    return figure


@style.styled
def table_samples_figure(dataset: xr.Dataset) -> Figure:
    """Clean samples of each arm over held-out rows, in the data's two main directions.

    Args:
      dataset: see the module; with what :func:`spread_jax.pictures.project_table` adds.
    """
    data = dataset["held_out_projected"].values
    low, high = data.min(), data.max()
    margin = 0.2 * (high - low) or 1.0
    limits = (low - margin, high + margin)
    arms = style.shown_arms(dataset)
    figure = Figure((style.PAGE, 2.4))
    panels = figure.subplots(1, len(arms), sharex=True, sharey=True, squeeze=False)[0]
    for axes, arm in zip(panels, arms, strict=True):
        samples = arm["samples_projected"].values
        for points, color in ((data, style.DATA_COLOR), (samples, arm["color"].item())):
            axes.plot(*points.T, color=color, markersize=6, alpha=0.6, **style.CLOUD)
        axes.set(title=arm["label"].item(), xlabel="first direction", xlim=limits, ylim=limits)
    panels[0].set_ylabel("second direction\n(column scales)")
    panels[0].plot([], color=style.DATA_COLOR, label="held-out data", **style.CLOUD)
    panels[0].plot([], color=style.NOISE_COLOR, label="clean samples", **style.CLOUD)
    style.legend_below(figure, panels)
    return figure


def _bare(axes: Axes) -> None:
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)


def draw_mosaic(
    axes: Axes,
    images: np.ndarray,
    shape: tuple[int, ...],
    grid: tuple[int, int] = MOSAIC,
    is_ink: bool = True,
) -> None:
    """Draws images ``[n, pixels]`` in a grid, one pixel apart on white.

    Args:
      images: pixels in [0, 1].
      shape: ``(height, width)`` or ``(height, width, channels)``.
      grid: rows and columns.
      is_ink: whether grey pixels are ink, dark where they are 1, or light.
    """
    rows, columns = grid
    tiles = _shown(images[: rows * columns], shape)
    paper = 0 if is_ink and tiles.ndim == 3 else 1
    around = ((0, rows * columns - len(tiles)), (0, 1), (0, 1), (0, 0))[: tiles.ndim]
    tiles = np.pad(tiles, around, constant_values=paper)
    table = tiles.reshape(rows, columns, *tiles.shape[1:])
    canvas = np.vstack([np.hstack([*row]) for row in table])
    look = INK if is_ink else INK | {"cmap": "gray"}
    axes.imshow(canvas, interpolation="nearest", **look)
    _bare(axes)


def _shown(images: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Images ``[n, pixels]`` as Matplotlib takes them: one channel without an axis, and colours in
    [0, 1], those of a broken run white."""
    if shape[2:] in ((), (1,)):
        return images.reshape(-1, *shape[:2])
    return np.nan_to_num(images, nan=1).clip(0, 1).reshape(-1, *shape)
