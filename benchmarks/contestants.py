"""What takes part: this sweep, PyTorch twice, plain JAX, and the machine's matrix product."""

import itertools
import math
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from statistics import median
from typing import TYPE_CHECKING, Any

from benchmarks.timing import BATCH, HYPER, Contestant, OnStage, faster, torch_contestant, wait
from experiments import two_modes
from spread_jax.cores import num_cores

if TYPE_CHECKING:
    import torch

    from spread_jax.training import Training

BASE = {"runs": 64, "steps": 10_000, "width": 64, "dimension": 2}  # width of two hidden layers


def toy_training(steps: int = BASE["steps"]) -> "Training":
    hidden = (BASE["width"],) * 2
    settings = two_modes.TwoModeSettings(
        steps=steps, batch_size=BATCH, hidden=hidden, activation="tanh"
    )
    return two_modes.make_training(settings)


def default_toy() -> "Training":
    return two_modes.make_training(two_modes.TwoModeSettings())


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
        self.num_devices = self._groups.num_devices
        self.group = self._groups.size // self.num_devices
        self.bytes_per_run = (states + work) * self.num_devices / num_runs

    def contestant(self) -> Contestant:
        """Warmed up."""
        self.train()
        return Contestant(self.run_steps, self.train)

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


def make_contestants(
    compiled: Mapping[int, CompiledSweep], device: "torch.device", quick: bool, on_stage: OnStage
) -> tuple[dict[str, Contestant], dict[str, int]]:
    """The contestants, those of the ratios first; and the threads of the PyTorch ones."""
    import jax

    from benchmarks import torch_models
    from benchmarks.plain_jax import PlainRuns

    contestants: dict[str, Contestant] = {}
    threads: dict[str, int] = {}

    def add_torch(
        name: str, make: "Callable[[], torch_models.Run]", shape: tuple[int, ...], steps: int
    ) -> None:
        def make_step() -> Callable[[], object]:
            run = make()
            return lambda: run.step(*torch_models.two_modes_batch((*shape, BATCH), device))

        on_stage(f"trying 1 and all cores: {name}")
        run_steps = math.prod(shape) * steps
        threads[name], contestants[name] = torch_contestant(
            make_step, run_steps, steps, device, [1] if quick else {1, num_cores()}
        )

    for n in sorted(compiled, key=lambda n: n != BASE["runs"]):
        sweep = compiled[n]
        params = sweep.params()
        contestants[f"sweep of {n}"] = sweep.contestant()
        steps = 2 if quick else max(2, min(100, 4_096 // n))
        stacked = partial(torch_models.stacked_runs, params, device)
        add_torch(f"stacked of {n}", stacked, (n,), steps)
        if n == BASE["runs"]:
            # the runs of a loop come one after the other, so one tells its rate
            one = partial(torch_models.one_run, params, 0, device)
            add_torch("loop", one, (), 10 if quick else 500)
            on_stage("trying libraries: matrix product")
            contestants["limit"] = limit_contestant(device, quick)
        if n in (1, BASE["runs"]):
            on_stage(f"compiling plain JAX: {n} runs")
            plain = PlainRuns(params, (BASE["width"],) * 2, jax.numpy.tanh)
            contestants[f"plain JAX of {n}"] = plain.contestant(2 if quick else 10_000 // n)
    on_stage("compiling the default toy")
    num_records = 1 if quick else 50
    toy = CompiledSweep(default_toy(), BASE["runs"], num_records, record_every=10)
    plain = PlainRuns(toy.params(), two_modes.TwoModeSettings().hidden, jax.nn.relu)
    contestants["default toy"] = toy.contestant()
    contestants["default toy, plain JAX"] = plain.contestant(10 * num_records)
    return contestants, threads


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


def one_core_flops(quick: bool) -> float:
    """Of large matrix products by NumPy."""
    import numpy as np
    from threadpoolctl import threadpool_limits

    size = 256 if quick else 2_048
    a = np.random.default_rng(0).normal(size=(size, size)).astype(np.float32)
    product = Contestant(2 * size**3, lambda: a @ a)
    with threadpool_limits(1):
        return median([product.rate() for _ in range(7)][2:])


def multiply_adds(point: Mapping[str, int]) -> int:
    """Of the networks in a step of a run: forward, weight gradients, and input gradients but for
    the first layers. The encoder sees the batch, the decoder the two states of z."""
    width, dim = point["width"], point["dimension"]

    def of_network(widths: Sequence[int], num_points: int) -> int:
        layers = [a * b for a, b in itertools.pairwise(widths)]
        return num_points * (3 * sum(layers) - layers[0])

    decoder = of_network((1, width, width, 2 * dim), 2)  # both heads
    return of_network((dim, width, width, 1), BATCH) + decoder
