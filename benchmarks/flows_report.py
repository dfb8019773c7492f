"""What :mod:`benchmarks.flows` says of its flows: numbers, tables and the figure."""

import sys
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from spread_jax.cli.tables import fill, print_table

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.figure import Figure

ARMS = ("no noise", "noise left on", "Tweedie", "clean_samples")
DRAWN = ("no noise", "noise left on")
"""Arms that are different densities; the others clean the draws of the second."""
HALF_WIDTH = 1.5  # data units of the plane that a panel shows


class Found(NamedTuple):
    """What a flow came to on one law.

    Attributes:
      data, title: the law's name in flags, and in words.
      flow: its name.
      dim: columns of the data.
      judged: ``[arm, seed]``; ``samples [arm, point, plane]`` of the first seed.
      points: held-out points in the plane.
      reference: what true points score.
    """

    data: str
    title: str
    flow: str
    dim: int
    judged: "xr.Dataset"
    points: np.ndarray
    reference: dict[str, float]


def print_stage(stage: str) -> None:
    print(stage, file=sys.stderr)


def results(found: list[Found]) -> dict[str, Any]:
    """What metrics.json holds: the cells, what true points score, and the rows of the tables."""
    from spread_jax.aggregate import over_seeds_json, per_seed_json

    cells = []
    for one in found:
        of_flow = {"data": one.data, "title": one.title, "flow": one.flow, "dim": one.dim}
        for arm in ARMS:
            runs = one.judged.sel(arm=arm).drop_vars("samples")
            numbers = {**per_seed_json(runs), **over_seeds_json(runs)}
            cells.append({**of_flow, "arm": arm, **numbers})
    reference = {one.data: one.reference for one in found}
    tables = {
        "likelihood": list(likelihood(cells, reference)),
        "distance": list(distance(cells)),
        "energy": list(energy(cells, reference)),
    }
    return {"reference": reference, "cells": cells, "tables": tables}


Cells = list[dict[str, Any]]


def of_flows(cells: Cells) -> Iterator[tuple[str, dict[str, dict[str, Any]]]]:
    """A label for each flow on each law, and its cells by arm."""
    for data, flow in dict.fromkeys((cell["data"], cell["flow"]) for cell in cells):
        own = {c["arm"]: c for c in cells if c["data"] == data and c["flow"] == flow}
        yield f"{own[ARMS[0]]['title']}: {flow}", own


def with_interval(name: str, form: str = "") -> str:
    """A template of a median and its interval; without a form a number has three digits."""
    middle, low, high = f"median_{name}", f"{name}_interval[0]", f"{name}_interval[1]"
    return f"{{{middle}:{form}}} [{{{low}:{form}}}, {{{high}:{form}}}]"


def row(label: str, own: Mapping[str, dict[str, Any]], arms: tuple[str, ...], text: str) -> str:
    return " | ".join([label, *(fill(text, own[arm]) for arm in arms)])


def likelihood(cells: Cells, reference: Mapping[str, Mapping[str, float]]) -> Iterator[str]:
    titles = ["log p̃: {}", "largest rise of the loss: {}"]
    texts = [with_interval("test_bound", ",.2f"), "{median_max_loss_rise}"]
    titled = [title.format(arm.replace(" left on", "")) for title in titles for arm in DRAWN]
    yield " | ".join(["nats a point", *titled, "best possible"])
    for label, own in of_flows(cells):
        columns = [fill(text, own[arm]) for text in texts for arm in DRAWN]
        best = fill("{test_bound:.2f}", reference[own[ARMS[0]]["data"]])
        yield " | ".join([label, *columns, best])


def distance(cells: Cells) -> Iterator[str]:
    yield " | ".join(["mean distance", *ARMS])
    for label, own in of_flows(cells):
        yield row(label, own, ARMS, with_interval("off_curve"))


def energy(cells: Cells, reference: Mapping[str, Mapping[str, float]]) -> Iterator[str]:
    yield " | ".join(["energy distance", *ARMS, "true points"])
    for label, own in of_flows(cells):
        shown = row(label, own, ARMS, with_interval("energy_distance"))
        true = fill("{energy_distance}", reference[own[ARMS[0]]["data"]])
        yield f"{shown} | {true}"


def print_results(seeds: int, steps: int, sigma_fix: float, results: Mapping[str, Any]) -> None:
    captions = {
        "likelihood": "held-out points with the noise, in nats, for all arms",
        "distance": "of samples from the curve among all columns, in data units",
        "energy": "of samples to held-out points, in data units",
    }
    for name, rows in results["tables"].items():
        titles, *others = (line.split(" | ") for line in rows)
        title = f"{seeds} seeds, {steps:,} steps, sigma_fix {sigma_fix:g}: medians and intervals"
        print_table(title, ["", *titles[1:]], others, caption=captions[name], width=150)


def figure(found: list[Found]) -> "Figure":
    """Held-out points and samples of the first seed, in the curve's plane: a row for each flow on
    each law, a column for each arm."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    from spread_jax.figures import style

    with mpl.rc_context(style.STYLE):
        drawn = Figure((style.PAGE, 0.3 + 1.45 * len(found)))
        grid = drawn.subplots(len(found), 1 + len(ARMS), sharex=True, sharey=True, squeeze=False)
        for place, (axes_row, one) in enumerate(zip(grid, found, strict=True)):
            axes_row[0].set_ylabel(f"{one.title}\n{one.flow}", fontsize=7)
            points = {"data": one.points}
            points |= {arm: one.judged["samples"].sel(arm=arm).values for arm in ARMS}
            colors = (style.DATA_COLOR, *style.CYCLE[1::-1], *style.CYCLE[2:4])
            for axes, (name, x), color in zip(axes_row, points.items(), colors, strict=True):
                kept = x[np.isfinite(x).all(axis=1)]
                axes.plot(*kept.T, color=color, markersize=2, alpha=0.4, **style.CLOUD)
                axes.set(
                    xlim=(-HALF_WIDTH, HALF_WIDTH),
                    ylim=(-HALF_WIDTH, HALF_WIDTH),
                    xticks=[],
                    yticks=[],
                )
                axes.set_aspect("equal")
                words = [] if place else [name]
                if name in ARMS:
                    off = float(one.judged["off_curve"].sel(arm=name)[0])
                    words.append(f"off the curve by {off:.3f}")
                axes.set_title("\n".join(words), fontsize=6)
        return drawn
