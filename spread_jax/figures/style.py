"""How every figure looks: widths and colours, and what it knows of the arms that it shows.

Widths are those of a paper's columns, colours are Okabe and Ito's (safe for colour-blind
readers). What a figure knows of an arm is its label, its colour, and whether it has noise and a
floor: coordinates of the dataset, which :func:`spread_jax.comparison.describe` writes.
"""

from typing import Any, Literal

import matplotlib as mpl
import numpy as np
import xarray as xr
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

COLUMN = 3.4  # inches
PAGE = 7.0
LEGEND_COLUMNS = 6  # as many as fit on a page
LEGEND_ROW = 0.15  # inches
STYLE: dict[Any, Any] = {
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "figure.constrained_layout.use": True,
    "figure.labelsize": 8,
    "figure.titlesize": 8,
    "legend.frameon": False,
    "legend.fontsize": 7,
    "lines.linewidth": 1,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "savefig.facecolor": "white",
}
styled = mpl.rc_context(STYLE)
"""Decorates a function that draws, so that all it makes has this style."""
DATA_COLOR = "#000000"
FLOOR_COLOR = "#009E73"
NOISE_COLOR = "#666666"
FOUND_COLOR = "#0072B2"
LOST_COLOR = "#D55E00"
CYCLE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
CLOUD: dict[str, Any] = {"marker": ".", "linestyle": "", "markeredgewidth": 0}
"""Keywords of points without lines."""


def shown_arms(dataset: xr.Dataset) -> list[xr.Dataset]:
    """The dataset of each arm, with the coordinates of :func:`spread_jax.comparison.describe`.

    Where nothing describes the arms, they are the places of the sweep's one axis, each with its
    value as a label and a colour of its own; without an axis, all runs are one arm. Whether they
    have noise is not known then, and is not shown.

    Raises:
      ValueError: if nothing describes the arms, and several axes have more than one place.
    """
    if "label" not in dataset.coords:
        # an axis of a sweep has values, or is of cells; other axes lie within a run
        of_sweep = {"cell", *dataset.indexes} - {"seed", "step"}
        axes = [dim for dim in dataset.dims if dim in of_sweep]
        along = [dim for dim in axes if dataset.sizes[dim] > 1] or axes[:1]
        if len(along) > 1:
            raise ValueError(
                f"the runs lie along {', '.join(map(str, along))}: select one value of all but one "
                "of them, or describe the arms, as spread_jax.comparison.describe does"
            )
        dataset = dataset.isel({dim: 0 for dim in axes if dim not in along})
        names = [f"{dim} {value:.3g}" for dim in along for value in dataset[dim].values]
        labels = np.array(names if along else "all runs")
        colors = np.resize(np.array(CYCLE), labels.shape)
        dataset = dataset.assign_coords(
            label=(along, labels), color=(along, colors), has_noise=False, has_floor=False
        )
    label = dataset["label"]
    places = (dict(zip(label.dims, index, strict=True)) for index in np.ndindex(label.shape))
    return [dataset.isel(place) for place in places]


def draw_runs(axes: Axes, arm: xr.Dataset, curves: xr.DataArray, *others: xr.DataArray) -> None:
    """Draws curves ``[seed, step, ...]`` of an arm over its steps: every seed faint, and the first
    one strong, with the arm's label. Of ``others`` it draws every seed faint."""
    steps, color = arm["step"].values, arm["color"].item()
    alpha = min(0.4, max(0.05, 1.6 / arm.sizes["seed"]))
    for variable in (*others, curves):
        every = variable.transpose("step", "seed", ...).values
        runs = every.reshape(len(steps), -1)
        lines = [np.column_stack([steps, run]) for run in runs.T]  # fast, but one point is unseen
        axes.add_collection(LineCollection(lines, colors=color, linewidths=0.4, alpha=alpha))
        if len(steps) == 1:
            axes.plot(steps, runs, color=color, alpha=alpha, **one_record(steps))
    first, label = every[:, 0], arm["label"].item()
    axes.plot(steps, first, color=color, linewidth=0.9, label=label, **one_record(steps))
    axes.set_xlim(0, steps[-1])


def loss_limits(*curves: np.ndarray, floor: float = np.nan) -> tuple[float, float]:
    """Limits of the y-axis that hold curves ``[..., step]``, and the floor where it is known. They
    leave out the first hundredth of the steps, which would flatten a bounded loss."""
    num_records = curves[0].shape[-1]
    start = min(max(1, num_records // 100), num_records - 1)
    seen = np.append([curve[..., start:] for curve in curves], floor)
    seen = seen[np.isfinite(seen)]
    low, high = (seen.min(), seen.max()) if seen.size else (0.0, 1.0)
    margin = 0.06 * (high - low) or 0.06 * abs(high) or 1.0
    return float(low - margin), float(high + margin)


def one_record(steps: np.ndarray) -> dict[str, Any]:
    """Keywords that make a curve of one record a dot: a line of one point could not be seen."""
    return {"marker": ".", "clip_on": False} if len(steps) == 1 else {}


def write_note(axes: Axes, words: str) -> None:
    """Words in the middle of a panel that has nothing to show."""
    axes.text(0.5, 0.5, words, ha="center", va="center", fontsize=7, transform=axes.transAxes)


def mark_infinite(axes: Axes, x: np.ndarray, y: np.ndarray, color: Any) -> None:
    """A triangle at an end of the y-axis for each infinite ``y``, of a broken run; x broadcasts."""
    for end, marker in enumerate("v^"):
        at = np.broadcast_to(x, y.shape)[y == (-np.inf, np.inf)[end]]
        if at.size:  # an empty line that is not clipped has no size, and the layout fails
            across = axes.get_xaxis_transform()
            (marks,) = axes.plot(at, np.full(at.shape, end), marker, color=color, transform=across)
            marks.set(markersize=4, clip_on=False)


def log_scale(axes: Axes, name: Literal["x", "y"] = "y") -> None:
    """Makes an axis logarithmic, with plain numbers at decades, and between them where it spans
    few. The axis stays linear where no data are above 0."""
    if not np.isfinite(getattr(axes.dataLim, f"minpos{name}")):
        return
    axes.set(**{f"{name}scale": "log"})
    axis = axes.xaxis if name == "x" else axes.yaxis
    low, high = axis.get_view_interval()
    subs = (1.0, 2.0, 5.0) if high < 10 * low else (1.0, 3.0) if high < 1e3 * low else (1.0,)
    axis.set_major_locator(mpl.ticker.LogLocator(subs=subs, numticks=8))
    axis.set_major_formatter(mpl.ticker.FormatStrFormatter("%g"))
    axis.set_minor_formatter(mpl.ticker.NullFormatter())


def legend_below(figure: Figure, panels: np.ndarray, columns: int = LEGEND_COLUMNS) -> None:
    """One legend under all panels, each label once."""
    entries: dict[str, Artist] = {}
    for axes in panels:
        handles, labels = axes.get_legend_handles_labels()
        entries.update(zip(labels, handles, strict=True))
    figure.legend(
        entries.values(), entries, loc="outside lower center", ncols=min(len(entries), columns)
    )
