import json
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr

from experiments import learned_spread
from spread_jax import figures, over_seeds
from spread_jax.cli import command


@pytest.fixture(scope="module")
def ring():
    data, latent_dim = learned_spread.load("ring")
    assert data.train.shape == (10_000, 20)
    assert data.test.shape == data.validation.shape == (1000, 20)
    np.testing.assert_allclose(np.linalg.norm(data.train, axis=1), 1, rtol=1e-5)
    return data.train, latent_dim


def training_of(settings, ring, label):
    x, latent_dim = ring
    found = {arm[0]: arm[3] for arm in learned_spread.arms(settings, x.shape[1], latent_dim)}
    training = found[label]
    state = jax.jit(training.init)(jax.random.key(0), {})
    step = jax.jit(lambda state: training.train_step(state._replace(data=jnp.asarray(x))))
    return state, step


@pytest.mark.slow
def test_noise_climbs_every_sixth_step_and_the_model_rests_then(ring):
    """By the parameters after each step."""
    settings = learned_spread.Settings(steps=6, hidden=(8,))
    state, step = training_of(settings, ring, "learned covariance")
    moved = []
    for _ in range(12):
        before, (state, _) = state.params, step(state)
        change = jax.tree.map(lambda a, b: np.abs(a - b).max(), before, state.params)
        moved.append({name: max(jax.tree.leaves(part)) > 0 for name, part in change.items()})
    assert [m["noise"] for m in moved] == ([False] * 5 + [True]) * 2
    assert [m["vae"] for m in moved] == ([True] * 5 + [False]) * 2


@pytest.mark.slow
def test_with_fixed_noise_every_step_is_the_models(ring):
    """An equal number of steps in all: the fixed arm rests at none of them."""
    state, step = training_of(
        learned_spread.Settings(steps=6, hidden=(8,)), ring, "fixed N(0, σ² I)"
    )
    for _ in range(12):
        before, (state, _) = state.params, step(state)
        change = jax.tree.map(lambda a, b: np.abs(a - b).max(), before, state.params)
        assert max(jax.tree.leaves(change)) > 0


@pytest.mark.slow
def test_a_step_of_the_noise_raises_the_loss(ring):
    """On the same key and batch, for a small step along the noise's own gradient."""
    settings = learned_spread.Settings(
        steps=6, hidden=(8,), model_steps=1, noise_learning_rate=1e-2
    )
    state, step = training_of(settings, ring, "learned covariance")
    state, _ = step(state)  # the model's
    after, _ = step(state)  # the noise's
    raised = state._replace(params={**state.params, "noise": after.params["noise"]})
    assert float(step(raised)[1]["loss"]) > float(step(state)[1]["loss"])


@pytest.mark.slow
def test_the_command_judges_three_arms(tmp_path, monkeypatch, capsys):
    flags = ["--steps", "30", "--seeds", "2", "--data", "digits", "--out", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["learned_spread.py", *flags, "--quiet", "--save-params"])
    monkeypatch.setattr(learned_spread, "start_jax", lambda settings: None)
    command.main(learned_spread.Settings, learned_spread.run)
    files = {"metrics.json", "results.nc", "learned.png", "params.npz"}
    assert {path.name for path in tmp_path.iterdir()} == files
    with np.load(tmp_path / "params.npz") as params:
        assert params["digits/learned covariance/noise"].shape == (1, 2, 64, 4)
    assert "learned covariance" in capsys.readouterr().out
    metrics = json.loads((tmp_path / "metrics.json").read_text(), parse_constant=pytest.fail)
    labels = ["fixed N(0, σ² I)", "learned covariance", "learned mean"]
    assert list(metrics["data"]["digits"]) == labels
    for arm in metrics["data"]["digits"].values():
        assert all(value > 0 for value in arm["energy_distance"])
        assert len(arm["energy_distance"]) == 2


@pytest.mark.parametrize("flags", [("--model-steps", "0"), ("--sigma-fix", "0")])
def test_a_bad_flag_is_named_in_one_line(flags, tmp_path, monkeypatch, capsys):
    out = tmp_path / "out"
    monkeypatch.setattr(sys, "argv", ["learned_spread.py", *flags, "--out", str(out)])
    with pytest.raises(SystemExit) as exit:
        command.main(learned_spread.Settings, learned_spread.run)
    error = capsys.readouterr().err
    assert exit.value.code == 2
    assert error.startswith(f"error: {flags[0]} ")
    assert error.count("\n") == 1
    assert not out.exists()


def judged_by_hand(*distances):
    return xr.Dataset(
        {"energy_distance": (("cell", "seed"), np.array(distances), {"better": "lower"})},
        {"label": ("cell", ["fixed", "learned"]), "color": ("cell", ["#000000", "#0072B2"])},
        {"data": "ring"},
    )


def test_a_broken_run_is_beaten_and_is_the_worst():
    """By hand: with a broken fixed run the learned one is better there; of three seeds of which
    two broke the middle has no number, and no triangle of the figure is missing."""
    judged = judged_by_hand([0.2, np.nan, 0.4], [0.1, 0.3, np.nan])
    found = learned_spread.as_json(judged)
    assert [arm["seeds_better"] for arm in found.values()] == [0, 2]
    assert found["fixed"]["median_energy_distance"] == 0.4
    assert found["fixed"]["energy_distance_interval"] == [0.2, None]
    assert found["learned"]["energy_distance"] == [0.1, 0.3, None]
    judged = judged_by_hand([0.2, 0.3, 0.4], [0.1, np.nan, np.nan])
    assert learned_spread.as_json(judged)["learned"]["median_energy_distance"] is None
    (axes,) = figures.learned_figure([judged], [over_seeds(judged)]).axes
    top = axes.get_ylim()[1]
    assert top == pytest.approx(1.08 * 0.4)
    (marks,) = [line.get_xydata() for line in axes.lines if line.get_marker() == "^"]
    np.testing.assert_allclose(marks, [[1.0, 1], [1.2, 1]])  # heights: shares of the panel
    assert list(axes.lines[-1].get_ydata()) == [top, top]  # the middle


def test_the_table_says_so_where_a_middle_has_no_number(capsys):
    settings = learned_spread.Settings(seeds=3)
    judged = judged_by_hand([0.2, 0.3, 0.4], [np.nan] * 3)
    learned_spread.print_results(settings, {"ring": learned_spread.as_json(judged)})
    assert "- [-, -]; 0 of 3" in capsys.readouterr().out
