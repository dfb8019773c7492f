"""Figures of models of images and tables: each takes results and returns a matplotlib Figure.

A *dataset* is what ``experiments.fit`` writes as results.nc: curves with dims (cell, seed, step,
pixel), a cell being an arm at one sigma_fix; pictures with dims (arm, picture, pixel), of each
arm's cell ``shown_cell`` and first seed.
"""

from collections.abc import Iterator, Mapping

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
    arm_style,
    one_record,
)

NUM_MAPS = 6
LEAST_SIGMA = 1e-10  # on a log axis, where a sigma is 0
MOSAIC = (4, 8)
LINE_OF_BOUNDS = 8.5  # points, of numbers of 7


def arms_loss_figure(dataset: xr.Dataset) -> Figure:
    """Training loss over steps, a panel per arm: mean and largest of every record, every seed.

    The first fiftieth of the records is left out of the limits. ``dataset.attrs["floor"]`` is the
    entropy of the spread data at ``attrs["sigma_fix"]``.
    """
    with mpl.rc_context(STYLE):
        arms = list(_shown(dataset))
        figure = Figure((COLUMN, 0.5 + 1.15 * len(arms)), layout="constrained")
        panels = figure.subplots(len(arms), 1, sharex=True, squeeze=False)[:, 0]
        for axes, (arm, runs) in zip(panels, arms, strict=True):
            style, steps = arm_style(arm), runs["step"].values
            mean = runs["loss"].transpose("seed", "step").values
            top = runs["loss_max"].transpose("seed", "step").values
            dot = one_record(steps)
            axes.plot(steps, top.T, color=style.color, linewidth=0.4, alpha=0.4, **dot)
            axes.plot(steps, mean.T, color=style.color, linewidth=0.8, **dot)
            start = max(1, mean.shape[1] // 50) if mean.shape[1] > 1 else 0
            seen = np.concatenate([mean[:, start:], top[:, start:]])
            seen = seen[np.isfinite(seen)]
            low, high = (seen.min(), seen.max()) if seen.size else (0.0, 1.0)
            sigma = float(runs["cell_sigma_fix"])
            if arm in ("spread_vae", "delta_vae") and sigma == dataset.attrs["sigma_fix"]:
                floor = dataset.attrs["floor"]
                low = min(low, floor)
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
            margin = 0.06 * (high - low) or 1.0
            title = style.label + (f", $\\sigma_{{fix}}$ = {sigma:g}" if sigma else "")
            axes.set(xlim=(0, steps[-1]), ylim=(low - margin, high + margin), title=title)
        panels[-1].set_xlabel("optimizer steps")
        figure.supylabel("training loss (nats): mean, and largest of each record", fontsize=8)
    return figure


def arms_sigma_figure(dataset: xr.Dataset) -> Figure:
    """Smallest and median σ of the decoder over steps, log axis, every seed of every arm."""
    with mpl.rc_context(STYLE):
        figure = Figure((COLUMN, 2.8), layout="constrained")
        panels = figure.subplots(1, 2, sharey=True)
        arms = [(arm, runs) for arm, runs in _shown(dataset) if arm != "delta_vae"]
        for axes, key, title in zip(
            panels, ("min_sigma", "median_sigma"), ("smallest σ", "median σ"), strict=True
        ):
            for arm, runs in arms:
                sigma = runs[key].transpose("seed", "step").values.clip(LEAST_SIGMA)
                color, dot = arm_style(arm).color, one_record(runs["step"].values)
                axes.plot(runs["step"], sigma.T, color=color, linewidth=0.8, **dot)
            axes.axhline(dataset.attrs["sigma_fix"], color=NOISE_COLOR, linestyle="--", linewidth=1)
            axes.set(title=title, xlabel="optimizer steps", yscale="log")
            axes.set_xlim(0, dataset["step"].values[-1])
            axes.xaxis.set_major_locator(mpl.ticker.MaxNLocator(3, integer=True, min_n_ticks=1))
        panels[0].set_ylabel("σ of the decoder (data units)")
        handles = [Line2D([], [], **arm_style(arm)._asdict()) for arm, _ in arms]
        noise = "noise, $\\sigma_{fix}$"
        handles.append(Line2D([], [], color=NOISE_COLOR, linestyle="--", label=noise))
        figure.legend(handles=handles, loc="outside lower center", ncols=2)
    return figure


def sigma_maps_figure(dataset: xr.Dataset, shape: tuple[int, int] | None) -> Figure:
    """The decoder's σ, pixel by pixel, at six moments of the first run; of a table, at all steps.

    Args:
      dataset: see the module.
      shape: height and width of the images, None for a table.
    """
    arms = [(arm, runs) for arm, runs in _shown(dataset) if arm in ("vae", "spread_vae")]
    maps = {
        arm: np.log10(
            runs["sigma"].isel(seed=0).transpose("step", "pixel").values.clip(LEAST_SIGMA)
        )
        for arm, runs in arms
    }
    every = np.concatenate(list(maps.values()))
    every = every[np.isfinite(every)]
    low, high = (every.min(), every.max()) if every.size else (-1.0, 0.0)  # panels stay empty
    limits = {"vmin": float(low), "vmax": float(high)}
    steps = dataset["step"].values
    with mpl.rc_context(STYLE):
        if shape is None:
            figure = Figure((PAGE, 2.6), layout="constrained")
            grid = figure.subplots(1, len(arms), sharey=True, squeeze=False)[0]
            for axes, (arm, _) in zip(grid, arms, strict=True):
                image = axes.imshow(
                    maps[arm].T,
                    aspect="auto",
                    interpolation="nearest",
                    cmap="cividis",
                    extent=(0, steps[-1], maps[arm].shape[1] - 0.5, -0.5),
                    **limits,
                )
                axes.set(title=arm_style(arm).label, xlabel="optimizer steps")
                axes.yaxis.set_major_locator(mpl.ticker.MaxNLocator(integer=True, min_n_ticks=1))
            grid[0].set_ylabel("column")
        else:
            moments = np.unique(np.geomspace(1, len(steps), NUM_MAPS).round().astype(int) - 1)
            figure = Figure((PAGE, 0.4 + 1.15 * len(arms)), layout="constrained")
            panels = figure.subplots(len(arms), len(moments), squeeze=False)
            for row, (arm, _) in zip(panels, arms, strict=True):
                for axes, moment in zip(row, moments, strict=True):
                    image = axes.imshow(maps[arm][moment].reshape(shape), cmap="cividis", **limits)
                    _bare(axes)
                    if arm == arms[0][0]:
                        axes.set_title(f"step {steps[moment]:,}")
                row[0].set_ylabel(arm_style(arm).label)
        bar = figure.colorbar(image, ax=figure.axes, shrink=0.9, pad=0.01)
        bar.set_label("$\\log_{10}$ σ of the decoder")
    return figure


def mosaics_figure(dataset: xr.Dataset, shape: tuple[int, int]) -> Figure:
    """Clean samples, spread samples and reconstructions of every arm, under held-out data."""
    arms = list(dataset["arm"].values)
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
            for axes, name, title in zip(row, columns, titles, strict=True):
                _draw_mosaic(axes, dataset[name].sel(arm=arm).values, shape)
                if arm == arms[0]:
                    axes.set_title(title)
            row[0].set_ylabel(arm_style(arm).label)
    return figure


def traversal_figure(dataset: xr.Dataset, shape: tuple[int, int]) -> Figure:
    """Decoder's means along the six latent dimensions that the posterior means vary in most."""
    arms = list(dataset["arm"].values)
    with mpl.rc_context(STYLE):
        columns = min(3, len(arms))
        rows = -(-len(arms) // columns)
        figure = Figure((PAGE, 0.4 + 1.9 * rows), layout="constrained")
        panels = figure.subplots(rows, columns, squeeze=False).ravel()
        for axes, arm in zip(panels, arms, strict=False):
            images = dataset["traversal"].sel(arm=arm).transpose("latent", "value", "pixel").values
            latents, values, pixels = images.shape
            _draw_mosaic(axes, images.reshape(-1, pixels), shape, (latents, values))
            axes.set_title(arm_style(arm).label)
            axes.set_xlabel("$z_i$ from -2 to 2")
        for axes in panels[len(arms) :]:
            axes.remove()
        figure.supylabel("latent dimension, most used first", fontsize=8)
    return figure


def worst_images_figure(dataset: xr.Dataset, shape: tuple[int, int]) -> Figure:
    """The ten held-out images of the worst plain bound, with the bound of each arm's first run."""
    arms = list(dataset["arm"].values)
    bounds = dataset["worst_bound"].transpose("arm", "worst_image").values
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
                    color=arm_style(arm).color,
                    ha="center",
                    va="top",
                    fontsize=7,
                )
        handles = [Line2D([], [], **arm_style(arm)._asdict()) for arm in arms]
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
    arms = list(dataset["arm"].values)
    with mpl.rc_context(STYLE):
        figure = Figure((PAGE, 2.4), layout="constrained")
        panels = figure.subplots(1, len(arms), sharex=True, sharey=True, squeeze=False)[0]
        for axes, arm in zip(panels, arms, strict=True):
            for points, color, label in (
                (data, DATA_COLOR, "held-out data"),
                (dataset["samples"].sel(arm=arm).values, arm_style(arm).color, "samples"),
            ):
                shown = (points - centre) @ directions
                if shown.shape[1] == 1:
                    shown = np.column_stack([shown, np.zeros(len(shown))])
                axes.plot(*shown.T, ".", color=color, markersize=4, alpha=0.6, label=label)
            axes.set_title(arm_style(arm).label)
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


def sigma_fix_figure(
    dataset: xr.Dataset, reference: Mapping[str, float], suggested: list[float] | None
) -> Figure:
    """Quality of clean samples against σ_fix: every seed a dot, medians joined; held-out data.

    Args:
      dataset: ``frechet``, ``precision`` and ``recall`` [cell, seed].
      reference: the same of held-out real data.
      suggested: the range of suggest_sigma, shaded.
    """
    panels = {"frechet": "Fréchet distance", "precision": "precision", "recall": "recall"}
    with mpl.rc_context(STYLE):
        figure = Figure((PAGE, 2.6), layout="constrained")
        every = figure.subplots(1, 3)
        names = dataset["cell_arm"].values
        for axes, (key, label) in zip(every, panels.items(), strict=True):
            for arm in dict.fromkeys(names):
                of_arm = dataset.isel(cell=np.flatnonzero(names == arm)).sortby("cell_sigma_fix")
                values = of_arm[key].transpose("cell", "seed").values
                middle = np.nanmedian(values, axis=1)
                sigmas, color = of_arm["cell_sigma_fix"].values, arm_style(arm).color
                if sigmas[0] == 0:
                    axes.axhline(middle[0], color=color, linewidth=1)
                else:
                    axes.plot(sigmas, values, ".", color=color, markersize=3, alpha=0.5)
                    axes.plot(sigmas, middle, color=color, linewidth=1)
            axes.axhline(reference[key], color=DATA_COLOR, linestyle=":", linewidth=1)
            if suggested:
                axes.axvspan(*suggested, color=NOISE_COLOR, alpha=0.15, linewidth=0)
            axes.set(xscale="log", title=label, xlabel="$\\sigma_{fix}$ (data units)")
            shown = np.unique(dataset["cell_sigma_fix"].values)
            shown = shown[shown > 0]
            axes.set_xticks(shown, [f"{sigma:g}" for sigma in shown], rotation=45)
            axes.minorticks_off()
        every[0].set_yscale("log")
        handles = [Line2D([], [], **arm_style(arm)._asdict()) for arm in dict.fromkeys(names)]
        handles.append(Line2D([], [], color=DATA_COLOR, linestyle=":", label="held-out data"))
        if suggested:
            handles.append(
                Line2D([], [], color=NOISE_COLOR, alpha=0.3, linewidth=6, label="suggest_sigma")
            )
        figure.legend(handles=handles, loc="outside lower center", ncols=4)
    return figure


def _shown(dataset: xr.Dataset) -> Iterator[tuple[str, xr.Dataset]]:
    """Each arm with the curves of its shown cell."""
    for arm, cell in zip(dataset["arm"].values, dataset["shown_cell"].values, strict=True):
        yield str(arm), dataset.isel(cell=int(cell))


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
