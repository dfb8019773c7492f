"""Many training runs as one program: vmapped over a grid of numbers and seeds, and labelled."""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
import xarray as xr
from jax.experimental import multihost_utils
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from jaxtyping import Array, PyTree

from spread_jax.checkpoints import CheckpointError, Checkpoints
from spread_jax.machine import num_cores
from spread_jax.training import NEVER, Hyper, Training, TrainState

# Runs at once on a CPU device: as many as have their parameters and optimizer's state in its cache,
# but enough to share what starting each operation costs. An accelerator wants all that it can get
CACHE_BYTES = 2 * 2**20
MIN_RUNS_PER_DEVICE, MAX_RUNS_PER_DEVICE = 4, 32
MAX_RUNS_PER_ACCELERATOR = 4096
NUM_CHUNKS = 20
MAX_RECORDS = 1_000_000  # of all curves by default: 4,096 runs stay below 1 GiB

# Of XLA on a CPU, measured with jax 0.10.2 where there is AVX-512: vectors of 512 bits are 10 %
# faster than the 256 that it prefers. YNNPACK, its default, halves the speed of small networks;
# given nothing but the products of larger ones it makes them up to a fourth faster
CPU_COMPILER_OPTIONS: dict[str, Any] = {
    "xla_cpu_experimental_ynn_fusion_type": "",
    "xla_cpu_prefer_vector_width": 512,
}
OF_LARGER_NETWORKS = {"xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT"}
# With a device for each core, to split an operation over threads only costs: 5 %, no digit changes
OF_A_DEVICE_PER_CORE: dict[str, Any] = {
    "xla_disable_hlo_passes": "cpu-parallel-task-assigner",
    "xla_cpu_multi_thread_eigen": False,
}
# for what runs once: halves the time to compile it
UNOPTIMIZED: dict[str, Any] = {"xla_backend_optimization_level": 0}


class Variable(NamedTuple):
    """How an observed array is labelled: its axes after (grid, seed, step), its name, its unit."""

    dims: tuple[str, ...]
    long_name: str
    units: str


class Progress(NamedTuple):
    """Where a sweep stands, told once it is compiled and after every chunk of every group.

    Attributes:
      done, total: run-steps, the steps of all runs added up.
      num_nonfinite: runs that have stopped, at a loss that is not finite.
      history: the curves of the chunks that all runs have done, ``[run, record, ...]``; empty
        before the first.
    """

    done: int
    total: int
    num_nonfinite: int
    history: Mapping[str, np.ndarray]


class Sweep(NamedTuple):
    """Finished runs.

    Attributes:
      dataset: curves with dims (grid axes, seed, step, ...) and numbers per run with dims
        (grid axes, seed); every variable has ``long_name`` and ``units``.
      params: the final parameters, NumPy leaves with leading axes (grid axes, seed).
      compile_seconds: spent before the first step.
      train_seconds: spent in the steps.
    """

    dataset: xr.Dataset
    params: PyTree
    compile_seconds: float
    train_seconds: float


def use_all_cores() -> None:
    """One CPU device per core: XLA runs one CPU device on about one core.

    Must come before anything else asks JAX for its devices; afterwards it raises RuntimeError.
    """
    try:
        jax.config.update("jax_num_cpu_devices", num_cores())
    except RuntimeError as error:
        raise RuntimeError(
            "use_all_cores must come before JAX is first used: call it at the top of the program, "
            "or after restarting the notebook's kernel"
        ) from error


