"""How good samples are against the seconds that they took, beside peers on the same data."""

import dataclasses
import importlib.util
import math
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from benchmarks import quality_report, timing
from benchmarks.fit import LATENT_DIM
from benchmarks.timing import BATCH, OnStage
from spread_jax.cli import command
from spread_jax.cli.output import OutputFolder
from spread_jax.cli.settings import BadInputError, require, require_positive, require_seeds
from spread_jax.progress import stage_line

if TYPE_CHECKING:
    import numpy as np
    import xarray as xr

    from benchmarks.peers import Contestant
    from spread_jax.data.datasets import Dataset
    from spread_jax.judgement import Metric

    Entrant = Callable[[Dataset, int, "Settings"], list[Contestant]]

BUILT_IN_TABLE = "three-clusters"
CURVE = (0.05, 0.1, 0.25, 0.5, 1.0)  # shares of the epochs: 1, 2, 5, 10 and 20 of 20
SECONDS = ("train_seconds", "sample_seconds", "seconds")


@dataclasses.dataclass(frozen=True)
class Settings:
    """Trains this package's recipe and other packages' models on the same data, and judges up to
    3,000 samples of each by the same metrics, and up to 10,000 images by their distance to all
    training images. For images the others are pythae's VAE, beta-VAE and RAE of the same widths
    (400-20), batches and epochs, each with its own samplers. For a table they are ctgan's TVAE and
    a Gaussian mixture chosen by BIC. Seconds include training, sampling and compilation.
    """

    data: str = "digits"
    """Images with labels: digits, mnist-5k, mnist (in the folder MNIST_DIR), or a path."""
    table: str = ""
    """A table in place of images: three-clusters, which is built in, or the path of a .csv,
    .parquet or .npy file. Its columns are standardized."""
    epochs: int = 0
    """Passes over the training data. 0 means 20 for images, and TVAE's own 300 for a table."""
    curve: bool = False
    """Also train for 1/20, 1/10, 1/4 and 1/2 of the epochs, each from the start."""
    components: int = 100
    """Number of Gaussians in the mixture that is fitted to the latents of images."""
    learning_rate: float = 1e-3
    """Adam's learning rate, for images."""
    seeds: int = 3
    """Number of seeds: independent runs of every model."""
    seed: int = 0
    """The first seed."""
    target: float = 10.0
    """The command says after how many seconds this Fréchet distance was reached."""
    quick: bool = False
    """Take 2 epochs, 2 seeds and 10 components, to show that everything works. The numbers mean
    little."""
    out: Path = Path("outputs/benchmark-quality")
    """Folder for the results."""
    quiet: bool = False
    """Show no progress."""
    no_compilation_cache: bool = False
    """Do not keep compiled programs in the user's cache folder. Then compilation is timed too."""

    def check(self) -> None:
        require(self.epochs >= 0, "--epochs", self.epochs, "at least 1, or 0 for the default")
        require(self.components >= 1, "--components", self.components, "at least 1")
        require_positive("--learning-rate", self.learning_rate)
        require_positive("--target", self.target)
        require_seeds(self.seeds, self.seed)

    def num_steps(self, data: "Dataset") -> int:
        """Optimizer steps of as many epochs, whose last batch is smaller."""
        return self.epochs * math.ceil(len(data.train) / BATCH)

    @property
    def points(self) -> list[int]:
        """Numbers of epochs, ascending."""
        shares = CURVE if self.curve else (1.0,)
        return sorted({max(1, round(share * self.epochs)) for share in shares})


def recipe(data: "Dataset", seed: int, settings: Settings) -> "list[Contestant]":
    """This package's own: one training of ``settings.num_steps(data)`` steps, and its samples; its
    prior has as many components as the samplers of the peers."""
    import jax
    import numpy as np

    import spread_jax as sj
    from benchmarks.peers import Contestant, num_samples

    start = time.perf_counter()
    fitted = sj.fit(
        jax.random.key(seed),
        data,
        num_seeds=1,
        num_steps=settings.num_steps(data),
        latent_dim=None if settings.table else LATENT_DIM,
        latent_sizes=sj.models.fitted_latent.SIZES if settings.table else [settings.components],
        quiet=True,
    )
    trained = time.perf_counter()
    samples = fitted.sample(jax.random.key(seed + 1), num_samples(data))
    samples = np.asarray(samples, np.float32).reshape(len(samples), -1)
    done = time.perf_counter()
    return [Contestant("recipe", samples, trained - start, done - trained)]


