import json
import sys

import numpy as np
import pytest
from scipy import integrate, stats

from experiments import divergences
from spread_jax import point_divergence, spread_divergence
from spread_jax.cli import command
from spread_jax.divergences import divergence_curves
from spread_jax.oracles import GaussianMixture, merged, spread_kl
from spread_jax.problems import two_mode_mixture

NAMES = ("kl", "reverse_kl", "js", "tv", "hellinger")


def gaussian(mean, std):
    return GaussianMixture(np.ones(1), np.array([mean]), np.array([std]))


def integrand(name, p, q):
    if name == "kl":
        return p * np.log(p / q)
    if name == "reverse_kl":
        return q * np.log(q / p)
    if name == "js":
        m = (p + q) / 2
        return 0.5 * (p * np.log(p / m) + q * np.log(q / m))
    return {"tv": 0.5 * abs(p - q), "hellinger": 0.5 * (np.sqrt(p) - np.sqrt(q)) ** 2}[name]


@pytest.mark.parametrize("name", NAMES)
def test_two_points_by_scipys_quadrature(name):
    sigma = 0.4
    for distance in (0.0, 0.1, 0.8, 2.0):

        def at(y, distance=distance):
            return integrand(name, stats.norm.pdf(y, 0, sigma), stats.norm.pdf(y, distance, sigma))

        expected = integrate.quad(at, -5, 7, points=[distance / 2], epsabs=1e-12, limit=200)[0]
        value, _ = point_divergence(np.array([distance]), sigma, name)
        np.testing.assert_allclose(value[0], expected, rtol=1e-8, atol=1e-12)
        of_mixtures = spread_divergence(
            gaussian([0.0], [0.0]), gaussian([distance], [0.0]), sigma, name
        )
        np.testing.assert_allclose(of_mixtures, expected, rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_slope_of_two_points_is_the_difference_quotient(name):
    distance, step = np.array([0.05, 0.4, 1.5]), 1e-5
    high, low = (point_divergence(distance + s, 0.4, name)[0] for s in (step, -step))
    np.testing.assert_allclose(
        point_divergence(distance, 0.4, name)[1], (high - low) / (2 * step), rtol=1e-6
    )


def test_curves_are_those_of_each_name_and_sigma():
    """Truth: point_divergence, one by one."""
    distance, sigmas = np.linspace(0, 1, 4), [0.0, 0.2]
    curves = divergence_curves(distance, sigmas)
    assert set(curves["name"].values) == set(NAMES)
    for name in NAMES:
        for sigma in sigmas:
            value, slope = point_divergence(distance, sigma, name)
            curve = curves.sel(name=name, sigma_fix=sigma)
            np.testing.assert_array_equal(curve["divergence"], value)
            np.testing.assert_array_equal(curve["slope"], slope)


def test_without_a_spread_there_is_no_slope():
    distance = np.array([0.0, 1e-6, 1.0])
    values = {"kl": np.inf, "reverse_kl": np.inf, "js": np.log(2), "tv": 1.0, "hellinger": 1.0}
    for name, far in values.items():
        value, slope = point_divergence(distance, 0.0, name)
        np.testing.assert_array_equal(value, [0, far, far])
        assert np.isnan(slope[0])
        assert np.isnan(slope[1:]).all() if far == np.inf else (slope[1:] == 0).all()


@pytest.mark.parametrize("name", NAMES)
def test_mixtures_on_a_line_by_scipys_quadrature(name):
    sigma = 0.3
    p = GaussianMixture(np.array([0.3, 0.7]), np.array([[-1.0], [1.0]]), np.array([[0.0], [0.2]]))
    q = GaussianMixture(np.array([0.5, 0.5]), np.array([[-0.5], [1.2]]), np.array([[0.3], [0.0]]))

    def density(m, y):
        scale = np.sqrt(m.stds[:, 0] ** 2 + sigma**2)
        return np.sum(m.weights * stats.norm.pdf(y, m.means[:, 0], scale))

    expected = integrate.quad(
        lambda y: integrand(name, density(p, y), density(q, y)), -5, 5, epsabs=1e-10, limit=500
    )[0]
    tolerance = 1e-4 if name == "tv" else 1e-7  # |p - q| has kinks
    found = spread_divergence(p, q, sigma, name)
    np.testing.assert_allclose(found, expected, rtol=tolerance)


def as_two(m):
    """The same law as a mixture of two equal halves, which no closed form knows."""
    return GaussianMixture(np.full(2, 0.5), np.repeat(m.means, 2, 0), np.repeat(m.stds, 2, 0))


def test_in_the_plane_kl_is_the_oracles_and_the_closed_forms_are_the_quadratures():
    p = two_mode_mixture()
    found = spread_divergence(p, merged(p), 0.3, "kl")
    np.testing.assert_allclose(found, spread_kl(p, merged(p), 0.3), rtol=1e-4)
    a, b = gaussian([0.0, 1.0], [0.5, 0.0]), gaussian([0.4, 0.0], [0.0, 2.0])
    for name in ("kl", "reverse_kl", "hellinger"):
        closed = spread_divergence(a, b, 0.3, name)
        np.testing.assert_allclose(spread_divergence(as_two(a), b, 0.3, name), closed, rtol=1e-8)


def test_total_variation_of_equal_ellipses_is_the_quadratures():
    """Truth: the trapezoidal rule, whose integrand |p - q| has a kink."""
    a, b = gaussian([0.0, 0.0], [0.5, 2.0]), gaussian([0.4, 1.0], [0.5, 2.0])
    closed = spread_divergence(a, b, 0.3, "tv")
    np.testing.assert_allclose(spread_divergence(as_two(a), b, 0.3, "tv"), closed, rtol=1e-4)


def test_equal_laws_are_at_distance_zero():
    for name in NAMES:
        assert abs(spread_divergence(two_mode_mixture(), two_mode_mixture(), 0.3, name)) < 1e-12


@pytest.mark.parametrize(
    ("sigma", "name", "words"),
    [(0.0, "kl", "no density"), (-1.0, "kl", "finite and > 0")],
)
def test_bad_arguments_are_refused(sigma, name, words):
    with pytest.raises(ValueError, match=words):
        spread_divergence(two_mode_mixture(), two_mode_mixture(), sigma, name)
    with pytest.raises(ValueError, match="sigma_fix must be finite and >= 0, got -1"):
        point_divergence(0.1, -1.0, name)


@pytest.mark.usefixtures("as_users_run_it")
def test_an_unknown_name_is_refused():
    with pytest.raises(ValueError, match=r"must be one of kl, .* got 'chi'"):
        point_divergence(np.ones(1), 0.1, "chi")


def test_too_many_dimensions_are_refused():
    p = GaussianMixture(np.full(2, 0.5), np.zeros((2, 5)), np.ones((2, 5)))
    with pytest.raises(ValueError, match="one or two dimensions"):
        spread_divergence(p, p, 0.1, "js")


def test_the_command_writes_its_files(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["divergences.py", "--out", str(tmp_path)])
    command.main(divergences.Settings, divergences.run)
    said = capsys.readouterr().out
    assert "largest slope" in said
    assert [" ".join(line.split()) for line in said.splitlines() if "tv" in line] == [
        "│ tv │ none │ 3.98 │ 1.33 │ 0.399 │"
    ]
    assert {p.name for p in tmp_path.iterdir()} == {"metrics.json", "results.nc", "divergences.png"}
    largest = json.loads((tmp_path / "metrics.json").read_text(), parse_constant=pytest.fail)
    assert largest["largest_slope"]["kl"]["0"] is None
    np.testing.assert_allclose(
        largest["largest_slope"]["tv"]["0.1"], 1 / (0.1 * np.sqrt(2 * np.pi)), rtol=1e-2
    )


@pytest.mark.parametrize(
    "flags", [["--sigma-fix", "-1"], ["--sigma-fix", "1", "1"], ["--max-distance", "0"]]
)
def test_a_bad_flag_is_named_in_one_line(flags, tmp_path, monkeypatch, capsys):
    out = tmp_path / "out"
    monkeypatch.setattr(sys, "argv", ["divergences.py", *flags, "--out", str(out)])
    with pytest.raises(SystemExit) as exit:
        command.main(divergences.Settings, divergences.run)
    error = capsys.readouterr().err
    assert exit.value.code == 2
    assert error.startswith(f"error: {flags[0]} ")
    assert error.count("\n") == 1
    assert not out.exists()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("sigma", [0.0, 0.1])
def test_a_number_is_a_distance_too_and_none_is_negative(name, sigma):
    """Truth: the same distance in an array."""
    with np.errstate(all="ignore"):
        of_number, of_array = (point_divergence(d, sigma, name) for d in (0.2, np.array([0.2])))
    np.testing.assert_array_equal(np.ravel(of_number), np.ravel(of_array))
    with pytest.raises(ValueError, match=r"distance must be >= 0, got -0\.1"):
        point_divergence(np.array([0.2, -0.1]), sigma, name)
