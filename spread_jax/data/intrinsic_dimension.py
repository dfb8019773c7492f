"""The dimension of the set that points lie on, by the distances to their nearest neighbours."""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from spread_jax.data.standardization import Floats

MIN_ROWS = 30  # that are distinct
MOST_QUERIES = 1_000


class IntrinsicDimension(NamedTuple):
    """Dimension of the set that the points lie on, seen at the distance of their neighbours.

    Attributes:
      estimate: by the ten nearest neighbours.
      interval: 95 %, of the scatter alone: curvature and borders bias an estimate, and above
        about 10 dimensions every such estimate is too low.
      nearest: by the two nearest neighbours, the finest scale the data have.
      of_noise: ``estimate`` and ``nearest`` of as many points of noise: the smaller of Gaussian
        noise with the same covariance, and of the data with each column shuffled (its own tails).
    """

    estimate: float
    interval: tuple[float, float]
    nearest: float
    of_noise: tuple[float, float]


def intrinsic_dimension(z: Floats, spectrum: Floats) -> tuple[IntrinsicDimension, Floats]:
    """1 / mean_i mean_j log(T_k(z_i) / T_j(z_i)), T_j the distance to the j-th neighbour, k = 10.

    References:
      Levina, Bickel, "Maximum likelihood estimation of intrinsic dimension", NIPS 2004; the
      averaging of inverses: MacKay, Ghahramani, comments on it, 2005; k = 2: Facco, d'Errico,
      Rodriguez, Laio, Scientific Reports 7 (2017).
    """
    rng = np.random.default_rng(0)
    queries = _queries(z, rng)

    def dimension(distances: Floats) -> float:
        return float(1 / _inverse_dimensions(distances).mean())

    distances = _to_neighbours(z, queries)
    inverse = _inverse_dimensions(distances)
    mean = float(inverse.mean())
    # neighbourhoods overlap: with all points asked, the scatter is 1.3 to 1.5 times that of
    # independent ones (tori of dimension 1 to 5), and none is seen at a fifth of them
    overlap = math.sqrt(1 + 1.25 * len(queries) / len(z))
    margin = 1.96 * overlap * float(inverse.std()) / math.sqrt(len(queries))
    gaussian = _to_neighbours(rng.standard_normal((len(z), len(spectrum))) * spectrum, queries)
    # columns by their first numbers: the draws must not depend on the order they were given in
    in_order = z[:, np.lexsort(z[2::-1])]
    shuffled = _to_neighbours(rng.permuted(in_order, axis=0), queries)
    found = IntrinsicDimension(
        estimate=1 / mean,
        interval=(1 / (mean + margin), 1 / (mean - margin) if mean > margin else math.inf),
        nearest=dimension(distances[:, :2]),
        of_noise=(
            min(dimension(gaussian), dimension(shuffled)),
            min(dimension(gaussian[:, :2]), dimension(shuffled[:, :2])),
        ),
    )
    return found, distances[:, [0, -1]]


def estimated_dimension(z: Floats) -> float:
    """The estimate of :func:`intrinsic_dimension` alone, which takes a third of its time."""
    distances = _to_neighbours(z, _queries(z, np.random.default_rng(0)))
    return float(1 / _inverse_dimensions(distances).mean())


def _queries(z: Floats, rng: np.random.Generator) -> NDArray[np.intp]:
    return rng.choice(len(z), min(len(z), MOST_QUERIES), replace=False)


def _to_neighbours(z: Floats, queries: NDArray[np.intp]) -> Floats:
    """Distances of the queries to their ten nearest neighbours among z."""
    from sklearn.neighbors import NearestNeighbors

    neighbours = NearestNeighbors(n_neighbors=11).fit(z)
    return neighbours.kneighbors(z[queries])[0][:, 1:]  # the nearest is the point itself


def _inverse_dimensions(distances: Floats) -> Floats:
    # grids have equal distances: a floor keeps the inverse of their mean finite
    smallest = np.finfo(np.float64).tiny
    ratio = np.maximum(distances[:, -1:], smallest) / np.maximum(distances[:, :-1], smallest)
    return np.maximum(np.log(ratio).mean(axis=1), 1e-12)
