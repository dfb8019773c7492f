"""The failure case and its cure: a plain VAE and a spread VAE on two modes of a line."""

import dataclasses
import time
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from experiments import command

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import numpy as np
    import xarray as xr

    from spread_jax.training import Training

MIN_POWER = 0.03  # nats; at 0.05 (sigma_fix 0.7) 95 % of seeds find both modes, at 0.01 (1.0) 2 %
FLOAT32_STEP = 2.0**-23  # spacing of float32 at the modes, |x| = 1


@dataclasses.dataclass(frozen=True)
class TwoModeSettings(command.TrainingSettings):
    """The failure case's data and model."""

    data_std: float = 0.1
    """Standard deviation of a mode of the data, in data units."""
    data_size: int | None = None
    """Points of a finite data set, drawn once a seed; None: fresh data at every step."""
    activation: Literal["relu", "tanh"] = "relu"
    """Of the hidden layers."""
    initial_log_var: float = -3.0
    """Where the decoder's log-variance starts, log of data units squared."""
    no_zero_log_var_kernel: bool = False
    """Start the log-variance head's kernel as any other layer's, not at zero."""
    signed_latent: bool = False
    """Show z to the decoder as -1 / +1 instead of 0 / 1."""

    def check(self) -> None:
        super().check()
        command.require_positive("--data-std", self.data_std, "data units")
        if self.data_size is not None:
            command.require(self.data_size >= 1, "--data-size", self.data_size, "at least 1")
        command.require(
            abs(self.initial_log_var) <= 80,
            "--initial-log-var",
            self.initial_log_var,
            "between -80 and 80, so that its exponential is a float32",
        )


@dataclasses.dataclass(frozen=True)
class Settings(TwoModeSettings):
    """The failure case and its cure: a plain VAE (sigma_fix = 0) and a spread VAE on two modes of
    a line in the plane, all seeds of both in one compiled program."""

    sigma_fix: float = 0.1
    """Standard deviation of the noise added to data and model, in data units."""
    learning_rate: float = 1e-3
    """Adam's learning rate; over the last three tenths of the steps it falls to half."""
    out: Path = Path("outputs/toy")
    """Folder for the results."""

    def check(self) -> None:
        super().check()
        command.require_non_negative("--sigma-fix", self.sigma_fix, "data units")
        command.require_positive("--learning-rate", self.learning_rate)


def two_mode_training(settings: TwoModeSettings) -> "Training":
    """The VAE of the failure case: Bernoulli latent, exact sum, networks and data by settings.

    Its hyper is ``{"sigma_fix", "learning_rate", "data_std"}``; sigma_fix 0 is the plain VAE.
    """
    import jax
    import jax.numpy as jnp
    import optax

    import spread_jax as sj
    from spread_jax.networks import BernoulliEncoder, GaussianDecoder

    activation = {"relu": jax.nn.relu, "tanh": jnp.tanh}[settings.activation]
    latent = sj.bernoulli_latent()
    encoder = BernoulliEncoder(settings.hidden, activation=activation)
    decoder = GaussianDecoder(
        settings.hidden,
        dim=2,
        activation=activation,
        initial_log_var=settings.initial_log_var,
        zero_log_var_kernel=not settings.no_zero_log_var_kernel,
    )

    def init_params(key):
        encoder_key, decoder_key = jax.random.split(key)
        return {
            "encoder": encoder.init(encoder_key, jnp.zeros((1, 2))),
            "decoder": decoder.init(decoder_key, jnp.zeros((1, 1))),
        }

    def decode(params, z):
        return decoder.apply(params["decoder"], 2 * z - 1 if settings.signed_latent else z)

    def loss_fn(params, key, x, hyper):
        terms = sj.spread_elbo(
            key,
            x,
            encode=lambda y: encoder.apply(params["encoder"], y),
            decode=lambda z: decode(params, z),
            latent=latent,
            spread=sj.gaussian_spread(hyper["sigma_fix"]),
        )
        return -terms.elbo.mean()

    def make_data(key, hyper):
        if settings.data_size is None:
            return None
        return sj.sample_two_modes(key, settings.data_size, hyper["data_std"])

    def sample_batch(key, data, hyper):
        if data is None:
            return sj.sample_two_modes(key, settings.batch_size, hyper["data_std"])
        return data[jax.random.randint(key, (settings.batch_size,), 0, len(data))]

    def observe(params):
        mean, var = decode(params, jnp.array([[0.0], [1.0]]))
        return {"mean": mean, "std": jnp.sqrt(var)}

    def schedule(rate):
        # at a constant rate Adam's jitter of the means alone costs 0.013 nats at sigma_fix 0.03
        return optax.linear_schedule(
            rate, rate / 2, settings.steps * 3 // 10, transition_begin=settings.steps * 7 // 10
        )

    return sj.make_training(
        init_params=init_params,
        loss_fn=loss_fn,
        make_data=make_data,
        sample_batch=sample_batch,
        optimizer=lambda hyper: optax.adam(schedule(hyper["learning_rate"])),
        num_steps=settings.steps,
        observe=observe,
    )


