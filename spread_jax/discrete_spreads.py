"""Noise on discrete laws: each site's category flips to another with known probabilities."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, PRNGKeyArray

from spread_jax.spreads import Moments, Points, Spread, as_numbers, concrete_value, to_rank

SINGULAR = 1e-6  # smallest over largest singular value, near what float32 holds of a matrix


def discrete_spread(flip: ArrayLike | Sequence) -> Spread:
    """n(y|x) = Π_s flip[y_s, x_s], so log p~(y) = Σ_s log (flip · mean_s)[y_s].

    Points are one-hot, site after site: the last axis has length sites · categories. Such points
    are numbers like any others, so every objective takes them; :func:`jax.nn.one_hot` makes them of
    integers, and ``argmax`` takes them back. A deterministic decoder's ``mean`` holds the
    probabilities of the categories, of each site: of one-hot numbers it is a point.

    The spread law of one site is flip · p. As ``flip`` is invertible, equal spread laws have equal
    laws, which is the divergence's validity; where all its entries are above 0, every spread KL is
    finite, disjoint supports or not.

    Args:
      flip: P[y, x] ``[categories, categories]``, each column a law of y. Traced or not; traced
        numbers are not checked.

    Raises:
      ValueError: if ``flip`` is no square matrix, or is concrete and has a negative entry, a column
        whose sum is not 1, or is singular: two laws then have one spread law. In use, if the
        last axis is no multiple of the categories, or the decoder has a variance.

    Examples:
      >>> spread = sj.discrete_spread([[0.9, 0.2], [0.1, 0.8]])
      >>> states = jnp.eye(2)
      >>> p, q = states  # two points, whose KL is infinite
      >>> log_p, log_q = (spread.log_prob(states, law, None) for law in (p, q))
      >>> [round(float(share), 4) for share in jnp.exp(log_p)]  # P's first column
      [0.9, 0.1]
      >>> round(float(jnp.sum(jnp.exp(log_p) * (log_p - log_q))), 4)  # their spread KL
      1.1457

    References:
      Zhang, Hayes, Bird, Habib, Barber, "Spread Divergence", ICML 2020, arXiv 1811.08968, section
      2, for the invertible matrix.
    """
    flip = as_numbers(flip, "flip")
    _require_valid(flip)
    matrix = jnp.asarray(flip, jnp.result_type(float))

    def by_site(x: Moments) -> Float[Array, "... site category"]:
        categories = len(matrix)
        if x.shape[-1] % categories:
            wanted = f"sites · {categories}, one-hot site after site"
            raise ValueError(f"the last axis must have length {wanted}; got shape {x.shape}")
        return x.reshape(*x.shape[:-1], -1, categories)

    def spread_law(mean: Moments) -> Float[Array, "... site category"]:
        return by_site(mean) @ matrix.T.astype(mean.dtype)

    def sample(key: PRNGKeyArray, x: Points) -> Points:
        drawn = jax.random.categorical(key, jnp.log(spread_law(x)))
        return jax.nn.one_hot(drawn, len(matrix), dtype=x.dtype).reshape(x.shape)

    def log_prob(y: Moments, mean: Moments, var: Moments | None) -> Float[Array, "..."]:
        if var is not None:
            raise ValueError("discrete_spread needs a deterministic decoder: var None")
        law, states = spread_law(mean), by_site(y)
        of_y = jnp.sum(to_rank(states, law.ndim) * to_rank(law, states.ndim), axis=-1)
        return jnp.sum(jnp.log(of_y), axis=-1)

    return Spread(sample, log_prob)


def _require_valid(flip: ArrayLike) -> None:
    """ValueError unless ``flip`` is square and, where it is concrete, stochastic and invertible."""
    shape = np.shape(flip)
    if len(shape) != 2 or shape[0] != shape[1] or not shape[0]:
        raise ValueError(f"flip must be a matrix [categories, categories], got shape {shape}")
    concrete = concrete_value(flip)
    if concrete is None:
        return
    concrete = concrete.astype(np.float64)
    sums = concrete.sum(axis=0)
    if not (
        np.isfinite(concrete).all() and (concrete >= 0).all() and np.allclose(sums, 1, atol=1e-5)
    ):
        wanted = "probabilities P[y, x] whose columns sum to 1"
        raise ValueError(
            f"flip must hold {wanted}; its smallest is {concrete.min()}, the sums {sums}"
        )
    values = np.linalg.svd(concrete, compute_uv=False)
    if values[-1] <= SINGULAR * values[0]:
        raise ValueError(
            "flip must be invertible, or two laws have one spread law; its smallest singular value "
            f"is {values[-1]:.3g}, its largest {values[0]:.3g}"
        )
