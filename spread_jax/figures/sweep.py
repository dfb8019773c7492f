"""Figures of a sweep: what changes with σ_fix and the learning rate."""

from collections.abc import Iterator, Mapping

import matplotlib as mpl
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from spread_jax.aggregate import with_worst
from spread_jax.figures.style import (
    COLUMN,
    DATA_COLOR,
    FLOOR_COLOR,
    LEGEND_ROW,
    NOISE_COLOR,
    PAGE,
    STYLE,
    arm_handles,
    color_of,
    legend_below,
    log_scale,
    loss_limits,
    mark_infinite,
    one_record,
    shown_arms,
)

MANY_SIGMAS = 8  # above it their labels stand upright, over a page
MANY_CELLS = 5  # above it a column of the paper has no room for a map's numbers


def recovery_figure(summary: xr.Dataset) -> Figure:
    """Share of seeds that found both modes, with Wilson's 95 % interval, against σ_fix.

    Args:
      summary: :func:`spread_jax.over_seeds` of a judged sweep, ``recovered`` among it.
    """
    figure = _against_sigma(summary, {"recovered": "seeds that found\nboth modes"})
    axes = figure.axes[0]
    axes.set(yscale="linear", ylim=(-0.03, 1.03))
    axes.yaxis.set_major_locator(mpl.ticker.AutoLocator())
    axes.yaxis.set_major_formatter(mpl.ticker.PercentFormatter(1))
    return figure


def distance_figure(summary: xr.Dataset) -> Figure:
    """Spread KL at the reference and clean energy distance against σ_fix, median and interval.

    Args:
      summary: :func:`spread_jax.over_seeds` of a judged sweep.
    """
    return _against_sigma(
        summary,
        {
            "spread_kl_at_reference": "spread KL\n(nats, at one σ)",
            "energy_distance": "energy distance\n(data units)",
        },
    )


def stability_figure(summary: xr.Dataset) -> Figure:
    """Late loss standard deviation and largest rise against σ_fix, median and interval.

    Args:
      summary: :func:`spread_jax.over_seeds` of any :func:`spread_jax.sweep` over ``sigma_fix``.
    """
    return _against_sigma(
        summary,
        {"late_loss_std": "late loss std\n(nats)", "max_loss_rise": "largest rise\n(nats)"},
    )


def price_figure(summary: xr.Dataset, power: Mapping[float, float]) -> Figure:
    """The price of a large σ_fix: errors of σ_x and of the modes, and what pulls modes apart.

    Args:
      summary: :func:`spread_jax.over_seeds` of a judged sweep, ``mode_error`` and ``std_error``
        among it.
      power: σ_fix → spread KL of the merged solution, nats.
    """
    labels = {
        "mode_error": "error of the modes\n(data units)",
        "std_error": "error of their σ\n(data units)",
    }
    figure = _against_sigma(summary, labels, extra_panels=1)
    with mpl.rc_context(STYLE):
        axes = figure.axes[-1]
        sigmas = list(map(float, summary["sigma_fix"].values))
        axes.plot(
            [sigmas.index(sigma) for sigma in power],
            list(power.values()),
            "s-",
            color=FLOOR_COLOR,
            markersize=3,
            linewidth=1,
        )
        axes.set_ylabel("cost of merging\n(nats)")
        log_scale(axes)
        _sigma_axis(axes, summary)
    return figure


