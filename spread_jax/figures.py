"""Figures: each function takes results and returns a matplotlib Figure; none of them computes.

Widths are those of a paper's columns, colours are Okabe and Ito's (safe for colour-blind
readers), and an arm has the same colour everywhere.
"""

import textwrap
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from spread_jax.diagnosis import Diagnosis
from spread_jax.evaluation import wilson_interval

COLUMN = 3.4  # inches
PAGE = 7.0

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

ZERO_SHOWN_AS = 1e-17  # on a log axis


class ArmStyle(NamedTuple):
    """How an arm is named and coloured, everywhere."""

    label: str
    color: str


ARMS = {
    "vae": ArmStyle("plain VAE", "#D55E00"),
    "spread_vae": ArmStyle("spread VAE", "#0072B2"),
}


def data_figure(x: np.ndarray) -> Figure:
    """The two-mode data: points on a line of the plane, and their density along it.

    Args:
      x: points, ``[n, 2]``.
    """
    with mpl.rc_context(STYLE):
        figure = Figure((COLUMN, 2.2), layout="constrained")
        plane, density = figure.subplots(2, 1, sharex=True, height_ratios=(1, 1.2))
        plane.plot(*x.T, ".", color=DATA_COLOR, markersize=2, alpha=0.3, markeredgewidth=0)
        plane.set(ylim=(-1, 1), ylabel="$x_2$", title="the data: two modes on a line, $x_2 = 0$")
        _draw_density(density, x[:, 0], np.linspace(-1.6, 1.6, 81), DATA_COLOR)
        density.set(xlabel="$x_1$ (data units)", ylabel="density of $x_1$")
    return figure


def loss_figure(arms: Mapping[str, xr.Dataset], floor: float | None) -> Figure:
    """Training loss over steps, a panel per arm: every seed faint, the first one strong.

    Args:
      arms: name → dataset with ``loss`` and ``loss_max`` ``[seed, step]``.
      floor: entropy of the spread data, below which the spread loss cannot fall; None if none.
    """
    with mpl.rc_context(STYLE):
        figure = Figure((COLUMN, 3.4), layout="constrained")
        panels = figure.subplots(len(arms), 1, sharex=True, squeeze=False)[:, 0]
        for axes, (arm, runs) in zip(panels, arms.items(), strict=True):
            style = ARMS[arm]
            steps = runs["step"].values
            top = runs["loss_max"].transpose("seed", "step").values
            mean = runs["loss"].transpose("seed", "step").values
            _draw_runs(axes, steps, top, style.color)
            axes.plot(steps, mean[0], color=style.color, linewidth=0.9)
            axes.set(ylabel="loss (nats)", title=style.label, xlim=(0, steps[-1]))
            axes.set_ylim(_loss_limits(mean, top, arm == "spread_vae"))
        if floor is not None and "spread_vae" in arms:
            axes = panels[list(arms).index("spread_vae")]
            axes.axhline(
                floor,
                color=FLOOR_COLOR,
                linestyle="--",
                linewidth=1,
                label="floor, $H(\\tilde p_d)$",
            )
            axes.legend(loc="upper right")
        panels[-1].set_xlabel("optimizer steps")
    return figure


