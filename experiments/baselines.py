"""Every honest alternative on equal budgets: is the spread more than a floor, noise, a GAN?"""

import dataclasses
import math
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from experiments import command

if TYPE_CHECKING:
    import numpy as np
    import xarray as xr

CURVES = ("ring", "spiral")
TABLE_WIDTH = 120  # what the widest table needs
CEILING_POINTS = 10_000  # noisy points that the exact optimum sees
QUICK: dict[str, Any] = {
    "steps": 1_500,
    "curve_steps": 1_500,
    "seeds": 4,
    "num_samples": 200,
    "wasserstein_seeds": 4,
}


@dataclasses.dataclass(frozen=True)
class Settings(command.TrainingSettings):
    """The spread VAE beside every honest alternative: identical networks, initialisation, seeds
    and gradient steps; judged on clean samples, beside what two true samples score."""

    seeds: int = 64
    """Number of seeds per cell: independent runs (initialisation, data, noise)."""
    steps: int = 6_000
    """Optimizer steps of a run on two modes; a critic's count."""
    curve_steps: int = 4_000
    """Optimizer steps of a run on ring and spiral."""
    sigma_fix: float = 0.1
    """Standard deviation of every noise, floor or fixed sigma, in data units."""
    learning_rate: float = 1e-3
    """Adam's learning rate, of all arms."""
    data_std: tuple[float, ...] = (0.02, 0.05, 0.1, 0.3)
    """Standard deviations of a mode, in data units: all arms, fresh data."""
    data_size: tuple[int, ...] = (100, 1_000, 10_000)
    """Points of finite data sets of two modes: main arms."""
    finite_data_std: float = 0.05
    """Standard deviation of a mode of the finite data sets, in data units."""
    num_samples: int = 500
    """Clean samples that a run is judged by; even, half of them from each mode."""
    wasserstein_seeds: int = 16
    """Seeds per cell that the Wasserstein distance is computed for: the dear part of judging."""
    quick: bool = False
    """A look at all arms in a minute: 4 seeds, 1,500 steps, little converged; it sets --seeds,
    --steps, --curve-steps, --num-samples and --wasserstein-seeds."""
    out: Path = Path("outputs/baselines")
    """Folder for the results."""

    def check(self) -> None:
        super().check()
        for field in dataclasses.fields(self):
            if self.quick and field.name in QUICK:
                value = getattr(self, field.name)
                accepted = "left out with --quick, which sets it"
                flag = f"--{field.name.replace('_', '-')}"
                command.require(value == field.default, flag, value, accepted)
        command.require(self.curve_steps >= 1, "--curve-steps", self.curve_steps, "at least 1")
        command.require_positive("--sigma-fix", self.sigma_fix, "data units")
        command.require_positive("--learning-rate", self.learning_rate)
        command.require(len(self.data_std) > 0, "--data-std", "(nothing)", "one value or more")
        for data_std in self.data_std:
            command.require_positive("--data-std", data_std, "data units")
        for data_size in self.data_size:
            command.require(data_size >= 1, "--data-size", data_size, "at least 1")
        command.require_positive("--finite-data-std", self.finite_data_std, "data units")
        command.require(
            self.num_samples >= 2 and self.num_samples % 2 == 0,
            "--num-samples",
            self.num_samples,
            "an even number, at least 2",
        )
        command.require(
            self.wasserstein_seeds >= 1, "--wasserstein-seeds", self.wasserstein_seeds, "at least 1"
        )


class Cell(NamedTuple):
    """An arm on data: ``data`` two_modes, ring or spiral; ``data_size`` None is fresh data."""

    arm: str
    data: str
    data_std: float | None
    data_size: int | None


def cells(settings: Settings) -> dict[str, list[Cell]]:
    """The cells of each comparison; those of one comparison and one loss share a program."""
    from experiments.arms import MAIN_ARMS, arms

    std = settings.finite_data_std
    finite_arms = (*MAIN_ARMS, "deconvolution")
    return {
        "fresh": [Cell(a, "two_modes", s, None) for s in settings.data_std for a in arms(1.0)],
        "finite": [Cell(a, "two_modes", std, n) for n in settings.data_size for a in finite_arms],
        "curves": [Cell(a, curve, None, None) for curve in CURVES for a in MAIN_ARMS],
    }


