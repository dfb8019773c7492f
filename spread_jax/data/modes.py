"""The width of the narrowest mode of a cloud of points, by Gaussian mixtures in float64."""

from typing import NamedTuple

import numpy as np

from spread_jax.data.standardization import Floats

SIZES = (1, 2, 3, 4, 5, 6, 8, 10, 12, 16)
ATOM_SHARE = 0.05  # of the rows in one value: enough for one component of a mixture to sit on
# of the points' scale: the standard deviation that a direction without any counts as, tried one
# after the other until the narrowest mode is NARROW times as wide. With the last one alone the
# rounding of float32 would count: two modes on a line in 20 dimensions came out as 0.6 of their
# width. In units of a component's own length, exact lines would be cut into pieces.
FLOORS, NARROW = (1e-3, 1e-5, 1e-7, 1e-8), 10
STARTS, FIRST_STEPS, STEPS = 4, 8, 100
LEAST_GAIN = 1e-4  # nats a point, of a step, below which the steps end


class Mixture(NamedTuple):
    """Σ_k w_k N(x; m_k, C_k): ``[k]``, ``[k, d]``, and C_k by its eigenvalues ``[k, d]`` and
    eigenvectors ``[k, d, d]``, which do not lose the small eigenvalues of a thin component."""

    weights: Floats
    means: Floats
    variances: Floats
    axes: Floats

    @property
    def widths(self) -> Floats:
        """√(tr C² / tr C) of each component: the standard deviation of a line and of a ball."""
        v = self.variances / self.variances.max(axis=1, keepdims=True)  # no square underflows
        ratio = np.sum(v**2, axis=1) / np.sum(v, axis=1)
        return np.asarray(np.sqrt(ratio * self.variances.max(axis=1)))


def narrowest_mode(points: Floats) -> tuple[float, int]:
    """Width of the narrowest component, in the unit of ``points``, and the number of components.

    A component narrower than 1e-7 is a point at this scale, and no mode; where all are points, the
    width is that of one Gaussian for all.

    Args:
      points: centred, of standard deviation near 1 along the first direction, ``[n, d]``.
    """
    for floor in FLOORS:
        # a direction with less counts as none; coordinates of rounding would only cost BIC
        varies = points.std(axis=0) > floor
        mixture = _of_best_size(points[:, varies], floor)
        is_mode = mixture.weights >= min(ATOM_SHARE, mixture.weights.max())
        widths = mixture.widths[is_mode]
        if widths.min() > NARROW * floor:
            return float(widths.min()), len(mixture.weights)
    has_width = widths > NARROW * floor
    if has_width.any():
        return float(widths[has_width].min()), len(mixture.weights)
    return float(_fitted(points, 1, floor)[0].widths[0]), 1


def _of_best_size(points: Floats, floor: float) -> Mixture:
    """Of 1 to 16 components, the mixture with the best Bayesian information criterion."""
    n, d = points.shape
    best, least_bic, worse = None, np.inf, 0
    for k in SIZES:
        if best is not None and (worse == 2 or n < 5 * k):
            break
        mixture, log_prob = _fitted(points, k, floor)
        parameters = k * (d + 1) * (d + 2) / 2 - 1
        bic = parameters * np.log(n) - 2 * n * log_prob
        if best is None or bic < least_bic:
            best, least_bic, worse = mixture, bic, 0
        else:
            worse += 1
    assert best is not None
    return best


def _fitted(x: Floats, k: int, floor: float) -> tuple[Mixture, float]:
    """The mixture of the highest mean log-density, from several k-means++ starts."""
    from sklearn.cluster import kmeans_plusplus

    whole = _eigen(np.cov(x.T, bias=True).reshape(1, *2 * x.shape[1:]), floor)
    starts = []
    for seed in range(STARTS if k > 1 else 1):
        centres = kmeans_plusplus(x, k, random_state=seed)[0]
        nearest = np.argmin(np.sum((x[:, None] - centres) ** 2, axis=2), axis=1)
        starts.append(_ascended(x, np.eye(k)[nearest], whole, floor, FIRST_STEPS))
    share = max(starts, key=lambda start: start[1])[2]
    mixture, log_prob, _ = _ascended(x, share, whole, floor, STEPS)
    return mixture, log_prob


def _ascended(
    x: Floats, share: Floats, whole: tuple[Floats, Floats], floor: float, steps: int
) -> tuple[Mixture, float, Floats]:
    """Expectation maximisation from shares ``[n, k]``: the mixture, its log-density, its shares."""
    before = -np.inf
    for _ in range(steps):
        mixture = _maximised(x, share, whole, floor)
        log_joint = _log_joint(x, mixture)
        largest = log_joint.max(axis=1, keepdims=True)
        share = np.exp(log_joint - largest)
        total = share.sum(axis=1, keepdims=True)
        share /= total
        log_prob = float(np.mean(largest + np.log(total)))
        if log_prob - before < LEAST_GAIN:
            break
        before = log_prob
    return mixture, log_prob, share


def _maximised(x: Floats, share: Floats, whole: tuple[Floats, Floats], floor: float) -> Mixture:
    count = share.sum(axis=0)
    weight = share.T / np.maximum(count, np.finfo(np.float64).tiny)[:, None]
    means = weight @ x
    apart = x - means[:, None]  # centred before squaring: a thin mode far out keeps its digits
    covariances = (apart * weight[:, :, None]).transpose(0, 2, 1) @ apart
    variances, axes = _eigen(covariances, floor)
    # so few points would let a component shrink onto them; the covariance of all points will not
    few = count < 2 * (x.shape[1] + 1)
    variances[few], axes[few] = whole[0][0], whole[1][0]
    return Mixture(count / count.sum(), means, variances, axes)


def _eigen(covariances: Floats, floor: float) -> tuple[Floats, Floats]:
    variances, axes = np.linalg.eigh(covariances)
    return np.maximum(variances, floor**2), axes


def _log_joint(x: Floats, mixture: Mixture) -> Floats:
    """log w_k N(x; m_k, C_k), ``[n, k]``."""
    weights, means, variances, axes = mixture
    along = (x - means[:, None]) @ (axes / np.sqrt(variances)[:, None, :])
    squares = np.sum(along**2, axis=2).T
    norm = np.sum(np.log(variances), axis=1) + x.shape[1] * np.log(2 * np.pi)
    return np.asarray(np.log(np.maximum(weights, 1e-300)) - 0.5 * (squares + norm))