def samples_figure(
    x: np.ndarray, samples: Mapping[str, np.ndarray], rates: Mapping[str, float]
) -> Figure:
    """Clean samples of each arm over the data: in the plane above, along the line below.

    Args:
      x: data, ``[n, 2]``.
      samples: arm → clean samples of the first seed, ``[n, 2]``.
      rates: arm → share of seeds that recovered both modes, for the titles.
    """
    with mpl.rc_context(STYLE):
        figure = Figure((COLUMN, 3.0), layout="constrained")
        grid = figure.subplots(2, len(samples), sharex=True, sharey="row", squeeze=False)
        edges = np.linspace(-1.6, 1.6, 65)
        for (plane, density), (arm, points) in zip(grid.T, samples.items(), strict=True):
            style = ARMS[arm]
            plane.plot(
                *points.T, ".", color=style.color, markersize=2, alpha=0.4, markeredgewidth=0
            )
            plane.plot(
                x[:300, 0],
                np.full(len(x[:300]), 0.06),
                "|",
                color=DATA_COLOR,
                markersize=5,
                markeredgewidth=0.3,
                transform=plane.get_xaxis_transform(),
            )
            plane.set_title(f"{style.label}\nfound: {rates[arm]:.0%} of seeds", fontsize=7)
            _draw_density(density, x[:, 0], edges, DATA_COLOR)
            _draw_density(density, points[:, 0], edges, style.color)
            density.set_xlabel("$x_1$ (data units)")
        grid[0, 0].set(ylabel="$x_2$ (data units)", xlim=(-1.6, 1.6))
        height = 1.2 * max(0.01, *(np.nanmax(np.abs(p[:, 1])) for p in samples.values()))
        grid[0, 0].set_ylim(-height, height)
        grid[1, 0].set_ylabel("density of $x_1$")
        grid[1, 0].plot([], color=DATA_COLOR, linewidth=1, label="data")
        grid[1, 0].legend(loc="upper center")
    return figure


def sigma_figure(arms: Mapping[str, xr.Dataset], data_std: float, sigma_fix: float) -> Figure:
    """The decoder's clean σ_x and σ_y over steps, log axis; every seed faint, the first strong.

    Args:
      arms: name → dataset with ``std`` ``[seed, step, component, dim]``.
      data_std: the true σ_x; the true σ_y is 0.
      sigma_fix: standard deviation of the noise, drawn for scale where it is not 0.
    """
    with mpl.rc_context(STYLE):
        figure = Figure((COLUMN, 2.8), layout="constrained")
        panels = figure.subplots(1, 2, sharey=True)
        for i, axes in enumerate(panels):
            for arm, runs in arms.items():
                std = runs["std"].isel(dim=i).transpose("component", "seed", "step").values
                for component in std:
                    _draw_runs(axes, runs["step"].values, component, ARMS[arm].color)
                    axes.plot(
                        runs["step"].values, component[0], color=ARMS[arm].color, linewidth=0.9
                    )
            axes.set(yscale="log", xlim=(0, runs["step"].values[-1]), xlabel="optimizer steps")
            axes.xaxis.set_major_locator(mpl.ticker.MaxNLocator(3))
            axes.set_title(f"$\\sigma_{{x_{i + 1}}}$ of the decoder")
        panels[0].set_ylabel("standard deviation (data units)")
        panels[0].axhline(data_std, color=DATA_COLOR, linestyle=":", linewidth=1)
        if sigma_fix:
            panels[1].axhline(sigma_fix, color=NOISE_COLOR, linestyle="--", linewidth=1)
        handles = [Line2D([], [], color=ARMS[arm].color, label=ARMS[arm].label) for arm in arms]
        truth = "truth, left (right: 0)"
        handles.append(Line2D([], [], color=DATA_COLOR, linestyle=":", label=truth))
        if sigma_fix:
            handles.append(
                Line2D([], [], color=NOISE_COLOR, linestyle="--", label="noise, $\\sigma_{fix}$")
            )
        figure.legend(handles=handles, loc="outside lower center", ncols=2)
    return figure


def recovery_figure(dataset: xr.Dataset) -> Figure:
    """Share of seeds that found both modes, with Wilson's 95 % interval, against σ_fix.

    Args:
      dataset: a judged sweep, ``recovered`` [sigma_fix, learning_rate, seed].
    """
    with mpl.rc_context(STYLE):
        figure = Figure((COLUMN, 2.4), layout="constrained")
        axes = figure.subplots()
        for rate, runs, color, shift in _learning_rates(dataset):
            found = runs["recovered"].transpose("sigma_fix", "seed").values
            share = found.mean(axis=1)
            low, high = np.transpose([wilson_interval(int(f.sum()), f.size) for f in found])
            axes.errorbar(
                np.arange(len(share)) + shift,
                share,
                # rounding may put the share a hair outside its own interval
                np.maximum([share - low, high - share], 0),
                color=color,
                fmt="o",
                markersize=3,
                linewidth=0.8,
                label=f"learning rate {rate:g}",
            )
        axes.set(ylabel="seeds with both modes found", ylim=(-0.03, 1.03))
        axes.yaxis.set_major_formatter(mpl.ticker.PercentFormatter(1))
        _sigma_axis(axes, dataset)
        axes.legend()
    return figure


