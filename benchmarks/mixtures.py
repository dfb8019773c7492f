"""Gaussian mixtures on flat data, by :func:`spread_jax.fit_mixture` and by scikit-learn.

Each row of five columns lies in one of three planes. Both choose the number of components by BIC;
what is judged is the distance of clean samples from the nearest plane.

    python -m benchmarks.mixtures [--quick]
"""

import argparse
import importlib.util
import time
import warnings
from collections.abc import Callable

import jax
import numpy as np

import spread_jax as sj
from spread_jax.cli.tables import number_text, print_table

DIM, PLANES, SIZES, SIGMA = 5, 3, (1, 2, 3, 4, 5), 0.03
NUM_SAMPLES = 2000


def flat_data(n: int, seed: int = 0) -> tuple[np.ndarray, Callable[[np.ndarray], np.ndarray]]:
    """Rows in three planes of five dimensions, and the distance of points from the nearest."""
    law, rng = np.random.default_rng(100), np.random.default_rng(seed)
    axes = np.stack([np.linalg.qr(law.normal(size=(DIM, 2)))[0] for _ in range(PLANES)])
    centres = 2 * law.normal(size=(PLANES, DIM))
    which = rng.integers(0, PLANES, n)
    x = centres[which] + np.einsum("ndi,ni->nd", axes[which], rng.normal(size=(n, 2)))

    def distance(points: np.ndarray) -> np.ndarray:
        apart = points[:, None] - centres
        along = np.einsum("kdi,nkd->nki", axes, apart)
        return np.linalg.norm(apart - np.einsum("kdi,nki->nkd", axes, along), axis=2).min(axis=1)

    return x, distance


def ours(x: np.ndarray, kind: str) -> tuple[int, np.ndarray]:
    """With noise of one sigma for all rows, or of a variance for each entry."""
    key, rng = jax.random.key(0), np.random.default_rng(1)
    variances = SIGMA**2 * rng.uniform(0.5, 1.5, x.shape)
    std = SIGMA if kind == "sigma" else np.sqrt(variances)
    y = x + std * rng.normal(size=x.shape)
    if kind == "missing":
        y[rng.random(y.shape) < 0.1] = np.nan
    if kind == "sigma":
        fit = sj.fit_mixture(y, SIZES, sigma=SIGMA)
    else:
        fit = sj.fit_mixture(y, SIZES, noise=variances)
    return len(fit.mixture.weights), fit.sample(key, NUM_SAMPLES)


def scikit_learns(x: np.ndarray, reg_covar: float) -> tuple[int, np.ndarray]:
    """On the clean rows, as many starts, k by its own BIC."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        fits = [
            GaussianMixture(k, reg_covar=reg_covar, n_init=4, random_state=0).fit(x) for k in SIZES
        ]
    best = min(fits, key=lambda fit: fit.bic(x))
    return best.n_components, best.sample(NUM_SAMPLES)[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="2,000 rows in place of 100,000")
    numbers = [2_000] if parser.parse_args().quick else [10_000, 100_000]
    ways: dict[str, Callable[[np.ndarray], tuple[int, np.ndarray]]] = {
        f"fit_mixture, one sigma {SIGMA}": lambda x: ours(x, "sigma"),
        "fit_mixture, variances of each row": lambda x: ours(x, "variances"),
        "fit_mixture, and 10 % missing": lambda x: ours(x, "missing"),
        "scikit-learn, reg_covar 1e-6": lambda x: scikit_learns(x, 1e-6),
        "scikit-learn, reg_covar 1e-3": lambda x: scikit_learns(x, 1e-3),
    }
    rows = []
    for n in numbers:
        x, distance = flat_data(n)
        for name, fit in ways.items():
            seconds = []
            for _ in range(2):  # compilation is in the first only
                begin = time.perf_counter()
                size, samples = fit(x)
                seconds.append(time.perf_counter() - begin)
            far = distance(samples)
            root_mean_square = float(np.sqrt(np.mean(far**2)))
            found = [f"{n:,}", name, str(size), number_text(root_mean_square)]
            rows.append([*found, number_text(float(far.max())), *map(number_text, seconds)])
    columns = ["rows", "", "k by BIC", "distance (rms)", "(largest)", "s, first", "s, again"]
    print_table(
        f"{PLANES} planes in {DIM} columns; k from {SIZES[0]} to {SIZES[-1]}", columns, rows
    )
    for peer, module in (("astroML", "astroML"), ("XDGMM", "xdgmm")):
        if importlib.util.find_spec(module) is None:
            print(f"{peer}: not installed")


if __name__ == "__main__":
    main()
