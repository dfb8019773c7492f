"""A training run as three pure functions: init, train_step and its scan, run."""

from collections.abc import Callable, Mapping
from typing import NamedTuple, Protocol, TypeAlias, TypeVar, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from spread_jax.models.model import Init, Model, Observe
from spread_jax.objectives import Bound
from spread_jax.spreads import Spread, gaussian_spread

Hyper: TypeAlias = Mapping[str, ArrayLike]
"""The numbers of a run (sigma_fix, learning rate, ...): may be traced, so they can be swept."""
T_co = TypeVar("T_co", covariant=True)
NEVER = -1


@runtime_checkable
class OfHyper(Protocol[T_co]):
    """What is made of a run's numbers, inside the compiled step: ``OfHyper[Spread]`` its noise."""

    def __call__(self, hyper: Hyper, /) -> T_co:
        """``(hyper) -> value``, from numbers that may be traced."""


@runtime_checkable
class Loss(Protocol):
    """What :func:`make_training` minimises."""

    def __call__(self, params: PyTree, key: PRNGKeyArray, x: Array, hyper: Hyper, /) -> Array:
        """``(params, key, x, hyper) -> loss``, a scalar in nats."""


@runtime_checkable
class LossOfBounds(Protocol):
    """What :func:`spread_jax.model_training` minimises."""

    def __call__(self, bound: Bound, hyper: Hyper, /) -> Array:
        """``(bound, hyper) -> loss``, a scalar in nats, from the bounds of a batch."""


@runtime_checkable
class SampleBatch(Protocol):
    """What a step is trained on: a fresh batch, or one picked from the run's data."""

    def __call__(self, key: PRNGKeyArray, data: PyTree, hyper: Hyper, /) -> Array:
        """``(key, data, hyper) -> x``; without data of the run's, ``data`` is None."""


@runtime_checkable
class MakeData(Protocol):
    """A finite data set of the run's own, drawn once."""

    def __call__(self, key: PRNGKeyArray, hyper: Hyper, /) -> PyTree:
        """``(key, hyper) -> data``."""


@runtime_checkable
class Schedule(Protocol):
    """The numbers in force at a step, for what is annealed."""

    def __call__(self, step: Array, hyper: Hyper, /) -> Hyper:
        """``(step, hyper) -> hyper``."""


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
        known = (self.first_nonfinite_step == NEVER) & jnp.isfinite(self.max_rise)
        return jnp.where(known, self.max_rise, jnp.nan)


class TrainState(NamedTuple):
    """All that a run needs to go on: ``step`` counts the steps done, and step t uses the key
    ``fold_in(key, t)``; ``data`` is the run's finite data set, None if every batch is drawn afresh.
    """

    params: PyTree
    opt_state: PyTree
    key: PRNGKeyArray
    step: Int[Array, "*runs"]
    hyper: Hyper
    data: PyTree
    loss_statistics: LossStatistics


class Training(NamedTuple):
    """A training run as pure functions; all of them can be jitted, vmapped and used alone.

    Attributes:
      init: ``(key, hyper) -> state``.
      train_step: ``(state) -> (state, metrics)``; metrics holds the ``loss``, in nats. From the
        first loss that is not finite on, the loss is NaN and params stay as they were before it;
        a single parameter whose update is not finite keeps its value. So params are always finite.
      observe: what is watched during the run.
      num_steps: length of the whole run.
    """

    init: Callable[[PRNGKeyArray, Hyper], TrainState]
    train_step: Callable[[TrainState], tuple[TrainState, dict[str, Array]]]
    observe: Observe
    num_steps: int

    def run(
        self, state: TrainState, num_steps: int, record_every: int = 1
    ) -> tuple[TrainState, dict[str, Array]]:
        """``(state, history)`` after a scan of ``train_step``.

        Each leaf of history has a leading axis ``num_steps // record_every``: the mean ``loss`` and
        the largest ``loss_max`` over the steps of the record, and ``observe(params)`` after them.

        Raises:
          ValueError: if record_every does not divide num_steps, or observe returns a ``loss``.
        """

        def record(state: TrainState, _: None) -> tuple[TrainState, dict[str, Array]]:
            state, metrics = jax.lax.scan(
                lambda state, _: self.train_step(state), state, length=record_every
            )
            loss = metrics["loss"]
            losses = {"loss": loss.mean(), "loss_max": loss.max()}
            observed = self.observe(state.params)
            if taken := losses.keys() & observed.keys():
                raise ValueError(f"observe must use other names than {sorted(taken)}")
            return state, {**losses, **observed}

        return jax.lax.scan(record, state, length=count_records(num_steps, record_every))

    def train(
        self, key: PRNGKeyArray, hyper: Hyper, record_every: int = 1
    ) -> tuple[TrainState, dict[str, Array]]:
        """``init`` and the whole ``run``."""
        return self.run(self.init(key, hyper), self.num_steps, record_every)


