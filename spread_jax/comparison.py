"""A comparison of arms: their programs, their cells as one dataset, and how it is judged."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

from spread_jax import metrics
from spread_jax.aggregate import best
from spread_jax.arms import Arm, Structure, arm_training, spread_of
from spread_jax.data.datasets import Dataset
from spread_jax.entropy import spread_entropy_of_points
from spread_jax.guard import data_scale
from spread_jax.judgement import (
    MAX_SAMPLES,
    Metric,
    Run,
    first_of_each_cell,
    judge,
    judge_samples,
)
from spread_jax.models.model import Observe
from spread_jax.models.optimal_variance import optimal_variance_vae
from spread_jax.models.vae import VAE
from spread_jax.pictures import pictures, project_table
from spread_jax.sample_quality import Classifier, quality_metrics, train_classifier
from spread_jax.spreads import NoiseLaw, Spread, gaussian_spread
from spread_jax.sweeps import Sweep, Variable
from spread_jax.training import OfHyper, Training


class Program(NamedTuple):
    """The arms of one structure, as one ``training`` of a ``model``.

    Attributes:
      spread: for :func:`spread_jax.judge`.
      cells: for :func:`spread_jax.sweep`, with the name of their ``arm``.
    """

    model: VAE
    training: Training
    spread: OfHyper[Spread]
    cells: list[dict[str, Any]]

    @property
    def arms(self) -> list[str]:
        """The names of its arms, each once."""
        return list(dict.fromkeys(cell["arm"] for cell in self.cells))


SIGMA_VARIABLES = {
    "sigma": Variable(("pixel",), "geometric mean of the σ of the decoder", "data units"),
    "min_sigma": Variable((), "smallest σ of the decoder", "data units"),
    "median_sigma": Variable((), "median σ of the decoder", "data units"),
}
"""Labels of what :func:`spread_jax.models.vae.watch_sigma` observes."""


def programs(
    arms: Mapping[str, Arm],
    make_model: Callable[[Structure], VAE],
    *,
    sigma_fix: Sequence[float],
    others: Sequence[Mapping[str, Any]],
    observe: Callable[[VAE], Observe],
    noise: NoiseLaw = gaussian_spread,
    **training: Any,
) -> list[Program]:
    """What trains these arms, a program for each structure among them.

    Args:
      arms: name → arm.
      make_model: ``(structure) -> VAE``, its decoder as the structure says.
      sigma_fix: at which each arm that has noise is trained.
      others: the numbers of a cell beside the arm's own, ``learning_rate`` among them, and what
        labels it; each arm is trained at all of these.
      observe: ``(model) -> observe``.
      noise: as in :func:`spread_jax.arms.spread_of`.
      **training: ``sample_batch``, ``num_steps``, more: as in :func:`spread_jax.model_training`.
    """
    found = []
    for structure in dict.fromkeys(arm.structure for arm in arms.values()):
        model = make_model(structure)
        if structure.variance == "optimal":
            model = optimal_variance_vae(model)
        cells = [
            {"arm": name, **cell, **other}
            for name, arm in arms.items()
            if arm.structure == structure
            for cell in arm.cells(sigma_fix)
            for other in others
        ]
        of_arms = arm_training(structure, model, noise=noise, observe=observe(model), **training)
        found.append(Program(model, of_arms, spread_of(structure, noise), cells))
    return found


def together(parts: Sequence[xr.Dataset], arms: Mapping[str, Arm]) -> xr.Dataset:
    """The judged cells of several programs as one dataset, in the order of the arms, described.

    A number that one program did not have or record is NaN in its cells, and what it did not ask
    is False.
    """
    labels = {name for part in parts for name in part.coords}
    dataset = xr.concat(
        [part.reset_coords() for part in parts], "cell", join="outer", data_vars="all"
    ).set_coords(labels)
    for name in {name for part in parts for name in part if part[name].dtype == bool}:
        dataset[name] = dataset[name].fillna(False).astype(bool)
    place = list(arms).index
    order = np.argsort([place(name) for name in dataset["arm"].values.tolist()], kind="stable")
    dataset = dataset.isel(cell=order)
    return describe(dataset, [arms[name] for name in dataset["arm"].values])


def best_cells(judged: xr.Dataset, name: str) -> list[int]:
    """For each ``arm`` along ``cell``, in order, its cell with the best middle over the seeds of a
    metric, which is to be one of validation data."""
    names = judged["arm"].values
    of_arms = [np.flatnonzero(names == arm) for arm in dict.fromkeys(names)]
    return [int(cells[best(judged[[name]].isel(cell=cells), name, "cell")]) for cells in of_arms]


def describe(judged: xr.Dataset, arms: Sequence[Arm], dim: str = "cell") -> xr.Dataset:
    """Says how the arm of every place along ``dim`` is shown: all that figures know of an arm."""
    shown = ("label", "color", "has_noise", "has_floor", "variance")
    return judged.assign_coords({n: (dim, [getattr(arm, n) for arm in arms]) for n in shown})


def judge_on_data(
    program: Program,
    runs: Sweep,
    data: Dataset,
    *,
    classifier: Classifier | None = None,
    iw_samples: int = 64,
    seed: int = 0,
) -> xr.Dataset:
    """All that is said of VAEs with a Gaussian latent on a real data set, in its test part.

    Metrics of the bounds, of the decoder's σ as :func:`spread_jax.models.vae.watch_sigma` recorded
    it, of clean samples, and, under names that end in ``_of_means``, of the decoder's means. What
    :func:`best_cells` may choose by is ``validation_frechet``, or ``validation_energy_distance``
    where there is no classifier: the distance of clean samples to the validation part.

    Args:
      program, runs, data: what was trained, and on what.
      classifier: of the same data, in whose features images are judged.
      iw_samples: draws of z in the importance-weighted bound.
      seed: of the judge's draws.
    """
    quality = quality_metrics(classifier, data.train[:MAX_SAMPLES]) if classifier else []
    every = [
        metrics.NONFINITE,
        *metrics.BOUNDS,
        metrics.importance_weighted(iw_samples),
        *metrics.runaway_alarm(
            "min_sigma",
            data_scale(data.train),
            noise=lambda hyper: hyper["noise_on_model"] * hyper["sigma_fix"],
        ),
        metrics.last("min_sigma", "smallest decoder σ, last step"),
        metrics.last("median_sigma", "median decoder σ, last step"),
        metrics.ENERGY_DISTANCE,
        *quality,
    ]
    of_means = [
        metric._replace(name=f"{metric.name}_of_means", long_name=f"{metric.long_name}, means")
        for metric in quality
    ]
    options: dict[str, Any] = {"spread": program.spread, "seed": seed}
    parts = [
        judge(program.model, runs, data, every, **options),
        judge(program.model.without_variance(), runs, data, of_means, **options),
        judge(
            program.model, runs, data, [_chooser(data, classifier)], part="validation", **options
        ),
    ]
    return xr.merge(parts, compat="override", combine_attrs="override")


def _chooser(data: Dataset, classifier: Classifier | None) -> Metric:
    """What cells are chosen by: it looks at validation rows, which no other metric sees."""
    measure = metrics.ENERGY_DISTANCE
    if classifier:
        measure = quality_metrics(classifier, data.validation)[0]
    long_name = f"{measure.long_name}, validation part"
    return measure._replace(name=f"validation_{measure.name}", long_name=long_name)


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


def compare_on_data(
    trained: Sequence[tuple[Program, Sweep]],
    arms: Mapping[str, Arm],
    data: Dataset,
    *,
    iw_samples: int = 64,
    count: int = 32,
    seed: int = 0,
    on_stage: Callable[[str], None] = lambda stage: None,
) -> Comparison:
    """Judges every run, by a classifier of the same data where they have labels, and chooses.

    Args:
      trained, data: programs with their runs, and what they were trained on.
      arms: name → arm, the plain one first.
      iw_samples, count, seed: as in :func:`judge_on_data` and :func:`pictures_of_arms`.
      on_stage: is told what is being done.
    """
    classifier, accuracy, quality = None, None, []
    if data.train_labels is not None:
        on_stage("training a classifier, to judge samples by")
        classifier = train_classifier(jax.random.key(0), data.train, data.train_labels)
        quality = quality_metrics(classifier, data.train[:MAX_SAMPLES])
        if data.test_labels is not None:
            accuracy = classifier.accuracy(data.test, data.test_labels)
    parts = []
    options: dict[str, Any] = {"classifier": classifier, "iw_samples": iw_samples, "seed": seed}
    for program, runs in trained:
        on_stage(f"judging {', '.join(program.arms)}")
        parts.append(judge_on_data(program, runs, data, **options))
    cells = together(parts, arms)
    cells = cells.assign_coords(cell=np.arange(cells.sizes["cell"]))
    on_stage("drawing pictures")
    chosen = cells.isel(cell=best_cells(cells, _chooser(data, classifier).name))
    shown = pictures_of_arms(trained, chosen, data, count=count, seed=seed)
    reference = {
        **judge_samples(data.test[:MAX_SAMPLES], data, quality),
        **judge_samples(data.train, data, [metrics.ENERGY_DISTANCE]),
    }
    return Comparison(cells, shown, reference, accuracy)


def with_floors(shown: xr.Dataset, x: np.ndarray) -> xr.Dataset:
    """``shown`` with ``floor [cell]``, in nats: the entropy of the spread data, where an arm has it
    for a floor of its loss; NaN elsewhere. For Gaussian noise.

    Args:
      shown: described cells, each with its ``sigma_fix``.
      x: the training data, ``[n, dim]``.
    """
    entropy = functools.partial(spread_entropy_of_points, jax.random.key(0), jnp.asarray(x))
    cells = zip(shown["sigma_fix"].values.tolist(), shown["has_floor"].values, strict=True)
    floors = [entropy(sigma) if has_floor else np.nan for sigma, has_floor in cells]
    return shown.assign(floor=("cell", floors))


def pictures_of_arms(
    trained: Sequence[tuple[Program, Sweep]],
    shown: xr.Dataset,
    data: Dataset,
    *,
    count: int = 32,
    num_worst: int = 10,
    seed: int = 0,
) -> xr.Dataset:
    """``shown`` with the :func:`spread_jax.pictures.pictures` of each arm's first run, those of a
    table also projected, by :func:`spread_jax.pictures.project_table`.

    Args:
      trained, data: programs with their runs, and what they were trained on.
      shown: one cell for each arm, the plain one first.
      count: pictures of each kind, of the test part.
      num_worst: test points of the first arm's worst bounds, with every arm's bound of them.
      seed: of the judge's draws.
    """
    x = data.test[:count]
    first: list[tuple[dict[str, Any], Run]] = []
    for program, runs in trained:
        options: dict[str, Any] = {"spread": program.spread, "seed": seed}
        of_cells = first_of_each_cell(program.model, runs, data, **options)
        first += zip(program.cells, of_cells, strict=True)

    def run_of(labels: xr.Dataset) -> Run:
        return next(
            run
            for cell, run in first
            if all(labels[name].item() == value for name, value in cell.items())
        )

    draws = np.asarray(jax.random.normal(jax.random.key(0), x.shape))
    noise = float(shown["sigma_fix"].max()) * draws
    runs_of_arms = [run_of(shown.isel(cell=i)) for i in range(shown.sizes["cell"])]
    drawn = xr.concat([pictures(run, noise, count) for run in runs_of_arms], "cell")
    bounds = drawn["bound"].values
    worst = np.argsort(np.nan_to_num(bounds[0], nan=-np.inf))[:num_worst]  # NaN is the worst
    shown = shown.assign(drawn.drop_vars("bound")).assign(
        held_out=(("picture", "pixel"), x),
        held_out_spread=(("picture", "pixel"), x + noise),
        worst=(("worst_image", "pixel"), data.test[worst]),
        worst_bound=(("cell", "worst_image"), bounds[:, worst]),
    )
    return project_table(shown) if data.shape is None else shown
