"""The small flow of the benchmark: a density of points of any dimension, and what inverts it."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks.small_flow import NUM_LAYERS, Layer, SmallFlow


def params_of(flow, share=1.0):
    return jax.tree.map(lambda weight: share * weight, flow.init(jax.random.key(3)))


@pytest.mark.slow
@pytest.mark.parametrize("dim", [2, 3, 5, 24])
def test_the_inverse_undoes_the_flow_which_moves_every_coordinate(dim):
    flow = SmallFlow(dim)
    params, z = params_of(flow), jax.random.normal(jax.random.key(0), (50, dim))
    y = flow.inverse(params, z)
    np.testing.assert_allclose(flow.forward(params, y)[0], z, atol=1e-4)
    for order in flow.orders():
        np.testing.assert_array_equal(np.sort(order), np.arange(dim))
    moved = {int(i) for i in np.concatenate(list(_moved(flow)))}
    assert moved == set(range(dim))


def _moved(flow):
    """The coordinates of y, by their places in it, that each layer moves."""
    places = np.arange(flow.dim)
    for order in flow.orders():
        places = places[order]
        yield places[flow.dim // 2 :]


@pytest.mark.slow
@pytest.mark.parametrize("dim", [2, 5])
def test_the_density_is_that_of_a_change_of_variables(dim):
    """Truth: log N(z; 0, I) - log |det ∂y/∂z|, the Jacobian of the inverse by automatic
    differentiation."""
    flow = SmallFlow(dim)
    params, z = params_of(flow), jax.random.normal(jax.random.key(1), (20, dim))
    inverse = jax.jit(lambda z: flow.inverse(params, z))
    jacobian = jax.vmap(jax.jacobian(inverse))(z)
    log_det = np.linalg.slogdet(np.asarray(jacobian, np.float64))[1]
    expected = jax.scipy.stats.norm.logpdf(z).sum(axis=-1) - log_det
    np.testing.assert_allclose(flow.log_prob(params, inverse(z)), expected, atol=1e-4)


@pytest.mark.slow
def test_the_density_of_the_plane_integrates_to_one():
    """Truth: the trapezoidal rule on a grid that holds all of a flow of small scales."""
    flow = SmallFlow(2)
    axis = jnp.linspace(-12.0, 12.0, 601)
    grid = jnp.stack(jnp.meshgrid(axis, axis), axis=-1)
    density = np.exp(flow.log_prob(params_of(flow, 0.4), grid))
    total = np.trapezoid(np.trapezoid(density, axis), axis)
    assert total == pytest.approx(1, abs=1e-3)


@pytest.mark.slow
def test_draws_have_the_law_of_the_density():
    """Truth: the mean and the variance of the density by the trapezoidal rule; Monte Carlo within
    5 standard errors."""
    flow, n = SmallFlow(2), 20_000
    params = params_of(flow, 0.4)
    axis = np.linspace(-12.0, 12.0, 601)
    grid = np.stack(np.meshgrid(axis, axis), axis=-1)
    weights = np.exp(flow.log_prob(params, jnp.asarray(grid, jnp.float32)))[..., None]
    weights /= weights.sum()
    mean = (weights * grid).sum(axis=(0, 1))
    variance = (weights * (grid - mean) ** 2).sum(axis=(0, 1))
    x = np.asarray(flow.sample(params, jax.random.key(2), n))
    assert (np.abs(x.mean(axis=0) - mean) < 5 * np.sqrt(variance / n)).all()
    off = (x - mean) ** 2
    assert (np.abs(off.mean(axis=0) - variance) < 5 * off.std(axis=0) / np.sqrt(n)).all()


def test_the_log_density_of_the_plane_has_an_upper_bound():
    """By hand: each of eight layers scales one coordinate by e at most, here by as much."""
    flow = SmallFlow(2)
    narrowest = [
        Layer(0 * into, bias, jnp.broadcast_to(jnp.array([[-100.0, 0.0]]), out.shape))
        for into, bias, out in params_of(flow)
    ]
    y = jnp.zeros((1, 2))
    expected = NUM_LAYERS - math.log(2 * math.pi)
    np.testing.assert_allclose(flow.log_prob(narrowest, y), expected, rtol=1e-6)
    assert flow.log_prob(params_of(flow, 100.0), y)[0] < expected
