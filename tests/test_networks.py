import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest

from spread_jax.models import networks
from spread_jax.models.networks import BernoulliEncoder, GaussianDecoder, GaussianEncoder

KEY = jax.random.key(0)


def test_decoder_is_two_matrix_products_and_an_exponential():
    """Brute force in NumPy from the parameters."""
    decoder = GaussianDecoder((5,), dim=3, zero_log_var_kernel=False)
    z = jax.random.normal(KEY, (7, 2))
    params = decoder.init(KEY, z)
    mean, var = decoder.apply(params, z)
    p = jax.tree.map(np.asarray, params["params"])
    hidden = np.maximum(np.asarray(z) @ p["MLP_0"]["Dense_0"]["kernel"], 0)
    np.testing.assert_allclose(mean, hidden @ p["Dense_1"]["kernel"], rtol=1e-4, atol=1e-6)
    log_var = hidden @ p["Dense_0"]["kernel"] - 3.0
    np.testing.assert_allclose(var, np.exp(log_var), rtol=1e-4)


def test_decoder_starts_at_the_stated_variance_for_every_z():
    decoder = GaussianDecoder((8, 8), dim=2, initial_log_var=-5.0)
    z = 100 * jax.random.normal(KEY, (7, 1))
    _, var = decoder.apply(decoder.init(KEY, z), z)
    np.testing.assert_allclose(var, np.exp(-5.0), rtol=1e-6)


def test_encoders_keep_leading_axes():
    y = jnp.zeros((4, 3, 2))
    bernoulli, gaussian = BernoulliEncoder((8,), 5), GaussianEncoder((8,), 5, jnp.tanh)
    assert bernoulli.apply(bernoulli.init(KEY, y), y).shape == (4, 3, 5)
    mean, log_var = gaussian.apply(gaussian.init(KEY, y), y)
    assert mean.shape == log_var.shape == (4, 3, 5)


def test_blocks_of_pixels_become_channels_and_come_back():
    """Truth: the four pixels of each block, picked by hand."""
    x = jnp.arange(2 * 4 * 6 * 3.0).reshape(2, 4, 6, 3)
    channels = networks._blocks_to_channels(x)
    assert channels.shape == (2, 2, 3, 12)
    for i, (row, column) in enumerate([(0, 0), (0, 1), (1, 0), (1, 1)]):
        np.testing.assert_array_equal(channels[..., 3 * i : 3 * i + 3], x[:, row::2, column::2])
    np.testing.assert_array_equal(networks._channels_to_blocks(channels), x)


def test_a_shared_variance_is_one_number_and_none_is_none():
    z = jnp.ones((4, 2))
    shared = networks.GaussianDecoder((8,), dim=5, variance="shared")
    params = shared.init(jax.random.key(0), z)
    params["params"]["log_var"] = jnp.array(1.5)
    mean, var = shared.apply(params, z)
    np.testing.assert_allclose(var, np.full((4, 5), np.exp(1.5)), rtol=1e-6)
    bare = networks.GaussianDecoder((8,), dim=5, variance="none")
    del params["params"]["log_var"]
    np.testing.assert_array_equal(bare.apply(params, z)[0], mean)
    assert bare.apply(params, z)[1] is None


@pytest.mark.parametrize(
    "make",
    [
        lambda variance: GaussianDecoder((5,), dim=3, variance=variance),
        lambda variance: networks.ConvGaussianDecoder((4, 4), variance=variance),
    ],
)
def test_a_misspelt_variance_is_refused_and_not_taken_for_none(make, monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # as a user has it
    with pytest.raises(ValueError, match="one of each, shared, none, got 'Each'"):
        make("Each")


def test_a_convolution_of_colours_keeps_each_channel_in_its_place():
    """Truth: with a last kernel of zeros the bias of a colour is that colour everywhere."""
    decoder = networks.ConvGaussianDecoder((5, 6, 3), channels=(4, 4), width=8, variance="none")
    z = jnp.ones((2, 3))
    params = decoder.init(KEY, z)
    last = params["params"]["Conv_1"]
    assert last["bias"].shape == (4 * 3,)
    logits = np.array([-1.0, 0.5, 2.0])
    zeros = jnp.zeros_like(last["kernel"])
    params["params"]["Conv_1"] = {"kernel": zeros, "bias": jnp.tile(logits, 4)}
    mean = decoder.apply(params, z)[0].reshape(2, 5, 6, 3)
    np.testing.assert_allclose(mean, np.broadcast_to(1 / (1 + np.exp(-logits)), mean.shape), 1e-5)


def test_one_channel_is_no_channel():
    """Truth: the same network without the axis, to the bit."""
    y = jax.random.uniform(KEY, (2, 20))
    for shapes, make in (
        (((4, 5), (4, 5, 1)), lambda shape: networks.ConvGaussianEncoder(shape, 3, width=8)),
        (((4, 5), (4, 5, 1)), lambda shape: networks.ConvGaussianDecoder(shape, width=8)),
    ):
        plain, deep = (make(shape) for shape in shapes)
        params = plain.init(KEY, y)
        for one, other in zip(plain.apply(params, y), deep.apply(params, y), strict=True):
            np.testing.assert_array_equal(one, other)
