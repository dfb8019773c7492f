"""The dimension of the set that points lie on, by the distances to their nearest neighbours."""

import math
from typing import NamedTuple

import numpy as np

from spread_jax.data.standardization import Floats


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
    from sklearn.neighbors import NearestNeighbors

    rng = np.random.default_rng(0)
    queries = rng.choice(len(z), min(len(z), 1000), replace=False)

    def to_neighbours(points: Floats) -> Floats:
        neighbours = NearestNeighbors(n_neighbors=11).fit(points)
        return neighbours.kneighbors(points[queries])[0][:, 1:]  # the nearest is the point itself

    def dimension(distances: Floats) -> float:
        return float(1 / _inverse_dimensions(distances).mean())

    distances = to_neighbours(z)
    inverse = _inverse_dimensions(distances)
    mean = float(inverse.mean())
    # neighbourhoods overlap: with all points asked, the scatter is 1.3 to 1.5 times that of
    # independent ones (tori of dimension 1 to 5), and none is seen at a fifth of them
    overlap = math.sqrt(1 + 1.25 * len(queries) / len(z))
    margin = 1.96 * overlap * float(inverse.std()) / math.sqrt(len(queries))
    gaussian = to_neighbours(rng.standard_normal((len(z), len(spectrum))) * spectrum)
    # columns by their first numbers: the draws must not depend on the order they were given in
    in_order = z[:, np.lexsort(z[2::-1])]
    shuffled = to_neighbours(rng.permuted(in_order, axis=0))
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


def _inverse_dimensions(distances: Floats) -> Floats:
    # grids have equal distances: a floor keeps the inverse of their mean finite
    smallest = np.finfo(np.float64).tiny
    ratio = np.maximum(distances[:, -1:], smallest) / np.maximum(distances[:, :-1], smallest)
    return np.maximum(np.log(ratio).mean(axis=1), 1e-12)
