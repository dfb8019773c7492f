"""Gaussian mixtures on flat data, by :func:`spread_jax.fit_mixture`, by scikit-learn, and by the
extreme deconvolution of astroML."""

import dataclasses
import importlib.util
import math
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import numpy as np
from threadpoolctl import threadpool_limits

import spread_jax as sj
from spread_jax.cli.command import main
from spread_jax.cli.output import OutputFolder
from spread_jax.cli.settings import require
from spread_jax.cli.tables import number_text, print_table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DIM, PLANES, SIZES = 5, 3, (1, 2, 3, 4, 5)
NUM_SAMPLES = 2000
REACH = 0.15  # how far the picture shows points off the plane
PEER_ROWS = 1_000_000  # that astroML reads: it inverts a matrix for each row in each iteration
Way = Callable[[np.ndarray], tuple[int, np.ndarray]]
"""Of rows: the number of components that it chose, and samples."""


@dataclasses.dataclass(frozen=True)
class Settings:
    """Fits Gaussian mixtures to rows in three planes of five columns. fit_mixture and scikit-learn
    choose from 1 to 5 components; astroML's XDGMM is given 3. Samples are judged by their distance
    from the nearest plane, whose points have a standard deviation of 1 in it; the picture has
    the samples of the first number of rows."""

    rows: tuple[int, ...] = (10_000, 100_000)
    """Numbers of rows."""
    out: Path = Path("outputs/mixtures")
    """Folder for metrics.json and mixtures.png."""

    def check(self) -> None:
        fits = bool(self.rows) and all(n >= 100 for n in self.rows)
        require(fits, "--rows", " ".join(map(str, self.rows)), "numbers of at least 100")


class Planes(NamedTuple):
    """Two-dimensional planes that the rows lie in.

    Attributes:
      axes: ``[plane, dim, 2]``, two orthonormal directions of each.
      centres: ``[plane, dim]``.
    """

    axes: np.ndarray
    centres: np.ndarray

    def distances(self, points: np.ndarray) -> np.ndarray:
        """From every plane, ``[n, plane]``."""
        apart = points[:, None] - self.centres
        along = np.einsum("kdi,nkd->nki", self.axes, apart)
        return np.linalg.norm(apart - np.einsum("kdi,nki->nkd", self.axes, along), axis=2)

    def edge_on(self, points: np.ndarray) -> np.ndarray:
        """Of the points that are nearest to the first plane, the coordinates along one direction
        of it and along one normal to it, ``[m, 2]``."""
        nearest = points[self.distances(points).argmin(axis=1) == 0]
        directions = np.linalg.qr(self.axes[0], mode="complete")[0][:, 1:3]
        return (nearest - self.centres[0]) @ directions


def flat_data(n: int, seed: int = 0) -> tuple[np.ndarray, Planes]:
    """Rows in three planes of five dimensions, and the planes."""
    law, rng = np.random.default_rng(100), np.random.default_rng(seed)
    axes = np.stack([np.linalg.qr(law.normal(size=(DIM, 2)))[0] for _ in range(PLANES)])
    centres = 2 * law.normal(size=(PLANES, DIM))
    which = rng.integers(0, PLANES, n)
    x = centres[which] + np.einsum("ndi,ni->nd", axes[which], rng.normal(size=(n, 2)))
    return x, Planes(axes, centres)


def noisy(x: np.ndarray, sigma: float, of_rows: bool) -> tuple[np.ndarray, np.ndarray]:
    """The rows with noise, and its variances, of one sigma or drawn for each entry."""
    rng = np.random.default_rng(1)
    variances = sigma**2 * (rng.uniform(0.5, 1.5, x.shape) if of_rows else np.ones(x.shape))
    return x + np.sqrt(variances) * rng.normal(size=x.shape), variances


def ours(
    x: np.ndarray, sigma: float, of_rows: bool = False, missing: float = 0.0
) -> tuple[int, np.ndarray]:
    """Of noisy rows, with noise of one sigma or of a variance for each entry."""
    y, variances = noisy(x, sigma, of_rows)
    y[np.random.default_rng(2).random(y.shape) < missing] = np.nan
    if of_rows:
        fit = sj.fit_mixture(y, SIZES, noise=variances)
    else:
        fit = sj.fit_mixture(y, SIZES, sigma=sigma)
    return len(fit.mixture.weights), fit.sample(jax.random.key(0), NUM_SAMPLES)


OURS: dict[str, Way] = {
    "`fit_mixture`, spread by σ = 0.03": lambda x: ours(x, 0.03),
    "`fit_mixture`, spread by σ = 0.001": lambda x: ours(x, 0.001),
    "`fit_mixture`, noise of each row, about 0.03": lambda x: ours(x, 0.03, of_rows=True),
    "the same with 10 % missing": lambda x: ours(x, 0.03, of_rows=True, missing=0.1),
}


