import numpy as np
import pytest
from scipy import integrate

from spread_jax import is_valid_spread

FREQUENCIES = np.linspace(-20, 20, 2001)


def gaussian(sigma):
    return lambda k: np.exp(-0.5 * (sigma * k) ** 2)


def laplace(k):
    return 1 / (1 + k**2)


def uniform(k):
    """Of the uniform law on [-1, 1]."""
    return np.sinc(k / np.pi)


def band_limited(k):
    """Of the density (1 - cos x)/(π x²)."""
    return np.maximum(1 - np.abs(k), 0)


def test_gaussian_and_laplace_are_never_zero():
    for transform, smallest in ((gaussian(0.3), np.exp(-18)), (laplace, 1 / 401)):
        found = is_valid_spread(transform, FREQUENCIES)
        assert found
        assert found.verdict == "yes"
        assert found.frequencies == (-20, 20)
        assert found.zeros == ()
        np.testing.assert_allclose(found.condition, 1 / smallest, rtol=1e-9)


def test_uniform_is_valid_with_isolated_zeros_and_badly_conditioned():
    found = is_valid_spread(uniform, FREQUENCIES)
    assert found.verdict == "yes"
    assert found.condition == np.inf
    multiples = np.pi * np.arange(1, 7)
    np.testing.assert_allclose(found.zeros, [*-multiples[::-1], *multiples], rtol=1e-9)


def test_isolated_zeros_without_a_change_of_sign_are_found():
    """sinc², the triangular law's, and a complex one: a shifted coin's."""
    for transform, zero in (
        (lambda k: uniform(k) ** 2, np.pi),
        (lambda k: np.exp(0.3j * k) * np.cos(k), np.pi / 2),
    ):
        found = is_valid_spread(transform, np.linspace(0.5, 3.5, 200))
        assert found.verdict == "yes"
        np.testing.assert_allclose(found.zeros, [zero], rtol=1e-5)


def test_band_limited_law_is_not_valid():
    found = is_valid_spread(band_limited, FREQUENCIES)
    assert not found
    assert found.verdict == "no"
    np.testing.assert_allclose(np.abs(found.gap), [20, 1], atol=0.02)


def test_five_zeros_in_a_row_at_either_end_are_an_interval():
    """Truth: the law has no frequency beyond 1; five of the 101 lie on each side of that."""
    assert is_valid_spread(band_limited, np.linspace(-1.1, 1.1, 101)).verdict == "no"


def test_two_laws_that_the_band_limited_noise_cannot_tell_apart():
    """p has the density (1 - cos x)/(π x²); q is discrete, 1/2 at 0 and 2/((2j+1)²π²) at
    ±(2j+1)π, with the c.f. of p repeated with period 2. Both agree on [-1, 1], where alone the
    noise lets them through: the spread densities are the same, by two routes, p by quadrature of
    ∫ (1-k)² cos(ky) dk/π, q by summing the noise's density over its points."""

    def density(x):
        return np.sinc(x / (2 * np.pi)) ** 2 / (2 * np.pi)

    np.testing.assert_allclose(density(2.0), (1 - np.cos(2.0)) / (np.pi * 4.0), rtol=1e-12)
    odd = 2 * np.arange(20_000) + 1
    masses = 2 / (odd * np.pi) ** 2
    np.testing.assert_allclose(0.5 + 2 * masses.sum(), 1, atol=2e-5)
    for y in (0.0, 1.0, np.pi, 10.0):
        spread_p = integrate.quad(lambda k, y=y: (1 - k) ** 2 * np.cos(k * y), 0, 1)[0] / np.pi
        spread_q = 0.5 * density(y) + np.sum(
            masses * (density(y - odd * np.pi) + density(y + odd * np.pi))
        )
        np.testing.assert_allclose(spread_p, spread_q, rtol=1e-7)
    # yet the clean laws differ: q has half its mass at 0, p none
    # and Laplace noise tells them apart, at a frequency beyond 1
    k = 1.5
    p_transform, q_transform = 0.0, 0.5 + 2 * np.sum(masses * np.cos(k * odd * np.pi))
    assert abs(laplace(k) * (p_transform - q_transform)) > 0.1


