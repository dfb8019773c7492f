"""Figures of the benchmarks."""

from collections.abc import Mapping
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from spread_jax.figures.style import COLUMN, CYCLE, FLOOR_COLOR, NOISE_COLOR, STYLE


def throughput_figure(throughput: Mapping[str, Mapping[int, float]], limit: float) -> Figure:
    """Training throughput against the number of runs, log-log, under the machine's limit.

    Args:
      throughput: contestant → number of runs → run-steps per second; the first is this package.
      limit: run-steps per second if the networks' multiply-adds ran as fast as a large matrix
        product.
    """
    colors = (*CYCLE[:2], NOISE_COLOR)
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
