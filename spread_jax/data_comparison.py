"""Arms on a real data set: built, judged, chosen on validation rows, and pictured."""

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

from spread_jax import metrics
from spread_jax.arms import Arm, Structure
from spread_jax.comparison import Program, best_cells, programs, together
from spread_jax.data.datasets import Dataset
from spread_jax.data.images import grey_step
from spread_jax.data.sigma_suggestion import suggest_sigma
from spread_jax.entropy import spread_entropy_of_points
from spread_jax.fitted_latents import with_fitted_latents
from spread_jax.guard import data_scale
from spread_jax.judgement import (
    MAX_SAMPLES,
    Metric,
    Run,
    first_of_each_cell,
    judge,
    judge_samples,
)
from spread_jax.models.fitted_latent import SIZES, FittedLatentVAE
from spread_jax.models.model import Model
from spread_jax.models.vae import VAE, Network, make_vae, watch_sigma
from spread_jax.pictures import pictures, project_table
from spread_jax.sample_quality import Classifier, quality_metrics, train_classifier
from spread_jax.spreads import Spread, gaussian_spread
from spread_jax.sweeps import Sweep
from spread_jax.training import OfHyper, rows

NUM_WATCHED = 64  # training points at which the decoder's sigma is recorded
COMMON_SIGMA = 0.1  # of the noise in which bounds of all arms are compared
FITTED = "_fitted_latent"


class TrainedArms(NamedTuple):
    """A program with its runs, and the same runs with a latent that is fitted to each."""

    program: Program
    runs: Sweep
    fitted_model: FittedLatentVAE
    fitted_runs: Sweep


class Comparison(NamedTuple):
    """What is known of arms on a real data set.

    Attributes:
      cells: every cell, judged on test data.
      shown: the arms, each at its cell that is best on validation data, with their pictures.
      reference: what real data score by the same metrics of samples.
      accuracy: the classifier's on test data; None without labels.
    """

    cells: xr.Dataset
    shown: xr.Dataset
    reference: dict[str, float]
    accuracy: float | None

    @property
    def dataset(self) -> xr.Dataset:
        """Every cell, whether it is ``shown``, and pictures of those that are; NaN elsewhere."""
        drawn = self.shown.drop_vars(set(self.cells.variables) - {"cell"})
        joined = self.cells.merge(drawn, join="outer")
        return joined.assign(shown=("cell", np.isin(self.cells["cell"], self.shown["cell"])))


def programs_on_data(
    data: Dataset,
    arms: Mapping[str, Arm],
    *,
    sigma_fix: Sequence[float] = (0.1,),
    anneal_from: float | None = None,
    latent_dim: int = 20,
    hidden: Sequence[int] = (400,),
    network: Network = "mlp",
    num_steps: int = 3_000,
    batch_size: int = 128,
    learning_rate: float = 1e-3,
    **options: Any,
) -> list[Program]:
    """What trains VAEs of these arms on a data set, with the decoder's σ observed.

    Args:
      data: images, or a table that is standardized.
      arms: name → arm, none of them a GAN.
      sigma_fix: of the arms with constant noise.
      anneal_from: of the first step of the others; by default the upper end of
        :func:`spread_jax.suggest_sigma`.
      latent_dim, hidden, network: as in :func:`spread_jax.make_vae`.
      num_steps, batch_size, learning_rate: of Adam.
      **options: as in :func:`spread_jax.comparison.programs`.
    """

    def make_model(structure: Structure) -> VAE:
        assert structure.variance != "gan", "a GAN has no encoder that makes a posterior"
        return make_vae(
            data.train.shape[1],
            latent_dim=latent_dim,
            variance="none" if structure.variance == "optimal" else structure.variance,
            hidden=hidden,
            network=network,
            shape=data.shape,
            sigma_floor=structure.sigma_floor,
        )

    if anneal_from is None and any(arm.is_annealed for arm in arms.values()):
        anneal_from = suggest_sigma(data.train).high
    watched = jnp.asarray(data.train[:NUM_WATCHED])
    return programs(
        arms,
        make_model,
        sigma_fix=sigma_fix,
        anneal_from=anneal_from,
        grey_step=None if data.shape is None else grey_step(data.train),
        others=[{"learning_rate": learning_rate}],
        sample_batch=rows(batch_size),
        num_steps=num_steps,
        observe=lambda model: watch_sigma(model, watched),
        **options,
    )


