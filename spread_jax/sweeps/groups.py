"""What is compiled for one run and for a group, and how runs come to the devices and back."""

import math
from collections.abc import Callable
from itertools import cycle
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, PyTree

from spread_jax.batches import BATCH, on_mesh
from spread_jax.sweeps.compiler import UNOPTIMIZED, compile_program, cpu_options
from spread_jax.sweeps.keys import wrap_key
from spread_jax.sweeps.labels import RESERVED
from spread_jax.training import Hyper, Training, TrainState

# Runs at once on a CPU device: as many as have their parameters and optimizer's state in its cache,
# but enough to share what starting each operation costs. An accelerator wants all that it can get
CACHE_BYTES = 2 * 2**20
MIN_RUNS_PER_DEVICE, MAX_RUNS_PER_DEVICE = 4, 32
MAX_RUNS_PER_ACCELERATOR = 4096


def initialiser(training: Training) -> Any:
    """``(seed, hyper) -> state``, jitted, so that all callers share one trace."""
    return jax.jit(lambda run: _to_raw(training.init(jax.random.key(run[0]), run[1])))


def stepper(training: Training) -> Any:
    """``(state, shared) -> (state, loss)``, jitted, on a state with raw key data."""

    def step(state: TrainState, shared: PyTree) -> tuple[TrainState, Array]:
        state, metrics = training.train_step(_to_typed(state, shared))
        return _to_raw(state, shared), metrics["loss"]

    return jax.jit(step)


def _to_raw(state: TrainState, shared: PyTree = None) -> TrainState:
    """With raw key data, numbers that any array or file can hold, and without the shared data."""
    data = state.data if shared is None else None
    return state._replace(key=jax.random.key_data(state.key), data=data)


def _to_typed(state: TrainState, shared: PyTree) -> TrainState:
    """The inverse of :func:`_to_raw`."""
    data = state.data if shared is None else shared
    return state._replace(key=wrap_key(state.key), data=data)


def bytes_per_run(init_run: Callable[[tuple[Array, Hyper]], TrainState], runs: PyTree) -> int:
    """Bytes of a run's parameters and optimizer state, which every step reads and writes."""
    state = jax.eval_shape(init_run, jax.tree.map(lambda leaf: leaf[0], runs))
    touched = jax.tree.leaves((state.params, state.opt_state))
    return sum(leaf.size * leaf.dtype.itemsize for leaf in touched)


def trace(
    training: Training, init_run: Any, step: Any, runs: tuple[PyTree, Hyper], shared: PyTree
) -> tuple[dict[str, Any], bool]:
    """Shapes of a record of one run, and whether a step or its gradient holds a convolution.

    Raises ValueError where the training reads other numbers than those of ``hyper``.
    """
    paths = jax.tree_util.tree_flatten_with_path(runs[1])[0]
    names = [jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in paths]

    def traced(hyper: Hyper) -> tuple[Any, Any]:
        run = jax.tree.map(lambda leaf: leaf[0], (runs[0], hyper))
        start = init_run.trace(run)
        return start, step.trace(start.out_info, shared)

    try:
        start, one_step = traced(runs[1])
    except KeyError as error:
        (key,) = error.args
        if not isinstance(key, str) or not _would_serve(traced, runs[1], key):
            raise  # read from something else than hyper, such as parameters
        raise ValueError(
            f"the training reads {key!r} from hyper, which the grid does not give; the grid gives "
            f"{', '.join(names) or 'nothing'}"
        ) from error
    begin, go_on = start.jaxpr.jaxpr, one_step.jaxpr.jaxpr
    read, read_later = (
        {id(variable) for equation in jaxpr.eqns for variable in equation.invars}
        for jaxpr in (begin, go_on)
    )
    # numbers that the start passes on as they are come out of it as the same variables
    passed = zip(begin.outvars, go_on.invars, strict=False)
    read |= {id(variable) for variable, taken in passed if id(taken) in read_later}
    unread = [n for n, taken in zip(names, begin.invars[1:], strict=True) if id(taken) not in read]
    if unread:
        others = [name for name in names if name not in unread]
        raise ValueError(
            f"the training does not read {', '.join(unread)} from hyper; of the grid it reads "
            f"{', '.join(others) or 'nothing'}"
        )

    def record(state: TrainState, loss: Array) -> dict[str, Array]:
        observed = training.observe(state.params)
        if taken := observed.keys() & {*names, *RESERVED}:
            raise ValueError(f"observe must use other names than {sorted(taken)}, which are taken")
        return {"loss": loss, "loss_max": loss, "loss_rise": loss, **observed}

    # as printed, a step names its operations at every depth
    return jax.eval_shape(record, *one_step.out_info), "conv_general_dilated" in str(go_on)


