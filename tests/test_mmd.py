import numpy as np
import pytest
from scipy import integrate, stats

import spread_jax as sj
from spread_jax.oracles import GaussianMixture, sample_mixture, spread_log_prob

SIGMA = 0.4
P = GaussianMixture(np.array([0.3, 0.7]), np.array([[-1.0], [0.5]]), np.array([[0.0], [0.2]]))
Q = GaussianMixture(np.ones(1), np.array([[0.2]]), np.array([[0.6]]))


def atoms(x):
    return GaussianMixture(np.full(len(x), 1 / len(x)), x, np.zeros_like(x))


def test_the_closed_form_is_scipys_quadrature():
    """∫ (p~ - q~)² dy, and by the definition of the convolved kernel, E k with k = K ∗ K."""

    def difference_squared(y):
        p, q = (np.exp(spread_log_prob(np.array([[y]]), law, SIGMA)[0]) for law in (P, Q))
        return (p - q) ** 2

    truth = integrate.quad(difference_squared, -8, 8, points=[-1, 0.5], epsabs=1e-13, limit=200)[0]
    assert sj.squared_l2_distance(P, Q, SIGMA) == pytest.approx(truth, rel=1e-10)


def test_the_convolved_kernel_is_the_convolution():
    """(K ∗ K)(d) by scipy's quadrature; two atoms d apart are 2 (k(0) - k(d)) from each other."""

    def k(d):
        return integrate.quad(
            lambda u: stats.norm.pdf(u, 0, SIGMA) * stats.norm.pdf(d - u, 0, SIGMA), -6, 6
        )[0]

    value = sj.mmd_squared(np.zeros((1, 1)), np.full((1, 1), 0.7), SIGMA)
    assert value == pytest.approx(2 * (k(0) - k(0.7)), rel=1e-9)


@pytest.mark.parametrize("dim", [1, 3])
def test_atoms_are_the_same_by_kernel_sums_and_by_the_mixtures(dim):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(7, dim)), rng.normal(size=(5, dim)) + 0.3
    by_sums = sj.mmd_squared(x, y, SIGMA)
    assert by_sums == pytest.approx(sj.squared_l2_distance(atoms(x), atoms(y), SIGMA), rel=1e-12)
    assert sj.mmd_squared(x, x, SIGMA) == pytest.approx(0, abs=1e-15)


def test_blocks_do_not_change_the_sums(monkeypatch):
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(40, 2)), rng.normal(size=(30, 2))
    whole = sj.mmd_squared(x, y, SIGMA)
    monkeypatch.setattr("spread_jax.mmd.BLOCK", 100)
    assert sj.mmd_squared(x, y, SIGMA) == pytest.approx(whole, rel=1e-13)


@pytest.mark.slow
def test_the_unbiased_estimate_is_the_mixtures_distance_on_average():
    """Monte Carlo within 5 standard errors, 400 pairs of samples; the other is too large by
    ((k(0) - E k(x, x')) / n + the same of y / m)."""
    rng = np.random.default_rng(2)
    pairs = [(sample_mixture(rng, 30, P), sample_mixture(rng, 20, Q)) for _ in range(400)]
    truth = sj.squared_l2_distance(P, Q, SIGMA)
    estimates = np.array([sj.mmd_squared(x, y, SIGMA, unbiased=True) for x, y in pairs])
    error = estimates.std(ddof=1) / np.sqrt(len(pairs))
    assert abs(estimates.mean() - truth) < 5 * error

    peak = (4 * np.pi * SIGMA**2) ** -0.5
    nothing = GaussianMixture(np.zeros(1), np.zeros((1, 1)), np.ones((1, 1)))
    own = [sj.squared_l2_distance(law, nothing, SIGMA) for law in (P, Q)]  # E k(x, x')
    bias = (peak - own[0]) / 30 + (peak - own[1]) / 20
    biased = np.array([sj.mmd_squared(x, y, SIGMA) for x, y in pairs])
    error = biased.std(ddof=1) / np.sqrt(len(pairs))
    assert abs(biased.mean() - truth - bias) < 5 * error


def test_what_has_no_value_is_refused():
    x = np.zeros((5, 2))
    with pytest.raises(ValueError, match="sigma_fix must be finite and > 0"):
        sj.mmd_squared(x, x, 0.0)
    with pytest.raises(ValueError, match=r"\[n, dim\] and \[m, dim\]"):
        sj.mmd_squared(x, np.zeros((5, 3)), SIGMA)
    with pytest.raises(ValueError, match="too few points: 1 and 5"):
        sj.mmd_squared(x[:1], x, SIGMA, unbiased=True)
    with pytest.raises(ValueError, match=r"784 dimensions at sigma_fix 0\.1"):
        sj.mmd_squared(np.zeros((5, 784)), np.zeros((5, 784)), 0.1)
    with pytest.raises(ValueError, match="sigma_fix must be finite and > 0"):
        sj.squared_l2_distance(P, Q, -1.0)
