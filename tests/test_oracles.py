import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import stats

from spread_jax import (
    Spread,
    gaussian_spread,
    make_training,
    oracles,
    spread_divergence,
    spread_elbo,
)
from spread_jax.latents import bernoulli_latent
from spread_jax.models.networks import BernoulliEncoder, GaussianDecoder
from spread_jax.oracles import GaussianMixture
from spread_jax.problems import two_mode_mixture

# design table: sigma_fix, floor H(p~_d), spread KL of the merged solution; nats
TABLE = [
    (0.03, -2.2350, 1.5718),
    (0.1, -0.7276, 1.2728),
    (0.3, 1.1735, 0.5080),
    (0.5, 2.0984, 0.1619),
    (1.0, 3.1774, 0.0095),
]


def point(*x: float) -> GaussianMixture:
    return GaussianMixture(np.ones(1), np.array([x]), np.zeros((1, len(x))))


@pytest.mark.parametrize(("sigma", "floor", "merged_kl"), TABLE)
def test_floor_and_merged_divergence_to_four_decimals(sigma, floor, merged_kl):
    assert round(oracles.spread_entropy(two_mode_mixture(), sigma), 4) == floor
    assert round(oracles.discriminating_power(two_mode_mixture(), sigma), 4) == merged_kl


@pytest.mark.parametrize("sigma", [0.03, 0.3])
def test_more_nodes_change_no_fourth_decimal(sigma):
    coarse, fine = (oracles.spread_entropy(two_mode_mixture(), sigma, nodes) for nodes in (64, 120))
    assert abs(coarse - fine) < 5e-5


@pytest.mark.parametrize("sigma", [0.1, 1.0])
def test_spread_kl_of_two_points_is_their_squared_distance(sigma):
    kl = oracles.spread_kl(point(0.3, -1.0), point(1.0, 0.5), sigma)
    np.testing.assert_allclose(kl, (0.7**2 + 1.5**2) / (2 * sigma**2), rtol=1e-10)


def test_spread_kl_of_two_gaussians_is_the_closed_form():
    p = GaussianMixture(np.ones(1), np.array([[0.0, 1.0]]), np.array([[0.5, 0.0]]))
    q = GaussianMixture(np.ones(1), np.array([[0.4, 0.0]]), np.array([[0.0, 2.0]]))
    vp, vq = p.stds**2 + 0.09, q.stds**2 + 0.09
    exact = 0.5 * np.sum(vp / vq + (p.means - q.means) ** 2 / vq - 1 + np.log(vq / vp))
    np.testing.assert_allclose(oracles.spread_kl(p, q, 0.3), exact, rtol=1e-10)


def test_spread_kl_agrees_with_monte_carlo():
    """Within 5 standard errors, by points drawn and scored with SciPy's normals."""
    rng, sigma = np.random.default_rng(0), 0.2
    p = two_mode_mixture()
    q = GaussianMixture(np.ones(2) / 2, np.array([[-0.5, 0.1], [0.9, 0.0]]), np.full((2, 2), 0.3))
    y = oracles.sample_mixture(rng, 200_000, p) + sigma * rng.standard_normal((200_000, 2))

    def log_prob(m):
        scale = np.sqrt(m.stds**2 + sigma**2)
        return np.log(
            sum(
                w * stats.norm.pdf(y, mu, s).prod(-1)
                for w, mu, s in zip(*m[:2], scale, strict=True)
            )
        )

    difference = log_prob(p) - log_prob(q)
    error = difference.std() / len(y) ** 0.5
    assert abs(difference.mean() - oracles.spread_kl(p, q, sigma)) < 5 * error


def test_spread_kl_is_zero_for_the_truth_with_its_components_swapped():
    p = two_mode_mixture()
    swapped = GaussianMixture(p.weights, p.means[::-1], p.stds[::-1])
    assert abs(oracles.spread_kl(p, swapped, 0.1)) < 1e-12


