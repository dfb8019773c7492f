"""Judging finished runs: recovery, clean-sample distances, rates with their intervals."""

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

from spread_jax.guard import runaway_step
from spread_jax.oracles import GaussianMixture, spread_kl, two_modes
from spread_jax.training import NEVER


def recovered_two_modes(mean: ArrayLike, std: ArrayLike, data_std: float) -> NDArray[np.bool_]:
    """Whether each run found both modes, up to swapping its two components.

    Both |mean_x ∓ 1| < data_std and both |std_x - data_std| < data_std / 2.

    Args:
      mean: decoder means, ``[..., 2 components, 2 dims]``.
      std: decoder clean standard deviations, the same shape.
      data_std: the standard deviation of a mode.

    Returns:
      ``[...]``; a run with a number that is not finite has not recovered.
    """
    mean_x, std_x = np.asarray(mean)[..., 0], np.asarray(std)[..., 0]
    means_right = np.abs(np.sort(mean_x, axis=-1) - [-1.0, 1.0]) < data_std
    stds_right = np.abs(std_x - data_std) < data_std / 2
    return (means_right & stds_right).all(axis=-1)


def spread_kl_of_components(
    truth: GaussianMixture, mean: ArrayLike, std: ArrayLike, sigma_fix: float
) -> NDArray[np.float64]:
    """KL(p~ || q~) for each run, q the equal mixture of its decoder's components, in nats.

    Args:
      truth: the clean law of the data.
      mean, std: ``[..., component, dim]``.
      sigma_fix: standard deviation of the noise that all runs are judged at, > 0.

    Returns:
      ``[...]``, NaN where a run has a number that is not finite.

    Raises:
      ValueError: if ``sigma_fix`` is not positive.
    """
    mean, std = np.asarray(mean, np.float64), np.asarray(std, np.float64)
    components = mean.shape[-2:]
    weights = np.full(components[0], 1 / components[0])
    divergence = [
        spread_kl(truth, GaussianMixture(weights, m, s), sigma_fix)
        if np.isfinite(m).all() and np.isfinite(s).all()
        else np.nan
        for m, s in zip(mean.reshape(-1, *components), std.reshape(-1, *components), strict=True)
    ]
    return np.array(divergence).reshape(mean.shape[:-2])


def energy_distance(x: ArrayLike, y: ArrayLike) -> float:
    """√(2 E‖X - Y‖ - E‖X - X'‖ - E‖Y - Y'‖), over all pairs of points, in data units.

    The V-statistic: never negative, zero for equal sets, of order n^(-1/2) for two samples of
    one law. With ``dim`` 1 it is :func:`scipy.stats.energy_distance`.

    Args:
      x, y: clean samples, ``[n, dim]`` and ``[m, dim]``.

    References:
      Székely, Rizzo, "Energy statistics", Journal of Statistical Planning and Inference (2013).
    """
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    squared = 2 * cdist(x, y).mean() - cdist(x, x).mean() - cdist(y, y).mean()
    return float(np.sqrt(max(squared, 0.0)))


