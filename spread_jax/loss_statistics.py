"""Running statistics of the training loss, and the step at which it broke."""

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

NEVER = -1


class LossStatistics(NamedTuple):
    """Running statistics of the training loss, in nats, updated at every step.

    They live in the state, so that chunks, thinning and resuming change nothing.

    Attributes:
      min_loss: smallest loss so far.
      max_rise: largest loss[t] - min(loss[:t]), t in the last nine tenths; -inf before.
      late_count, late_mean, late_sum_squares: Welford's moments of the loss over the last tenth.
      first_nonfinite_step: the first step with a loss that is not finite, where the run stopped;
        -1 if none.
    """

    min_loss: Float[Array, "*runs"]
    max_rise: Float[Array, "*runs"]
    late_count: Float[Array, "*runs"]
    late_mean: Float[Array, "*runs"]
    late_sum_squares: Float[Array, "*runs"]
    first_nonfinite_step: Int[Array, "*runs"]

    @property
    def late_loss_std(self) -> Float[Array, "*runs"]:
        """Standard deviation of the per-step loss over the last tenth; NaN before it."""
        return jnp.sqrt(self.late_sum_squares / self.late_count)

    @property
    def max_loss_rise(self) -> Float[Array, "*runs"]:
        """``max_rise``, or NaN if the loss was ever non-finite or no rise could be seen yet."""
        is_counted = (self.first_nonfinite_step == NEVER) & jnp.isfinite(self.max_rise)
        return jnp.where(is_counted, self.max_rise, jnp.nan)


def update_statistics(
    statistics: LossStatistics, loss: Array, step: Array, num_steps: int
) -> LossStatistics:
    """With the loss of one more step."""
    last_nine_tenths = step >= num_steps // 10
    late = step >= num_steps - max(1, num_steps // 10)
    rise = jnp.where(last_nine_tenths, loss - statistics.min_loss, -jnp.inf)
    late_count = statistics.late_count + late
    deviation = loss - statistics.late_mean
    late_mean = statistics.late_mean + jnp.where(late, deviation / jnp.maximum(late_count, 1), 0)
    is_first_nonfinite = ~jnp.isfinite(loss) & (statistics.first_nonfinite_step == NEVER)
    return LossStatistics(
        min_loss=jnp.minimum(statistics.min_loss, loss),
        max_rise=jnp.maximum(statistics.max_rise, rise),
        late_count=late_count,
        late_mean=late_mean,
        late_sum_squares=statistics.late_sum_squares
        + jnp.where(late, deviation * (loss - late_mean), 0),
        first_nonfinite_step=jnp.where(is_first_nonfinite, step, statistics.first_nonfinite_step),
    )


def can_be_lengthened(done: int, num_steps: int, record_every: int) -> bool:
    """Whether :func:`lengthened` knows the statistics of ``num_steps`` after ``done`` of them: the
    late steps are still to come, and the last nine tenths begin between two records or later."""
    start, late = num_steps // 10, num_steps - max(1, num_steps // 10)
    return done <= late and (start >= done or start % record_every == 0)


def lengthened(
    statistics: LossStatistics, loss_rise: np.ndarray, num_steps: int, record_every: int
) -> LossStatistics:
    """The statistics that runs so far would have as parts of runs of ``num_steps``.

    Args:
      statistics: leaves ``[run]``, of runs of another length.
      loss_rise: of every record so far, ``[run, record]``, see :meth:`spread_jax.Training.run`.
    """
    counted = loss_rise[:, -(-(num_steps // 10) // record_every) :]
    zero = np.zeros_like(statistics.late_count)
    changed: dict[str, Any] = {
        "max_rise": counted.max(axis=1, initial=-np.inf).astype(statistics.max_rise.dtype),
        **dict.fromkeys(("late_count", "late_mean", "late_sum_squares"), zero),
    }
    return statistics._replace(**changed)