def distance_figure(dataset: xr.Dataset) -> Figure:
    """Spread KL at the reference and clean energy distance against σ_fix, median and quartiles."""
    return _against_sigma(
        dataset,
        {
            "spread_kl_at_reference": "spread KL\n(nats, at one σ)",
            "energy_distance": "energy distance\n(data units)",
        },
    )


def stability_figure(dataset: xr.Dataset) -> Figure:
    """Late loss standard deviation and largest rise against σ_fix, median and quartiles."""
    return _against_sigma(
        dataset,
        {"late_loss_std": "late loss std\n(nats)", "max_loss_rise": "largest rise\n(nats)"},
    )


def price_figure(dataset: xr.Dataset, data_std: float, power: Mapping[float, float]) -> Figure:
    """The price of a large σ_fix: errors of σ_x and of the modes, and what pulls modes apart.

    Args:
      dataset: a sweep with ``mean`` and ``std`` at the last step.
      data_std: the true σ_x.
      power: σ_fix → spread KL of the merged solution, nats.
    """
    last = dataset.isel(step=-1, dim=0)
    side = np.sign(last["mean"] - last["mean"].mean("component"))
    errors = dataset.assign(
        mode_error=abs(last["mean"] - side).max("component"),
        std_error=abs(last["std"] - data_std).max("component"),
    )
    with mpl.rc_context(STYLE):
        labels = {
            "mode_error": "error of the modes\n(data units)",
            "std_error": "error of their σ\n(data units)",
        }
        figure = _against_sigma(errors, labels, extra_panels=1)
        axes = figure.axes[-1]
        sigmas = list(map(float, dataset["sigma_fix"].values))
        axes.plot(
            [sigmas.index(sigma) for sigma in power],
            list(power.values()),
            "s-",
            color=FLOOR_COLOR,
            markersize=3,
            linewidth=1,
        )
        axes.set_ylabel("cost of merging\n(nats)")
        _log_scale(axes)
        _sigma_axis(axes, dataset)
    return figure


