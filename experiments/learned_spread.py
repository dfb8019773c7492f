"""Spreads that learn: noise that maximises the bound's loss while the model minimises it.

What the noise climbs is -ELBO, as in the paper's code: the spread KL plus the entropy of the spread
data, plus the gap of the posterior. Noise can raise the last two without telling data and model
apart; the fixed volume bounds the entropy's part.
"""

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from experiments import command

if TYPE_CHECKING:
    import numpy as np
    import xarray as xr

    from spread_jax.training import Training

ARMS = {
    "fixed": "fixed N(0, σ² I)",
    "covariance": "learned covariance",
    "mean": "learned mean",
}
DATA = {"ring": "ring in R^20", "spiral": "spiral in R^20", "digits": "digits"}
NUM_JUDGED = 1000  # clean samples, and held-out points where there are so many
MANIFOLD_DIM = 20
NOISE_RANK = 4


@dataclasses.dataclass(frozen=True)
class Settings(command.TrainingSettings):
    """Does a learned spread beat a fixed one? A VAE with a deterministic decoder on manifolds in
    R^20 and on digits; its noise is fixed, or has a covariance or an injective mean that is learned
    to maximise the loss, k model steps to one noise step, at an equal number of steps in all."""

    steps: int = 3_000
    """Optimizer steps of a run, of model and noise together."""
    hidden: tuple[int, ...] = (64, 64)
    """Widths of the hidden layers of encoder and decoder."""
    data: tuple[Literal["ring", "spiral", "digits"], ...] = ("ring", "spiral", "digits")
    """Which data."""
    sigma_fix: float = 0.1
    """Standard deviation of the fixed noise, in data units; the learned have its volume."""
    learning_rate: float = 1e-3
    """Adam's learning rate of the model."""
    noise_learning_rate: float = 1e-3
    """Adam's learning rate of the noise."""
    model_steps: int = 5
    """Model steps to one noise step."""
    out: Path = Path("outputs/learned_spread")
    """Folder for the results."""

    def check(self) -> None:
        super().check()
        command.require(
            len(self.data) > 0 and len(set(self.data)) == len(self.data),
            "--data",
            " ".join(self.data),
            "one name or more, each once",
        )
        command.require_positive("--sigma-fix", self.sigma_fix, "data units")
        command.require_positive("--learning-rate", self.learning_rate)
        command.require_positive("--noise-learning-rate", self.noise_learning_rate)
        command.require(self.model_steps >= 1, "--model-steps", self.model_steps, "at least 1")


def load(name: str) -> "tuple[np.ndarray, np.ndarray, int]":
    """Training points, held-out points, and the dimension of z."""
    import jax
    import numpy as np

    from spread_jax import manifolds

    if name == "digits":
        from sklearn.datasets import load_digits

        x = load_digits().data.astype(np.float32) / 16
        x = x[np.random.default_rng(0).permutation(len(x))]
        return x[:1297], x[1297:], 8
    sample = {"ring": manifolds.sample_ring, "spiral": manifolds.sample_spiral}[name]
    rotation_key, data_key = jax.random.split(jax.random.key(0))
    plane = sample(data_key, 10_000 + NUM_JUDGED)
    x = np.asarray(manifolds.embed(rotation_key, plane, MANIFOLD_DIM))
    return x[NUM_JUDGED:], x[:NUM_JUDGED], 2


