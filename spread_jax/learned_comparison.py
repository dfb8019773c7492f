"""VAEs whose noise is fixed, falls, or learns, side by side on one data set.

The arms on MNIST are those of the paper as far as MNIST and this package's networks carry them:
see the page "The paper, section by section".
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array, PRNGKeyArray, PyTree

from spread_jax.aggregate import with_worst
from spread_jax.data.datasets import Dataset
from spread_jax.fitted_latents import with_fitted_latents
from spread_jax.judgement import MAX_SAMPLES, Metric, judge
from spread_jax.metrics import ENERGY_DISTANCE
from spread_jax.models.learned_spread import (
    LearnedSpreadVAE,
    learned_covariance_vae,
    learned_mean_vae,
    min_max_adam,
)
from spread_jax.models.vae import VAE, make_vae
from spread_jax.sample_quality import quality_metrics, train_classifier
from spread_jax.schedules import stepped_noise
from spread_jax.spreads import Spread, gaussian_spread
from spread_jax.sweeps import Sweep
from spread_jax.training import Hyper, OfHyper, Training, make_training, model_training, rows

FITTED = "_fitted_latent"
FIXED, ANNEALED = "fixed N(0, σ² I)", "annealed N(0, σ² I)"
COLORS = ("#666666", "#000000", "#0072B2", "#56B4E9", "#009E73", "#E69F00", "#CC79A7", "#D55E00")


class NoiseProgram(NamedTuple):
    """Arms that one compiled program trains.

    Attributes:
      model: what is sampled from.
      learned: ``(hyper) -> model`` with its noise; None where the noise is fixed.
      training: of all cells.
      cells: for :func:`spread_jax.sweep`, each with the ``label`` of its arm.
    """

    model: VAE | LearnedSpreadVAE
    learned: OfHyper[LearnedSpreadVAE] | None
    training: Training
    cells: list[dict[str, Any]]


def noise_programs(
    data: Dataset,
    *,
    latent_dim: int,
    hidden: Sequence[int],
    num_steps: int,
    batch_size: int,
    sigma_fix: float,
    noise_end: float = 1.0,
    learning_rate: float = 1e-3,
    noise_learning_rate: Sequence[float] = (1e-3,),
    entropy_share: Sequence[float] = (1.0,),
    model_steps: int = 5,
    layer_bound: float = 0.9,
    entropy_rows: int = 128,
) -> list[NoiseProgram]:
    """Noise that is fixed; that falls, if ``noise_end`` is below 1; two kinds that learn.

    Learned noise falls as well. The decoders are deterministic.

    Args:
      data: images, or points of unit scale.
      latent_dim, hidden: as in :func:`spread_jax.make_vae`.
      num_steps, batch_size: of a run, model and noise together.
      sigma_fix, noise_end: first σ, and the last as a share of it, by
        :func:`spread_jax.schedules.stepped_noise`.
      learning_rate, noise_learning_rate, model_steps: as in
        :func:`spread_jax.models.learned_spread.min_max_adam`; an arm for each rate of the noise.
      entropy_share, entropy_rows: as in :meth:`LearnedSpreadVAE.spread_kl`; an arm for each share,
        of which 1 climbs the spread KL and 0 climbs -ELBO.
      layer_bound: of the injective mean's layers.
    """
    dim = data.train.shape[1]
    vae = make_vae(dim, latent_dim=latent_dim, hidden=hidden, variance="none", shape=data.shape)
    options: dict[str, Any] = {
        "sample_batch": rows(batch_size),
        "num_steps": num_steps,
        "schedule": stepped_noise(num_steps),
    }
    shared = {"sigma_fix": sigma_fix, "learning_rate": learning_rate}
    ends = {FIXED: 1.0, **({ANNEALED: noise_end} if noise_end < 1 else {})}
    fixed = [{"label": label, **shared, "noise_end": end} for label, end in ends.items()]
    programs = [NoiseProgram(vae, None, model_training(vae, **options), fixed)]
    makers: dict[str, Callable[[Any], LearnedSpreadVAE]] = {
        "learned covariance": partial(learned_covariance_vae, vae, dim),
        "learned mean": partial(learned_mean_vae, vae, dim, layer_bound=layer_bound),
    }
    for name, maker in makers.items():
        cells = [
            {
                "label": _label(name, rate, share, len(noise_learning_rate) > 1),
                **shared,
                "noise_end": noise_end,
                "noise_learning_rate": rate,
                "entropy_share": share,
            }
            for share in entropy_share
            for rate in noise_learning_rate
        ]

        def learned(
            hyper: Hyper, maker: Callable[[Any], LearnedSpreadVAE] = maker
        ) -> LearnedSpreadVAE:
            return maker(hyper["sigma_fix"])

        training = make_training(
            init_params=maker(sigma_fix).init,
            loss_fn=partial(
                _spread_kl, learned, float(len(data.train)), min(entropy_rows, batch_size)
            ),
            optimizer=lambda hyper: min_max_adam(
                hyper["learning_rate"], hyper["noise_learning_rate"], model_steps
            ),
            **options,
        )
        programs.append(NoiseProgram(maker(sigma_fix), learned, training, cells))
    return programs


def _label(name: str, rate: float, share: float, several_rates: bool) -> str:
    of_rate = f", rate {rate:g}" if several_rates else ""
    return f"{name}{of_rate}{'' if share else ', by -ELBO'}"


def _spread_kl(
    learned: OfHyper[LearnedSpreadVAE],
    num_rows: float,
    entropy_rows: int,
    params: PyTree,
    key: PRNGKeyArray,
    x: Array,
    hyper: Hyper,
) -> Array:
    return learned(hyper).spread_kl(
        params,
        key,
        x,
        num_rows=num_rows,
        entropy_rows=entropy_rows,
        entropy_share=hyper["entropy_share"],
    )


def judge_noise(
    trained: Sequence[tuple[NoiseProgram, Sweep]],
    data: Dataset,
    *,
    num_samples: int,
    latent_sizes: Sequence[int] = (),
    seed: int = 0,
) -> xr.Dataset:
    """Every arm's clean samples beside held-out points, dims (cell, seed), with its colour.

    The energy distance; of images with labels also the Fréchet distance, precision and recall in a
    classifier's features. Names that end in ``_fitted_latent`` are of z from a mixture of
    ``latent_sizes`` components fitted to the run, the others of z ~ N(0, I), as in the paper.

    Args:
      trained: the programs and their runs.
      data: what they were trained on; judged on its test part.
      num_samples: clean samples of a run.
      latent_sizes: to choose from; none: no latents are fitted.
      seed: of the judge's draws.
    """
    metrics = [ENERGY_DISTANCE]
    if data.shape is not None and data.train_labels is not None:
        classifier = train_classifier(jax.random.key(0), data.train, data.train_labels)
        metrics += quality_metrics(classifier, data.train[:MAX_SAMPLES])
    parts = [
        _judged(program, runs, data, metrics, num_samples, latent_sizes, seed)
        for program, runs in trained
    ]
    labels = {name for part in parts for name in part.coords}
    together = xr.concat(
        [part.reset_coords() for part in parts], "cell", join="outer", data_vars="all"
    ).set_coords(labels)
    colors = [COLORS[i % len(COLORS)] for i in range(together.sizes["cell"])]
    return together.assign_coords(arm=together["label"], color=("cell", colors))


def _judged(
    program: NoiseProgram,
    runs: Sweep,
    data: Dataset,
    metrics: list[Metric],
    num_samples: int,
    latent_sizes: Sequence[int],
    seed: int,
) -> xr.Dataset:
    options: dict[str, Any] = {"num_samples": num_samples, "seed": seed}
    judged = judge(program.model, runs, data, metrics, **options)
    if not latent_sizes:
        return judged
    model, of_vae, spread = _without_noise(program, runs)
    fitted, with_latents = with_fitted_latents(
        model, of_vae, data, spread=spread, sizes=latent_sizes, seed=seed
    )
    renamed = [
        metric._replace(name=metric.name + FITTED, long_name=f"{metric.long_name}, fitted latent")
        for metric in metrics
    ]
    with_latents = with_latents._replace(hyper=runs.hyper)
    return judge(fitted, with_latents, data, renamed, **options).assign(judged.data_vars)


def _without_noise(program: NoiseProgram, runs: Sweep) -> tuple[VAE, Sweep, OfHyper[Spread]]:
    """The VAE alone, its runs, and the noise of the last step, whose params are in ``hyper``."""

    def at_the_end(hyper: Hyper) -> Hyper:
        return {"sigma_fix": jnp.multiply(hyper["noise_end"], hyper["sigma_fix"])}

    if program.learned is None:
        assert isinstance(program.model, VAE)
        return program.model, runs, lambda hyper: gaussian_spread(at_the_end(hyper)["sigma_fix"])
    assert isinstance(program.model, LearnedSpreadVAE)
    learned, params = program.learned, runs.stacked_params
    of_vae = runs._replace(
        stacked_params=params["vae"], hyper={**runs.hyper, "noise": params["noise"]}
    )
    return (
        program.model.vae,
        of_vae,
        lambda hyper: learned(at_the_end(hyper)).make_spread(hyper["noise"]),
    )


def seeds_better(dataset: xr.Dataset) -> xr.Dataset:
    """On how many seeds each arm's metric is below that of the last arm without learned noise.

    Args:
      dataset: of :func:`judge_noise`; a run without a number is the worst.
    """
    unlearned = [label in (FIXED, ANNEALED) for label in dataset["label"].values]
    baseline = int(np.flatnonzero(unlearned)[-1])
    lower = {name: with_worst(v) for name, v in dataset.items() if v.attrs.get("better") == "lower"}
    return xr.Dataset(
        {
            f"{name}_seeds_better": (values < values.isel(cell=baseline)).sum("seed")
            for name, values in lower.items()
            if set(values.dims) == {"cell", "seed"}
        }
    )
