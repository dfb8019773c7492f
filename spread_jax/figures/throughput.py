"""Figures of the benchmarks."""

from collections.abc import Mapping

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
