"""The extensions that docs/extending.md shows: short, and working as they stand there."""

import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import spread_jax as sj

pytestmark = pytest.mark.slow  # trains a flow, a mixture and an arm

PAGE = Path(__file__).parents[1] / "docs" / "extending.md"


@pytest.fixture(scope="module")
def names():
    found = {}
    for block in re.findall(r"```python\n(.*?)```", PAGE.read_text(), flags=re.S):
        assert sum(bool(line.strip()) for line in block.splitlines()) <= 25
        exec(block, found)
    return found


def test_the_logistic_law_integrates_to_one(names):
    """Truth: the trapezoidal rule to 40 scales out, where e^-40 is left."""
    spread = names["logistic_spread"](0.1)
    y = jnp.linspace(-4.0, 4.0, 4_001)[:, None]
    density = np.exp(spread.log_prob(y, jnp.zeros((1, 1)), None))
    assert np.trapezoid(density, y[:, 0]) == pytest.approx(1, abs=1e-5)
    with pytest.raises(ValueError, match="deterministic"):
        spread.log_prob(y, jnp.zeros((1, 1)), jnp.ones((1, 1)))


def test_the_segment_is_a_segment(names):
    problem = names["segment"]()
    x = problem.sample(jax.random.key(0), 100)
    assert (x[:, 0] == x[:, 1]).all()
    assert problem.distance(x).max() < 1e-6
    np.testing.assert_allclose(problem.distance(jnp.array([[2.0, 1.0]])), 1.0)  # beyond its end


def test_the_arm_has_its_own_numbers_and_is_judged(names):
    plain_and_half = names["judged"][0]
    assert list(plain_and_half["arm"].values) == ["vae", "half_noise"]
    np.testing.assert_array_equal(plain_and_half["noise_on_data"], [0.0, 0.5])
    assert plain_and_half["off_segment"].dims == ("cell", "seed")


def test_the_flow_is_a_density(names):
    """Truth: the trapezoidal rule on a grid that holds all of a flow of small scales."""
    params = jax.tree.map(lambda weight: 0.4 * weight, names["init"](jax.random.key(3)))
    axis = jnp.linspace(-12.0, 12.0, 601)
    grid = jnp.stack(jnp.meshgrid(axis, axis), axis=-1)
    density = np.exp(names["log_prob"](params, grid))
    total = np.trapezoid(np.trapezoid(density, axis), axis)
    assert total == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("name", ["flow", "mixture"])
def test_flow_and_mixture_learn_the_segment(name, names):
    """Truth: uncleaned, a perfect model lies 0.05 √(2/π) = 0.0399 off the line on average."""
    model = {"flow": names["flow"], "mixture": sj.mixture_model(2, 5)}[name]
    problem = names["segment"]()
    training = sj.model_training(model, sample_batch=problem.batches(128), num_steps=1500)
    grid = {"sigma_fix": [0.05, 0.1], "learning_rate": 3e-3}
    runs = sj.sweep(training, grid, num_seeds=2)
    judged = sj.judge(model, runs, problem.dataset(jax.random.key(0)), [names["off_segment"]])
    params = runs.params(sigma_fix=0.05, seed=0)
    x = model.sample(params, jax.random.key(1), 500, sj.gaussian_spread(0.05))
    assert dict(judged["off_segment"].sizes) == {"sigma_fix": 2, "seed": 2}
    assert x.shape == (500, 2)
    off_line = np.abs(x[:, 0] - x[:, 1]).mean() / np.sqrt(2)
    assert off_line < 0.05 * np.sqrt(2 / np.pi)
    assert judged["off_segment"].max() < 0.15  # of points at the origin it is 0, of N(0, I) 0.75
