"""How fast a sweep trains, beside PyTorch and beside what the machine can multiply."""

import dataclasses
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from benchmarks import accelerators, contestants, cost, scaling, timing
from benchmarks.contestants import BASE
from benchmarks.timing import BATCH, HYPER, Measured, OnStage, Rates, ratio
from spread_jax.cli import command
from spread_jax.cli.output import OutputFolder
from spread_jax.cli.settings import require
from spread_jax.cli.tables import print_table

if TYPE_CHECKING:
    import numpy as np
    import torch

REFERENCE = BASE["runs"]  # where the ratios are taken
COST_TABLES = {
    "cost": "the model of time and memory, fitted to these rows",
    "cost-unseen": "the model beside sweeps that it was not fitted to",
    "cost-predicted": "what the model predicts for more runs",
    "cost-images": "colour images of 64 x 64 on accelerators, from assumptions alone",
}


@dataclasses.dataclass(frozen=True)
class Settings(timing.BenchmarkSettings):
    """Times training steps of the failure case's VAE (two hidden layers of 64 tanh, batch 128), in
    alternation: in a sweep of this package, in an ordinary PyTorch loop over runs, in PyTorch with
    the weights of all runs stacked, and in plain JAX, ``jit(vmap(scan))`` over runs. Times the
    model of the default toy and the machine's own matrix product too."""

    runs: tuple[int, ...] = (1, 4, 16, 64, 256, 1024, 4096)
    """Numbers of runs in the sweep. 1 and 64 are always added, because the ratios are of these."""
    out: Path = Path("outputs/benchmark-sweep")
    """Folder for the results."""

    def check(self) -> None:
        super().check()
        usable, typed = min(self.runs, default=0) >= 1, " ".join(map(str, self.runs))
        require(usable, "--runs", typed, "one number or more, each at least 1")


