"""What a type checker sees of the package: no name is Any, and a misspelt one is an error."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import spread_jax as sj

SCRIPT = """
import jax
import jax.numpy as jnp
import spread_jax as sj
from spread_jax.training import Hyper

key, x = jax.random.key(0), jnp.zeros((100, 2))
vae, spread = sj.make_vae(2, latent_dim=1), sj.gaussian_spread(0.1)
params = vae.init(key)
bound = sj.spread_elbo(
    key,
    x,
    encode=lambda y: vae.encode(params, y),
    decode=lambda z: vae.decode(params, z),
    latent=sj.gaussian_latent(1),
    spread=spread,
)
training = sj.model_training(vae, sample_batch=sj.rows(64), num_steps=10)


def fresh(k: jax.Array, d: object, h: Hyper) -> jax.Array:
    return jax.random.normal(k, (64, 2))


own = sj.VAE(lambda k: vae.init(k), lambda p, x: vae.encode(p, x), vae.decode, vae.latent)
sj.model_training(
    own,
    sample_batch=fresh,
    num_steps=10,
    spread=lambda numbers: sj.gaussian_spread(numbers["sigma_fix"]),
    loss=lambda bounds, h: -bounds.elbo.mean(),
    make_data=lambda k, h: None,
    observe=lambda p: {"first": p["encoder"]},
    schedule=lambda t, h: {**h, "sigma_fix": 0.1 * t},
)
runs = sj.sweep(training, {"sigma_fix": 0.1, "learning_rate": 1e-3}, num_seeds=2, data=x)
data = sj.problems.two_modes().dataset(key)
width = sj.Metric("width", "data units", "", lambda run: run.samples.std())
judged = sj.judge(vae, runs, data, [width])
"""
TYPES = {
    "vae": "spread_jax.models.vae.VAE",
    "spread": "spread_jax.spreads.Spread",
    "bound": "spread_jax.objectives.Bound",
    "bound.elbo": "Array",
    "training": "spread_jax.training.Training",
    "runs": "spread_jax.sweeps.call.Sweep",
    "runs.dataset": "xarray.core.dataset.Dataset",
    "data": "spread_jax.data.datasets.Dataset",
    "width": "spread_jax.judgement.Metric",
    "judged": "xarray.core.dataset.Dataset",
    "sj.over_seeds(judged)": "xarray.core.dataset.Dataset",
    "vae.sample(params, key, 5)": "Array",
}


def mypy(script, folder):
    """What mypy says of a user's script, without this project's own settings."""
    (folder / "script.py").write_text(script)
    flags = ["--strict", "--follow-imports=silent", f"--cache-dir={folder}/cache"]
    return subprocess.run(
        [sys.executable, "-m", "mypy", *flags, "script.py"],
        capture_output=True,
        text=True,
        cwd=folder,
        env={**os.environ, "MYPYPATH": str(Path(sj.__file__).parents[1])},
    )


@pytest.mark.slow
def test_a_users_script_is_typed_throughout(tmp_path):
    """Each line's own type by name; none of the package's names is Any; a mistake is found."""
    revealed = [*TYPES, *(f"sj.{name}" for name in sj.__all__)]
    done = mypy(SCRIPT + "".join(f"reveal_type({name})\n" for name in revealed), tmp_path)
    assert done.returncode == 0, done.stdout
    types = re.findall(r'Revealed type is "(.*)"', done.stdout)
    assert len(types) == len(revealed)
    for name, found in zip(revealed, types, strict=True):
        assert found != "Any", name
        if name in TYPES:
            assert re.search(rf"\b{re.escape(TYPES[name])}\]?$", found), (name, found)
    wrong = "sj.model_training(vae, sample_batch=lambda key: x, num_steps=1)\n"
    done = mypy(SCRIPT + "sj.spred_elbo\nsj.rows(batch=64)\nbound.elboo\n" + wrong, tmp_path)
    lines = re.findall(r":(\d+): error: ", done.stdout)
    assert len(set(lines)) == 4, done.stdout
