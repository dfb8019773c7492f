"""Truth throughout: enumeration of all states, and matrices worked out by hand."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

import spread_jax as sj

FLIP = np.array([[0.7, 0.1, 0.2], [0.2, 0.8, 0.3], [0.1, 0.1, 0.5]])
STATES = jnp.eye(3)


def kl(flip, p, q):
    """The spread KL by the spread itself, a sum over all states."""
    spread = sj.discrete_spread(flip)
    log_p, log_q = (spread.log_prob(jnp.eye(len(flip)), jnp.float32(law), None) for law in (p, q))
    return float(jnp.sum(jnp.exp(log_p) * (log_p - log_q)))


def test_disjoint_supports_have_a_finite_spread_kl():
    """As scipy's entropy of P p and P q has it; unspread it is infinite."""
    p, q = np.array([0.4, 0.6, 0.0]), np.array([0.0, 0.0, 1.0])
    assert np.sum(scipy.special.rel_entr(p, q)) == np.inf
    expected = np.sum(scipy.special.rel_entr(FLIP @ p, FLIP @ q))
    assert kl(FLIP, p, q) == pytest.approx(expected, rel=1e-5)


def test_the_spread_kl_is_zero_for_equal_laws_alone():
    """All 66 laws in tenths, against each other."""
    laws = [np.array([i, j, 10 - i - j]) / 10 for i in range(11) for j in range(11 - i)]
    spread = sj.discrete_spread(FLIP)
    log = jnp.stack([spread.log_prob(STATES, jnp.float32(law), None) for law in laws])
    of_pairs = jnp.sum(jnp.exp(log)[:, None] * (log[:, None] - log[None]), axis=-1)
    off_diagonal = np.asarray(of_pairs)[~np.eye(len(laws), dtype=bool)]
    np.testing.assert_allclose(np.diag(of_pairs), 0, atol=1e-7)
    assert off_diagonal.min() > 1e-4
    assert np.isfinite(off_diagonal).all()


def test_a_singular_matrix_hides_a_difference_and_is_refused():
    """By hand: its last two columns are equal, so (0, 1, 0) and (0, 0, 1) have one spread law."""
    singular = np.array([[0.8, 0.1, 0.1], [0.1, 0.7, 0.7], [0.1, 0.2, 0.2]])
    p, q = np.eye(3)[1:]
    np.testing.assert_array_equal(singular @ p, singular @ q)
    with pytest.raises(ValueError, match="invertible, or two laws have one spread law"):
        sj.discrete_spread(singular)


def test_sites_are_independent_and_sum_to_one():
    """log p~ of two sites is the sum over them, and 1 over all nine states."""
    spread = sj.discrete_spread(FLIP)
    mean = jnp.array([0.2, 0.3, 0.5, 0.0, 1.0, 0.0])
    pairs = np.array(list(itertools.product(np.eye(3), np.eye(3)))).reshape(9, 6)
    log_prob = spread.log_prob(jnp.float32(pairs), mean, None)
    first, second = (FLIP @ np.asarray(mean).reshape(2, 3).T).T
    np.testing.assert_allclose(jnp.exp(log_prob), np.outer(first, second).ravel(), rtol=1e-5)
    assert float(jnp.exp(log_prob).sum()) == pytest.approx(1, abs=1e-6)


def test_draws_have_the_columns_of_the_matrix():
    """Monte Carlo within 5 standard errors, of points in 20,000 rows and two sites."""
    x = jnp.tile(jnp.concatenate([STATES[0], STATES[2]])[None], (20_000, 1))
    y = sj.discrete_spread(FLIP).sample(jax.random.key(0), x)
    assert y.dtype == x.dtype
    np.testing.assert_array_equal(y.reshape(-1, 2, 3).sum(-1), 1)
    expected = FLIP[:, [0, 2]].T.ravel()
    error = np.sqrt(expected * (1 - expected) / len(x))
    np.testing.assert_array_less(abs(np.asarray(y).mean(0) - expected), 5 * error)


def test_a_model_that_flips_is_found_by_the_spread_elbo():
    """A point mass for a decoder, of which the ELBO is log P[y, x] exactly: its mean over noise is
    minus the entropy of P's column."""
    flip, state = np.array([[0.9, 0.3], [0.1, 0.7]]), jnp.array([1.0, 0.0])
    x = jnp.tile(state[None], (50_000, 1))
    bound = sj.spread_elbo(
        jax.random.key(0),
        x,
        encode=lambda y: (0 * y[:, :1], 0 * y[:, :1]),
        decode=lambda z: (jnp.broadcast_to(state, (*z.shape[:-1], 2)), None),
        latent=sj.gaussian_latent(1),
        spread=sj.discrete_spread(flip),
    )
    column = flip[:, 0]
    expected = np.sum(column * np.log(column))
    error = np.sqrt((np.sum(column * np.log(column) ** 2) - expected**2) / len(x))
    assert abs(float(bound.elbo.mean()) - expected) < 5 * error


@pytest.mark.parametrize(
    ("flip", "words"),
    [
        (np.ones((2, 3)) / 2, "a matrix"),
        (np.array([[0.9, 0.2], [0.2, 0.8]]), "sum to 1"),
        (np.array([[1.1, 0.0], [-0.1, 1.0]]), "its smallest is -0.1"),
        (np.full((2, 2), np.nan), "sum to 1"),
        (np.full((2, 2), 0.5), "invertible"),
    ],
)
def test_a_matrix_that_is_no_valid_noise_is_refused(flip, words):
    with pytest.raises(ValueError, match=words):
        sj.discrete_spread(flip)


def test_other_points_and_a_variance_are_refused():
    spread = sj.discrete_spread(FLIP)
    with pytest.raises(ValueError, match="one-hot site after site; got shape"):
        spread.sample(jax.random.key(0), jnp.zeros((5, 4)))
    with pytest.raises(ValueError, match="var None"):
        spread.log_prob(STATES, STATES, STATES)


def test_a_traced_rate_can_be_learned():
    """The slope in the flip rate r of log P[0, 0] = log (1 - r) is -1 / (1 - r)."""

    def log_kept(rate):
        flip = jnp.array([[1.0, 0.0], [0.0, 1.0]]) * (1 - rate) + rate * jnp.eye(2)[::-1]
        return sj.discrete_spread(flip).log_prob(jnp.eye(2)[0], jnp.eye(2)[0], None)

    assert float(jax.jit(jax.grad(log_kept))(0.2)) == pytest.approx(-1.25, rel=1e-6)