def make_training(
    settings: Settings, x: "np.ndarray", latent_dim: int, noise: Literal["covariance", "mean"]
) -> "tuple[Training, Callable]":
    """The min-max training, and ``(key, params) -> clean samples``.

    Its hyper is ``{"noise_learning_rate"}``; at 0 the noise stays as it starts and every step is
    the model's. The covariance starts at sigma_fix² I.
    """
    import flax.linen as nn
    import jax
    import jax.numpy as jnp
    import optax

    import spread_jax as sj
    from spread_jax.networks import MLP, GaussianEncoder, InjectiveMean

    dim = x.shape[1]
    encoder = GaussianEncoder(settings.hidden, latent_dim)
    decoder = nn.Sequential([MLP(settings.hidden), nn.Dense(dim)])
    transform = InjectiveMean((64,))
    latent = sj.gaussian_latent(latent_dim)
    points = jnp.asarray(x)

    def init_params(key):
        encoder_key, decoder_key, noise_key = jax.random.split(key, 3)
        noise_params: Any
        if noise == "covariance":
            noise_params = 1e-2 * jax.random.normal(noise_key, (dim, NOISE_RANK))
        else:
            noise_params = transform.init(noise_key, jnp.zeros((1, dim)))
        return {
            "encoder": encoder.init(encoder_key, jnp.zeros((1, dim))),
            "decoder": decoder.init(decoder_key, jnp.zeros((1, latent_dim))),
            "noise": noise_params,
        }

    def make_spread(params, hyper):
        if noise == "covariance":
            learned = hyper["noise_learning_rate"] > 0
            return sj.fixed_volume_spread(learned * params["noise"], settings.sigma_fix)
        return sj.injective_mean_spread(
            lambda x: transform.apply(params["noise"], x), settings.sigma_fix
        )

    def loss_fn(params, key, batch, hyper):
        terms = sj.spread_elbo(
            key,
            batch,
            encode=lambda y: encoder.apply(params["encoder"], y),
            decode=lambda z: (decoder.apply(params["decoder"], z), None),
            latent=latent,
            spread=make_spread(params, hyper),
        )
        return -terms.elbo.mean()

    def optimizer(hyper):
        def is_noise_step(count):
            return count % (settings.model_steps + 1) == settings.model_steps

        def model_rate(count):
            rests = is_noise_step(count) & (hyper["noise_learning_rate"] > 0)
            return jnp.where(rests, 0.0, settings.learning_rate)

        def noise_rate(count):  # upwards
            return jnp.where(is_noise_step(count), -hyper["noise_learning_rate"], 0.0)

        return optax.multi_transform(
            {"model": optax.adam(model_rate), "noise": optax.adam(noise_rate)},
            {"encoder": "model", "decoder": "model", "noise": "noise"},
        )

    def sample(key, params):
        decode = lambda z: (decoder.apply(params["decoder"], z), None)  # noqa: E731
        return sj.sample(key, NUM_JUDGED, decode=decode, latent=latent)

    training = sj.make_training(
        init_params=init_params,
        loss_fn=loss_fn,
        sample_batch=lambda key, data, hyper: points[
            jax.random.randint(key, (settings.batch_size,), 0, len(points))
        ],
        optimizer=optimizer,
        num_steps=settings.steps,
    )
    return training, sample


def run(settings: Settings) -> None:
    started = time.perf_counter()
    output = command.OutputFolder(settings.out)
    command.start_jax(settings)
    results: dict[str, Any] = {}
    params: dict[str, Any] = {}
    compile_seconds = 0.0
    for name in settings.data:
        results[name], params[name], seconds = judge_data(settings, name)
        compile_seconds += seconds
    dataset = as_dataset(settings, results)
    from spread_jax import figures

    output.write_dataset("results.nc", dataset)
    output.write_figure("learned.png", figures.learned_figure(dataset, DATA, ARMS))
    if settings.save_params:
        output.write_params("params.npz", params)
    print_table(settings, results)
    output.write_metrics(
        {
            "config": command.config(settings),
            "environment": command.environment(started, compile_seconds),
            "data": results,
        }
    )
    print(f"written to {output.path}/")


