"""Gaussian mixtures of clean points, fitted to rows whose noise is known."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray
from numpy.typing import ArrayLike

from spread_jax.arguments import require_whole
from spread_jax.deconvolution import Rows, Sums, em_step, log_prob, scoring_step, sums
from spread_jax.gaussian_mixture import Floats, GaussianMixture

ROWS_AT_ONCE = 1024  # their 5 × 5 matrices of 5 components fit into a processor's cache
# nats a row, of a step, below which the ascent of a start and that of the best start end
START_GAIN, LEAST_GAIN = 1e-4, 1e-6
START_STEPS, STEPS = 20, 1000


class MixtureFit(NamedTuple):
    """What :func:`fit_mixture` found.

    Attributes:
      mixture: of the clean x; its covariances may be singular.
      log_lik: Σ_i log p~(y_i) of the rows that were fitted, in nats.
      bic: of each number of components that was tried, p log n - 2 log_lik, in nats; the least was
        chosen. p = k (dim + 1) (dim + 2) / 2 - 1 counts full covariances, as scikit-learn does.
      converged: whether the last step gained less than 1e-6 nats a row.
    """

    mixture: GaussianMixture
    log_lik: float
    bic: dict[int, float]
    converged: bool

    def sample(self, key: PRNGKeyArray, n: int) -> Floats:
        """n clean points, as :meth:`GaussianMixture.sample`."""
        return self.mixture.sample(key, n)

    def log_prob(
        self,
        y: ArrayLike,
        *,
        noise: ArrayLike | None = None,
        sigma: float | ArrayLike = 0.0,
    ) -> Floats:
        """log Σ_k w_k N(y_i; m_k, V_k + S_i + diag sigma²), ``[n]``, in nats, in float64.

        The arguments are as in :func:`fit_mixture`, which also raises the same. Without any noise
        a singular covariance gives NaN or an infinity.
        """
        rows = _rows(y, noise, sigma, needs_noise=False)
        with jax.enable_x64(True):
            found = _log_prob(jax.tree.map(np.float64, self.mixture), rows)
        return np.asarray(found, np.float64).ravel()[: len(np.asarray(y))]


def fit_mixture(
    y: ArrayLike,
    num_components: int | Sequence[int],
    *,
    noise: ArrayLike | None = None,
    sigma: float | ArrayLike = 0.0,
    num_starts: int = 4,
    seed: int = 0,
) -> MixtureFit:
    """argmax Σ_i log Σ_k w_k N(y_i; m_k, V_k + S_i + diag sigma²) over V_k without a negative
    eigenvalue: the Gaussian mixture of the clean x behind y_i = x_i + noise.

    The noise keeps the likelihood finite: a component may be flat, with eigenvalues that are 0 to
    rounding, and one that shrinks onto a single row gains no infinity. Points on a flat set are
    spread first, ``y = gaussian_spread(sigma).sample(key, x)``, and fitted with that ``sigma``.

    Each start, by k-means++, ascends by scoring steps, which reach an eigenvalue of 0, and by steps
    of expectation maximisation where those fail; the best start ascends further. All starts and
    all numbers of components are one compiled program, in float64 whatever JAX's setting.

    Args:
      y: rows with their noise, ``[n, dim]``. A missing entry is NaN, and its row counts by the
        density of the entries that are there.
      num_components: of the mixture, at most n, or several numbers, of which the Bayesian
        information criterion chooses.
      noise: S_i, known: variances ``[n, dim]``, infinite where an entry tells nothing, or
        covariances ``[n, dim, dim]``, in squared data units. None is none.
      sigma: standard deviation of the noise that all rows have besides, in data units: a scalar
        or ``[dim]``.
      num_starts: for each number of components.
      seed: of the starts.

    Raises:
      ValueError: if the shapes do not fit each other; if an entry of y is infinite, a variance
        negative or NaN, a covariance not symmetric; if a row has no noise in some direction,
        where the likelihood has no bound; if a number of components is below 1 or above n.

    Examples:
      >>> t = np.random.default_rng(0).normal(size=2000)
      >>> x = np.stack([t, 2 * t], axis=1)  # a line: no density
      >>> y = sj.gaussian_spread(0.1).sample(jax.random.key(0), jnp.asarray(x))
      >>> fit = sj.fit_mixture(y, [1, 2], sigma=0.1)
      >>> len(fit.mixture.weights), fit.converged
      (1, True)
      >>> clean = fit.sample(jax.random.key(1), 1000)
      >>> bool(abs(clean[:, 1] - 2 * clean[:, 0]).max() < 0.1)  # nearer than the noise
      True

    References:
      Bovy, Hogg, Roweis, "Extreme deconvolution", Annals of Applied Statistics 5 (2011); Schwarz,
      "Estimating the dimension of a model", Annals of Statistics 6 (1978), for the criterion.
    """
    sizes = list(num_components) if isinstance(num_components, Sequence) else [num_components]
    rows = _rows(y, noise, sigma, needs_noise=True)
    there = _entries(rows, len(np.asarray(y)))
    n, dim = there.shape
    for size in sizes:
        require_whole("num_components", size)
    require_whole("num_starts", num_starts)
    if not sizes or max(sizes) > n:
        raise ValueError(f"num_components must be from 1 to the {n} rows, got {num_components}")
    filled, starts = _filled(np.asarray(y, np.float64), there), []
    for size in sizes:
        of_size = [_start(filled, size, seed + i).padded(max(sizes)) for i in range(num_starts)]
        starts.append(jax.tree.map(lambda *parts: np.stack(parts), *of_size))
    stacked = jax.tree.map(lambda *parts: np.stack(parts), *starts)
    with jax.enable_x64(True):
        found = jax.tree.map(np.asarray, _ascended(stacked, rows))
    mixtures, log_liks, converged = found
    count = math.log(max(1, int(there.any(axis=1).sum())))
    parameters = [size * (dim + 1) * (dim + 2) / 2 - 1 for size in sizes]
    bic = [float(p * count - 2 * log_lik) for p, log_lik in zip(parameters, log_liks, strict=True)]
    best = int(np.argmin(np.where(np.isnan(bic), np.inf, bic)))
    mixture = GaussianMixture(*(part[best][: sizes[best]] for part in mixtures))
    tried = dict(zip(map(int, sizes), bic, strict=True))
    return MixtureFit(mixture, float(log_liks[best]), tried, bool(converged[best]))


class _Climb(NamedTuple):
    """Where an ascent is; ``length`` is that of the next scoring step, ``failed`` if the last one
    was refused, so that a step of expectation maximisation comes next."""

    mixture: GaussianMixture
    found: Sums
    length: Array
    failed: Array
    done: Array
    steps: Array


def _climbed(
    start: GaussianMixture, rows: Rows, least_gain: float, most_steps: int
) -> tuple[GaussianMixture, Array, Array]:
    """The mixture, its log-likelihood, and whether the ascent ended by itself."""
    count = jnp.sum(rows.counts)

    def step(at: _Climb) -> _Climb:
        scored = scoring_step(at.mixture, at.found, at.length)
        plain = em_step(at.mixture, at.found)
        tried = jax.tree.map(lambda a, b: jnp.where(at.failed, a, b), plain, scored)
        # the start is looked at here too, so that the sums are compiled once
        tried = jax.tree.map(lambda a, b: jnp.where(at.steps == 0, a, b), start, tried)
        found = sums(tried, rows)
        gain = (found.log_lik - at.found.log_lik) / count
        taken = gain >= -0.01 * least_gain  # rounding
        mixture, kept = jax.tree.map(
            lambda a, b: jnp.where(taken, a, b), (tried, found), (at.mixture, at.found)
        )
        # a step of expectation maximisation may gain little where much is to be gained
        length = jnp.where(
            at.failed, at.length, jnp.where(taken, jnp.minimum(1.0, 1.5 * at.length), at.length / 4)
        )
        ends = jnp.where(at.failed, at.length < 1e-4, taken) & (gain < least_gain)
        return _Climb(mixture, kept, length, ~taken & ~at.failed, ends, at.steps + 1)

    no, whole = jnp.zeros((), bool), jnp.ones(())
    nothing = jax.tree.map(lambda a: jnp.zeros(a.shape), jax.eval_shape(sums, start, rows))
    nothing = nothing._replace(log_lik=jnp.full((), -jnp.inf))
    begin = _Climb(start, nothing, whole, no, no, jnp.zeros((), int))
    end = jax.lax.while_loop(lambda at: ~at.done & (at.steps < most_steps), step, begin)
    return end.mixture, end.found.log_lik, end.done


@jax.jit
def _ascended(starts: GaussianMixture, rows: Rows) -> tuple[GaussianMixture, Array, Array]:
    """For each number of components the best of its starts, ``[size, start, ...]``."""

    def of_size(of_size: GaussianMixture) -> tuple[GaussianMixture, Array, Array]:
        mixtures, log_liks, _ = jax.lax.map(
            lambda start: _climbed(start, rows, START_GAIN, START_STEPS), of_size
        )
        best = jnp.argmax(jnp.where(jnp.isnan(log_liks), -jnp.inf, log_liks))
        chosen = jax.tree.map(lambda part: part[best], mixtures)
        return _climbed(chosen, rows, LEAST_GAIN, STEPS)

    return jax.lax.map(of_size, starts)


_log_prob = jax.jit(log_prob)


def _rows(
    y: ArrayLike, noise: ArrayLike | None, sigma: float | ArrayLike, needs_noise: bool
) -> Rows:
    """The rows as the compiled program takes them; raises as :func:`fit_mixture` says."""
    y = np.asarray(y, np.float64)
    if y.ndim != 2 or not y.size or np.isinf(y).any():
        raise ValueError(f"y must be finite or NaN, of shape [n, dim], got shape {y.shape}")
    n, dim = y.shape
    sigma = np.asarray(sigma, np.float64)
    if sigma.shape not in ((), (dim,)) or not (np.isfinite(sigma) & (sigma >= 0)).all():
        raise ValueError(f"sigma must be finite and >= 0, a scalar or one of {dim}, got {sigma}")
    there = ~np.isnan(y)
    added = np.zeros((1, dim)) if noise is None else np.asarray(noise, np.float64)
    if noise is not None and added.shape not in ((n, dim), (n, dim, dim)):
        wanted = f"[n, dim] = {(n, dim)} or [n, dim, dim] = {(n, dim, dim)}"
        raise ValueError(f"noise must have the shape {wanted}, got {added.shape}")
    if added.ndim == 2:
        if not (added >= 0).all():
            raise ValueError("noise must hold variances >= 0, got a negative number or NaN")
        there = there & np.isfinite(added)
        added = np.where(np.isfinite(added), added, 0.0)[:, :, None] * np.eye(dim)
    elif not np.allclose(added, added.transpose(0, 2, 1), rtol=1e-6, atol=0, equal_nan=True):
        raise ValueError("noise must hold covariances, which are symmetric")
    if there.all():
        there = there[: len(added)]
    both = there[:, :, None] & there[:, None]
    total = np.where(both, added, 0.0) + sigma**2 * both * np.eye(dim)
    if not np.isfinite(total).all():
        raise ValueError("noise must be finite wherever y is not NaN; variances may be infinite")
    if needs_noise:
        _require_noise(total + ~there[:, :, None] * np.eye(dim))
    size = min(ROWS_AT_ONCE, n)
    fill = -n % size

    def chunked(part: Floats) -> Floats:
        if len(part) == 1:
            return part[..., None]
        pad = np.zeros((fill, *part.shape[1:]))
        whole = np.concatenate([part, pad]).reshape(-1, size, *part.shape[1:])
        return np.ascontiguousarray(np.moveaxis(whole, 1, -1))

    clean = np.where(np.isnan(y), 0.0, y)
    counts = np.concatenate([np.ones(n), np.zeros(fill)]).reshape(-1, size)
    return Rows(chunked(clean), chunked(total), chunked(there.astype(np.float64)), counts)


def _require_noise(noise: Floats) -> None:
    """Of each row, with missing entries as 1 on the diagonal."""
    std = np.sqrt(np.maximum(np.diagonal(noise, axis1=1, axis2=2), 0))
    bad = (std == 0).any(axis=1)
    if not bad.any():
        scaled = noise / (std[:, :, None] * std[:, None])
        bad = np.linalg.eigvalsh(scaled)[:, 0] <= 1e-12
    if bad.any():
        raise ValueError(
            "sigma or noise must give every row some noise in each direction, without which the "
            "likelihood has no bound: it rises for ever as a component shrinks onto a row; got "
            f"none in row {int(np.argmax(bad))}. Spread the rows with gaussian_spread(sigma), and "
            "give that sigma"
        )


def _entries(rows: Rows, n: int) -> np.ndarray:
    """Which entries are there, ``[n, dim]``."""
    observed = np.asarray(rows.observed)
    there = np.moveaxis(observed, -1, 1).reshape(-1, observed.shape[1]) > 0
    return np.broadcast_to(there[:n], (n, there.shape[1]))


def _filled(y: Floats, there: np.ndarray) -> Floats:
    """With the mean of its column for a missing entry: k-means++ needs all entries."""
    total = np.sum(np.where(there, y, 0.0), axis=0)
    mean = total / np.maximum(1, there.sum(axis=0))
    return np.where(there, y, mean)


def _start(y: Floats, size: int, seed: int) -> GaussianMixture:
    """Each row in the component of the nearest centre, columns of one standard deviation."""
    from sklearn.cluster import kmeans_plusplus

    std = y.std(axis=0)
    white = (y - y.mean(axis=0)) / np.where(std > 0, std, 1.0)
    centres = kmeans_plusplus(white, size, random_state=seed)[0]
    nearest = np.argmin(np.sum(centres**2, axis=1) - 2 * white @ centres.T, axis=1)
    whole, means, covariances, counts = np.cov(y.T, bias=True).reshape(2 * y.shape[1:]), [], [], []
    for k in range(size):
        of_k = y[nearest == k]
        few = len(of_k) <= y.shape[1]
        counts.append(max(1, len(of_k)))
        means.append(of_k.mean(axis=0) if len(of_k) else y.mean(axis=0))
        covariances.append(whole if few else np.cov(of_k.T, bias=True).reshape(whole.shape))
    weights = np.array(counts) / sum(counts)
    return GaussianMixture(weights, np.array(means), np.array(covariances))
