"""Figures of the benchmarks."""

import itertools
from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from spread_jax.figures import style


@style.styled
def throughput_figure(throughput: Mapping[str, Mapping[int, float]], limit: float) -> Figure:
    """Training throughput against the number of runs, log-log, under the machine's limit.

    Args:
      throughput: contestant → number of runs → run-steps per second; the first is this package.
      limit: run-steps per second if the networks' multiply-adds ran as fast as a large matrix
        product.
    """
    figure = Figure((style.COLUMN, 2.6))
    axes = figure.subplots()
    colors = (*style.CYCLE[:2], style.NOISE_COLOR)
    for (name, rates), color in zip(throughput.items(), colors, strict=True):
        axes.plot(*zip(*rates.items(), strict=True), "o-", color=color, markersize=3, label=name)
    axes.axhline(limit, color=style.FLOOR_COLOR, linestyle="--", label="matrix-product limit")
    axes.set(xscale="log", yscale="log", xlabel="number of runs", ylabel="run-steps per second")
    runs = list(next(iter(throughput.values())))
    axes.set_xticks(runs, [f"{n:,}" for n in runs])
    axes.minorticks_off()
    figure.legend(loc="outside lower center", ncols=2)
    return figure


@style.styled
def quality_figure(
    points: Mapping[str, tuple[np.ndarray, np.ndarray]],
    reference: float,
    ylabel: str = "Fréchet distance",
) -> Figure:
    """How far samples are from real data, against the seconds that they took, log-log.

    Args:
      points: contestant → seconds and distances, each ``[point, seed]``, along its epochs; a
        distance that is inf is marked at the upper end.
      reference: the distance of real data, a line.
      ylabel: what the distance is.
    """
    figure = Figure((style.PAGE, 3.2))
    axes = figure.subplots()
    # every contestant has its own pair, of six colours and five markers
    pairs = zip(itertools.cycle(style.CYCLE), itertools.cycle("os^Dv"), strict=False)
    for (name, (seconds, distances)), (color, marker) in zip(points.items(), pairs, strict=False):
        lines = axes.plot(seconds, distances, color=color, marker=marker, markersize=3)
        lines[0].set_label(name)
        for line in lines:
            line.set(linewidth=0.6, alpha=0.8)
        style.mark_infinite(axes, seconds, distances, color)
    axes.axhline(reference, color=style.DATA_COLOR, linestyle="--", label="real data")
    axes.set(xlabel="seconds of training and sampling", ylabel=ylabel)
    style.log_scale(axes, "x")
    style.log_scale(axes)
    figure.legend(loc="outside right upper")
    return figure
