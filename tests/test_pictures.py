import jax
import jax.numpy as jnp
import numpy as np
import pytest

from spread_jax import gaussian_spread
from spread_jax.data import Dataset
from spread_jax.judgement import each_run
from spread_jax.pictures import TRAVERSED, pictures

RNG = np.random.default_rng(0)
DATA = Dataset("by hand", *(RNG.normal(size=(n, 3)).astype(np.float32) for n in (5, 5, 9)))


@pytest.mark.slow
def test_pictures_of_the_linear_vae_are_known(linear_vae, runs_by_hand):
    """Truths: z W at z = 0.3 y₀ for reconstructions, and at -2 to 2 for the traversal; the samples
    of each of the four runs, whose W differ."""

    def run_of(share, model=linear_vae.vae):
        params = {"w": share * jnp.tile(linear_vae.params["w"], (1, 1, 1))}
        return next(each_run(model, runs_by_hand(params), DATA))

    run, own, fitted = (run_of(share) for share in (1.0, 2.0, 3.0))
    means = run_of(4.0, linear_vae.vae.without_variance())
    drawn = pictures(run, own, fitted, means, 4)
    w = np.asarray(linear_vae.params["w"])
    np.testing.assert_allclose(drawn["reconstructions"], 0.3 * DATA.test[:4, :1] @ w, rtol=1e-5)
    np.testing.assert_allclose(drawn["traversal"], (TRAVERSED[:, None] @ w)[None], rtol=1e-5)
    assert dict(drawn["traversal"].sizes) == {"latent": 1, "value": 9, "pixel": 3}
    truths = {"samples": own, "normal_samples": run, "fitted_samples": fitted}
    for name, of_run in {**truths, "fitted_means": means}.items():
        np.testing.assert_array_equal(drawn[name], of_run.samples[:4])
    # without a variance all samples lie on the line of W
    np.testing.assert_allclose(drawn["fitted_means"], drawn["fitted_means"][:, :1] / w[:, :1] * w)


def test_reconstructions_are_of_data_with_the_runs_own_noise(linear_vae, runs_by_hand):
    """Truth: z W at z = 0.3 y₀, where y has the noise that the spread adds."""
    params = {"w": jnp.tile(linear_vae.params["w"], (1, 1, 1))}
    run = next(each_run(linear_vae.vae, runs_by_hand(params, {"sigma_fix": 0.5}), DATA))
    y = gaussian_spread(0.5).sample(jax.random.key(0), jnp.asarray(DATA.test[:4]))
    drawn = pictures(run, run, run, run, 4)["reconstructions"]
    np.testing.assert_allclose(drawn, 0.3 * y[:, :1] @ linear_vae.params["w"], rtol=1e-5)


def test_a_traversal_goes_along_the_latents_that_the_data_move_most(linear_vae, runs_by_hand):
    """Truth: of two latents, with posterior means y₀ and 5 y₁, the second comes first; the decoder
    shows which latent is not 0."""
    two = linear_vae.vae._replace(
        encode=lambda params, y: (y[..., :2] * jnp.array([[1.0, 5.0]]), jnp.zeros_like(y[..., :2])),
        decode=lambda params, z: (z @ params["w"], jnp.ones((*z.shape[:-1], 3))),
        latent=linear_vae.vae.latent._replace(
            expectation=lambda key, posterior, fn: fn(posterior[0][None])[0],
            kl=lambda key, posterior: jnp.zeros(len(posterior[0])),
            sample_prior=lambda key, n: jax.random.normal(key, (n, 2)),
        ),
    )
    params = {"w": jnp.array([[[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]])}
    (run,) = each_run(two, runs_by_hand(params), DATA)
    drawn = pictures(run, run, run, run, 4)["traversal"]
    expected = np.zeros((2, 9, 3))
    expected[0, :, 1] = expected[1, :, 0] = TRAVERSED
    np.testing.assert_allclose(drawn, expected, rtol=1e-6)
