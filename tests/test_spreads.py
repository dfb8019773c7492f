import itertools
import math

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
from scipy import integrate, stats

from spread_jax import (
    Spread,
    fixed_volume_spread,
    gaussian_spread,
    injective_mean_spread,
    laplace_spread,
    low_rank_spread,
    no_spread,
    with_gaussian,
)
from spread_jax.models.networks import InjectiveMean
from spread_jax.spreads import dequantizing_noise, laplace_noise

KEY = jax.random.key(0)


@pytest.mark.parametrize("sigma", [0.3, np.array([0.1, 0.5, 2.0])])
def test_gaussian_log_prob_is_scipys_normal(sigma):
    rng = np.random.default_rng(0)
    y, mean = rng.normal(size=(2, 7, 3))
    var = rng.gamma(1.0, size=(7, 3))
    expected = stats.norm.logpdf(y, mean, np.sqrt(var + sigma**2)).sum(-1)
    log_prob = gaussian_spread(sigma).log_prob(*map(jnp.float32, (y, mean, var)))
    np.testing.assert_allclose(log_prob, expected, rtol=2e-6)


def test_gaussian_density_is_the_convolution_of_noise_and_model():
    """Quadrature of the definition, ∫ n(y|x) N(x; mean, var) dx."""
    sigma, mean, var, y = 0.3, 0.2, 0.25, 0.9

    def integrand(x):
        return stats.norm.pdf(y, x, sigma) * stats.norm.pdf(x, mean, np.sqrt(var))

    expected = np.log(integrate.quad(integrand, -5, 5)[0])
    log_prob = gaussian_spread(sigma).log_prob(jnp.array([y]), jnp.array([mean]), jnp.array([var]))
    np.testing.assert_allclose(log_prob, expected, rtol=1e-6)


def test_deterministic_decoder_is_variance_zero():
    y, mean = jnp.array([[0.4, -1.0]]), jnp.array([[0.0, 1.0]])
    spread = gaussian_spread(0.5)
    np.testing.assert_array_equal(
        spread.log_prob(y, mean, None), spread.log_prob(y, mean, jnp.zeros_like(mean))
    )


@pytest.mark.parametrize("sigma", [0.2, np.array([0.1, 0.4])])
def test_sample_adds_noise_of_that_standard_deviation(sigma):
    """Monte Carlo within 5 standard errors of the first two moments."""
    n = 100_000
    x = jnp.tile(jnp.array([1.0, -2.0]), (n, 1))
    noise = np.asarray(gaussian_spread(sigma).sample(KEY, x) - x, np.float64)
    assert (np.abs(noise.mean(0)) < 5 * sigma / n**0.5).all()
    assert (np.abs(noise.var(0) - np.square(sigma)) < 5 * np.square(sigma) * (2 / n) ** 0.5).all()


@pytest.mark.parametrize("var", [0.0, 1e-38])
def test_gradients_are_finite_where_the_variance_vanishes(var):
    """The closed forms: d/dmean = r/s², d/dvar = (r²/s² - 1)/2s², with s² = sigma²."""
    y, mean, sigma = jnp.array([0.3]), jnp.array([0.1]), 0.1

    def log_prob(mean, var):
        return gaussian_spread(sigma).log_prob(y, mean, var)

    by_mean, by_var = jax.grad(log_prob, argnums=(0, 1))(mean, jnp.array([var]))
    np.testing.assert_allclose(by_mean, 0.2 / 0.01, rtol=1e-5)
    np.testing.assert_allclose(by_var, 0.5 * (0.04 / 0.01 - 1) / 0.01, rtol=1e-5)


def test_gradient_with_respect_to_log_variance_is_finite_at_float32s_smallest():
    def log_prob(log_var):
        return gaussian_spread(0.1).log_prob(jnp.zeros(1), jnp.zeros(1), jnp.exp(log_var))

    gradient = jax.grad(log_prob)(jnp.log(jnp.array([1e-38])))
    np.testing.assert_allclose(gradient, 0.0, atol=1e-30)  # -var / 2 sigma² = -5e-37


def test_no_spread_changes_no_bit_of_the_data():
    x = jax.random.normal(KEY, (100, 3))
    np.testing.assert_array_equal(no_spread().sample(KEY, x), x)


