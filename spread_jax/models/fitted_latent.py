"""A prior fitted to the aggregate posterior of a trained VAE, so that both agree where it samples.

A decoder is trained on z ~ ∫ q(z|y) p~(y) dy, the aggregate posterior, and sampled from p(z). Where
the two differ, samples are bad, whatever else was learned.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray, PyTree
from threadpoolctl import threadpool_limits

from spread_jax.gaussian_mixture import GaussianMixture, fit_gaussian_mixture
from spread_jax.latents import Latent, PerPoint, mixture_latent
from spread_jax.models.vae import VAE
from spread_jax.objectives import Bound, Encode
from spread_jax.spreads import Points, Spread

SIZES = (1, 2, 5, 10, 20, 50, 100, 200)
# added to every component's variances: on a curve the smaller is right; where points are few the
# larger fills the gaps between them (digits: Fréchet distance 3.0 with 10 components, 1.1 with 50)
SMALLEST_VARIANCES = (1e-6, 0.04)
MAX_DRAWS = 50_000
DRAWS_PER_POINT = 5  # at most, each of its own noise
DRAWS_PER_COMPONENT = 20  # at least
SHARE_HELD_OUT = 0.1  # of the points, where none are given to choose the size by
POINTS_AT_ONCE = 1_000


def aggregate_latent(
    key: PRNGKeyArray,
    encode: Encode,
    x: Points,
    spread: Spread,
    *,
    held_out: Points | None = None,
    sizes: Sequence[int] = SIZES,
    num_samples: int = 1,
) -> Latent:
    """The :func:`spread_jax.mixture_latent` nearest to (1/N) Σ_i ∫ q(z|y) n(y|x_i) dy.

    A Gaussian mixture of full covariances is fitted to draws of it by expectation maximisation. Its
    size is the one under which draws of held-out points are likeliest; N(0, I) is a candidate too.
    So the bound of held-out points, whose prior term is the mean of log p(z) over such draws, does
    not fall by fitting, but for the error of those draws.

    Args:
      key: of the draws.
      encode: the trained encoder, ``y -> (mean, log_var)``.
      x: the points that were trained on, clean, ``[n, dim]``.
      spread: the noise that the encoder sees.
      held_out: points to choose the size by; by default a tenth of ``x``, which then is not fitted.
      sizes: numbers of components to choose from, ascending.
      num_samples: as in :func:`spread_jax.mixture_latent`.

    Raises:
      ValueError: if the posterior is no pair of mean and log-variance, or a draw is not finite.

    Examples:
      >>> x = jax.random.normal(jax.random.key(0), (2000, 1))
      >>> encode = lambda y: (y - 3.0, jnp.full_like(y, -5.0))  # all z lie near -3
      >>> latent = sj.aggregate_latent(jax.random.key(1), encode, x, sj.no_spread())
      >>> z = latent.sample_prior(jax.random.key(2), 1000)
      >>> bool(abs(z.mean() + 3) < 0.2)
      True

    References:
      Ghosh, Sajjadi, Vergari, Black, Schölkopf, "From variational to deterministic autoencoders",
      ICLR 2020, section 4, for a mixture fitted after training; Tomczak, Welling, "VAE with a
      VampPrior", AISTATS 2018, for why the aggregate posterior is the best prior.
    """
    fit_key, choose_key = jax.random.split(key)
    if held_out is None:
        order = np.random.default_rng(0).permutation(len(x))
        chosen, fitted = np.split(order, [max(1, round(SHARE_HELD_OUT * len(x)))])
        x, held_out = x[fitted], x[chosen]
    z, z_held_out = (
        posterior_draws(draw_key, jax.jit(lambda key, x: draw(key, x, encode, spread)), points)
        for draw_key, points in ((fit_key, x), (choose_key, held_out))
    )
    return mixture_latent(*fit_latent_mixture(z, z_held_out, sizes), num_samples=num_samples)


def draw(
    key: PRNGKeyArray, x: Points, encode: Encode, spread: Spread
) -> Float[Array, "n latent_dim"]:
    """z ~ q(z|y), y ~ n(y|x), one for each x; raises as :func:`aggregate_latent`."""
    noise_key, latent_key = jax.random.split(key)
    posterior = encode(spread.sample(noise_key, x))
    if not (isinstance(posterior, tuple) and len(posterior) == 2):
        raise ValueError("encode must return a pair of mean and log-variance: z is to be Gaussian")
    mean, log_var = posterior
    return mean + jnp.exp(log_var / 2) * jax.random.normal(latent_key, mean.shape, mean.dtype)


def posterior_draws(
    key: PRNGKeyArray, draw_batch: Callable[[PRNGKeyArray, Array], Array], x: np.ndarray | Array
) -> Float[np.ndarray, "n dim"]:
    """Draws for all points x, several for each where they are few.

    Args:
      draw_batch: compiled ``(key, x) -> z``, as :func:`draw`; all its batches have one size.
      x: ``[n, dim]``.
    """
    count = min(MAX_DRAWS, DRAWS_PER_POINT * len(x))
    order = np.random.default_rng(0).permutation(len(x))
    size = min(POINTS_AT_ONCE, count)
    parts = []
    for i, start in enumerate(range(0, count, size)):
        rows = order[np.arange(start, start + size) % len(x)]
        parts.append(np.asarray(draw_batch(jax.random.fold_in(key, i), jnp.asarray(x[rows]))))
    return np.concatenate(parts)[:count]


def fit_latent_mixture(
    z: Float[np.ndarray, "n dim"],
    held_out: Float[np.ndarray, "m dim"],
    sizes: Sequence[int] = SIZES,
) -> GaussianMixture:
    """The Gaussian mixture of z under which ``held_out`` is likeliest, or N(0, I).

    For each of two smallest variances, sizes are tried in order until two in a row are no better,
    or there are too few draws for one.

    Raises:
      ValueError: if a draw is not finite.
    """
    if not (np.isfinite(z).all() and np.isfinite(held_out).all()):
        raise ValueError("draws of z must be finite: the encoder of a broken run makes none")
    dim = z.shape[1]
    standard = -0.5 * (dim * np.log(2 * np.pi) + np.mean(np.sum(np.square(held_out), axis=1)))
    # a thread for each search: within one, products so small lose a factor 4 to waiting threads
    with threadpool_limits(1), ThreadPoolExecutor(len(SMALLEST_VARIANCES)) as pool:
        searches = pool.map(partial(_search, z, held_out, sizes), SMALLEST_VARIANCES)
        found = [(standard, GaussianMixture.standard(dim)), *searches]
    return max(found, key=lambda pair: pair[0])[1]


def _search(
    z: np.ndarray, held_out: np.ndarray, sizes: Sequence[int], smallest_variance: float
) -> tuple[float, GaussianMixture]:
    """The mean log-density of held-out draws, and the mixture that is best by it."""
    best, best_score, worse = GaussianMixture.standard(z.shape[1]), -np.inf, 0
    for size in sizes:
        if worse == 2 or (size > 1 and len(z) < DRAWS_PER_COMPONENT * size):
            break
        mixture = fit_gaussian_mixture(z, size, smallest_variance)
        score = mixture.mean_log_prob(held_out)
        worse = 0 if score > best_score else worse + 1
        if score > best_score:
            best_score = score
            best = GaussianMixture(*(array.astype(np.float32) for array in mixture))
    return best_score, best


class FittedLatentVAE(NamedTuple):
    """``vae`` with a mixture of its own parameters as the prior: a :class:`spread_jax.Model`.

    Its parameters are ``{"vae": ..., "latent": GaussianMixture}``, so that runs whose latents were
    fitted one by one are still one compiled program. The latent of ``vae`` is not used.
    """

    vae: VAE

    def init(self, key: PRNGKeyArray) -> PyTree:
        """The parameters of ``vae``, and N(0, I)."""
        dim = jax.eval_shape(lambda key: self.vae.latent.sample_prior(key, 1), key).shape[1]
        return {"vae": self.vae.init(key), "latent": GaussianMixture.standard(dim)}

    def with_latent(self, params: PyTree) -> VAE:
        """The VAE whose prior is that of the parameters; its own are ``params["vae"]``."""
        return self.vae._replace(latent=mixture_latent(*params["latent"]))

    def encode(self, params: PyTree, y: Array) -> PyTree:
        return self.vae.encode(params["vae"], y)

    def decode(self, params: PyTree, z: Array) -> tuple[Array, Array | None]:
        return self.vae.decode(params["vae"], z)

    def bound(self, params: PyTree, key: PRNGKeyArray, x: Points, spread: Spread) -> Bound:
        return self.with_latent(params).bound(params["vae"], key, x, spread)

    def importance_weighted_bound(
        self, params: PyTree, key: PRNGKeyArray, x: Points, spread: Spread, num_samples: int
    ) -> PerPoint:
        vae = self.with_latent(params)
        return vae.importance_weighted_bound(params["vae"], key, x, spread, num_samples)

    def sample(
        self, params: PyTree, key: PRNGKeyArray, n: int, spread: Spread | None = None
    ) -> Float[Array, "n dim"]:
        return self.with_latent(params).sample(params["vae"], key, n, spread)

    def without_variance(self) -> "FittedLatentVAE":
        """The same model with x = mean(z)."""
        return FittedLatentVAE(self.vae.without_variance())
