"""After the runs: which of them broke, at which step, and what was not finite first."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from spread_jax.sweeps.sources import RowSource
from spread_jax.training import NEVER, Training, TrainState


def what_broke(
    training: Training,
    states: TrainState,
    seeds: np.ndarray,
    data: PyTree,
    name_of: Callable[[int], str],
) -> str:
    """One sentence on the runs that broke, "" if none did. It costs nothing unless one did.

    A run that stops keeps the parameters from before its last step, so that this step can be
    computed again, and its parts be looked at. A gradient that is not finite stops no run; Adam's
    moments show it.

    Args:
      training, data: what was trained, on which data.
      states: the last states, NumPy leaves ``[run, ...]`` with raw key data.
      seeds: ``[run]``.
      name_of: what a run is called.
    """
    first = np.asarray(states.loss_statistics.first_nonfinite_step)
    stopped = np.flatnonzero(first != NEVER)
    if stopped.size:
        run = int(stopped[np.argmin(first[stopped])])
        why = _explain(training, _one(states, run, data, first[run]))
        return (
            f"{stopped.size} of {first.size} runs broke, the first after {first[run]} steps "
            f"({name_of(run)}): {why or 'the loss was not finite'}"
        )
    lost = np.flatnonzero(_lost_gradient(states.opt_state, first.size))
    if not lost.size:
        return ""
    run = int(lost[0])
    last = _one(states, run, data, states.step[run])
    begun = training.init(jax.random.key(seeds[run]), last.hyper)._replace(data=last.data)
    why = _explain(training, begun)
    why = f"from the first step on {why}" if why else _explain(training, last)
    return (
        f"in {lost.size} of {first.size} runs parameters stopped moving, since a gradient was not "
        f"finite, as in that with {name_of(run)}" + (f": {why}" if why else "")
    )


def _one(states: TrainState, run: int, data: PyTree, step: Any) -> TrainState:
    state = jax.tree.map(lambda leaf: jnp.asarray(leaf[run]), states)
    if data is not None and not isinstance(data, RowSource):
        data = jax.tree.map(jnp.asarray, data)
    return state._replace(
        key=jax.random.wrap_key_data(state.key),
        data=state.data if data is None else data,
        step=jnp.asarray(step, jnp.int32),
    )


def _explain(training: Training, state: TrainState) -> str:
    try:
        return training.explain(state)
    except Exception as error:  # what only works when compiled; the results are worth more
        return f"the step cannot be computed without compiling ({type(error).__name__})"


def _lost_gradient(opt_state: PyTree, num_runs: int) -> np.ndarray:
    """Whether the optimizer of a run holds NaN, or an infinity in an array: some keep a single
    infinity from the start."""
    lost = np.zeros(num_runs, bool)
    for leaf in map(np.asarray, jax.tree.leaves(opt_state)):
        if jnp.issubdtype(leaf.dtype, jnp.floating):
            bad = ~np.isfinite(leaf) if leaf.ndim > 1 else np.isnan(leaf)
            lost |= bad.reshape(num_runs, -1).any(axis=1)
    return lost
