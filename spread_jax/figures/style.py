"""How every figure looks: widths and colours, and what it knows of the arms that it shows.

Widths are those of a paper's columns, colours are Okabe and Ito's (safe for colour-blind
readers). An arm is known by its coordinates in the dataset, its label, its colour, whether it has
noise and a floor, which :func:`spread_jax.comparison.describe` writes.
"""

from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import xarray as xr
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

COLUMN = 3.4  # inches
PAGE = 7.0
LEGEND_COLUMNS = 6  # what a page holds
LEGEND_ROW = 0.15  # inches
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
FOUND_COLOR = "#0072B2"
LOST_COLOR = "#D55E00"
CYCLE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")


def shown_arms(dataset: xr.Dataset) -> list[xr.Dataset]:
    """The dataset of each arm, with the coordinates of :func:`spread_jax.comparison.describe`.

    Where nothing describes the arms, they are the places of the first axis, each with its value as
    a label and a colour of its own.
    """
    if "label" not in dataset.coords:
        dim = str(next(dim for dim in dataset.dims if dim not in ("seed", "step")))
        values = [f"{dim} {value:.3g}" for value in dataset[dim].values]
        count = len(values)
        dataset = dataset.assign_coords(
            label=(dim, values),
            color=(dim, [CYCLE[i % len(CYCLE)] for i in range(count)]),
            has_noise=(dim, [True] * count),
            has_floor=(dim, [False] * count),
        )
    dim = str(dataset["label"].dims[0])
    return [dataset.isel({dim: i}) for i in range(dataset.sizes[dim])]


def label_of(arm: xr.Dataset) -> str:
    """How the arm is named."""
    return str(arm["label"].values)


def color_of(arm: xr.Dataset) -> str:
    """How the arm is coloured."""
    return str(arm["color"].values)


def arm_handles(arms: Sequence[xr.Dataset]) -> list[Line2D]:
    """A line for each arm, for a legend."""
    return [Line2D([], [], color=color_of(arm), label=label_of(arm)) for arm in arms]


def loss_limits(
    mean: np.ndarray, top: np.ndarray, skip_start: bool, floor: float | None = None
) -> tuple[float, float]:
    """What is seen after the first hundredth of the steps, which would flatten a bounded loss,
    and the floor where one is drawn."""
    start = max(1, mean.shape[1] // 100) if skip_start and mean.shape[1] > 1 else 0
    seen = np.concatenate([mean[:, start:], top[:, start:]], axis=None, dtype=float)
    if floor is not None:
        seen = np.append(seen, floor)
    seen = seen[np.isfinite(seen)]
    low, high = (seen.min(), seen.max()) if seen.size else (0.0, 1.0)
    margin = 0.06 * (high - low) or 0.06 * abs(high) or 1.0
    return float(low - margin), float(high + margin)


def one_record(steps: np.ndarray) -> dict[str, Any]:
    """Keywords of a curve: of one record it is a dot at the edge, for a line would not be seen."""
    return {"marker": ".", "clip_on": False} if len(steps) == 1 else {}


def say(axes: Axes, words: str) -> None:
    """Words in the middle of a panel that has nothing to show."""
    axes.text(0.5, 0.5, words, ha="center", va="center", fontsize=7, transform=axes.transAxes)


def mark_infinite(
    axes: Axes,
    places: np.ndarray | float,
    values: np.ndarray | float,
    color: Any,
    on_x: bool = False,
) -> None:
    """A triangle at the edge of the panel for each infinite value, a broken run's.

    Args:
      axes: whose limits are settled by what is finite.
      places: of the values along the other axis.
      values: of which those at ±inf are marked.
      color: of the marks.
      on_x: the values lie along x.
    """
    places, values = np.broadcast_arrays(places, values)
    limits = axes.get_xlim() if on_x else axes.get_ylim()
    for infinity, edge, marker in zip(
        (-np.inf, np.inf), limits, "<>" if on_x else "v^", strict=True
    ):
        at = places[values == infinity]
        edges = np.full(len(at), edge)
        along = (edges, at) if on_x else (at, edges)
        if at.size:  # nothing, unclipped, has no size that a layout could be made with
            axes.plot(*along, marker, color=color, markersize=4, clip_on=False)
    (axes.set_xlim if on_x else axes.set_ylim)(limits)


def log_scale(axes: Axes) -> None:
    """A log axis with plain numbers for decades, and between them where it spans few; of data with
    nothing above 0 the axis stays linear."""
    if not np.isfinite(axes.dataLim.minposy):
        return
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    subs = (1.0, 2.0, 5.0) if high < 10 * low else (1.0, 3.0) if high < 1e3 * low else (1.0,)
    axes.yaxis.set_major_locator(mpl.ticker.LogLocator(subs=subs, numticks=8))
    axes.yaxis.set_major_formatter(mpl.ticker.FormatStrFormatter("%g"))
    axes.yaxis.set_minor_formatter(mpl.ticker.NullFormatter())


def legend_below(figure: Figure, panels: np.ndarray, columns: int = LEGEND_COLUMNS) -> None:
    """One legend under all panels, each label once."""
    entries: dict[str, Artist] = {}
    for axes in panels:
        handles, labels = axes.get_legend_handles_labels()
        entries.update(zip(labels, handles, strict=True))
    figure.legend(
        list(entries.values()),
        list(entries),
        loc="outside lower center",
        ncols=min(len(entries), columns),
    )