def _would_serve(traced: Callable[[Hyper], Any], hyper: Hyper, key: str) -> bool:
    """Whether the training gets further when the grid gives ``key`` too."""
    if key in hyper:
        return False
    try:
        traced({**hyper, key: np.ones(1, np.float32)})
    except KeyError as error:
        return error.args != (key,)
    except Exception:  # it is another's turn
        return True
    return True


class Groups:
    """Runs, split into groups of one size that are each spread evenly over all devices.

    The devices are a mesh of (run, batch): a run has one device, or several that share its batch.
    With fewer runs than that needs, devices are idle; on a CPU their cores help with each
    operation.
    """

    def __init__(self, num_runs: int, bytes_per_run: int, devices_per_run: int = 1) -> None:
        """Groups for so many runs of that size, on the devices of all processes."""
        devices = jax.devices()
        if jax.process_count() == 1:  # with several, each needs a part in every program
            devices = devices[: num_runs * devices_per_run]
        on_cpu = devices[0].platform == "cpu"
        fitting = CACHE_BYTES // max(1, bytes_per_run)
        power = 2 ** max(0, fitting.bit_length() - 1)  # so that most grids need little padding
        in_cache = min(max(power, MIN_RUNS_PER_DEVICE), MAX_RUNS_PER_DEVICE)
        most = in_cache if on_cpu else MAX_RUNS_PER_ACCELERATOR
        self.num_devices = len(devices)
        at_once = self.num_devices // devices_per_run
        self.size = min(most, math.ceil(num_runs / at_once)) * at_once
        self.runs_here = math.ceil(self.size / jax.process_count())  # of a group, in this process
        self._num_runs = num_runs
        # not by make_mesh: vmapped training fails on Explicit axes, its default
        self._mesh = Mesh(np.reshape(devices, (at_once, devices_per_run)), ("run", BATCH))
        self._by_run = NamedSharding(self._mesh, PartitionSpec("run"))
        self._by_row = NamedSharding(self._mesh, PartitionSpec("run", None, BATCH))
        self._everywhere = NamedSharding(self._mesh, PartitionSpec())
        self._devices_per_run = devices_per_run
        larger = in_cache < MAX_RUNS_PER_DEVICE
        self.options = cpu_options(larger, self.num_devices) if on_cpu else {}

    def compile(self, function: Callable, example: PyTree) -> jax.stages.Compiled:
        """``function`` of one run, called once, compiled for a group."""
        program = jax.jit(jax.vmap(function), in_shardings=self._by_run, out_shardings=self._by_run)
        return compile_program(program.lower(example), {**self.options, **UNOPTIMIZED})

    def compile_records(
        self,
        training: Training,
        state: TrainState,
        shared: PyTree,
        length: int,
        record_every: int,
        shared_by_run: bool = False,
    ) -> jax.stages.Compiled:
        """``(state of a group, shared data) -> (state, history)``, ``length`` records further; the
        data can have a part for each run."""

        def run(state: TrainState, shared: PyTree) -> tuple[TrainState, dict[str, Array]]:
            state = _to_typed(state, shared)
            state, history = training.run(state, length * record_every, record_every)
            return _to_raw(state, shared), history

        if self._devices_per_run > 1:
            run = on_mesh(run, self._mesh)
        program = jax.jit(
            jax.vmap(run, in_axes=(0, 0 if shared_by_run else None), spmd_axis_name="run"),
            in_shardings=(self._by_run, jax.tree.map(lambda leaf: leaf.sharding, shared)),
            out_shardings=self._by_run,
        )
        return compile_program(program.lower(state, shared), self.options)

    def to_every_device(self, data: PyTree) -> PyTree:
        return jax.device_put(data, self._everywhere)

    def to_devices(self, runs: PyTree) -> list[PyTree]:
        """NumPy leaves ``[run, ...]`` → for each group, arrays spread over the devices.

        They may be fewer runs than those of the sweep: their groups have the same size.
        """

        def place(leaf: np.ndarray) -> jax.Array:
            return jax.make_array_from_callback(leaf.shape, self._by_run, lambda index: leaf[index])

        return [
            jax.tree.map(lambda leaf, member=member: place(leaf[member]), runs)
            for member in self.members(len(jax.tree.leaves(runs)[0]))
        ]

    def members(self, num_runs: int) -> list[np.ndarray]:
        """Which of so many runs each group has."""
        # the padding repeats the first runs, and is dropped by to_host
        padded = np.arange(math.ceil(num_runs / self.size) * self.size) % num_runs
        return list(padded.reshape(-1, self.size))

    def place(self, num_runs: int, shapes: PyTree, make: PyTree) -> PyTree:
        """A group of arrays of these shapes of one run; ``make``, one for each array, gives the
        part ``[run, ...]`` at an index, which is asked for where a device of this process needs it.

        Of arrays ``[step, row, ...]`` of a run, the devices that share it hold some rows each.
        """

        def placed(shape: jax.ShapeDtypeStruct, make: Callable) -> jax.Array:
            divides = len(shape.shape) > 1 and shape.shape[1] % self._devices_per_run == 0
            sharding = self._by_row if divides else self._by_run
            return jax.make_array_from_callback((num_runs, *shape.shape), sharding, make)

        return jax.tree.map(placed, shapes, make)

    def mapped(self, function: Callable) -> Callable[[PyTree], PyTree]:
        """``function`` of one run, for arrays of a group."""
        return jax.jit(jax.vmap(function))

    def to_host(self, groups: list[PyTree], num_runs: int | None = None) -> PyTree:
        """The inverse of :meth:`to_devices`, on every process; by default of all runs."""
        num_runs = num_runs or self._num_runs
        if jax.process_count() > 1:
            groups = [multihost_utils.process_allgather(group, tiled=True) for group in groups]
        return jax.tree.map(
            lambda *parts: np.concatenate([np.asarray(part) for part in parts])[:num_runs],
            *groups,
        )