def loss_fan_figure(dataset: xr.Dataset) -> Figure:
    """Loss over steps: median and 5 % to 95 % of the seeds, a panel per σ_fix, first rate."""
    dataset = dataset.isel(learning_rate=0)
    with mpl.rc_context(STYLE):
        count = dataset.sizes["sigma_fix"]
        columns = 2 if count in (2, 4) else min(count, 3)
        rows = -(-count // columns)
        figure = Figure((COLUMN if columns == 1 else PAGE, 0.6 + 1.5 * rows), layout="constrained")
        panels = figure.subplots(rows, columns, sharex=True, squeeze=False).ravel()
        for axes, sigma in zip(panels, dataset["sigma_fix"].values, strict=False):
            runs = dataset.sel(sigma_fix=sigma)
            arm = ARMS["spread_vae" if sigma > 0 else "vae"]
            top = runs["loss_max"].transpose("seed", "step").values
            low, middle = np.nanquantile(
                runs["loss"].transpose("seed", "step"), [0.05, 0.5], axis=0
            )
            steps = runs["step"].values
            axes.fill_between(
                steps,
                low,
                np.nanquantile(top, 0.95, axis=0),
                color=arm.color,
                alpha=0.25,
                linewidth=0,
            )
            axes.plot(steps, middle, color=arm.color, linewidth=0.9)
            axes.set(title=f"$\\sigma_{{fix}}$ = {sigma:g}", xlim=(0, steps[-1]))
            axes.set_ylim(
                _loss_limits(low[None], np.nanquantile(top, 0.95, axis=0)[None], sigma > 0)
            )
            axes.xaxis.set_major_locator(mpl.ticker.MaxNLocator(3))
            axes.tick_params(labelbottom=True)
        for axes in panels[count:]:
            axes.remove()
        figure.supxlabel("optimizer steps", fontsize=8)
        figure.supylabel("loss (nats)", fontsize=8)
    return figure


def recovery_heat_map(dataset: xr.Dataset) -> Figure:
    """Share of seeds that found both modes, learning rate × σ_fix."""
    share = dataset["recovered"].mean("seed").transpose("learning_rate", "sigma_fix").values
    with mpl.rc_context(STYLE):
        figure = Figure((COLUMN, 1.3 + 0.35 * len(share)), layout="constrained")
        axes = figure.subplots()
        image = axes.imshow(share, cmap="cividis", vmin=0, vmax=1, aspect="auto")
        for (row, column), value in np.ndenumerate(share):
            axes.text(
                column, row, f"{value:.0%}", ha="center", va="center", fontsize=7,
                color="black" if value > 0.5 else "white",
            )  # fmt: skip
        rates = [f"{rate:g}" for rate in dataset["learning_rate"].values]
        axes.set(yticks=range(len(rates)), yticklabels=rates, ylabel="learning rate")
        _sigma_axis(axes, dataset)
        bar = figure.colorbar(image, label="seeds recovered")
        bar.ax.yaxis.set_major_formatter(mpl.ticker.PercentFormatter(1))
        axes.spines[:].set_visible(False)
    return figure


def _against_sigma(dataset: xr.Dataset, labels: Mapping[str, str], extra_panels: int = 0) -> Figure:
    """A panel per variable: median over seeds and quartiles, log axis, against σ_fix."""
    with mpl.rc_context(STYLE):
        count = len(labels) + extra_panels
        figure = Figure((COLUMN, 0.7 + 1.3 * count), layout="constrained")
        panels = figure.subplots(count, 1, sharex=True, squeeze=False)[:, 0]
        for axes, (name, label) in zip(panels, labels.items(), strict=False):
            for rate, runs, color, shift in _learning_rates(dataset):
                values = runs[name].transpose("sigma_fix", "seed").values
                values = np.where(np.isfinite(values), values, np.inf)
                low, middle, high = np.quantile(values, [0.25, 0.5, 0.75], axis=1, method="nearest")
                axes.errorbar(
                    np.arange(len(middle)) + shift,
                    middle,
                    [middle - low, high - middle],
                    color=color,
                    fmt="o",
                    markersize=3,
                    linewidth=0.8,
                    label=f"learning rate {rate:g}",
                )
            axes.set_ylabel(label)
            _log_scale(axes)
        _sigma_axis(panels[-1], dataset)
        panels[0].legend()
    return figure


def _learning_rates(
    dataset: xr.Dataset,
) -> Iterator[tuple[float, xr.Dataset, tuple[float, ...], float]]:
    """Each learning rate with its runs, a colour, and a shift that keeps marks apart."""
    rates = dataset["learning_rate"].values
    for i, rate in enumerate(rates):
        place = (i + 0.5) / len(rates)
        yield (
            float(rate),
            dataset.sel(learning_rate=rate),
            mpl.colormaps["viridis"](0.9 * place),
            0.4 * (place - 0.5),
        )


def _log_scale(axes: Axes) -> None:
    """A log axis whose ticks are plain numbers, also where it spans less than a decade."""
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(mpl.ticker.LogLocator(subs=(1, 3), numticks=8))
    axes.yaxis.set_major_formatter(mpl.ticker.FormatStrFormatter("%g"))
    axes.yaxis.set_minor_formatter(mpl.ticker.NullFormatter())


def _sigma_axis(axes: Axes, dataset: xr.Dataset) -> None:
    """One place per σ_fix, evenly spaced: a log axis has no place for 0, the plain VAE."""
    sigmas = dataset["sigma_fix"].values
    labels = [f"{sigma:g}" if sigma > 0 else "0\nplain" for sigma in sigmas]
    axes.set(xticks=range(len(sigmas)), xticklabels=labels, xlim=(-0.5, len(sigmas) - 0.5))
    axes.set_xlabel("$\\sigma_{fix}$ (data units)")


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
            textwrap.fill(f"• {reason}", 140, subsequent_indent="   ")
            for reason in diagnosis.reasons
        )
        figure.supxlabel(reasons, x=0.01, ha="left", fontsize=7)
    return figure