class Judge(NamedTuple):
    """What all samples are judged by.

    Attributes:
      metrics: of a contestant's first samples, as many as the runs of this package are judged by.
      of_all: of all its samples.
      shown: the metric of the figure.
      reference: what real data score: held-out images in place of samples; where distances to
        held-out rows are taken, training rows.
      training: what as many other training images score in place of samples. A Fréchet distance
        near theirs is as low as so few samples can show. None where there are too few.
      accuracy: the classifier's on test data; None without labels.
    """

    metrics: "list[Metric]"
    of_all: "list[Metric]"
    shown: "Metric"
    reference: dict[str, float]
    training: dict[str, float] | None
    accuracy: float | None

    def numbers(self, contestant: "Contestant", data: "Dataset") -> dict[str, float]:
        train, sample = contestant.train_seconds, contestant.sample_seconds
        seconds = dict(zip(SECONDS, (train, sample, train + sample), strict=True))
        return {**judged(contestant.samples, data, self.metrics, self.of_all), **seconds}


def judged(
    samples: "np.ndarray", data: "Dataset", metrics: "list[Metric]", of_all: "list[Metric]"
) -> dict[str, float]:
    """The metrics of the first samples, and those of all of them."""
    from spread_jax.judgement import MAX_SAMPLES, judge_samples

    first = judge_samples(samples[:MAX_SAMPLES], data, metrics)
    return {**first, **judge_samples(samples, data, of_all)}


def run(settings: Settings) -> None:
    peer = "ctgan" if settings.table else "pythae"
    accepted = "installed to be compared with: pip install -e '.[bench]'"
    require(importlib.util.find_spec(peer) is not None, peer, "(missing)", accepted)
    data = load(settings)
    epochs = settings.epochs or (300 if settings.table else 20)
    settings = dataclasses.replace(settings, epochs=epochs)
    if settings.quick:
        settings = dataclasses.replace(settings, epochs=2, seeds=2, components=10)
    output = OutputFolder(settings.out)
    command.start_jax(settings)
    timing.torch_device()  # lets JAX and PyTorch share a GPU
    with stage_line(settings.quiet) as on_stage:
        on_stage("preparing what samples are judged by")
        judge = make_judge(data)
        found = compete(entrants(settings), judge, data, settings, on_stage)
    metrics = quality_report.as_metrics(data, judge, found, settings.target)
    quality_report.write(output, settings, metrics, judge, found, peer)
    quality_report.print_results(settings, metrics, judge)
    print(f"written to {output.path}/")


def load(settings: Settings) -> "Dataset":
    import spread_jax as sj
    from spread_jax.data import DataFileError

    if settings.table == BUILT_IN_TABLE:
        return three_clusters().standardized()
    flag, name = ("--table", settings.table) if settings.table else ("--data", settings.data)
    try:
        data = sj.load_dataset(name)
    except DataFileError as error:
        raise BadInputError(flag, error.path, error.accepted) from None
    if settings.table:
        require(data.shape is None, flag, name, "a table: give images as --data")
        return data.standardized()
    has_labels = data.shape is not None and data.train_labels is not None
    require(has_labels, flag, name, "images with labels, to train the classifier that judges")
    require(data.train.max() == 1, flag, name, "images with a white pixel, as pythae asks for")
    return data


