"""Where the steps of a sweep get their data: from the devices, or from rows that are read as they
are needed, those of the next block of steps while one trains.

Which rows a step takes is what its ``sample_batch`` asks of the data, and depends on nothing but
the run's seed, its numbers and the step. So it is computed ahead, by the step itself without all
that does not bear on it; the rows are read, and the step is given them in place of the data.
"""

import dataclasses
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, closing, nullcontext
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from spread_jax.arguments import described
from spread_jax.sweeps.groups import stepper, trace
from spread_jax.sweeps.identity import Identity, digest_of_data, identify
from spread_jax.sweeps.parts import Part
from spread_jax.sweeps.sources import RowSource, on_device
from spread_jax.training import Hyper, Training, TrainState

BLOCK_BYTES = 64 * 2**20  # of a process, unless one step of its runs needs more
LARGEST = ("loss_max", "loss_rise")


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class Block:
    """The rows of some steps.

    Attributes:
      rows: ``[step, *indices, *row]`` of a run.
      first: the first of the steps.
    """

    rows: Any
    first: Any


class _View:
    """What a ``sample_batch`` sees in place of the data: ``len(data)`` and ``data[indices]``."""

    def __init__(self, source: RowSource, look_up: Callable[[Array], Array]) -> None:
        self.shape, self.ndim = source.shape, len(source.shape)
        self.dtype = jax.eval_shape(on_device, jax.ShapeDtypeStruct((), source.dtype)).dtype
        self._look_up = look_up

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, indices: Any) -> Array:
        if not (hasattr(indices, "dtype") and jnp.issubdtype(indices.dtype, jnp.integer)):
            wanted = "by an array of whole numbers, data[indices]"
            raise TypeError(
                f"rows of streamed data are looked up {wanted}, not {described(indices)}"
            )
        return self._look_up(jnp.asarray(indices))


class OnDevices:
    """Data that every device holds, or that the training makes itself.

    Attributes:
      step: a stepper of the training.
    """

    def __init__(self, training: Training, data: PyTree) -> None:
        """``data`` is None where the training makes its own."""
        self._training, self._data = training, data
        self.step = stepper(training)

    def trace(self, init_run: Any, runs: tuple[PyTree, Hyper]) -> tuple[dict[str, Any], bool]:
        """As :func:`groups.trace`."""
        return trace(self._training, init_run, self.step, runs, self._data)

    def identify(self, init_run: Any, runs: tuple[PyTree, Hyper], record_every: int) -> Identity:
        """As :func:`identity.identify`."""
        data = digest_of_data(self._data)
        return identify(self._training, init_run, self.step, runs, self._data, record_every, data)

    def shapes(self) -> PyTree:
        """Of what a step is given beside its run."""
        return jax.eval_shape(lambda data: data, self._data)

    def prepare(
        self, groups: Any, runs: tuple[PyTree, Hyper], longest: int, record_every: int
    ) -> None:
        """Gives the data to the devices of these groups."""
        self._groups, self._record_every = groups, record_every
        self._shared = groups.to_every_device(self._data)

    def compile_records(self, group: Any, length: int) -> Callable[[Any, Any], tuple[Any, Any]]:
        """``(state of a group, shared data) -> (state, history)``, ``length`` records further."""
        return self._groups.compile_records(
            self._training, group, self._shared, length, self._record_every
        )

    def of_part(
        self, part: Part, runs: tuple[PyTree, Hyper], lengths: list[int]
    ) -> AbstractContextManager[Any]:
        """The shared data."""
        return nullcontext(self._shared)


