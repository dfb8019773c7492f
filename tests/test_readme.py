"""What README shows must work as it stands there."""

import re
from pathlib import Path

README = (Path(__file__).parents[1] / "README.md").read_text()


def test_the_example_trains_and_sweeps(monkeypatch):
    (example,) = re.findall(r"```python\n(.*?)```", README, flags=re.S)
    monkeypatch.setattr("spread_jax.sweeps.use_all_cores", lambda: None)  # JAX has begun
    names = {}
    exec(example.replace("num_steps=2000", "num_steps=60"), names)
    loss = names["sweep"].dataset["loss"]
    assert loss.isel(step=slice(-10, None)).mean() < loss.isel(step=slice(0, 10)).mean()
    assert dict(loss.sizes) == {"sigma_fix": 3, "seed": 8, "step": 60}
    assert names["judged"]["off_ring"].shape == (3, 8)
    assert names["x"].shape == (500, 2)


def test_the_files_it_points_to_exist():
    for target in re.findall(r"\]\(([^)]+)\)|src=\"([^\"]+)\"", README):
        target = "".join(target).split("#")[0]
        assert (Path(__file__).parents[1] / target).exists(), target