def sweep(
    training: Training,
    grid: Mapping[str, float | Sequence[float]],
    *,
    num_seeds: int,
    seed: int = 0,
    record_every: int | None = None,
    variables: Mapping[str, Variable] | None = None,
    on_progress: Callable[[Progress], None] = lambda progress: None,
    checkpoints: Checkpoints | None = None,
    data: PyTree = None,
    step_by_step: bool = False,
) -> Sweep:
    """Trains every point of ``grid`` from ``num_seeds`` seeds, as one compiled program.

    A run depends on its own seed and numbers alone: run i of any grid point starts from
    ``jax.random.key(seed + i)``, and can be repeated alone. Its digits can differ between
    programs that train another number of runs per device, or have fewer runs than there are
    devices, since XLA then reorders sums.

    Args:
      training: what to train; its ``hyper`` is a dict with the keys of ``grid``.
      grid: name → values, an axis of the results; or name → one value, the same for all runs.
      num_seeds: runs per grid point.
      seed: the first seed.
      record_every: steps per point of the recorded curves; must divide ``training.num_steps``.
        By default the curves have 1,000 points or a little more, fewer from 1,000 runs on.
      variables: labels of what ``training.observe`` returns.
      on_progress: called once all is compiled, and after every chunk of every group of runs, about
        20 times for each group.
      checkpoints: where to save after every chunk, and what to go on from.
      data, step_by_step: as in :func:`train_runs`.

    Raises:
      ValueError: if ``num_seeds``, ``seed`` or a value of the grid cannot be used, an axis is empty
        or has the name of another, or ``record_every`` does not divide.
      CheckpointError: if a checkpoint cannot be read or written, or is of other runs.

    Examples:
      >>> training = sj.make_training(
      ...     init_params=lambda key: jax.random.normal(key),
      ...     loss_fn=lambda params, key, x, hyper: (x - params) ** 2,
      ...     sample_batch=lambda key, data, hyper: hyper["target"],
      ...     optimizer=lambda hyper: optax.adam(0.1),
      ...     num_steps=200,
      ... )
      >>> done = sj.sweep(training, {"target": [1.0, 2.0, 3.0]}, num_seeds=4)
      >>> dict(done.dataset["loss"].sizes)
      {'target': 3, 'seed': 4, 'step': 200}
      >>> print(done.params.mean(axis=1).round())
      [1. 2. 3.]
    """
    _check_seeds(seed, num_seeds)
    for name, values in grid.items():
        _check_axis(name, values)
    axes = {name: np.atleast_1d(values) for name, values in grid.items() if np.ndim(values)}
    axes["seed"] = seed + np.arange(num_seeds)
    shape = tuple(axis.size for axis in axes.values())
    meshed = dict(zip(axes, np.meshgrid(*axes.values(), indexing="ij"), strict=True))
    hyper = {
        name: np.broadcast_to(meshed.get(name, values), shape).astype(np.float32).ravel()
        for name, values in grid.items()
    }
    if record_every is None:
        record_every = default_record_every(training.num_steps, math.prod(shape))

    finished = train_runs(
        training,
        meshed["seed"].ravel(),
        hyper,
        record_every=record_every,
        on_progress=on_progress,
        checkpoints=checkpoints,
        data=data,
        step_by_step=step_by_step,
    )

    def unravel(leaf: np.ndarray) -> np.ndarray:
        return leaf.reshape(*shape, *leaf.shape[1:])

    statistics = finished.state.loss_statistics
    dataset = _label(
        axes,
        curves={name: unravel(curve) for name, curve in finished.history.items()},
        numbers={
            "late_loss_std": unravel(np.asarray(statistics.late_loss_std)),
            "max_loss_rise": unravel(np.asarray(statistics.max_loss_rise)),
            "first_nonfinite_step": unravel(np.asarray(statistics.first_nonfinite_step)),
        },
        record_every=record_every,
        variables=variables or {},
    )
    return Sweep(
        dataset.assign_attrs({name: v for name, v in grid.items() if name not in axes}),
        jax.tree.map(unravel, finished.state.params),
        finished.compile_seconds,
        finished.train_seconds,
    )


def _check_seeds(seed: int, num_seeds: int) -> None:
    whole = isinstance(seed, int | np.integer) and isinstance(num_seeds, int | np.integer)
    if not (whole and num_seeds >= 1 and 0 <= seed <= 2**32 - num_seeds):
        raise ValueError(
            "num_seeds must be a whole number >= 1, and seed one from 0 to 2^32 - num_seeds, got "
            f"{num_seeds} and {seed}"
        )


def _check_axis(name: str, values: float | Sequence[float]) -> None:
    if name in {"seed", "step", *_LOSS_VARIABLES}:
        raise ValueError(f"no axis of a grid can be called {name!r}: the results use that name")
    array = np.asarray(values)
    if array.dtype.kind not in "biuf" or array.ndim > 1 or array.size == 0:
        raise ValueError(f"{name} must be a number or a list of one number or more, got {values!r}")


class FinishedRuns(NamedTuple):
    """What :func:`train_runs` returns: NumPy leaves with a leading axis of runs.

    ``state.key`` holds the raw data of the runs' keys.
    """

    state: TrainState
    history: dict[str, np.ndarray]
    compile_seconds: float
    train_seconds: float


