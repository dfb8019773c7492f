"""A guard while training: when has a likelihood run away?"""

import math
from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from spread_jax.models.vae import joint_sigma
from spread_jax.training import NEVER

SHARE_OF_SCALE = 0.05  # of the data's scale, see runaway_step
WINDOW = 25  # steps; a single loss rises and falls


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

    It is when ``std``, the :func:`joint_sigma` of the decoder, is below 0.05 ``scale`` while it and
    the loss fall: the mean of each over 25 steps is below that of the 25 steps before. Of the first
    50 steps the later half is compared with the earlier one, and where records are longer than 25
    steps, one record with the last.

    A record with noise on the model does not count: there a small ``std`` is right. No run under a
    spread of 0.004 to 0.1 of the scale, on two modes and on digits, rose by 10 nats, though noise
    and σ together had a joint σ below the bound in all but those at 0.1.

    On two modes (64 seeds) and on digits it comes before the loss of any plain VAE rises by 10
    nats, through a sigmoid 5 to 25 steps before, so that records must not be longer than 10; by a
    convolution in the same record on one seed of four. On MNIST it comes before such a rise where
    the mean is a sigmoid (step 30 against 35 to 45), and before the mean loss over 30 steps rises
    where it is linear, since there a single batch scatters by more. It never came on these with
    noise of 0.1 in every dimension, nor on correlated Gaussian columns. With the share chosen, it
    led too on smooth images, on digits in another unit, and on a table with a constant and a
    doubled column, but not on most seeds on patches of photographs and on digits rotated into 128
    dimensions. On data kept for a test: on gratings of 12 x 12 it came 8 to 61 steps after such a
    rise, before one by 50 nats; on a swiss roll in 10 dimensions it came and no rise did; with
    noise, on neither.

    The bound is that of Adam at 1e-3: means that jitter more make the loss rise at a larger
    ``std``. An alarm is no proof that the data are thin: it came on digits with noise of 0.1 of the
    scale, whose loss stayed smooth.

    Args:
      loss: mean loss of each record of ``record_every`` steps, ``[..., record]``, nats.
      std: the decoder's joint σ after each record, ``[..., record]``, smallest over points.
      sigma_fix: noise added to the model, ``[...]``, ``[..., record]`` where it is annealed, or a
        number; 0 for a plain VAE.
      scale: :func:`data_scale` of the data; std, sigma_fix and scale in one unit.
      record_every: steps per record.

    Returns:
      Optimizer steps done, ``[...]``.

    Examples:
      >>> step = np.arange(10, 1001, 10)
      >>> sj.runaway_step(-0.01 * step, np.exp(-0.01 * step), 0.0, scale=1.0, record_every=10)
      array(300, dtype=int32)
      >>> sj.runaway_step(-0.01 * step, np.exp(-0.01 * step), 0.1, scale=1.0, record_every=10)
      array(-1, dtype=int32)
    """
    is_alarm = _is_alarm(loss, std, sigma_fix, scale, _width(record_every))
    return _first_step(is_alarm, 0, record_every)


def _width(record_every: int) -> int:
    return math.ceil(WINDOW / record_every)


def _is_alarm(
    loss: ArrayLike, std: ArrayLike, sigma_fix: ArrayLike | float, scale: float, width: int
) -> NDArray[np.bool_]:
    """The rule at every record."""
    loss, std, noise = (np.asarray(values, np.float64) for values in (loss, std, sigma_fix))
    if noise.ndim < loss.ndim:
        noise = noise[..., None]
    is_alarm = (noise == 0) & (std < SHARE_OF_SCALE * scale)
    for curve in (std, loss):
        is_alarm &= _falls(curve, width, where=is_alarm)
    return is_alarm


def _first_step(is_alarm: NDArray[np.bool_], first: int, record_every: int) -> NDArray[np.int32]:
    """The step of the first alarm, -1 for none, of records that begin with record ``first``."""
    record = first + is_alarm.argmax(axis=-1) if is_alarm.shape[-1] else 0
    return np.where(is_alarm.any(axis=-1), record_every * (record + 1), NEVER).astype(np.int32)


def _falls(curve: NDArray[np.float64], width: int, where: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Whether the mean of the last ``width`` records is below that of as many before them, or,
    while there are fewer, the mean of the later half of all below that of the earlier one.

    Records where no run is of interest are left False: the means of thousands of curves take long.
    """
    falls = np.zeros(curve.shape, bool)
    interest = np.asarray(where.any(axis=tuple(range(where.ndim - 1))))
    for n in 2 + np.flatnonzero(interest[1 : 2 * width - 1]):
        half = n // 2
        later, earlier = curve[..., n - half : n], curve[..., n - 2 * half : n - half]
        falls[..., n - 1] = later.mean(axis=-1) < earlier.mean(axis=-1)
    if interest[2 * width - 1 :].any():
        means = np.lib.stride_tricks.sliding_window_view(curve, width, axis=-1).mean(axis=-1)
        falls[..., 2 * width - 1 :] = means[..., width:] < means[..., :-width]
    return falls


@runtime_checkable
class Alarms(Protocol):
    """What watches runs while they train."""

    def __call__(
        self, curves: Mapping[str, np.ndarray], runs: Any = slice(None), first: int = 0
    ) -> NDArray[np.int32]:
        """``(curves so far) -> [run]``, the step of alarm of every run, -1 where there is none.

        Args:
          curves: name → ``[run, record, ...]``.
          runs: which of the runs that the watch was made for these are.
          first: the first record whose alarm is asked for.
        """


def watch_runaway(std: str, noise: ArrayLike | float, *, scale: float, record_every: int) -> Alarms:
    """A watch by :func:`runaway_step`, to be asked while runs train.

    Args:
      std: name of what is recorded: joint σ's ``[run, record]``, or standard deviations ``[run,
        record, ..., dim]``, of which the smallest joint σ counts. Runs that recorded none have no
        variance that could run away.
      noise: on the model, of every run, ``[run]``, of every record of the whole run, ``[run,
        record]``, or a number.
      scale, record_every: as in :func:`runaway_step`.
    """
    noise = np.asarray(noise, np.float64)

    def alarms(
        curves: Mapping[str, np.ndarray], runs: Any = slice(None), first: int = 0
    ) -> NDArray[np.int32]:
        num_runs, end = curves["loss"].shape
        width = _width(record_every)
        start = max(0, first - 2 * width)  # an alarm looks back over two windows
        in_force = noise[runs] if noise.ndim else noise
        in_force = in_force[:, start:end] if noise.ndim == 2 else in_force
        # under noise there is no alarm, and most of the runs of a large sweep are under noise
        if std not in curves or (in_force != 0).all():
            return np.full(num_runs, NEVER, np.int32)
        loss, seen = curves["loss"][:, start:], curves[std][:, start:]
        if seen.ndim > loss.ndim:
            seen = joint_sigma(seen).reshape(*loss.shape, -1).min(axis=-1)
        is_alarm = _is_alarm(loss, seen, in_force, scale, width)[:, first - start :]
        return _first_step(is_alarm, first, record_every)

    return alarms
