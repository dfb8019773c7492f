"""Judging image samples without any download, in the features of a classifier of the same data.

Its numbers compare models of one data set with each other and with held-out real data. They are
not comparable with the Inception FID of the literature: other features.
"""

import functools
import math
from collections.abc import Callable
from typing import Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Integer, PRNGKeyArray
from numpy.typing import ArrayLike, NDArray

from spread_jax.judgement import Metric, Run

BLOCK = 2**18  # distances at a time: 2 MB, which stay in the cache
ROUNDING = 1e-12  # of a squared distance, relative to the squares that it is the difference of


class ClassifierNetwork(nn.Module):
    """``x [..., dim] -> (features [..., 32], logits [..., classes])``."""

    num_classes: int

    @nn.compact
    def __call__(self, x: Float[Array, "*batch dim"]) -> tuple[Array, Array]:
        features = nn.relu(nn.Dense(32)(nn.relu(nn.Dense(256)(x))))
        return features, nn.Dense(self.num_classes)(features)


class Classifier(NamedTuple):
    """A trained classifier.

    Attributes:
      apply: :class:`ClassifierNetwork`, ``(params, x) -> (features, logits)``.
      params: of the network.
      labels: the distinct ones, ascending: logit i is that of ``labels[i]``.
    """

    apply: Callable[[dict, ArrayLike], tuple[Array, Array]]
    params: dict
    labels: NDArray[np.int64]

    def features(self, x: ArrayLike) -> NDArray[np.float64]:
        """The last hidden layer, ``[n, 32]``."""
        return np.asarray(self.apply(self.params, jnp.asarray(x))[0], np.float64)

    def accuracy(self, x: ArrayLike, labels: ArrayLike) -> float:
        """The share of points whose largest logit is their label's."""
        logits = self.apply(self.params, jnp.asarray(x))[1]
        return float(np.mean(self.labels[np.argmax(logits, -1)] == np.asarray(labels)))


def train_classifier(
    key: PRNGKeyArray,
    x: Float[np.ndarray, "n dim"],
    labels: Integer[np.ndarray, " n"],
    num_steps: int = 3000,
) -> Classifier:
    """Two hidden layers trained on (x, label) by cross-entropy, Adam 1e-3, batches of 128.

    Args:
      key: initialisation and batches.
      x: ``[n, dim]``, of any units that a network can take.
      labels: integers, of any size.
      num_steps: optimizer steps.
    """
    distinct, labels = np.unique(labels, return_inverse=True)
    network, optimizer = ClassifierNetwork(len(distinct)), optax.adam(1e-3)
    init_key, run_key = jax.random.split(key)
    params = network.init(init_key, jnp.zeros((1, x.shape[1])))

    @jax.jit
    def train(params: dict, x: Array, labels: Array) -> dict:
        def step(carry: tuple, step_key: PRNGKeyArray) -> tuple[tuple, None]:
            params, opt_state = carry
            rows = jax.random.randint(step_key, (128,), 0, len(x))

            def loss_fn(params: dict) -> Array:
                logits = network.apply(params, x[rows])[1]
                return optax.softmax_cross_entropy_with_integer_labels(logits, labels[rows]).mean()

            updates, opt_state = optimizer.update(jax.grad(loss_fn)(params), opt_state)
            return (optax.apply_updates(params, updates), opt_state), None

        start = (params, optimizer.init(params))
        return jax.lax.scan(step, start, jax.random.split(run_key, num_steps))[0][0]

    trained = train(params, jnp.asarray(x), jnp.asarray(labels, jnp.int32))
    return Classifier(jax.jit(network.apply), trained, distinct)


def quality_metrics(classifier: Classifier, real: ArrayLike) -> list[Metric]:
    """Fréchet distance, precision and recall of a run's clean images, as a viewer shows them: cut
    to [0, 1]; NaN where a pixel is not finite.

    Args:
      classifier: whose features are compared.
      real: real images, ``[n, dim]``.
    """
    real_features = classifier.features(real)

    @functools.cache
    def balls_of_real() -> _Balls | None:  # made at first use: the Fréchet distance needs none
        return _balls(real_features)

    def features(run: Run) -> NDArray[np.float64]:
        # a cut to [0, 1] would make ordinary pixels of infinite ones
        finite = np.isfinite(run.samples).all()
        samples = run.samples.clip(0, 1) if finite else np.full_like(run.samples, np.nan)
        return classifier.features(samples)

    def frechet(run: Run) -> float:
        found = run.once(features)
        return frechet_distance(real_features, found) if np.isfinite(found).all() else math.nan

    def precision(run: Run) -> float:
        return _share_inside(run.once(features), balls_of_real())

    def recall(run: Run) -> float:
        return _share_inside(real_features, _balls(run.once(features)))

    def metric(
        name: str,
        units: str,
        better: Literal["lower", "higher"],
        function: Callable[[Run], float],
        what: str,
    ) -> Metric:
        explained = f"{what} of clean samples, in a classifier's features"
        return Metric(name, units, better, function, explained)

    return [
        metric("frechet", "squared units of features", "lower", frechet, "Fréchet distance"),
        metric("precision", "1", "higher", precision, "precision"),
        metric("recall", "1", "higher", recall, "recall"),
    ]