def train_runs(
    training: Training,
    seeds: np.ndarray,
    hyper: PyTree,
    *,
    record_every: int = 1,
    on_progress: Callable[[Progress], None] = lambda progress: None,
    checkpoints: Checkpoints | None = None,
    data: PyTree = None,
    step_by_step: bool = False,
) -> FinishedRuns:
    """Trains run i from ``key(seeds[i])`` with the i-th numbers of ``hyper``, for all i at once.

    The runs are spread over all devices of all processes, in groups small enough for the cache;
    the last group is padded. Steps come in chunks, called from Python: so progress can be told,
    and after each chunk there is a checkpoint.

    Args:
      training: what to train.
      seeds: ``[run]``, integers from 0.
      hyper: leaves ``[run]``.
      record_every: steps per point of the recorded curves.
      on_progress: called after every chunk of every group.
      checkpoints: where to save after every chunk, and what to go on from.
      data: a data set that all runs share, arrays, in place of what ``training`` would make; it
        lies once on each device, and is no part of a checkpoint.
      step_by_step: Python calls every step of every run, a run on each device, where otherwise
        the program scans over the steps of many runs. For convolutions on a CPU: in a scan XLA
        takes 20 times as long for them, and for vmapped kernels longer still.

    Raises:
      ValueError: if ``record_every`` does not divide the steps.
      CheckpointError: if a checkpoint cannot be read or written.
    """
    if record_every < 1 or training.num_steps % record_every:
        raise ValueError(
            f"record_every must be at least 1 and divide the {training.num_steps} steps, got "
            f"{record_every}"
        )
    num_records = training.num_steps // record_every
    length_of_run = np.array([training.num_steps, record_every])
    num_runs = len(seeds)
    start = time.perf_counter()
    runs = (seeds.astype(np.uint32), hyper)
    init_run = initialiser(training)
    groups: Any = (
        _OneRunPerDevice(num_runs)
        if step_by_step
        else Groups(num_runs, bytes_per_run(init_run, runs))
    )
    chunks = list(_chunk_lengths(num_records))
    # asked before compiling: processes that meet here first meet while they are still in step
    done = (checkpoints and checkpoints.latest()) or 0

    inputs = groups.to_devices(runs)
    init = groups.compile(init_run, inputs[0], optimize=False)
    states = [init(group) for group in inputs]
    shared = groups.to_every_device(data)
    run = {
        length: groups.compile_records(training, states[0], shared, length, record_every)
        for length in set(chunks)
    }
    # the whole curves at once: to append chunk by chunk would hold them twice
    whole: dict[str, np.ndarray] = {}

    def allocate(record: Mapping[str, Any]) -> None:
        for name, leaf in record.items():
            whole[name] = np.empty((num_runs, num_records, *leaf.shape[1:]), leaf.dtype)

    def history() -> dict[str, np.ndarray]:
        records = steps_of_a_run // record_every
        return {name: curve[:, :records] for name, curve in whole.items()}

    steps_of_a_run = record_every * sum(chunks[:done])
    if checkpoints and done:
        allocate(_one_record(training, hyper, data))
        begun = groups.to_host(states)
        saved = checkpoints.restore(done, (begun, history(), length_of_run))
        _require_same_runs(checkpoints, (saved[0], saved[2]), (begun, length_of_run))
        states = groups.to_devices(saved[0])
        for name, curve in history().items():
            curve[...] = saved[1][name]
    compile_seconds = time.perf_counter() - start

    start = time.perf_counter()
    num_nonfinite = 0

    def tell(runs_ahead: int, steps_ahead: int) -> None:
        run_steps = num_runs * steps_of_a_run + runs_ahead * steps_ahead
        total = num_runs * training.num_steps
        on_progress(Progress(run_steps, total, num_nonfinite, history()))

    tell(0, 0)
    for chunk, length in list(enumerate(chunks))[done:]:
        parts = []
        for i in range(len(states)):
            states[i], part = run[length](states[i], shared)
            parts.append(jax.block_until_ready(part))
            if i + 1 < len(states):
                tell((i + 1) * groups.size, record_every * length)
        first = steps_of_a_run // record_every
        part = groups.to_host(parts)
        if not whole:
            allocate({name: curve[0] for name, curve in part.items()})
        for name, curve in part.items():
            whole[name][:, first : first + length] = curve
        steps_of_a_run += record_every * length
        broken = jax.tree.map(
            lambda state: state.loss_statistics.first_nonfinite_step,
            states,
            is_leaf=lambda tree: isinstance(tree, TrainState),
        )
        num_nonfinite = int(np.sum(groups.to_host(broken) != NEVER))
        tell(0, 0)
        if checkpoints:
            checkpoints.save(chunk + 1, (groups.to_host(states), history(), length_of_run))
    if checkpoints:
        checkpoints.wait()
    train_seconds = time.perf_counter() - start
    return FinishedRuns(groups.to_host(states), whole, compile_seconds, train_seconds)


