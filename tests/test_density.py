"""Any density of the spread data as a model: its bound, and its draws cleaned."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import spread_jax as sj

SCALE, SIGMA = 0.05, 0.1
GAUSSIAN = sj.density_model(  # N(0, params²) in three dimensions
    init=lambda key: jnp.ones(()),
    log_prob=lambda params, y: jnp.sum(jax.scipy.stats.norm.logpdf(y, scale=params), axis=-1),
    sample=lambda params, key, n: params * jax.random.normal(key, (n, 3)),
)
OF_SPREAD_DATA = jnp.sqrt(SCALE**2 + SIGMA**2)


@pytest.mark.slow
def test_one_step_of_tweedie_leaves_its_known_share_of_the_scale():
    """Truth: s² / √(s² + σ²) = 0.0224; the scale of a sample scatters by 1 / √2n of it."""
    x = GAUSSIAN.sample(OF_SPREAD_DATA, jax.random.key(0), 20_000, sj.gaussian_spread(SIGMA))
    truth = SCALE**2 / float(OF_SPREAD_DATA)
    assert truth == pytest.approx(0.0224, abs=5e-5)
    assert abs(float(x.std()) - truth) < 5 * truth / np.sqrt(2 * x.size)


@pytest.mark.slow
@pytest.mark.parametrize("low_rank", [False, True])
def test_gibbs_steps_keep_the_scale(low_rank):
    """Truth: N(0, s² I) whatever the noise was; a scale scatters by 1 / √2n of it."""
    factor = jnp.array([[0.2], [-0.1], [0.05]])
    spread = sj.low_rank_spread(factor, SIGMA) if low_rank else sj.gaussian_spread(SIGMA)
    noise = SIGMA**2 * jnp.eye(3) + low_rank * factor @ factor.T
    root = jnp.linalg.cholesky(SCALE**2 * jnp.eye(3) + noise)
    model = sj.density_model(
        init=lambda key: root,
        log_prob=lambda root, y: -0.5 * jnp.sum(jnp.square(y @ jnp.linalg.inv(root).T), axis=-1),
        sample=lambda root, key, n: jax.random.normal(key, (n, 3)) @ root.T,
        cleaning_steps=2,
    )
    x = model.sample(root, jax.random.key(0), 20_000, spread)
    covariance = np.cov(x.T) / SCALE**2
    error = np.sqrt((1 + np.eye(3)) / len(x))
    assert (np.abs(covariance - np.eye(3)) < 5 * error).all()


def test_negative_steps_are_refused():
    with pytest.raises(ValueError, match="cleaning_steps must be >= 0, got -1"):
        sj.density_model(
            init=GAUSSIAN.init, log_prob=GAUSSIAN.log_prob, sample=GAUSSIAN.draw, cleaning_steps=-1
        )


@pytest.mark.slow
@pytest.mark.parametrize("traced", [False, True])
def test_without_noise_draws_come_as_they_are(traced):
    def sample(sigma):
        spread = sj.gaussian_spread(sigma)
        return GAUSSIAN.sample(OF_SPREAD_DATA, jax.random.key(0), 10, spread)

    draws = GAUSSIAN.draw(OF_SPREAD_DATA, jax.random.key(0), 10)
    np.testing.assert_allclose((jax.jit(sample) if traced else sample)(0.0), draws, rtol=1e-6)


def test_the_bound_is_the_density_of_the_draw():
    x, key, spread = jnp.ones((4, 3)), jax.random.key(1), sj.gaussian_spread(SIGMA)
    bound = GAUSSIAN.bound(2.0, key, x, spread)
    expected = GAUSSIAN.log_prob(2.0, spread.sample(key, x))
    np.testing.assert_allclose(bound.elbo, expected, rtol=1e-6)
    assert (bound.kl == 0).all()


def test_a_density_that_is_summed_over_the_points_is_refused():
    summed = sj.density_model(
        init=GAUSSIAN.init, log_prob=lambda params, y: jnp.sum(y), sample=GAUSSIAN.draw
    )
    with pytest.raises(ValueError, match=r"must return shape \(4,\)"):
        summed.bound(1.0, jax.random.key(0), jnp.ones((4, 3)), sj.gaussian_spread(SIGMA))


@pytest.mark.slow
def test_noise_that_is_not_gaussian_is_refused_by_name():
    with pytest.raises(ValueError, match="must be Gaussian"):
        GAUSSIAN.sample(1.0, jax.random.key(0), 4, sj.laplace_spread(0.1))