@pytest.mark.parametrize(
    ("transform", "words"),
    [
        (gaussian(1.0), "decays below rounding"),
        (gaussian(10.0), "decays below rounding"),
        (lambda k: np.cos(500 * k), "more points"),
        (lambda k: np.where(k > 3, np.nan, 0.5), "not one finite number"),
        (lambda k: 1.0, "not one finite number"),
        (
            lambda k: np.where(np.abs(k) < 1, np.exp(1 - 1 / np.maximum(1 - k**2, 1e-9)), 0),
            "decays below rounding",
        ),
    ],
)
def test_what_cannot_be_told_is_said(transform, words):
    found = is_valid_spread(transform, FREQUENCIES)
    assert found.verdict == "cannot tell"
    assert not found
    assert words in found.reason


def test_a_range_on_which_it_is_zero_throughout_is_refused_as_noise():
    assert is_valid_spread(band_limited, np.linspace(2, 3, 50)).verdict == "no"


@pytest.mark.parametrize(
    "frequencies", [np.zeros(10), np.arange(3.0), np.array([np.nan] * 9), np.ones((3, 3))]
)
def test_frequencies_that_are_no_range_are_refused(frequencies):
    with pytest.raises(ValueError, match="ascending"):
        is_valid_spread(laplace, frequencies)


def test_what_is_no_characteristic_function_is_refused():
    with pytest.raises(ValueError, match="must not exceed 1"):
        is_valid_spread(lambda k: 1 + k**2, FREQUENCIES)


def test_decay_below_rounding_between_two_points_is_no_gap():
    """Laws with a c.f. that is nowhere zero, on grids whose steps leap over the decay."""
    for transform, k in (
        (gaussian(1.0), np.linspace(5, 50, 10)),
        (gaussian(1.0), np.linspace(4, 100, 50)),
        (gaussian(1.0), np.linspace(-100, -4, 50)),
        (gaussian(1.0), np.linspace(10, 50, 50)),  # below rounding everywhere
        (lambda k: np.exp(-np.abs(k)), np.linspace(20, 200, 10)),
        (lambda k: np.exp(-np.abs(k)), np.linspace(28, 200, 10)),
    ):
        assert is_valid_spread(transform, k).verdict == "cannot tell"


def test_gap_that_begins_by_decay_on_one_side_is_not_told():
    """Gaussian and three triangles: nowhere zero, though the triangles end abruptly."""

    def transform(k):
        triangles = band_limited(k) + 0.5 * band_limited(k - 20) + 0.5 * band_limited(k + 20)
        return 0.5 * gaussian(1.0)(k) + 0.5 * triangles

    assert is_valid_spread(transform, np.linspace(-30, 30, 6001)).verdict == "cannot tell"


@pytest.mark.parametrize("power", [1, 2])
def test_band_limited_laws_stay_invalid_on_any_grid(power):
    """The triangle, and its square, which is the c.f. of a sum of two: both zero beyond 1."""
    for k in (
        np.linspace(-20, 20, 401),
        np.linspace(-20, 20, 40_001),
        np.linspace(0.9, 1.1, 200_001),
        np.linspace(-1.1, 1.1, 101),
        np.linspace(2, 3, 50),
        np.linspace(-3, -2, 50),
    ):
        assert is_valid_spread(lambda k: band_limited(k) ** power, k).verdict == "no"


def test_a_removable_singularity_at_zero_does_no_harm():
    """The logistic law's c.f. π k s / sinh(π k s), never zero: 0/0 at 0 and half-way."""

    def transform(k):
        return np.pi * 0.2 * k / np.sinh(np.pi * 0.2 * k)

    for k in (np.linspace(-20, 20, 2001), np.linspace(-20, 20, 2000)):
        found = is_valid_spread(transform, k)
        assert found.verdict == "yes"
        np.testing.assert_allclose(found.condition, 1 / transform(20.0), rtol=1e-3)


def test_first_frequency_without_a_number_is_named():
    found = is_valid_spread(
        lambda k: np.where(k > 1, np.nan, 1.0), np.array([0, 0.5, 1, *range(2, 9)])
    )
    assert found.verdict == "cannot tell"
    assert "nan at 2" in found.reason