def test_traced_sigma_under_vmap_equals_one_by_one():
    x = jax.random.normal(KEY, (5, 2))
    sigmas = jnp.array([0.0, 0.1, 1.0])
    batched = jax.vmap(lambda sigma: gaussian_spread(sigma).sample(KEY, x))(sigmas)
    single = [gaussian_spread(float(sigma)).sample(KEY, x) for sigma in sigmas]
    np.testing.assert_allclose(batched, np.stack(single), rtol=1e-6)


def test_floor_only_and_noise_only_are_spreads_of_two_sigmas():
    x, mean, var = jnp.ones((1, 2)), jnp.zeros((1, 2)), jnp.ones((1, 2))
    floor_only = Spread(gaussian_spread(0.0).sample, gaussian_spread(0.5).log_prob)
    np.testing.assert_array_equal(floor_only.sample(KEY, x), x)
    expected = stats.norm.logpdf(1.0, 0.0, np.sqrt(1.25)) * 2
    np.testing.assert_allclose(floor_only.log_prob(x, mean, var), expected, rtol=1e-6)


@pytest.mark.parametrize("sigma", [-0.1, np.nan, np.inf, np.array([0.1, -1.0])])
def test_impossible_sigma_is_refused(sigma):
    with pytest.raises(ValueError, match="sigma must be finite and >= 0"):
        gaussian_spread(sigma)


def test_deterministic_decoder_without_noise_is_refused():
    with pytest.raises(ValueError, match="needs sigma > 0"):
        no_spread().log_prob(jnp.zeros(1), jnp.zeros(1), None)


FACTOR = np.array([[1.0, 0.2], [-0.5, 0.0], [0.3, 2.0]])


@pytest.mark.parametrize(
    ("spread", "covariance"),
    [
        (laplace_spread(0.4), 0.32 * np.eye(3)),
        (laplace_spread(np.array([0.1, 0.5, 2.0])), np.diag([0.02, 0.5, 8.0])),
        (low_rank_spread(FACTOR, 0.3), FACTOR @ FACTOR.T + 0.09 * np.eye(3)),
        (with_gaussian(laplace_spread(0.4), 0.3), 0.41 * np.eye(3)),
    ],
)
def test_noise_has_the_stated_covariance(spread, covariance):
    """Monte Carlo within 5 standard errors, those of a product taken from the draws."""
    n = 100_000
    x = jnp.tile(jnp.array([1.0, -2.0, 0.0]), (n, 1))
    noise = np.asarray(spread.sample(KEY, x) - x, np.float64)
    assert (np.abs(noise.mean(0)) < 5 * np.sqrt(np.diag(covariance) / n)).all()
    products = noise[:, :, None] * noise[:, None]
    assert (np.abs(products.mean(0) - covariance) < 5 * products.std(0) / n**0.5).all()


@pytest.mark.slow
@pytest.mark.parametrize("var", [0.0, 1e-30, 0.3])
@pytest.mark.parametrize(
    "spread",
    [
        laplace_spread(0.4),
        low_rank_spread(np.array([[0.5]]), 0.3),
        with_gaussian(laplace_spread(0.4), 0.2),
        gaussian_spread(0.4),
    ],
    ids=["laplace", "low rank", "sum", "gaussian"],
)
def test_density_is_that_of_the_draws(spread, var):
    """Integrates to 1 within 1e-5; P(y <= t) by quadrature within 5 standard errors of Monte
    Carlo, of z ~ N(mean, var) spread by ``sample``."""
    n, mean = 100_000, 0.7
    draw_key, noise_key = jax.random.split(KEY)
    x = mean + jnp.sqrt(var) * jax.random.normal(draw_key, (n, 1))
    y = np.sort(np.asarray(spread.sample(noise_key, x), np.float64)[:, 0])
    nodes, weights = np.polynomial.legendre.leggauss(120)
    edges = mean + np.array([-30, -10, -3, -1, -0.3, 0, 0.3, 1, 3, 10, 30])
    grid = np.concatenate([a + (b - a) * (nodes + 1) / 2 for a, b in itertools.pairwise(edges)])
    log_prob = spread.log_prob(
        jnp.float32(grid[:, None]), jnp.float32([[mean]]), jnp.float32([[var]])
    )
    masses = (np.exp(np.float64(log_prob)).reshape(-1, 120) @ weights) * np.diff(edges) / 2
    cdf = np.cumsum(masses)
    np.testing.assert_allclose(cdf[-1], 1, atol=1e-5)
    empirical = np.searchsorted(y, edges[1:]) / n
    assert (np.abs(cdf - empirical) < 5 * np.sqrt(cdf * np.abs(1 - cdf) / n) + 1e-5).all()


