"""The one-page picture of a diagnosis."""

import textwrap

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from spread_jax.data import Diagnosis
from spread_jax.figures import style


@style.styled
def diagnosis_figure(diagnosis: Diagnosis) -> Figure:
    """Spectrum, distinct values and distances to neighbours of a table, with the verdict on top."""
    figure = Figure((style.PAGE, 4.4))
    sigma = diagnosis.suggested_sigma
    suggestion = "nothing varies: no σ_fix to suggest"
    if sigma:
        suggestion = f"start with σ_fix = {diagnosis.start_with:.2g} ({diagnosis.sigma_unit})"
    size = f"{diagnosis.rows:,} rows, {diagnosis.dim:,} column{'s' * (diagnosis.dim != 1)}"
    figure.suptitle(f"{diagnosis.verdict}: {size}; {suggestion}", fontsize=10)
    panels = figure.subplots(1, 3)
    for draw, axes in zip((_spectrum, _distinct_values, _distances), panels, strict=True):
        draw(axes, diagnosis)
    reasons = (
        textwrap.fill(f"• {reason}", 125, subsequent_indent="   ") for reason in diagnosis.reasons
    )
    figure.supxlabel("\n".join(reasons), x=0.01, ha="left", fontsize=7)
    return figure


def _spectrum(axes: Axes, diagnosis: Diagnosis) -> None:
    axes.set(xlabel="principal direction", ylabel="standard deviation (column scales)")
    varying = diagnosis.dim - len(diagnosis.constant_columns)
    axes.set_title(f"spectrum: rank {diagnosis.rank} of {varying} varying")
    if not varying:
        style.write_note(axes, "no column varies")
        return
    shown = np.maximum(diagnosis.spectrum, 1e-17)  # on a log axis
    counted, zero = np.split(shown, [diagnosis.rank])
    tolerance = diagnosis.tolerance
    _dots(axes, counted, tolerance, f"tolerance {tolerance:.1g}", label="counted")
    if zero.size:
        index = np.arange(len(counted), len(shown)) + 1
        axes.plot(index, zero, "x", color=style.LOST_COLOR, markersize=4, label="counts as 0")
    axes.set_ylim(0.3 * min(shown.min(), tolerance), 3 * shown.max())
    axes.set_yscale("log")  # after its limits: it would look for limits of its own
    axes.legend(loc="best")


def _distinct_values(axes: Axes, diagnosis: Diagnosis) -> None:
    axes.set(xlabel="column, sorted", ylabel="distinct values")
    constant, discrete = len(diagnosis.constant_columns), len(diagnosis.discrete_columns)
    axes.set_title(f"{constant} constant, {discrete} discrete columns")
    _dots(axes, np.sort(diagnosis.distinct_values), float(diagnosis.rows), "rows")
    axes.set_ylim(0.7, 2 * diagnosis.rows)
    axes.set_yscale("log")
    axes.legend(loc="best")


def _dots(axes: Axes, values: np.ndarray, line: float, words: str, label: str = "") -> None:
    """A dot for each value, at places from 1 on, and a dashed line with the label ``words``."""
    index = 1 + np.arange(len(values))
    axes.plot(index, values, ".", color=style.FOUND_COLOR, markersize=4, label=label)
    axes.axhline(line, color=style.NOISE_COLOR, linestyle="--", linewidth=1, label=words)
    axes.xaxis.set_major_locator(mpl.ticker.MaxNLocator(4, integer=True, min_n_ticks=1))


def _distances(axes: Axes, diagnosis: Diagnosis) -> None:
    axes.set(xlabel="distance (column scales)", ylabel="points", title="distances to neighbours")
    dimension = diagnosis.intrinsic_dimension
    if dimension is None:
        style.write_note(axes, "nothing to tell from")
        return
    low, high = dimension.interval
    axes.set_title(f"dimension {dimension.estimate:.3g} ({low:.3g} to {high:.3g})")
    positive = diagnosis.distances[diagnosis.distances > 0]
    nearest, farthest = positive.min(), positive.max()
    edges = np.geomspace(nearest, max(farthest, 1.01 * nearest), 41)
    for j, color, label in ((0, style.FOUND_COLOR, "nearest"), (1, style.LOST_COLOR, "tenth")):
        counts = np.histogram(diagnosis.distances[:, j], edges)[0]
        axes.stairs(counts, edges, color=color, linewidth=1, label=label)
    axes.set_xscale("log")
    # plain numbers, few enough for a third of a page: of powers of ten there might be one at most
    few = edges[-1] < 30 * edges[0]
    locator = mpl.ticker.MaxNLocator(4) if few else mpl.ticker.LogLocator(numticks=5)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(mpl.ticker.FormatStrFormatter("%g"))
    axes.xaxis.set_minor_formatter(mpl.ticker.NullFormatter())
    axes.legend(loc="best", title="neighbour")
