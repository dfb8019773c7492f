"""What fit makes of a ring, a spiral and a table whose truth is known, beside two true samples and
a plain VAE."""

import dataclasses
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import spread_jax as sj
from spread_jax.cli.command import main, start_jax
from spread_jax.cli.output import OutputFolder
from spread_jax.cli.settings import require, require_seeds
from spread_jax.cli.tables import number_text, print_table
from spread_jax.progress import stage_line

if TYPE_CHECKING:
    import pandas as pd

NUM_TRUE = 40  # pairs of true samples
NUM_POINTS = 500  # of a sample
DRAWN = ("data", "plain VAE", "recipe")
ROWS = {"ring": 10_000, "spiral": 10_000, "table": 5_000}
MODES, WIDTH = 1.0, 0.1  # of the column of two modes: where they are, and their standard deviation


@dataclasses.dataclass(frozen=True)
class Settings:
    """Fits the recipe to a ring, a spiral, and a table with a summed, a constant, a rounded, a 0/1
    and a two-mode column. Compares 500 clean samples of each with 500 true samples, and draws them
    beside the data and the samples of a plain VAE of the same size."""

    seeds: int = 5
    """Number of fits of each, every fit with data of its own."""
    seed: int = 0
    """The first seed."""
    out: Path = Path("outputs/recipe")
    """Folder for metrics.json and recipe.png."""
    quiet: bool = False
    """Show no progress."""
    no_compilation_cache: bool = False
    """Do not keep compiled programs in the user's cache folder."""

    def check(self) -> None:
        require_seeds(self.seeds, self.seed)
        require(self.seed < 10**6, "--seed", self.seed, "below a million: true samples are beyond")


def run(settings: Settings) -> None:
    output = OutputFolder(settings.out)
    start_jax(settings)
    results: dict[str, dict[str, Any]] = {}
    drawn = {}
    with stage_line(settings.quiet) as on_stage:
        for name in ROWS:
            true = [_distances(name, None, 10**6 + 2 * i) for i in range(NUM_TRUE)]
            found = []
            for seed in range(settings.seed, settings.seed + settings.seeds):
                on_stage(f"fitting {name}, seed {seed}")
                fitted, samples = _fit(name, seed)
                found.append(_distances(name, samples, 2 * 10**6 + seed))
                if seed == settings.seed:
                    on_stage(f"training a plain VAE on {name}")
                    clouds = (_true(name, NUM_POINTS, seed), _plain(name, seed, fitted), samples)
                    drawn[name] = dict(zip(DRAWN, map(_in_plane, clouds), strict=True))
            results[name] = {
                key: {
                    "per_seed": [each[key] for each in found],
                    "median": float(np.median([each[key] for each in found])),
                    "true_interval": np.quantile([t[key] for t in true], (0.025, 0.975)).tolist()
                    if key in true[0]
                    else None,
                }
                for key in found[0]
            }
    output.write_figure("recipe.png", sj.figures.clouds_figure(drawn))
    rows = list(_rows(results))
    output.finish(settings, 0.0, {"results": results, "tables": {"recipe": rows}})
    titles, *lines = (row.split(" | ") for row in rows)
    print_table(f"the recipe, medians of {settings.seeds} seeds", titles, lines)


def _rows(results: dict[str, dict[str, Any]]) -> Iterator[str]:
    """The table, its cells with " | " between them, titles first."""
    yield "500 clean samples | median | two true samples: 2.5 % | 97.5 %"
    for name, of_name in results.items():
        for key, numbers in of_name.items():
            interval = numbers["true_interval"] or ("", "")
            cells = [number_text(x) if x != "" else "" for x in (numbers["median"], *interval)]
            yield " | ".join([f"{name}: {key}", *cells])


def _fit(name: str, seed: int) -> "tuple[sj.Fitted, Any]":
    import jax

    fitted = sj.fit(jax.random.key(seed), _true(name, ROWS[name], seed), quiet=True)
    return fitted, fitted.sample(jax.random.key(seed), NUM_POINTS)


def _plain(name: str, seed: int, fitted: "sj.Fitted") -> Any:
    """Samples of a VAE without a spread, with a learned variance and z from N(0, I), trained on the
    same rows for as many steps."""
    import jax

    data, transform = sj.recipe.prepare(_true(name, ROWS[name], seed))
    choices, size = fitted.choices, fitted.architecture
    vae = sj.make_vae(size["dim"], latent_dim=size["latent_dim"], hidden=size["hidden"])
    training = sj.model_training(
        vae, sample_batch=sj.rows(choices["batch_size"]), num_steps=choices["num_steps"]
    )
    grid = {"sigma_fix": 0.0, "learning_rate": choices["learning_rate"]}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it may break: that is what is shown
        runs = sj.sweep(training, grid, num_seeds=1, seed=seed, data=data.train)
    z = vae.sample(runs.params(seed=seed), jax.random.key(seed), NUM_POINTS)
    return transform.inverse(np.asarray(z))


def _in_plane(x: Any) -> np.ndarray:
    """Two columns to draw: of the table its height and its column of two modes."""
    columns = x[["height", "two_modes"]] if hasattr(x, "columns") else x
    return np.asarray(columns, np.float64)


def _true(name: str, n: int, seed: int) -> "np.ndarray | pd.DataFrame":
    import jax
    import pandas as pd

    if name != "table":
        return np.asarray(getattr(sj.problems, name)().sample(jax.random.key(seed), n))
    rng = np.random.default_rng(seed)
    cluster = rng.integers(0, 3, n)
    height = np.round(np.array([150, 170, 190])[cluster] + rng.normal(0, 5, n), 1)
    income = np.array([20_000, 40_000, 30_000])[cluster] + rng.normal(0, 3_000, n)
    member = (cluster == 1) & (rng.random(n) < 0.7)
    two_modes = rng.choice([-MODES, MODES], n) + rng.normal(0, WIDTH, n)
    columns = {"height": height, "income": income, "total": height + income}
    return pd.DataFrame(
        {**columns, "constant": 5.0, "member": member.astype(int), "two_modes": two_modes}
    )


def _distances(name: str, samples: Any, seed: int) -> dict[str, float]:
    """Of samples from a true sample; without samples, of another true sample."""
    import jax.numpy as jnp

    from spread_jax.data.tables import Table
    from spread_jax.metrics import energy_distance, wasserstein

    is_true = samples is None
    if is_true:
        samples = _true(name, NUM_POINTS, seed + 1)
    true, found = _true(name, NUM_POINTS, seed), {}
    if name == "table":
        if not is_true:
            between = np.abs(samples["two_modes"]) < MODES - 4 * WIDTH
            found["share between the modes"] = float(between.mean())
            off = samples["total"] - (samples["height"] + samples["income"])
            found["largest error of the sum"] = float(np.abs(off).max())
        table = Table.of(_true(name, 10_000, 0))  # one unit for all
        x, y = table.apply(samples), table.apply(true)
    else:
        x, y = np.asarray(samples), np.asarray(true)
        if not is_true:
            off_curve = getattr(sj.problems, name)().distance(jnp.asarray(x))
            found["distance from the curve"] = float(off_curve.mean())
    return {"W2": wasserstein(x, y), "energy distance": energy_distance(x, y), **found}


if __name__ == "__main__":
    main(Settings, run)