def two_mode_variables():
    """Labels of what :func:`two_mode_training` observes: the decoder at z = 0 and z = 1."""
    from spread_jax.sweeps import Variable

    dims = ("component", "dim")
    return {
        "mean": Variable(dims, "decoder mean", "data units"),
        "std": Variable(dims, "decoder standard deviation, clean", "data units"),
    }


def two_mode_guard(
    settings: TwoModeSettings, sigma_fix: "np.ndarray", record_every: int
) -> "Callable[[Mapping[str, np.ndarray]], np.ndarray]":
    """Curves ``[run, record, ...]`` of runs with these sigma_fix → each run's step of alarm."""
    from spread_jax import evaluation, guard

    def alarms(history):
        return guard.runaway_step(
            history["loss"],
            history["std"].min(axis=(-2, -1)),
            sigma_fix,
            scale=evaluation.two_mode_scale(settings.data_std),
            record_every=record_every,
        )

    return alarms


def warn_of_sigma(sigma_fix: float, data_std: float) -> None:
    """Says so where a sigma_fix can tell no modes apart, or is lost in float32."""
    from spread_jax import oracles

    if 0 < sigma_fix < 10 * FLOAT32_STEP:
        command.warn(
            f"--sigma-fix {sigma_fix:g} is below ten steps of float32 at the modes "
            f"({10 * FLOAT32_STEP:.1e}): rounding will distort the noise"
        )
    elif sigma_fix > 0:
        power = oracles.discriminating_power(oracles.two_modes(data_std), sigma_fix)
        if power < MIN_POWER:
            command.warn(
                f"--sigma-fix {sigma_fix:g}: merging both modes costs only {power:.2g} nats of "
                f"spread KL (want {MIN_POWER:g} or more): training will hardly tell them apart"
            )


def run(settings: Settings) -> None:
    started = time.perf_counter()
    output = command.OutputFolder(settings.out)
    warn_of_sigma(settings.sigma_fix, settings.data_std)

    command.start_jax(settings)
    import numpy as np

    from spread_jax import evaluation, oracles, sweeps

    sigmas = (0.0, settings.sigma_fix)
    record_every = sweeps.default_record_every(settings.steps)
    alarms = two_mode_guard(settings, np.repeat(sigmas, settings.seeds), record_every)
    advice = "A spread bounds it: --sigma-fix above 0"
    if settings.sigma_fix > 0:
        advice = f"A spread bounds it: see the arm with --sigma-fix {settings.sigma_fix:g}"
    with command.progress_bar(settings.quiet) as show:
        result = sweeps.sweep(
            two_mode_training(settings),
            {
                "sigma_fix": sigmas,
                "learning_rate": settings.learning_rate,
                "data_std": settings.data_std,
            },
            num_seeds=settings.seeds,
            seed=settings.seed,
            record_every=record_every,
            variables=two_mode_variables(),
            on_progress=command.alarm_once(show, alarms, advice),
        )
    dataset = evaluation.judge_two_modes(result.dataset, settings.data_std, settings.sigma_fix)
    arms = {"vae": dataset.isel(sigma_fix=0), "spread_vae": dataset.isel(sigma_fix=1)}
    summaries = {name: evaluation.over_seeds(arm) for name, arm in arms.items()}
    floor = None
    if settings.sigma_fix:
        floor = oracles.spread_entropy(oracles.two_modes(settings.data_std), settings.sigma_fix)

    output.write_dataset("results.nc", dataset)
    if settings.save_params:
        output.write_params("params.npz", result.params)
    write_figures(output, settings, arms, summaries, floor)
    print_table(settings, summaries)
    output.write_metrics(
        {
            "config": command.config(settings),
            "environment": command.environment(started, result.compile_seconds),
            "floor": floor,
            "arms": {
                name: {**evaluation.per_seed(arm), **summaries[name]} for name, arm in arms.items()
            },
        }
    )
    print(f"written to {output.path}/")


