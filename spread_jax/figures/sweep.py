"""Figures of a sweep: what changes with σ_fix and the learning rate."""

from collections.abc import Mapping

import matplotlib as mpl
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from spread_jax.aggregate import with_worst
from spread_jax.figures import style

MANY_SIGMAS = 8  # with more, the labels stand upright and the figure is a page wide
MANY_CELLS = 5  # with more, a column of the paper has no room for a map's numbers


def recovery_figure(summary: xr.Dataset) -> Figure:
    """Share of seeds that found both modes, with Wilson's 95 % interval, against σ_fix: of
    ``recovered`` in :func:`spread_jax.over_seeds` of a judged sweep."""
    figure = _against_sigma(summary, {"recovered": "seeds that found\nboth modes"})
    axes = figure.axes[0]
    axes.set(yscale="linear", ylim=(-0.03, 1.03))
    axes.yaxis.set_major_locator(mpl.ticker.AutoLocator())
    axes.yaxis.set_major_formatter(mpl.ticker.PercentFormatter(1))
    return figure


def distance_figure(summary: xr.Dataset) -> Figure:
    """Spread KL at the reference and clean energy distance against σ_fix, median and interval: of
    :func:`spread_jax.over_seeds` of a judged sweep."""
    kl, energy = "spread KL\n(nats, at one σ)", "energy distance\n(data units)"
    return _against_sigma(summary, {"spread_kl_at_reference": kl, "energy_distance": energy})


def stability_figure(summary: xr.Dataset) -> Figure:
    """Late loss standard deviation and largest rise against σ_fix, median and interval: of
    :func:`spread_jax.over_seeds` of any :func:`spread_jax.sweep` over ``sigma_fix``."""
    std, rise = "late loss std\n(nats)", "largest rise\n(nats)"
    return _against_sigma(summary, {"late_loss_std": std, "max_loss_rise": rise})


@style.styled
def price_figure(summary: xr.Dataset, power: Mapping[float, float]) -> Figure:
    """The price of a large σ_fix: errors of the modes and of their σ, and the cost of merging them.

    Args:
      summary: :func:`spread_jax.over_seeds` of a judged sweep, ``mode_error`` and ``std_error``
        among it.
      power: σ_fix → spread KL of the merged solution, nats.
    """
    modes, widths = "error of the modes\n(data units)", "error of their σ\n(data units)"
    labels = {"mode_error": modes, "std_error": widths}
    figure = _against_sigma(summary, labels, extra_panels=1)
    axes, sigmas = figure.axes[-1], list(map(float, summary["sigma_fix"].values))
    places = [sigmas.index(sigma) for sigma in power]
    axes.plot(places, list(power.values()), "s-", color=style.FLOOR_COLOR, markersize=3)
    axes.set_ylabel("cost of merging\n(nats)")
    style.log_scale(axes)
    return figure