class Stream:
    """Rows that are read as they are needed, for the steps of one training.

    Attributes:
      step: a stepper of the training on the :class:`Block` of the step.
    """

    def __init__(self, training: Training, source: RowSource) -> None:
        """A stream; :meth:`trace` comes before all else, since it sees what a step asks for."""
        self._source, self._training = source, training
        self._asked: tuple[int, ...] = ()
        self._on_blocks = training._replace(train_step=self._step_on_block)
        self.step = stepper(self._on_blocks)
        self._places = jax.jit(jax.vmap(self._places_of_run, in_axes=(0, None)))

    def _look(self, state: TrainState) -> tuple[TrainState, dict[str, Array], Array]:
        """A step on rows of zeros, and the places of the rows that it asked for."""
        asked = []

        def look_up(places: Array) -> Array:
            asked.append(places)
            rows = jnp.zeros((*places.shape, *self._source.shape[1:]), self._source.dtype)
            return on_device(rows)

        view = _View(self._source, look_up)
        after, metrics = self._training.train_step(state._replace(data=view))
        if len(asked) != 1:
            once = "sample_batch must look up rows of streamed data once a step, as sj.rows does"
            raise ValueError(f"{once}, not {len(asked)} times")
        return after._replace(data=state.data), metrics, asked[0]

    def _step_on_block(self, state: TrainState) -> tuple[TrainState, dict[str, Array]]:
        block = state.data
        rows = on_device(block.rows[state.step - block.first])
        view = _View(self._source, lambda places: rows)
        after, metrics = self._training.train_step(state._replace(data=view))
        return after._replace(data=block), metrics

    def _places_of_run(self, run: tuple[Array, Hyper], steps: Array) -> Array:
        """``[step, *places]``; XLA drops all of the step but these."""
        start = self._training.init(jax.random.key(run[0]), run[1])
        return jax.vmap(lambda step: self._look(start._replace(step=step))[2])(steps)

    def trace(self, init_run: Any, runs: tuple[PyTree, Hyper]) -> tuple[dict[str, Any], bool]:
        """As :func:`groups.trace`."""

        def look(state: TrainState) -> tuple[TrainState, dict[str, Array]]:
            after, metrics, places = self._look(state)
            self._asked = places.shape
            return after, metrics

        looking = self._training._replace(train_step=look)
        return trace(looking, init_run, stepper(looking), runs, None)

    def identify(self, init_run: Any, runs: tuple[PyTree, Hyper], record_every: int) -> Identity:
        """As :func:`identity.identify`, where which rows a step takes is a program of its own."""
        one = jax.tree.map(lambda leaf: leaf[:1], runs)
        places = self._places.lower(one, jnp.zeros(1, jnp.int32)).as_text()
        block = self.shapes(1)
        data = self._source.description
        return identify(
            self._on_blocks, init_run, self.step, runs, block, record_every, data, [places]
        )

    def shapes(self, num_steps: int = 1) -> Block:
        """Of a run's block."""
        shape = (num_steps, *self._asked, *self._source.shape[1:])
        rows = jax.ShapeDtypeStruct(shape, self._source.dtype)
        return Block(rows, jax.ShapeDtypeStruct((), jnp.int32))

    def prepare(
        self, groups: Any, runs: tuple[PyTree, Hyper], longest: int, record_every: int
    ) -> None:
        """For chunks of up to ``longest`` records."""
        rows = self.shapes(1).rows
        bytes_per_step = groups.runs_here * rows.size * rows.dtype.itemsize
        self._groups = groups
        self._plan = Plan(longest, record_every, BLOCK_BYTES // max(1, bytes_per_step))
        self._as_records = groups.mapped(self._plan.as_records)
        (first, *_) = groups.members(len(runs[0]))
        self._places_from(jax.tree.map(lambda leaf: leaf[first], runs), 0)  # compiles

    def compile_records(
        self, group: Any, length: int
    ) -> Callable[[Any, Iterator[Any]], tuple[Any, Any]]:
        """``(state of a group, blocks) -> (state, history)``, ``length`` records further."""

        def zeros(shape: jax.ShapeDtypeStruct) -> Callable[[Any], np.ndarray]:
            whole = np.broadcast_to(np.zeros((), shape.dtype), (self._groups.size, *shape.shape))
            return lambda index: whole[index]

        shapes = self.shapes(self._plan.block_steps)
        example = self._groups.place(self._groups.size, shapes, jax.tree.map(zeros, shapes))
        every = self._plan.every
        counts = [steps // every for steps in self._plan.steps(length)]
        of_block = {
            count: self._groups.compile_records(
                self._on_blocks, group, example, count, every, shared_by_run=True
            )
            for count in set(counts)
        }

        def program(state: Any, blocks: Iterator[Any]) -> tuple[Any, Any]:
            histories = []
            for count in counts:
                state, history = of_block[count](state, next(blocks))
                # one block trains, and one is read; further ahead they would fill the memory
                histories.append(jax.block_until_ready(history))
            return state, self._as_records(histories)

        return program

    def of_part(
        self, part: Part, runs: tuple[PyTree, Hyper], lengths: list[int]
    ) -> AbstractContextManager[Iterator[Any]]:
        """The blocks of a part's groups in the order of training, for chunks of these lengths."""
        return closing(self._blocks(part, runs, lengths))

    def _blocks(
        self, part: Part, runs: tuple[PyTree, Hyper], lengths: list[int]
    ) -> Generator[Any, None, None]:
        coming: Future | None = None
        with ThreadPoolExecutor(max_workers=1) as thread:
            for of_group, first, num_steps in self._wanted(part, runs, lengths):
                # asked of the device before it is given the steps of the block before
                places = self._places_from(of_group, first)
                now, coming = coming, thread.submit(self._load, places, first, num_steps)
                if now:
                    yield now.result()
            if coming:
                yield coming.result()

    def _wanted(
        self, part: Part, runs: tuple[PyTree, Hyper], lengths: list[int]
    ) -> Iterator[tuple[PyTree, int, int]]:
        """The runs, the first step and the number of steps of each block."""
        members = [part.runs[places] for places in self._groups.members(len(part.runs))]
        begun = part.records * self._plan.record_every
        for length in lengths:
            for group in members:
                of_group = jax.tree.map(lambda leaf, group=group: leaf[group], runs)
                first = begun
                for num_steps in self._plan.steps(length):
                    yield of_group, first, num_steps
                    first += num_steps
            begun += length * self._plan.record_every

    def _places_from(self, of_group: tuple[PyTree, Hyper], first: int) -> Array:
        """``[run, step, *places]`` of a block that begins at a step."""
        return self._places(of_group, first + jnp.arange(self._plan.block_steps))

    def _load(self, places: Array, first: int, num_steps: int) -> Any:
        """A block, read and on its way to the devices."""
        wanted = np.asarray(places)[:, :num_steps]
        num_runs = len(wanted)
        missing = self._plan.block_steps - num_steps

        def rows(index: Any) -> np.ndarray:
            found = self._source.read(wanted[index[: wanted.ndim]])
            # all blocks have one shape, so that a step is compiled once
            widths = [(0, 0), (0, missing), *[(0, 0)] * (found.ndim - 2)]
            return np.pad(found, widths) if missing else found

        def steps(index: Any) -> np.ndarray:
            return np.full(num_runs, first, np.int32)[index[0]]

        shapes = self.shapes(self._plan.block_steps)
        return self._groups.place(num_runs, shapes, Block(rows, steps))


class Plan:
    """How chunks of records are cut into blocks: of whole records, or of equal parts of one.

    Attributes:
      record_every: steps of a record.
      every: steps of a part of a record; a record's, where a block has room for it.
      block_steps: that a block has room for.
    """

    def __init__(self, longest: int, record_every: int, most_steps: int) -> None:
        """For chunks of up to ``longest`` records, and blocks of up to ``most_steps`` steps."""
        divisors = (n for n in range(1, record_every + 1) if record_every % n == 0)
        self.record_every = record_every
        self.every = max(n for n in divisors if n <= max(1, most_steps))
        parts = longest * record_every // self.every
        num_blocks = -(-parts // max(1, most_steps // self.every))
        self.block_steps = -(-parts // num_blocks) * self.every

    def steps(self, length: int) -> list[int]:
        """Of each block of a chunk of ``length`` records, about equally many."""
        parts = np.arange(0, length * self.record_every, self.every)
        num_blocks = -(-length * self.record_every // self.block_steps)
        return [len(block) * self.every for block in np.array_split(parts, num_blocks)]

    def as_records(self, histories: list[dict[str, Any]]) -> dict[str, Array]:
        """The history of a run by records, from those of its blocks by parts of records."""
        ways = {"loss": lambda x: x.mean(axis=1), **dict.fromkeys(LARGEST, lambda x: x.max(axis=1))}
        parts = self.record_every // self.every
        whole = {}
        for name in histories[0]:
            curve = jnp.concatenate([history[name] for history in histories])
            by_record = curve.reshape(-1, parts, *curve.shape[1:])
            whole[name] = ways.get(name, lambda x: x[:, -1])(by_record)
        return whole