def loss_fan_figure(fan: xr.Dataset) -> Figure:
    """Loss over steps, a panel per σ_fix, first rate: over the seeds, median and 5 % of a record's
    mean and 95 % of its largest; a run that broke counts as infinite.

    Args:
      fan: :func:`spread_jax.aggregate.fan_over_seeds` of any sweep over ``sigma_fix``.
    """
    arms = shown_arms(_with_learning_rates(fan).isel(learning_rate=0))
    with mpl.rc_context(STYLE):
        count = len(arms)
        columns = 2 if count in (2, 4) else min(count, 3)
        rows = -(-count // columns)
        figure = Figure((COLUMN if columns == 1 else PAGE, 0.6 + 1.5 * rows), layout="constrained")
        panels = figure.subplots(rows, columns, sharex=True, squeeze=False).ravel()
        for axes, arm in zip(panels, arms, strict=False):
            steps, color = arm["step"].values, color_of(arm)
            low, middle, high = (
                arm[name].values for name in ("loss_low", "loss_middle", "loss_high")
            )
            limits = loss_limits(low[None], high[None], bool(arm["has_noise"]))
            low, middle, high = np.clip([low, middle, high], *limits)  # a broken run is at the top
            axes.fill_between(steps, low, high, color=color, alpha=0.25, linewidth=0)
            axes.plot(steps, middle, color=color, linewidth=0.9, **one_record(steps))
            sigma = float(arm["sigma_fix"])
            title = f"$\\sigma_{{fix}}$ = {sigma:.3g}"
            axes.set(title=title, xlim=(0, steps[-1]), ylim=limits)
            axes.xaxis.set_major_locator(mpl.ticker.MaxNLocator(3))
            axes.tick_params(labelbottom=True)
        for axes in panels[count:]:
            axes.remove()
        figure.supxlabel("optimizer steps", fontsize=8)
        figure.supylabel("loss (nats)", fontsize=8)
    return figure


def recovery_heat_map(summary: xr.Dataset) -> Figure:
    """Share of seeds that found both modes, learning rate × σ_fix.

    Args:
      summary: :func:`spread_jax.over_seeds` of a judged sweep, ``recovered`` among it.
    """
    rate = summary["recovered"].sel(statistic="middle")
    share = rate.transpose("learning_rate", "sigma_fix").values
    with mpl.rc_context(STYLE):
        width = PAGE if len(summary["sigma_fix"]) > MANY_CELLS else COLUMN
        figure = Figure((width, 1.3 + 0.35 * len(share)), layout="constrained")
        axes = figure.subplots()
        image = axes.imshow(share, cmap="cividis", vmin=0, vmax=1, aspect="auto")
        for (row, column), value in np.ndenumerate(share):
            axes.text(
                column, row, f"{value:.0%}", ha="center", va="center", fontsize=7,
                color="black" if value > 0.5 else "white",
            )  # fmt: skip
        rates = [f"{rate:g}" for rate in summary["learning_rate"].values]
        axes.set(yticks=range(len(rates)), yticklabels=rates, ylabel="learning rate")
        _sigma_axis(axes, summary)
        bar = figure.colorbar(image, label="seeds recovered")
        bar.ax.yaxis.set_major_formatter(mpl.ticker.PercentFormatter(1))
        axes.spines[:].set_visible(False)
    return figure


def sigma_fix_figure(
    dataset: xr.Dataset,
    summary: xr.Dataset,
    reference: Mapping[str, float],
    suggested: list[float] | None,
) -> Figure:
    """Quality of clean samples against σ_fix: every seed a dot, medians joined; held-out data.

    A run without a number is a triangle at the worse edge.

    Args:
      dataset: every cell's ``frechet``, ``precision`` and ``recall`` [cell, seed].
      summary: :func:`spread_jax.over_seeds` of it.
      reference: the same of held-out real data.
      suggested: the range of suggest_sigma, shaded.
    """
    panels = {"frechet": "Fréchet distance", "precision": "precision", "recall": "recall"}
    with mpl.rc_context(STYLE):
        figure = Figure((PAGE, 2.6), layout="constrained")
        every = figure.subplots(1, 3)
        names = dataset["arm"].values
        places = [np.flatnonzero(names == name) for name in dict.fromkeys(names)]
        for axes, (key, title) in zip(every, panels.items(), strict=True):
            marks = []
            for place in places:
                cells = dataset.isel(cell=place)
                color = str(cells["color"].values[0])
                middle = summary[key].sel(statistic="middle").isel(cell=place).values
                if not cells["has_noise"].values[0]:
                    axes.axhline(middle[0], color=color, linewidth=1)
                    continue
                values = with_worst(cells[key]).transpose("cell", "seed").values
                sigmas = cells["sigma_fix"].values
                axes.plot(sigmas, values, ".", color=color, markersize=3, alpha=0.5)
                axes.plot(sigmas, middle, color=color, linewidth=1)
                marks.append((sigmas[:, None], values, color))
            axes.axhline(reference[key], color=DATA_COLOR, linestyle=":", linewidth=1)
            if suggested:
                axes.axvspan(*suggested, color=NOISE_COLOR, alpha=0.15, linewidth=0)
            axes.set(xscale="log", title=title, xlabel="$\\sigma_{fix}$ (data units)")
            shown = np.unique(dataset["sigma_fix"].values)
            shown = shown[shown > 0]
            axes.set_xticks(shown, [f"{sigma:g}" for sigma in shown], rotation=45)
            axes.minorticks_off()
            if key == "frechet":
                axes.set_yscale("log")
            for mark in marks:
                mark_infinite(axes, *mark)
        handles = arm_handles([dataset.isel(cell=place[0]) for place in places])
        handles.append(Line2D([], [], color=DATA_COLOR, linestyle=":", label="held-out data"))
        if suggested:
            handles.append(
                Line2D([], [], color=NOISE_COLOR, alpha=0.3, linewidth=6, label="suggest_sigma")
            )
        figure.legend(handles=handles, loc="outside lower center", ncols=4)
    return figure


def _against_sigma(summary: xr.Dataset, labels: Mapping[str, str], extra_panels: int = 0) -> Figure:
    """A panel per variable: its middle and interval over the seeds, log axis, against σ_fix."""
    with mpl.rc_context(STYLE):
        count = len(labels) + extra_panels
        figure = _figure(summary, 0.7 + 1.3 * count)
        panels = figure.subplots(count, 1, sharex=True, squeeze=False)[:, 0]
        for axes, (name, label) in zip(panels, labels.items(), strict=False):
            marks = []
            for rate_label, cells, color, shift in _learning_rates(summary):
                values = cells[name].transpose("statistic", "sigma_fix").values
                middle, low, high = np.where(np.isfinite(values), values, np.nan)
                places = np.arange(len(middle)) + shift
                marks.append((places, values, color))
                axes.errorbar(
                    places,
                    middle,
                    # rounding may put the middle a hair outside its own interval
                    np.fmax([middle - low, high - middle], 0),
                    color=color,
                    fmt="o",
                    markersize=3,
                    linewidth=0.8,
                    label=rate_label,
                )
            axes.set_ylabel(label)
            log_scale(axes)
            for places, values, color in marks:
                mark_infinite(axes, places, values[0], color)
                broken = ~np.isfinite(values).all(axis=0)
                _, *ends = np.clip(values[:, broken], *axes.get_ylim())
                axes.vlines(places[broken], *ends, color=color, linewidth=0.8)
        _sigma_axis(panels[-1], summary)
        if _num_rates(summary) > 1:
            legend_below(figure, panels[:1], _legend_columns(summary))
        else:
            panels[0].set_title(rate_label)
    return figure


def _with_learning_rates(dataset: xr.Dataset) -> xr.Dataset:
    """With that axis, of one, where a sweep had none; NaN where it does not know its rate."""
    if "learning_rate" in dataset.dims:
        return dataset
    rate = dataset.attrs.get("learning_rate", np.nan)
    return dataset.drop_vars("learning_rate", errors="ignore").expand_dims(learning_rate=[rate])


def _learning_rates(
    dataset: xr.Dataset,
) -> Iterator[tuple[str, xr.Dataset, tuple[float, ...], float]]:
    """Each learning rate's label, if it is known, its runs, a colour, and a shift that keeps
    marks apart."""
    dataset = _with_learning_rates(dataset)
    rates = dataset["learning_rate"].values
    for i, rate in enumerate(rates):
        place = (i + 0.5) / len(rates)
        yield (
            "" if np.isnan(rate) else f"learning rate {rate:g}",
            dataset.isel(learning_rate=i),
            mpl.colormaps["viridis"](0.9 * place),
            0.4 * (place - 0.5),
        )


def _num_rates(dataset: xr.Dataset) -> int:
    return _with_learning_rates(dataset).sizes["learning_rate"]


def _figure(dataset: xr.Dataset, height: float) -> Figure:
    """A figure of panels ``height`` high in all, with room for many σ_fix and learning rates."""
    many = len(dataset["sigma_fix"]) > MANY_SIGMAS
    rates = _num_rates(dataset)
    rows = -(-rates // _legend_columns(dataset)) if rates > 1 else 0
    size = (PAGE if many else COLUMN, height + (0.3 if many else 0.0) + LEGEND_ROW * rows)
    return Figure(size, layout="constrained")


def _legend_columns(dataset: xr.Dataset) -> int:
    return 4 if len(dataset["sigma_fix"]) > MANY_SIGMAS else 2


def _sigma_axis(axes: Axes, dataset: xr.Dataset) -> None:
    """One place per σ_fix, evenly spaced: a log axis has no place for 0, the plain VAE."""
    sigmas = dataset["sigma_fix"].values
    many = len(sigmas) > MANY_SIGMAS
    plain = "plain 0" if many else "0\nplain"
    labels = [f"{sigma:.3g}" if sigma > 0 else plain for sigma in sigmas]
    axes.set_xticks(range(len(sigmas)), labels, rotation=90 if many else 0)
    axes.set_xlim(-0.5, len(sigmas) - 0.5)
    axes.set_xlabel("$\\sigma_{fix}$ (data units)")
