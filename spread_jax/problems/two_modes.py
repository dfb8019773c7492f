"""The failure case: two modes on a line of the plane, its exact truth, and its metrics."""

import math
from collections.abc import Callable, Sequence
from functools import cache, lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jax.typing import ArrayLike
from jaxtyping import Array, Float, PRNGKeyArray, PyTree
from numpy.typing import NDArray

from spread_jax.arms import ARMS
from spread_jax.comparison import describe
from spread_jax.data.datasets import Dataset
from spread_jax.judgement import Metric, Run, judge
from spread_jax.latents import bernoulli_latent
from spread_jax.metrics import (
    NONFINITE,
    energy_distance_given,
    mean_distance,
    runaway_alarm,
)
from spread_jax.models.model import Observe
from spread_jax.models.networks import BernoulliEncoder
from spread_jax.models.vae import VAE
from spread_jax.oracles import (
    Floats,
    GaussianMixture,
    spread_entropy,
    spread_log_prob,
    spread_quadrature,
)
from spread_jax.problems.problem import Problem
from spread_jax.sweeps import Sweep, Variable
from spread_jax.training import Training, model_training

Moments = NDArray[np.float64]  # ``[2 components, 2]``


def two_modes(data_std: ArrayLike = 0.1) -> Problem:
    """x = (a, 0), a ~ N(±1, data_std²), with a binary latent whose states are the modes.

    Args:
      data_std: standard deviation of a mode, in data units; it may be traced.

    Examples:
      >>> problem = sj.problems.two_modes(data_std=0.05)
      >>> x = problem.evenly.sample(jax.random.key(0), 1000)
      >>> int((x[:, 0] > 0).sum()), float(problem.distance(x).max())
      (500, 0.0)
    """
    latent = bernoulli_latent()

    def even_prior(key: PRNGKeyArray, n: int) -> Float[Array, "n 1"]:
        del key  # the two states in turn
        return (jnp.arange(n)[:, None] % 2).astype(jnp.float32)

    def sample_evenly(key: PRNGKeyArray, n: int) -> Float[Array, "n 2"]:
        z = even_prior(key, n)
        a = 2 * z - 1 + data_std * jax.random.normal(key, z.shape)
        return jnp.concatenate([a, jnp.zeros_like(a)], axis=-1)

    law = Problem(
        "two_modes",
        sample=lambda key, n: sample_two_modes(key, n, data_std),
        distance=lambda x: jnp.abs(x[..., 1]),
        latent=latent,
        encoder=lambda hidden: BernoulliEncoder(hidden),
    )
    even = latent._replace(sample_prior=even_prior)
    return law._replace(even=law._replace(sample=sample_evenly, latent=even))


VARIABLES = {
    "mean": Variable(("component", "dim"), "decoder mean", "data units"),
    "std": Variable(("component", "dim"), "decoder standard deviation, clean", "data units"),
}
"""Labels of what :func:`watch_components` observes."""


def watch_components(vae: VAE) -> Observe:
    """``(params) -> {"mean", "std"}``, each ``[2 components, 2]``: the decoder at z = 0 and z = 1.

    A deterministic decoder has std 0.
    """

    def observe(params: PyTree) -> dict[str, Array]:
        mean, var = vae.decode(params, jnp.array([[0.0], [1.0]]))
        return {"mean": mean, "std": jnp.zeros_like(mean) if var is None else jnp.sqrt(var)}

    return observe


