import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from spread_jax import embed, manifolds, sample_ring, sample_spiral, sample_two_modes

KEY = jax.random.key(0)
N = 50_000


def test_two_modes_are_normals_on_a_line():
    """Kolmogorov-Smirnov against the stated law; a fair share of modes within 5 s.e."""
    x = np.asarray(sample_two_modes(KEY, N, data_std=0.2), np.float64)
    assert (x[:, 1] == 0).all()
    right = x[:, 0] > 0
    assert abs(right.mean() - 0.5) < 5 * 0.5 / N**0.5
    residual = (x[:, 0] - np.where(right, 1, -1)) / 0.2
    assert stats.kstest(residual, stats.norm.cdf).pvalue > 1e-4


def test_ring_is_a_circle_uniform_in_angle():
    x = np.asarray(sample_ring(KEY, N, radius=2.0), np.float64)
    np.testing.assert_allclose(np.linalg.norm(x, axis=1), 2.0, rtol=1e-6)
    angle = np.arctan2(x[:, 1], x[:, 0]) / (2 * np.pi) + 0.5
    assert stats.kstest(angle, stats.uniform.cdf).pvalue > 1e-4


def test_spiral_lies_on_its_two_arms():
    """Rolling back the angle 2π r puts every point on the first axis; the arms are a fair coin."""
    x = np.asarray(sample_spiral(KEY, N), np.float64)
    r = np.linalg.norm(x, axis=1)
    c, s = np.cos(2 * np.pi * r), np.sin(2 * np.pi * r)
    along, across = x[:, 0] * c + x[:, 1] * s, x[:, 1] * c - x[:, 0] * s
    np.testing.assert_allclose(across, 0.0, atol=1e-5)
    assert abs((along > 0).mean() - 0.5) < 5 * 0.5 / N**0.5
    assert stats.kstest(r**2, stats.uniform.cdf).pvalue > 1e-4


def test_embedding_is_isometric_and_repeatable():
    x = sample_ring(KEY, 200)
    placed = np.asarray(embed(jax.random.key(1), x, 20), np.float64)
    assert placed.shape == (200, 20)
    np.testing.assert_allclose(placed @ placed.T, np.asarray(x @ x.T), atol=1e-5)
    np.testing.assert_array_equal(placed, embed(jax.random.key(1), x, 20))
    assert np.linalg.matrix_rank(placed, tol=1e-4) == 2


def test_embedding_directions_are_uniform_over_rotations():
    """The first axis' image is uniform on the sphere: mean 0, covariance I/3, within 5 s.e."""
    axis = jnp.eye(3)[:1]
    images = np.asarray(
        jax.vmap(lambda key: embed(key, axis, 3)[0])(jax.random.split(KEY, 4000)), np.float64
    )
    assert (np.abs(images.mean(0)) < 5 * (1 / 3 / 4000) ** 0.5).all()
    # var of u_i² on the sphere is 1/5 - 1/9
    assert (np.abs((images**2).mean(0) - 1 / 3) < 5 * ((1 / 5 - 1 / 9) / 4000) ** 0.5).all()


def test_embedding_into_fewer_dimensions_is_refused():
    with pytest.raises(ValueError, match="at least 2"):
        embed(KEY, jnp.zeros((3, 2)), 1)


def test_points_of_a_law_are_at_distance_zero_and_others_at_the_known_one():
    """Truths: the law itself; |x_2|; |‖x‖ - 1|; on the spiral, off its outer end along the arm's
    normal, a distance of 0.1 is that distance."""
    samples = [sample_two_modes(KEY, 100), sample_ring(KEY, 100), sample_spiral(KEY, 100)]
    distances = [
        manifolds.distance_to_line,
        manifolds.distance_to_ring,
        manifolds.distance_to_spiral,
    ]
    for x, distance in zip(samples, distances, strict=True):
        np.testing.assert_allclose(distance(x), 0, atol=1e-3)
    x = jnp.array([[[0.3, -0.4]], [[0.0, 2.0]]])
    np.testing.assert_allclose(manifolds.distance_to_line(x), [[0.4], [2.0]], rtol=1e-6)
    np.testing.assert_allclose(manifolds.distance_to_ring(x), [[0.5], [1.0]], rtol=1e-6)
    r = 0.8
    angle = 2 * np.pi * r
    tangent = np.array([np.cos(angle), np.sin(angle)]) + angle * np.array(
        [-np.sin(angle), np.cos(angle)]
    )
    normal = np.array([tangent[1], -tangent[0]]) / np.linalg.norm(tangent)
    point = r * np.array([np.cos(angle), np.sin(angle)]) + 0.1 * normal
    np.testing.assert_allclose(manifolds.distance_to_spiral(jnp.array(point)), 0.1, atol=1e-3)