def scikit_learns(x: np.ndarray, reg_covar: float, sigma: float = 0.0) -> tuple[int, np.ndarray]:
    """Of clean rows, or of noisy ones; as many starts, k by its own BIC."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture

    x = noisy(x, sigma, of_rows=False)[0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        fits = [
            GaussianMixture(k, reg_covar=reg_covar, n_init=4, random_state=0).fit(x) for k in SIZES
        ]
    best = min(fits, key=lambda fit: fit.bic(x))
    return best.n_components, best.sample(NUM_SAMPLES)[0]


def astro_ml(x: np.ndarray, sigma: float) -> tuple[int, np.ndarray]:
    """Of noisy rows with a variance for each entry; its own start, few iterations, and one thread,
    with which it is faster."""
    from astroML.density_estimation import XDGMM
    from sklearn.exceptions import ConvergenceWarning

    y, variances = noisy(x, sigma, of_rows=True)
    errors = variances[:, :, None] * np.eye(x.shape[1])
    with warnings.catch_warnings(), threadpool_limits(1):
        warnings.simplefilter("ignore", ConvergenceWarning)  # of its start
        fit = XDGMM(PLANES, max_iter=iterations(len(x)), random_state=0).fit(y, errors)
    np.random.seed(0)  # its sample draws by NumPy's global state
    return PLANES, fit.sample(NUM_SAMPLES)


def iterations(n: int) -> int:
    """Of astroML on n rows."""
    return max(1, PEER_ROWS // n)


def ways(rows: tuple[int, ...]) -> dict[str, Way]:
    """Every way of fitting, by the label of its row."""
    found = OURS | {
        "scikit-learn on rows with noise 0.03": lambda x: scikit_learns(x, 1e-6, 0.03),
        "scikit-learn on clean rows, `reg_covar` 1e-6": lambda x: scikit_learns(x, 1e-6),
        "scikit-learn on clean rows, `reg_covar` 1e-3": lambda x: scikit_learns(x, 1e-3),
    }
    if importlib.util.find_spec("astroML") is not None:
        steps = " and ".join(str(iterations(n)) for n in rows)
        label = f"astroML, noise of each row, about 0.03, {steps} iterations"
        found[label] = lambda x: astro_ml(x, 0.03)
    return found


def measure(fit: Way, n: int, compiles: bool) -> tuple[dict[str, Any], np.ndarray]:
    """What one way comes to on n rows, and its samples edge-on; the seconds of a second call too,
    if the first compiles."""
    x, planes = flat_data(n)
    seconds = []
    for _ in range(1 + compiles):
        begin = time.perf_counter()
        components, samples = fit(x)
        seconds.append(time.perf_counter() - begin)
    far = float(np.sqrt(np.mean(planes.distances(samples).min(axis=1) ** 2)))
    numbers = {"rows": n, "components": components, "off_by": far, "seconds": seconds}
    return numbers, planes.edge_on(samples)


def run(settings: Settings) -> None:
    output = OutputFolder(settings.out)
    measured = {
        label: [measure(fit, n, label in OURS) for n in settings.rows]
        for label, fit in ways(settings.rows).items()
    }
    found = {label: [numbers for numbers, _ in each] for label, each in measured.items()}
    rows = list(table(found, settings.rows))
    labels = ways(settings.rows[:1])  # of the rows that are drawn
    clouds = {label: each[0][1] for label, each in zip(labels, measured.values(), strict=True)}
    output.write_figure("mixtures.png", figure(clouds))
    output.finish(settings, 0.0, {"results": found, "tables": {"mixtures": rows}})
    titles, *lines = (row.split(" | ") for row in rows)
    print_table(f"{PLANES} planes in {DIM} columns", titles, lines, width=150)
    if importlib.util.find_spec("astroML") is None:
        print("astroML is left out: pip install -e '.[bench]'")


def table(found: dict[str, list[dict[str, Any]]], rows: tuple[int, ...]) -> Iterator[str]:
    """The table, its cells with " | " between them, titles first."""
    yield " | ".join(
        ["what", *(f"off by, {n:,} rows | components | seconds | again" for n in rows)]
    )
    for label, measured in found.items():
        cells = [label]
        for each in measured:
            first, *again = map(number_text, each["seconds"])
            cells += [number_text(each["off_by"]), str(each["components"]), first]
            cells += again or [""]
        yield " | ".join(cells)


def figure(clouds: dict[str, np.ndarray]) -> "Figure":
    """Samples of each way that are nearest to the first plane, which is seen edge-on.

    Args:
      clouds: label → coordinates in the plane and off it, ``[n, 2]``.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    from spread_jax.figures import style

    with mpl.rc_context(style.STYLE):
        drawn = Figure((style.PAGE, 1.45 * math.ceil(len(clouds) / 2)))
        grid = drawn.subplots(
            math.ceil(len(clouds) / 2), 2, sharex=True, sharey=True, squeeze=False
        )
        for axes, (label, points) in zip(grid.flat, clouds.items(), strict=False):
            axes.plot(*points.T, color=style.CYCLE[0], markersize=2, alpha=0.4, **style.CLOUD)
            axes.set_title(label.replace("`", ""), fontsize=7)
        for axes in grid.flat[len(clouds) :]:
            axes.set_axis_off()
        grid[0, 0].set(xlim=(-3, 3), ylim=(-REACH, REACH))
        drawn.supxlabel("along the plane (data units; the standard deviation is 1)", fontsize=7)
        drawn.supylabel("off the plane (data units)", fontsize=7)
        return drawn


if __name__ == "__main__":
    main(Settings, run)
