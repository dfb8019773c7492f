"""Spread divergences for generative models with a likelihood, on data that have no density.

A VAE whose decoder learns its variance has an unbounded likelihood on data that lie on a thin
set. Adding the same noise to the data and to the model, and comparing those, repairs it:

    spread_elbo(key, x, encode=..., decode=..., latent=..., spread=gaussian_spread(0.1))

What to begin with:

    spread_elbo, elbo, importance_weighted_bound  bounds in nats, from any encode and decode
    gaussian_spread, laplace_spread, ...          noise laws n(y|x)
    bernoulli_latent, gaussian_latent             p(z) and q(z|y)
    make_training, sweep                          a run as pure functions; many, as one program
    make_vae, vae_training                        a ready VAE, for a data set of your own
    diagnose, suggest_sigma, runaway_step         are the data thin, which noise; an alarm
    oracles                                       exact truths, by quadrature

The examples in the docstrings assume

    import jax, jax.numpy as jnp, numpy as np, optax
    import spread_jax as sj

Modules, floor by floor (imports point downwards only):
  0  files, machine, normal_laplace;
     datasets, spreads, validity, latents, manifolds, networks, diagnosis
  1  objectives, oracles, denoising, linear_models; divergences
  2  training, guard, vae, sample_quality, evaluation, checkpoints
  3  sweeps, figures
"""

import importlib
from typing import Any

_HOME = {
    "Spread": "spreads",
    "gaussian_spread": "spreads",
    "no_spread": "spreads",
    "laplace_spread": "spreads",
    "low_rank_spread": "spreads",
    "fixed_volume_spread": "spreads",
    "injective_mean_spread": "spreads",
    "with_gaussian": "spreads",
    "Validity": "validity",
    "is_valid_spread": "validity",
    "Latent": "latents",
    "bernoulli_latent": "latents",
    "gaussian_latent": "latents",
    "sample_two_modes": "manifolds",
    "sample_ring": "manifolds",
    "sample_spiral": "manifolds",
    "embed": "manifolds",
    "read_table": "files",
    "Dataset": "datasets",
    "load_dataset": "datasets",
    "Diagnosis": "diagnosis",
    "diagnose": "diagnosis",
    "suggest_sigma": "diagnosis",
    "standardize": "diagnosis",
    "ElboTerms": "objectives",
    "elbo": "objectives",
    "spread_elbo": "objectives",
    "importance_weighted_bound": "objectives",
    "sample": "objectives",
    "tweedie": "denoising",
    "denoise_by_decoder": "denoising",
    "point_divergence": "divergences",
    "spread_divergence": "divergences",
    "Training": "training",
    "make_training": "training",
    "data_scale": "guard",
    "runaway_step": "guard",
    "VAE": "vae",
    "make_vae": "vae",
    "vae_training": "vae",
    "frechet_distance": "sample_quality",
    "precision_recall": "sample_quality",
    "sweep": "sweeps",
}
_MODULES = (
    "machine",
    "normal_laplace",
    "spreads",
    "validity",
    "latents",
    "manifolds",
    "files",
    "datasets",
    "networks",
    "diagnosis",
    "objectives",
    "oracles",
    "denoising",
    "linear_models",
    "divergences",
    "training",
    "guard",
    "vae",
    "sample_quality",
    "evaluation",
    "checkpoints",
    "sweeps",
    "figures",
)

__all__ = [*_HOME, *_MODULES]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    # lazy, so that a command can print its help without waiting for jax
    if name in _HOME:
        return getattr(importlib.import_module(f"spread_jax.{_HOME[name]}"), name)
    if name in _MODULES:
        return importlib.import_module(f"spread_jax.{name}")
    raise AttributeError(f"module 'spread_jax' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