def throughput_figure(throughput: Mapping[str, Mapping[int, float]], limit: float) -> Figure:
    """Training throughput against the number of runs, log-log, under the machine's limit.

    Args:
      throughput: contestant → number of runs → run-steps per second; the first is this package.
      limit: run-steps per second if the networks' multiply-adds ran as fast as a large matrix
        product.
    """
    colors = (ARMS["spread_vae"].color, ARMS["vae"].color, NOISE_COLOR)
    thin: dict[str, Any] = {"linewidth": 1, "markersize": 3}
    with mpl.rc_context(STYLE):
        figure = Figure((COLUMN, 2.6), layout="constrained")
        axes = figure.subplots()
        for (name, rates), color in zip(throughput.items(), colors, strict=True):
            axes.plot(*zip(*rates.items(), strict=True), "o-", color=color, label=name, **thin)
        axes.axhline(
            limit, color=FLOOR_COLOR, linestyle="--", linewidth=1, label="matrix-product limit"
        )
        axes.set(xscale="log", yscale="log", xlabel="number of runs", ylabel="run-steps per second")
        runs = list(next(iter(throughput.values())))
        axes.set_xticks(runs, [f"{n:,}" for n in runs])
        axes.minorticks_off()
        figure.legend(loc="outside lower center", ncols=2)
    return figure


def _draw_density(axes: Axes, x: np.ndarray, edges: np.ndarray, color: str) -> None:
    counts, _ = np.histogram(x, edges)
    axes.stairs(counts / len(x) / np.diff(edges), edges, color=color, linewidth=1)


def _loss_limits(mean: np.ndarray, top: np.ndarray, skip_start: bool) -> tuple[float, float]:
    """What is seen after the first hundredth of the steps, which would flatten a bounded loss."""
    start = max(1, mean.shape[1] // 100) if skip_start and mean.shape[1] > 1 else 0
    low = np.nanmin(np.where(np.isfinite(mean), mean, np.nan)[:, start:], initial=0.0)
    high = np.nanmax(np.where(np.isfinite(top), top, np.nan)[:, start:], initial=low + 1e-3)
    margin = 0.06 * (high - low)
    return float(low - margin), float(high + margin)


def _draw_runs(axes: Axes, steps: np.ndarray, curves: np.ndarray, color: str) -> None:
    """One faint line a run."""
    lines = [np.column_stack([steps, curve]) for curve in curves]
    axes.add_collection(
        LineCollection(
            lines, colors=color, linewidths=0.4, alpha=max(0.05, 0.4 / len(lines) ** 0.5)
        )
    )


def _draw_spectrum(axes: Axes, diagnosis: Diagnosis) -> None:
    spectrum = diagnosis.spectrum
    axes.set(xlabel="principal direction", ylabel="standard deviation (column scales)")
    axes.set_title(f"spectrum: rank {diagnosis.rank} of {diagnosis.dim}")
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
    low, high = positive.min(), positive.max()
    edges = np.geomspace(low, max(high, 1.01 * low), 41)
    for column, color, label in zip(
        distances.T, (FOUND_COLOR, LOST_COLOR), ("nearest", "tenth"), strict=True
    ):
        axes.stairs(np.histogram(column, edges)[0], edges, color=color, linewidth=1, label=label)
    low, high = dimension.interval
    axes.set(xscale="log")
    axes.set_title(f"dimension {dimension.estimate:.3g} ({low:.3g} to {high:.3g})")
    axes.legend(loc="best", title="neighbour")
