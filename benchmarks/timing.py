"""A benchmark from its flags to its JSON file: contestants are timed side by side, in turns."""

import dataclasses
import importlib.util
import os
import time
from collections.abc import Callable, Collection, Mapping
from functools import partial
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from spread_jax.cli.output import OutputFolder, jax_environment
from spread_jax.cli.settings import require
from spread_jax.progress import stage_line

if TYPE_CHECKING:
    import numpy as np
    import torch
    from jax import Array

    from spread_jax.training import Training, TrainState

Choice = TypeVar("Choice", int, str)
OnStage = Callable[[str], None]
Rates = dict[str, list[float]]  # run-steps per second, one number a round

BATCH = 128
HYPER = {"sigma_fix": 0.1, "learning_rate": 1e-3, "data_std": 0.1}
SAME_LOSS = 1e-5  # of the loss, or of 1 nat where that is more: float32


@dataclasses.dataclass(frozen=True)
class BenchmarkSettings:
    """The flags of every benchmark."""

    repeats: int = 7
    """Number of rounds. Each round times every contestant; results are medians over the rounds."""
    quick: bool = False
    """Take a few steps of each, to show that everything works. The times mean little."""
    out: Path = Path("outputs")
    """Folder for the results."""
    quiet: bool = False
    """Show no progress."""

    def check(self) -> None:
        require(self.repeats >= 1, "--repeats", self.repeats, "at least 1")


class Contestant(NamedTuple):
    """Work that can be timed again and again.

    Attributes:
      run_steps: what a call of ``train`` is worth.
      train: does it, and returns when the device is done.
    """

    run_steps: float
    train: Callable[[], object]

    def rate(self) -> float:
        """Run-steps per second, this time."""
        start = time.perf_counter()
        self.train()
        return self.run_steps / (time.perf_counter() - start)


class Measured(NamedTuple):
    """What a benchmark found; its results are entries of the JSON file."""

    results: dict[str, Any]
    rates: Rates
    threads: dict[str, int]  # of the PyTorch contestants
    compile_seconds: float  # of this package's programs


def run_benchmark(
    settings: BenchmarkSettings,
    name: str,
    start_devices: "Callable[[], torch.device]",
    losses_side_by_side: "Callable[[torch.device], Mapping[str, np.ndarray]]",
    measure: "Callable[[torch.device, OnStage], Measured]",
    report: Callable[[OutputFolder, Measured], None],
) -> None:
    """Compares the losses of all contestants, measures, reports, and writes the file ``name``."""
    accepted = "installed to be compared with: pip install -e '.[bench]'"
    require(importlib.util.find_spec("torch") is not None, "PyTorch", "(missing)", accepted)
    output = OutputFolder(settings.out)
    (output.path / name).unlink(missing_ok=True)
    device = start_devices()
    import torch

    with stage_line(settings.quiet) as on_stage:
        on_stage("comparing the losses of all")
        difference = require_same_losses(losses_side_by_side(device))
        if device.type == "cuda":  # JAX's default on a GPU is TF32; PyTorch's is not
            torch.set_float32_matmul_precision("high")
        measured = measure(device, on_stage)
    print(f"the losses agree to {difference:.0e}")
    report(output, measured)
    environment = jax_environment(output.started, measured.compile_seconds)
    environment["versions"]["torch"] = torch.__version__
    of_torch = {"torch_device": str(device), "torch_threads": measured.threads}
    head = {"config": dataclasses.asdict(settings), "environment": {**environment, **of_torch}}
    tail = {"loss_difference": difference, "rounds": measured.rates}
    output.write_json(name, {**head, **measured.results, **tail})
    print(f"written to {output.path}/")


def torch_device() -> "torch.device":
    """Of the kind that JAX has, whose devices begin here unless they have begun."""
    # both count on one GPU; JAX would take its whole memory, and all GPUs there are
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "0")
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    import jax
    import torch

    platform = jax.default_backend()
    usable = platform == "cpu" or (platform == "gpu" and torch.cuda.is_available())
    accepted = "one that PyTorch can use too: set JAX_PLATFORMS=cpu"
    require(usable, "JAX's device", platform, accepted)
    return torch.device("cpu" if platform == "cpu" else "cuda")


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


def replay(
    training: "Training", draw: Callable[..., Any], state: "TrainState", num_steps: int
) -> tuple[Any, "Array"]:
    """``num_steps`` further: what every step was given, and its loss, leaves ``[step, ...]``.

    ``draw`` is ``(data, data_key, noise_key, latent_key) -> batch``, drawn as a step does it.
    """
    import jax

    def step(state: "TrainState", _: None) -> "tuple[TrainState, Any]":
        # the keys of Training.train_step and of spread_elbo
        data_key, loss_key = jax.random.split(jax.random.fold_in(state.key, state.step))
        batch = draw(state.data, data_key, *jax.random.split(loss_key))
        state, metrics = training.train_step(state)
        return state, (batch, metrics["loss"])

    return jax.lax.scan(step, state, length=num_steps)[1]


def torch_contestant(
    make_step: Callable[[], Callable[[], object]],
    run_steps: float,
    num_steps: int,
    device: "torch.device",
    threads: Collection[int],
) -> tuple[int, Contestant]:
    """PyTorch, ``num_steps`` a turn, on the number of threads that serves it best.

    They help large products and hinder small ones. ``make_step`` makes a step anew for each number,
    which a compiler may build in.
    """
    import torch

    def train(step: Callable[[], object], num_threads: int) -> None:
        torch.set_num_threads(num_threads)
        for _ in range(num_steps):
            step()
        wait(device)

    return faster({n: Contestant(run_steps, partial(train, make_step(), n)) for n in threads})


def faster(choices: Mapping[Choice, Contestant]) -> tuple[Choice, Contestant]:
    for contestant in choices.values():
        contestant.train()  # warms up
    rates = {name: median(choice.rate() for _ in range(3)) for name, choice in choices.items()}
    best = max(rates, key=lambda name: rates[name])
    return best, choices[best]


def wait(device: "torch.device") -> None:
    import torch

    if device.type == "cuda":
        torch.cuda.synchronize()


def take_turns(contestants: Mapping[str, Contestant], repeats: int, on_stage: OnStage) -> Rates:
    rates: Rates = {name: [] for name in contestants}
    for i in range(repeats):
        for name, contestant in contestants.items():
            on_stage(f"round {i + 1} of {repeats}: {name}")
            rates[name].append(contestant.rate())
    return rates


def ratio(rates: Rates, ours: str, *theirs: str) -> float:
    """Median over the rounds of ours to the fastest of theirs, which met the same load."""
    rounds = zip(rates[ours], *(rates[name] for name in theirs), strict=True)
    return median(rate / max(others) for rate, *others in rounds)
