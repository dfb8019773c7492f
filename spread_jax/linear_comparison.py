"""The EM algorithms of :mod:`spread_jax.linear_models` side by side on the same data.

results = compare_linear_models(num_seeds=4, gamma=(0.1, 0.0))
summary = over_seeds(results)
print(summary["error"].isel(iteration=-1).sel(model="ica", statistic="middle").to_pandas())
figures.error_against_gamma_figure(summary).savefig("error.png")
"""

import time
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from jaxtyping import Array, PRNGKeyArray

from spread_jax import linear_models as lm

ALGORITHMS = {
    "em": "ordinary EM",
    "spread_em": "isotropic spread EM",
    "structured_spread_em": "structured spread EM",
}
VARIABLES = {
    "error": ("model algorithm gamma seed iteration", "relative error of A", "1"),
    "seconds": ("model algorithm iteration", "wall seconds of all seeds, over their number", "s"),
    "eigen_error": ("gamma seed", "PCA's eigen-solution, error", "1"),
    "effective_sample_size": ("gamma seed", "isotropic spread EM, last iterations, share", "1"),
    "fastica_error": ("seed", "FastICA at gamma 0, error", "1"),
}
RECORDS = 50  # points of a curve
RELAXATION = 1.3  # of structured spread EM
# of both methods by importance sampling; it falls to 0 over the last four tenths, to average them
SAMPLED_RELAXATION = 1.8
EARLY_POINTS = 4_000  # of structured spread EM's first stage, which only has to come near


