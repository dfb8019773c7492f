"""Priors that are fitted to an aggregate posterior, one by one and for every run of a sweep."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from spread_jax import (
    Dataset,
    aggregate_latent,
    gaussian_spread,
    make_vae,
    no_spread,
    spread_elbo,
)
from spread_jax.fitted_latents import with_fitted_latents
from spread_jax.gaussian_mixture import GaussianMixture
from spread_jax.latents import gaussian_latent, mixture_latent
from spread_jax.models.fitted_latent import (
    FittedLatentVAE,
    fit_latent_mixture,
    posterior_draws,
)

pytestmark = pytest.mark.slow  # each setting is a program of its own, and compiling takes seconds

KEY = jax.random.key(0)
W = np.array([[0.5, -1.0, 2.0], [1.0, 1.0, 0.5]])
NOISE_VAR, SIGMA = 0.3, 0.4


def linear_gaussian(prior_mean, prior_std, n=4000):
    """z ~ N(prior_mean, prior_std² I) in 2 dimensions, x = z W + noise, and the exact encoder."""
    rng = np.random.default_rng(0)
    z = prior_mean + prior_std * rng.normal(size=(n, 2))
    x = z @ W + NOISE_VAR**0.5 * rng.normal(size=(n, 3))
    total = NOISE_VAR + SIGMA**2
    covariance = np.linalg.inv(np.eye(2) / prior_std**2 + W @ W.T / total)
    # q is to be diagonal: rotate z so that the exact posterior is, by its own eigenvectors
    values, vectors = np.linalg.eigh(covariance)
    gain = jnp.float32(W.T @ covariance @ vectors / total)
    shift = jnp.float32((prior_mean / prior_std**2) * np.ones(2) @ covariance @ vectors)

    def encode(y):
        mean = y @ gain + shift[None]
        return mean, jnp.broadcast_to(jnp.float32(np.log(values)), mean.shape)

    def decode(z):
        return z @ jnp.float32(vectors.T @ W), jnp.full((*z.shape[:-1], 3), NOISE_VAR)

    return SimpleNamespace(
        x=jnp.float32(x), encode=encode, decode=decode, mean=prior_mean * np.ones(2) @ vectors
    )


def moments(latent, n=100_000):
    z = np.float64(latent.sample_prior(jax.random.key(9), n))
    return z.mean(axis=0), np.cov(z.T)


@pytest.mark.parametrize(("mean", "std"), [(0.0, 1.0), (3.0, 0.5)])
def test_the_exact_encoders_aggregate_is_the_prior_that_made_the_data(mean, std):
    """Truth: ∫ p(z|y) p(y) dy = p(z), N(0, I) or shifted on purpose; within 5 standard errors, of
    4,000 points that are drawn, and at most 0.1 % of variance that is added."""
    linear = linear_gaussian(mean, std)
    latent = aggregate_latent(KEY, linear.encode, linear.x, gaussian_spread(SIGMA), sizes=(1, 2))
    found_mean, found_covariance = moments(latent)
    n = 0.9 * len(linear.x)  # at worst: the draws are not fewer than the points
    assert (np.abs(found_mean - linear.mean) < 5 * std / n**0.5).all()
    error = std**2 * np.sqrt((1 + np.eye(2)) / n)
    assert (np.abs(found_covariance - std**2 * np.eye(2)) < 5 * error + 1e-3 * std**2).all()


def two_clusters(n=2000):
    rng = np.random.default_rng(1)
    side = np.where(rng.random(n) < 0.3, -4.0, 4.0)
    x = jnp.float32(np.stack([side, np.zeros(n)], axis=1) + 0.3 * rng.normal(size=(n, 2)))
    return x, lambda y: (y, jnp.full_like(y, np.log(0.01)))


def test_two_clusters_are_both_found():
    """Truth: the law of the data, 30 % at -4 and 70 % at 4, each of variance 0.1 + σ²."""
    x, encode = two_clusters()
    latent = aggregate_latent(KEY, encode, x, gaussian_spread(0.2), sizes=(1, 2, 5))
    z = np.asarray(latent.sample_prior(KEY, 20_000))
    left = z[:, 0] < 0
    share = (np.asarray(x)[:, 0] < 0).mean()
    assert abs(left.mean() - share) < 5 * (0.21 / 2000) ** 0.5
    std = (0.09 + 0.04 + 0.01) ** 0.5
    assert (np.abs(np.abs(z[:, 0]) - 4) < 6 * std).mean() > 0.999
    np.testing.assert_allclose(z[~left].std(axis=0), std, rtol=0.1)


def test_latents_that_do_not_vary_make_no_trouble():
    x = jnp.ones((100, 2)) * jnp.arange(100.0)[:, None]
    latent = aggregate_latent(
        KEY, lambda y: (jnp.full((len(y), 3), 2.0), jnp.full((len(y), 3), -30.0)), x, no_spread()
    )
    z = np.asarray(latent.sample_prior(KEY, 1000))
    assert np.abs(z - 2).max() < 0.05
    kl = latent.kl(KEY, (jnp.full((4, 3), 2.0), jnp.full((4, 3), -30.0)))
    assert bool(jnp.isfinite(kl).all())


@pytest.mark.parametrize("law", ["prior", "shifted", "clusters"])
def test_the_bound_of_held_out_points_does_not_fall_by_fitting(law):
    """Truth: the bound with N(0, I), within 5 standard errors of the differences."""
    if law == "clusters":
        x, encode = two_clusters()
        decode = lambda z: (z, jnp.full_like(z, 0.1))  # noqa: E731
    else:
        linear = linear_gaussian(*{"prior": (0.0, 1.0), "shifted": (3.0, 0.5)}[law])
        x, encode, decode = linear.x, linear.encode, linear.decode
    spread, fresh = gaussian_spread(SIGMA), x[-1000:]
    fitted = aggregate_latent(KEY, encode, x[:-1000], spread, sizes=(1, 2), num_samples=8)
    bounds = [
        np.float64(
            spread_elbo(KEY, fresh, encode=encode, decode=decode, latent=latent, spread=spread).elbo
        )
        for latent in (gaussian_latent(2, num_samples=8), fitted)
    ]
    gain = bounds[1] - bounds[0]
    error = gain.std() / len(gain) ** 0.5
    assert gain.mean() > -5 * error
    if law != "prior":
        assert gain.mean() > 1


def test_held_out_points_choose_the_size():
    """Truth: N(0, I) is the law of the held-out draws, whatever was fitted."""
    rng = np.random.default_rng(0)
    off, standard = 5 + 0.1 * rng.normal(size=(500, 2)), rng.normal(size=(500, 2))
    chosen = fit_latent_mixture(off, standard)
    for one, other in zip(chosen, GaussianMixture.standard(2), strict=True):
        np.testing.assert_array_equal(one, other)
    x = jnp.float32(off)
    latent = aggregate_latent(
        KEY, lambda y: (y, jnp.full_like(y, -9.0)), x, no_spread(), held_out=jnp.float32(standard)
    )
    assert np.abs(moments(latent, 20_000)[0]).max() < 0.05


def test_no_sizes_leave_the_standard_prior():
    z = np.random.default_rng(0).normal(3, 0.1, (200, 2))
    assert len(fit_latent_mixture(z, z, sizes=()).weights) == 1
    np.testing.assert_array_equal(fit_latent_mixture(z, z, sizes=()).means, np.zeros((1, 2)))


def test_the_fit_is_likelier_than_one_gaussian_by_scipy():
    """Truth: SciPy's density of the best single Gaussian."""
    rng = np.random.default_rng(0)
    z = np.where(rng.random((2000, 1)) < 0.5, -2, 2) + 0.3 * rng.normal(size=(2000, 1))
    mixture = fit_latent_mixture(z[:1000], z[1000:])
    density = sum(
        w * stats.norm.pdf(z[1000:], m[0], c[0, 0] ** 0.5)
        for w, m, c in zip(*map(np.float64, mixture), strict=True)
    )
    one = stats.norm.logpdf(z[1000:], z.mean(), z.std()).mean()
    assert np.log(density).mean() > one + 0.5


