"""The one-page picture of a diagnosis."""

import textwrap

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure

from spread_jax.data import Diagnosis
from spread_jax.figures.style import FOUND_COLOR, LOST_COLOR, NOISE_COLOR, PAGE, STYLE

ZERO_SHOWN_AS = 1e-17  # on a log axis


def diagnosis_figure(diagnosis: Diagnosis) -> Figure:
    """Spectrum, distinct values and distances to neighbours of a table, with the verdict on top."""
    with mpl.rc_context(STYLE):
        figure = Figure((PAGE, 4.4), layout="constrained")
        spectrum, distinct, distances = figure.subplots(1, 3)
        sigma = diagnosis.suggested_sigma
        range_of_sigma = (
            f"start from σ_fix {sigma.low:.3g} to {sigma.high:.3g} (data units)"
            if sigma
            else "nothing varies: no σ_fix to suggest"
        )
        head = f"{diagnosis.verdict}: {diagnosis.rows:,} rows, {diagnosis.dim:,} columns; "
        figure.suptitle(head + range_of_sigma, fontsize=10)
        _draw_spectrum(spectrum, diagnosis)
        _draw_distinct_values(distinct, diagnosis)
        _draw_distances(distances, diagnosis)
        reasons = "\n".join(
            textwrap.fill(f"• {reason}", 125, subsequent_indent="   ")
            for reason in diagnosis.reasons
        )
        figure.supxlabel(reasons, x=0.01, ha="left", fontsize=7)
    return figure


def _draw_spectrum(axes: Axes, diagnosis: Diagnosis) -> None:
    spectrum = diagnosis.spectrum
    axes.set(xlabel="principal direction", ylabel="standard deviation (column scales)")
    varying = diagnosis.dim - len(diagnosis.constant_columns)
    axes.set_title(f"spectrum: rank {diagnosis.rank} of {varying} varying")
    if not spectrum.size:
        axes.text(0.5, 0.5, "no column varies", ha="center", transform=axes.transAxes)
        return
    shown = np.maximum(spectrum, ZERO_SHOWN_AS)
    index = np.arange(1, len(spectrum) + 1)
    kept = index <= diagnosis.rank
    axes.plot(index[kept], shown[kept], ".", color=FOUND_COLOR, markersize=4, label="counted")
    if not kept.all():
        axes.plot(
            index[~kept], shown[~kept], "x", color=LOST_COLOR, markersize=4, label="counts as 0"
        )
    tolerance = f"tolerance {diagnosis.tolerance:.1g}"
    axes.axhline(
        diagnosis.tolerance, color=NOISE_COLOR, linestyle="--", linewidth=1, label=tolerance
    )
    axes.set_ylim(0.3 * min(shown.min(), diagnosis.tolerance), 3 * shown.max())
    axes.set_yscale("log")
    axes.xaxis.set_major_locator(mpl.ticker.MaxNLocator(4, integer=True, min_n_ticks=1))
    axes.legend(loc="best")


def _draw_distinct_values(axes: Axes, diagnosis: Diagnosis) -> None:
    distinct = np.sort(diagnosis.distinct_values)
    axes.plot(np.arange(1, len(distinct) + 1), distinct, ".", color=FOUND_COLOR, markersize=4)
    axes.axhline(diagnosis.rows, color=NOISE_COLOR, linestyle="--", linewidth=1, label="rows")
    axes.set_ylim(0.7, 2 * diagnosis.rows)
    axes.set_yscale("log")  # after its limits: it would look for limits of its own
    axes.set(xlabel="column, sorted", ylabel="distinct values")
    constant, discrete = len(diagnosis.constant_columns), len(diagnosis.discrete_columns)
    axes.set_title(f"{constant} constant, {discrete} discrete columns")
    axes.xaxis.set_major_locator(mpl.ticker.MaxNLocator(4, integer=True, min_n_ticks=1))
    axes.legend(loc="best")


def _draw_distances(axes: Axes, diagnosis: Diagnosis) -> None:
    axes.set(xlabel="distance (column scales)", ylabel="points")
    dimension = diagnosis.intrinsic_dimension
    if dimension is None:
        axes.set_title("distances to neighbours")
        axes.text(0.5, 0.5, "nothing to tell from", ha="center", transform=axes.transAxes)
        return
    distances = diagnosis.distances
    positive = distances[distances > 0]
    nearest = positive.min()
    edges = np.geomspace(nearest, max(positive.max(), 1.01 * nearest), 41)
    for column, color, label in zip(
        distances.T, (FOUND_COLOR, LOST_COLOR), ("nearest", "tenth"), strict=True
    ):
        axes.stairs(np.histogram(column, edges)[0], edges, color=color, linewidth=1, label=label)
    low, high = dimension.interval
    axes.set_xscale("log")
    _plain_ticks(axes.xaxis, edges)
    axes.set_title(f"dimension {dimension.estimate:.3g} ({low:.3g} to {high:.3g})")
    axes.legend(loc="best", title="neighbour")


def _plain_ticks(axis: Axis, edges: np.ndarray) -> None:
    """Plain numbers on a log axis, few enough for a third of a page: powers of ten, or round
    numbers where there would be one of them at most."""
    few = edges[-1] < 30 * edges[0]
    axis.set_major_locator(mpl.ticker.MaxNLocator(4) if few else mpl.ticker.LogLocator(numticks=5))
    axis.set_major_formatter(mpl.ticker.FormatStrFormatter("%g"))
    axis.set_minor_formatter(mpl.ticker.NullFormatter())