def judge_data(settings: Settings, name: str) -> tuple[dict[str, Any], dict[str, Any], float]:
    """Each arm's numbers; the parameters, by the noise that is learned; seconds of compiling."""
    import jax
    import numpy as np

    from spread_jax import sweeps

    x, held_out, latent_dim = load(name)
    arms: dict[str, Any] = {}
    all_params: dict[str, Any] = {}
    compile_seconds = 0.0
    rates = {
        "covariance": [0.0, settings.noise_learning_rate],
        "mean": [settings.noise_learning_rate],
    }
    for noise in ("covariance", "mean"):
        training, sample = make_training(settings, x, latent_dim, noise)
        with command.progress_bar(settings.quiet) as on_progress:
            result = sweeps.sweep(
                training,
                {"noise_learning_rate": rates[noise]},
                num_seeds=settings.seeds,
                seed=settings.seed,
                on_progress=on_progress,
            )
        compile_seconds += result.compile_seconds
        all_params[noise] = result.params
        keys = jax.vmap(jax.random.key)(settings.seed + np.arange(settings.seeds))
        names = ["fixed", noise] if noise == "covariance" else [noise]
        for i, arm in enumerate(names):
            params = jax.tree.map(lambda leaf, i=i: leaf[i], result.params)
            samples = np.asarray(jax.jit(jax.vmap(sample))(keys, params))
            arms[arm] = judge_arm(samples, held_out, result.dataset.isel(noise_learning_rate=i))
            if arm == "covariance":
                arms[arm]["std_ratio"] = std_ratio(params["noise"])
    return arms, all_params, compile_seconds


def judge_arm(samples: "np.ndarray", held_out: "np.ndarray", runs: Any) -> dict[str, Any]:
    import numpy as np

    from spread_jax.evaluation import energy_distance

    distance = [
        energy_distance(points, held_out) if np.isfinite(points).all() else None
        for points in samples
    ]
    return {"energy_distance": distance, "loss": runs["loss"].isel(step=-1).values.tolist()}


def as_dataset(settings: Settings, results: dict[str, Any]) -> "xr.Dataset":
    import numpy as np
    import xarray as xr

    dims = ("data", "arm", "seed")
    labels = {
        "energy_distance": ("energy distance of clean samples to held-out points", "data units"),
        "loss": ("last recorded loss; of its own noise, so not comparable", "nats"),
    }
    return xr.Dataset(
        {
            key: (
                dims,
                np.array([[arms[arm][key] for arm in ARMS] for arms in results.values()], float),
                {"long_name": long_name, "units": units},
            )
            for key, (long_name, units) in labels.items()
        },
        coords={
            "data": list(results),
            "arm": list(ARMS),
            "seed": settings.seed + np.arange(settings.seeds),
        },
    )


def std_ratio(directions: "np.ndarray") -> list[float]:
    """Largest over smallest standard deviation of each run's learned noise."""
    import numpy as np

    return [float(np.sqrt(1 + np.linalg.norm(f, 2) ** 2)) for f in np.asarray(directions)]


def print_table(settings: Settings, results: dict[str, Any]) -> None:
    import numpy as np
    from rich.console import Console
    from rich.table import Table

    table = Table(
        title=f"energy distance of clean samples to held-out points, {settings.seeds} seeds, "
        f"{settings.steps:,} steps, sigma_fix {settings.sigma_fix:g}",
        caption="median, quartiles in brackets, data units; seeds that beat the fixed noise",
    )
    for column in ("", *ARMS.values()):
        table.add_column(column, justify="right")
    for name, arms in results.items():
        cells, fixed = [], np.array(arms["fixed"]["energy_distance"], float)
        for arm in ARMS:
            distance = np.array(arms[arm]["energy_distance"], float)
            low, middle, high = np.nanquantile(distance, [0.25, 0.5, 0.75])
            better = "" if arm == "fixed" else f"; {np.sum(distance < fixed)} of {len(fixed)}"
            cells.append(f"{middle:.3f} [{low:.3f}, {high:.3f}]{better}")
        table.add_row(DATA[name], *cells)
    Console(width=120).print(table)


if __name__ == "__main__":
    command.main(Settings, run)
