import jax
import jax.numpy as jnp
import numpy as np

from spread_jax.data import Dataset
from spread_jax.judgement import each_run
from spread_jax.pictures import TRAVERSED, pictures

RNG = np.random.default_rng(0)
DATA = Dataset("by hand", *(RNG.normal(size=(n, 3)).astype(np.float32) for n in (5, 5, 9)))


def test_pictures_of_the_linear_vae_are_known(linear_vae, runs_by_hand):
    """Truths: z W at z = 0.3 y₀ for reconstructions, and at -2 to 2 for the traversal; the run's
    own samples and bounds."""
    params = {"w": jnp.tile(linear_vae.params["w"], (1, 1, 1))}
    (run,) = each_run(linear_vae.vae, runs_by_hand(params), DATA)
    noise = RNG.normal(size=(4, 3)).astype(np.float32)
    drawn = pictures(run, noise, 4)
    w = np.asarray(linear_vae.params["w"])
    np.testing.assert_allclose(drawn["reconstructions"], 0.3 * DATA.test[:4, :1] @ w, rtol=1e-5)
    np.testing.assert_allclose(drawn["traversal"], (TRAVERSED[:, None] @ w)[None], rtol=1e-5)
    np.testing.assert_array_equal(drawn["samples"], run.samples[:4])
    np.testing.assert_allclose(drawn["spread_samples"], run.samples[:4] + noise, rtol=1e-6)
    np.testing.assert_allclose(drawn["bound"], run.bound(DATA.test).elbo, rtol=1e-6)
    assert dict(drawn["traversal"].sizes) == {"latent": 1, "value": 9, "pixel": 3}


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
    drawn = pictures(run, np.zeros((4, 3), np.float32), 4)["traversal"]
    expected = np.zeros((2, 9, 3))
    expected[0, :, 1] = expected[1, :, 0] = TRAVERSED
    np.testing.assert_allclose(drawn, expected, rtol=1e-6)
