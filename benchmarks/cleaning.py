"""How fast clean points are drawn: by :func:`spread_jax.clean_samples`, and by its formulas as they
stand, with a Hessian and a Cholesky factor for each point."""

import dataclasses
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

import spread_jax as sj
from spread_jax.cli.command import main
from spread_jax.cli.output import OutputFolder
from spread_jax.cli.settings import require
from spread_jax.cli.tables import number_text, print_table

SIGMA, WIDTH, COMPONENTS, DIMS = 0.1, 0.05, 10, (2, 20, 784)
JITTER = 1e-9  # on the covariances, which are rounded in float32
Draw = Callable[[Array, Array], Array]


@dataclasses.dataclass(frozen=True)
class Settings:
    """Draws clean points of a mixture of ten Gaussians from its spread density: by clean_samples,
    and by the whole Hessian of each point, with a Cholesky factor of its covariance. The two take
    turns."""

    points: tuple[int, ...] = (10_000, 2_000, 50)
    """Numbers of points, in 2, 20 and 784 dimensions."""
    repeats: int = 7
    """Number of rounds, of which the medians are shown."""
    out: Path = Path("outputs/cleaning")
    """Folder for metrics.json."""

    def check(self) -> None:
        given = " ".join(map(str, self.points))
        fits = len(self.points) == len(DIMS) and min(self.points) >= 1
        require(fits, "--points", given, f"{len(DIMS)} numbers of at least 1")
        require(self.repeats >= 1, "--repeats", self.repeats, "at least 1")


def spread_law(dim: int, n: int) -> tuple[Callable[[Array], Array], Array, Array]:
    """log p~ of ten Gaussians of width 0.05 under noise 0.1, their means, and n spread points."""
    means_key, which_key, noise_key = jax.random.split(jax.random.key(dim), 3)
    means = jax.random.normal(means_key, (COMPONENTS, dim))
    scale = (WIDTH**2 + SIGMA**2) ** 0.5

    def of_point(y: Array) -> Array:
        squares = jnp.sum(((y[None] - means) / scale) ** 2, axis=-1)
        return jax.nn.logsumexp(-squares / 2)

    log_prob = jnp.vectorize(of_point, signature="(dim)->()")

    which = jax.random.randint(which_key, (n,), 0, COMPONENTS)
    return log_prob, means, means[which] + scale * jax.random.normal(noise_key, (n, dim))


def by_formulas(log_prob: Callable[[Array], Array]) -> Draw:
    """x ~ N(E[x|y], Cov[x|y]) from the whole covariance of each point; NaN where it has a negative
    eigenvalue, as a learned density may. Batches of jnp.linalg.eigh, which would bear them, can
    wait for ever on a CPU (jaxlib 0.10.2)."""

    def draw(key: Array, y: Array) -> Array:
        mean, covariance = sj.denoising_posterior(y, log_prob, SIGMA)
        root = jnp.linalg.cholesky(covariance + JITTER * jnp.eye(y.shape[-1])[None])
        return mean + (root @ jax.random.normal(key, (*y.shape, 1)))[..., 0]

    return draw


def measure(dim: int, n: int, repeats: int) -> dict[str, Any]:
    """Seconds of each round, and the standard deviation about their component of what was drawn."""
    log_prob, means, y = spread_law(dim, n)
    key = jax.random.key(0)
    ways = {
        "ours": lambda key, y: sj.clean_samples(key, y, log_prob, SIGMA),
        "formulas": by_formulas(log_prob),
    }
    draws = {name: jax.jit(draw) for name, draw in ways.items()}
    drawn = {name: jax.block_until_ready(draw(key, y)) for name, draw in draws.items()}
    seconds: dict[str, list[float]] = {name: [] for name in draws}
    for _ in range(repeats):
        for name, draw in draws.items():
            begin = time.perf_counter()
            jax.block_until_ready(draw(key, y))
            seconds[name].append(time.perf_counter() - begin)
    widths = {name: width(x, means) for name, x in drawn.items()}
    return {"dim": dim, "points": n, "seconds": seconds, "widths": widths}


def width(x: Array, means: Array) -> float:
    """Standard deviation of points about the nearest of the means, in data units."""
    apart = x[:, None] - means[None]
    nearest = jnp.argmin(jnp.sum(apart**2, axis=-1), axis=1)
    return float(jnp.sqrt(jnp.mean(apart[jnp.arange(len(x)), nearest] ** 2)))


def run(settings: Settings) -> None:
    output = OutputFolder(settings.out)
    found = [
        measure(dim, n, settings.repeats) for dim, n in zip(DIMS, settings.points, strict=True)
    ]
    rows = list(table(found))
    output.finish(settings, 0.0, {"results": found, "tables": {"cleaning": rows}})
    titles, *lines = (row.split(" | ") for row in rows)
    print_table("One draw of clean points", titles, lines, width=120)


def table(found: list[dict[str, Any]]) -> Iterator[str]:
    """The table, its cells with " | " between them, titles first."""
    yield "dimensions | points | `clean_samples`, s | Hessian and Cholesky, s | ratio"
    for each in found:
        ours, theirs = each["seconds"]["ours"], each["seconds"]["formulas"]
        ratio = median(other / own for own, other in zip(ours, theirs, strict=True))
        cells = map(number_text, [median(ours), median(theirs), ratio])
        yield " | ".join([str(each["dim"]), f"{each['points']:,}", *cells])


if __name__ == "__main__":
    main(Settings, run)