def test_laplace_under_a_deterministic_decoder_is_scipys_laplace():
    y, mean = np.random.default_rng(0).normal(size=(2, 7, 3))
    scale = np.array([0.1, 0.5, 2.0])
    expected = stats.laplace.logpdf(y, mean, scale).sum(-1)
    log_prob = laplace_spread(scale).log_prob(jnp.float32(y), jnp.float32(mean), None)
    np.testing.assert_allclose(log_prob, expected, rtol=1e-6)


@pytest.mark.parametrize("sigma", [pytest.param(0.3, marks=pytest.mark.slow), 0.03])
@pytest.mark.parametrize(("dim", "rank"), [(40, 7), pytest.param(200, 100, marks=pytest.mark.slow)])
def test_low_rank_is_scipys_multivariate_normal(dim, rank, sigma):
    rng = np.random.default_rng(0)
    y, mean = rng.normal(size=(2, 5, dim))
    var = rng.gamma(1.0, size=(5, dim))
    factor = rng.normal(size=(dim, rank))
    y, mean, var, factor = map(np.float32, (y, mean, var, factor))
    spread = low_rank_spread(factor, sigma)
    noise = np.float64(factor) @ np.float64(factor).T + sigma**2 * np.eye(dim)
    expected = [
        stats.multivariate_normal.logpdf(*map(np.float64, (a, b)), noise + np.diag(np.float64(c)))
        for a, b, c in zip(y, mean, var, strict=True)
    ]
    log_prob = jax.jit(spread.log_prob)(*map(jnp.asarray, (y, mean, var)))
    np.testing.assert_allclose(log_prob, expected, rtol=1e-5)
    expected = [
        stats.multivariate_normal.logpdf(*map(np.float64, ab), noise)
        for ab in zip(y, mean, strict=True)
    ]
    deterministic = spread.log_prob(jnp.asarray(y), jnp.asarray(mean), None)
    np.testing.assert_allclose(deterministic, expected, rtol=1e-5)


def test_low_rank_keeps_its_digits_where_woodburys_difference_loses_them():
    """sigma a thousandth of the factor, the residual along the factor: SciPy in float64."""
    rng = np.random.default_rng(0)
    factor = np.float32(rng.normal(size=(30, 4)))
    y = np.float32(factor @ rng.normal(size=4) + 1e-3 * rng.normal(size=30))
    noise = np.float64(factor) @ np.float64(factor).T + np.float64(np.float32(1e-3)) ** 2 * np.eye(
        30
    )
    expected = stats.multivariate_normal.logpdf(np.float64(y), np.zeros(30), noise)
    log_prob = low_rank_spread(factor, 1e-3).log_prob(jnp.asarray(y), jnp.zeros(30), None)
    np.testing.assert_allclose(log_prob, expected, rtol=1e-5)


def test_low_rank_operations_grow_as_dim_times_rank_squared():
    """XLA's own count of the compiled program, up to dim 12,288 and rank 100: O(d r²) operations,
    and memory of a few [dim, rank] matrices, never [dim, dim]."""

    def cost(dim, rank):
        def log_prob(y, mean, var, factor):
            return low_rank_spread(factor, 0.1).log_prob(y, mean, var)

        shapes = [(dim,), (dim,), (dim,), (dim, rank)]
        arguments = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
        compiled = jax.jit(log_prob).lower(*arguments).compile()
        memory = compiled.memory_analysis()
        assert memory.temp_size_in_bytes < 4 * dim * rank * 4 + 2**20
        return compiled.cost_analysis()["flops"]

    flops = {(d, r): cost(d, r) for d, r in [(768, 50), (12_288, 50), (12_288, 100)]}
    assert 14 < flops[12_288, 50] / flops[768, 50] < 18  # 16 × the dimensions
    assert 3.3 < flops[12_288, 100] / flops[12_288, 50] < 4.4  # twice the rank
    assert flops[12_288, 100] < 3 * 12_288 * 100**2


