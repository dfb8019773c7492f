"""A ring and a spiral in the plane: how to draw them, and how far points are from them."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from spread_jax.latents import gaussian_latent
from spread_jax.models.networks import GaussianEncoder
from spread_jax.problems.problem import Problem


def ring() -> Problem:
    """The unit circle, uniform in its angle, with a latent of two dimensions.

    Examples:
      >>> x = sj.problems.ring().sample(jax.random.key(0), 1000)
      >>> float(sj.problems.ring().distance(x).max()) < 1e-6
      True
    """
    return Problem("ring", sample_ring, distance_to_ring, gaussian_latent(2), _encoder)


def spiral() -> Problem:
    """Two Archimedean arms that meet at the origin, with a latent of two dimensions.

    Examples:
      >>> x = sj.problems.spiral().sample(jax.random.key(0), 1000)
      >>> float(sj.problems.spiral().distance(x).max()) < 1e-3
      True
    """
    return Problem("spiral", sample_spiral, distance_to_spiral, gaussian_latent(2), _encoder)


def _encoder(hidden: Sequence[int]) -> GaussianEncoder:
    return GaussianEncoder(hidden, 2)


def sample_ring(key: PRNGKeyArray, n: int, radius: float = 1.0) -> Float[Array, "n 2"]:
    """x = radius (cos t, sin t), t uniform: a circle.

    Examples:
      >>> x = sj.sample_ring(jax.random.key(0), 1000)
      >>> bool(jnp.allclose(jnp.linalg.norm(x, axis=-1), 1.0))
      True
    """
    t = jax.random.uniform(key, (n,), maxval=2 * jnp.pi)
    return radius * jnp.stack([jnp.cos(t), jnp.sin(t)], axis=-1)


def distance_to_ring(
    x: Float[Array | np.ndarray, "*batch 2"], radius: float = 1.0
) -> Float[Array, "*batch"]:
    """|‖x‖ - radius|: how far points are from the circle of :func:`sample_ring`."""
    return jnp.abs(jnp.linalg.norm(x, axis=-1) - radius)


def sample_spiral(key: PRNGKeyArray, n: int, turns: float = 1.0) -> Float[Array, "n 2"]:
    """x = ± r (cos 2πr·turns, sin 2πr·turns): two Archimedean arms that meet at the origin.

    The arm is a fair coin; r = √u with u uniform, about uniform in arc length; radii up to 1.

    Examples:
      >>> x = sj.sample_spiral(jax.random.key(0), 1000)
      >>> bool((jnp.linalg.norm(x, axis=-1) <= 1.0).all())
      True
    """
    arm_key, radius_key = jax.random.split(key)
    arm = jax.random.rademacher(arm_key, (n,), jnp.float32)
    r = jnp.sqrt(jax.random.uniform(radius_key, (n,)))
    angle = 2 * jnp.pi * turns * r
    return (arm * r)[:, None] * jnp.stack([jnp.cos(angle), jnp.sin(angle)], axis=-1)


def distance_to_spiral(
    x: Float[Array | np.ndarray, "*batch 2"], turns: float = 1.0
) -> Float[Array, "*batch"]:
    """min over r in [-1, 1] of ‖x - r (cos 2π|r|·turns, sin 2π|r|·turns)‖: how far points are
    from the arms of :func:`sample_spiral`, in data units; too large by 0.001 at most at one turn.
    """
    r = jnp.linspace(-1, 1, 8001)
    angle = 2 * jnp.pi * turns * jnp.abs(r)
    curve = r[:, None] * jnp.stack([jnp.cos(angle), jnp.sin(angle)], axis=-1)
    # one point at a time: all pairs at once would need 8,001 times the memory of x
    nearest = jax.lax.map(
        lambda point: jnp.linalg.norm(point[None] - curve, axis=-1).min(),
        x.reshape(-1, 2),
        batch_size=256,
    )
    return nearest.reshape(x.shape[:-1])