def energy_distance_of_components(
    truth: GaussianMixture, mean: ArrayLike, std: ArrayLike, num_samples: int = 200
) -> NDArray[np.float64]:
    """Energy distance between clean samples of each run and of the truth, in data units.

    Samples are stratified by component and drawn with the same noise for all, so that a run that
    equals the truth is at distance 0, and not at that of two independent samples.

    Args:
      truth: the clean law of the data, of equal weights.
      mean, std: ``[..., component, dim]``.
      num_samples: points per law.

    Returns:
      ``[...]``, NaN where a run has a number that is not finite.
    """
    mean, std = np.asarray(mean, np.float64), np.asarray(std, np.float64)
    components = mean.shape[-2:]
    noise = np.random.default_rng(0).standard_normal((num_samples // components[0], *components))

    def points(means: NDArray[np.float64], stds: NDArray[np.float64]) -> NDArray[np.float64]:
        order = np.argsort(means[:, 0])
        return (means[order] + stds[order] * noise).reshape(-1, components[1])

    true_points = points(truth.means, truth.stds)
    distance = [
        energy_distance(true_points, points(m, s))
        if np.isfinite(m).all() and np.isfinite(s).all()
        else np.nan
        for m, s in zip(mean.reshape(-1, *components), std.reshape(-1, *components), strict=True)
    ]
    return np.array(distance).reshape(mean.shape[:-2])


def wasserstein(x: ArrayLike, y: ArrayLike) -> float:
    """W2 = min over permutations π of √(Σ_i ‖x_i - y_π(i)‖² / n), exact, in data units.

    By SciPy's assignment solver; about n³: 0.03 s for 500 points, 0.2 s for 1,000. Between two
    independent samples of separate modes the chance imbalance of their counts drowns all else:
    give it samples stratified by mode.

    Args:
      x, y: clean samples, both ``[n, dim]``.

    Raises:
      ValueError: if the shapes differ.
    """
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    if x.shape != y.shape:
        raise ValueError(f"the samples must have equal shapes, got {x.shape} and {y.shape}")
    cost = cdist(x, y, "sqeuclidean")
    return float(np.sqrt(cost[linear_sum_assignment(cost)].mean()))


def wilson_interval(successes: int, trials: int) -> tuple[float, float]:
    """(p + z²/2n ± z √(p(1-p)/n + z²/4n²)) / (1 + z²/n): Wilson's 95 % interval of a rate p.

    As :func:`scipy.stats.binomtest` gives it; importing scipy.stats would cost a command 0.6 s.

    Raises:
      ValueError: if there are no trials, or not from 0 to ``trials`` successes.

    References:
      Wilson, "Probable inference, the law of succession, and statistical inference", JASA (1927).
    """
    if not (trials >= 1 and 0 <= successes <= trials):
        raise ValueError(f"there must be 0 to n successes in n >= 1, got {successes} in {trials}")
    rate, z_squared = successes / trials, NormalDist().inv_cdf(0.975) ** 2
    centre = (rate + z_squared / (2 * trials)) / (1 + z_squared / trials)
    variance = rate * (1 - rate) / trials + z_squared / (4 * trials**2)
    half = math.sqrt(z_squared * variance) / (1 + z_squared / trials)
    return max(0.0, centre - half), min(1.0, centre + half)


def median_over_runs(values: Sequence[float | None]) -> float | None:
    """The median, a run without a number counting as the largest; None if the median is such."""
    median = np.median([np.inf if value is None else value for value in values])
    return float(median) if np.isfinite(median) else None


def judge_two_modes(dataset: xr.Dataset, data_std: float, sigma_fix: float) -> xr.Dataset:
    """Adds what is known of each run on the two-mode data, from its decoder at the last step.

    Args:
      dataset: of a sweep, with ``loss`` ``[..., step]``, ``mean`` and ``std``
        ``[..., step, component, dim]``, and the coordinates ``step`` and ``sigma_fix``.
      data_std: standard deviation of a mode.
      sigma_fix: the noise that every run's spread KL is judged at; at 0 that is not known (NaN).

    Returns:
      The dataset with ``recovered``, ``min_std``, ``spread_kl``, ``energy_distance`` and
      ``alarm_step``, of :func:`~spread_jax.guard.runaway_step` at the run's own ``sigma_fix``.
    """
    last = dataset[["mean", "std"]].isel(step=-1).transpose(..., "component", "dim")
    dims = last["mean"].dims[:-2]
    mean, std = last["mean"].values, last["std"].values
    truth = two_modes(data_std)
    divergence = (
        spread_kl_of_components(truth, mean, std, sigma_fix)
        if sigma_fix > 0
        else np.full(mean.shape[:-2], np.nan)
    )
    judged = {
        "recovered": (recovered_two_modes(mean, std, data_std), "both modes found", "1"),
        "min_std": (std.min(axis=(-2, -1)), "smallest decoder std, last step", "data units"),
        "spread_kl": (divergence, f"spread KL to the truth at sigma_fix {sigma_fix:g}", "nats"),
        "energy_distance": (
            energy_distance_of_components(truth, mean, std),
            "energy distance of clean samples to the truth's",
            "data units",
        ),
        "alarm_step": (
            _alarm_step(dataset, data_std).transpose(*dims).values,
            "step at which the likelihood was seen running away, -1 if it was not",
            "step",
        ),
    }
    return dataset.assign(
        {
            name: (dims, values, {"long_name": long_name, "units": units})
            for name, (values, long_name, units) in judged.items()
        }
    )


def two_mode_scale(data_std: float) -> float:
    """√((1 + s²) / 2): :func:`~spread_jax.guard.data_scale` of the two modes, (1 + s², 0) of it."""
    return math.sqrt((1 + data_std**2) / 2)


def _alarm_step(dataset: xr.Dataset, data_std: float) -> xr.DataArray:
    return xr.apply_ufunc(
        runaway_step,
        dataset["loss"],
        dataset["std"].min(("component", "dim")),
        dataset["sigma_fix"],
        input_core_dims=[["step"], ["step"], []],
        kwargs={
            "scale": two_mode_scale(data_std),
            "record_every": int(dataset["step"][0]),
        },
    )


def over_seeds(arm: xr.Dataset) -> dict[str, Any]:
    """The rates and medians of one arm or cell, a judged dataset with the one axis ``seed``.

    Returns:
      ``recovery_rate``, ``recovery_interval`` (Wilson, 95 %), ``nonfinite_rate``, ``alarm_rate``
      and ``median_<key>`` for each number of :func:`per_seed`; None where there is no number.
    """
    seeds = per_seed(arm)
    recovered = arm["recovered"].values
    return {
        "recovery_rate": float(recovered.mean()),
        "recovery_interval": wilson_interval(int(recovered.sum()), recovered.size),
        "nonfinite_rate": float(np.mean(arm["first_nonfinite_step"].values != NEVER)),
        "alarm_rate": float(np.mean(arm["alarm_step"].values != NEVER)),
        **{f"median_{key}": median_over_runs(seeds[key]) for key in NUMBERS},
    }


NUMBERS = (
    "spread_kl",
    "energy_distance",
    "late_loss_std",
    "max_loss_rise",
    "min_std",
    "first_nonfinite_step",
    "alarm_step",
)


def per_seed(arm: xr.Dataset) -> dict[str, list[Any]]:
    """Each run's numbers, lists over ``seed``: decoder ``mean`` and ``std`` at the last step,
    ``recovered`` and the NUMBERS; None for what is not finite or not known."""
    last = arm[["mean", "std"]].isel(step=-1).transpose("seed", "component", "dim")
    return {
        "mean": last["mean"].values.tolist(),
        "std": last["std"].values.tolist(),
        "recovered": arm["recovered"].values.tolist(),
        **{key: known_numbers(arm[key]) for key in NUMBERS},
    }


def known_numbers(values: xr.DataArray) -> list[float | None]:
    """A variable's numbers over ``seed``; None for what is not finite, or never happened."""
    known = np.isfinite(values.values) & (
        values.values != NEVER if str(values.name).endswith("_step") else True
    )
    return [float(x) if ok else None for x, ok in zip(values.values, known, strict=True)]
