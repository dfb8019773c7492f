"""How fast one VAE on images trains, beside the same model in PyTorch, eager and compiled."""

import dataclasses
import time
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from benchmarks import timing
from benchmarks.timing import BATCH, HYPER, Contestant, Measured, OnStage, Rates, ratio
from spread_jax.cli import command
from spread_jax.cli.output import OutputFolder
from spread_jax.cores import num_cores

if TYPE_CHECKING:
    import numpy as np
    import torch

    from spread_jax.training import Training, TrainState

DIM, HIDDEN, LATENT_DIM = 784, 400, 20
NUM_IMAGES = 60_000  # as many as MNIST has; their values do not matter to the time
STEPS_AT_ONCE = 100


@dataclasses.dataclass(frozen=True)
class Settings(timing.BenchmarkSettings):
    """Times training steps of one spread VAE (784-400-20, a variance for every pixel, batch 128,
    Adam), in alternation in this package, eager PyTorch and compiled PyTorch. Each gathers its
    batches from 60,000 images on the device. Each uses all cores, or one if that is faster."""

    out: Path = Path("outputs/benchmark-fit")
    """Folder for the results."""


def run(settings: Settings) -> None:
    timing.run_benchmark(
        settings,
        "fit.json",
        timing.torch_device,
        losses_side_by_side,
        partial(measure, settings),
        print_results,
    )


def measure(settings: Settings, device: "torch.device", on_stage: OnStage) -> Measured:
    import torch

    from benchmarks import torch_models

    images = make_images(1000 if settings.quick else NUM_IMAGES)
    steps = 2 if settings.quick else STEPS_AT_ONCE
    on_stage("compiling this package's step")
    started = time.perf_counter()
    ours = OurRun(images, steps)
    compile_seconds = time.perf_counter() - started
    data = torch.from_numpy(images).to(device)

    def make_step(compiled: bool) -> Any:
        one = torch_models.image_run(ours.params, device, compiled)
        return lambda: one.step(*torch_models.image_batch(data, BATCH, LATENT_DIM))

    ours.train()  # warms up
    entrants, threads = {"this package": Contestant(steps, ours.train)}, {}
    for name, compiled in (("eager", False), ("compiled", True)):
        on_stage(f"trying 1 and all cores: PyTorch, {name}")
        numbers = {num_cores()} if settings.quick else {1, num_cores()}
        threads[name], entrants[name] = timing.torch_contestant(
            partial(make_step, compiled), steps, steps, device, numbers
        )
    rates = timing.take_turns(entrants, settings.repeats, on_stage)
    return Measured(summarise(rates), rates, threads, compile_seconds)


def make_images(n: int) -> "np.ndarray":
    """Float32 pixels in [0, 1], a fifth of them ink, as in MNIST."""
    import numpy as np

    images = np.random.default_rng(0).random((n, DIM), dtype=np.float32)
    return np.where(images > 0.8, images, 0).astype(np.float32)


def fit_training(num_steps: int) -> "Training":
    import spread_jax as sj

    vae = sj.make_vae(DIM, latent_dim=LATENT_DIM, hidden=(HIDDEN,))
    return sj.model_training(vae, sample_batch=sj.rows(BATCH), num_steps=num_steps)


def first_state(training: "Training") -> "TrainState":
    import jax

    return jax.jit(training.init)(jax.random.key(0), HYPER)


class OurRun:
    """A run of this package, a compiled scan over its steps."""

    def __init__(self, images: "np.ndarray", num_steps: int) -> None:
        import jax

        training = fit_training(10_000)
        self._images = jax.device_put(images)
        self._state = first_state(training)
        self.params = jax.device_get(self._state.params)

        def steps(state: Any, images: Any) -> Any:
            state = state._replace(data=images)
            state, losses = jax.lax.scan(
                lambda state, _: training.train_step(state), state, length=num_steps
            )
            return state._replace(data=None), losses["loss"]

        self._steps = jax.jit(steps, donate_argnums=0).lower(self._state, self._images).compile()

    def train(self) -> None:
        import jax

        self._state, losses = self._steps(self._state, self._images)
        jax.block_until_ready(losses)


def losses_side_by_side(
    device: "torch.device", num_steps: int = 3, names: tuple[str, ...] = ("eager", "compiled")
) -> "dict[str, np.ndarray]":
    """Losses ``[step]`` of the three: same weights, same data and noise at every step."""
    import jax
    import numpy as np

    from benchmarks import torch_models

    training = fit_training(num_steps)
    state = first_state(training)._replace(data=jax.numpy.asarray(make_images(1000)))

    def draw(data, data_key, noise_key, latent_key):
        x = data[jax.random.randint(data_key, (BATCH,), 0, len(data))]
        # the key of the latent's expectation
        z = jax.random.normal(latent_key, (1, BATCH, LATENT_DIM))[0]
        return x, jax.random.normal(noise_key, x.shape), z

    with jax.default_matmul_precision("highest"):
        batches, ours = jax.jit(partial(timing.replay, training, draw, num_steps=num_steps))(state)
    params, batches = jax.device_get(state.params), torch_models.to_device(batches, device)
    losses = {"this package": np.asarray(ours)}
    for name in names:
        one = torch_models.image_run(params, device, name == "compiled")
        losses[name] = np.array([float(one.step(*batch)) for batch in zip(*batches, strict=True)])
    return losses


def summarise(rates: Rates) -> dict[str, Any]:
    """Medians over the rounds; a ratio is taken within each round, where all met the same load."""
    others = {"eager": ["eager"], "compiled": ["compiled"], "faster": ["eager", "compiled"]}
    ratios = {name: ratio(rates, "this package", *each) for name, each in others.items()}
    return {
        "steps_per_second": {name: median(each) for name, each in rates.items()},
        **{f"ratio_to_{name}": each for name, each in ratios.items()},
        "tables": {"one-model": [*ratio_rows(ratios)]},
    }


def ratio_rows(ratios: Mapping[str, float]) -> Iterator[str]:
    """The table of ratios, its cells with " | " between them, titles first."""
    yield "one model of 784-400-20 | times as fast"
    yield f"beside eager PyTorch | {ratios['eager']:.2f}"
    yield f"beside compiled PyTorch | {ratios['compiled']:.2f}"


def print_results(output: OutputFolder, measured: Measured) -> None:
    results, threads = measured.results, measured.threads
    for name, rate in results["steps_per_second"].items():
        of = f", threads: {threads[name]}" if name in threads else ""
        print(f"{name}: {rate:,.0f} steps/s{of}")
    print(
        f"one run is {results['ratio_to_eager']:.2f} x PyTorch eager, "
        f"{results['ratio_to_compiled']:.2f} x PyTorch compiled, "
        f"{results['ratio_to_faster']:.2f} x the faster of the two"
    )


if __name__ == "__main__":
    command.main(Settings, run)
