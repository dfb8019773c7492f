"""Mixtures of clean points behind rows with known noise."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import logsumexp
from scipy.stats import multivariate_normal
from sklearn.mixture import GaussianMixture as Sklearns

import spread_jax as sj
from spread_jax import deconvolution, mixture_fit
from spread_jax.gaussian_mixture import GaussianMixture

N, DIM = 60, 3
MIXTURE = GaussianMixture(
    np.array([0.3, 0.7]),
    np.array([[0.0, 1.0, -1.0], [0.5, -0.5, 0.2]]),
    np.stack(
        [
            np.array([[1.0, 0.3, 0.1], [0.3, 0.5, -0.1], [0.1, -0.1, 0.7]]),
            np.diag([1.0, 0.25, 0.0]),  # flat
        ]
    ),
)


@pytest.fixture(scope="module")
def rows():
    """y, and noise of every kind: sigma, variances, covariances; with every third entry missing."""
    rng = np.random.default_rng(0)
    y = rng.normal(size=(N, DIM))
    root = 0.5 * rng.normal(size=(N, DIM, DIM))
    covariances = root @ root.transpose(0, 2, 1) + 0.01 * np.eye(DIM)
    missing = np.where(rng.random(y.shape) < 1 / 3, np.nan, y)
    missing[5] = np.nan
    variances = rng.uniform(0.01, 0.5, size=(N, DIM))
    return {
        "sigma": (y, None, 0.3),
        "sigma by column": (y, None, np.array([0.1, 0.2, 0.3])),
        "variances": (y, variances, 0.0),
        "variances and sigma": (y, variances, 0.2),
        "covariances": (y, covariances, 0.1),
        "missing": (missing, None, 0.3),
        "missing, covariances": (missing, covariances, 0.1),
    }


KINDS = (
    "sigma",
    "sigma by column",
    "variances",
    "variances and sigma",
    "covariances",
    "missing",
    "missing, covariances",
)


def covariance_of_row(i, noise, sigma):
    total = np.eye(DIM) * np.square(sigma)
    if noise is not None:
        total = total + (np.diag(noise[i]) if noise.ndim == 2 else noise[i])
    return total


def by_scipy(mixture, y, noise, sigma):
    """Row by row, of the marginal law of the entries that are there."""
    found = []
    for i in range(len(y)):
        there = ~np.isnan(y[i])
        joint = [np.log(w) for w in mixture.weights]
        for k in range(len(joint)):
            if there.any():
                cov = mixture.covariances[k] + covariance_of_row(i, noise, sigma)
                joint[k] += multivariate_normal.logpdf(
                    y[i][there], mixture.means[k][there], cov[np.ix_(there, there)]
                )
        found.append(logsumexp(joint))
    return np.array(found)


def em_by_loops(mixture, y, noise, sigma):
    """Bovy, Hogg, Roweis (2011), equation 16, with R the projection on the entries there."""
    weights, means, covariances = mixture
    shares, clean, rest = (np.zeros((len(y), len(weights), *s)) for s in ((), (DIM,), (DIM, DIM)))
    for i in range(len(y)):
        there = ~np.isnan(y[i])
        projection = np.eye(DIM)[there]
        for k in range(len(weights)):
            noisy = projection @ (covariances[k] + covariance_of_row(i, noise, sigma))
            precision = np.linalg.inv(noisy @ projection.T)
            residual = y[i][there] - projection @ means[k]
            gain = covariances[k] @ projection.T @ precision
            clean[i, k] = means[k] + gain @ residual
            rest[i, k] = covariances[k] - gain @ projection @ covariances[k]
            shares[i, k] = weights[k] * np.exp(-0.5 * residual @ precision @ residual)
            shares[i, k] *= np.sqrt(np.linalg.det(precision / (2 * np.pi)))
        shares[i] /= shares[i].sum()
    count = shares.sum(axis=0)
    new_means = np.einsum("ik,ikd->kd", shares, clean) / count[:, None]
    new = np.zeros_like(covariances)
    for k in range(len(weights)):
        for i in range(len(y)):
            apart = clean[i, k] - new_means[k]
            new[k] += shares[i, k] * (np.outer(apart, apart) + rest[i, k]) / count[k]
    return GaussianMixture(count / len(y), new_means, new)


@pytest.mark.parametrize("kind", KINDS)
def test_the_log_density_is_scipys_of_the_entries_that_are_there(rows, kind):
    y, noise, sigma = rows[kind]
    fit = sj.mixture_fit.MixtureFit(MIXTURE, 0.0, {}, True)
    found = fit.log_prob(y, noise=noise, sigma=sigma)
    np.testing.assert_allclose(found, by_scipy(MIXTURE, y, noise, sigma), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_a_step_is_that_of_extreme_deconvolution(rows, kind):
    y, noise, sigma = rows[kind]
    packed = mixture_fit._rows(y, noise, sigma, needs_noise=True)
    with jax.enable_x64(True):
        found = jax.jit(deconvolution.sums)(MIXTURE, packed)
        step = deconvolution.em_step(MIXTURE, found)
    expected = em_by_loops(MIXTURE, y, noise, sigma)
    for one, other in zip(step, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-10, atol=1e-12)
    likelihood = by_scipy(MIXTURE, y, noise, sigma).sum()
    np.testing.assert_allclose(found.log_lik, likelihood, rtol=1e-10)


@pytest.mark.slow
@pytest.mark.parametrize("sigma", [0.1, 0.8])
def test_one_component_is_the_exact_maximum(sigma):
    """Truth: U max(Λ - σ², 0) Uᵀ of the sample covariance U Λ Uᵀ, as of probabilistic PCA."""
    rng = np.random.default_rng(0)
    x = np.stack([a := rng.normal(size=500), 2 * a, 1 + 0 * a], axis=1)
    y = x + sigma * rng.normal(size=x.shape)
    fit = sj.fit_mixture(y, 1, sigma=sigma)
    values, vectors = np.linalg.eigh(np.cov(y.T, bias=True))
    exact = vectors * np.maximum(values - sigma**2, 0) @ vectors.T
    np.testing.assert_allclose(fit.mixture.means[0], y.mean(axis=0), atol=1e-12)
    np.testing.assert_allclose(fit.mixture.covariances[0], exact, atol=1e-8)
    assert fit.converged


def two_planes(rng, n):
    """Two planes of three dimensions, 4 apart along the third axis, one tilted; and from which."""
    which = rng.random(n) < 0.4
    a, b = rng.normal(size=(2, n))
    return np.stack([a, b, np.where(which, 4.0, a / 2)], axis=1), which


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["sigma", "variances", "missing"])
def test_flat_components_are_found_and_counted(kind):
    """Truth: two components; the least eigenvalue of each is 0, where the estimate from n rows of
    one noise draw has a standard error of σ² √(2/n); means and weights within 5 standard errors."""
    rng = np.random.default_rng(1)
    n, sigma = 4000, 0.2
    x, which = two_planes(rng, n)
    variances = sigma**2 * rng.uniform(0.5, 1.5, size=x.shape) if kind == "variances" else None
    y = x + rng.normal(size=x.shape) * (sigma if variances is None else np.sqrt(variances))
    if kind == "missing":
        y[rng.random(y.shape) < 0.1] = np.nan
    noise = {"sigma": sigma} if variances is None else {"noise": variances}
    fit = sj.fit_mixture(y, (1, 2, 3), **noise)
    assert fit.converged
    assert list(fit.bic) == [1, 2, 3]
    assert min(fit.bic, key=fit.bic.get) == len(fit.mixture.weights) == 2
    order = np.argsort(fit.mixture.means[:, 2])
    weights, means, covariances = (part[order] for part in fit.mixture)
    least = np.linalg.eigvalsh(covariances)[:, 0]
    scatter = sigma**2 * np.sqrt(2 / (0.4 * n))
    assert (least < 5 * scatter * (2 if kind == "missing" else 1)).all()
    assert (least > -1e-12).all()
    assert abs(weights[1] - which.mean()) < 5 * np.sqrt(0.24 / n)
    np.testing.assert_allclose(means[:, 2], [0, 4], atol=5 * 0.6 / np.sqrt(0.4 * n))
    # the likelihood is SciPy's, and BIC is made of it
    of_row = {"noise": noise.get("noise"), "sigma": noise.get("sigma", 0.0)}
    exact = by_scipy(fit.mixture, y, **of_row).sum()
    assert fit.log_lik == pytest.approx(exact, rel=1e-10)
    with_entries = np.sum(~np.isnan(y).all(axis=1))
    assert fit.bic[2] == pytest.approx(19 * np.log(with_entries) - 2 * exact, rel=1e-10)
    np.testing.assert_allclose(fit.log_prob(y, **of_row).sum(), exact, rtol=1e-10)


@pytest.mark.slow
def test_the_ascent_ends_as_high_as_2000_steps_of_expectation_maximisation():
    """Truth: those, from the same start, to 1e-5 nats a row."""
    rng = np.random.default_rng(2)
    x, _ = two_planes(rng, 300)
    variances = rng.uniform(0.01, 0.2, size=x.shape)
    y = x + np.sqrt(variances) * rng.normal(size=x.shape)
    fit = sj.fit_mixture(y, 2, noise=variances, num_starts=1)
    rows = mixture_fit._rows(y, variances, 0.0, needs_noise=True)
    with jax.enable_x64(True):

        @jax.jit
        def steps(mixture):
            return jax.lax.fori_loop(
                0,
                2000,
                lambda i, m: deconvolution.em_step(m, deconvolution.sums(m, rows)),
                mixture,
            )

        start = jax.tree.map(jnp.asarray, mixture_fit._start(y, 2, 0))
        slow = steps(start)
        likelihood = float(deconvolution.sums(slow, rows).log_lik)
    assert fit.log_lik > likelihood - 1e-5 * len(y)
    assert likelihood > fit.log_lik - 0.5  # the same maximum


@pytest.mark.slow
def test_without_flatness_and_with_little_noise_it_is_scikit_learns_fit():
    rng = np.random.default_rng(3)
    y = np.concatenate([rng.normal(size=(400, 2)), rng.normal([4, 0], size=(300, 2))])
    fit = sj.fit_mixture(y, 2, sigma=1e-3)
    other = Sklearns(2, tol=1e-8, max_iter=1000, n_init=3, random_state=0).fit(y)
    assert fit.log_lik / len(y) == pytest.approx(other.score(y), abs=1e-5)
    assert fit.bic[2] == pytest.approx(other.bic(y), abs=0.05)


@pytest.mark.slow
def test_samples_are_clean_and_exactly_flat():
    """Truth: of N(m, C) with C of the line (1, 2), mean and covariance within 5 standard errors."""
    mixture = GaussianMixture(
        np.ones(1), np.array([[1.0, 0.0, 7.0]]), 4 * np.outer([1, 2, 0], [1, 2, 0])[None]
    )
    x = mixture.sample(jax.random.key(0), 5000)
    assert x.dtype == np.float64
    np.testing.assert_allclose(x[:, 1], 2 * (x[:, 0] - 1), atol=1e-12)
    np.testing.assert_array_equal(x[:, 2], 7.0)
    assert abs(x[:, 0].mean() - 1) < 5 * 2 / np.sqrt(5000)
    assert abs(x[:, 0].var() - 4) < 5 * 4 * np.sqrt(2 / 5000)
    axes = np.random.default_rng(0).normal(size=(20, 5, 2))  # 20 planes, all through 0
    planes = GaussianMixture(np.full(20, 0.05), np.zeros((20, 5)), axes @ axes.transpose(0, 2, 1))
    x = planes.sample(jax.random.key(2), 500)
    outside = np.linalg.svd(axes)[0][:, :, 2:]
    assert np.linalg.norm(np.einsum("kdi,nd->nki", outside, x), axis=2).min(axis=1).max() < 1e-12
    two = GaussianMixture(np.array([0.25, 0.75]), np.array([[0.0], [9.0]]), np.zeros((2, 1, 1)))
    share = (two.sample(jax.random.key(1), 5000) == 9).mean()
    assert abs(share - 0.75) < 5 * np.sqrt(0.75 * 0.25 / 5000)


@pytest.mark.slow
def test_a_column_that_no_row_has_changes_nothing():
    """Truth: the fit without that column."""
    rng = np.random.default_rng(4)
    y = rng.normal(size=(200, 2))
    padded = np.concatenate([y, np.full((200, 1), np.nan)], axis=1)
    fit, without = (sj.fit_mixture(rows, 1, sigma=0.5) for rows in (padded, y))
    assert fit.log_lik == pytest.approx(without.log_lik, rel=1e-8)
    of_infinite = np.full((200, 3), 0.25)
    of_infinite[:, 2] = np.inf
    same = sj.fit_mixture(np.nan_to_num(padded), 1, noise=of_infinite)
    assert same.log_lik == pytest.approx(without.log_lik, rel=1e-8)


@pytest.mark.slow
def test_more_components_than_distinct_points_still_fit():
    """Truth: two atoms and their noise: log ½ + log N(0; 0, 0.01 I)."""
    y = np.repeat([[0.0, 0.0], [1.0, 1.0]], 20, axis=0)
    fit = sj.fit_mixture(y, 4, sigma=0.1)
    assert fit.log_lik / 40 == pytest.approx(np.log(0.5) - np.log(2 * np.pi * 0.01), abs=1e-3)


@pytest.mark.usefixtures("as_users_run_it")
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sigma": 0.0}, "must give every row some noise in each direction.*none in row 0"),
        ({"sigma": -1.0}, "sigma must be finite and >= 0"),
        ({"sigma": np.ones(3)}, "a scalar or one of 2"),
        ({"noise": np.ones(5)}, r"noise must have the shape \[n, dim\] = \(5, 2\)"),
        ({"noise": -np.ones((5, 2))}, "variances >= 0"),
        ({"noise": np.full((5, 2, 2), np.nan)}, "noise must be finite wherever y is not NaN"),
        ({"noise": np.tile([[1.0, 0.5], [0.0, 1.0]], (5, 1, 1))}, "symmetric"),
        ({"noise": np.ones((5, 2, 2)), "sigma": 0.0}, "noise in each direction"),
        ({"y": np.full((5, 2), np.inf)}, "y must be finite or NaN"),
        ({"y": np.zeros(5)}, r"got shape \(5,\)"),
        ({"num_components": 0}, "num_components must be a whole number >= 1"),
        ({"num_components": 6}, "from 1 to the 5 rows"),
        ({"num_components": []}, "from 1 to the 5 rows"),
        ({"num_starts": 0}, "num_starts must be a whole number"),
    ],
)
def test_what_cannot_be_fitted_is_refused(change, message):
    arguments = {"y": np.zeros((5, 2)), "num_components": 1, "sigma": 0.1, **change}
    with pytest.raises(ValueError, match=message):
        sj.fit_mixture(arguments.pop("y"), arguments.pop("num_components"), **arguments)


def test_the_users_precision_stays():
    sj.fit_mixture(np.random.default_rng(0).normal(size=(20, 1)), 1, sigma=0.1)
    assert jnp.zeros(1).dtype == jnp.float32
