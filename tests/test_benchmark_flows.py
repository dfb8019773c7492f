"""The benchmark of flows: its laws, the arms that share a training, and the files it writes."""

import json
import math
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import spread_jax as sj
from benchmarks import flows, flows_report
from spread_jax.cli import command

MISSING = "flowjax is not installed: pip install -e '.[flows]'"


@pytest.mark.parametrize(
    ("name", "dim"),
    [("ring", 2), ("spiral", 2), ("ring20", 20), ("spiral20", 20), ("repeated", 24)],
)
def test_data_lie_on_their_curve_in_all_columns(name, dim):
    of = flows.law(name)
    data = of.dataset()
    assert data.train.shape == (10_000, of.dim) == (10_000, dim)
    assert data.test.shape == (flows.HELD_OUT, dim)
    assert of.off_curve(data.test[:100]).max() < 2e-3  # as fine as distance_to_spiral is
    assert np.ptp(data.test, axis=0).min() > 0.01


def test_distances_from_an_embedded_ring():
    """By hand: a point half a unit outside the ring in its plane, and 0.3 off the plane; of the
    ring with copied columns a length in the plane counts √12 times."""
    for name, length in (("ring20", 1.0), ("repeated", math.sqrt(flows.COPIES))):
        of = flows.law(name)
        within = np.array([1.5, 0.0]) @ of.matrix
        normal = np.random.default_rng(0).normal(size=of.dim)
        normal -= of.in_plane(normal[None])[0] @ of.matrix
        x = (within + 0.3 * normal / np.linalg.norm(normal))[None].astype(np.float32)
        np.testing.assert_allclose(of.in_plane(x), [[1.5, 0.0]], atol=1e-5)
        assert of.off_plane(x)[0] == pytest.approx(0.3, abs=1e-5)
        assert of.from_curve_in_plane(x)[0] == pytest.approx(0.5, abs=1e-5)
        assert of.off_curve(x)[0] == pytest.approx(math.hypot(0.5 * length, 0.3), abs=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "empty"), [("ring", 0), ("ring20", 18)])
def test_the_best_possible_likelihood_is_that_of_the_spread_ring(name, empty):
    """Truth: -log 2π - ½ (1 + empty) log 2πeσ², but for σ² and for the chance of 20,000 draws,
    whose numbers have a standard deviation of 1/√2."""
    settings = flows.Settings()
    reference = flows.reference(settings, flows.law(name).dataset())
    of_normal = 0.5 * math.log(2 * math.pi * math.e * settings.sigma_fix**2)
    truth = -math.log(2 * math.pi) - (1 + empty) * of_normal
    error = math.sqrt(0.5 / flows.ENTROPY_DRAWS)
    assert abs(reference["test_bound"] - truth) < 5 * error + settings.sigma_fix**2


@pytest.mark.slow
def test_the_arms_clean_the_same_draws():
    """Truth: of N(0, s² I) under noise σ, s = 0.05 and σ = 0.1: draws have a standard deviation of
    √(s² + σ²), Tweedie's of s² / √(s² + σ²), clean_samples' of s; within 5 / √2n of it."""
    s, sigma = 0.05, 0.1
    wide = math.hypot(s, sigma)
    model = sj.density_model(
        init=lambda key: jnp.ones(()),
        log_prob=lambda params, y: jax.scipy.stats.norm.logpdf(y, scale=params).sum(axis=-1),
        sample=lambda params, key, n: params * jax.random.normal(key, (n, 2)),
    )
    expected = dict(zip(flows_report.ARMS, (wide, wide, s**2 / wide, s), strict=True))
    spread, n = sj.gaussian_spread(sigma), 5_000
    for name, (share, sampler) in flows.arms(model).items():
        assert (share > 0) == (name != "no noise")
        x = sampler.sample(jnp.asarray(wide), jax.random.key(0), n, spread)
        assert abs(float(x.std()) / expected[name] - 1) < 5 / math.sqrt(4 * n)


@pytest.mark.slow
def test_the_flow_of_flowjax_is_a_density_of_the_plane_for_every_seed():
    """Truths: the trapezoidal rule; another library's own log_prob of a flow built alone."""
    pytest.importorskip("flowjax", reason=MISSING)
    with jax.numpy_rank_promotion("allow"):
        model = flows.flow("flowjax", 2)
        stacked = jax.vmap(model.init)(jax.random.split(jax.random.key(0), 3))
        first, second = (jax.tree.map(lambda leaf, i=i: leaf[i], stacked) for i in (0, 1))
        axis = jnp.linspace(-9.0, 9.0, 301)
        grid = jnp.stack(jnp.meshgrid(axis, axis), axis=-1)
        density = np.exp(model.log_prob(second, grid))
        assert (model.log_prob(first, grid) != model.log_prob(second, grid)).any()
        assert model.draw(first, jax.random.key(1), 7).shape == (7, 2)
    total = np.trapezoid(np.trapezoid(density, axis), axis)
    assert total == pytest.approx(1, abs=1e-3)