def run(settings: Settings) -> None:
    started = time.perf_counter()
    output = command.OutputFolder(settings.out)
    if settings.quick:
        settings = dataclasses.replace(settings, **QUICK)
    command.start_jax(settings)
    import xarray as xr

    from experiments.judging import judge, row

    parts, params, compile_seconds = [], {}, 0.0
    truths: dict[tuple[str, float], list] = {}
    for name, part, part_params, seconds in train(settings):
        parts.append(judge(settings, part, truths))
        params[name] = part_params
        compile_seconds += seconds
    dataset = xr.concat(
        parts, "cell", join="outer", data_vars="all", coords="minimal", compat="override"
    )
    dataset = dataset.isel(cell=in_order(settings, dataset))
    rows = [row(settings, dataset.isel(cell=i)) for i in range(dataset.sizes["cell"])]

    output.write_dataset("results.nc", dataset)
    if settings.save_params:
        output.write_params("params.npz", params)
    write_figures(output, settings, dataset, rows)
    print_tables(settings, rows)
    output.write_metrics(
        {
            "config": command.config(settings),
            "environment": command.environment(started, compile_seconds),
            "rows": rows,
        }
    )
    print(f"written to {output.path}/")


def in_order(settings: Settings, dataset: "xr.Dataset") -> list[int]:
    """Where each cell stands in a dataset that is ordered by program."""
    names = ("arm", "data", "data_std", "data_size")
    found = list(zip(*(dataset[name].values.tolist() for name in names), strict=True))
    place = {(a, d, s or None, n or None): i for i, (a, d, s, n) in enumerate(found)}
    return [place[cell] for group in cells(settings).values() for cell in group]


def train(settings: Settings) -> "Iterator[tuple[str, xr.Dataset, Any, float]]":
    """Trains program by program: its name, finished cells with their samples, final parameters,
    and the seconds spent compiling."""
    from experiments.arms import arms

    for comparison, its_cells in cells(settings).items():
        losses = dict.fromkeys(arms(1.0)[cell.arm].loss for cell in its_cells)
        for loss in losses:
            members = [cell for cell in its_cells if arms(1.0)[cell.arm].loss == loss]
            name = f"{comparison}_{loss}"
            if not settings.quiet:
                print(f"{name}: {len(members)} cells x {settings.seeds} seeds", file=sys.stderr)
            if loss == "deconvolution":
                yield name, deconvolve(settings, members), {}, 0.0
            else:
                yield name, *train_program(settings, loss, members)


def train_program(
    settings: Settings, loss: str, members: list[Cell]
) -> "tuple[xr.Dataset, Any, float]":
    import jax
    import jax.numpy as jnp
    import numpy as np

    from experiments import arms
    from experiments.judging import JUDGE
    from spread_jax import sweeps

    on_curves = members[0].data in CURVES
    problem = arms.curves() if on_curves else arms.two_modes()
    num_steps = settings.curve_steps if on_curves else settings.steps
    program = arms.make_program(
        loss,
        problem,
        hidden=settings.hidden,
        batch_size=settings.batch_size,
        num_steps=num_steps,
        max_data_size=max(cell.data_size or 0 for cell in members) or None,
    )
    table = [hyper(settings, cell) for cell in members]
    columns = {
        name: np.array([numbers[name] for numbers in table], np.float32) for name in table[0]
    }

    def init(key, hyper):
        here = hyper["cell"].astype(int)
        return program.training.init(key, {k: jnp.asarray(v)[here] for k, v in columns.items()})

    with command.progress_bar(settings.quiet) as on_progress:
        result = sweeps.sweep(
            program.training._replace(init=init),
            {"cell": [float(i) for i in range(len(members))]},
            num_seeds=settings.seeds,
            seed=settings.seed,
            record_every=num_steps // math.gcd(num_steps, 100),
            on_progress=on_progress,
        )

    def finish(seed, params, hyper):
        """Clean samples, and mean and std of the components."""
        key = jax.random.fold_in(jax.random.key(seed), JUDGE)
        latent_key, decoder_key = jax.random.split(key)
        z = problem.sample_latent(latent_key, settings.num_samples)
        mean, var = program.decode(params, hyper, z)
        x = mean + jnp.sqrt(var) * jax.random.normal(decoder_key, mean.shape)
        ends = jnp.array([0, settings.num_samples - 1])
        return x, mean[ends], jnp.sqrt(var)[ends]

    over_seeds = jax.vmap(finish, in_axes=(0, 0, None))
    seeds = result.dataset["seed"].values.astype(np.uint32)
    finished = jax.jit(jax.vmap(over_seeds, in_axes=(None, 0, 0)))(seeds, result.params, columns)
    x, mean, std = (np.asarray(array) for array in finished)
    # steps differ between problems, records do not
    dataset = result.dataset.drop_vars("loss_max").rename(step="record")
    records = 1 + np.arange(dataset.sizes["record"])
    dataset = dataset.assign_coords(record=records, num_steps=("cell", [num_steps] * len(members)))
    return label(members, dataset, x, mean, std), result.params, result.compile_seconds


