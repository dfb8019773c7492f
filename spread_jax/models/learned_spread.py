"""VAEs whose noise learns: it maximises the loss while the model minimises it."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from spread_jax.low_rank_spreads import fixed_volume_spread
from spread_jax.models.model import Init
from spread_jax.models.networks import InjectiveMean
from spread_jax.models.vae import VAE
from spread_jax.objectives import Bound
from spread_jax.spreads import Points, Spread, injective_mean_spread


class LearnedSpreadVAE(NamedTuple):
    """A VAE and a noise law of its own: a :class:`spread_jax.Model` with params ``vae``, ``noise``.

    The noise may climb -ELBO, as in the paper's code: that is the spread KL plus the entropy of the
    spread data, plus the gap of the posterior. Noise can raise the last two without telling data
    and model apart. Or it climbs :meth:`spread_kl`, from which the entropy is removed.

    The ``vae`` has a deterministic decoder; ``init_noise`` gives the parameters of the noise, of
    which ``make_spread`` makes a Spread. ``log_noise`` is ``(noise, y [n, dim], x [m, dim]) ->
    log n(y_i|x_j) [n, m]``, of all pairs at once: by the Spread itself it would be slow.

    References:
      Zhang, Hayes, Bird, Habib, Barber, "Spread Divergence", ICML 2020, arXiv 1811.08968,
      section 3.
    """

    vae: VAE
    init_noise: Init
    make_spread: Callable[[PyTree], Spread]
    log_noise: Callable[[PyTree, Array, Array], Array]

    def init(self, key: PRNGKeyArray) -> PyTree:
        """The first parameters of model and noise."""
        vae_key, noise_key = jax.random.split(key)
        return {"vae": self.vae.init(vae_key), "noise": self.init_noise(noise_key)}

    def bound(self, params: PyTree, key: PRNGKeyArray, x: Points, spread: Spread) -> Bound:
        """The spread ELBO under the model's own noise, whatever ``spread``."""
        del spread
        return self.vae.bound(params["vae"], key, x, self.make_spread(params["noise"]))

    def spread_kl(
        self,
        params: PyTree,
        key: PRNGKeyArray,
        x: Points,
        *,
        num_rows: float,
        entropy_rows: int,
        entropy_share: ArrayLike = 1.0,
    ) -> Float[Array, ""]:
        """Mean -ELBO less the entropy of the spread data, in nats: KL(p~ || q~) and the gap.

        Its gradient in the VAE is that of -ELBO, since the entropy knows nothing of the model.

        Args:
          params, key, x: as in :meth:`bound`.
          num_rows, entropy_rows: the entropy's estimate is minus the mean of
            :func:`log_spread_density` over the first ``entropy_rows`` of x; its cost grows with
            their square.
          entropy_share: how much of the entropy is removed; at 0 it is -ELBO.
        """
        bound_key, noise_key = jax.random.split(key)
        spread = self.make_spread(params["noise"])
        loss = -self.vae.bound(params["vae"], bound_key, x, spread).elbo.mean()
        few = x[:entropy_rows]
        log_noise = self.log_noise(params["noise"], spread.sample(noise_key, few), few)
        return loss + entropy_share * log_spread_density(log_noise, num_rows).mean()

    def sample(
        self, params: PyTree, key: PRNGKeyArray, n: int, spread: Spread | None = None
    ) -> Float[Array, "n dim"]:
        """Clean points of the VAE."""
        return self.vae.sample(params["vae"], key, n, spread)


def log_spread_density(
    log_noise: Float[Array, "batch batch"], num_rows: float
) -> Float[Array, " batch"]:
    """log [ n(y_i|x_i) / N + (1 - 1/N) Σ_{j≠i} n(y_i|x_j) / (B - 1) ]: log p~(y_i) from a batch.

    p is the law of N = ``num_rows`` rows, of which the B rows x are drawn at random, and y_i was
    spread from x_i. The sum inside the logarithm has the mean p~(y_i), so the logarithm is too low
    by about half its relative variance, of order 1/B. With N = ∞ the rows are draws of a law with
    a density, and a row's own noise says nothing of p~.

    Where no other row is within the noise, it is log n(y_i|x_i) - log N: the entropy of the spread
    data is then the noise's own and log N, and under a fixed volume no noise can raise it.

    Args:
      log_noise: log n(y_i|x_j) in nats, B at least 2.
      num_rows: N, at least 1; ``math.inf`` is allowed.
    """
    batch = len(log_noise)
    with_others = math.log1p(-1 / num_rows) if num_rows > 1 else -math.inf
    own = jnp.eye(batch, dtype=bool)
    weights = jnp.where(own, -math.log(num_rows), with_others - math.log(batch - 1))
    return jax.nn.logsumexp(log_noise + weights, axis=1)