class OneRunPerDevice:
    """Runs in groups of one for each device, or for each few devices that share the run's batch,
    each step called from Python: a group is a list.

    For convolutions on a CPU: in a scan XLA takes 20 times as long for them, and for vmapped
    kernels longer still.
    """

    def __init__(self, num_runs: int, step: Any, devices_per_run: int = 1) -> None:
        """Groups for so many runs, on the devices of this process; ``step`` is a stepper."""
        devices = jax.local_devices()
        self.size = self.runs_here = min(num_runs, len(devices) // devices_per_run)
        self._first_device = devices[0]
        self._places: list[Any] = devices[: self.size]
        self._steps = [step] * self.size
        if devices_per_run > 1:
            rows = np.reshape(devices[: self.size * devices_per_run], (self.size, -1))
            meshes = [Mesh(row, (BATCH,)) for row in rows]
            self._places = [NamedSharding(mesh, PartitionSpec()) for mesh in meshes]
            self._steps = [
                jax.jit(on_mesh(step, mesh), out_shardings=place)
                for mesh, place in zip(meshes, self._places, strict=True)
            ]

    def compile(self, function: Callable, example: list) -> Callable[[list], list]:
        """``function`` of one run, called once, for a group."""
        lowered = jax.jit(function).lower(self._on_first(example[0]))  # once for all devices
        program = compile_program(lowered, UNOPTIMIZED)
        return lambda group: [
            jax.device_put(program(self._on_first(run)), place)
            for run, place in zip(group, self._places, strict=False)
        ]

    def _on_first(self, tree: PyTree) -> PyTree:
        return jax.device_put(tree, self._first_device)

    def compile_records(
        self,
        training: Training,
        states: list,
        shared: list,
        length: int,
        record_every: int,
        shared_by_run: bool = False,
    ) -> Callable[[list, list], tuple[list, list]]:
        """``(states of a group, shared data) -> (states, histories)``, ``length`` records on; the
        data are a list, whether those of a run or of its device."""
        steps, observe = self._steps, jax.jit(training.observe)
        for step, state, data in zip(steps, states, shared, strict=False):  # compiles
            jax.block_until_ready(step(state, data))
        jax.block_until_ready(observe(self._on_first(states[0].params)))

        def run(states: list, shared: list) -> tuple[list, list]:
            histories: list[list] = [[] for _ in states]
            for _ in range(length):
                losses: list[list] = [[] for _ in states]
                for _ in range(record_every):
                    # the devices work at the same time: a call returns before its step is done
                    for i, state in enumerate(states):
                        states[i], loss = steps[i](state, shared[i])
                        losses[i].append((loss, state.loss_statistics.min_loss))
                for i, state in enumerate(states):
                    loss, lowest = np.array(losses[i]).T
                    rise = (loss - lowest).max()
                    record = {"loss": loss.mean(), "loss_max": loss.max(), "loss_rise": rise}
                    histories[i].append({**record, **observe(self._on_first(state.params))})
            return states, [jax.tree.map(lambda *x: np.stack(x), *history) for history in histories]

        return run

    def to_devices(self, runs: PyTree) -> list[list]:
        """NumPy leaves ``[run, ...]`` → for each group, a run for each device."""
        num_runs = len(jax.tree.leaves(runs)[0])
        placed = [
            jax.device_put(jax.tree.map(lambda leaf, run=run: leaf[run], runs), place)
            for run, place in zip(range(num_runs), cycle(self._places), strict=False)
        ]
        return [placed[first : first + self.size] for first in range(0, num_runs, self.size)]

    def members(self, num_runs: int) -> list[np.ndarray]:
        """Which of so many runs each group has."""
        return [np.arange(i, min(i + self.size, num_runs)) for i in range(0, num_runs, self.size)]

    def place(self, num_runs: int, shapes: PyTree, make: PyTree) -> list[PyTree]:
        """As :meth:`Groups.place`."""
        one = [(slice(run, run + 1),) for run in range(num_runs)]
        return [
            jax.device_put(jax.tree.map(lambda make, index=index: make(index)[0], make), place)
            for index, place in zip(one, self._places, strict=False)
        ]

    def mapped(self, function: Callable) -> Callable[[list[list]], list]:
        """``function`` of a list of one run, for a list of lists of a group."""
        return lambda of_group: [function(list(each)) for each in zip(*of_group, strict=True)]

    def to_every_device(self, data: PyTree) -> list:
        return [jax.device_put(data, place) for place in self._places]

    def to_host(self, groups: list[list], num_runs: int | None = None) -> PyTree:
        """The inverse of :meth:`to_devices`, whose runs need no padding."""
        runs = [run for group in groups for run in group]
        return jax.tree.map(lambda *leaves: np.stack([np.asarray(x) for x in leaves]), *runs)