def compare_linear_models(
    *,
    num_seeds: int = 16,
    seed: int = 0,
    gamma: Sequence[float] = (1.0, 0.3, 0.1, 0.01, 0.001, 0.0),
    points: int = 20_000,
    observed: int = 20,
    latent: int = 10,
    iterations: int = 500,
    sigma: float = 1.0,
    structured_sigma: float = 0.5,
    batch_size: int = 500,
    samples: int = 20,
    on_stage: Callable[[str], None] = lambda stage: None,
) -> xr.Dataset:
    """‖A Aᵀ - S‖ / ‖S‖ (PCA) and min ‖A P D - A*‖ / ‖A*‖ (ICA) along EM's iterations.

    Args:
      num_seeds, seed: runs (A, data, start, noise); run i starts from ``key(seed + i)``.
      gamma: standard deviations of the observation noise, in data units, each once.
      points, observed, latent: a run's number of points, the dimension of x, and that of z.
      iterations: of every method, a multiple of 50.
      sigma: standard deviation of the isotropic spread, in data units.
      structured_sigma: that of the structured spread, in units of z; ICA halves it for the last
        8 % of the iterations.
      batch_size, samples: points per iteration, and importance samples of z per point, of the
        methods that sample z (ICA, ordinary and isotropic).
      on_stage: is told what comes next.

    Returns:
      ``error`` [model, algorithm, gamma, seed, iteration]; ``seconds`` [model, algorithm,
      iteration] of one run; ``effective_sample_size`` [gamma, seed] of isotropic spread EM, as a
      share of ``samples``; for reference ``eigen_error`` [gamma, seed] of PCA's exact solution and
      ``fastica_error`` [seed] of scikit-learn's FastICA at gamma 0. Attributes:
      ``compile_seconds``, and ``fastica_unconverged``, how many of FastICA's runs gave up.

    Raises:
      ValueError: for other iterations, or unless latent ≤ observed, latent ≤ batch_size ≤ points.
    """
    if iterations < RECORDS or iterations % RECORDS:
        raise ValueError(f"iterations must be a multiple of {RECORDS}, got {iterations}")
    if not 1 <= latent <= min(observed, batch_size) or batch_size > points:
        got = f"latent {latent}, observed {observed}, batch_size {batch_size}, points {points}"
        raise ValueError(f"must be latent ≤ observed and latent ≤ batch_size ≤ points, got {got}")
    every, shape = iterations // RECORDS, (latent, samples, batch_size)
    pca_em = _program(partial(_pca_step, lm.pca_em_step), iterations)
    pca_structured = _program(partial(_pca_step, lm.pca_structured_step), iterations)
    ica_em = _program(partial(_sampled_ica_step, seed, shape, iterations), iterations)
    ica_structured = [
        (_program(partial(_structured_ica_step, min(points, most)), records * every), level)
        # 80 % of the iterations on few points, 12 % on all, 8 % on all with less noise
        for most, records, level in (
            (EARLY_POINTS, 40, structured_sigma),
            (points, 6, structured_sigma),
            (points, 4, structured_sigma / 2),
        )
    ]
    stages: dict[tuple[str, str], list[tuple[Callable, float]]] = {
        ("pca", "em"): [(pca_em, 0.0)],
        ("pca", "spread_em"): [(pca_em, sigma)],
        ("pca", "structured_spread_em"): [(pca_structured, structured_sigma)],
        ("ica", "em"): [(ica_em, 0.0)],
        ("ica", "spread_em"): [(ica_em, sigma)],
        ("ica", "structured_spread_em"): ica_structured,
    }
    sample = partial(lm.sample_problem, points=points, observed=observed, latent=latent)
    gaussian, laplace = (
        jax.vmap(lambda key, gamma, law=law: sample(key, law=law, gamma=gamma), (0, None))
        for law in ("gaussian", "laplace")
    )
    runs = _Runs(seed, num_seeds)
    coords: dict[str, Any] = {
        "model": ["pca", "ica"],
        "algorithm": list(ALGORITHMS),
        "gamma": list(gamma),
        "seed": seed + np.arange(num_seeds),
        "iteration": every * np.arange(RECORDS + 1),
    }
    results = xr.Dataset(coords=coords)
    for name, (dims, words, units) in VARIABLES.items():
        empty = np.zeros([len(coords[dim]) for dim in dims.split()])
        better = "higher" if name == "effective_sample_size" else "lower"
        attributes = {"long_name": words, "units": units, "better": better}
        results[name] = (dims.split(), empty, attributes)
    for noise in gamma:
        of_pca, of_ica = runs(gaussian, noise)[0], runs(laplace, noise)[0]
        moments = jax.jit(jax.vmap(lm.second_moment))(of_pca.x)
        exact = np.asarray(moments, np.float64)
        results["eigen_error"].loc[{"gamma": noise}] = [
            lm.pca_error(lm.eigen_solution(moment, latent, noise), moment) for moment in exact
        ]
        cases = {
            "pca": (of_pca.start, moments, exact, lm.pca_error),
            "ica": (of_ica.start, of_ica.x, np.asarray(of_ica.factor), lm.ica_error),
        }
        for (model, algorithm), of_method in stages.items():
            start, data, truths, error_of = cases[model]
            on_stage(f"{model.upper()} at gamma {noise:g}: {ALGORITHMS[algorithm]}")
            factors, numbers, seconds = runs.fit(of_method, start, data, noise)
            place = {"model": model, "algorithm": algorithm}
            results["error"].loc[{**place, "gamma": noise}] = [
                [error_of(factor, truth) for factor in of_seed[::every]]
                for of_seed, truth in zip(factors, truths, strict=True)
            ]
            results["seconds"].loc[place] += seconds[::every] / len(gamma) / num_seeds
            if (model, algorithm) == ("ica", "spread_em"):
                effective = numbers[:, -every:].mean(axis=1)
                results["effective_sample_size"].loc[{"gamma": noise}] = effective
    on_stage("FastICA")
    results["fastica_error"][:], unconverged = _fastica(runs(laplace, 0.0)[0])
    return results.assign_attrs(
        compile_seconds=runs.compile_seconds, fastica_unconverged=unconverged
    )


