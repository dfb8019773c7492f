"""What clean samples say of every cell of the comparison, beside what true samples would."""

import math
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

from experiments import arms
from spread_jax import evaluation, manifolds
from spread_jax.training import NEVER

JUDGE = 2**31 - 1  # folded into a run's key for the samples it is judged by
OFF_MANIFOLD = {
    "two_modes": manifolds.distance_to_line,
    "ring": manifolds.distance_to_ring,
    "spiral": manifolds.distance_to_spiral,
}


class Settings(Protocol):
    """What judging must know of a comparison's settings."""

    @property
    def seed(self) -> int: ...
    @property
    def seeds(self) -> int: ...
    @property
    def sigma_fix(self) -> float: ...
    @property
    def num_samples(self) -> int: ...
    @property
    def wasserstein_seeds(self) -> int: ...


def judge(
    settings: Settings, dataset: xr.Dataset, truths: dict[tuple[str, float], list]
) -> xr.Dataset:
    """Adds, per cell and seed, what clean samples and components say; keeps samples of one seed.

    ``truths`` remembers the true samples of each law from call to call.
    """
    shape = (dataset.sizes["cell"], dataset.sizes["seed"])
    names = ("energy_distance", "wasserstein")
    numbers = {
        name: np.full(shape, np.nan)
        for name in (*names, *(f"{name}_truth" for name in names), "off_manifold")
    }
    numbers |= {name: np.full(shape, np.nan) for name in ("sigma_x", "position_bias", "recovered")}
    for i in range(shape[0]):
        cell = dataset.isel(cell=i)
        data, data_std = str(cell["data"].values), float(cell["data_std"])
        if (data, data_std) not in truths:
            truths[data, data_std] = true_samples(settings, data, data_std)
        samples = cell["x"].values
        numbers["off_manifold"][i] = OFF_MANIFOLD[data](jnp.asarray(samples)).mean(axis=-1)
        for j, (truth, energy, wasserstein) in enumerate(truths[data, data_std]):
            numbers["energy_distance_truth"][i, j] = energy
            numbers["wasserstein_truth"][i, j] = wasserstein
            if np.isfinite(samples[j]).all():
                numbers["energy_distance"][i, j] = evaluation.energy_distance(samples[j], truth)
                if j < settings.wasserstein_seeds:
                    numbers["wasserstein"][i, j] = evaluation.wasserstein(samples[j], truth)
        if data == "two_modes":
            mean, std = cell["mean"].values, cell["std"].values
            numbers["sigma_x"][i] = std[..., 0].mean(axis=-1)
            numbers["position_bias"][i] = np.abs(np.diff(mean[..., 0])[..., 0]) / 2 - 1
            numbers["recovered"][i] = evaluation.recovered_two_modes(mean, std, data_std)
    units = {"recovered": "1"}
    judged = {
        name: (("cell", "seed"), array, {"units": units.get(name, "data units")})
        for name, array in numbers.items()
    }
    return dataset.assign(judged).assign(x=dataset["x"].isel(seed=0, drop=True))


def true_samples(
    settings: Settings, data: str, data_std: float
) -> list[tuple[np.ndarray, float, float]]:
    """For each seed a sample of the truth, and its distances to another such sample; Wasserstein's
    for the first seeds only, else NaN."""
    problem = arms.two_modes() if data == "two_modes" else arms.curves()
    hyper = {"data_std": data_std, "is_spiral": float(data == "spiral")}

    @jax.jit
    @jax.vmap
    def draw(seed):
        keys = jax.random.split(jax.random.fold_in(jax.random.key(seed), JUDGE - 1))
        return jax.vmap(lambda key: problem.sample_truth(key, settings.num_samples, hyper))(keys)

    pairs = np.asarray(draw(settings.seed + np.arange(settings.seeds, dtype=np.uint32)))
    return [
        (
            x,
            evaluation.energy_distance(x, again),
            evaluation.wasserstein(x, again) if i < settings.wasserstein_seeds else math.nan,
        )
        for i, (x, again) in enumerate(pairs)
    ]


def row(settings: Settings, cell: xr.Dataset) -> dict[str, Any]:
    """A cell's numbers: medians over seeds, means of what has a sign, the rate of recovery."""

    def median(name: str, num_seeds: int = settings.seeds) -> float | None:
        values = cell[name].values[:num_seeds]
        return evaluation.median_over_runs([float(v) if np.isfinite(v) else None for v in values])

    def mean(name: str) -> float | None:
        values = cell[name].values
        finite = values[np.isfinite(values)]
        return float(finite.mean()) if len(finite) else None

    arm, data = str(cell["arm"].values), str(cell["data"].values)
    two_modes, trained = data == "two_modes", arm != "deconvolution"
    data_std = float(cell["data_std"]) if two_modes else None
    recovered = cell["recovered"].values
    sigma_x = mean("sigma_x")
    return {
        "arm": arm,
        "data": data,
        "data_std": data_std,
        "data_size": int(cell["data_size"]) or None,
        "energy_distance": median("energy_distance"),
        "energy_distance_truth": median("energy_distance_truth"),
        "wasserstein": median("wasserstein", settings.wasserstein_seeds),
        "wasserstein_truth": median("wasserstein_truth", settings.wasserstein_seeds),
        "sigma_x": sigma_x,
        "sigma_x_bias": None if sigma_x is None or data_std is None else sigma_x - data_std,
        "sigma_x_median": median("sigma_x") if two_modes else None,
        "sigma_x_predicted": arms.predicted_sigma_x(arm, data_std, settings.sigma_fix)
        if data_std
        else None,
        "position_bias": mean("position_bias"),
        "off_manifold": median("off_manifold"),
        "recovery_rate": float(recovered.mean()) if two_modes else None,
        "recovery_interval": evaluation.wilson_interval(int(recovered.sum()), len(recovered))
        if two_modes
        else None,
        "late_loss_std": median("late_loss_std") if trained else None,
        "nonfinite_rate": float(np.mean(cell["first_nonfinite_step"].values != NEVER))
        if trained
        else None,
    }
