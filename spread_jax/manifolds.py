"""Toy data laws: distributions on thin sets, which have no density."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float, PRNGKeyArray


def sample_two_modes(key: PRNGKeyArray, n: int, data_std: ArrayLike = 0.1) -> Float[Array, "n 2"]:
    """x = (a, 0) with a ~ N(2c - 1, data_std²), c ~ Bernoulli(0.5): two modes on a line.

    ``data_std`` is a standard deviation, and may be traced.

    Examples:
      >>> x = sj.sample_two_modes(jax.random.key(0), 1000)
      >>> x.shape, float(jnp.abs(x[:, 1]).max())
      ((1000, 2), 0.0)

    References:
      Zhang, "A Failure Case of VAE", 2021.
    """
    mode_key, offset_key = jax.random.split(key)
    mode = jax.random.rademacher(mode_key, (n,), jnp.float32)
    a = mode + data_std * jax.random.normal(offset_key, (n,))
    return jnp.stack([a, jnp.zeros_like(a)], axis=-1)


def sample_ring(key: PRNGKeyArray, n: int, radius: float = 1.0) -> Float[Array, "n 2"]:
    """x = radius (cos t, sin t), t uniform: a circle.

    Examples:
      >>> x = sj.sample_ring(jax.random.key(0), 1000)
      >>> bool(jnp.allclose(jnp.linalg.norm(x, axis=-1), 1.0))
      True
    """
    t = jax.random.uniform(key, (n,), maxval=2 * jnp.pi)
    return radius * jnp.stack([jnp.cos(t), jnp.sin(t)], axis=-1)


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


def distance_to_line(x: Float[Array, "*batch 2"]) -> Float[Array, "*batch"]:
    """|x_2|: how far points are from the line of :func:`sample_two_modes`, in data units."""
    return jnp.abs(x[..., 1])


def distance_to_ring(x: Float[Array, "*batch 2"], radius: float = 1.0) -> Float[Array, "*batch"]:
    """|‖x‖ - radius|: how far points are from the circle of :func:`sample_ring`."""
    return jnp.abs(jnp.linalg.norm(x, axis=-1) - radius)


def distance_to_spiral(x: Float[Array, "*batch 2"], turns: float = 1.0) -> Float[Array, "*batch"]:
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


def embed(
    rotation_key: PRNGKeyArray, x: Float[Array, "*batch plane_dim"], dim: int
) -> Float[Array, "*batch dim"]:
    """x ↦ x Q with orthonormal rows Q, uniform over rotations: an isometric copy of x in R^dim.

    The same key gives the same rotation.

    Raises:
      ValueError: if ``dim`` is below the last axis of ``x``.

    Examples:
      >>> x = sj.sample_ring(jax.random.key(0), 1000)
      >>> high = sj.embed(jax.random.key(1), x, dim=20)
      >>> high.shape, int(jnp.linalg.matrix_rank(high))
      ((1000, 20), 2)
    """
    plane_dim = x.shape[-1]
    if dim < plane_dim:
        raise ValueError(f"dim must be at least {plane_dim}, the dimension of x, got {dim}")
    q, r = jnp.linalg.qr(jax.random.normal(rotation_key, (dim, plane_dim)))
    # the sign of r's diagonal makes the law of q uniform (Mezzadri 2007, arXiv math-ph/0609050)
    return x @ (q * jnp.sign(jnp.diagonal(r))[None]).T
