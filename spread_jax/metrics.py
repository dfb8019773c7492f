"""Ready metrics: of the training, of the bounds, and of clean samples beside held-out data."""

import math
from collections.abc import Callable, Mapping

import numpy as np
from jaxtyping import Array, PyTree
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.distance import cdist, pdist

from spread_jax.guard import watch_runaway
from spread_jax.judgement import POINTS_AT_ONCE, Metric, Run
from spread_jax.models.fitted_latent import FittedLatentVAE
from spread_jax.models.vae import VAE
from spread_jax.spreads import Spread
from spread_jax.training import NEVER

MAX_PAIRED = 1_000  # points whose distances are all taken
MAX_TRAIN = 5_000  # training points whose bound is taken
MAX_NEAREST = 500  # samples whose nearest training row is looked for
MAX_WEIGHTED = 1_000  # held-out points whose importance-weighted bound is taken
ACTIVE = 0.01  # variance over the data of a posterior mean, above which its dimension is used


def _is_broken(run: Run) -> bool:
    return not np.isfinite(run.curves["loss"][-1])


NONFINITE = Metric("nonfinite", "1", "lower", _is_broken, "a loss was not finite")


def runaway_alarm(
    std: str,
    scale: float,
    noise: Callable[[Mapping[str, float]], ArrayLike | float] = lambda hyper: hyper["sigma_fix"],
) -> list[Metric]:
    """The step of :func:`spread_jax.runaway_step`, inf if it never came, and whether it came.

    Args:
      std: name of the recorded joint σ or standard deviations, as in
        :func:`spread_jax.guard.watch_runaway`.
      scale: :func:`spread_jax.data_scale` of the data.
      noise: ``(hyper) -> `` standard deviation of the noise on the model, one number or one for
        each record.
    """

    def alarm_step(run: Run) -> float:
        record_every = int(run.curves["step"][0])
        in_force = np.atleast_1d(noise(run.hyper))  # of one record or all, for one run
        alarms = watch_runaway(std, in_force[None], scale=scale, record_every=record_every)
        (step,) = alarms({name: curve[None] for name, curve in run.curves.items()})
        return math.inf if step == NEVER else float(step)

    def step_once(run: Run) -> float:
        return run.once(alarm_step)

    words = "the likelihood was seen running away"
    return [
        Metric("alarm_step", "step", "higher", step_once, f"step at which {words}"),
        Metric("alarm", "1", "lower", lambda run: step_once(run) < math.inf, words),
    ]


def last(name: str, long_name: str, units: str = "data units") -> Metric:
    """The last record of a number that was observed along the run; NaN where it was not."""

    def function(run: Run) -> float:
        return float(run.curves[name][-1]) if name in run.curves else math.nan

    return Metric(f"last_{name}", units, "", function, long_name)


def energy_distance(x: ArrayLike, y: ArrayLike) -> float:
    """√(2 E‖X - Y‖ - E‖X - X'‖ - E‖Y - Y'‖), over all pairs of points, in data units.

    The V-statistic: never negative, zero for equal sets, of order n^(-1/2) for two samples of
    one law. With ``dim`` 1 it is :func:`scipy.stats.energy_distance`.

    Args:
      x, y: clean samples, ``[n, dim]`` and ``[m, dim]``.

    References:
      Székely, Rizzo, "Energy statistics", Journal of Statistical Planning and Inference (2013).
    """
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    return energy_distance_given(mean_distance(x), x, y)


def energy_distance_given(
    mean_distance_of_x: float, x: NDArray[np.float64], y: NDArray[np.float64]
) -> float:
    """:func:`energy_distance` of many y from one x, whose mean distance is given."""
    within = mean_distance_of_x + mean_distance(y)
    return math.sqrt(max(2 * float(cdist(x, y).mean()) - within, 0.0))


def mean_distance(x: NDArray[np.float64]) -> float:
    """E‖X - X'‖ over all pairs of points, those of a point with itself too."""
    return float(2 * pdist(x).sum() / len(x) ** 2)


def wasserstein(x: ArrayLike, y: ArrayLike) -> float:
    """W2 = min over permutations π of √(Σ_i ‖x_i - y_π(i)‖² / n), exact, in data units.

    By SciPy's assignment solver; about n³: 0.03 s for 500 points, 0.2 s for 1,000. Between two
    independent samples of separate modes the chance imbalance of their counts drowns all else:
    give it samples stratified by mode.

    Args:
      x, y: clean samples, both ``[n, dim]``.

    Raises:
      ValueError: if the shapes differ.
    """
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    if x.shape != y.shape:
        raise ValueError(f"the samples must have equal shapes, got {x.shape} and {y.shape}")
    from scipy.optimize import linear_sum_assignment  # a tenth of a second to import

    cost = cdist(x, y, "sqeuclidean")
    return float(np.sqrt(cost[linear_sum_assignment(cost)].mean()))