def test_a_batch_under_a_shared_covariance_is_each_point_alone():
    rng = np.random.default_rng(0)
    y = jnp.float32(rng.normal(size=(4, 5, 3)))
    mean, var = jnp.float32(rng.normal(size=(2, 1, 3))), jnp.float32(rng.gamma(1.0, size=(2, 1, 3)))
    for spread in (laplace_spread(0.4), low_rank_spread(FACTOR, 0.3)):
        together = jax.jit(spread.log_prob)(y[:, None], mean, var)
        alone = jax.vmap(spread.log_prob, (0, None, None))  # over 5, then 2, then 4
        alone = jax.vmap(jax.vmap(alone, (None, 0, 0)), (0, None, None))
        alone = jax.jit(alone)(y, mean[:, 0], var[:, 0])
        np.testing.assert_allclose(together, alone, rtol=1e-5)
        shared = jax.jit(lambda y, mean, spread=spread: spread.log_prob(y, mean, None))
        np.testing.assert_allclose(
            shared(y, mean[0, 0])[2, 3], shared(y[2, 3], mean[0, 0]), rtol=1e-5
        )


@pytest.mark.parametrize(
    "make",
    [
        laplace_spread,
        lambda scale: low_rank_spread(scale * FACTOR, scale),
        pytest.param(lambda s: with_gaussian(laplace_spread(s), 2 * s), marks=pytest.mark.slow),
        pytest.param(
            lambda s: injective_mean_spread(lambda x: x + jnp.tanh(x), s), marks=pytest.mark.slow
        ),
    ],
)
def test_traced_parameters_under_vmap_are_one_by_one(make):
    values = [0.1, 1.0]
    x = jax.random.normal(KEY, (5, 3))

    def both(value):
        spread = make(value)
        return spread.sample(KEY, x), spread.log_prob(x, 0.5 * x, None)

    batched = jax.jit(jax.vmap(both))(jnp.array(values))
    one = jax.jit(both)
    for i, value in enumerate(values):
        for together, alone in zip(batched, one(jnp.float32(value)), strict=True):
            np.testing.assert_allclose(together[i], alone, rtol=1e-4)

    @jax.jit
    def total(value):
        return make(value).log_prob(x, 0.5 * x, None).sum()

    slope, step = jax.jit(jax.grad(total))(jnp.float32(0.5)), 1e-2
    low, high = total(0.5 - step), total(0.5 + step)
    np.testing.assert_allclose(slope, (high - low) / (2 * step), rtol=1e-2)


@pytest.fixture(scope="module")
def injective_mean():
    model = InjectiveMean((64, 64))
    variables = jax.jit(model.init)(jax.random.key(1), jnp.zeros((1, 5)))
    # larger kernels, so that the normalisation has work to do
    params = jax.tree.map(lambda p: 30 * p, variables["params"])
    return jax.jit(lambda x: model.apply({**variables, "params": params}, x))


@pytest.mark.slow
def test_injective_mean_is_injective_with_the_measured_bound(injective_mean):
    """10,000 random pairs, far and near: ‖f(a) - f(b)‖ >= (1 - 1.06·0.9³) ‖a - b‖, and no stretch
    above 1 + 1.06·0.9³: 6 % of room for the power iteration."""
    far, other = jax.random.normal(KEY, (2, 5000, 5))
    a = jnp.concatenate([far, far])
    b = jnp.concatenate([other, far + 1e-2 * other])
    f_a, f_b = injective_mean(a), injective_mean(b)
    stretch = np.linalg.norm(f_a - f_b, axis=1) / np.linalg.norm(a - b, axis=1)
    assert stretch.min() >= 1 - 1.06 * 0.9**3
    assert stretch.max() <= 1 + 1.06 * 0.9**3
    assert stretch.std() > 0.01  # it does something


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_a_layers_lipschitz_constant_is_held_below_one(seed):
    """NumPy's largest singular value of the layer's matrix, which is f(I) - I."""
    model = InjectiveMean((), layer_bound=0.9)
    variables = jax.jit(model.init)(jax.random.key(seed), jnp.zeros((1, 64)))
    variables = {**variables, "params": jax.tree.map(lambda p: 30 * p, variables["params"])}
    matrix = np.asarray(model.apply(variables, jnp.eye(64))) - np.eye(64)
    assert 0.899 < np.linalg.norm(matrix, 2) < 0.97


@pytest.mark.slow
def test_injective_mean_density_is_the_normal_about_f(injective_mean):
    spread = injective_mean_spread(injective_mean, 0.3)
    y, mean = jax.random.normal(KEY, (2, 7, 5))
    expected = stats.norm.logpdf(y, injective_mean(mean), 0.3).sum(-1)
    np.testing.assert_allclose(spread.log_prob(y, mean, None), expected, rtol=1e-5)
    x = jnp.tile(mean[:1], (100_000, 1))
    noise = np.asarray(spread.sample(KEY, x) - injective_mean(mean[:1]), np.float64)
    assert (np.abs(noise.mean(0)) < 5 * 0.3 / 1e5**0.5).all()


