"""Keys of the compiled steps. Truth: jax.random's own numbers, to the bit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from spread_jax.sweeps import keys
from spread_jax.sweeps.keys import wrap_key

RAW = jax.random.key_data(jax.random.key(7))


def both(draw):
    """What ``draw`` makes of the faster key, and of JAX's."""
    return draw(wrap_key(RAW)), draw(jax.random.wrap_key_data(RAW))


def test_on_a_cpu_the_key_is_the_faster_one():
    assert wrap_key(RAW).dtype != jax.random.key(7).dtype
    np.testing.assert_array_equal(jax.random.key_data(wrap_key(RAW)), RAW)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "uint32"])
@pytest.mark.parametrize("shape", [(), (1,), (2,), (5,), (3, 7), (4, 0), (2, 3, 4)])
def test_bits_are_jaxs(shape, dtype):
    ours, theirs = both(lambda key: jax.random.bits(key, shape, dtype))
    assert ours.dtype == theirs.dtype
    np.testing.assert_array_equal(ours, theirs)


def test_bits_of_64_are_jaxs():
    with jax.enable_x64(True):
        ours, theirs = both(lambda key: jax.random.bits(key, (5,), "uint64"))
        assert ours.dtype == "uint64"
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("shape", [1, 2, (3, 2)])
def test_keys_that_are_split_off_are_jaxs(shape):
    ours, theirs = both(lambda key: jax.random.key_data(jax.random.split(key, shape)))
    np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("number", [0, 1, 123_456, 2**32 - 1])
def test_keys_with_a_number_folded_in_are_jaxs(number):
    number = np.uint32(number)
    ours, theirs = both(lambda key: jax.random.key_data(jax.random.fold_in(key, number)))
    np.testing.assert_array_equal(ours, theirs)


def test_draws_under_vmap_and_scan_are_jaxs():
    def drawn(wrap):
        def run(raw):
            def step(total, i):
                key = jax.random.fold_in(wrap(raw), i)
                return total + jax.random.bits(key, (5, 3)), None

            return jax.lax.scan(step, jnp.zeros((5, 3), "uint32"), jnp.arange(4))[0]

        return jax.jit(jax.vmap(run))(jnp.arange(6, dtype="uint32").reshape(3, 2))

    np.testing.assert_array_equal(drawn(wrap_key), drawn(jax.random.wrap_key_data))


@pytest.mark.parametrize("draw", [jax.random.normal, jax.random.uniform, jax.random.rademacher])
def test_draws_of_a_law_are_jaxs(draw):
    np.testing.assert_array_equal(*both(lambda key: draw(key, (100,))))


@pytest.mark.parametrize(
    "chosen", [jax.default_prng_impl("rbg"), jax.threefry_partitionable(False)], ids=["rbg", "old"]
)
def test_where_the_user_chose_other_numbers_the_key_is_jaxs(chosen):
    with chosen:
        raw = jax.random.key_data(jax.random.key(7))
        assert wrap_key(raw).dtype == jax.random.key(7).dtype


def test_another_platform_has_jaxs_key(monkeypatch):
    monkeypatch.setattr(keys.jax, "default_backend", lambda: "gpu")
    assert wrap_key(RAW).dtype == jax.random.key(7).dtype