def test_draws_go_through_all_points_and_no_more_often_than_five_times():
    seen = []
    draw_batch = lambda key, x: (seen.append(np.asarray(x)), x)[1]  # noqa: E731
    x = np.arange(300.0, dtype=np.float32)[:, None]
    z = posterior_draws(KEY, draw_batch, x)
    assert z.shape == (1500, 1)
    np.testing.assert_array_equal(np.unique(z, return_counts=True)[1], np.full(300, 5))
    assert {len(batch) for batch in seen} == {1000}


@pytest.mark.parametrize(
    "posterior",
    [lambda y: y, lambda y: (y,), lambda y: (y, y, y), lambda y: {"mean": y, "log_var": y}],
)
def test_a_posterior_that_is_no_pair_is_refused(posterior):
    with pytest.raises(ValueError, match="pair of mean and log-variance"):
        aggregate_latent(KEY, posterior, jnp.zeros((20, 2)), no_spread())


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_draws_that_are_not_finite_are_refused(bad):
    encode = lambda y: (jnp.full_like(y, bad), 0 * y)  # noqa: E731
    with pytest.raises(ValueError, match="draws of z must be finite"):
        aggregate_latent(KEY, encode, jnp.zeros((20, 2)), no_spread())


def test_padding_leaves_the_law_as_it_was():
    """Truth: the mixture itself, by its log-densities."""
    rng = np.random.default_rng(0)
    mixture = GaussianMixture(
        np.float32([0.3, 0.7]),
        rng.normal(size=(2, 2)).astype(np.float32),
        np.float32(np.stack([np.eye(2), 0.1 * np.eye(2)])),
    )
    padded = mixture.padded(5)
    assert [part.shape for part in padded] == [(5,), (5, 2), (5, 2, 2)]
    z = jnp.float32(rng.normal(size=(50, 2)))
    posterior = (0 * z, 0 * z)
    np.testing.assert_allclose(
        mixture_latent(*padded).log_ratio(z, posterior),
        mixture_latent(*mixture).log_ratio(z, posterior),
        rtol=1e-5,
        atol=1e-5,
    )
    same = mixture.padded(2)
    np.testing.assert_array_equal(same.covariances, mixture.covariances)