def _require_same_runs(
    checkpoints: Checkpoints,
    saved: tuple[TrainState, np.ndarray],
    begun: tuple[TrainState, np.ndarray],
) -> None:
    def what_stays(runs: TrainState, length: np.ndarray) -> PyTree:
        return runs.hyper, runs.key, length

    same = jax.tree.map(np.array_equal, what_stays(*saved), what_stays(*begun))
    if not all(jax.tree.leaves(same)):
        raise CheckpointError(
            f"{checkpoints.folder}: was begun with other numbers of the grid, other seeds or "
            "another number of steps; take another folder, or resume=False to start again"
        )


class Groups:
    """Runs, split into groups of one size that are each spread evenly over all devices.

    Fewer runs than devices leave devices idle; on a CPU their cores help with each operation.
    """

    def __init__(self, num_runs: int, bytes_per_run: int) -> None:
        """Groups for so many runs of that size, on the devices of all processes."""
        # with several processes each needs a part in every program
        devices = jax.devices() if jax.process_count() > 1 else jax.devices()[:num_runs]
        on_cpu = devices[0].platform == "cpu"
        in_cache = _runs_in_cache(bytes_per_run)
        most = in_cache if on_cpu else MAX_RUNS_PER_ACCELERATOR
        per_device = min(most, math.ceil(num_runs / len(devices)))
        self.num_devices = len(devices)
        self.size = per_device * self.num_devices
        self._num_runs = num_runs
        # the padding repeats the first runs, and is dropped by to_host
        padded = np.arange(math.ceil(num_runs / self.size) * self.size) % num_runs
        self._members = padded.reshape(-1, self.size)
        # Auto axes: vmapped training fails on the Explicit ones that make_mesh defaults to
        mesh = jax.make_mesh(
            (len(devices),), ("run",), axis_types=(AxisType.Auto,), devices=devices
        )
        self._by_run = NamedSharding(mesh, PartitionSpec("run"))
        self._everywhere = NamedSharding(mesh, PartitionSpec())
        self.options = _cpu_compiler_options(in_cache, self.num_devices) if on_cpu else {}

    def compile(
        self, function: Callable, example: PyTree, optimize: bool = True
    ) -> jax.stages.Compiled:
        """``function`` of one run, compiled for a group."""
        program = jax.jit(jax.vmap(function), in_shardings=self._by_run, out_shardings=self._by_run)
        options = self.options if optimize else {**self.options, **UNOPTIMIZED}
        return program.lower(example).compile(compiler_options=options)

    def compile_records(
        self, training: Training, state: TrainState, shared: PyTree, length: int, record_every: int
    ) -> jax.stages.Compiled:
        """``(state of a group, shared data) -> (state, history)``, ``length`` records further."""
        program = jax.jit(
            jax.vmap(
                lambda state, shared: run_records(training, state, length, record_every, shared),
                in_axes=(0, None),
            ),
            in_shardings=(self._by_run, self._everywhere),
            out_shardings=self._by_run,
        )
        return program.lower(state, shared).compile(compiler_options=self.options)

    def to_every_device(self, data: PyTree) -> PyTree:
        return jax.device_put(data, self._everywhere)

    def to_devices(self, runs: PyTree) -> list[PyTree]:
        """NumPy leaves ``[run, ...]`` → for each group, arrays spread over the devices."""

        def place(leaf: np.ndarray) -> jax.Array:
            return jax.make_array_from_callback(leaf.shape, self._by_run, lambda index: leaf[index])

        return [
            jax.tree.map(lambda leaf, member=member: place(leaf[member]), runs)
            for member in self._members
        ]

    def to_host(self, groups: list[PyTree]) -> PyTree:
        """The inverse of :meth:`to_devices`, on every process."""
        if jax.process_count() > 1:
            groups = [multihost_utils.process_allgather(group, tiled=True) for group in groups]
        return jax.tree.map(
            lambda *parts: np.concatenate([np.asarray(part) for part in parts])[: self._num_runs],
            *groups,
        )