def count_records(num_steps: int, record_every: int) -> int:
    """Points of a curve of one every ``record_every`` steps; ValueError if that does not divide."""
    if record_every < 1 or num_steps % record_every:
        raise ValueError(
            f"record_every must be at least 1 and divide the {num_steps} steps, got {record_every}"
        )
    return num_steps // record_every


def make_training(
    *,
    init_params: Init,
    loss_fn: Loss,
    sample_batch: SampleBatch,
    optimizer: OfHyper[optax.GradientTransformation],
    num_steps: int,
    make_data: MakeData = lambda key, hyper: None,
    observe: Observe = lambda params: {},
    schedule: Schedule = lambda step, hyper: hyper,
) -> Training:
    """params ← params + optimizer(∇ loss_fn(params, key, x, hyper)), num_steps times.

    Structure (networks, batch size, number of steps) is closed over; numbers are in ``hyper``, so
    that one compiled program serves a whole sweep.

    Args:
      num_steps: length of the whole run; the statistics need to know what is late.
      init_params, loss_fn, sample_batch, optimizer, make_data, observe, schedule: functions, each
        as its type says: :class:`Loss`, :class:`SampleBatch` and so on.

    Raises:
      ValueError: if ``num_steps`` is below 1.

    Examples:
      >>> training = sj.make_training(
      ...     init_params=lambda key: jnp.zeros(()),
      ...     loss_fn=lambda params, key, x, hyper: jnp.mean((x - params) ** 2),
      ...     sample_batch=lambda key, data, hyper: 3.0 + jax.random.normal(key, (64,)),
      ...     optimizer=lambda hyper: optax.adam(hyper["learning_rate"]),
      ...     num_steps=500,
      ... )
      >>> state, history = jax.jit(training.train)(jax.random.key(0), {"learning_rate": 0.1})
      >>> round(float(state.params)), history["loss"].shape
      (3, (500,))
    """
    if num_steps < 1:
        raise ValueError(f"num_steps must be >= 1, got {num_steps}")

    def init(key: PRNGKeyArray, hyper: Hyper) -> TrainState:
        params_key, data_key, run_key = jax.random.split(key, 3)
        params = init_params(params_key)
        no_losses = [jnp.full((), start) for start in (jnp.inf, -jnp.inf, 0.0, 0.0, 0.0)]
        return TrainState(
            params=params,
            opt_state=optimizer(hyper).init(params),
            key=run_key,
            step=jnp.zeros((), jnp.int32),
            hyper=hyper,
            data=make_data(data_key, hyper),
            loss_statistics=LossStatistics._make([*no_losses, jnp.full((), NEVER, jnp.int32)]),
        )

    def train_step(state: TrainState) -> tuple[TrainState, dict[str, Array]]:
        data_key, loss_key = jax.random.split(jax.random.fold_in(state.key, state.step))
        hyper = schedule(state.step, state.hyper)
        x = sample_batch(data_key, state.data, hyper)
        loss, gradient = jax.value_and_grad(loss_fn)(state.params, loss_key, x, hyper)
        updates, opt_state = optimizer(hyper).update(gradient, state.opt_state, state.params)
        goes_on = (state.loss_statistics.first_nonfinite_step == NEVER) & jnp.isfinite(loss)
        loss = jnp.where(goes_on, loss, jnp.nan)

        def if_finite(update: Array) -> Array:
            # number by number: one verdict on the whole gradient would cost a seventh of the speed
            return jnp.where(goes_on & jnp.isfinite(update), update, 0)

        state = state._replace(
            params=optax.apply_updates(state.params, jax.tree.map(if_finite, updates)),
            opt_state=opt_state,
            step=state.step + 1,
            loss_statistics=_update(state.loss_statistics, loss, state.step, num_steps),
        )
        return state, {"loss": loss}

    return Training(init, train_step, observe, num_steps)


