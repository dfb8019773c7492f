"""Gaussian mixtures on flat data, by :func:`spread_jax.fit_mixture` and by scikit-learn.

Each row of five columns lies in one of three planes. Both choose the number of components by BIC;
what is judged is the distance of samples from the nearest plane, whose points have std 1 in it.

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

DIM, PLANES, SIZES = 5, 3, (1, 2, 3, 4, 5)
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="2,000 rows in place of 100,000")
    numbers = [2_000] if parser.parse_args().quick else [10_000, 100_000]
    ways: dict[str, Callable[[np.ndarray], tuple[int, np.ndarray]]] = {
        "ours, sigma 0.03": lambda x: ours(x, 0.03),
        "ours, sigma 0.001": lambda x: ours(x, 0.001),
        "ours, each row its noise": lambda x: ours(x, 0.03, of_rows=True),
        "and 10 % missing": lambda x: ours(x, 0.03, of_rows=True, missing=0.1),
        "sklearn, reg 1e-6": lambda x: scikit_learns(x, 1e-6),
        "sklearn, reg 1e-3": lambda x: scikit_learns(x, 1e-3),
        "sklearn, noise 0.03": lambda x: scikit_learns(x, 1e-6, 0.03),
    }
    rows = []
    for n in numbers:
        x, distance = flat_data(n)
        for name, fit in ways.items():
            seconds = []
            for _ in range(2 if "sklearn" not in name else 1):  # the first compiles
                begin = time.perf_counter()
                size, samples = fit(x)
                seconds.append(time.perf_counter() - begin)
            far = float(np.sqrt(np.mean(distance(samples) ** 2)))
            times = [number_text(seconds[0]), number_text(seconds[1]) if seconds[1:] else ""]
            rows.append([f"{n:,}", name, str(size), number_text(far), *times])
    columns = ["rows", "", "k", "off by, rms", "s, first", "s, again"]
    print_table(
        f"{PLANES} planes in {DIM} columns; k from {SIZES[0]} to {SIZES[-1]}", columns, rows
    )
    for peer, module in (("astroML", "astroML"), ("XDGMM", "xdgmm")):
        if importlib.util.find_spec(module) is None:
            print(f"{peer}: not installed")


if __name__ == "__main__":
    main()