def write_figures(
    output: command.OutputFolder,
    settings: Settings,
    arms: "dict[str, xr.Dataset]",
    summaries: dict[str, dict],
    floor: float | None,
) -> None:
    import numpy as np

    from spread_jax import figures
    from spread_jax.oracles import GaussianMixture, sample_mixture, two_modes

    rng = np.random.default_rng(settings.seed)
    x = sample_mixture(rng, 2000, two_modes(settings.data_std))
    samples = {}
    for name, arm in arms.items():
        last = arm.isel(seed=0, step=-1).transpose(..., "component", "dim")
        mixture = GaussianMixture(np.full(2, 0.5), last["mean"].values, last["std"].values)
        samples[name] = sample_mixture(rng, 2000, mixture)
    rates = {name: summary["recovery_rate"] for name, summary in summaries.items()}
    sigmas = {"data_std": settings.data_std, "sigma_fix": settings.sigma_fix}
    output.write_figure("data.png", figures.data_figure(x))
    output.write_figure("loss.png", figures.loss_figure(arms, floor))
    output.write_figure("samples.png", figures.samples_figure(x, samples, rates))
    output.write_figure("sigma.png", figures.sigma_figure(arms, **sigmas))


def print_table(settings: Settings, summaries: dict[str, dict]) -> None:
    from rich.console import Console
    from rich.table import Table

    from spread_jax.figures import ARMS

    table = Table(
        title=f"two modes, sigma_fix {settings.sigma_fix:g}, {settings.seeds} seeds, "
        f"{settings.steps:,} steps",
        caption="medians over seeds; 95 % Wilson interval",
    )
    table.add_column("")
    for name in summaries:
        table.add_column(ARMS[name].label, justify="right")
    rows = {
        "both modes recovered": recovery_text,
        "exact spread KL, nats": lambda s: number_text(s["median_spread_kl"]),
        "late loss std, nats": lambda s: number_text(s["median_late_loss_std"]),
        "largest loss rise, nats": lambda s: number_text(s["median_max_loss_rise"]),
        "smallest decoder std": lambda s: number_text(s["median_min_std"]),
        "runs ever non-finite": lambda s: f"{s['nonfinite_rate']:.0%}",
        "first non-finite step": lambda s: number_text(s["median_first_nonfinite_step"]),
        "runaway alarm": alarm_text,
    }
    for row, text in rows.items():
        table.add_row(row, *(text(summary) for summary in summaries.values()))
    Console().print(table)


def recovery_text(summary: dict) -> str:
    low, high = summary["recovery_interval"]
    return f"{summary['recovery_rate']:.0%} [{100 * low:.0f}, {100 * high:.0f}]"


def alarm_text(summary: dict) -> str:
    step = summary["median_alarm_step"]
    return f"{summary['alarm_rate']:.0%}" + (f", step {step:,.0f}" if step else "")


def number_text(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"


if __name__ == "__main__":
    command.main(Settings, run)
