"""What figures of images and tables show of a trained VAE: samples, reconstructions, traversals."""

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array, PyTree

from spread_jax.judgement import Run
from spread_jax.models.vae import VAE
from spread_jax.spreads import Spread

NUM_TRAVERSED = 6  # latent dimensions
TRAVERSED = np.linspace(-2, 2, 9)  # standard deviations of the prior


def pictures(run: Run, own: Run, fitted: Run, means: Run, count: int) -> xr.Dataset:
    """Arrays that figures show of a run of a VAE with a Gaussian latent.

    Args:
      run: as :func:`spread_jax.judgement.each_run` yields it, its latent N(0, I).
      own: the run with the latent that is the arm's own.
      fitted, means: the run with its fitted latent, and this one without the decoder's variance.
      count: pictures of each kind.

    Returns:
      ``samples`` of the arm's own latent, ``normal_samples`` of N(0, I), ``fitted_samples``,
      ``fitted_means`` and ``reconstructions`` (the decoder's means at the posterior means of
      held-out data, spread as the run's data were) [picture, pixel]; and ``traversal``, the
      decoder's means along the latent dimensions that the posterior means vary in most [latent,
      value, pixel].
    """
    x = run.held_out[:count]
    spread_of_means = np.asarray(run.held_out_bound.posterior[0]).std(axis=0)
    largest = np.argsort(-spread_of_means)[:NUM_TRAVERSED]
    direction = np.eye(len(spread_of_means), dtype=np.float32)[largest]
    z = direction[:, None] * TRAVERSED[:, None]  # [latent, value, dim]
    images = ("picture", "pixel")
    return xr.Dataset(
        {
            "samples": (images, own.samples[: len(x)]),
            "normal_samples": (images, run.samples[: len(x)]),
            "fitted_samples": (images, fitted.samples[: len(x)]),
            "fitted_means": (images, means.samples[: len(x)]),
            "reconstructions": (images, run.ask(_reconstruct, jax.random.key(0), jnp.asarray(x))),
            "traversal": (("latent", "value", "pixel"), run.ask(_decode, jnp.asarray(z, "f4"))),
        },
        coords={"value": TRAVERSED},
    )


def project_table(shown: xr.Dataset) -> xr.Dataset:
    """``shown`` with its table rows in the plane of the two directions that held-out rows vary most
    in: x → (x - mean of the held-out rows) @ directions.

    Args:
      shown: ``held_out [picture, pixel]`` and ``samples [cell, picture, pixel]``.

    Returns:
      The same with ``held_out_projected [picture, direction]`` and ``samples_projected [cell,
      picture, direction]``, in data units. Of a table of one column the second coordinate is 0.
    """
    shown, held_out = shown.copy(), shown["held_out"].values
    centre = held_out.mean(axis=0)
    directions = np.linalg.svd(held_out - centre, full_matrices=False)[2][:2].T
    directions = np.pad(directions, ((0, 0), (0, 2 - directions.shape[1])))  # of one column
    for name in ("held_out", "samples"):
        x = shown[name].transpose(..., "pixel")
        dims, projected = (*x.dims[:-1], "direction"), (x.values - centre) @ directions
        shown[f"{name}_projected"] = (dims, projected, {"units": "data units"})
    return shown


def _reconstruct(vae: VAE, params: PyTree, spread: Spread, key: Array, x: Array) -> Array:
    return vae.decode(params, vae.encode(params, spread.sample(key, x))[0])[0]


def _decode(vae: VAE, params: PyTree, spread: Spread, z: Array) -> Array:
    return vae.decode(params, z)[0]
