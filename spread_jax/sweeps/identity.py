"""What a run is stored by: the program that trains it, its data, its seed and its numbers.

The program is known by its text, as JAX lowers it for one run: networks, loss, batches, optimizer
and schedules with all numbers that they close over. So nothing needs to be told to know a run
again, and a learning rate or a noise that depends on the number of steps is seen to.
"""

import hashlib
from collections.abc import Iterable
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, PyTree

from spread_jax.training import Hyper, Training, TrainState


class Identity(NamedTuple):
    """Of a training, all but its seeds and numbers.

    Attributes:
      digest: of the program, the data, ``record_every``, the platform and the version of JAX; not
        of the number of steps, unless the program depends on it.
      num_steps, record_every: of the whole run.
      facts: name → what it was, for a message that says in what two trainings differ.
    """

    digest: str
    num_steps: int
    record_every: int
    facts: dict[str, Any]


def identify(
    training: Training,
    init_run: Any,
    step: Any,
    runs: tuple[PyTree, Hyper],
    shared: PyTree,
    record_every: int,
    data: str,
    more_programs: Iterable[str] = (),
) -> Identity:
    """The identity of runs ``(seeds, hyper)``, by an initialiser and a stepper of their training.

    The loss statistics depend on the number of steps, and on nothing else does the way of a run;
    so they are left out, and with them all that is computed for them alone. ``data`` tells the data
    from others; ``more_programs`` are texts of what else bears on a run.
    """

    def go_on(state: TrainState, shared: PyTree) -> tuple:
        state, loss = step(state, shared)
        statistics = state.loss_statistics
        kept = (*state[:-1], statistics.min_loss, statistics.first_nonfinite_step)
        return kept, loss, training.observe(state.params)

    start = init_run.trace(jax.tree.map(lambda leaf: leaf[0], runs))
    way = jax.jit(go_on).trace(start.out_info, shared)
    # JAX gives the leaves of a program no names
    names = str(jax.tree.structure((runs, start.out_info, way.out_info)))
    programs = [start.lower().as_text(), way.lower().as_text(), names, *more_programs]
    facts = {
        "number of steps": training.num_steps,
        "record_every": int(record_every),
        "data": data,
        "platform": jax.default_backend(),
        "version of JAX": jax.__version__,
    }
    distinct = [*programs, *(str(facts[name]) for name in facts if name != "number of steps")]
    return Identity(digest(distinct), training.num_steps, int(record_every), facts)


def names_of_runs(seeds: np.ndarray, hyper: Hyper) -> list[str]:
    """What tells each run from the others of its training: a digest of its seed and numbers."""
    leaves = [np.ascontiguousarray(leaf) for leaf in (seeds, *jax.tree.leaves(hyper))]
    return [digest(leaf[run].tobytes() for leaf in leaves) for run in range(len(seeds))]


def digest(parts: Iterable[str | bytes]) -> str:
    """32 hexadecimal digits."""
    sha = hashlib.sha256()
    for part in parts:
        content = part.encode() if isinstance(part, str) else part
        sha.update(len(content).to_bytes(8) + content)
    return sha.hexdigest()[:32]


def digest_of_data(data: PyTree) -> str:
    """``float32 [50, 2] of SHA-256 0123...``; "" without data of all runs."""
    leaves: list[Array | np.ndarray] = jax.tree.leaves(data)
    texts = [f"{leaf.dtype} {list(leaf.shape)}" for leaf in leaves]
    here = [
        np.ascontiguousarray(leaf).tobytes()
        for leaf in leaves
        if not isinstance(leaf, jax.Array) or leaf.is_fully_addressable
    ]
    return f"{', '.join(texts)} of SHA-256 {digest(here)[:16]}" if texts else ""