def test_a_pair_without_a_closed_form_names_those_that_have_one():
    x = jnp.ones((1, 2))
    spread = injective_mean_spread(jnp.tanh, 0.3)
    for no_closed_form in (spread, with_gaussian(spread, 0.1)):
        with pytest.raises(ValueError, match=r"no closed form; .* gaussian_spread, laplace_spread"):
            no_closed_form.log_prob(x, x, x)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: laplace_spread(0.0), "scale must be finite and > 0"),
        (lambda: laplace_spread(np.nan), "scale must be finite and > 0"),
        (lambda: low_rank_spread(np.ones(3), 0.1), "factor must be a matrix"),
        (lambda: low_rank_spread(np.full((3, 1), np.inf), 0.1), "factor must be finite"),
        (lambda: low_rank_spread(FACTOR, -0.1), "sigma must be finite and >= 0"),
        (lambda: with_gaussian(laplace_spread(1.0), -0.1), "sigma must be finite and >= 0"),
        (
            lambda: low_rank_spread(FACTOR, 0.0).log_prob(jnp.zeros(3), jnp.zeros(3), None),
            "needs sigma > 0",
        ),
    ],
)
def test_impossible_parameters_are_refused(make, words):
    with pytest.raises(ValueError, match=words):
        make()


def test_fixed_volume_keeps_the_determinant_and_leans_along_its_directions():
    """SciPy's normal with the covariance built in NumPy, c from its determinant."""
    rng = np.random.default_rng(0)
    directions, sigma = rng.normal(size=(6, 2)), 0.3
    shape = np.eye(6) + directions @ directions.T
    covariance = shape * sigma**2 / np.linalg.det(shape) ** (1 / 6)
    np.testing.assert_allclose(np.linalg.det(covariance), sigma**12, rtol=1e-9)
    y = rng.normal(size=(4, 6))
    expected = stats.multivariate_normal.logpdf(y, np.zeros(6), covariance)
    log_prob = jax.jit(
        lambda directions: fixed_volume_spread(directions, sigma).log_prob(
            jnp.float32(y), jnp.zeros(6), None
        )
    )
    np.testing.assert_allclose(log_prob(jnp.float32(directions)), expected, rtol=1e-5)
    with pytest.raises(ValueError, match="directions must be a matrix"):
        fixed_volume_spread(jnp.zeros(3), sigma)


@pytest.mark.parametrize(
    ("make", "sigma"),
    [
        (gaussian_spread, [0.1, 0.2]),
        (gaussian_spread, (0.1, 0.2)),
        (laplace_spread, [0.1, 0.2]),
        (lambda sigma: low_rank_spread([[1.0], [2.0]], sigma), [0.1, 0.2]),
        (lambda sigma: injective_mean_spread(lambda x: 2 * x, sigma), [0.1, 0.2]),
        (lambda sigma: with_gaussian(gaussian_spread(0.3), sigma), [0.1, 0.2]),
    ],
)
def test_a_list_is_the_array_of_its_numbers(make, sigma):
    y, mean = jnp.array([[0.3, -0.2]]), jnp.zeros((1, 2))
    listed, array = make(sigma), make(np.array(sigma))
    np.testing.assert_array_equal(listed.sample(KEY, y), array.sample(KEY, y))
    np.testing.assert_array_equal(listed.log_prob(y, mean, None), array.log_prob(y, mean, None))


