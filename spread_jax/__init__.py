"""Spread divergences for generative models with a likelihood, on data that have no density.

A VAE whose decoder learns its variance has an unbounded likelihood on data that lie on a thin
set. Adding the same noise to the data and to the model, and comparing those, repairs it:

    spread_elbo(key, x, encode=..., decode=..., latent=..., spread=gaussian_spread(0.1))

What to begin with:

    spread_elbo, elbo, importance_weighted_bound  bounds in nats, from any encode and decode
    gaussian_spread, laplace_spread, ...          noise laws n(y|x)
    bernoulli_latent, gaussian_latent             p(z) and q(z|y)
    make_vae, mixture_model, density_model        models that a spread trains
    fit_mixture, spread_density                   mixtures of noisy rows; a site of NumPyro
    model_training, make_training, sweep          a run as pure functions; many, as one program
    judge, Metric, over_seeds                     from runs to numbers
    diagnose, suggest_sigma, runaway_step         are the data thin, which noise; an alarm
    problems, oracles                             data laws on thin sets, and their exact truths

The examples in the docstrings assume

    import jax, jax.numpy as jnp, numpy as np, optax, xarray as xr
    import spread_jax as sj

What the package offers stands in ``__init__.pyi``, which type checkers read too. A name is
imported when it is first used, so that a command can print its help without waiting for JAX.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
__version__ = "0.2.0"
