"""Distributions of NumPyro with the noise of a spread, against quadrature, SciPy and NUTS."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, stats

import spread_jax as sj

pytestmark = pytest.mark.slow  # NumPyro's programs compile for seconds

numpyro = pytest.importorskip("numpyro", reason="the extra numpyro is not installed")
dist = numpyro.distributions

COVARIANCE = np.float32([[1.0, 0.6, 0.0], [0.6, 0.5, 0.1], [0.0, 0.1, 0.3]])
FLAT = np.outer([1.0, 2.0, 0.0], [1.0, 2.0, 0.0])  # a line: rank 1
LOC = np.float32([0.5, -1.0, 2.0])
SIGMAS = np.float32([0.1, 0.2, 0.5])


@pytest.fixture(autouse=True)
def as_numpyro_broadcasts():
    """NumPyro's own densities promote ranks, which the tests elsewhere refuse."""
    with jax.numpy_rank_promotion("allow"):
        yield


@pytest.fixture(scope="module")
def y():
    return np.float32(np.random.default_rng(0).normal(size=(20, 3)) + LOC)


def on_a_grid(mean, scale, noise, points):
    """log ∫ noise(y - x) N(x; mean, scale²) dx by adaptive quadrature."""
    return [
        np.log(
            integrate.quad(
                lambda x, y=y: noise.pdf(y - x) * stats.norm.pdf(x, mean, scale),
                mean - 12 * scale,
                mean + 12 * scale,
                points=[min(max(y, mean - 12 * scale), mean + 12 * scale)],
                epsabs=0,
            )[0]
        )
        for y in points
    ]


@pytest.mark.parametrize(
    ("spread", "noise"),
    [
        (sj.gaussian_spread(0.3), stats.norm(scale=0.3)),
        (sj.laplace_spread(0.3), stats.laplace(scale=0.3)),
    ],
)
def test_a_normal_is_the_integral_over_its_noise(spread, noise):
    """Truth: quadrature. Alone, of a batch, of a vector, expanded, and in a mixture."""
    points, mean, scale = np.linspace(-2.0, 3.0, 7), 0.4, 0.7
    truth = np.array(on_a_grid(mean, scale, noise, points))
    found = sj.spread_density(dist.Normal(mean, scale), spread).log_prob(points)
    np.testing.assert_allclose(found, truth, rtol=1e-5)
    expanded = sj.spread_density(dist.Normal(mean, scale).expand([7]), spread)
    np.testing.assert_allclose(expanded.log_prob(points), truth, rtol=1e-5)
    for vector in (
        dist.Normal(jnp.full(7, mean), scale).to_event(1),
        dist.Normal(mean, scale).expand([7]).to_event(1),
    ):
        whole = sj.spread_density(vector, spread)
        assert (whole.batch_shape, whole.event_shape) == ((), (7,))
        assert float(whole.log_prob(points)) == pytest.approx(truth.sum(), rel=1e-5)
    other = np.array(on_a_grid(-1.0, 0.2, noise, points))
    two = dist.MixtureSameFamily(
        dist.Categorical(probs=jnp.array([0.3, 0.7])),
        dist.Normal(jnp.array([mean, -1.0]), jnp.array([scale, 0.2])),
    )
    mixed = np.log(0.3 * np.exp(truth) + 0.7 * np.exp(other))
    np.testing.assert_allclose(sj.spread_density(two, spread).log_prob(points), mixed, rtol=1e-5)


def test_a_normal_without_width_has_the_density_of_the_noise():
    """Truth: SciPy's Laplace law."""
    point = dist.Normal(jnp.array([0.0, 1.0]), jnp.zeros(2), validate_args=False).to_event(1)
    found = sj.spread_density(point, sj.laplace_spread(0.5)).log_prob(jnp.array([0.3, 0.2]))
    truth = stats.laplace.logpdf([0.3, -0.8], scale=0.5).sum()
    assert float(found) == pytest.approx(truth, rel=1e-6)


LAWS = {
    "covariance": lambda: dist.MultivariateNormal(LOC, covariance_matrix=COVARIANCE),
    "factor": lambda: dist.MultivariateNormal(LOC, scale_tril=np.linalg.cholesky(COVARIANCE)),
    "flat covariance": lambda: dist.MultivariateNormal(
        LOC, covariance_matrix=FLAT, validate_args=False
    ),
    "flat factor": lambda: dist.MultivariateNormal(
        LOC, scale_tril=np.array([[1.0, 0, 0], [2.0, 0, 0], [0, 0, 0]]), validate_args=False
    ),
    "low rank": lambda: dist.LowRankMultivariateNormal(
        LOC, np.array([[1.0], [2.0], [0.0]]), np.full(3, 1e-6)
    ),
}
SPREADS = {
    "one": (lambda: sj.gaussian_spread(0.3), 0.09 * np.eye(3)),
    "by dimension": (lambda: sj.gaussian_spread(SIGMAS), np.diag(SIGMAS**2)),
    "correlated": (
        lambda: sj.low_rank_spread(jnp.ones((3, 1)), 0.4),
        np.ones((3, 3)) + 0.16 * np.eye(3),
    ),
}


