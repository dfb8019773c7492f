"""The peers of :mod:`benchmarks.quality`, trained and sampled by their own means: pythae's
autoencoders, ctgan's TVAE and scikit-learn's Gaussian mixture.

Their packages are imported where they are used: nobody needs both of the extra ones.
"""

import contextlib
import logging
import os
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from benchmarks.fit import HIDDEN, LATENT_DIM
from benchmarks.timing import BATCH
from spread_jax.cores import num_cores
from spread_jax.data.datasets import Dataset
from spread_jax.judgement import MAX_SAMPLES

if TYPE_CHECKING:
    from benchmarks.quality import Settings

PYTHAE_MODELS: dict[str, dict[str, Any]] = {"VAE": {}, "BetaVAE": {"beta": 0.1}, "RAE_L2": {}}
"""The models of pythae and what differs from their defaults."""
MOST_SAMPLES = 10_000  # of images: so many tell models apart that 3,000 do not
MOST_COMPONENTS = 20  # of the Gaussian mixture that BIC chooses


class Contestant(NamedTuple):
    """What one way to train and to sample made of the data with one seed.

    Attributes:
      name: of the way, the same for all seeds.
      samples: ``[n, dim]``, as many as :func:`num_samples` says, in no order.
      train_seconds: of the training, compilation with it.
      sample_seconds: of fitting the sampler, where it is fitted, and of drawing the samples.
    """

    name: str
    samples: np.ndarray
    train_seconds: float
    sample_seconds: float


def num_samples(data: Dataset) -> int:
    """As many as there are held-out rows, up to what all samples are judged by."""
    return min(len(data.test), MAX_SAMPLES if data.train_labels is None else MOST_SAMPLES)


def choose_threads(compete: Callable[[], list[Contestant]]) -> int:
    """Gives PyTorch and scikit-learn one core or all, whichever makes the contestants faster in the
    better of two attempts, and says how many: on a busy machine threads that wait for each other
    take ten times as long. It also warms up: the first training of a process loads much that the
    others find loaded."""
    import torch
    from threadpoolctl import threadpool_limits

    def use(threads: int) -> None:
        torch.set_num_threads(threads)
        threadpool_limits(threads)  # of the libraries that are loaded: a competition comes first

    def seconds(threads: int) -> float:
        use(threads)
        sums = [sum(one.train_seconds + one.sample_seconds for one in compete()) for _ in range(2)]
        return min(sums)

    compete()
    best = min({1, num_cores()}, key=seconds)
    use(best)
    return best


def pythae_model(name: str, data: Dataset, seed: int, settings: "Settings") -> list[Contestant]:
    """One model of pythae, trained once, and a contestant for each of its samplers."""
    with _silence():
        import torch
        from pythae import models, samplers
        from pythae.pipelines import TrainingPipeline

        np.random.seed(seed)  # scikit-learn's mixture in the sampler draws from it
        torch.manual_seed(seed)
        x, dim = data.train, data.train.shape[1]
        config = getattr(models, f"{name}Config" if name != "RAE_L2" else "RAE_L2_Config")
        numbers = PYTHAE_MODELS[name]
        model = getattr(models, name)(config(input_dim=(dim,), latent_dim=LATENT_DIM, **numbers))
        _set_widths(model, dim)
        with tempfile.TemporaryDirectory() as folder:  # it keeps the trained model and a log
            train = TrainingPipeline(model, _pythae_training(name, seed, settings, folder))
            train_seconds, _ = _timed(lambda: train(x))

        mixture = samplers.GaussianMixtureSamplerConfig(n_components=settings.components)
        makers = {f"mixture of {settings.components}": samplers.GaussianMixtureSampler}
        if name != "RAE_L2":  # it has no prior: its latents are whatever the encoder makes of data
            makers = {"prior": samplers.NormalSampler, **makers}

        found = []
        for kind, make in makers.items():
            fitted = make is samplers.GaussianMixtureSampler
            sampler = make(model, mixture if fitted else None)

            def draw(sampler: Any = sampler, fitted: bool = fitted) -> Any:
                if fitted:
                    sampler.fit(x)
                return sampler.sample(num_samples(data))

            seconds, samples = _timed(draw)
            rows = samples.cpu().numpy().reshape(-1, dim)
            found.append(
                Contestant(f"pythae {name}, {kind}", _shuffled(rows, seed), train_seconds, seconds)
            )
        return found