def sigma_fix_spread(hyper: Hyper) -> Spread:
    """``gaussian_spread(hyper["sigma_fix"])``: the same noise on the data and on the model."""
    return gaussian_spread(hyper["sigma_fix"])


def model_training(
    model: Model,
    *,
    sample_batch: SampleBatch,
    num_steps: int,
    spread: OfHyper[Spread] = sigma_fix_spread,
    optimizer: OfHyper[optax.GradientTransformation] = lambda hyper: optax.adam(
        hyper["learning_rate"]
    ),
    loss: LossOfBounds = lambda bound, hyper: -bound.elbo.mean(),
    make_data: MakeData = lambda key, hyper: None,
    observe: Observe = lambda params: {},
    schedule: Schedule = lambda step, hyper: hyper,
) -> Training:
    """Minimises -mean of ``model.bound`` on spread data, by Adam unless told otherwise.

    Args:
      model: what to train.
      sample_batch: as :class:`SampleBatch`; :func:`rows` for a finite data set.
      spread: ``Spread(a.sample, b.log_prob)`` adds one noise to the data, another to the model.
      loss: as :class:`LossOfBounds`; by default minus the mean of the ELBOs.
      num_steps, optimizer, make_data, observe, schedule: as in :func:`make_training`.

    Examples:
      >>> x = jnp.asarray(sj.load_dataset("digits").train)
      >>> vae = sj.make_vae(64, latent_dim=10, hidden=(32,))
      >>> training = sj.model_training(vae, sample_batch=sj.rows(batch_size=64), num_steps=20)
      >>> grid = {"sigma_fix": [0.1, 0.3], "learning_rate": 1e-3}
      >>> dict(sj.sweep(training, grid, num_seeds=2, data=x).dataset["loss"].sizes)
      {'sigma_fix': 2, 'seed': 2, 'step': 20}
    """
    return make_training(
        init_params=model.init,
        loss_fn=lambda params, key, x, hyper: loss(
            model.bound(params, key, x, spread(hyper)), hyper
        ),
        sample_batch=sample_batch,
        optimizer=optimizer,
        num_steps=num_steps,
        make_data=make_data,
        observe=observe,
        schedule=schedule,
    )


def rows(batch_size: int) -> SampleBatch:
    """A ``sample_batch`` that draws rows of the run's data ``[n, dim]``, with replacement.

    The data are those of ``make_data``, or of the sweep: ``sweep(..., data=x)`` keeps them on the
    device, once for all runs.

    Raises:
      ValueError: if ``batch_size`` is no whole number of 1 or more; when traced, if there are no
        data.

    Examples:
      >>> sample_batch = sj.rows(batch_size=64)
      >>> sample_batch(jax.random.key(0), jnp.zeros((1000, 2)), {}).shape
      (64, 2)
    """
    if not isinstance(batch_size, int | np.integer) or batch_size < 1:
        raise ValueError(f"batch_size must be a whole number >= 1, got {batch_size!r}")

    def sample_batch(key: PRNGKeyArray, data: PyTree, hyper: Hyper) -> Array:
        if data is None:
            raise ValueError("there is nothing to fit: give the data to the sweep, data=x")
        return data[jax.random.randint(key, (batch_size,), 0, len(data))]

    return sample_batch


def _update(statistics: LossStatistics, loss: Array, step: Array, num_steps: int) -> LossStatistics:
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
