import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, stats

from spread_jax.entropy import spread_entropy_of_points


def test_floor_of_far_points():
    """Closed form: log n + (dim/2) log 2πeσ² where no two balls of noise meet."""
    x = 100 * jnp.arange(12.0)[:, None] * jnp.ones((1, 5))
    truth = math.log(12) + 2.5 * math.log(2 * math.pi * math.e * 0.01)
    floor = spread_entropy_of_points(jax.random.key(0), x, 0.1)
    np.testing.assert_allclose(floor, truth, rtol=1e-5)  # float32


@pytest.mark.parametrize("sigma", [0.3, 1.0, 3.0])
def test_floor_of_two_near_points(sigma):
    """Truth: quadrature of -p log p; Monte Carlo within 5 standard errors."""
    x = jnp.array([[-1.0], [1.0]])

    def integrand(y):
        p = 0.5 * (stats.norm(-1, sigma).pdf(y) + stats.norm(1, sigma).pdf(y))
        return -p * math.log(p) if p > 0 else 0.0

    truth = integrate.quad(integrand, -12 * sigma - 1, 12 * sigma + 1, points=[-1, 1])[0]
    draws = [spread_entropy_of_points(jax.random.key(i), x, sigma) for i in range(8)]
    error = 5 * np.std(draws, ddof=1) / math.sqrt(8)
    assert abs(np.mean(draws) - truth) < error + 1e-6


def test_points_without_noise_have_no_floor():
    with pytest.raises(ValueError, match="sigma must be > 0"):
        spread_entropy_of_points(jax.random.key(0), jnp.zeros((3, 2)), 0.0)


def test_entropy_of_points_does_not_see_an_offset():
    """Truth: the law moved by a constant has the same entropy; two far points, log 2 + log(2πeσ²)/2
    each coordinate."""
    x = jnp.array([[0.0, 0.0], [1.0, 0.0]])
    truth = math.log(2) + math.log(2 * math.pi * math.e * 0.01)
    for offset in (0.0, 1000.0):
        found = spread_entropy_of_points(jax.random.key(0), x + offset, 0.1, 2000)
        np.testing.assert_allclose(found, truth, atol=1e-4)
