"""What takes part: this sweep, PyTorch twice, and the machine's own matrix product."""

import importlib.util
import itertools
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from experiments import two_modes
from spread_jax.cli.output import jax_environment
from spread_jax.cli.settings import require
from spread_jax.cores import num_cores

if TYPE_CHECKING:
    import numpy as np
    import torch

    from spread_jax.training import Training

Choice = TypeVar("Choice", int, str)
Say = Callable[[str], None]
Rates = dict[str, list[float]]  # run-steps per second, one number a round

BATCH = 128
HYPER = {"sigma_fix": 0.1, "learning_rate": 1e-3, "data_std": 0.1}
SAME_LOSS = 1e-5  # of the loss, or of 1 nat where that is more: float32
BASE = {"runs": 64, "steps": 10_000, "width": 64, "dimension": 2}  # width of two hidden layers


class Contestant(NamedTuple):
    """Work that can be timed again and again.

    Attributes:
      run_steps: what a call of ``train`` is worth.
      train: does it, and returns when the device is done.
    """

    run_steps: float
    train: Callable[[], None]

    def rate(self) -> float:
        """Run-steps per second, this time."""
        start = time.perf_counter()
        self.train()
        return self.run_steps / (time.perf_counter() - start)


def require_torch() -> None:
    """Raises BadInputError where PyTorch is not installed."""
    require(
        importlib.util.find_spec("torch") is not None,
        "PyTorch",
        "(missing)",
        "installed to be compared with: pip install -e '.[bench]'",
    )


def torch_device() -> "torch.device":
    """Of the kind that JAX has, whose devices begin here unless they have begun."""
    # both count on one GPU; JAX would take its whole memory, and all GPUs there are
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "0")
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    import jax
    import torch

    platform = jax.default_backend()
    kinds = {"cpu": "cpu", "gpu": "cuda"}
    accepted = "one that PyTorch can use too: set JAX_PLATFORMS=cpu"
    usable = platform in kinds and (platform == "cpu" or torch.cuda.is_available())
    require(usable, "JAX's device", platform, accepted)
    return torch.device(kinds[platform])


def require_same_losses(losses: "Mapping[str, np.ndarray]") -> float:
    """The largest difference to the first losses, relative where these exceed 1 nat.

    Raises:
      RuntimeError: if they are not computed the same.
    """
    import numpy as np

    ours, *others = losses.values()
    # NumPy's maximum, unlike Python's, is NaN wherever one of them is
    difference = float(np.max([abs(each - ours) / abs(ours).clip(1) for each in others]))
    if not difference <= SAME_LOSS:
        raise RuntimeError(f"the losses differ by {difference:.1e}: their times would be void")
    return difference


def use_fast_products(device: "torch.device") -> None:
    """JAX's default on a GPU is TF32; PyTorch's is not."""
    import torch

    if device.type == "cuda":
        torch.set_float32_matmul_precision("high")


def environment(
    started: float, compile_seconds: float, device: "torch.device", threads: Mapping[str, int]
) -> dict[str, Any]:
    import torch

    entries = jax_environment(started, compile_seconds)
    entries["versions"]["torch"] = torch.__version__
    return {**entries, "torch_device": str(device), "torch_threads": dict(threads)}


def toy_training(steps: int = BASE["steps"]) -> "Training":
    hidden = (BASE["width"],) * 2
    settings = two_modes.TwoModeSettings(
        steps=steps, batch_size=BATCH, hidden=hidden, activation="tanh"
    )
    return two_modes.make_training(settings, two_modes.make_model(settings))


class CompiledSweep:
    """A chunk of a sweep's steps as ``sweeps.train_runs`` takes it, compiled once."""

    def __init__(
        self, training: "Training", num_runs: int, num_records: int, record_every: int
    ) -> None:
        import numpy as np

        from spread_jax import sweeps

        start = time.perf_counter()
        self.run_steps = num_runs * num_records * record_every
        seeds = np.arange(num_runs, dtype=np.uint32)
        hyper = {name: np.full(num_runs, value, np.float32) for name, value in HYPER.items()}
        init_run = sweeps.initialiser(training)
        size = sweeps.bytes_per_run(init_run, (seeds, hyper))
        self._groups = sweeps.Groups(num_runs, size)
        inputs = self._groups.to_devices((seeds, hyper))
        init = self._groups.compile(init_run, inputs[0])
        self._states = [init(group) for group in inputs]
        self._run = self._groups.compile_records(
            training, self._states[0], None, num_records, record_every
        )
        self.compile_seconds = time.perf_counter() - start

        memory = self._run.memory_analysis()  # of one device
        assert memory is not None  # CPU and GPU have it
        states = memory.argument_size_in_bytes * len(self._states)  # groups that wait keep theirs
        work = memory.output_size_in_bytes + memory.temp_size_in_bytes
        self.bytes_per_run = (states + work) * self._groups.num_devices / num_runs

    def params(self) -> Any:
        """Of all runs, NumPy leaves ``[run, ...]``."""
        return self._groups.to_host(self._states).params

    def train(self) -> None:
        import jax

        parts = []
        for i in range(len(self._states)):
            self._states[i], part = self._run(self._states[i], None)
            parts.append(jax.block_until_ready(part))
        self._groups.to_host(parts)