@style.styled
def loss_fan_figure(fan: xr.Dataset) -> Figure:
    """Loss over steps, a panel per σ_fix, at the first learning rate: the median over the seeds of
    a record's mean loss, and a band from 5 % of its mean to 95 % of its largest; a broken run
    counts as infinite.

    Args:
      fan: :func:`spread_jax.aggregate.fan_over_seeds` of any sweep over one axis or none.
    """
    arms = style.shown_arms(fan.isel(learning_rate=0, missing_dims="ignore"))
    steps, count = fan["step"].values, len(arms)
    columns = 2 if count in (2, 4) else min(count, 3)
    rows = -(-count // columns)
    figure = Figure((style.COLUMN if columns == 1 else style.PAGE, 0.6 + 1.5 * rows))
    for i, arm in enumerate(arms):
        axes = figure.add_subplot(rows, columns, i + 1)
        color, names = arm["color"].item(), ("loss_low", "loss_middle", "loss_high")
        low, middle, high = (arm[name].values for name in names)
        limits = style.loss_limits(low, high)
        low, middle, high = np.clip([low, middle, high], *limits)  # a broken run is at the top
        axes.fill_between(steps, low, high, color=color, alpha=0.25, linewidth=0)
        axes.plot(steps, middle, color=color, linewidth=0.9, **style.one_record(steps))
        title = arm["label"].item()
        if "sigma_fix" in arm:
            title = f"$\\sigma_{{fix}}$ = {float(arm['sigma_fix']):.3g}"
        axes.set(title=title, xlim=(0, steps[-1]), ylim=limits)
        axes.xaxis.set_major_locator(mpl.ticker.MaxNLocator(3))
    figure.supxlabel("optimizer steps")
    figure.supylabel("loss (nats)")
    return figure


@style.styled
def recovery_heat_map(summary: xr.Dataset) -> Figure:
    """Share of seeds that found both modes, learning rate × σ_fix: of ``recovered`` in
    :func:`spread_jax.over_seeds` of a judged sweep."""
    rate = summary["recovered"].sel(statistic="middle")
    share = rate.transpose("learning_rate", "sigma_fix").values
    width = style.PAGE if len(summary["sigma_fix"]) > MANY_CELLS else style.COLUMN
    figure = Figure((width, 1.3 + 0.35 * len(share)))
    axes = figure.subplots()
    image = axes.imshow(share, cmap="cividis", vmin=0, vmax=1, aspect="auto")
    for (row, column), value in np.ndenumerate(share):
        color = "black" if value > 0.5 else "white"
        axes.text(column, row, f"{value:.0%}", ha="center", va="center", fontsize=7, color=color)
    rates = [f"{rate:g}" for rate in summary["learning_rate"].values]
    axes.set(yticks=range(len(rates)), yticklabels=rates, ylabel="learning rate")
    _sigma_axis(axes, summary)
    figure.colorbar(image, label="seeds recovered", format=mpl.ticker.PercentFormatter(1))
    axes.spines[:].set_visible(False)
    return figure


@style.styled
def sigma_fix_figure(
    dataset: xr.Dataset,
    summary: xr.Dataset,
    reference: Mapping[str, float],
    suggested: list[float] | None,
) -> Figure:
    """Quality of clean samples against σ_fix: a dot per seed, a line through the medians, and a
    dotted line for held-out data.

    A run without a number is a triangle at the worse edge.

    Args:
      dataset: every cell's ``frechet``, ``precision`` and ``recall`` [cell, seed].
      summary: :func:`spread_jax.over_seeds` of it.
      reference: the same of held-out real data.
      suggested: the range of suggest_sigma, shaded.
    """
    titles = {"frechet": "Fréchet distance", "precision": "precision", "recall": "recall"}
    names, sigmas = dataset["arm"].values, dataset["sigma_fix"].values
    ticks = np.unique(sigmas[sigmas > 0])
    figure = Figure((style.PAGE, 2.6))
    panels = figure.subplots(1, 3)
    for axes, (key, title) in zip(panels, titles.items(), strict=True):
        values = with_worst(dataset[key]).transpose("cell", "seed").values
        middles = summary[key].sel(statistic="middle").values
        for name in dict.fromkeys(names):
            cells = np.flatnonzero(names == name)
            arm, places = dataset.isel(cell=cells[0]), sigmas[cells]
            color, label = arm["color"].item(), arm["label"].item()
            if arm["has_noise"]:
                axes.plot(places, values[cells], ".", color=color, markersize=3, alpha=0.5)
                axes.plot(places, middles[cells], color=color, label=label)
                style.mark_infinite(axes, places[:, None], values[cells], color)
            else:
                axes.axhline(middles[cells[0]], color=color, label=label)
        axes.axhline(reference[key], color=style.DATA_COLOR, linestyle=":", label="held-out data")
        if suggested:
            shade = {"color": style.NOISE_COLOR, "alpha": 0.15, "linewidth": 0}
            axes.axvspan(*suggested, label="suggest_sigma", **shade)
        axes.set(xscale="log", title=title, xlabel="$\\sigma_{fix}$ (data units)")
        axes.set_xticks(ticks, [f"{sigma:g}" for sigma in ticks], rotation=45)
        axes.minorticks_off()
    style.log_scale(panels[0])
    style.legend_below(figure, panels, columns=4)
    return figure


@style.styled
def _against_sigma(summary: xr.Dataset, labels: Mapping[str, str], extra_panels: int = 0) -> Figure:
    """Middle and interval over the seeds against σ_fix, on a log axis: a panel per variable and a
    colour per learning rate. The figure grows with their number and that of σ_fix."""
    if "learning_rate" not in summary.coords:
        summary = summary.assign_coords(learning_rate=summary.attrs.get("learning_rate", np.nan))
    if "learning_rate" not in summary.dims:
        summary = summary.expand_dims("learning_rate")
    rates = [f"learning rate {rate:g}" for rate in summary["learning_rate"].values]
    many, count = len(summary["sigma_fix"]) > MANY_SIGMAS, len(labels) + extra_panels
    columns = 4 if many else 2
    rows = -(-len(rates) // columns) if len(rates) > 1 else 0
    height = 0.7 + 1.3 * count + 0.3 * many + style.LEGEND_ROW * rows
    figure = Figure((style.PAGE if many else style.COLUMN, height))
    panels = figure.subplots(count, 1, sharex=True, squeeze=False)[:, 0]
    for axes, (name, label) in zip(panels, labels.items(), strict=False):
        ranges = []
        every = summary[name].transpose("learning_rate", "statistic", "sigma_fix").values
        for i, (rate, values) in enumerate(zip(rates, every, strict=True)):
            place = (i + 0.5) / len(rates)
            color = mpl.colormaps["viridis"](0.9 * place)
            places = np.arange(values.shape[1]) + 0.4 * (place - 0.5)  # marks are kept apart
            middle, low, high = np.where(np.isfinite(values), values, np.nan)
            # rounding may put the middle a hair outside its own interval
            interval = np.fmax([middle - low, high - middle], 0)
            look = {"fmt": "o", "markersize": 3, "linewidth": 0.8, "color": color}
            axes.errorbar(places, middle, interval, label=rate, **look)
            style.mark_infinite(axes, places, values[0], color)
            broken = ~np.isfinite(values).all(axis=0)
            ranges.append((places[broken], values[1:, broken], color))
        axes.set_ylabel(label)
        style.log_scale(axes)
        axes.autoscale(False, "y")
        for places, ends, color in ranges:
            axes.vlines(places, *np.clip(ends, *axes.get_ylim()), color=color, linewidth=0.8)
    _sigma_axis(panels[-1], summary)
    if len(rates) > 1:
        style.legend_below(figure, panels[:1], columns)
    elif np.isfinite(summary["learning_rate"]).all():
        panels[0].set_title(rates[0])
    return figure


def _sigma_axis(axes: Axes, dataset: xr.Dataset) -> None:
    """One place per σ_fix, evenly spaced: a log axis has no place for 0, the plain VAE."""
    sigmas = dataset["sigma_fix"].values
    many = len(sigmas) > MANY_SIGMAS
    plain = "plain 0" if many else "0\nplain"
    labels = [f"{sigma:.3g}" if sigma > 0 else plain for sigma in sigmas]
    axes.set_xticks(range(len(sigmas)), labels, rotation=90 if many else 0)
    axes.set(xlim=(-0.5, len(sigmas) - 0.5), xlabel="$\\sigma_{fix}$ (data units)")