def squared_distances(a: Float[Array, "n dim"], b: Float[Array, "m dim"]) -> Float[Array, "n m"]:
    """‖a_i - b_j‖² of all pairs, by one product of matrices, about the mean of b."""
    centre = jnp.mean(b, axis=0, keepdims=True)
    a, b = a - centre, b - centre
    return jnp.square(a).sum(1)[:, None] + jnp.square(b).sum(1)[None] - 2 * a @ b.T


def learned_covariance_vae(vae: VAE, dim: int, sigma: ArrayLike, rank: int = 4) -> LearnedSpreadVAE:
    """Noise of :func:`spread_jax.fixed_volume_spread`, which starts near N(0, sigma² I).

    Args:
      vae: with a deterministic decoder.
      dim: of the data.
      sigma: standard deviation of the isotropic noise of equal volume, in data units.
      rank: directions that the noise may lean towards.
    """

    def log_noise(directions: Array, y: Array, x: Array) -> Array:
        lower = jnp.linalg.cholesky(jnp.eye(rank) + directions.T @ directions)
        scale = sigma * jnp.exp(-jnp.sum(jnp.log(jnp.diagonal(lower))) / dim)
        # (I + F Fᵀ)⁻¹ = I - Gᵀ G, G = L⁻¹ Fᵀ, L Lᵀ = I + Fᵀ F
        along = jax.scipy.linalg.solve_triangular(lower, directions.T, lower=True).T
        quadratic = squared_distances(y, x) - squared_distances(y @ along, x @ along)
        return _log_height(dim, sigma) - quadratic / (2 * scale**2)

    return LearnedSpreadVAE(
        vae,
        # at 0 the slope is 0 too
        lambda key: 1e-2 * jax.random.normal(key, (dim, rank)),
        lambda directions: fixed_volume_spread(directions, sigma),
        log_noise,
    )


def learned_mean_vae(
    vae: VAE, dim: int, sigma: ArrayLike, layer_bound: float = 0.9
) -> LearnedSpreadVAE:
    """Noise N(f(x), sigma² I) about an injective mean, :class:`InjectiveMean` of 64 units.

    The arguments are as in :func:`learned_covariance_vae`; ``layer_bound`` is the mean's.
    """
    mean: Any = InjectiveMean((64,), layer_bound)

    def log_noise(noise: PyTree, y: Array, x: Array) -> Array:
        quadratic = squared_distances(y, mean.apply(noise, x))
        return _log_height(dim, sigma) - quadratic / (2 * jnp.square(sigma))

    return LearnedSpreadVAE(
        vae,
        lambda key: mean.init(key, jnp.zeros((1, dim))),
        lambda noise: injective_mean_spread(partial(mean.apply, noise), sigma),
        log_noise,
    )


def _log_height(dim: int, sigma: ArrayLike) -> Array:
    """log N(0; 0, sigma² I)."""
    return -dim * (0.5 * math.log(2 * math.pi) + jnp.log(sigma))


def min_max_adam(
    learning_rate: ArrayLike, noise_learning_rate: ArrayLike, model_steps: int
) -> optax.GradientTransformation:
    """Adam that descends for the model ``model_steps`` times, then ascends once for the noise."""

    def is_noise_step(count: Array) -> Array:
        return count % (model_steps + 1) == model_steps

    upwards = jnp.asarray(noise_learning_rate)
    model = optax.adam(lambda count: jnp.where(is_noise_step(count), 0.0, learning_rate))
    noise = optax.adam(lambda count: jnp.where(is_noise_step(count), -upwards, 0.0))
    return optax.partition({"vae": model, "noise": noise}, {"vae": "vae", "noise": "noise"})
