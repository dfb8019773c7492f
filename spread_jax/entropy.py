"""The entropy of spread points: the floor of a training loss on a finite data set."""

import math
from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray


def spread_entropy_of_points(
    key: PRNGKeyArray, x: Float[Array, "n dim"], sigma: float, num_draws: int = 2000
) -> float:
    """H of (1/n) Σ_i N(y; x_i, σ² I): the floor of the training loss of a spread, in nats.

    A finite data set, spread, is that mixture, and no model of it has a smaller expected loss.
    H = (dim/2) log 2πeσ² + log n - E[log Σ_i exp((|y - x_j|² - |y - x_i|²) / 2σ²)], y drawn from
    component j; only the last term is estimated, from ``num_draws`` draws.

    Raises:
      ValueError: if sigma, a standard deviation in data units, is not > 0: points have no entropy.
    """
    if not sigma > 0:
        raise ValueError(f"sigma must be > 0 (a standard deviation), got {sigma}")
    n, dim = x.shape
    gaussian = 0.5 * dim * math.log(2 * math.pi * math.e * sigma**2)
    return gaussian + math.log(n) - float(_mean_overlap(key, x, sigma, num_draws))


@partial(jax.jit, static_argnames="num_draws")
def _mean_overlap(
    key: PRNGKeyArray, x: Array, sigma: Float[Array, ""], num_draws: int
) -> Float[Array, ""]:
    row_key, noise_key = jax.random.split(key)
    x = x - x.mean(axis=0, keepdims=True)  # beside an offset the squares would have no digits left
    rows = jax.random.randint(row_key, (num_draws,), 0, len(x))
    own = x[rows]
    noise = sigma * jax.random.normal(noise_key, own.shape)

    def overlap(draw: tuple[Array, Array, Array]) -> Array:
        row, own, noise = draw
        # |y - x_i|² - |y - x_j|² = |x_j - x_i|² + 2 (x_j - x_i) ε, from products of matrices
        squares = jnp.square(own).sum(-1)[:, None] + jnp.square(x).sum(-1)[None] - 2 * own @ x.T
        cross = 2 * ((own * noise).sum(-1)[:, None] - noise @ x.T)
        exponents = -(squares.clip(0) + cross) / (2 * sigma**2)
        # that of y's own component is 0, whatever rounding says
        exponents = jnp.where(jnp.arange(len(x))[None] == row[:, None], 0.0, exponents)
        return jax.nn.logsumexp(exponents, axis=1)

    at_once = max(1, num_draws // 20)
    draws = jax.tree.map(lambda leaf: leaf[:, None], (rows, own, noise))
    return jax.lax.map(lambda draw: overlap(draw)[0], draws, batch_size=at_once).mean()