def compile_sweep(num_runs: int, quick: bool) -> CompiledSweep:
    # the chunk of a sweep of 10,000 steps, shorter where that would take many seconds, but long
    # enough to hide what starting it costs
    num_records = 1 if quick else max(10, min(50, 20_480 // num_runs))
    return CompiledSweep(toy_training(), num_runs, num_records, record_every=10)


def make_contestants(
    compiled: Mapping[int, CompiledSweep], device: "torch.device", quick: bool, say: Say
) -> tuple[dict[str, Contestant], dict[str, int]]:
    """The contestants, those of the ratios first; and the threads of the PyTorch ones."""
    contestants: dict[str, Contestant] = {}
    threads: dict[str, int] = {}
    params = {n: sweep.params() for n, sweep in compiled.items()}

    def add_torch(name: str, build: Callable[[int], Contestant]) -> None:
        # its threads help large products and hinder small ones
        say(f"trying 1 and all cores: {name}")
        candidates = {1} if quick else {1, num_cores()}
        threads[name], contestants[name] = faster({n: build(n) for n in candidates})

    for n in sorted(compiled, key=lambda n: n != BASE["runs"]):
        sweep = compiled[n]
        sweep.train()  # the first call warms up
        contestants[f"sweep of {n}"] = Contestant(sweep.run_steps, sweep.train)
        steps = 2 if quick else max(2, min(100, 4_096 // n))
        add_torch(f"stacked of {n}", partial(stacked_contestant, params[n], steps, device))
        if n == BASE["runs"]:
            one, steps = run_params(params[n], 0), 10 if quick else 500
            add_torch("loop", partial(loop_contestant, one, steps, device))
            say("trying libraries: matrix product")
            contestants["limit"] = limit_contestant(device, quick)
    return contestants, threads


def run_params(params: Any, i: int) -> Any:
    import jax

    return jax.tree.map(lambda leaf: leaf[i], params)


def faster(choices: Mapping[Choice, Contestant]) -> tuple[Choice, Contestant]:
    for contestant in choices.values():
        contestant.train()  # warms up
    rates = {name: median(choice.rate() for _ in range(3)) for name, choice in choices.items()}
    best = max(rates, key=lambda name: rates[name])
    return best, choices[best]


def loop_contestant(
    params: Any, steps: int, device: "torch.device", num_threads: int
) -> Contestant:
    """An ordinary loop over runs; they come one after the other, so one run tells its rate."""
    import torch

    from benchmarks import torch_toy

    one = torch_toy.LoopRun(params, HYPER, device)

    def train() -> None:
        torch.set_num_threads(num_threads)
        for _ in range(steps):
            one.step(*torch_toy.sample_batch((BATCH,), HYPER, device))
        wait(device)

    return Contestant(steps, train)


def stacked_contestant(
    params: Any, steps: int, device: "torch.device", num_threads: int
) -> Contestant:
    """All runs in each product."""
    import torch

    from benchmarks import torch_toy

    stacked = torch_toy.StackedRuns(params, HYPER, device)
    num_runs = stacked.num_runs

    def train() -> None:
        torch.set_num_threads(num_threads)
        for _ in range(steps):
            stacked.step(*torch_toy.sample_batch((num_runs, BATCH), HYPER, device))
        wait(device)

    return Contestant(num_runs * steps, train)


def limit_contestant(device: "torch.device", quick: bool) -> Contestant:
    """Large matrix products on all cores, counted in run-steps of as many multiply-adds."""
    import numpy as np
    import torch

    on_cpu = device.type == "cpu"
    size, products = (256 if quick else 2_048, 2) if on_cpu else (8_192, 20)
    a, b, out = (torch.randn(size, size, device=device) for _ in range(3))

    def train(product: Callable[[], Any]) -> None:
        torch.set_num_threads(num_cores())
        for _ in range(products):
            product()
        wait(device)

    libraries = {"torch": lambda: torch.mm(a, b, out=out)}
    if on_cpu:  # PyTorch's library is not the faster one on every make of processor
        libraries["numpy"] = lambda: np.matmul(a.numpy(), b.numpy(), out=out.numpy())
    run_steps = products * size**3 / multiply_adds(BASE)
    return faster(
        {name: Contestant(run_steps, partial(train, each)) for name, each in libraries.items()}
    )[1]


ONE_CORE = """
import time
import numpy as np
a = np.random.default_rng(0).normal(size=({size}, {size})).astype(np.float32)
times = []
for _ in range(7):
    start = time.perf_counter()
    a @ a
    times.append(time.perf_counter() - start)
print(2 * {size} ** 3 / np.median(times[2:]))
"""


def one_core_flops(quick: bool) -> float:
    """Of large matrix products; in a process of its own, since NumPy's threads are fixed early."""
    threads = dict.fromkeys(("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS"), "1")
    done = subprocess.run(
        [sys.executable, "-c", ONE_CORE.format(size=256 if quick else 2_048)],
        env={**os.environ, **threads},
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    return float(done.stdout)


def wait(device: "torch.device") -> None:
    import torch

    if device.type == "cuda":
        torch.cuda.synchronize()


def multiply_adds(point: Mapping[str, int]) -> int:
    """Of the networks in a step of a run: forward, weight gradients, and input gradients but for
    the first layers. The encoder sees the batch, the decoder the two states of z."""
    width, dim = point["width"], point["dimension"]

    def of_network(widths: Sequence[int], num_points: int) -> int:
        layers = [a * b for a, b in itertools.pairwise(widths)]
        return num_points * (3 * sum(layers) - layers[0])

    decoder = of_network((1, width, width, 2 * dim), 2)  # both heads
    return of_network((dim, width, width, 1), BATCH) + decoder


def take_turns(contestants: Mapping[str, Contestant], repeats: int, say: Say) -> Rates:
    rates: Rates = {name: [] for name in contestants}
    for i in range(repeats):
        for name, contestant in contestants.items():
            say(f"round {i + 1} of {repeats}: {name}")
            rates[name].append(contestant.rate())
    return rates
