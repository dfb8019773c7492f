"""A guard while training: when has a likelihood run away?"""

import math
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray

from spread_jax.training import NEVER

SHARE = 0.01  # of the data's scale: at 0.04 the toy's spread runs at sigma_fix 0.03 set it off
WINDOW = 50  # steps; a single loss rises and falls
WARM_UP = 100  # steps


def data_scale(x: ArrayLike) -> float:
    """The data's overall standard deviation, √(mean over columns of their variances).

    One number, so that a constant column does not hide itself.

    Args:
      x: ``[n, dim]``, data units.

    Examples:
      >>> sj.data_scale([[0.0, 5.0], [2.0, 5.0]])  # √((1 + 0) / 2)
      0.7071067811865476
    """
    return float(np.sqrt(np.var(np.asarray(x, np.float64), axis=0).mean()))


def runaway_step(
    loss: ArrayLike,
    std: ArrayLike,
    sigma_fix: ArrayLike | float,
    *,
    scale: float,
    record_every: int,
) -> NDArray[np.int32]:
    """The step at which a run's likelihood is seen running away, -1 where it is not.

    It is when ``std`` is below 0.01 ``scale`` while the mean loss over 50 steps is below that of
    the 50 steps before; the first 100 steps are left out. Under a spread it is never: there a
    small ``std`` is right, and the noise is the floor of what the likelihood sees.

    The rule was found on two modes in the plane: the loss of every plain VAE rose by 10 nats and
    more only after it. On images it comes too, but late: hundreds of pixels add up to such a rise
    while each sigma is still above the bound. With records of more than 50 steps, one record is
    compared with the last.

    Args:
      loss: mean loss of each record of ``record_every`` steps, ``[..., record]``, nats.
      std: the decoder's smallest standard deviation after each record, ``[..., record]``.
      sigma_fix: noise added to the model, ``[...]`` or a number; 0 for a plain VAE.
      scale: :func:`data_scale` of the data; std, sigma_fix and scale in one unit.
      record_every: steps per record.

    Returns:
      Optimizer steps done, ``[...]``.

    Examples:
      >>> step = np.arange(10, 1001, 10)
      >>> sj.runaway_step(-0.01 * step, np.exp(-0.01 * step), 0.0, scale=1.0, record_every=10)
      array(470, dtype=int32)
      >>> sj.runaway_step(-0.01 * step, np.exp(-0.01 * step), 0.1, scale=1.0, record_every=10)
      array(-1, dtype=int32)
    """
    loss, std = np.asarray(loss, np.float64), np.asarray(std, np.float64)
    sigma = np.broadcast_to(sigma_fix, loss.shape[:-1])[..., None]
    falls = np.zeros(loss.shape, bool)
    width = math.ceil(WINDOW / record_every)
    if loss.shape[-1] >= 2 * width:
        means = np.lib.stride_tricks.sliding_window_view(loss, width, axis=-1).mean(axis=-1)
        falls[..., 2 * width - 1 :] = means[..., width:] < means[..., :-width]
    steps = record_every * np.arange(1, loss.shape[-1] + 1)
    alarm = (sigma == 0) & (std < SHARE * scale) & falls & (steps > WARM_UP)
    first = np.where(alarm, steps, np.inf).min(axis=-1, initial=np.inf)
    return np.where(np.isfinite(first), first, NEVER).astype(np.int32)


def watch_runaway(
    std: str, noise: ArrayLike | float, *, scale: float, record_every: int
) -> Callable[[Mapping[str, np.ndarray]], NDArray[np.int32]]:
    """``(curves so far) -> the step of alarm of every run``, to be asked while runs train.

    Args:
      std: name of the recorded standard deviations ``[run, record, ...]``; the smallest counts.
        Runs that recorded none have no variance that could run away.
      noise: on the model, of every run, ``[run]`` or a number.
      scale, record_every: as in :func:`runaway_step`.
    """

    def alarms(history: Mapping[str, np.ndarray]) -> NDArray[np.int32]:
        loss = history["loss"]
        if std not in history:
            return np.full(len(loss), NEVER, np.int32)
        smallest = history[std].reshape(*loss.shape, -1).min(axis=-1)
        return runaway_step(loss, smallest, noise, scale=scale, record_every=record_every)

    return alarms
