"""The exact optimum of the spread objective on the two modes, as runs that can be judged."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array, PyTree
from numpy.typing import ArrayLike

from spread_jax.latents import Latent
from spread_jax.models.vae import VAE
from spread_jax.oracles import deconvolved_mixture, sample_mixture
from spread_jax.problems.two_modes import two_mode_mixture
from spread_jax.sweeps import Sweep
from spread_jax.sweeps.labels import lay_out

NOISY_POINTS = 10_000  # that the optimum sees


def two_component_vae(latent: Latent) -> VAE:
    """A VAE whose params are its two components, ``mean`` and ``std`` ``[2, dim]``; it has no
    encoder, so it can be sampled and not trained."""

    def decode(params: PyTree, z: Array) -> tuple[Array, Array]:
        state = z[..., 0].astype(jnp.int32)
        return params["mean"][state], jnp.square(params["std"][state])

    def nothing(*arguments: Array) -> PyTree:
        raise ValueError("this model is not trained: its components are found exactly")

    return VAE(nothing, nothing, decode, latent)


def deconvolved_runs(
    cells: Sequence[Mapping[str, Any]], sigma_fix: float, seeds: ArrayLike
) -> Sweep:
    """For each cell and seed the mixture of :func:`spread_jax.oracles.deconvolved_mixture`, from
    10,000 noisy points: many draws of noise for each point of a small data set, as in training.

    Args:
      cells: with ``data_std``, and ``data_size`` where the data are a finite set.
      sigma_fix: standard deviation of the noise.
      seeds: of the points and their noise.

    Returns:
      Runs with params ``mean`` and ``std``, which are also their one record; no loss.
    """
    seeds = np.asarray(seeds)
    layout = lay_out(cells, seeds)
    params = {name: np.empty((*layout.shape, 2, 2), np.float32) for name in ("mean", "std")}
    for i, j in np.ndindex(*layout.shape):
        truth = two_mode_mixture(float(cells[i]["data_std"]))
        start = truth._replace(stds=np.full((2, 2), sigma_fix))
        size = int(cells[i].get("data_size", NOISY_POINTS))
        rng = np.random.default_rng(seeds[j])
        points = sample_mixture(rng, size, truth)
        points = np.repeat(points, math.ceil(NOISY_POINTS / size), axis=0)
        y = points + sigma_fix * rng.standard_normal(points.shape)
        found = deconvolved_mixture(y, sigma_fix, start, num_em_steps=20)
        params["mean"][i, j], params["std"][i, j] = found.means, found.stds
    dims = (*layout.dims, "step", "component", "dim")
    dataset = xr.Dataset(
        {name: (dims, values[:, :, None]) for name, values in params.items()},
        {**layout.coords, "step": [1]},
    )
    no_loss = (layout.dims, np.full(layout.shape, np.nan), {"units": "step"})
    return Sweep(dataset.assign(first_nonfinite_step=no_loss), params, layout.hyper, 0.0, 0.0)