@pytest.mark.parametrize("value", ["0.1", None, 0.1 + 0.1j, ["0.1"], [None]])
@pytest.mark.parametrize("make", [gaussian_spread, laplace_spread])
def test_what_is_no_real_number_is_refused(make, value, monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # as a user has it
    with pytest.raises(ValueError, match="must be a real number or an array of them"):
        make(value)


def test_a_list_of_traced_numbers_is_traced():
    """Truth: the derivative of log N(0; 0, σ²) by σ is -1/σ."""

    def log_prob(a):
        return gaussian_spread([a, 0.2]).log_prob(jnp.zeros(2), jnp.zeros(2), None)

    np.testing.assert_allclose(jax.grad(log_prob)(0.1), -10.0, rtol=1e-5)


def test_a_sum_without_noise_has_no_density_for_a_deterministic_decoder():
    y = jnp.zeros(2)
    for spread in (gaussian_spread(0.0), low_rank_spread(jnp.ones((2, 1)), 0.0)):
        with pytest.raises(ValueError, match="no density"):
            with_gaussian(spread, 0.0).log_prob(y, y, None)
    alone = gaussian_spread(0.3).log_prob(y, y, None)
    np.testing.assert_allclose(with_gaussian(gaussian_spread(0.3), 0.0).log_prob(y, y, None), alone)
    np.testing.assert_allclose(with_gaussian(gaussian_spread(0.0), 0.3).log_prob(y, y, None), alone)


def test_a_sum_keeps_the_dtype_of_the_variance():
    y = jnp.zeros(2, jnp.bfloat16)
    both = with_gaussian(gaussian_spread(0.3), jnp.float32(0.4))
    assert both.log_prob(y, y, y + 1).dtype == gaussian_spread(0.5).log_prob(y, y, y + 1).dtype


@pytest.mark.slow
def test_laplace_noise_has_its_standard_deviation_and_none_at_zero():
    """Truths: SciPy's Laplace law; the plain Gaussian bit for bit; 40,000 draws."""
    x = jnp.asarray(np.random.default_rng(0).normal(size=(4, 3)), jnp.float32)
    mean, var = jnp.zeros((4, 3)), jnp.full((4, 3), 0.3)

    @jax.jit
    def evaluate(std):
        noise = laplace_noise(std)
        gradient = jax.grad(lambda v: noise.log_prob(x, mean, v).sum())(var)
        return noise.log_prob(x, mean, None), noise.log_prob(x, mean, var), gradient

    truth = stats.laplace(0, 0.5 / np.sqrt(2)).logpdf(np.asarray(x)).sum(-1)
    np.testing.assert_allclose(evaluate(0.5)[0], truth, rtol=1e-5)
    _, plain, gradient = evaluate(0.0)
    np.testing.assert_allclose(plain, gaussian_spread(0.0).log_prob(x, mean, var), rtol=1e-6)
    assert np.isfinite(gradient).all()
    draws = np.asarray(laplace_noise(0.5).sample(jax.random.key(0), jnp.zeros((40_000, 1))))
    # the variance of a squared Laplace draw is 5 σ⁴
    assert abs(np.square(draws).mean() - 0.25) < 5 * np.sqrt(5 / 40_000) * 0.25
    np.testing.assert_array_equal(laplace_noise(0.0).sample(jax.random.key(0), x), x)


@pytest.mark.slow
@pytest.mark.parametrize("log_var", [-20.0, -46.0, -60.0, -100.0])
def test_laplace_noise_has_finite_slopes_where_the_variance_is_tiny(log_var):
    """Truth: with y = mean + 0.3 Laplace's law is all that is left, and log_var moves nothing."""

    def log_prob(log_var):
        var = jnp.exp(jnp.full(2, log_var))
        return laplace_noise(0.1).log_prob(jnp.full(2, 0.3), jnp.zeros(2), var)

    value, slope = jax.value_and_grad(log_prob)(log_var)
    np.testing.assert_allclose(value, 2 * stats.laplace.logpdf(0.3, scale=0.1 / 2**0.5), rtol=1e-5)
    np.testing.assert_allclose(slope, 0, atol=1e-5)


@pytest.mark.parametrize("std", [-0.1, math.nan, math.inf, np.array([0.1, 0.2])])
def test_laplace_noise_names_a_wrong_std(std):
    with pytest.raises(ValueError, match="std must be"):
        laplace_noise(std)


def test_dequantizing_noise_fills_one_grey_level():
    """Truth: the uniform law on ±1/2 of a level, its bounds and its standard deviation."""
    std = 1 / 255 / np.sqrt(12)
    spread = dequantizing_noise(std)
    noise = np.asarray(spread.sample(jax.random.key(0), jnp.zeros((100_000, 1)))) * 255
    assert -0.5 <= noise.min() < -0.4999
    assert 0.4999 < noise.max() <= 0.5
    # the standard deviation of a sample's own is √((μ4 - σ⁴) / n) / 2σ
    error = np.sqrt((1 / 80 - 1 / 144) / 100_000) / (2 / np.sqrt(12))
    assert abs(noise.std() - 1 / np.sqrt(12)) < 5 * error
    y, mean, var = jnp.ones((3, 2)), jnp.zeros((3, 2)), jnp.full((3, 2), 0.5)
    expected = no_spread().log_prob(y, mean, var)
    np.testing.assert_array_equal(spread.log_prob(y, mean, var), expected)