@pytest.fixture(scope="module")
def vae():
    return make_vae(3, latent_dim=2, hidden=(4,), variance="none")


def test_a_standard_mixture_is_the_vae_with_its_gaussian(vae):
    """Truth: the VAE; its KL, which is drawn, is within 5 standard errors of the closed form."""
    model = FittedLatentVAE(vae)
    params = model.init(KEY)
    plain = vae.init(KEY)
    jax.tree.map(np.testing.assert_array_equal, params["vae"], plain)
    x = jnp.float32(np.random.default_rng(0).normal(size=(2000, 3)))
    spread = gaussian_spread(0.3)
    bound, expected = model.bound(params, KEY, x, spread), vae.bound(plain, KEY, x, spread)
    np.testing.assert_allclose(bound.log_lik, expected.log_lik, rtol=1e-5)
    gap = np.float64(bound.kl) - np.float64(expected.kl)
    assert abs(gap.mean()) < 5 * gap.std() / len(x) ** 0.5
    tight = [
        m.importance_weighted_bound(p, KEY, x[:20], spread, 4)
        for m, p in ((model, params), (vae, plain))
    ]
    np.testing.assert_allclose(*tight, rtol=1e-4, atol=1e-4)
    z = jnp.ones((5, 2))
    np.testing.assert_array_equal(model.decode(params, z)[0], vae.decode(plain, z)[0])
    np.testing.assert_array_equal(model.encode(params, x)[0], vae.encode(plain, x)[0])


def test_its_samples_have_the_moments_of_the_vaes(vae):
    """Within 5 standard errors of two samples."""
    model = FittedLatentVAE(vae)
    params = model.init(KEY)
    one = np.float64(model.sample(params, jax.random.key(1), 20_000))
    other = np.float64(vae.sample(params["vae"], jax.random.key(2), 20_000))
    error = (one.var(axis=0) / len(one) + other.var(axis=0) / len(other)) ** 0.5
    assert (np.abs(one.mean(axis=0) - other.mean(axis=0)) < 5 * error).all()
    np.testing.assert_allclose(one.std(axis=0), other.std(axis=0), rtol=0.05)