@pytest.mark.parametrize("sigma", [0.0, -0.1, np.nan, np.inf])
def test_no_spread_has_no_divergence(sigma):
    with pytest.raises(ValueError, match="without a spread there is no density"):
        oracles.spread_kl(two_mode_mixture(), two_mode_mixture(), sigma)


def spread_points(n: int, sigma: float, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    clean = oracles.sample_mixture(rng, n, two_mode_mixture())
    return clean + sigma * rng.standard_normal((n, 2))


START = GaussianMixture(np.ones(2) / 2, np.array([[-0.5, 0.0], [0.5, 0.0]]), np.full((2, 2), 0.2))


def test_deconvolved_mixture_is_a_maximum():
    """No step of any parameter, either way, within its bounds, raises the likelihood."""
    y = spread_points(500, 0.1)
    best = oracles.deconvolved_mixture(y, 0.1, START)
    top = oracles.spread_log_prob(y, best, 0.1).mean()
    for part in ("means", "stds"):
        for i in np.ndindex(2, 2):
            for step in (-1e-3, 1e-3):
                moved = getattr(best, part).copy()
                moved[i] += step
                if part == "stds" and moved[i] < 0:
                    continue
                other = best._replace(**{part: moved})
                assert oracles.spread_log_prob(y, other, 0.1).mean() <= top + 1e-12


def test_em_alone_rises_to_the_same_likelihood():
    y = spread_points(500, 0.1)
    values = []
    mixture = START
    for _ in range(300):
        mixture = oracles._em_step(y, mixture, 0.1, True)
        values.append(oracles.spread_log_prob(y, mixture, 0.1).mean())
    assert (np.diff(values) > -1e-12).all()
    best = oracles.deconvolved_mixture(y, 0.1, START)
    top = oracles.spread_log_prob(y, best, 0.1).mean()
    assert 0 <= top - values[-1] < 1e-3


def test_deconvolved_mixture_recovers_the_clean_law():
    """Means and σ_x within 5 standard errors of n/2 points a mode; σ_y of the stated order."""
    n, sigma = 10_000, 0.1
    best = oracles.deconvolved_mixture(spread_points(n, sigma), sigma, START)
    spread_std, per_mode = np.hypot(0.1, sigma), n / 2
    assert (np.abs(best.means[:, 0] - [-1, 1]) < 5 * spread_std / per_mode**0.5).all()
    error_of_std = spread_std**2 / 0.1 / (2 * per_mode) ** 0.5
    assert (np.abs(best.stds[:, 0] - 0.1) < 5 * error_of_std).all()
    # a sample variance of noise scatters by sigma² sqrt(4/n): five of those, under the root
    assert (best.stds[:, 1] < 5**0.5 * sigma * (4 / n) ** 0.25).all()


def test_free_weights_find_unequal_modes():
    rng = np.random.default_rng(0)
    truth = two_mode_mixture()._replace(weights=np.array([0.2, 0.8]))
    y = oracles.sample_mixture(rng, 20_000, truth) + 0.1 * rng.standard_normal((20_000, 2))
    best = oracles.deconvolved_mixture(y, 0.1, START, fixed_weights=False)
    assert abs(best.weights[0] - 0.2) < 5 * (0.2 * 0.8 / 20_000) ** 0.5


@pytest.mark.parametrize("y", [np.zeros(5), np.array([[np.nan, 0.0]])])
def test_points_that_are_no_finite_table_are_refused(y):
    with pytest.raises(ValueError, match="finite and of shape"):
        oracles.deconvolved_mixture(y, 0.1, START)


@pytest.mark.slow
def test_spread_vae_on_frozen_noise_reaches_the_deconvolved_mixture():
    """One frozen noise draw a point makes the spread ELBO, at the exact posterior, this mixture's
    likelihood. So the bound may not beat the oracle's, and the decoder must come near it: means
    and σ_x near its own, σ_y no further than the scale sigma (4/n)^(1/4) on which it is known."""
    n, sigma = 1024, 0.1
    y = spread_points(n, sigma)
    oracle = oracles.deconvolved_mixture(y, sigma, START)
    latent = bernoulli_latent()
    encoder, decoder = BernoulliEncoder((16,)), GaussianDecoder((16,), 2)

    def loss_fn(params, key, x, hyper):
        spread = Spread(lambda key, x: x, gaussian_spread(sigma).log_prob)  # noise already frozen
        terms = spread_elbo(
            key,
            x,
            encode=lambda y: encoder.apply(params["encoder"], y),
            decode=lambda z: decoder.apply(params["decoder"], z),
            latent=latent,
            spread=spread,
        )
        return -terms.elbo.mean()

    training = make_training(
        init_params=lambda key: {
            "encoder": encoder.init(key, jnp.zeros((1, 2))),
            "decoder": decoder.init(key, jnp.zeros((1, 1))),
        },
        loss_fn=loss_fn,
        sample_batch=lambda key, data, hyper: jnp.float32(y),
        optimizer=lambda hyper: optax.adam(optax.cosine_decay_schedule(1e-2, 6000)),
        num_steps=6000,
    )
    state, history = jax.jit(training.train, static_argnums=2)(jax.random.key(0), {}, 100)
    best_log_lik = oracles.spread_log_prob(y, oracle, sigma).mean()
    assert -1e-5 < best_log_lik + float(history["loss"][-1]) < 0.005
    mean, var = decoder.apply(state.params["decoder"], jnp.array([[0.0], [1.0]]))
    order = np.argsort(mean[:, 0])
    mean, std = np.asarray(mean)[order], np.sqrt(np.asarray(var))[order]
    np.testing.assert_allclose(mean, oracle.means, atol=0.005)
    np.testing.assert_allclose(std[:, 0], oracle.stds[:, 0], atol=0.005)
    np.testing.assert_allclose(std[:, 1], oracle.stds[:, 1], atol=sigma * (4 / n) ** 0.25)


def test_kl_of_a_wide_law_from_narrow_modes_is_as_good_as_its_docstring_says():
    """Truth: the trapezoidal rule of spread_divergence, at twice its points too."""
    truth = two_mode_mixture(0.1)
    wide = oracles.merged(truth)
    np.testing.assert_allclose(spread_divergence(wide, truth, 0.1, "kl"), 8.4295, atol=1e-4)
    np.testing.assert_allclose(oracles.spread_kl(wide, truth, 0.1), 8.1757, atol=1e-4)
    exact = spread_divergence(truth, wide, 0.1, "kl")
    np.testing.assert_allclose(oracles.spread_kl(truth, wide, 0.1), exact, atol=1e-4)


@pytest.mark.parametrize("num_nodes", [0, 301, 400])
def test_number_of_nodes_that_overflow_is_refused(num_nodes):
    with pytest.raises(ValueError, match="num_nodes must be from 1 to 300"):
        oracles.spread_entropy(two_mode_mixture(), 0.1, num_nodes)


def test_weights_that_may_move_are_those_of_the_em_steps():
    """Truth: with the same number of steps the weights do not depend on the search after them."""
    rng = np.random.default_rng(0)
    y = oracles.sample_mixture(rng, 200, two_mode_mixture()) + 0.3 * rng.standard_normal((200, 2))
    start = GaussianMixture(np.array([0.3, 0.7]), two_mode_mixture().means, np.full((2, 2), 0.5))
    found = oracles.deconvolved_mixture(y, 0.3, start, num_em_steps=0, fixed_weights=False)
    np.testing.assert_array_equal(found.weights, start.weights)


def test_a_law_beyond_all_numbers_has_a_log_density_of_minus_infinity():
    """Truth: the closed form, whose square overflows; of two components the nearer one decides."""
    far = oracles.GaussianMixture(np.array([0.5, 0.5]), np.full((2, 1), 1e200), np.ones((2, 1)))
    near = far._replace(means=np.array([[0.0], [1e200]]))
    y = np.zeros((1, 1))
    with np.errstate(over="ignore"):
        assert oracles.spread_log_prob(y, far, 1.0) == -np.inf
        expected = np.log(0.5) - 0.5 * np.log(4 * np.pi)
        np.testing.assert_allclose(oracles.spread_log_prob(y, near, 1.0), expected)