def judge_on_data(
    trained: TrainedArms,
    data: Dataset,
    *,
    classifier: Classifier | None = None,
    iw_samples: int = 64,
    common_sigma: float = COMMON_SIGMA,
    seed: int = 0,
) -> xr.Dataset:
    """All that is said of VAEs with a Gaussian latent on a real data set, in its test part.

    Metrics of the bounds, of the decoder's σ as :func:`spread_jax.models.vae.watch_sigma` recorded
    it, of clean samples, and, under names that end in ``_of_means``, of the decoder's means. Names
    that end in ``_fitted_latent`` are of the model whose latent was fitted afterwards. What
    :func:`spread_jax.comparison.best_cells` may choose by is ``validation_frechet``, or
    ``validation_energy_distance`` where there is no classifier: the distance of clean samples to
    the validation part.

    Args:
      trained, data: what was trained, and on what.
      classifier: of the same data, in whose features images are judged.
      iw_samples: draws of z in the importance-weighted bound.
      common_sigma: of the Gaussian noise in whose space ``common_iw_bound`` compares all arms.
      seed: of the judge's draws.
    """
    program, runs, fitted_model, fitted_runs = trained
    quality = quality_metrics(classifier, data.train[:MAX_SAMPLES]) if classifier else []
    choice = chooser(data, classifier)
    of_samples = [*quality, metrics.ENERGY_DISTANCE, metrics.NEAREST_TRAIN, choice]
    every = [
        metrics.NONFINITE,
        *metrics.BOUNDS,
        *([metrics.DISCRETE_BITS_PER_DIM] if program.structure.dequantizes else []),
        metrics.importance_weighted(iw_samples),
        *metrics.runaway_alarm(
            "joint_sigma",
            data_scale(data.train),
            noise=lambda hyper: hyper["noise_on_model"] * hyper["sigma_fix"],
        ),
        metrics.last("min_sigma", "smallest decoder σ, last step"),
        metrics.last("median_sigma", "median decoder σ, last step"),
        *of_samples,
    ]
    weighted = metrics.importance_weighted(iw_samples)
    in_common = weighted._replace(
        name="common_iw_bound",
        long_name=f"{weighted.long_name}, noise {common_sigma:g} for all",
    )
    common = gaussian_spread(common_sigma)
    of_means = [_renamed(metric, "_of_means", ", means") for metric in quality]
    at_the_end = {"spread": program.spread}
    parts = []
    for model, its, suffix in ((program.model, runs, ""), (fitted_model, fitted_runs, FITTED)):
        ways: list[tuple[Any, list[Metric], dict[str, Any]]] = [
            (model, of_samples if suffix else every, at_the_end),
            (model.without_variance(), of_means, at_the_end),
            (model, [in_common], {"spread": lambda hyper: common}),
        ]
        for judged_model, wanted, options in ways:
            named = [
                _renamed(metric, suffix, ", fitted latent" * bool(suffix)) for metric in wanted
            ]
            options = {"num_samples": MAX_SAMPLES, "seed": seed, **options}
            parts.append(judge(judged_model, its, data, named, **options))
    return xr.merge(parts, compat="override", combine_attrs="override")


def _renamed(metric: Metric, suffix: str, words: str) -> Metric:
    return metric._replace(name=metric.name + suffix, long_name=metric.long_name + words)


def chooser(data: Dataset, classifier: Classifier | None) -> Metric:
    """What cells are chosen by: it looks at validation rows, which no other metric sees."""
    if classifier is None:
        return metrics.VALIDATION_ENERGY_DISTANCE
    frechet = quality_metrics(classifier, data.validation)[0]
    long_name = f"{frechet.long_name}, validation part"
    return frechet._replace(name=f"validation_{frechet.name}", long_name=long_name)


def compare_on_data(
    trained: Sequence[tuple[Program, Sweep]],
    arms: Mapping[str, Arm],
    data: Dataset,
    *,
    iw_samples: int = 64,
    common_sigma: float = COMMON_SIGMA,
    latent_sizes: Sequence[int] = SIZES,
    count: int = 32,
    seed: int = 0,
    on_stage: Callable[[str], None] = lambda stage: None,
) -> Comparison:
    """Judges every run, by a classifier of the same data where they have labels, and chooses.

    Every run is judged with z from N(0, I) and from a latent that is fitted to it. The own numbers
    of an arm with a fitted latent are the latter.

    Args:
      trained, data: programs with their runs, and what they were trained on.
      arms: name → arm, the plain one first.
      latent_sizes: numbers of components of the fitted latents to choose from.
      iw_samples, common_sigma, count, seed: as in :func:`judge_on_data` and
        :func:`pictures_of_arms`.
      on_stage: is told what is being done.
    """
    classifier, accuracy, quality = None, None, []
    if data.train_labels is not None:
        on_stage("training a classifier, to judge samples by")
        classifier = train_classifier(jax.random.key(0), data.train, data.train_labels)
        quality = quality_metrics(classifier, data.train[:MAX_SAMPLES])
        if data.test_labels is not None:
            accuracy = classifier.accuracy(data.test, data.test_labels)
    every, parts = [], []
    options: dict[str, Any] = {"iw_samples": iw_samples, "common_sigma": common_sigma, "seed": seed}
    for program, runs in trained:
        on_stage(f"fitting latents of {', '.join(program.arms)}")
        fitted = with_fitted_latents(
            program.model, runs, data, spread=program.spread, sizes=latent_sizes, seed=seed
        )
        every.append(TrainedArms(program, runs, *fitted))
        on_stage(f"judging {', '.join(program.arms)}")
        parts.append(judge_on_data(every[-1], data, classifier=classifier, **options))
    cells = with_own_latents(together(parts, arms))
    cells = cells.assign_coords(cell=np.arange(cells.sizes["cell"]))
    on_stage("drawing pictures")
    chosen = cells.isel(cell=best_cells(cells, chooser(data, classifier).name))
    shown = pictures_of_arms(every, chosen, data, count=count, seed=seed, common_sigma=common_sigma)
    reference = {
        **judge_samples(data.test[:MAX_SAMPLES], data, [*quality, metrics.NEAREST_TRAIN]),
        **judge_samples(data.train, data, [metrics.ENERGY_DISTANCE]),
    }
    return Comparison(cells, shown, reference, accuracy)


