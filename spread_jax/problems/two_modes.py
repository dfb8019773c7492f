"""The failure case: two modes on a line of the plane, its exact truth, and its metrics."""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import ArrayLike
from jaxtyping import Array, Float, PRNGKeyArray, PyTree
from numpy.typing import NDArray

from spread_jax.judgement import Metric, Run
from spread_jax.latents import bernoulli_latent
from spread_jax.metrics import energy_distance
from spread_jax.models.networks import BernoulliEncoder
from spread_jax.models.vae import VAE
from spread_jax.oracles import GaussianMixture, spread_kl
from spread_jax.problems.problem import Problem
from spread_jax.sweeps import Variable
from spread_jax.training import Hyper, Training, model_training, rows


def two_modes(data_std: ArrayLike = 0.1) -> Problem:
    """x = (a, 0), a ~ N(±1, data_std²), with a binary latent whose states are the modes.

    Args:
      data_std: standard deviation of a mode, in data units; it may be traced.

    Examples:
      >>> problem = sj.problems.two_modes(data_std=0.05)
      >>> x = problem.sample_evenly(jax.random.key(0), 1000)
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

    return Problem(
        "two_modes",
        lambda key, n: sample_two_modes(key, n, data_std),
        sample_evenly,
        distance_to_line,
        latent,
        latent._replace(sample_prior=even_prior),
        lambda hidden: BernoulliEncoder(hidden),
    )


VARIABLES = {
    "mean": Variable(("component", "dim"), "decoder mean", "data units"),
    "std": Variable(("component", "dim"), "decoder standard deviation, clean", "data units"),
}
"""Labels of what :func:`watch_components` observes."""


def watch_components(vae: VAE) -> Callable[[PyTree], dict[str, Array]]:
    """``(params) -> {"mean", "std"}``, each ``[2 components, 2]``: the decoder at z = 0 and z = 1.

    A deterministic decoder has std 0.
    """

    def observe(params: PyTree) -> dict[str, Array]:
        mean, var = vae.decode(params, jnp.array([[0.0], [1.0]]))
        return {"mean": mean, "std": jnp.zeros_like(mean) if var is None else jnp.sqrt(var)}

    return observe


def two_mode_training(
    model: VAE, *, num_steps: int, batch_size: int = 128, data_size: int | None = None
) -> Training:
    """The failure case's training; hyper holds ``sigma_fix``, ``learning_rate`` and ``data_std``.

    By Adam, whose rate falls to half over the last three tenths of the steps: at a constant rate
    its jitter of the means alone costs 0.013 nats at sigma_fix 0.03.

    Args:
      model: with a binary latent; its components are observed.
      num_steps: length of a run.
      batch_size: points at a step.
      data_size: of a finite data set of each run's own; None: fresh points at every step.
    """

    def points(key: PRNGKeyArray, hyper: Hyper, size: int) -> Array:
        return sample_two_modes(key, size, hyper["data_std"])

    def optimizer(hyper: Hyper) -> optax.GradientTransformation:
        rate, falls = hyper["learning_rate"], num_steps * 3 // 10
        return optax.adam(
            optax.linear_schedule(rate, rate / 2, falls, transition_begin=num_steps * 7 // 10)
        )

    def fresh_batch(key: PRNGKeyArray, data: PyTree, hyper: Hyper) -> Array:
        return points(key, hyper, batch_size)

    def make_data(key: PRNGKeyArray, hyper: Hyper) -> Array | None:
        return None if data_size is None else points(key, hyper, data_size)

    return model_training(
        model,
        sample_batch=fresh_batch if data_size is None else rows(batch_size),
        make_data=make_data,
        optimizer=optimizer,
        num_steps=num_steps,
        observe=watch_components(model),
    )


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

    def std_of(run: Run) -> float:
        return run.hyper["data_std"] if data_std is None else data_std

    def means_and_stds(run: Run) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        return run.curves["mean"][-1].astype(np.float64), run.curves["std"][-1].astype(np.float64)

    def recovered(run: Run) -> bool:
        return recovered_two_modes(*means_and_stds(run), std_of(run))

    def mode_error(run: Run) -> float:
        return np.abs(np.sort(means_and_stds(run)[0][:, 0]) - [-1.0, 1.0]).max()

    def std_error(run: Run) -> float:
        return np.abs(means_and_stds(run)[1][:, 0] - std_of(run)).max()

    def energy(run: Run) -> float:
        return energy_distance_of_components(two_mode_mixture(std_of(run)), *means_and_stds(run))

    def divergence_at(sigma: float | None) -> Callable[[Run], float]:
        def divergence(run: Run) -> float:
            at = run.hyper["sigma_fix"] if sigma is None else sigma
            truth = two_mode_mixture(std_of(run))
            return spread_kl_of_components(truth, *means_and_stds(run), at) if at else math.nan

        return divergence

    where = "the run's own sigma_fix" if sigma_fix is None else f"sigma_fix {sigma_fix:g}"
    kl, units = "spread KL to the truth at", "data units"
    metrics = [
        Metric("recovered", "1", "higher", recovered, "both modes found"),
        Metric("spread_kl", "nats", "lower", divergence_at(sigma_fix), f"{kl} {where}"),
        Metric("energy_distance", units, "lower", energy, "energy distance to the true law"),
        Metric("mode_error", units, "lower", mode_error, "largest error of a mode's place"),
        Metric("std_error", units, "lower", std_error, "largest error of a mode's std"),
        Metric("min_std", units, "", lambda run: means_and_stds(run)[1].min(), "smallest std"),
        Metric(
            "sigma_x", units, "", lambda run: means_and_stds(run)[1][:, 0].mean(), "std of a mode"
        ),
        Metric(
            "position_bias",
            units,
            "",
            lambda run: np.ptp(means_and_stds(run)[0][:, 0]) / 2 - 1,
            "half the distance of the modes, less 1",
        ),
    ]
    if reference is not None:
        words = f"{kl} sigma_fix {reference:g}"
        at_reference = divergence_at(reference)
        metrics.append(Metric("spread_kl_at_reference", "nats", "lower", at_reference, words))
    return metrics


def two_mode_scale(data_std: float) -> float:
    """√((1 + s²) / 2): :func:`spread_jax.data_scale` of the two modes.

    The variance along the line is 1 + s², across it 0; the scale is the root of their mean.
    """
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


def distance_to_line(x: Float[Array | np.ndarray, "*batch 2"]) -> Float[Array, "*batch"]:
    """|x_2|: how far points are from the line of :func:`sample_two_modes`, in data units."""
    return jnp.abs(x[..., 1])


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


def recovered_two_modes(
    mean: NDArray[np.float64], std: NDArray[np.float64], data_std: float
) -> bool:
    """Whether a run found both modes, up to swapping its two components.

    Both |mean_x ∓ 1| < data_std and both |std_x - data_std| < data_std / 2.

    Args:
      mean, std: decoder means and clean standard deviations, ``[2 components, 2]``.
      data_std: the standard deviation of a mode.
    """
    means_right = np.abs(np.sort(mean[:, 0]) - [-1.0, 1.0]) < data_std
    stds_right = np.abs(std[:, 0] - data_std) < data_std / 2
    return bool((means_right & stds_right).all())


def spread_kl_of_components(
    truth: GaussianMixture, mean: NDArray[np.float64], std: NDArray[np.float64], sigma_fix: float
) -> float:
    """KL(p~ || q~), q the equal mixture of a decoder's components, in nats; NaN if one is not
    finite.

    Args:
      truth: the clean law of the data.
      mean, std: ``[component, dim]``.
      sigma_fix: standard deviation of the noise, > 0.

    Raises:
      ValueError: if ``sigma_fix`` is not positive.
    """
    if not (np.isfinite(mean).all() and np.isfinite(std).all()):
        return math.nan
    weights = np.full(len(mean), 1 / len(mean))
    return spread_kl(truth, GaussianMixture(weights, mean, std), sigma_fix)


def energy_distance_of_components(
    truth: GaussianMixture,
    mean: NDArray[np.float64],
    std: NDArray[np.float64],
    num_samples: int = 200,
) -> float:
    """Energy distance between clean samples of a run and of the truth, in data units.

    Samples are drawn evenly from the components and with the same noise for all, so that a run
    that equals the truth is at distance 0, and not at that of two independent samples.

    Args:
      truth: the clean law of the data, of equal weights.
      mean, std: ``[component, dim]``; NaN is returned where one is not finite.
      num_samples: points per law.
    """
    if not (np.isfinite(mean).all() and np.isfinite(std).all()):
        return math.nan
    count, dim = mean.shape
    noise = np.random.default_rng(0).standard_normal((num_samples // count, count, dim))

    def points(means: NDArray[np.float64], stds: NDArray[np.float64]) -> NDArray[np.float64]:
        order = np.argsort(means[:, 0])
        return (means[order] + stds[order] * noise).reshape(-1, dim)

    return energy_distance(points(truth.means, truth.stds), points(mean, std))
