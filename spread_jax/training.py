"""A training run as three pure functions: init, train_step and its scan, run."""

from collections.abc import Callable, Mapping
from typing import NamedTuple, Protocol, TypeAlias, TypeVar, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import ArrayLike
from jaxtyping import Array, Int, PRNGKeyArray, PyTree

from spread_jax.arguments import (
    described,
    first_not_finite,
    is_whole,
    require_function,
    require_whole,
)
from spread_jax.batches import split_batch
from spread_jax.loss_statistics import NEVER, LossStatistics, update_statistics
from spread_jax.models.model import Init, Model, Observe
from spread_jax.objectives import Bound
from spread_jax.spreads import Spread, gaussian_spread

Hyper: TypeAlias = Mapping[str, ArrayLike]
"""The numbers of a run (sigma_fix, learning rate, ...): may be traced, so they can be swept."""
T_co = TypeVar("T_co", covariant=True)


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


class TrainState(NamedTuple):
    """All that a run needs to go on: the steps done, of which step t uses ``fold_in(key, t)``, and
    the run's finite data set, None if every batch is drawn afresh."""

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
      explain: ``(state) -> str``, what is not finite first in the step from this state: the data, a
        posterior, the decoder's moments, the loss or its gradient; "" if nothing. It is computed
        without compiling, to be asked after a run has stopped.
    """

    init: Callable[[PRNGKeyArray, Hyper], TrainState]
    train_step: Callable[[TrainState], tuple[TrainState, dict[str, Array]]]
    observe: Observe
    num_steps: int
    explain: Callable[[TrainState], str] = lambda state: ""

    def run(
        self, state: TrainState, num_steps: int, record_every: int = 1
    ) -> tuple[TrainState, dict[str, Array]]:
        """``(state, history)`` after a scan of ``train_step``.

        Each leaf of history has a leading axis ``num_steps // record_every``: of a record's steps
        the mean ``loss``, the largest ``loss_max`` and the largest ``loss_rise`` above the minimum
        before, and ``observe(params)`` after them.

        Raises:
          ValueError: if record_every does not divide num_steps, or observe returns a ``loss``.
        """

        def step(state: TrainState, _: None) -> tuple[TrainState, tuple[Array, Array]]:
            lowest = state.loss_statistics.min_loss
            state, metrics = self.train_step(state)
            return state, (metrics["loss"], lowest)

        def record(state: TrainState, _: None) -> tuple[TrainState, dict[str, Array]]:
            state, (loss, lowest) = jax.lax.scan(step, state, length=record_every)
            kept = {"loss": loss.mean(), "loss_max": loss.max(), "loss_rise": (loss - lowest).max()}
            observed = self.observe(state.params)
            if taken := kept.keys() & observed.keys():
                raise ValueError(f"observe must use other names than {sorted(taken)}")
            return state, kept | observed

        return jax.lax.scan(record, state, length=count_records(num_steps, record_every))

    def train(
        self, key: PRNGKeyArray, hyper: Hyper, record_every: int = 1
    ) -> tuple[TrainState, dict[str, Array]]:
        """``init`` and the whole ``run``."""
        return self.run(self.init(key, hyper), self.num_steps, record_every)


def count_records(num_steps: int, record_every: int) -> int:
    """Points of a curve of one every ``record_every`` steps; ValueError if that does not divide."""
    if not is_whole(record_every) or num_steps % record_every:
        steps = f"{num_steps} steps, got {record_every!r}"
        raise ValueError(f"record_every must be a whole number that divides the {steps}")
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
      ValueError: if ``num_steps`` is no whole number of 1 or more; when traced, if the loss is not
        one number.
      TypeError: if what must be a function is none.

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
    require_whole("num_steps", num_steps)
    require_function("init_params", init_params, "lambda key: params")
    require_function("loss_fn", loss_fn, "lambda params, key, x, hyper: loss")
    require_function("sample_batch", sample_batch, "rows(batch_size=64)")
    require_function("optimizer", optimizer, "lambda hyper: optax.adam(1e-3)")
    require_function("make_data", make_data, "lambda key, hyper: data")
    require_function("observe", observe, "lambda params: {}")
    require_function("schedule", schedule, "lambda step, hyper: hyper")

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

    def loss_of(params: PyTree, key: PRNGKeyArray, x: Array, hyper: Hyper) -> Array:
        loss = loss_fn(params, key, x, hyper)
        if isinstance(loss, tuple | dict) or jnp.shape(loss) != ():
            wanted = "one number, such as the mean over a batch"
            raise ValueError(f"loss_fn must return {wanted}, got {described(loss)}")
        return loss

    def inputs(state: TrainState) -> tuple[PRNGKeyArray, Array, Hyper]:
        data_key, loss_key = jax.random.split(jax.random.fold_in(state.key, state.step))
        hyper = schedule(state.step, state.hyper)
        return loss_key, split_batch(sample_batch(data_key, state.data, hyper)), hyper

    def train_step(state: TrainState) -> tuple[TrainState, dict[str, Array]]:
        loss_key, x, hyper = inputs(state)
        loss, gradient = jax.value_and_grad(loss_of)(state.params, loss_key, x, hyper)
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
            loss_statistics=update_statistics(state.loss_statistics, loss, state.step, num_steps),
        )
        return state, {"loss": loss}

    def explain(state: TrainState) -> str:
        loss_key, x, hyper = inputs(state)
        for named in ({"hyper": hyper}, {"the batch": x}, {"params": state.params}):
            if found := first_not_finite(named):
                return f"{found} is not finite"
        try:  # the checks of concrete values speak first
            loss = loss_of(state.params, loss_key, x, hyper)
        except ValueError as error:
            return str(error)
        if not np.isfinite(loss):
            return f"the loss is {float(loss)}"
        gradient = jax.grad(loss_of)(state.params, loss_key, x, hyper)
        found = first_not_finite({"params": gradient})
        return f"the gradient of {found} is not finite" if found else ""

    return Training(init, train_step, observe, num_steps, explain)


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

    Raises:
      TypeError: if ``model`` has no ``init``, ``bound`` and ``sample``; else, and ValueError, as
        :func:`make_training`.

    Examples:
      >>> x = jnp.asarray(sj.load_dataset("digits").train)
      >>> vae = sj.make_vae(64, latent_dim=10, hidden=(32,))
      >>> training = sj.model_training(vae, sample_batch=sj.rows(batch_size=64), num_steps=20)
      >>> grid = {"sigma_fix": [0.1, 0.3], "learning_rate": 1e-3}
      >>> dict(sj.sweep(training, grid, num_seeds=2, data=x).dataset["loss"].sizes)
      {'sigma_fix': 2, 'seed': 2, 'step': 20}
    """
    if not all(callable(getattr(model, name, None)) for name in ("init", "bound", "sample")):
        wanted = "a Model, with init, bound and sample, such as make_vae(2, latent_dim=1)"
        raise TypeError(f"model must be {wanted}, got {described(model)}")
    require_function("spread", spread, "lambda hyper: gaussian_spread(0.1)")
    require_function("loss", loss, "lambda bound, hyper: -bound.elbo.mean()")

    def loss_fn(params: PyTree, key: PRNGKeyArray, x: Array, hyper: Hyper) -> Array:
        bound = model.bound(params, key, x, spread(hyper))
        if not hasattr(bound, "elbo"):
            raise TypeError(f"the model's bound must return a Bound, got {described(bound)}")
        return loss(bound, hyper)

    return make_training(
        init_params=model.init,
        loss_fn=loss_fn,
        sample_batch=sample_batch,
        optimizer=optimizer,
        num_steps=num_steps,
        make_data=make_data,
        observe=observe,
        schedule=schedule,
    )


def rows(batch_size: int) -> SampleBatch:
    """A ``sample_batch`` that draws rows of the run's data ``[n, dim]``, with replacement.

    The data are those of ``make_data``, or what ``sweep(..., data=x)`` is given for all runs.

    Raises:
      ValueError: if ``batch_size`` is no whole number above 0; when traced, if there are no data.

    Examples:
      >>> sample_batch = sj.rows(batch_size=64)
      >>> sample_batch(jax.random.key(0), jnp.zeros((1000, 2)), {}).shape
      (64, 2)
    """
    require_whole("batch_size", batch_size)

    def sample_batch(key: PRNGKeyArray, data: PyTree, hyper: Hyper) -> Array:
        if data is None:
            raise ValueError("there is nothing to fit: give the data to the sweep, data=x")
        return data[jax.random.randint(key, (batch_size,), 0, len(data))]

    return sample_batch