def _set_widths(model: Any, dim: int) -> None:
    """Gives pythae's own networks, of one hidden layer of 512, this benchmark's width."""
    from torch.nn import Linear

    encoder, decoder = model.encoder, model.decoder
    encoder.layers[0][0] = Linear(dim, HIDDEN)
    encoder.embedding = Linear(HIDDEN, LATENT_DIM)
    if hasattr(encoder, "log_var"):  # of a VAE
        encoder.log_var = Linear(HIDDEN, LATENT_DIM)
    decoder.layers[0][0] = Linear(LATENT_DIM, HIDDEN)
    decoder.layers[1][0] = Linear(HIDDEN, dim)


def _pythae_training(name: str, seed: int, settings: "Settings", folder: str) -> Any:
    from pythae import trainers

    rate = settings.learning_rate
    make: Any = trainers.BaseTrainerConfig
    rates = {"learning_rate": rate}
    if name == "RAE_L2":  # an optimizer for each network: only the decoder's weights decay
        make = trainers.CoupledOptimizerTrainerConfig
        rates = {"encoder_learning_rate": rate, "decoder_learning_rate": rate}
    return make(
        output_dir=folder,
        per_device_train_batch_size=BATCH,
        num_epochs=settings.epochs,
        seed=seed,
        **rates,
    )


def tvae(data: Dataset, seed: int, settings: "Settings") -> list[Contestant]:
    """ctgan's TVAE with its own networks and batches, which are made for tables."""
    with _silence():
        from ctgan import TVAE

        model = TVAE(epochs=settings.epochs)
        model.set_random_state(seed)
        train_seconds, _ = _timed(lambda: model.fit(data.train))
        sample_seconds, samples = _timed(lambda: model.sample(num_samples(data)))
        return [Contestant("ctgan TVAE", np.asarray(samples), train_seconds, sample_seconds)]


def gaussian_mixture(data: Dataset, seed: int, settings: "Settings") -> list[Contestant]:
    """Full covariances; of 1 to 20 components the number that BIC chooses. It knows no epochs."""
    from sklearn.mixture import GaussianMixture

    x = data.train.astype(np.float64)  # float32 does not hold a covariance that is nearly singular

    def train() -> GaussianMixture:
        numbers = range(1, min(MOST_COMPONENTS, len(x)) + 1)
        return min(
            (GaussianMixture(n, random_state=seed).fit(x) for n in numbers),
            key=lambda fit: fit.bic(x),
        )

    with _silence():
        train_seconds, best = _timed(train)
        sample_seconds, (samples, _) = _timed(lambda: best.sample(num_samples(data)))
    rows = _shuffled(samples, seed)
    return [Contestant("Gaussian mixture by BIC", rows, train_seconds, sample_seconds)]


def _timed(function: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    result = function()
    return time.perf_counter() - start, result


def _shuffled(samples: np.ndarray, seed: int) -> np.ndarray:
    """A mixture draws component by component, and a metric may look at the first samples only."""
    return np.random.default_rng(seed).permutation(samples)


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Keeps the peers' bars, logs and warnings of other versions off the terminal."""
    logging.disable(logging.WARNING)  # pythae's loggers write by handlers of their own
    with (
        open(os.devnull, "w") as nowhere,
        contextlib.redirect_stdout(nowhere),
        contextlib.redirect_stderr(nowhere),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        try:
            yield
        finally:
            logging.disable(logging.NOTSET)
