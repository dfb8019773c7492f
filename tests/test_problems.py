import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from spread_jax import embed, oracles, sample_ring, sample_spiral, sample_two_modes
from spread_jax.latents import bernoulli_latent
from spread_jax.problems import deconvolution, ring, spiral, two_mode_mixture, two_modes
from spread_jax.spreads import gaussian_spread

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


PROBLEMS = [two_modes, ring, spiral]


@pytest.mark.parametrize("make", PROBLEMS)
def test_points_of_a_law_are_at_distance_zero(make):
    problem = make()
    np.testing.assert_allclose(problem.distance(problem.sample(KEY, 100)), 0, atol=1e-3)
    np.testing.assert_allclose(problem.distance(problem.evenly.sample(KEY, 100)), 0, atol=1e-3)


def test_other_points_are_at_the_known_distance():
    """Truths: |x_2|; |‖x‖ - 1|; on the spiral, off its outer end along the arm's normal, a
    distance of 0.1 is that distance."""
    x = jnp.array([[[0.3, -0.4]], [[0.0, 2.0]]])
    np.testing.assert_allclose(two_modes().distance(x), [[0.4], [2.0]], rtol=1e-6)
    np.testing.assert_allclose(ring().distance(x), [[0.5], [1.0]], rtol=1e-6)
    r = 0.8
    angle = 2 * np.pi * r
    tangent = np.array([np.cos(angle), np.sin(angle)]) + angle * np.array(
        [-np.sin(angle), np.cos(angle)]
    )
    normal = np.array([tangent[1], -tangent[0]]) / np.linalg.norm(tangent)
    point = r * np.array([np.cos(angle), np.sin(angle)]) + 0.1 * normal
    np.testing.assert_allclose(spiral().distance(jnp.array(point)), 0.1, atol=1e-3)


@pytest.mark.parametrize(("n", "right"), [(100, 50), (7, 3)])
def test_even_samples_have_equally_many_of_each_mode(n, right):
    """Of an odd number one more on the left; the even prior is as even."""
    problem = two_modes(data_std=0.05)
    x = problem.evenly.sample(KEY, n)
    assert x.shape == (n, 2)
    assert int((x[:, 0] > 0).sum()) == right
    z = problem.evenly.latent.sample_prior(KEY, n)
    assert z.shape == (n, 1)
    np.testing.assert_array_equal(z[:, 0], np.arange(n) % 2)
    np.testing.assert_array_equal(np.sign(x[:, 0]), 2 * z[:, 0] - 1)


def test_even_samples_of_a_mode_are_normal():
    """Kolmogorov-Smirnov against N(±1, 0.2²)."""
    x = np.asarray(two_modes(data_std=0.2).evenly.sample(KEY, N), np.float64)
    residual = (x[:, 0] - np.tile([-1, 1], N // 2)) / 0.2
    assert stats.kstest(residual, stats.norm.cdf).pvalue > 1e-4


@pytest.mark.parametrize("make", PROBLEMS)
def test_a_dataset_has_three_parts_of_different_points(make):
    data = make().dataset(KEY, train=30, held_out=20)
    assert [len(part) for part in (data.train, data.validation, data.test)] == [30, 20, 20]
    assert data.name == make().name
    points = np.concatenate([data.train, data.validation, data.test])
    assert points.dtype == np.float32
    assert len(np.unique(points, axis=0)) == 70


@pytest.mark.slow
@pytest.mark.parametrize("make", PROBLEMS)
def test_a_problems_vae_has_its_latent_and_learns_from_its_batches(make):
    """A step along the gradient of the bound of a batch raises that bound."""
    problem = make()
    vae = problem.vae((8,), initial_log_var=-2.0)
    params = vae.init(KEY)
    x = problem.batches(16)(KEY, None, {})
    np.testing.assert_array_equal(x, problem.sample(KEY, 16))
    decoded = vae.decode(params, problem.latent.sample_prior(KEY, 5))
    np.testing.assert_allclose(decoded[1], np.full((5, 2), np.exp(-2.0)), rtol=1e-6)

    @jax.jit
    def bound(params):
        return vae.bound(params, KEY, x, gaussian_spread(0.1)).elbo.mean()

    slope = jax.grad(bound)(params)
    moved = jax.tree.map(lambda p, g: p + 1e-3 * g, params, slope)
    assert bound(moved) > bound(params)


def test_deconvolved_runs_are_the_oracles():
    """Truths: the oracle on the same noisy points, drawn again; and the law itself, whose modes'
    places and widths 10,000 points know to 5 standard errors."""
    cells = [{"data_std": 0.1, "arm": "exact"}, {"data_std": 0.3, "arm": "exact"}]
    runs = deconvolution.deconvolved_runs(cells, 0.2, seeds=[3, 4])
    sizes = {"cell": 2, "seed": 2, "step": 1, "component": 2, "dim": 2}
    assert dict(runs.dataset["mean"].sizes) == sizes
    np.testing.assert_allclose(runs.hyper["data_std"], [[0.1] * 2, [0.3] * 2], rtol=1e-6)
    truth = two_mode_mixture(0.3)
    rng = np.random.default_rng(4)
    y = oracles.sample_mixture(rng, 10_000, truth)
    y = y + 0.2 * rng.standard_normal(y.shape)
    start = truth._replace(stds=np.full((2, 2), 0.2))
    exact = oracles.deconvolved_mixture(y, 0.2, start, num_em_steps=20)
    params = runs.params(data_std=0.3, seed=4)
    np.testing.assert_allclose(params["mean"], exact.means, rtol=1e-6)
    np.testing.assert_allclose(params["std"], exact.stds, rtol=1e-6)
    noisy = np.hypot(0.3, 0.2)
    # a mode has 5,000 points; the error of a variance v is v √(2/n), of a std a half of that by std
    np.testing.assert_allclose(params["mean"][:, 0], [-1, 1], atol=5 * noisy / 5000**0.5)
    error = noisy**2 * (2 / 5000) ** 0.5 / (2 * 0.3)
    np.testing.assert_allclose(params["std"][:, 0], 0.3, atol=5 * error)


def test_a_small_data_set_is_seen_with_many_draws_of_noise():
    """Truth: of five points, each mode is at the mean of its own, to 5 standard errors of 10,000
    noisy draws."""
    cell = {"data_std": 0.1, "data_size": 5}
    runs = deconvolution.deconvolved_runs([cell], 0.1, seeds=[0])
    points = oracles.sample_mixture(np.random.default_rng(0), 5, two_mode_mixture(0.1))
    left, right = (points[points[:, 0] * side > 0, 0] for side in (-1, 1))
    found = runs.params()["mean"][0, 0, :, 0]
    for place, of_mode in zip(found, (left, right), strict=True):
        error = np.hypot(of_mode.std(), 0.1) / np.sqrt(2000 * len(of_mode))
        assert abs(place - of_mode.mean()) < 5 * error


def test_two_components_are_sampled_and_not_trained():
    """Truth: the components of the parameters, at the states 0 and 1."""
    vae = deconvolution.two_component_vae(bernoulli_latent())
    params = {"mean": jnp.array([[-1.0, 0], [1, 0]]), "std": jnp.array([[0.5, 0], [0.25, 0]])}
    mean, var = vae.decode(params, jnp.array([[1.0], [0.0]]))
    np.testing.assert_array_equal(mean, [[1, 0], [-1, 0]])
    np.testing.assert_array_equal(var, [[0.0625, 0], [0.25, 0]])
    with pytest.raises(ValueError, match="not trained"):
        vae.init(KEY)