def hyper(settings: Settings, cell: Cell) -> dict[str, float]:
    """All numbers of a cell; those that its problem does not have are 0."""
    from experiments.arms import NUMBERS, arms

    return {
        **NUMBERS,
        **arms(settings.sigma_fix)[cell.arm].numbers,
        "learning_rate": settings.learning_rate,
        "data_std": cell.data_std or 0.0,
        "data_size": cell.data_size or 0,
        "is_spiral": cell.data == "spiral",
    }


def deconvolve(settings: Settings, members: list[Cell]) -> "xr.Dataset":
    """The exact optimum of the spread objective on CEILING_POINTS noisy points: many draws of
    noise for each point of a small data set, as in training."""
    import numpy as np
    import xarray as xr

    from spread_jax import oracles

    seeds = settings.seed + np.arange(settings.seeds)
    shape = (len(members), len(seeds))
    x = np.empty((*shape, settings.num_samples, 2), np.float32)
    mean, std = np.empty((*shape, 2, 2)), np.empty((*shape, 2, 2))
    for i, cell in enumerate(members):
        assert cell.data_std is not None  # curves are no mixtures of two
        truth = oracles.two_modes(cell.data_std)
        start = truth._replace(stds=np.full((2, 2), settings.sigma_fix))
        for j, seed in enumerate(seeds):
            rng = np.random.default_rng(seed)
            points = oracles.sample_mixture(rng, cell.data_size or CEILING_POINTS, truth)
            points = np.repeat(points, math.ceil(CEILING_POINTS / len(points)), axis=0)
            y = points + settings.sigma_fix * rng.standard_normal(points.shape)
            found = oracles.deconvolved_mixture(y, settings.sigma_fix, start, num_em_steps=20)
            mean[i, j], std[i, j] = found.means, found.stds
            half = np.repeat([0, 1], settings.num_samples // 2)
            x[i, j] = found.means[half] + found.stds[half] * rng.standard_normal((len(half), 2))
    coords = {"seed": seeds, "num_steps": ("cell", [0] * len(members))}
    return label(members, xr.Dataset(coords=coords), x, mean, std)


def label(
    members: list[Cell],
    dataset: "xr.Dataset",
    x: "np.ndarray",
    mean: "np.ndarray",
    std: "np.ndarray",
) -> "xr.Dataset":
    """Adds samples and components to the cells' curves, and says which cell is which."""
    component = ("cell", "seed", "component", "dim")
    arrays = {
        "x": (("cell", "seed", "point", "dim"), x, "clean samples"),
        "mean": (component, mean, "decoder mean at the ends of the latent"),
        "std": (component, std, "decoder standard deviation, clean"),
    }
    coords = {
        "arm": [cell.arm for cell in members],
        "data": [cell.data for cell in members],
        "data_std": [cell.data_std or 0.0 for cell in members],
        "data_size": [cell.data_size or 0 for cell in members],
    }
    return (
        dataset.drop_vars("cell", errors="ignore")
        .assign(
            {
                name: (dims, array, {"long_name": long_name, "units": "data units"})
                for name, (dims, array, long_name) in arrays.items()
            }
        )
        .assign_coords({name: ("cell", values) for name, values in coords.items()})
    )


def write_figures(
    output: command.OutputFolder, settings: Settings, dataset: "xr.Dataset", rows: list[dict]
) -> None:
    import jax
    import numpy as np

    from spread_jax import figures, sample_ring, sample_spiral

    fresh = dataset.isel(cell=(dataset["data"] == "two_modes") & (dataset["data_size"] == 0))
    predicted = [r["sigma_x_predicted"] for r in rows if r["data_std"] and not r["data_size"]]
    output.write_figure("baselines.png", figures.baselines_figure(fresh, predicted))
    key = jax.random.key(settings.seed)
    truth = {
        "ring": np.asarray(sample_ring(key, settings.num_samples)),
        "spiral": np.asarray(sample_spiral(key, settings.num_samples)),
    }
    on_curves = dataset.isel(cell=dataset["data"] != "two_modes")
    output.write_figure("curves.png", figures.curves_figure(truth, on_curves))


def print_tables(settings: Settings, rows: list[dict]) -> None:
    """One table per data law and size."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    from spread_jax.figures import ARMS

    columns: dict[str, Callable[[dict], str]] = {
        "σ_x (predicted)": lambda r: (
            f"{number_text(r['sigma_x'])} ({number_text(r['sigma_x_predicted'])})"
            if r["data_std"]
            else "-"
        ),
        "position": lambda r: number_text(r["position_bias"]),
        "off data": lambda r: number_text(r["off_manifold"]),
        "energy": lambda r: number_text(r["energy_distance"]),
        "W2": lambda r: number_text(r["wasserstein"]),
        "recovered": recovery_text,
        "loss std": lambda r: number_text(r["late_loss_std"]),
    }
    groups: dict[tuple, list[dict]] = {}
    for r in rows:
        groups.setdefault((r["data"], r["data_std"], r["data_size"]), []).append(r)
    console = Console()
    console.width = max(console.width, TABLE_WIDTH)
    for (data, data_std, data_size), members in groups.items():
        title = data.replace("_", " ")
        if data_std:
            title += f", std {data_std:g}"
            title += f", {data_size:,} points" if data_size else ", fresh data"
        table = Table(title=title, box=box.SIMPLE_HEAD, padding=(0, 1))
        table.add_column("", min_width=max(len(style.label) for style in ARMS.values()))
        for column in columns:
            table.add_column(column, justify="right", min_width=8, no_wrap=True)
        for r in members:
            table.add_row(ARMS[r["arm"]].label, *(text(r) for text in columns.values()))
        truth = {
            "energy": number_text(members[0]["energy_distance_truth"]),
            "W2": number_text(members[0]["wasserstein_truth"]),
        }
        table.add_section()
        table.add_row("truth against truth", *(truth.get(column, "") for column in columns))
        console.print(table)
    console.print(
        f"""\
{settings.seeds} seeds a cell; {settings.steps:,} steps, {settings.curve_steps:,} on ring and spiral
σ_x, and position, half the distance of the modes less 1: means over seeds; all else medians
off data: mean distance from the line or curve; energy distance and W2: of {settings.num_samples} \
clean samples to true ones
loss std: of the last tenth of training, nats (WGAN-GP: the critic's, data units)
all else in data units; W2 on {min(settings.seeds, settings.wasserstein_seeds)} seeds; \
Wilson interval, 95 %""",
        highlight=False,
    )


def recovery_text(row: dict) -> str:
    if row["recovery_rate"] is None:
        return "-"
    low, high = row["recovery_interval"]
    return f"{row['recovery_rate']:.0%} [{low:.0%}, {high:.0%}]"


def number_text(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


if __name__ == "__main__":
    command.main(Settings, run)
