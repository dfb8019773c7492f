"""What the toy and the sweep share: the failure case's flags, its runs, and how they are judged."""

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import spread_jax as sj
from spread_jax.cli.settings import WatchedSettings, require, require_positive
from spread_jax.progress import progress_bar, warn

if TYPE_CHECKING:
    import xarray as xr

    from spread_jax.sweeps import Checkpoints, OnRecord

MIN_POWER = 0.03  # nats; at 0.05 (sigma_fix 0.7) 95 % of seeds find both modes, at 0.01 (1.0) 2 %
FLOAT32_STEP = 2.0**-23  # spacing of float32 at the modes, |x| = 1


@dataclasses.dataclass(frozen=True)
class TwoModeSettings(WatchedSettings):
    """The failure case's data and model."""

    data_std: float = 0.1
    """Standard deviation of a mode of the data, in data units."""
    data_size: int | None = None
    """Number of points of a data set that is drawn once for each seed. By default data are drawn
    afresh at every step."""
    activation: Literal["relu", "tanh"] = "relu"
    """Activation of the hidden layers."""
    initial_log_var: float = -3.0
    """Log-variance of the decoder at the first step, in log of data units squared."""
    no_zero_log_var_kernel: bool = False
    """Initialise the kernel of the log-variance layer like that of any other layer. By default it
    starts at zero."""
    signed_latent: bool = False
    """Show z to the decoder as -1 and +1 in place of 0 and 1."""

    def check(self) -> None:
        super().check()
        require_positive("--data-std", self.data_std, "data units")
        if self.data_size is not None:
            require(self.data_size >= 1, "--data-size", self.data_size, "at least 1")
        accepted = "between -80 and 80, so that its exponential is a float32"
        start = self.initial_log_var
        require(abs(start) <= 80, "--initial-log-var", start, accepted)


def make_model(settings: TwoModeSettings) -> "sj.VAE":
    import jax

    from spread_jax.models.networks import BernoulliEncoder, GaussianDecoder

    activation = {"relu": jax.nn.relu, "tanh": jax.numpy.tanh}[settings.activation]
    decoder = GaussianDecoder(
        settings.hidden,
        dim=2,
        activation=activation,
        initial_log_var=settings.initial_log_var,
        zero_log_var_kernel=not settings.no_zero_log_var_kernel,
    )
    encoder = BernoulliEncoder(settings.hidden, activation=activation)
    vae = sj.linen_vae(encoder, decoder, sj.bernoulli_latent(), dim=2)
    if settings.signed_latent:
        return vae._replace(decode=lambda params, z: vae.decode(params, 2 * z - 1))
    return vae


def make_training(settings: TwoModeSettings) -> "sj.Training":
    """Its hyper holds ``sigma_fix``, ``learning_rate`` and ``data_std``.

    By Adam, whose rate falls to half over the last three tenths of the steps: at a constant rate
    its jitter of the means alone costs 0.013 nats at sigma_fix 0.03.
    """
    import optax

    from spread_jax.problems.two_modes import watch_components

    model, size, steps = make_model(settings), settings.data_size, settings.steps

    def points(key, n, hyper):
        return sj.sample_two_modes(key, n, hyper["data_std"])

    def optimizer(hyper):
        rate = hyper["learning_rate"]
        falling = optax.linear_schedule(rate, rate / 2, steps * 3 // 10, steps * 7 // 10)
        return optax.adam(falling)

    def fresh_batch(key, data, hyper):
        return points(key, settings.batch_size, hyper)

    return sj.model_training(
        model,
        sample_batch=fresh_batch if size is None else sj.rows(settings.batch_size),
        make_data=lambda key, hyper: None if size is None else points(key, size, hyper),
        optimizer=optimizer,
        num_steps=steps,
        observe=watch_components(model),
    )


def train(
    settings: TwoModeSettings,
    sigma_fix: Sequence[float],
    learning_rate: "float | Sequence[float]",
    *,
    cure: str,
    listeners: "Sequence[OnRecord]" = (),
    record_every: int | None = None,
    checkpoints: "Checkpoints | None" = None,
) -> "sj.Sweep":
    """All seeds of the grid in one program; where a likelihood runs away, the cure is told."""
    import jax
    import numpy as np

    from spread_jax.problems.two_modes import VARIABLES, two_mode_scale

    noise = np.repeat(sigma_fix, np.size(learning_rate) * settings.seeds)
    record_every = record_every or sj.sweeps.default_record_every(settings.steps, len(noise))
    scale, tells = two_mode_scale(settings.data_std), jax.process_index() == 0
    alarms = sj.guard.watch_runaway("std", noise, scale=scale, record_every=record_every)
    quiet = settings.quiet or not tells
    with progress_bar(quiet, alarms if tells else None, f"A spread bounds it: {cure}") as show:
        return sj.sweep(
            make_training(settings),
            {"sigma_fix": sigma_fix, "learning_rate": learning_rate, "data_std": settings.data_std},
            num_seeds=settings.seeds,
            seed=settings.seed,
            record_every=record_every,
            variables=VARIABLES,
            on_record=[show, *listeners],
            checkpoints=checkpoints,
        )


def judge(
    settings: TwoModeSettings, runs: "sj.Sweep", arms: Sequence[str], **divergences: float | None
) -> "xr.Dataset":
    """Judged by every metric of the two modes, each sigma_fix described by its arm.

    ``divergences``, ``sigma_fix`` or ``reference``, are those of judge_two_modes.
    """
    from spread_jax.problems.two_modes import judge_two_modes

    judged = judge_two_modes(make_model(settings), runs, settings.data_std, **divergences)
    return sj.comparison.describe(judged, [sj.ARMS[name] for name in arms], "sigma_fix")


def warn_of_sigma(sigma_fix: float, data_std: float) -> None:
    """Says so where a sigma_fix can tell no modes apart, or is lost in float32."""
    if 0 < sigma_fix < 10 * FLOAT32_STEP:
        warn(
            f"--sigma-fix {sigma_fix:g} is below ten steps of float32 at the modes "
            f"({10 * FLOAT32_STEP:.1e}): rounding will distort the noise"
        )
    elif sigma_fix > 0:
        truth = sj.problems.two_mode_mixture(data_std)
        power = sj.oracles.discriminating_power(truth, sigma_fix)
        if power < MIN_POWER:
            warn(
                f"--sigma-fix {sigma_fix:g}: merging both modes costs only {power:.2g} nats of "
                f"spread KL (want {MIN_POWER:g} or more): training will hardly tell them apart"
            )


def over_seeds_json(cell: "xr.Dataset") -> dict[str, Any]:
    """Rates and medians under the keys of metrics.json."""
    found = sj.aggregate.over_seeds_json(cell)
    return {name.replace("recovered_", "recovery_"): value for name, value in found.items()}
