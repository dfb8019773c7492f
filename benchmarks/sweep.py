"""How fast a sweep trains, beside PyTorch and beside what the machine can multiply."""

import dataclasses
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from benchmarks import contestants, scaling
from benchmarks.contestants import BASE, BATCH, HYPER, Rates
from spread_jax.cli import command
from spread_jax.cli.output import OutputFolder
from spread_jax.cli.progress import stage_line
from spread_jax.cli.settings import require
from spread_jax.cli.tables import print_table

if TYPE_CHECKING:
    import numpy as np
    import torch
    from matplotlib.figure import Figure

REFERENCE = BASE["runs"]  # where the ratios are taken


@dataclasses.dataclass(frozen=True)
class Settings:
    """Times training steps of the failure case's VAE (two hidden layers of 64 tanh, batch 128),
    side by side and in turns: a sweep of this package, an ordinary PyTorch loop over runs, PyTorch
    with all runs' weights stacked, and the machine's own matrix product."""

    runs: tuple[int, ...] = (1, 4, 16, 64, 256, 1024, 4096)
    """Numbers of runs in the sweep; 64, where the ratios are taken, is always added."""
    repeats: int = 7
    """Rounds in which every contestant has its turn; the results are medians over them."""
    quick: bool = False
    """A few steps of each: shows that all works, but the times mean little."""
    out: Path = Path("outputs/benchmark-sweep")
    """Folder for the results."""
    quiet: bool = False
    """Show no progress."""

    def check(self) -> None:
        require(
            len(self.runs) > 0 and min(self.runs) >= 1,
            "--runs",
            " ".join(map(str, self.runs)),
            "one number or more, each at least 1",
        )
        require(self.repeats >= 1, "--repeats", self.repeats, "at least 1")


def run(settings: Settings) -> None:
    started = time.perf_counter()
    contestants.require_torch()
    output = OutputFolder(settings.out)
    (output.path / "sweep.json").unlink(missing_ok=True)

    device = start_devices()
    counts = sorted({*settings.runs, REFERENCE})
    with stage_line(settings.quiet) as say:
        say("comparing the losses of all three")
        difference = contestants.require_same_losses(losses_side_by_side(device))
        contestants.use_fast_products(device)
        compiled = {}
        for n in counts:
            say(f"compiling the sweep of {n:,} runs")
            compiled[n] = contestants.compile_sweep(n, settings.quick)
        compile_seconds = sum(sweep.compile_seconds for sweep in compiled.values())
        one_core = contestants.one_core_flops(settings.quick) if device.type == "cpu" else None
        takers, threads = contestants.make_contestants(compiled, device, settings.quick, say)
        rates = contestants.take_turns(takers, settings.repeats, say)
        rows = {
            "runs": [
                scaling.make_row(n, compiled[n], median(rates[f"sweep of {n}"]), BASE)
                for n in counts
            ]
        }
        del takers, compiled  # their memory
        for axis, values in scaling.AXES.items():
            if settings.quick:
                values = (BASE[axis],)
            rows[axis] = scaling.measure(axis, values, settings.quick, say)

    results = {**summarise(counts, rates, rows), "one_core_flops": one_core}
    output.write_figure("throughput.png", figure_of(results))
    print_results(results, threads, difference)
    output.write_json(
        "sweep.json",
        {
            "config": dataclasses.asdict(settings),
            "environment": contestants.environment(started, compile_seconds, device, threads),
            **results,
            "loss_difference": difference,
            "rounds": rates,
        },
    )
    print(f"written to {output.path}/")


def start_devices() -> "torch.device":
    """Gives JAX its devices, and PyTorch the same kind."""
    from spread_jax import sweeps

    sweeps.use_all_cores()
    return contestants.torch_device()


def losses_side_by_side(
    device: "torch.device", num_runs: int = 3, num_steps: int = 3
) -> "dict[str, np.ndarray]":
    """Losses ``[run, step]`` of the three: same weights, same data and noise at every step.

    The first is the loss itself, those after it also compare gradients and Adam.
    """
    import jax
    import numpy as np
    import torch

    from benchmarks import torch_toy
    from spread_jax import sample_two_modes

    training = contestants.toy_training()
    hyper = {name: np.full(num_runs, value, np.float32) for name, value in HYPER.items()}
    keys = jax.vmap(jax.random.key)(np.arange(num_runs))

    def draws_and_step(state):
        # the keys of Training.train_step and of spread_elbo
        data_key, loss_key = jax.random.split(jax.random.fold_in(state.key, state.step))
        x = sample_two_modes(data_key, BATCH, HYPER["data_std"])
        noise = jax.random.normal(jax.random.split(loss_key)[0], x.shape)
        state, metrics = training.train_step(state)
        return state, (x, noise, metrics["loss"])

    with jax.default_matmul_precision("highest"):
        state = jax.jit(jax.vmap(training.init))(keys, hyper)
        params = jax.tree.map(np.asarray, state.params)
        run_steps = jax.vmap(
            lambda state: jax.lax.scan(lambda s, _: draws_and_step(s), state, length=num_steps)
        )
        _, draws = jax.jit(run_steps)(state)
    x, noise, losses = (np.array(each) for each in draws)
    x, noise = torch.from_numpy(x).to(device), torch.from_numpy(noise).to(device)

    stacked = torch_toy.StackedRuns(params, HYPER, device)
    ones = [
        torch_toy.LoopRun(contestants.run_params(params, i), HYPER, device) for i in range(num_runs)
    ]
    theirs = {"loop": torch.empty(num_runs, num_steps), "stacked": torch.empty(num_runs, num_steps)}
    for t in range(num_steps):
        theirs["stacked"][:, t] = stacked.step(x[:, t], noise[:, t])
        for i, one in enumerate(ones):
            theirs["loop"][i, t] = one.step(x[i, t], noise[i, t])
    return {"sweep": losses, **{name: each.numpy() for name, each in theirs.items()}}