def _runs_in_cache(bytes_per_run: int) -> int:
    """A power of two, so that most grids need little padding."""
    fitting = CACHE_BYTES // max(1, bytes_per_run)
    power = 2 ** max(0, fitting.bit_length() - 1)
    return min(max(power, MIN_RUNS_PER_DEVICE), MAX_RUNS_PER_DEVICE)


def _cpu_compiler_options(runs_in_cache: int, num_devices: int) -> dict[str, Any]:
    larger = OF_LARGER_NETWORKS if runs_in_cache < MAX_RUNS_PER_DEVICE else {}
    per_process = num_devices // jax.process_count()
    alone = OF_A_DEVICE_PER_CORE if per_process >= num_cores() else {}
    return {**CPU_COMPILER_OPTIONS, **larger, **alone}


class _OneRunPerDevice:
    """Runs in groups of one for each device, not vmapped: a group is a list over devices."""

    def __init__(self, num_runs: int) -> None:
        self._devices = jax.local_devices()[:num_runs]
        self.size = len(self._devices)
        self._num_runs = num_runs

    def compile(
        self, function: Callable, example: list, optimize: bool = True
    ) -> Callable[[list], list]:
        """``function`` of one run, for a group."""
        program = jax.jit(function, compiler_options={} if optimize else UNOPTIMIZED)
        del example  # it compiles at its first call; on one device, to compile but once
        return lambda group: [
            jax.device_put(program(self._on_first(run)), device)
            for run, device in zip(group, self._devices, strict=False)
        ]

    def _on_first(self, tree: PyTree) -> PyTree:
        return jax.device_put(tree, self._devices[0])

    def compile_records(
        self, training: Training, states: list, shared: list, length: int, record_every: int
    ) -> Callable[[list, list], tuple[list, list]]:
        """``(states of a group, shared data) -> (states, histories)``, ``length`` records on."""
        step = jax.jit(lambda state, shared: _one_step(training, state, shared))
        observe = jax.jit(training.observe)
        for state, data in zip(states, shared, strict=False):  # compiles
            jax.block_until_ready(step(state, data))
        jax.block_until_ready(observe(self._on_first(states[0].params)))

        def run(states: list, shared: list) -> tuple[list, list]:
            histories: list[list] = [[] for _ in states]
            for _ in range(length):
                losses: list[list] = [[] for _ in states]
                for _ in range(record_every):
                    # the devices work at the same time: a call returns before its step is done
                    for i, state in enumerate(states):
                        states[i], loss = step(state, shared[i])
                        losses[i].append(loss)
                for i, state in enumerate(states):
                    all_losses = np.array(losses[i])
                    record = {"loss": all_losses.mean(), "loss_max": all_losses.max()}
                    histories[i].append({**record, **observe(self._on_first(state.params))})
            return states, [
                jax.tree.map(lambda *leaves: np.stack(leaves), *history) for history in histories
            ]

        return run

    def to_devices(self, runs: PyTree) -> list[list]:
        """NumPy leaves ``[run, ...]`` → for each group, a run for each device."""
        return [
            [
                jax.device_put(jax.tree.map(lambda leaf, run=run: leaf[run], runs), device)
                for run, device in zip(range(first, self._num_runs), self._devices, strict=False)
            ]
            for first in range(0, self._num_runs, self.size)
        ]

    def to_every_device(self, data: PyTree) -> list:
        return [jax.device_put(data, device) for device in self._devices]

    def to_host(self, groups: list[list]) -> PyTree:
        """The inverse of :meth:`to_devices`."""
        runs = [run for group in groups for run in group]
        return jax.tree.map(lambda *leaves: np.stack([np.asarray(x) for x in leaves]), *runs)


def initialiser(training: Training) -> Callable[[tuple[Array, Hyper]], TrainState]:
    """``(seed, hyper) -> state``, jitted, so that it is traced once whoever asks."""
    return jax.jit(lambda run: _with_raw_key(training.init(jax.random.key(run[0]), run[1])))


