"""Figures of a sweep: what changes with σ_fix and the learning rate."""

from collections.abc import Iterator, Mapping

import matplotlib as mpl
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from spread_jax.evaluation import wilson_interval
from spread_jax.figures.style import (
    ARMS,
    COLUMN,
    FLOOR_COLOR,
    LEGEND_ROW,
    PAGE,
    STYLE,
    legend_below,
    log_scale,
    loss_limits,
    one_record,
)

MANY_SIGMAS = 8  # above it their labels stand upright, over a page
MANY_CELLS = 5  # above it a column of the paper has no room for a map's numbers
MANY_RATES = 3  # above it the legend stands below


def recovery_figure(dataset: xr.Dataset) -> Figure:
    """Share of seeds that found both modes, with Wilson's 95 % interval, against σ_fix.

    Args:
      dataset: a judged sweep, ``recovered`` [sigma_fix, learning_rate, seed].
    """
    with mpl.rc_context(STYLE):
        figure = _figure(dataset, 2.4)
        axes = figure.subplots()
        for label, runs, color, shift in _learning_rates(dataset):
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
                label=label,
            )
        axes.set(ylabel="seeds with both modes found", ylim=(-0.03, 1.03))
        axes.yaxis.set_major_formatter(mpl.ticker.PercentFormatter(1))
        _sigma_axis(axes, dataset)
        if label:
            _legend(figure, axes, dataset)
    return figure


def distance_figure(dataset: xr.Dataset) -> Figure:
    """Spread KL at the reference and clean energy distance against σ_fix, median and quartiles.

    Args:
      dataset: a sweep on the two modes with ``spread_kl_at_reference``, of
        :func:`spread_jax.evaluation.spread_kl_of_components`, and ``energy_distance``.
    """
    return _against_sigma(
        dataset,
        {
            "spread_kl_at_reference": "spread KL\n(nats, at one σ)",
            "energy_distance": "energy distance\n(data units)",
        },
    )


def stability_figure(dataset: xr.Dataset) -> Figure:
    """Late loss standard deviation and largest rise against σ_fix, median and quartiles.

    Args:
      dataset: of any :func:`spread_jax.sweep` over ``sigma_fix``.
    """
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
        log_scale(axes)
        _sigma_axis(axes, dataset)
    return figure


def loss_fan_figure(dataset: xr.Dataset) -> Figure:
    """Loss over steps, a panel per σ_fix, first rate: over the seeds, median and 5 % of a record's
    mean and 95 % of its largest.

    Args:
      dataset: of any :func:`spread_jax.sweep` over ``sigma_fix``.
    """
    dataset = _with_learning_rates(dataset).isel(learning_rate=0)
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
            axes.plot(steps, middle, color=arm.color, linewidth=0.9, **one_record(steps))
            axes.set(title=f"$\\sigma_{{fix}}$ = {sigma:.3g}", xlim=(0, steps[-1]))
            axes.set_ylim(
                loss_limits(low[None], np.nanquantile(top, 0.95, axis=0)[None], sigma > 0)
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
        width = PAGE if len(dataset["sigma_fix"]) > MANY_CELLS else COLUMN
        figure = Figure((width, 1.3 + 0.35 * len(share)), layout="constrained")
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
        figure = _figure(dataset, 0.7 + 1.3 * count)
        panels = figure.subplots(count, 1, sharex=True, squeeze=False)[:, 0]
        for axes, (name, label) in zip(panels, labels.items(), strict=False):
            for rate_label, runs, color, shift in _learning_rates(dataset):
                values = runs[name].transpose("sigma_fix", "seed").values
                low, middle, high = _quartiles(values)
                axes.errorbar(
                    np.arange(len(middle)) + shift,
                    middle,
                    [middle - low, high - middle],
                    color=color,
                    fmt="o",
                    markersize=3,
                    linewidth=0.8,
                    label=rate_label,
                )
            axes.set_ylabel(label)
            log_scale(axes)
        _sigma_axis(panels[-1], dataset)
        if rate_label:
            _legend(figure, panels[0], dataset)
    return figure


def _quartiles(values: np.ndarray) -> np.ndarray:
    """``[3, sigma_fix]`` over the seeds; a run without a number counts as the largest."""
    values = np.where(np.isfinite(values), values, np.inf)
    with np.errstate(invalid="ignore"):  # inf - inf between two of them
        quartiles = np.quantile(values, [0.25, 0.5, 0.75], axis=1)
    return np.where(np.isfinite(quartiles), quartiles, np.inf)


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


def _figure(dataset: xr.Dataset, height: float) -> Figure:
    """A figure of panels ``height`` high in all, with room for many σ_fix and learning rates."""
    many = len(dataset["sigma_fix"]) > MANY_SIGMAS
    rates = _with_learning_rates(dataset).sizes["learning_rate"]
    rows = -(-rates // _legend_columns(dataset)) if rates > MANY_RATES else 0
    size = (PAGE if many else COLUMN, height + (0.3 if many else 0.0) + LEGEND_ROW * rows)
    return Figure(size, layout="constrained")


def _legend(figure: Figure, axes: Axes, dataset: xr.Dataset) -> None:
    if _with_learning_rates(dataset).sizes["learning_rate"] > MANY_RATES:
        legend_below(figure, np.array([axes]), _legend_columns(dataset))
    else:
        axes.legend()


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