def test_its_samples_are_decoded_from_its_own_mixture():
    noisy = make_vae(3, latent_dim=2, hidden=(4,), variance="each")
    model = FittedLatentVAE(noisy).without_variance()
    params = model.init(KEY)
    mixture = GaussianMixture(np.ones(1, "f4"), np.full((1, 2), 7, "f4"), 1e-10 * np.eye(2)[None])
    x = model.sample({**params, "latent": mixture}, KEY, 5)
    mean = noisy.decode(params["vae"], jnp.full((5, 2), 7.0))[0]
    np.testing.assert_allclose(x, mean, rtol=1e-3, atol=1e-3)


@pytest.fixture(scope="module")
def fitted_runs(runs_by_hand):
    """Three runs of a linear encoder: two clusters of latents, one cluster, and a broken one."""
    rng = np.random.default_rng(0)
    x = np.where(rng.random((1200, 1)) < 0.5, -3, 3) + 0.2 * rng.normal(size=(1200, 1))
    x = x.astype(np.float32)
    data = Dataset("clusters", x[:1000], x[1000:], x[:0])
    vae = make_vae(1, latent_dim=1, hidden=(4,), variance="none")._replace(
        encode=lambda params, y: (params["scale"] * y + params["shift"], jnp.full_like(y, -6.0))
    )
    params = {"scale": jnp.array([1.0, 0.01, jnp.nan]), "shift": jnp.array([0.0, 5.0, 0.0])}
    runs = runs_by_hand(params, {"sigma_fix": 0.1})
    spread = lambda hyper: gaussian_spread(hyper["sigma_fix"])  # noqa: E731
    model, fitted = with_fitted_latents(vae, runs, data, spread=spread, sizes=(1, 2, 5))
    return model, fitted, runs


def test_every_run_has_its_mixture_and_all_have_one_shape(fitted_runs):
    _, fitted, runs = fitted_runs
    latent = fitted.stacked_params["latent"]
    k = latent.weights.shape[1]
    assert [part.shape for part in latent] == [(3, k), (3, k, 1), (3, k, 1, 1)]
    assert k >= 2
    np.testing.assert_allclose(latent.weights.sum(axis=1), 1, rtol=1e-5)
    assert fitted.stacked_params["vae"] is runs.stacked_params


def test_every_run_is_fitted_to_its_own_latents(fitted_runs):
    """Truth: the encoders, z = scale x + shift of x near -3 or 3."""
    _, fitted, _ = fitted_runs
    first, second = (
        np.asarray(
            mixture_latent(*(part[i] for part in fitted.stacked_params["latent"])).sample_prior(
                KEY, 2000
            )
        )
        for i in range(2)
    )
    assert (np.abs(np.abs(first) - 3) < 1.5).mean() > 0.99
    assert 0.3 < (first < 0).mean() < 0.7
    assert np.abs(second - 5).max() < 0.5


def test_a_broken_run_keeps_the_standard_prior(fitted_runs):
    _, fitted, _ = fitted_runs
    broken = GaussianMixture(*(part[2] for part in fitted.stacked_params["latent"]))
    for one, other in zip(
        broken, GaussianMixture.standard(1).padded(len(broken.weights)), strict=True
    ):
        np.testing.assert_array_equal(one, other)


def test_a_runs_prior_has_the_moments_of_its_latents(fitted_runs):
    """Truth: mean and variance of z = scale x + shift, of x with noise and q's own variance."""
    _, fitted, _ = fitted_runs
    z = np.float64(
        mixture_latent(*(part[1] for part in fitted.stacked_params["latent"])).sample_prior(
            KEY, 50_000
        )
    )
    var = 0.01**2 * (9 + 0.2**2 + 0.1**2) + np.exp(-6)
    assert abs(z.mean() - 5) < 5 * (var / 1000) ** 0.5
    assert z.var() == pytest.approx(var, rel=0.2)