def summarise(
    counts: Sequence[int], rates: Rates, rows: Mapping[str, list[scaling.Row]]
) -> dict[str, Any]:
    """Medians over the rounds; a ratio is taken within each round, where both met the same load."""

    def ratio_to(name: str) -> float:
        pairs = zip(rates[f"sweep of {REFERENCE}"], rates[name], strict=True)
        return median(ours / theirs for ours, theirs in pairs)

    throughput = {n: median(rates[f"sweep of {n}"]) for n in counts}
    return {
        "ratio_to_loop": ratio_to("loop"),
        "ratio_to_stacked": ratio_to(f"stacked of {REFERENCE}"),
        "fraction_of_limit": ratio_to("limit"),
        "throughput": throughput,
        "throughput_relative": {n: throughput[n] / throughput[REFERENCE] for n in counts},
        "throughput_stacked": {n: median(rates[f"stacked of {n}"]) for n in counts},
        "throughput_loop": median(rates["loop"]),
        "limit": median(rates["limit"]),
        "limit_flops": 2 * contestants.multiply_adds(BASE) * median(rates["limit"]),
        "scaling": {
            axis: {
                "rows": [row._asdict() for row in of_axis],
                "linear": scaling.where_linear(axis, of_axis),
            }
            for axis, of_axis in rows.items()
        },
    }


def figure_of(results: Mapping[str, Any]) -> "Figure":
    from spread_jax import figures

    throughput = results["throughput"]
    return figures.throughput_figure(
        {
            "this sweep": throughput,
            "PyTorch, stacked": results["throughput_stacked"],
            "PyTorch, loop": dict.fromkeys(throughput, results["throughput_loop"]),
        },
        results["limit"],
    )


def print_results(
    results: Mapping[str, Any], threads: Mapping[str, int], difference: float
) -> None:
    print(f"the three losses agree to {difference:.0e}")
    columns = ["runs", "this sweep", "of that at 64", "PyTorch, stacked", "threads"]
    rows = [
        [
            f"{n:,}",
            f"{rate:,.0f}",
            f"{results['throughput_relative'][n]:.2f}",
            f"{results['throughput_stacked'][n]:,.0f}",
            str(threads[f"stacked of {n}"]),
        ]
        for n, rate in results["throughput"].items()
    ]
    print_table("run-steps per second, medians over the rounds", columns, rows)
    flops = f"{results['limit_flops'] / 1e9:,.0f} GFLOP/s"
    if results["one_core_flops"]:
        flops += f" on all cores, {results['one_core_flops'] / 1e9:,.0f} on one"
    print(
        f"PyTorch, loop: {results['throughput_loop']:,.0f} run-steps/s, "
        f"threads: {threads['loop']}\n"
        f"matrix-product limit: {results['limit']:,.0f} run-steps/s ({flops})\n"
        f"at {REFERENCE} runs: {results['ratio_to_loop']:.1f} x the loop, "
        f"{results['ratio_to_stacked']:.1f} x the stacked, "
        f"{results['fraction_of_limit']:.0%} of the limit"
    )
    base = ", ".join(f"{name} {value:,}" for name, value in BASE.items())
    rows = [
        [
            axis if i == 0 else "",
            f"{row['value']:,}",
            f"{1e6 * row['seconds_per_run_step']:,.1f}",
            f"{1e12 * row['seconds_per_multiply_add']:,.1f}",
            f"{row['bytes_per_run'] / 1e3:,.0f}",
        ]
        for axis, of_axis in results["scaling"].items()
        for i, row in enumerate(of_axis["rows"])
    ]
    print_table(
        f"time and memory, one thing varied at a time from {base}",
        ["", "value", "µs per run-step", "ps per multiply-add", "kB per run"],
        rows,
        caption="memory: arguments, results and temporaries of the compiled program, by XLA's "
        f"account; linear: a multiply-add costs the same within {scaling.LINEAR - 1:.0%}",
    )
    for axis, of_axis in results["scaling"].items():
        print(f"time over {axis}: {of_axis['linear']}")


if __name__ == "__main__":
    command.main(Settings, run)