class _Runs:
    """All runs at once by compiled programs, each compiled once."""

    def __init__(self, seed: int, num_seeds: int) -> None:
        self.compile_seconds = 0.0
        self._compiled: dict[Callable, Callable] = {}
        self.keys = jax.vmap(jax.random.key)(seed + jnp.arange(num_seeds))
        if num_seeds % len(jax.devices()) == 0:
            mesh = jax.make_mesh((len(jax.devices()),), ("seed",), axis_types=(AxisType.Auto,))
            self.keys = jax.device_put(self.keys, NamedSharding(mesh, PartitionSpec("seed")))

    def __call__(self, program: Callable, *arguments: Any) -> tuple[Any, float]:
        """``program(keys, *arguments)``, and the seconds that it ran."""
        before = time.perf_counter()
        if program not in self._compiled:
            self._compiled[program] = jax.jit(program).lower(self.keys, *arguments).compile()
        compiled = time.perf_counter()
        self.compile_seconds += compiled - before
        result = jax.block_until_ready(self._compiled[program](self.keys, *arguments))
        return result, time.perf_counter() - compiled

    def fit(
        self, stages: Sequence[tuple[Callable, float]], factor: Array, data: Array, gamma: float
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """A and the time so far [seed, iteration, ...], from the start on; the last stage's
        numbers."""
        factors, seconds = [factor[:, None]], [0.0]
        for program, sigma in stages:
            (fits, numbers), took = self(program, factor, data, gamma, sigma, len(seconds) - 1)
            factors.append(fits)
            seconds += [took / fits.shape[1]] * fits.shape[1]
            factor = fits[:, -1]
        curves = np.concatenate(factors, axis=1, dtype=np.float64)
        return curves, np.asarray(numbers), np.cumsum(seconds)


def _program(step: Callable, iterations: int) -> Callable:
    """All runs' A [seed, iteration, ...] and numbers; ``step`` is one iteration of one run."""

    def fit(keys, factors, data, gamma, sigma, first):
        def one(key, factor, data):
            def iteration(factor, i):
                factor, number = step(key, factor, data, gamma, sigma, i)
                return factor, (factor, number)

            return jax.lax.scan(iteration, factor, first + jnp.arange(iterations))[1]

        return jax.vmap(one)(keys, factors, data)

    return fit


def _pca_step(update, key, factor, moment, gamma, sigma, i):
    return update(factor, moment, gamma, sigma), sigma


def _sampled_ica_step(seed, shape, iterations, key, factor, x, gamma, sigma, i):
    batch_key, noise_key = jax.random.split(jax.random.fold_in(key, i))
    # the same for all runs: drawing them for each would cost more than the rest
    proposals = jax.random.normal(jax.random.fold_in(jax.random.key(seed), i), shape)
    relaxation = SAMPLED_RELAXATION * jnp.minimum((iterations - i) / (0.4 * iterations), 1)
    batch = _batch(batch_key, x, shape[-1])
    return lm.ica_isotropic_step(noise_key, factor, batch, proposals, gamma, sigma, relaxation)


def _structured_ica_step(points, key, factor, x, gamma, sigma, i):
    noise_key, batch_key = jax.random.split(jax.random.fold_in(key, i))
    batch = _batch(batch_key, x, points)
    return lm.ica_structured_step(noise_key, factor, batch, gamma, sigma, RELAXATION), sigma


def _batch(key: PRNGKeyArray, x: Array, points: int) -> Array:
    """Points are independent: any block of them is a random batch."""
    low = jax.random.randint(key, (), 0, len(x) - points + 1)
    return jax.lax.dynamic_slice_in_dim(x, low, points)


def _fastica(problem: lm.LinearProblem) -> tuple[list[float], int]:
    """The errors, and how many of the runs stopped before they converged."""
    # here, since figures import this file, and scikit-learn takes most of a second to import
    from sklearn.decomposition import FastICA
    from sklearn.exceptions import ConvergenceWarning

    errors, unconverged = [], 0
    for seed, (factor, x) in enumerate(zip(problem.factor, problem.x, strict=True)):
        options = {"whiten": "unit-variance", "max_iter": 1000, "tol": 1e-5}
        model = FastICA(factor.shape[1], random_state=seed, **options)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", ConvergenceWarning)
            model.fit(np.asarray(x, np.float64))
        unconverged += any(issubclass(w.category, ConvergenceWarning) for w in caught)
        errors.append(lm.ica_error(model.mixing_, np.asarray(factor)))
    return errors, unconverged
