"""Arms side by side: their programs, and their judged cells as one dataset."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from spread_jax.aggregate import best
from spread_jax.arms import Arm, Structure, arm_training, last_spread_of
from spread_jax.models.model import Observe
from spread_jax.models.optimal_variance import optimal_variance_vae
from spread_jax.models.vae import VAE
from spread_jax.spreads import NoiseLaw, Spread, gaussian_spread
from spread_jax.sweeps import Variable
from spread_jax.training import OfHyper, Training


class Program(NamedTuple):
    """The arms of one structure, as one ``training`` of a ``model``.

    Attributes:
      structure: of its arms.
      spread: of the last step, for :func:`spread_jax.judge`.
      cells: for :func:`spread_jax.sweep`, with the name of their ``arm``.
    """

    structure: Structure
    model: VAE
    training: Training
    spread: OfHyper[Spread]
    cells: list[dict[str, Any]]

    @property
    def arms(self) -> list[str]:
        """The names of its arms, each once."""
        return list(dict.fromkeys(cell["arm"] for cell in self.cells))


SIGMA_VARIABLES = {
    "sigma": Variable(("pixel",), "geometric mean of the σ of the decoder", "data units"),
    "min_sigma": Variable((), "smallest σ of the decoder", "data units"),
    "median_sigma": Variable((), "median σ of the decoder", "data units"),
    "joint_sigma": Variable((), "joint σ of the decoder, smallest", "data units"),
}
"""Labels of what :func:`spread_jax.models.vae.watch_sigma` observes."""


def programs(
    arms: Mapping[str, Arm],
    make_model: Callable[[Structure], VAE],
    *,
    sigma_fix: Sequence[float],
    others: Sequence[Mapping[str, Any]],
    observe: Callable[[VAE], Observe],
    noise: NoiseLaw = gaussian_spread,
    anneal_from: float | None = None,
    grey_step: float | None = None,
    **training: Any,
) -> list[Program]:
    """What trains these arms, a program for each structure among them.

    Args:
      arms: name → arm.
      make_model: ``(structure) -> VAE``, its decoder as the structure says.
      sigma_fix: at which each arm that has noise is trained.
      others: the numbers of a cell beside the arm's own, ``learning_rate`` among them, and what
        labels it; each arm is trained at all of these.
      observe: ``(model) -> observe``.
      noise: as in :func:`spread_jax.arms.spread_of`.
      anneal_from: sigma_fix of the first step of each arm whose noise falls; by default those of
        ``sigma_fix``.
      grey_step: between two grey levels, for an arm that dequantizes.
      **training: ``sample_batch``, ``num_steps``, more: as in :func:`spread_jax.model_training`.
    """

    def sigmas(arm: Arm) -> Sequence[float]:
        if arm.structure.dequantizes:
            if grey_step is None:
                raise ValueError(f"{arm.label}: must be an arm of images, whose grey levels differ")
            return [grey_step / math.sqrt(12)]
        return [anneal_from] if anneal_from and arm.is_annealed else sigma_fix

    found = []
    for structure in dict.fromkeys(arm.structure for arm in arms.values()):
        model = make_model(structure)
        if structure.variance == "optimal":
            model = optimal_variance_vae(model)
        cells = [
            {"arm": name, **cell, **other}
            for name, arm in arms.items()
            if arm.structure == structure
            for cell in arm.cells(sigmas(arm))
            for other in others
        ]
        of_arms = arm_training(structure, model, noise=noise, observe=observe(model), **training)
        found.append(Program(structure, model, of_arms, last_spread_of(structure, noise), cells))
    return found


def together(parts: Sequence[xr.Dataset], arms: Mapping[str, Arm]) -> xr.Dataset:
    """The judged cells of several programs as one dataset, in the order of the arms, described.

    A number that one program did not have or record is NaN in its cells, and what it did not ask
    is False.
    """
    labels = {name for part in parts for name in part.coords}
    dataset = xr.concat(
        [part.reset_coords() for part in parts], "cell", join="outer", data_vars="all"
    ).set_coords(labels)
    for name in {name for part in parts for name in part if part[name].dtype == bool}:
        dataset[name] = dataset[name].fillna(False).astype(bool)
    place = list(arms).index
    order = np.argsort([place(name) for name in dataset["arm"].values.tolist()], kind="stable")
    dataset = dataset.isel(cell=order)
    return describe(dataset, [arms[name] for name in dataset["arm"].values])


def best_cells(judged: xr.Dataset, name: str) -> list[int]:
    """For each ``arm`` along ``cell``, in order, its cell with the best middle over the seeds of a
    metric, which is to be one of validation data."""
    names = judged["arm"].values
    of_arms = [np.flatnonzero(names == arm) for arm in dict.fromkeys(names)]
    return [int(cells[best(judged[[name]].isel(cell=cells), name, "cell")]) for cells in of_arms]


def describe(judged: xr.Dataset, arms: Sequence[Arm], dim: str = "cell") -> xr.Dataset:
    """Says how the arm of every place along ``dim`` is shown: all that figures know of an arm."""
    shown = ("label", "color", "has_noise", "has_floor", "variance", "fitted_latent")
    return judged.assign_coords({n: (dim, [getattr(arm, n) for arm in arms]) for n in shown})