def with_own_latents(cells: xr.Dataset) -> xr.Dataset:
    """Described cells, of which those of arms with a fitted latent are known by its numbers."""
    own = cells["fitted_latent"]
    names = [str(name) for name in cells if f"{name}{FITTED}" in cells]
    return cells.assign({n: cells[f"{n}{FITTED}"].where(own, cells[n]) for n in names})


def with_floors(shown: xr.Dataset, x: np.ndarray) -> xr.Dataset:
    """``shown`` with ``floor [cell]``, in nats: the entropy of the spread data at the last noise,
    where an arm has it for a floor of its last losses; NaN elsewhere. For Gaussian noise.

    Args:
      shown: described cells, each with its ``sigma_fix`` and ``noise_end``.
      x: the training data, ``[n, dim]``.
    """
    entropy = functools.partial(spread_entropy_of_points, jax.random.key(0), jnp.asarray(x))
    last = (shown["sigma_fix"] * shown["noise_end"]).values.tolist()
    floors = [
        entropy(sigma) if has_floor else np.nan
        for sigma, has_floor in zip(last, shown["has_floor"].values, strict=True)
    ]
    return shown.assign(floor=("cell", floors))


def pictures_of_arms(
    trained: Sequence[TrainedArms],
    shown: xr.Dataset,
    data: Dataset,
    *,
    count: int = 32,
    num_worst: int = 10,
    common_sigma: float = COMMON_SIGMA,
    seed: int = 0,
) -> xr.Dataset:
    """``shown`` with the :func:`spread_jax.pictures.pictures` of each arm's first run, those of a
    table also projected, by :func:`spread_jax.pictures.project_table`.

    Args:
      trained, data: what was trained, and on what.
      shown: one cell for each arm, the plain one first.
      count: pictures of each kind, of the test part.
      num_worst: test points of the first arm's worst bounds, with every arm's bound of them.
      common_sigma: of the noise in whose space these bounds are.
      seed: of the judge's draws.
    """
    every = [pair for arms in trained for pair in _first_runs(arms, data, common_sigma, seed)]
    drawn, bounds = [], []
    for i in range(shown.sizes["cell"]):
        labels = shown.isel(cell=i)
        (runs,) = (
            runs for cell, runs in every if all(labels[n].item() == v for n, v in cell.items())
        )
        own = runs[FITTED] if shown["fitted_latent"].values[i] else runs[""]
        drawn.append(pictures(runs[""], own, runs[FITTED], runs["_means"], count))
        bounds.append(np.asarray(runs["_common"].held_out_bound.elbo))
    worst = np.argsort(np.nan_to_num(bounds[0], nan=-np.inf))[:num_worst]  # NaN is the worst
    shown = shown.assign(xr.concat(drawn, "cell")).assign(
        held_out=(("picture", "pixel"), data.test[:count]),
        worst=(("worst_image", "pixel"), data.test[worst]),
        worst_bound=(("cell", "worst_image"), np.stack(bounds)[:, worst]),
    )
    return project_table(shown) if data.shape is None else shown


def _first_runs(
    trained: TrainedArms, data: Dataset, common_sigma: float, seed: int
) -> Iterator[tuple[Mapping[str, Any], dict[str, Run]]]:
    """Each cell of a program, and its first run as it was trained, with its fitted latent and in
    the common spread space. What is compiled for one cell serves the others."""
    program, runs, fitted_model, fitted_runs = trained
    ways: dict[str, tuple[Model, Sweep, OfHyper[Spread]]] = {
        "": (program.model, runs, program.spread),
        FITTED: (fitted_model, fitted_runs, program.spread),
        "_means": (fitted_model.without_variance(), fitted_runs, program.spread),
        "_common": (program.model, runs, lambda hyper: gaussian_spread(common_sigma)),
    }
    of_cells = {
        way: first_of_each_cell(model, its, data, spread=spread, seed=seed)
        for way, (model, its, spread) in ways.items()
    }
    for place, cell in enumerate(program.cells):
        yield cell, {way: firsts[place] for way, firsts in of_cells.items()}
