"""What :mod:`experiments.baselines` says of its runs: beside true samples, drawn and printed."""

import math
from typing import TYPE_CHECKING, Any

import spread_jax as sj
from spread_jax.cli.output import OutputFolder
from spread_jax.cli.tables import fill, print_table

if TYPE_CHECKING:
    import xarray as xr

    from experiments.baselines import Comparison, Settings

TABLE_WIDTH = 120  # what the widest table needs
OF_TRUTH = ("energy_distance", "wasserstein")


def arms() -> "dict[str, sj.Arm]":
    return {**sj.ARMS, "deconvolution": sj.Arm("exact optimum (ceiling)", "#000000")}


def true_samples(settings: "Settings", comparisons: "list[Comparison]") -> "xr.Dataset":
    """What true samples score beside another, ``[cell, seed]``, one cell for each law."""
    import xarray as xr

    laws = {
        (other["data"], other.get("data_std", math.nan)): comparison.problem(other)
        for comparison in comparisons
        for other in comparison.others
    }
    n, seeds = settings.num_samples, settings.seeds
    scores = [sj.problems.true_scores(problem, n, seeds) for problem in laws.values()]
    data, data_std = zip(*laws, strict=True)
    coords = {"data": ("cell", list(data)), "data_std": ("cell", list(data_std))}
    return xr.concat(scores, "cell").assign_coords(coords)


def rows(dataset: "xr.Dataset", truth: "xr.Dataset") -> list[dict[str, Any]]:
    """A row of metrics.json for each cell: its numbers, beside those of true samples."""
    middle = sj.over_seeds(truth).sel(statistic="middle")
    finite = sj.aggregate.finite
    laws = list(zip(truth["data"].values, finite(truth["data_std"]), strict=True))
    sizes = zip(finite(dataset["data_std"]), finite(dataset["data_size"]), strict=True)
    found = []
    for i, (data_std, data_size) in enumerate(sizes):
        cell = dataset.isel(cell=i)
        true = middle.isel(cell=laws.index((cell["data"].item(), data_std)))
        numbers = sj.aggregate.over_seeds_json(cell)
        if data_std:
            numbers["predicted_sigma_x"] = float(cell["predicted"])
        else:
            numbers = {key: value for key, value in numbers.items() if "recovered" not in key}
        found.append(
            {
                "arm": cell["arm"].item(),
                "data": cell["data"].item(),
                "data_std": data_std,
                "data_size": data_size and int(data_size),
                **numbers,
                **{f"{name}_truth": float(true[name]) for name in OF_TRUTH},
            }
        )
    return found


def write_figures(
    output: OutputFolder, settings: "Settings", dataset: "xr.Dataset", truth: "xr.Dataset"
) -> None:
    import jax
    import numpy as np

    summary, true = sj.over_seeds(dataset), sj.over_seeds(truth)
    fresh = (dataset["data"] == "two_modes") & dataset["data_size"].isnull()
    places = [list(truth["data_std"].values).index(std) for std in settings.data_std]
    figure = sj.figures.baselines_figure(
        dataset.isel(cell=fresh), summary.isel(cell=fresh), true.isel(cell=places)
    )
    output.write_figure("baselines.png", figure)
    key, n = jax.random.key(settings.seed), settings.num_samples
    problems = (sj.problems.ring(), sj.problems.spiral())
    curves = {problem.name: np.asarray(problem.sample(key, n)) for problem in problems}
    cells, laws = (of["data"].isin(list(curves)) for of in (dataset, truth))
    figure = sj.figures.curves_figure(
        curves, dataset.isel(cell=cells), summary.isel(cell=cells), true.isel(cell=laws)
    )
    output.write_figure("curves.png", figure)


def print_rows(settings: "Settings", found: list[dict[str, Any]]) -> None:
    """One table for each data law and size."""
    columns = {
        "σ_x (predicted)": "{median_sigma_x:.4f} ({predicted_sigma_x:.4f})",
        "position": "{median_position_bias:.4f}",
        "off data": "{median_off_data:.4f}",
        "energy": "{median_energy_distance:.4f}",
        "W2": "{median_wasserstein:.4f}",
        "recovered": "{recovered_rate:.0%} {recovered_interval:%}",
        "loss std": "{median_late_loss_std:.4f}",
    }
    of_truth = {"energy": "{energy_distance_truth:.4f}", "W2": "{wasserstein_truth:.4f}"}
    labels = {name: arm.label for name, arm in arms().items()}
    groups: dict[tuple, list[dict]] = {}
    for r in found:
        groups.setdefault((r["data"], r["data_std"], r["data_size"]), []).append(r)
    for (data, data_std, data_size), members in groups.items():
        title, shown = data.replace("_", " "), columns
        if data_std:
            size = f"{data_size:,} points" if data_size else "fresh data"
            title += f", std {data_std:g}, {size}"
        else:  # a curve has no modes
            shown = {**columns, "σ_x (predicted)": "-", "recovered": "-"}
        lines = [[labels[r["arm"]], *(fill(text, r) for text in shown.values())] for r in members]
        truth = [fill(of_truth.get(column, ""), members[0]) for column in columns]
        lines.append(["two true samples", *truth])
        print_table(title, ["", *columns], lines, width=TABLE_WIDTH)
    print(
        f"""\
{settings.seeds} seeds a cell; {settings.steps:,} steps, {settings.curve_steps:,} on ring and spiral
medians over seeds, a run without a number counting as the worst; Wilson interval, 95 %
position: half the distance of the modes less 1; off data: mean distance from the line or curve
energy distance and W2: of {settings.num_samples} clean samples, W2 of 250 at most, to true ones
loss std: of the last tenth of training, nats (WGAN-GP: the critic's, data units)
all else in data units"""
    )
