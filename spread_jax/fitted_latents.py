"""A prior fitted to every finished run of a VAE."""

import functools
from collections.abc import Sequence

import jax
import numpy as np
from jaxtyping import Array, PRNGKeyArray, PyTree

from spread_jax.data.datasets import Dataset
from spread_jax.gaussian_mixture import GaussianMixture
from spread_jax.models.fitted_latent import (
    SIZES,
    FittedLatentVAE,
    draw,
    fit_latent_mixture,
    posterior_draws,
)
from spread_jax.models.vae import VAE
from spread_jax.spreads import Spread
from spread_jax.sweeps import Sweep
from spread_jax.training import Hyper, OfHyper


def with_fitted_latents(
    model: VAE,
    runs: Sweep,
    data: Dataset,
    *,
    spread: OfHyper[Spread],
    sizes: Sequence[int] = SIZES,
    seed: int = 0,
) -> tuple[FittedLatentVAE, Sweep]:
    """The model and the runs with a latent for each, by :func:`spread_jax.aggregate_latent`.

    It is fitted to training rows, and its size is chosen on validation rows. A run whose encoder
    makes a number that is not finite keeps N(0, I).

    Args:
      model, runs, data: what was trained, and on what.
      spread: the noise that the trained encoder sees.
      sizes: numbers of components to choose from.
      seed: of the draws.
    """

    @jax.jit
    def draw_batch(params: PyTree, hyper: Hyper, key: PRNGKeyArray, x: Array) -> Array:
        return draw(key, x, lambda y: model.encode(params, y), spread(hyper))

    lead = tuple(runs.sizes.values())
    fit_key, choose_key = jax.random.split(jax.random.key(seed))
    mixtures = []
    for index in np.ndindex(*lead):
        params = jax.tree.map(lambda leaf, index=index: leaf[index], runs.stacked_params)
        hyper = jax.tree.map(lambda numbers, index=index: numbers[index], runs.hyper)
        draw_of_run = functools.partial(draw_batch, params, hyper)
        z = posterior_draws(fit_key, draw_of_run, data.train)
        held_out = posterior_draws(choose_key, draw_of_run, data.validation)
        finite = np.isfinite(z).all() and np.isfinite(held_out).all()
        mixtures.append(
            fit_latent_mixture(z, held_out, sizes)
            if finite
            else GaussianMixture.standard(z.shape[1])
        )
    most = max(len(mixture.weights) for mixture in mixtures)
    stacked = jax.tree.map(
        lambda *leaves: np.stack(leaves).reshape(*lead, *leaves[0].shape),
        *(mixture.padded(most) for mixture in mixtures),
    )
    params = {"vae": runs.stacked_params, "latent": stacked}
    return FittedLatentVAE(model), runs._replace(stacked_params=params)