def two_mode_metrics(
    data_std: float | None = None, sigma_fix: float | None = None, reference: float | None = None
) -> list[Metric]:
    """Of runs that observed :func:`watch_components`, from the last record.

    Args:
      data_std: standard deviation of a mode; by default the run's own, ``hyper["data_std"]``.
      sigma_fix: the noise that every run's spread KL is judged at; by default the run's own. At 0
        the spread KL is not known.
      reference: the noise of a further spread KL, at which all runs can be compared.
    """

    def of(function: Callable[[Moments, Moments, float], Any]) -> Callable[[Run], Any]:
        def of_run(run: Run) -> Any:
            mean, std = (run.curves[name][-1].astype(np.float64) for name in ("mean", "std"))
            return function(mean, std, run.hyper["data_std"] if data_std is None else data_std)

        return of_run

    def kl(name: str, sigma: float | None) -> Metric:
        def divergence(run: Run) -> float:
            at = run.hyper["sigma_fix"] if sigma is None else sigma
            return of(partial(spread_kl_of_components, sigma_fix=at))(run) if at else math.nan

        where = "the run's own sigma_fix" if sigma is None else f"sigma_fix {sigma:g}"
        return Metric(name, "nats", "lower", divergence, f"spread KL to the truth at {where}")

    units, energy = "data units", of(energy_distance_of_components)
    sigma_x = of(lambda mean, std, data_std: std[:, 0].mean())
    bias = of(lambda mean, std, data_std: np.ptp(mean[:, 0]) / 2 - 1)
    return [
        Metric("recovered", "1", "higher", of(recovered_two_modes), "both modes found"),
        kl("spread_kl", sigma_fix),
        *([] if reference is None else [kl("spread_kl_at_reference", reference)]),
        Metric("energy_distance", units, "lower", energy, "energy distance to the true law"),
        Metric("mode_error", units, "lower", of(mode_error), "largest error of a mode's place"),
        Metric("std_error", units, "lower", of(std_error), "largest error of a mode's std"),
        Metric(
            "min_sigma",
            units,
            "",
            of(lambda mean, std, data_std: std.min()),
            "smallest σ of the decoder",
        ),
        Metric("sigma_x", units, "", sigma_x, "std of a mode"),
        Metric("position_bias", units, "", bias, "half the distance of the modes, less 1"),
    ]


def two_mode_training(
    data_std: float = 0.1,
    *,
    hidden: Sequence[int] = (64,),
    batch_size: int = 128,
    num_steps: int = 10_000,
) -> tuple[VAE, Training]:
    """A VAE of the two modes, and its training on fresh batches, whose components are recorded.

    Args:
      data_std: as in :func:`two_modes`.
      hidden: widths of the hidden layers of encoder and decoder.
      batch_size, num_steps: of Adam, whose ``learning_rate`` the grid gives.
    """
    problem = two_modes(data_std)
    vae = problem.vae(hidden)
    observe = watch_components(vae)
    training = model_training(
        vae, sample_batch=problem.batches(batch_size), num_steps=num_steps, observe=observe
    )
    return vae, training


def judge_two_modes(
    model: VAE,
    runs: Sweep,
    data_std: float,
    *,
    sigma_fix: float | None = None,
    reference: float | None = None,
) -> xr.Dataset:
    """Runs that observed :func:`watch_components`, by every metric of the two modes.

    Each ``sigma_fix`` is described by its arm, as figures show it: 0 is the plain VAE.

    Args:
      model, runs: what was trained on two modes of this ``data_std``.
      sigma_fix, reference: as in :func:`two_mode_metrics`.
    """
    metrics = [
        *two_mode_metrics(data_std, sigma_fix, reference),
        *runaway_alarm("std", two_mode_scale(data_std)),
        NONFINITE,
    ]
    # judge asks for data, of which none of these metrics reads any: they know the true law
    means = two_mode_mixture(data_std).means.astype(np.float32)
    judged = judge(model, runs, Dataset("two_modes", means, means, means), metrics)
    arms = [ARMS["spread_vae" if sigma else "vae"] for sigma in judged["sigma_fix"].values]
    return describe(judged, arms, "sigma_fix")


def two_mode_scale(data_std: float) -> float:
    """√((1 + s²) / 2): :func:`spread_jax.data_scale` of the two modes; 1 + s² is the variance along
    the line, across it there is none."""
    return math.sqrt((1 + data_std**2) / 2)


def sample_two_modes(key: PRNGKeyArray, n: int, data_std: ArrayLike = 0.1) -> Float[Array, "n 2"]:
    """x = (a, 0) with a ~ N(2c - 1, data_std²), c ~ Bernoulli(0.5): two modes on a line.

    ``data_std`` is a standard deviation, and may be traced.

    Examples:
      >>> x = sj.sample_two_modes(jax.random.key(0), 1000)
      >>> x.shape, float(jnp.abs(x[:, 1]).max())
      ((1000, 2), 0.0)

    References:
      Zhang, "A Failure Case of VAE", 2021.
    """
    mode_key, offset_key = jax.random.split(key)
    mode = jax.random.rademacher(mode_key, (n,), jnp.float32)
    a = mode + data_std * jax.random.normal(offset_key, (n,))
    return jnp.stack([a, jnp.zeros_like(a)], axis=-1)