def three_clusters(n: int = 4_000) -> "Dataset":
    """A table of three clusters, one column the sum of others, which leaves it no density, and one
    column skewed."""
    import numpy as np

    from spread_jax.data.datasets import Dataset

    rng = np.random.default_rng(0)
    centres = np.array([[0, 0, 0], [4, 1, -2], [-2, 5, 3]])
    x = centres[rng.choice(3, n, p=(0.5, 0.3, 0.2))] + rng.normal(size=(n, 3)) * (1.0, 0.5, 0.3)
    table = np.column_stack([x, x.sum(axis=1), np.exp(0.5 * x[:, 0])]).astype(np.float32)
    train, validation, test = np.split(table, [5 * n // 8, 6 * n // 8])
    return Dataset(BUILT_IN_TABLE, train, validation, test)


def make_judge(data: "Dataset") -> Judge:
    import jax
    import numpy as np

    from benchmarks.peers import MOST_SAMPLES
    from spread_jax.judgement import MAX_SAMPLES, judge_samples
    from spread_jax.metrics import ENERGY_DISTANCE, WASSERSTEIN
    from spread_jax.sample_quality import quality_metrics, train_classifier

    if data.train_labels is None:
        paired = [ENERGY_DISTANCE, WASSERSTEIN]
        of_rows = judge_samples(data.train, data, paired)
        return Judge(paired, [], ENERGY_DISTANCE, of_rows, None, None)
    classifier = train_classifier(jax.random.key(0), data.train, data.train_labels)
    first, others = np.split(data.train[: 2 * MAX_SAMPLES], [MAX_SAMPLES])
    quality = quality_metrics(classifier, first)
    frechet = quality_metrics(classifier, data.train)[0]
    to_all = "Fréchet distance to all training images"
    of_all = [frechet._replace(name="frechet_to_all", long_name=to_all)]
    reference = {
        **judged(data.test[:MOST_SAMPLES], data, quality, of_all),
        **judge_samples(data.train, data, [ENERGY_DISTANCE]),
    }
    are_enough = min(len(others), len(data.test)) >= MAX_SAMPLES
    training = judge_samples(others, data, quality) if are_enough else None
    labels = data.test_labels
    accuracy = classifier.accuracy(data.test, labels) if labels is not None else None
    metrics = [*quality, ENERGY_DISTANCE]
    return Judge(metrics, of_all, quality[0], reference, training, accuracy)


def entrants(settings: Settings) -> "dict[str, Entrant]":
    from benchmarks import peers

    if settings.table:
        return {"recipe": recipe, "TVAE": peers.tvae, "mixture": peers.gaussian_mixture}
    models = {f"pythae {name}": partial(peers.pythae_model, name) for name in peers.PYTHAE_MODELS}
    return {"recipe": recipe, **models}


def compete(
    entrants: "Mapping[str, Entrant]",
    judge: Judge,
    data: "Dataset",
    settings: Settings,
    on_stage: OnStage,
) -> "xr.Dataset":
    """The judged runs ``[cell, seed]``; a cell is a contestant after a number of epochs. Of the
    attributes ``threads`` says how many of them served each entrant best, unless it is quick."""
    import xarray as xr

    from benchmarks import peers

    cells: dict[tuple[str, int], list[dict[str, float]]] = {}
    threads: dict[str, int] = {}
    small = data._replace(train=data.train[:1_000], test=data.test[:BATCH])
    short = dataclasses.replace(settings, epochs=1, components=min(settings.components, 20))
    for name, entrant in entrants.items():
        if not settings.quick:
            on_stage(f"warming up: {name}")
            threads[name] = peers.choose_threads(partial(entrant, small, 0, short))
        for epochs in [0] if name == "mixture" else settings.points:  # it knows no epochs
            for seed in range(settings.seed, settings.seed + settings.seeds):
                on_stage(f"{name}, epochs: {epochs}, seed {seed}")
                for one in entrant(data, seed, dataclasses.replace(settings, epochs=epochs)):
                    cells.setdefault((one.name, epochs), []).append(judge.numbers(one, data))
    attrs = {name: {"units": "s", "better": "lower"} for name in SECONDS}
    attrs |= {metric.name: metric.attrs for metric in [*judge.metrics, *judge.of_all]}
    names, epochs_of = zip(*cells, strict=True)
    return xr.Dataset(
        {
            name: (("cell", "seed"), [[run[name] for run in runs] for runs in cells.values()], of)
            for name, of in attrs.items()
        },
        coords={"contestant": ("cell", list(names)), "epochs": ("cell", list(epochs_of))},
        attrs={"threads": threads},
    )


if __name__ == "__main__":
    command.main(Settings, run)
