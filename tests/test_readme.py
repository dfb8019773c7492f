"""What README shows must work as it stands there."""

import re
from pathlib import Path

import pytest

README = (Path(__file__).parents[1] / "README.md").read_text()


def run_examples(monkeypatch, tmp_path, **shorter):
    """The names that the two examples leave behind, with words of theirs replaced."""
    monkeypatch.setattr("spread_jax.sweeps.use_all_cores", lambda: None)  # JAX has begun
    monkeypatch.chdir(tmp_path)
    recipe, own = re.findall(r"```python\n(.*?)```", README, flags=re.S)
    names = {}
    exec(recipe.replace("sj.fit(jax.random.key(1), x)", shorter["fit"]), names)
    exec(own.replace("num_steps=2000", shorter["steps"]), names)
    return names


@pytest.mark.slow
def test_the_examples_fit_and_sweep(monkeypatch, tmp_path):
    shorter = "sj.fit(jax.random.key(1), x, num_steps=60, num_seeds=1, quiet=True)"
    names = run_examples(monkeypatch, tmp_path, fit=shorter, steps="num_steps=60")
    loss = names["sweep"].dataset["loss"]
    assert loss.isel(step=slice(-10, None)).mean() < loss.isel(step=slice(0, 10)).mean()
    assert dict(loss.sizes) == {"sigma_fix": 3, "seed": 8, "step": 60}
    assert names["judged"]["off_ring"].shape == (3, 8)
    assert names["samples"].shape == (500, 2)
    assert (tmp_path / "ring" / "model.json").exists()


@pytest.mark.slow
def test_the_recipe_beats_every_plain_and_spread_vae_of_the_next_example(monkeypatch, tmp_path):
    """As they stand there: the recipe's distance from the ring beside that of 24 runs."""
    fit = "sj.fit(jax.random.key(1), x)"
    names = run_examples(monkeypatch, tmp_path, fit=fit, steps="num_steps=2000")
    samples = names["fitted"].sample(names["jax"].random.key(2), 500)
    ours = float(names["ring"].distance(samples).mean())
    assert ours < 0.01
    assert ours < 0.2 * float(names["judged"]["off_ring"].min())


def test_the_files_it_points_to_exist():
    for target in re.findall(r"\]\(([^)]+)\)|src=\"([^\"]+)\"", README):
        target = "".join(target).split("#")[0]
        assert (Path(__file__).parents[1] / target).exists(), target
