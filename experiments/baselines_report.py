"""What :mod:`experiments.baselines` says of its runs: beside true samples, drawn and printed."""

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import spread_jax as sj
from spread_jax.cli.output import OutputFolder
from spread_jax.cli.tables import print_table, rate_text

if TYPE_CHECKING:
    import xarray as xr

    from experiments.baselines import Comparison, Settings

TABLE_WIDTH = 120  # what the widest table needs
OF_TRUTH = ("energy_distance", "wasserstein")


def arms() -> "dict[str, sj.Arm]":
    return {**sj.ARMS, "deconvolution": sj.Arm("exact optimum (ceiling)", "#000000")}


def true_samples(settings: "Settings", comparison: "Comparison") -> "Iterator[xr.Dataset]":
    """What true samples score beside another, ``[cell, seed]``, one cell for each law."""
    for other in {other.get("data_std"): other for other in comparison.others}.values():
        problem = comparison.problem(other)
        scores = sj.problems.true_scores(problem, settings.num_samples, settings.seeds)
        law = {"data": [comparison.data], "data_std": [other.get("data_std", math.nan)]}
        yield scores.expand_dims("cell").assign_coords(
            {name: ("cell", value) for name, value in law.items()}
        )


def rows(dataset: "xr.Dataset", truth: "xr.Dataset") -> list[dict[str, Any]]:
    """A row of metrics.json for each cell: its numbers, beside those of true samples."""

    def number(cell: "xr.Dataset", name: str) -> float | None:
        return None if math.isnan(cell[name]) else float(cell[name])

    def law_of(cell: "xr.Dataset") -> tuple[str, float | None]:
        return cell["data"].item(), number(cell, "data_std")

    def cells(of: "xr.Dataset") -> "list[xr.Dataset]":
        return [of.isel(cell=i) for i in range(of.sizes["cell"])]

    middle = sj.over_seeds(truth).sel(statistic="middle")
    true = {law_of(cell): cell for cell in cells(middle)}
    found = []
    for cell in cells(dataset):
        data, data_std = law_of(cell)
        data_size = number(cell, "data_size")
        numbers = sj.aggregate.over_seeds_json(cell)
        if data_std:
            numbers["predicted_sigma_x"] = float(cell["predicted"])
        else:
            numbers = {key: value for key, value in numbers.items() if "recovered" not in key}
        found.append(
            {
                "arm": cell["arm"].item(),
                "data": data,
                "data_std": data_std,
                "data_size": data_size and int(data_size),
                **numbers,
                **{f"{name}_truth": float(true[data, data_std][name]) for name in OF_TRUTH},
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
        "σ_x (predicted)": lambda r: (
            f"{four(r['median_sigma_x'])} ({four(r['predicted_sigma_x'])})"
            if r["data_std"]
            else "-"
        ),
        "position": lambda r: four(r["median_position_bias"]),
        "off data": lambda r: four(r["median_off_data"]),
        "energy": lambda r: four(r["median_energy_distance"]),
        "W2": lambda r: four(r["median_wasserstein"]),
        "recovered": lambda r: (
            rate_text(r["recovered_rate"], r["recovered_interval"]) if r["data_std"] else "-"
        ),
        "loss std": lambda r: four(r["median_late_loss_std"]),
    }
    labels = {name: arm.label for name, arm in arms().items()}
    groups: dict[tuple, list[dict]] = {}
    for r in found:
        groups.setdefault((r["data"], r["data_std"], r["data_size"]), []).append(r)
    for (data, data_std, data_size), members in groups.items():
        title = data.replace("_", " ")
        if data_std:
            size = f"{data_size:,} points" if data_size else "fresh data"
            title += f", std {data_std:g}, {size}"
        lines = [[labels[r["arm"]], *(text(r) for text in columns.values())] for r in members]
        truth = {
            "energy": four(members[0]["energy_distance_truth"]),
            "W2": four(members[0]["wasserstein_truth"]),
        }
        lines.append(["two true samples", *(truth.get(column, "") for column in columns)])
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


def four(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