def run_flows(monkeypatch, out, *flags):
    monkeypatch.setattr(flows, "start_jax", lambda settings: None)  # JAX has begun
    monkeypatch.setattr(flows, "HELD_OUT", 200)
    monkeypatch.setattr(flows, "NUM_SAMPLES", 100)
    short = ["--steps", "30", "--seeds", "2", "--quiet", "--out", str(out)]
    monkeypatch.setattr(sys, "argv", ["flows.py", *flags, *short])
    with jax.numpy_rank_promotion("allow"):  # as flowjax does
        command.main(flows.Settings, flows.run)
    return json.loads((out / "metrics.json").read_text(), parse_constant=pytest.fail)


@pytest.mark.slow
@pytest.mark.parametrize("flow", ["small", "flowjax"])
def test_the_command_keeps_the_contract_of_its_files(flow, tmp_path, monkeypatch, capsys):
    """One training serves three arms: they have its likelihood, and samples of their own."""
    if flow == "flowjax":
        pytest.importorskip("flowjax", reason=MISSING)
    results = run_flows(monkeypatch, tmp_path, "--flows", flow, "--data", "ring", "repeated")
    assert {path.name for path in tmp_path.iterdir()} == {"metrics.json", "flows.png"}
    assert [cell["arm"] for cell in results["cells"]] == [*flows_report.ARMS] * 2
    plain, noisy, *cleaned = results["cells"][4:]
    assert plain["test_bound"] != noisy["test_bound"]
    assert len({cell["off_curve"][0] for cell in (noisy, *cleaned)}) == 3
    for cell in results["cells"]:
        assert len(cell["test_bound"]) == len(cell["energy_distance"]) == 2
        assert cell["nonfinite"] == [False, False]
        assert cell["median_off_curve"] > 0
        assert cell["median_test_bound"] < results["reference"][cell["data"]]["test_bound"]
    for cell in (noisy, *cleaned):
        assert cell["test_bound"] == noisy["test_bound"]
        assert cell["max_loss_rise"] == noisy["max_loss_rise"]
    titles, *rows = results["tables"]["distance"]
    assert len(rows) == 2
    assert titles.split(" | ")[1:] == [*flows_report.ARMS]
    assert "in data units" in capsys.readouterr().out


def test_rows_of_the_tables_are_worked_out_by_hand():
    """Two seeds, of which one broke: it counts as the worst."""

    def of(name, middle, low, high):
        return {f"median_{name}": middle, f"{name}_interval": [low, high]}

    numbers = {
        **of("test_bound", -1.0, None, 0.5),
        **of("off_curve", 0.25, 0.125, 12345.6),
        **of("energy_distance", 0.1, 0.05, None),
        "median_max_loss_rise": 12.0,
    }
    law = {"data": "ring", "title": "ring", "flow": "small", "dim": 2}
    cells = [{**law, "arm": arm, **numbers} for arm in flows_report.ARMS]
    reference = {"ring": {"test_bound": 0.75, "energy_distance": 0.03}}
    assert list(flows_report.likelihood(cells, reference)) == [
        "nats a point | log p̃: no noise | log p̃: noise | largest rise of the loss: no noise | "
        "largest rise of the loss: noise | best possible",
        "ring: small | -1.00 [-, 0.50] | -1.00 [-, 0.50] | 12 | 12 | 0.75",
    ]
    row = "ring: small" + " | 0.25 [0.125, 12,346]" * 4
    assert list(flows_report.distance(cells))[1:] == [row]
    row = "ring: small" + " | 0.1 [0.05, -]" * 4 + " | 0.03"
    assert list(flows_report.energy(cells, reference))[1:] == [row]


@pytest.mark.parametrize(
    ("flags", "accepted"),
    [
        (["--seeds", "0"], "at least 1"),
        (["--sigma-fix", "0"], "a number above 0"),
        (["--steps", "0"], "1 to"),
        (["--data", "ring", "ring"], "given once each"),
    ],
)
def test_bad_values_are_named(flags, accepted, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["flows.py", *flags])
    with pytest.raises(SystemExit) as exit:
        command.main(flows.Settings, flows.run)
    assert exit.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {flags[0]} ")
    assert accepted in error
    assert not list(tmp_path.iterdir())


def test_without_flowjax_it_says_how_to_get_it(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["flows.py"])
    monkeypatch.setattr(flows.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SystemExit) as exit:
        command.main(flows.Settings, flows.run)
    assert exit.value.code == 2
    assert (
        "--flows flowjax: must be installed: pip install -e '.[flows]'" in capsys.readouterr().err
    )