@pytest.mark.parametrize("spread", SPREADS)
@pytest.mark.parametrize("law", LAWS)
def test_a_gaussian_vector_is_scipys(law, spread, y):
    make, noise = SPREADS[spread]
    covariance = COVARIANCE if law in ("covariance", "factor") else FLAT
    truth = stats.multivariate_normal.logpdf(y, LOC, covariance + noise)
    found = sj.spread_density(LAWS[law](), make())
    assert found.event_shape == (3,)
    np.testing.assert_allclose(found.log_prob(y), truth, rtol=2e-3 if law == "low rank" else 2e-4)
    # a mixture of it with itself is itself
    components = LAWS[law]().expand([2])
    mixture = dist.MixtureSameFamily(dist.Categorical(probs=jnp.array([0.4, 0.6])), components)
    np.testing.assert_allclose(
        sj.spread_density(mixture, make()).log_prob(y), found.log_prob(y), rtol=1e-5, atol=1e-5
    )


def test_a_traced_sigma_is_a_concrete_one(y):
    for law in LAWS.values():
        traced = jax.jit(
            lambda sigma, law=law: sj.spread_density(law(), sj.gaussian_spread(sigma)).log_prob(y)
        )(0.3)
        concrete = sj.spread_density(law(), sj.gaussian_spread(0.3)).log_prob(y)
        np.testing.assert_allclose(traced, concrete, rtol=1e-4)


@pytest.mark.parametrize(
    ("spread", "variance", "fourth"),
    [(sj.gaussian_spread(0.5), 0.25, 3), (sj.laplace_spread(0.5), 0.5, 6)],
)
def test_samples_have_the_noise(spread, variance, fourth):
    """Truth: the variance is that of x plus that of the noise, within 5 standard errors, by the
    fourth moments 3 σ⁴ of a Gaussian and 6 σ⁴ of a Laplace law."""
    scale, n = jnp.array([1.0, 0.0]), 20_000
    vector = dist.Normal(jnp.zeros(2), scale, validate_args=False).to_event(1)
    draws = sj.spread_density(vector, spread).sample(jax.random.key(0), (n,))
    truth = np.array([1 + variance, variance])
    error = 5 * truth * np.sqrt((fourth - 1) / n)
    assert (np.abs(draws.var(axis=0) - truth) < error).all()
    assert sj.spread_density(dist.Normal(0.0, 1.0), spread).sample(jax.random.key(0)).shape == ()


@pytest.mark.usefixtures("as_users_run_it")
def test_what_has_no_closed_form_is_refused():
    spread = sj.gaussian_spread(0.1)
    with pytest.raises(TypeError, match=r"must be Normal, MultivariateNormal.*got StudentT"):
        sj.spread_density(dist.StudentT(3.0), spread)
    with pytest.raises(TypeError, match="got Gamma"):
        sj.spread_density(dist.Gamma(jnp.ones(2), 1.0).to_event(1), spread)
    with pytest.raises(TypeError, match=r"must be to_event\(1\), the axis of the noise, got 2"):
        sj.spread_density(dist.Normal(jnp.zeros((2, 3)), 1.0).to_event(2), spread)
    with pytest.raises(ValueError, match="must be Gaussian"):
        sj.spread_density(LAWS["covariance"](), sj.laplace_spread(0.1))
    with pytest.raises(TypeError, match="spread must be a Spread"):
        sj.spread_density(dist.Normal(0.0, 1.0), 0.1)


def test_nuts_on_a_constant_column_fails_without_the_spread_and_works_with_it():
    """Truths: the scale of the constant column is 0, of the other 1; the latter's posterior has a
    standard error of 1 / √2n. Without the spread the density is unbounded as the scale falls: the
    step shrinks with the scale until trajectories diverge, or hardly move the other column."""
    n, sigma = 200, 0.1
    x = np.stack([np.random.default_rng(0).normal(size=n), np.full(n, 3.0)], axis=1)

    def posterior(rows, spread):
        def model():
            loc = numpyro.sample("loc", dist.Normal(0.0, 10.0).expand([2]).to_event(1))
            scale = numpyro.sample("scale", dist.HalfNormal(2.0).expand([2]).to_event(1))
            law = dist.Normal(loc, scale).to_event(1)
            with numpyro.plate("rows", n):
                numpyro.sample("y", sj.spread_density(law, spread) if spread else law, obs=rows)

        kernel = numpyro.infer.NUTS(model)
        mcmc = numpyro.infer.MCMC(kernel, num_warmup=200, num_samples=200, progress_bar=False)
        mcmc.run(jax.random.key(1), extra_fields=("diverging",))
        scale = np.asarray(mcmc.get_samples()["scale"])
        size = numpyro.diagnostics.effective_sample_size(scale[None, :, 0])
        return int(mcmc.get_extra_fields()["diverging"].sum()), float(size), scale

    plain_divergences, plain_size, _ = posterior(jnp.asarray(x), None)
    spread = sj.gaussian_spread(sigma)
    y = spread.sample(jax.random.key(1), jnp.asarray(x))
    divergences, size, scale = posterior(y, spread)
    print(f"divergences {plain_divergences} and {divergences}, sizes {plain_size} and {size}")
    assert divergences <= 2
    assert plain_divergences > 20  # of 200; 54 to 118 with four keys and priors
    assert size > 50 > 10 > plain_size
    assert abs(scale[:, 0].mean() - x[:, 0].std()) < 5 / np.sqrt(2 * n)
    assert scale[:, 1].mean() < sigma * (4 / n) ** 0.25 * 2  # what one draw of the noise allows
