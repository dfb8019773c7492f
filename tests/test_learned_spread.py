import json
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import command, learned_spread


@pytest.fixture(scope="module")
def ring():
    x, held_out, latent_dim = learned_spread.load("ring")
    assert x.shape == (10_000, 20)
    assert held_out.shape == (1000, 20)
    np.testing.assert_allclose(np.linalg.norm(x, axis=1), 1, rtol=1e-5)
    return x, latent_dim


@pytest.mark.slow
def test_noise_climbs_every_sixth_step_and_the_model_rests_then(ring):
    """By the parameters after each step; at a noise rate of 0 every step is the model's."""
    x, latent_dim = ring
    settings = learned_spread.Settings(steps=6, hidden=(8,))
    training, _ = learned_spread.make_training(settings, x, latent_dim, "covariance")
    step = jax.jit(training.train_step)
    for rate in (1e-3, 0.0):
        state, moved = jax.jit(training.init)(jax.random.key(0), {"noise_learning_rate": rate}), []
        for _ in range(12):
            before, (state, _) = state.params, step(state)
            change = jax.tree.map(lambda a, b: np.abs(a - b).max(), before, state.params)
            moved.append({name: max(jax.tree.leaves(part)) > 0 for name, part in change.items()})
        noise = [m["noise"] for m in moved]
        model = [m["decoder"] for m in moved]
        assert noise == ([False] * 5 + [True]) * 2 if rate else not any(noise)
        assert model == ([True] * 5 + [False]) * 2 if rate else all(model)


@pytest.mark.slow
def test_a_step_of_the_noise_raises_the_loss(ring):
    """On the same key and batch, for a small step along the noise's own gradient."""
    x, latent_dim = ring
    settings = learned_spread.Settings(steps=6, hidden=(8,), model_steps=1)
    training, _ = learned_spread.make_training(settings, x, latent_dim, "covariance")
    hyper = {"noise_learning_rate": jnp.float32(1e-2)}
    state = jax.jit(training.init)(jax.random.key(0), hyper)
    step = jax.jit(training.train_step)
    state, _ = step(state)  # the model's
    after, _ = step(state)  # the noise's
    raised = state._replace(params={**state.params, "noise": after.params["noise"]})
    assert float(step(raised)[1]["loss"]) > float(step(state)[1]["loss"])


@pytest.mark.slow
def test_the_command_judges_three_arms(tmp_path, monkeypatch, capsys):
    flags = ["--steps", "30", "--seeds", "2", "--data", "digits", "--out", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["learned_spread.py", *flags, "--quiet", "--save-params"])
    monkeypatch.setattr(command, "start_jax", lambda settings: None)
    command.main(learned_spread.Settings, learned_spread.run)
    files = {"metrics.json", "results.nc", "learned.png", "params.npz"}
    assert {path.name for path in tmp_path.iterdir()} == files
    with np.load(tmp_path / "params.npz") as params:
        assert params["digits/covariance/noise"].shape == (2, 2, 64, 4)  # fixed and learned
    assert "learned covariance" in capsys.readouterr().out
    metrics = json.loads((tmp_path / "metrics.json").read_text(), parse_constant=pytest.fail)
    assert set(metrics["data"]["digits"]) == {"fixed", "covariance", "mean"}
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
