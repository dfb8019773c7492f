"""Judging image samples without any download, in the features of a classifier of the same data.

Its numbers compare models of one data set with each other and with held-out real data. They are
not comparable with the Inception FID of the literature: other features.
"""

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


def sample_quality(real: ArrayLike, samples: ArrayLike) -> dict[str, float]:
    """:func:`frechet_distance` and :func:`precision_recall` of samples' features, by name:
    ``frechet``, ``precision`` and ``recall``; all NaN where a feature is not finite."""
    numbers = [np.nan, np.nan, np.nan]
    if np.isfinite(samples).all():
        numbers = [frechet_distance(real, samples), *precision_recall(real, samples)]
    return dict(zip(("frechet", "precision", "recall"), numbers, strict=True))


def quality_metrics(classifier: Classifier, real: ArrayLike) -> list[Metric]:
    """Fréchet distance, precision and recall of a run's clean images, as a viewer shows them: cut
    to [0, 1]; NaN where a pixel is not finite.

    Args:
      classifier: whose features are compared.
      real: real images, ``[n, dim]``.
    """
    real_features = classifier.features(real)

    def quality(run: Run) -> dict[str, float]:
        # a cut to [0, 1] would make ordinary pixels of infinite ones
        finite = np.isfinite(run.samples).all()
        samples = run.samples.clip(0, 1) if finite else np.full_like(run.samples, np.nan)
        return sample_quality(real_features, classifier.features(samples))

    def metric(name: str, what: str, units: str, better: Literal["lower", "higher"]) -> Metric:
        explained = f"{what} of clean samples, in a classifier's features"
        return Metric(name, units, better, lambda run: run.once(quality)[name], explained)

    return [
        metric("frechet", "Fréchet distance", "squared units of features", "lower"),
        metric("precision", "precision", "1", "higher"),
        metric("recall", "recall", "1", "higher"),
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
    precision = _share_inside(samples, real, num_neighbours)
    return precision, _share_inside(real, samples, num_neighbours)


def _share_inside(points: NDArray, centres: NDArray, num_neighbours: int) -> float:
    if len(centres) <= num_neighbours:
        return math.nan

    from sklearn.neighbors import NearestNeighbors

    middle = centres.mean(axis=0)
    points, centres = points - middle, centres - middle
    others = NearestNeighbors(n_neighbors=num_neighbours + 1, algorithm="brute").fit(centres)
    radius = others.kneighbors(centres)[0][:, num_neighbours]  # the nearest is the centre itself
    squares = np.sum(centres**2, axis=1)
    # the radius and what it is rounded by: one of 0, of repeated points, has to hold them
    reach = radius**2 + ROUNDING * (squares + radius**2)
    # |a|² + |b|² - 2ab as one product of matrices, many times as fast as all differences
    left = np.column_stack([points, np.ones(len(points)), np.sum(points**2, axis=1)])
    right = np.column_stack([-2 * centres, squares - reach, np.ones(len(centres))])
    blocks = np.array_split(left, math.ceil(len(points) * len(centres) / BLOCK))
    inside = np.concatenate([(block @ right.T <= 0).any(axis=1) for block in blocks])
    return float(inside.mean())
