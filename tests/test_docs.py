"""What the documents show must work as it stands there."""

import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

DOCS = Path(__file__).parents[1] / "docs"


@pytest.fixture(scope="module")
def names():
    found = {}
    for block in re.findall(
        r"```python\n(.*?)```", (DOCS / "extending.md").read_text(), flags=re.S
    ):
        assert block.count("\n") <= 20
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
    x = names["sample_segment"](jax.random.key(0), 100)
    assert (x[:, 0] == x[:, 1]).all()
    assert abs(x).max() <= 1


def test_your_own_data_is_trained_on_and_the_spread_is_nearer(monkeypatch, capsys):
    """Shorter, as there; an energy distance falls as samples come nearer to the held-out rows."""
    (example,) = re.findall(r"```python\n(.*?)```", (DOCS / "your_data.md").read_text(), flags=re.S)
    monkeypatch.setattr("spread_jax.sweeps.use_all_cores", lambda: None)  # JAX has begun
    names = {}
    exec(example.replace("num_steps=3000", "num_steps=1000"), names)
    verdict, plain, *spread, _ = capsys.readouterr().out.splitlines()
    assert verdict == "degenerate"
    plain, *spread = (float(line.split()[2]) for line in (plain, *spread))
    assert max(spread) < plain
    assert names["clean"].shape == (600, 6)


def test_links_between_documents_lead_somewhere():
    for page in DOCS.glob("*.md"):
        for target in re.findall(r"\]\(([^)#]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