def frechet_distance(x: ArrayLike, y: ArrayLike) -> float:
    """|m₁ - m₂|² + tr(C₁ + C₂ - 2 (C₁^½ C₂ C₁^½)^½), between the Gaussians of x's and y's moments.

    Squared 2-Wasserstein distance of those Gaussians. With n points its bias is positive and of
    order 1/n: compare sets of one size.

    Args:
      x, y: features, ``[n, width]`` and ``[m, width]``.

    Examples:
      >>> x = np.random.default_rng(0).normal(size=(1000, 3))
      >>> round(sj.frechet_distance(x, x + 2.0), 6)  # 2² for each of three
      12.0

    References:
      Dowson, Landau, "The Fréchet distance between multivariate normal distributions", Journal of
      Multivariate Analysis (1982); Heusel et al., NeurIPS 2017, for features of a classifier.
    """
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    # roots R of the covariances RᵀR; the singular values of R₁ R₂ᵀ are those of C₁^½ C₂^½
    root_x, root_y = (
        np.linalg.qr(points - points.mean(axis=0), mode="r") / np.sqrt(len(points) - 1)
        for points in (x, y)
    )
    mean_part = np.sum(np.square(x.mean(axis=0) - y.mean(axis=0)))
    traces = np.sum(root_x**2) + np.sum(root_y**2)
    return float(mean_part + traces - 2 * np.linalg.norm(root_x @ root_y.T, "nuc"))


def precision_recall(
    real: ArrayLike, samples: ArrayLike, num_neighbours: int = 3
) -> tuple[float, float]:
    """The share of samples inside the real points' balls, and of real points inside the samples'.

    A point's ball reaches to its ``num_neighbours``-th nearest neighbour in its own set.

    Args:
      real, samples: features, ``[n, width]`` and ``[m, width]``; recall grows with m.
      num_neighbours: k, at least 1.

    Returns:
      Precision and recall, each NaN where the points that have the balls are k or fewer.

    Raises:
      ValueError: if ``num_neighbours`` is below 1.

    Examples:
      >>> x = np.random.default_rng(0).normal(size=(1000, 2))
      >>> sj.precision_recall(x, x + 100.0)
      (0.0, 0.0)
      >>> sj.precision_recall(x, x)
      (1.0, 1.0)

    References:
      Kynkäänniemi et al., "Improved precision and recall metric for assessing generative models",
      NeurIPS 2019, equations 1 and 2.
    """
    if num_neighbours < 1:
        raise ValueError(f"num_neighbours must be >= 1, got {num_neighbours}")
    real, samples = np.asarray(real, np.float64), np.asarray(samples, np.float64)
    precision = _share_inside(samples, _balls(real, num_neighbours))
    return precision, _share_inside(real, _balls(samples, num_neighbours))


class _Balls(NamedTuple):
    """About points, each as far as to its ``num_neighbours``-th nearest neighbour among them.

    Attributes:
      middle: of the centres; all points are taken from there, so that little is rounded.
      half_spaces: ``[width + 2, n]``: a point p is in ball i where (p, 1, |p|²) @ column i ≤ 0.
    """

    middle: NDArray[np.float64]
    half_spaces: NDArray[np.float64]


def _balls(centres: NDArray, num_neighbours: int = 3) -> _Balls | None:
    """None where there are too few centres, or one of them is not finite."""
    if len(centres) <= num_neighbours or not np.isfinite(centres).all():
        return None

    from sklearn.neighbors import NearestNeighbors

    middle = centres.mean(axis=0)
    centres = centres - middle
    others = NearestNeighbors(n_neighbors=num_neighbours + 1, algorithm="brute").fit(centres)
    radius = others.kneighbors(centres)[0][:, num_neighbours]  # the nearest is the centre itself
    squares = np.sum(centres**2, axis=1)
    # the radius and what it is rounded by: one of 0, of repeated points, has to hold them
    reach = radius**2 + ROUNDING * (squares + radius**2)
    # |a|² + |b|² - 2ab as one product of matrices, many times as fast as all differences
    return _Balls(middle, np.vstack([-2 * centres.T, squares - reach, np.ones(len(centres))]))


def _share_inside(points: NDArray, balls: _Balls | None) -> float:
    if balls is None or not np.isfinite(points).all():
        return math.nan
    points = points - balls.middle
    rows = np.column_stack([points, np.ones(len(points)), np.sum(points**2, axis=1)])
    num_blocks = math.ceil(len(points) * balls.half_spaces.shape[1] / BLOCK)
    inside = [
        (block @ balls.half_spaces <= 0).any(axis=1) for block in np.array_split(rows, num_blocks)
    ]
    return float(np.concatenate(inside).mean())