def of_samples(
    name: str,
    units: str,
    distance: Callable[[np.ndarray, np.ndarray], float],
    long_name: str,
    max_points: int = MAX_PAIRED,
    truth: Callable[[Run], np.ndarray] = lambda run: run.held_out,
) -> Metric:
    """A distance of clean samples to true ones, as many of each; NaN where a sample is not finite.

    It is not 0 for two samples of one law; lower is better.

    Args:
      distance: ``(samples [n, dim], true points [n, dim]) -> number``.
      max_points: n at most.
      truth: ``(run) -> true points``; by default the held-out rows.
    """

    def function(run: Run) -> float:
        true = truth(run)
        n = min(len(run.samples), len(true), max_points)
        samples = run.samples[:n]
        return distance(samples, true[:n]) if np.isfinite(samples).all() else math.nan

    return Metric(name, units, "lower", function, long_name)


_WORDS = "of clean samples to held-out data"
ENERGY_DISTANCE = of_samples(
    "energy_distance", "data units", energy_distance, f"energy distance {_WORDS}"
)
VALIDATION_ENERGY_DISTANCE = of_samples(
    "validation_energy_distance",
    "data units",
    energy_distance,
    f"energy distance {_WORDS}, validation part",
    truth=lambda run: run.data.validation,
)
WASSERSTEIN = of_samples("wasserstein", "data units", wasserstein, f"W2 {_WORDS}")


def _nearest_train(run: Run) -> float:
    samples = run.samples[:MAX_NEAREST]
    if not np.isfinite(samples).all():
        return math.nan
    from sklearn.metrics import pairwise_distances_argmin_min

    return float(np.median(pairwise_distances_argmin_min(samples, run.data.train)[1]))


NEAREST_TRAIN = Metric(
    "nearest_train",
    "data units",
    "",
    _nearest_train,
    "distance of clean samples to the nearest training row, median",
)
"""A check for memorising: much below what held-out rows have, samples are copies."""


def _mean(values: ArrayLike) -> float:
    return float(np.mean(np.asarray(values, np.float64)))


def _train_bound(run: Run) -> float:
    return _mean(run.bound(run.data.train[:MAX_TRAIN]).elbo)


def _test_bound(run: Run) -> float:
    return _mean(run.held_out_bound.elbo)


def _worst_bound(run: Run) -> float:
    return float(run.held_out_bound.elbo.min())


def _bits_per_dim(run: Run) -> float:
    return -_test_bound(run) / (run.held_out.shape[1] * math.log(2))


def _discrete_bits_per_dim(run: Run) -> float:
    return _bits_per_dim(run) - math.log2(math.sqrt(12) * run.hyper["sigma_fix"])


DISCRETE_BITS_PER_DIM = Metric(
    "discrete_bits_per_dim",
    "bits",
    "lower",
    _discrete_bits_per_dim,
    "bits per dimension of held-out grey levels",
)
"""Of a run under :func:`spread_jax.spreads.dequantizing_noise`."""


def _active_dims(run: Run) -> int | float:
    """Dimensions of z whose posterior mean varies over the data by more than 0.01; NaN where the
    posterior is no pair of mean and log-variance, or is not finite.

    References:
      Burda, Grosse, Salakhutdinov, "Importance Weighted Autoencoders", ICLR 2016, section 5.
    """
    posterior = run.held_out_bound.posterior
    if not (isinstance(posterior, tuple) and len(posterior) == 2):
        return math.nan
    variance = np.asarray(posterior[0], np.float64).var(axis=0)
    return int(np.sum(variance > ACTIVE)) if np.isfinite(variance).all() else math.nan


TEST_BOUND = Metric("test_bound", "nats", "higher", _test_bound, "bound of held-out data")
TEST_KL = Metric(
    "kl", "nats", "", lambda run: _mean(run.held_out_bound.kl), "KL of posteriors and prior"
)
BOUNDS = [
    Metric("train_bound", "nats", "higher", _train_bound, "bound of training data"),
    TEST_BOUND,
    Metric("worst_test_bound", "nats", "higher", _worst_bound, "worst bound of held-out data"),
    Metric("bits_per_dim", "bits", "lower", _bits_per_dim, "bits per dimension of held-out data"),
    TEST_KL,
    Metric("active_dims", "1", "", _active_dims, "active dimensions of z"),
]
"""In the spread space that the run's own noise makes; ``active_dims`` of a Gaussian latent only."""


def importance_weighted(num_samples: int) -> Metric:
    """Mean importance-weighted bound of held-out data, of :func:`importance_weighted_bound`."""

    def weighted(
        vae: VAE | FittedLatentVAE, params: PyTree, spread: Spread, key: Array, x: Array
    ) -> Array:
        return vae.importance_weighted_bound(params, key, x, spread, num_samples)

    def function(run: Run) -> float:
        at_once = min(max(1, 8 * POINTS_AT_ONCE // num_samples), POINTS_AT_ONCE)
        points = run.held_out[:MAX_WEIGHTED]
        return _mean(run.ask_of_points(weighted, points, at_once))

    words = f"importance-weighted bound of held-out data, {num_samples} draws"
    return Metric("test_iw_bound", "nats", "higher", function, words)
