"""Schedules: numbers of a run that change along it."""

import jax.numpy as jnp
import optax
from jaxtyping import Array

from spread_jax.training import Hyper, OfHyper, Schedule

SHARE_OF_STEPS = 0.8  # the rest is trained at the last σ


def annealed_noise(num_steps: int, over: float = SHARE_OF_STEPS) -> Schedule:
    """σ(t) = σ_fix · noise_end^((1 - cos πt) / 2), where t = step / (over · num_steps), at most 1.

    It falls from ``sigma_fix`` to the share ``noise_end`` of it, on a geometric scale, and stays
    there. Early, much noise keeps the loss flat and finds the modes; late, little noise makes the
    samples sharp, and the last σ is the one that a model is judged at.

    Args:
      num_steps: of the whole run.
      over: share of the steps, above 0 and at most 1.

    Returns:
      ``(step, hyper) -> hyper``, with another ``sigma_fix``: a ``schedule`` of
      :func:`spread_jax.model_training`. The grid gives ``sigma_fix`` and ``noise_end``; at a
      ``noise_end`` of 1 the noise is constant, to the bit.

    Raises:
      ValueError: if ``num_steps`` is below 1 or ``over`` not in (0, 1].

    Examples:
      >>> schedule = sj.annealed_noise(num_steps=1000)
      >>> for step in (0, 400, 800, 999):
      ...     sigma = schedule(jnp.int32(step), {"sigma_fix": 0.5, "noise_end": 0.05})["sigma_fix"]
      ...     print(round(float(sigma), 4))
      0.5
      0.1118
      0.025
      0.025
    """
    if not (num_steps >= 1 and 0 < over <= 1):
        got = f"{num_steps} and {over}"
        raise ValueError(f"num_steps must be >= 1 and over in (0, 1], got {got}")

    def schedule(step: Array, hyper: Hyper) -> Hyper:
        t = jnp.minimum(step / (over * num_steps), 1)
        share = jnp.power(hyper["noise_end"], (1 - jnp.cos(jnp.pi * t)) / 2)
        return {**hyper, "sigma_fix": share * hyper["sigma_fix"]}

    return schedule


def stepped_noise(
    num_steps: int, factor: float = 0.9, first: float = 0.2, every: float = 0.04
) -> Schedule:
    """σ(t) = σ_fix · max(noise_end, factor^n), n the falls until step t: the paper's annealing.

    Published for CelebA are a first fall at epoch 500, then one every 100 epochs, from 0.5 down to
    0.1. The defaults keep the proportion 5 : 1, and reach a fifth at 0.8 of the steps.

    Args:
      num_steps: of the whole run.
      factor: of each fall.
      first, every: shares of the steps before the first fall, and between falls.

    Returns:
      As :func:`annealed_noise`.
    """
    begin, between = round(first * num_steps), max(1, round(every * num_steps))

    def schedule(step: Array, hyper: Hyper) -> Hyper:
        falls = jnp.maximum(0, 1 + (step - begin) // between)
        share = jnp.maximum(hyper["noise_end"], jnp.power(factor, falls))
        return {**hyper, "sigma_fix": share * hyper["sigma_fix"]}

    return schedule


def at_the_end(hyper: Hyper) -> Hyper:
    """The numbers of a run at its last step, of which the noise is ``noise_end`` of the first."""
    return {**hyper, "sigma_fix": jnp.multiply(hyper["noise_end"], hyper["sigma_fix"])}


def settling_adam(
    num_steps: int, after: float = SHARE_OF_STEPS
) -> OfHyper[optax.GradientTransformation]:
    """Adam, whose ``learning_rate`` falls to 0 by a cosine over the steps that ``after`` leaves.

    A mean that still jitters by the step's size is off the data by as much: on a ring, samples are
    0.003 from it in place of 0.02.

    Args:
      num_steps: of the whole run.
      after: share of the steps with the whole learning rate.

    Returns:
      ``(hyper) -> optimizer``, for :func:`spread_jax.model_training`.
    """
    first = round(after * num_steps)

    def optimizer(hyper: Hyper) -> optax.GradientTransformation:
        rate = hyper["learning_rate"]
        settling = optax.cosine_decay_schedule(rate, max(1, num_steps - first))
        return optax.adam(optax.join_schedules([lambda step: rate, settling], [first]))

    return optimizer