def two_mode_mixture(data_std: float = 0.1) -> GaussianMixture:
    """The law of :func:`spread_jax.sample_two_modes`: N(±1, data_std²) in x, exactly 0 in y.

    Examples:
      >>> truth = sj.problems.two_mode_mixture(data_std=0.1)
      >>> round(sj.oracles.spread_entropy(truth, sigma_fix=0.1), 4)  # no spread loss falls below
      -0.7276
    """
    return GaussianMixture(
        weights=np.array([0.5, 0.5]),
        means=np.array([[-1.0, 0.0], [1.0, 0.0]]),
        stds=np.array([[data_std, 0.0], [data_std, 0.0]]),
    )


def recovered_two_modes(mean: Moments, std: Moments, data_std: float) -> bool:
    """Whether a run found both modes, up to swapping its two components.

    Both |mean_x ∓ 1| < data_std and both |std_x - data_std| < data_std / 2.

    Args:
      mean, std: decoder means and clean standard deviations, ``[2 components, 2]``.
      data_std: the standard deviation of a mode.
    """
    means_right = mode_error(mean, std, data_std) < data_std
    return bool(means_right and std_error(mean, std, data_std) < data_std / 2)


def mode_error(mean: Moments, std: Moments, data_std: float) -> float:
    """The larger |mean_x ∓ 1|; arguments here and below as in :func:`recovered_two_modes`."""
    return np.abs(np.sort(mean[:, 0]) - [-1.0, 1.0]).max()


def std_error(mean: Moments, std: Moments, data_std: float) -> float:
    """The larger |std_x - data_std|."""
    return np.abs(std[:, 0] - data_std).max()


def spread_kl_of_components(
    mean: Moments, std: Moments, data_std: float, sigma_fix: float
) -> float:
    """KL(p~ || q~), q the equal mixture of a decoder's components, in nats; NaN if one is not
    finite.

    Raises:
      ValueError: if ``sigma_fix``, the standard deviation of the noise, is not positive.
    """
    if not np.isfinite([mean, std]).all():
        return math.nan
    model = GaussianMixture(np.full(len(mean), 1 / len(mean)), mean, std)
    nodes, weights, entropy = _spread_truth(data_std, sigma_fix)
    return float(-np.sum(weights * spread_log_prob(nodes, model, sigma_fix))) - entropy


@lru_cache(maxsize=64)
def _spread_truth(data_std: float, sigma_fix: float) -> tuple[Floats, Floats, float]:
    """Nodes and weights of the true law's quadrature, and its entropy: a sweep of thousands of runs
    asks for them once per run."""
    truth = two_mode_mixture(data_std)
    nodes, weights = spread_quadrature(truth, sigma_fix)
    return nodes, weights, spread_entropy(truth, sigma_fix)


def energy_distance_of_components(mean: Moments, std: Moments, data_std: float) -> float:
    """Energy distance between 200 clean samples of a run and of the truth, in data units; NaN if
    a component is not finite.

    Samples are drawn evenly from the components and with the same noise for all, so that a run
    that equals the truth is at distance 0, and not at that of two independent samples.
    """
    if not np.isfinite([mean, std]).all():
        return math.nan
    truth, mean_distance_of_truth = _draws_of_truth(data_std)
    return energy_distance_given(mean_distance_of_truth, truth, _draws(mean, std))


def _draws(means: Moments, stds: Moments) -> Moments:
    order = np.argsort(means[:, 0])
    return (means[order] + stds[order] * _normal_draws(means.shape)).reshape(-1, 2)


@cache
def _normal_draws(shape: tuple[int, ...]) -> Floats:
    """100 for each number of an array of this shape."""
    return np.random.default_rng(0).standard_normal((100, *shape))


@cache
def _draws_of_truth(data_std: float) -> tuple[Moments, float]:
    """Draws of the true law, and their mean distance: a sweep of thousands of runs asks for them
    once per run."""
    truth = two_mode_mixture(data_std)
    draws = _draws(truth.means, truth.stds)
    return draws, mean_distance(draws)