def bytes_per_run(init_run: Callable[[tuple[Array, Hyper]], TrainState], runs: PyTree) -> int:
    """Of the parameters and the optimizer's state, which every step reads and writes."""
    state = jax.eval_shape(init_run, jax.tree.map(lambda leaf: leaf[0], runs))
    touched = jax.tree.leaves((state.params, state.opt_state))
    return sum(leaf.size * leaf.dtype.itemsize for leaf in touched)


def _with_raw_key(state: TrainState) -> TrainState:
    """Raw key data are numbers, which every kind of array and file can hold."""
    return state._replace(key=jax.random.key_data(state.key))


def _with_typed_key(state: TrainState, shared: PyTree) -> TrainState:
    state = state._replace(key=jax.random.wrap_key_data(state.key))
    return state if shared is None else state._replace(data=shared)


def _without_shared(state: TrainState, shared: PyTree) -> TrainState:
    return _with_raw_key(state if shared is None else state._replace(data=None))


def run_records(
    training: Training,
    state: TrainState,
    num_records: int,
    record_every: int,
    shared: PyTree = None,
) -> tuple[TrainState, dict[str, Array]]:
    """``training.run`` for a number of records, on a state with raw key data."""
    state = _with_typed_key(state, shared)
    state, history = training.run(state, num_records * record_every, record_every)
    return _without_shared(state, shared), history


def _one_step(training: Training, state: TrainState, shared: PyTree) -> tuple[TrainState, Array]:
    state, metrics = training.train_step(_with_typed_key(state, shared))
    return _without_shared(state, shared), metrics["loss"]


def _one_record(training: Training, hyper: PyTree, shared: PyTree) -> PyTree:
    """Shapes and dtypes of the history of one run and one record, leaves ``[1, ...]``."""

    def run(hyper: PyTree, shared: PyTree) -> PyTree:
        state = _with_raw_key(training.init(jax.random.key(0), hyper))
        return run_records(training, state, 1, 1, shared)[1]

    return jax.eval_shape(run, jax.tree.map(lambda leaf: leaf[0], hyper), shared)


def default_record_every(num_steps: int, num_runs: int) -> int:
    """The largest divisor of ``num_steps`` that leaves 1,000 records and more, else 1.

    Above MAX_RECORDS of all runs added up, the curves are thinned to share them.
    """
    wanted = max(1, min(1000, MAX_RECORDS // num_runs))
    return max(n for n in range(1, max(1, num_steps // wanted) + 1) if num_steps % n == 0)


def _chunk_lengths(num_records: int) -> Iterator[int]:
    length = math.ceil(num_records / NUM_CHUNKS)
    for first in range(0, num_records, length):
        yield min(length, num_records - first)


_LOSS_VARIABLES = {
    "loss": Variable((), "training loss, mean over the steps of the record", "nats"),
    "loss_max": Variable((), "training loss, largest over the steps of the record", "nats"),
    "late_loss_std": Variable(
        (), "standard deviation of the per-step training loss over the last tenth", "nats"
    ),
    "max_loss_rise": Variable(
        (), "largest rise of the loss above its earlier minimum, last nine tenths", "nats"
    ),
    "first_nonfinite_step": Variable((), "first step with a non-finite loss, -1 if none", "step"),
}


def _label(
    axes: Mapping[str, np.ndarray],
    *,
    curves: Mapping[str, np.ndarray],
    numbers: Mapping[str, np.ndarray],
    record_every: int,
    variables: Mapping[str, Variable],
) -> xr.Dataset:
    variables = {**_LOSS_VARIABLES, **variables}
    num_records = next(iter(curves.values())).shape[len(axes)]
    steps = record_every * np.arange(1, num_records + 1)
    dataset = xr.Dataset(
        coords={
            **{name: (name, axis) for name, axis in axes.items()},
            "step": ("step", steps, {"long_name": "optimizer steps done", "units": "steps"}),
        }
    )
    for dims, arrays in (((*axes, "step"), curves), (tuple(axes), numbers)):
        for name, array in arrays.items():
            inner = tuple(f"{name}_{i}" for i in range(array.ndim - len(dims)))
            variable = variables.get(name, Variable(inner, name, "1"))
            attrs = {"long_name": variable.long_name, "units": variable.units}
            dataset[name] = ((*dims, *variable.dims), array, attrs)
    return dataset