def run(settings: Settings) -> None:
    counts = sorted({*settings.runs, 1, REFERENCE})

    def measure(device: "torch.device", on_stage: OnStage) -> Measured:
        compiled = {}
        for n in counts:
            on_stage(f"compiling the sweep of {n:,} runs")
            # the chunk of a sweep of 10,000 steps, shorter where that would take many seconds, but
            # long enough to hide what starting it costs
            num_records = 1 if settings.quick else max(10, min(50, 20_480 // n))
            compiled[n] = contestants.CompiledSweep(
                contestants.toy_training(), n, num_records, record_every=10
            )
        compile_seconds = sum(sweep.compile_seconds for sweep in compiled.values())
        one_core = contestants.one_core_flops(settings.quick) if device.type == "cpu" else None
        entrants, threads = contestants.make_contestants(compiled, device, settings.quick, on_stage)
        rates = timing.take_turns(entrants, settings.repeats, on_stage)
        of_counts = {n: median(rates[f"sweep of {n}"]) for n in counts}
        rows = {
            "runs": [
                scaling.make_row({**BASE, "runs": n}, compiled[n], rate)
                for n, rate in of_counts.items()
            ]
        }
        del entrants, compiled  # their memory
        for axis, values in scaling.AXES.items():
            values = (BASE[axis],) if settings.quick else values
            rows[axis] = scaling.measure_axis(axis, values, settings.quick, on_stage)
        unseen = dict(list(cost.UNSEEN.items())[: 1 if settings.quick else None])
        measured = scaling.measure(unseen, settings.quick, on_stage)
        results = summarise(counts, rates, rows, dict(zip(unseen, measured, strict=True)))
        results["one_core_flops"] = one_core
        return Measured(results, rates, threads, compile_seconds)

    timing.run_benchmark(
        settings, "sweep.json", start_devices, losses_side_by_side, measure, report
    )


def start_devices() -> "torch.device":
    """Gives JAX its devices, and PyTorch the same kind."""
    from spread_jax import sweeps

    sweeps.use_all_cores()
    return timing.torch_device()


def losses_side_by_side(
    device: "torch.device", num_runs: int = 3, num_steps: int = 3
) -> "dict[str, np.ndarray]":
    """Losses ``[run, step]`` of the four: same weights, same data and noise at every step.

    The first is the loss itself, those after it also compare gradients and Adam.
    """
    import jax
    import numpy as np

    from benchmarks import torch_models
    from benchmarks.plain_jax import PlainRuns
    from spread_jax import sample_two_modes

    training = contestants.toy_training()
    hyper = {name: np.full(num_runs, value, np.float32) for name, value in HYPER.items()}
    keys = jax.vmap(jax.random.key)(np.arange(num_runs))

    def draw(data, data_key, noise_key, latent_key):
        x = sample_two_modes(data_key, BATCH, HYPER["data_std"])
        return x, jax.random.normal(noise_key, x.shape)

    replayed = partial(timing.replay, training, draw, num_steps=num_steps)
    with jax.default_matmul_precision("highest"):
        state = jax.jit(jax.vmap(training.init))(keys, hyper)
        batches, ours = jax.jit(jax.vmap(replayed))(state)
        plain = PlainRuns(state.params, (BASE["width"],) * 2, jax.numpy.tanh).losses(*batches)
    params = jax.device_get(state.params)
    stacked = torch_models.stacked_runs(params, device)
    ones = [torch_models.one_run(params, i, device) for i in range(num_runs)]
    batches = torch_models.to_device(batches, device)
    theirs = np.empty((2, num_runs, num_steps), np.float32)
    for t in range(num_steps):
        theirs[0, :, t] = stacked.step(*(each[:, t] for each in batches)).cpu()
        for i, one in enumerate(ones):
            theirs[1, i, t] = one.step(*(each[i, t] for each in batches)).cpu()
    return {
        "sweep": np.asarray(ours),
        "stacked": theirs[0],
        "loop": theirs[1],
        "plain JAX": np.asarray(plain),
    }


def summarise(
    counts: list[int],
    rates: Rates,
    rows: Mapping[str, list[scaling.Row]],
    unseen: Mapping[str, scaling.Row],
) -> dict[str, Any]:
    """Medians over the rounds; a ratio is taken within each round, where both met the same load."""
    reference = f"sweep of {REFERENCE}"
    throughput = {n: median(rates[f"sweep of {n}"]) for n in counts}
    results: dict[str, Any] = {
        "ratio_to_loop": ratio(rates, reference, "loop"),
        "ratio_to_stacked": ratio(rates, reference, f"stacked of {REFERENCE}"),
        "fraction_of_limit": ratio(rates, reference, "limit"),
        "ratio_to_plain_jax": ratio(rates, reference, f"plain JAX of {REFERENCE}"),
        "ratio_to_plain_jax_alone": ratio(rates, "sweep of 1", "plain JAX of 1"),
        "ratio_to_plain_jax_toy": ratio(rates, "default toy", "default toy, plain JAX"),
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
        "cost": cost.summarise([row for of_axis in rows.values() for row in of_axis], unseen),
    }
    tables = {
        "ratios": ratio_rows(results),
        "throughput": throughput_rows(results),
        "scaling": scaling_rows(results),
        "cost": cost.cost_rows(results["cost"]),
        "cost-unseen": cost.unseen_rows(results["cost"]),
        "cost-predicted": cost.prediction_rows(results["cost"]),
        "cost-images": accelerators.image_rows(),
    }
    return {**results, "tables": {name: list(rows) for name, rows in tables.items()}}


def ratio_rows(results: Mapping[str, Any]) -> Iterator[str]:
    """The table of ratios, as :func:`throughput_rows`."""
    yield "this sweep | times as fast"
    yield f"64 runs, beside the PyTorch loop | {results['ratio_to_loop']:.1f}"
    yield f"64 runs, beside PyTorch with stacked weights | {results['ratio_to_stacked']:.1f}"
    yield f"64 runs, beside the matrix-product limit | {results['fraction_of_limit']:.2f}"
    yield f"64 runs, beside plain JAX | {results['ratio_to_plain_jax']:.1f}"
    yield f"64 runs of the default toy, beside plain JAX | {results['ratio_to_plain_jax_toy']:.1f}"
    yield f"one run, beside plain JAX | {results['ratio_to_plain_jax_alone']:.2f}"


def throughput_rows(results: Mapping[str, Any]) -> Iterator[str]:
    """The table of run-steps per second, its cells with " | " between them, titles first."""
    yield "runs | this sweep, run-steps/s | of that at 64 | PyTorch, stacked"
    relative, stacked = results["throughput_relative"], results["throughput_stacked"]
    for n, here in results["throughput"].items():
        yield f"{n:,} | {here:,.0f} | {relative[n]:.2f} | {stacked[n]:,.0f}"


def scaling_rows(results: Mapping[str, Any]) -> Iterator[str]:
    """The table of time and memory, as :func:`throughput_rows`."""
    yield "varied | value | µs per run-step | ps per multiply-add | kB per run"
    for axis, of_axis in results["scaling"].items():
        for i, r in enumerate(of_axis["rows"]):
            time, work = 1e6 * r["seconds_per_run_step"], 1e12 * r["seconds_per_multiply_add"]
            numbers = f"{time:,.1f} | {work:,.1f} | {r['bytes_per_run'] / 1e3:,.0f}"
            yield f"{'' if i else axis} | {r['point'][axis]:,} | {numbers}"


def report(output: OutputFolder, measured: Measured) -> None:
    from spread_jax import figures

    results, threads = measured.results, measured.threads
    throughput = results["throughput"]
    rates = {
        "this sweep": throughput,
        "PyTorch, stacked": results["throughput_stacked"],
        "PyTorch, loop": dict.fromkeys(throughput, results["throughput_loop"]),
    }
    output.write_figure("throughput.png", figures.throughput_figure(rates, results["limit"]))
    _, *rows = results["tables"]["throughput"]
    print_table(
        "run-steps per second, medians over the rounds",
        ["runs", "this sweep", "of that at 64", "PyTorch, stacked", "threads"],
        [
            [*row.split(" | "), str(threads[f"stacked of {n}"])]
            for n, row in zip(throughput, rows, strict=True)
        ],
    )
    flops = f"{results['limit_flops'] / 1e9:,.0f} GFLOP/s"
    if results["one_core_flops"]:
        flops += f" on all cores, {results['one_core_flops'] / 1e9:,.0f} on one"
    print(
        f"PyTorch, loop: {results['throughput_loop']:,.0f} run-steps/s, "
        f"threads: {threads['loop']}\n"
        f"matrix-product limit: {results['limit']:,.0f} run-steps/s ({flops})\n"
        f"at {REFERENCE} runs: {results['ratio_to_loop']:.1f} x the loop, "
        f"{results['ratio_to_stacked']:.1f} x the stacked, "
        f"{results['fraction_of_limit']:.0%} of the limit\n"
        f"beside plain JAX: {results['ratio_to_plain_jax']:.1f} x at {REFERENCE} runs, "
        f"{results['ratio_to_plain_jax_alone']:.2f} x for one run, "
        f"{results['ratio_to_plain_jax_toy']:.1f} x at {REFERENCE} runs of the default toy"
    )
    base = ", ".join(f"{name} {value:,}" for name, value in BASE.items())
    (_, *titles), *lines = (row.split(" | ") for row in results["tables"]["scaling"])
    print_table(
        f"time and memory, one thing varied at a time from {base}",
        ["", *titles],
        lines,
        caption="memory: arguments, results and temporaries of the compiled program, by XLA's "
        f"account; linear: a multiply-add costs the same within {scaling.LINEAR - 1:.0%}",
    )
    for axis, of_axis in results["scaling"].items():
        print(f"time over {axis}: {of_axis['linear']}")
    for name, title in COST_TABLES.items():
        (*titles,), *lines = (row.split(" | ") for row in results["tables"][name])
        print_table(title, titles, lines)


if __name__ == "__main__":
    command.main(Settings, run)
