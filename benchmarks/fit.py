"""How fast one VAE on images trains, beside the same model in PyTorch, eager and compiled."""

import dataclasses
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from benchmarks import contestants
from benchmarks.contestants import Contestant, Rates, Say
from spread_jax.cli import command
from spread_jax.cli.output import OutputFolder
from spread_jax.cli.progress import stage_line
from spread_jax.cli.settings import require
from spread_jax.cores import num_cores

if TYPE_CHECKING:
    import numpy as np
    import torch

    from spread_jax.training import Training, TrainState

SHAPE = {"dim": 784, "hidden": 400, "latent_dim": 20}
BATCH = 128
NUM_IMAGES = 60_000  # as many as MNIST has; their values do not matter to the time
HYPER = {"sigma_fix": 0.1, "learning_rate": 1e-3}
STEPS_AT_ONCE = 100


@dataclasses.dataclass(frozen=True)
class Settings:
    """Times training steps of one spread VAE (784-400-20, a variance for every pixel, batch 128,
    Adam) side by side and in turns: this package, PyTorch eager and PyTorch compiled. Each gathers
    its batches from 60,000 images on the device and uses all cores, or one where that is faster."""

    repeats: int = 7
    """Rounds in which every contestant has its turn; the results are medians over them."""
    quick: bool = False
    """A few steps of each: shows that all works, but the times mean little."""
    out: Path = Path("outputs/benchmark-fit")
    """Folder for the results."""
    quiet: bool = False
    """Show no progress."""

    def check(self) -> None:
        require(self.repeats >= 1, "--repeats", self.repeats, "at least 1")


def run(settings: Settings) -> None:
    started = time.perf_counter()
    contestants.require_torch()
    output = OutputFolder(settings.out)
    (output.path / "fit.json").unlink(missing_ok=True)
    device = contestants.torch_device()
    images = make_images(1000 if settings.quick else NUM_IMAGES)
    with stage_line(settings.quiet) as say:
        say("comparing the losses of all three")
        difference = contestants.require_same_losses(losses_side_by_side(device))
        contestants.use_fast_products(device)
        say("compiling this package's step")
        compile_started = time.perf_counter()
        ours = OurRun(images, 2 if settings.quick else STEPS_AT_ONCE)
        compile_seconds = time.perf_counter() - compile_started
        takers, threads = make_contestants(ours, images, device, settings.quick, say)
        rates = contestants.take_turns(takers, settings.repeats, say)
    results = summarise(rates)
    print_results(results, threads, difference)
    output.write_json(
        "fit.json",
        {
            "config": dataclasses.asdict(settings),
            "environment": contestants.environment(started, compile_seconds, device, threads),
            **results,
            "loss_difference": difference,
            "rounds": rates,
        },
    )
    print(f"written to {output.path}/")


def make_images(n: int) -> "np.ndarray":
    """Float32 pixels in [0, 1], a fifth of them ink, as in MNIST."""
    import numpy as np

    rng = np.random.default_rng(0)
    images = rng.random((n, SHAPE["dim"]), dtype=np.float32)
    return np.where(images > 0.8, images, 0).astype(np.float32)


def fit_training(num_steps: int) -> "Training":
    import spread_jax as sj

    vae = sj.make_vae(SHAPE["dim"], latent_dim=SHAPE["latent_dim"], hidden=(SHAPE["hidden"],))
    return sj.model_training(vae, sample_batch=sj.rows(BATCH), num_steps=num_steps)


def first_state(training: "Training", seed: int = 0) -> "TrainState":
    import jax

    return jax.jit(training.init)(jax.random.key(seed), HYPER)


class OurRun:
    """A run of this package, a compiled scan over its steps."""

    def __init__(self, images: "np.ndarray", num_steps: int) -> None:
        import jax

        training = fit_training(10_000)
        self.num_steps = num_steps
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


def make_contestants(
    ours: OurRun, images: "np.ndarray", device: "torch.device", quick: bool, say: Say
) -> tuple[dict[str, Contestant], dict[str, int]]:
    import torch

    from benchmarks import torch_vae

    data = torch.from_numpy(images).to(device)
    steps = 2 if quick else STEPS_AT_ONCE

    def torch_contestant(compiled: bool, num_threads: int) -> Contestant:
        one = torch_vae.Run(ours.params, SHAPE, HYPER, device, compiled)

        def train() -> None:
            torch.set_num_threads(num_threads)
            for _ in range(steps):
                one.step(*torch_vae.sample_batch(data, BATCH, SHAPE["latent_dim"]))
            contestants.wait(device)

        return Contestant(steps, train)

    ours.train()  # warms up
    takers = {"this package": Contestant(ours.num_steps, ours.train)}
    threads = {}
    build: dict[str, Callable[[int], Contestant]] = {
        "eager": partial(torch_contestant, False),
        "compiled": partial(torch_contestant, True),
    }
    for name, of_threads in build.items():
        say(f"trying 1 and all cores: PyTorch, {name}")
        candidates = {num_cores()} if quick else {1, num_cores()}
        choices = {n: of_threads(n) for n in sorted(candidates)}
        threads[name], takers[name] = contestants.faster(choices)
    return takers, threads


def losses_side_by_side(
    device: "torch.device", num_steps: int = 3, names: tuple[str, ...] = ("eager", "compiled")
) -> "dict[str, np.ndarray]":
    """Losses ``[step]`` of the three: same weights, same data and noise at every step."""
    import jax
    import numpy as np
    import torch

    from benchmarks import torch_vae

    training = fit_training(num_steps)
    images = make_images(1000)
    state = first_state(training)._replace(data=jax.numpy.asarray(images))
    runs = {
        name: torch_vae.Run(
            jax.device_get(state.params), SHAPE, HYPER, device, compiled=name == "compiled"
        )
        for name in names
    }
    losses: dict[str, list[float]] = {name: [] for name in ("this package", *runs)}
    with jax.default_matmul_precision("highest"):
        for _ in range(num_steps):
            # the keys of Training.train_step, of spread_elbo and of the latent's expectation
            data_key, loss_key = jax.random.split(jax.random.fold_in(state.key, state.step))
            noise_key, latent_key = jax.random.split(loss_key)
            rows = jax.random.randint(data_key, (BATCH,), 0, len(images))
            noise = jax.random.normal(noise_key, (BATCH, SHAPE["dim"]))
            draw = jax.random.normal(latent_key, (1, BATCH, SHAPE["latent_dim"]))[0]
            state, metrics = jax.jit(training.train_step)(state)
            losses["this package"].append(float(metrics["loss"]))
            given = [
                torch.tensor(np.array(each)).to(device)
                for each in (images[np.asarray(rows)], noise, draw)
            ]
            for name, one in runs.items():
                losses[name].append(float(one.step(*given)))
    return {name: np.array(each) for name, each in losses.items()}


def summarise(rates: Rates) -> dict[str, Any]:
    """Medians over the rounds; a ratio is taken within each round, where all met the same load."""

    def ratio_to(names: tuple[str, ...]) -> float:
        rounds = zip(rates["this package"], *(rates[name] for name in names), strict=True)
        return median(ours / max(theirs) for ours, *theirs in rounds)

    return {
        "steps_per_second": {name: median(each) for name, each in rates.items()},
        "ratio_to_eager": ratio_to(("eager",)),
        "ratio_to_compiled": ratio_to(("compiled",)),
        "ratio_to_faster": ratio_to(("eager", "compiled")),
    }


def print_results(
    results: Mapping[str, Any], threads: Mapping[str, int], difference: float
) -> None:
    print(f"the three losses agree to {difference:.0e}")
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
