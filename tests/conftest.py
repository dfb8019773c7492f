"""Strictness for all tests, and the one compiled toy run that they share."""

import gc
import html
import json
import math
import os
import re
import resource
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
import xarray as xr
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings

# shapes are checked at run time here, and only here
jaxtyping.install_import_hook("spread_jax", "beartype.beartype")
jax.config.update("jax_num_cpu_devices", 2)
jax.config.update("jax_numpy_rank_promotion", "raise")  # catches (64, 1) - (64,)
# compiling is more than half of the tests' time: what one worker compiled serves the other, the
# processes that tests start, and the next run
CACHE = Path(__file__).parents[1] / ".pytest_cache" / "jax"
CACHING = {
    "jax_compilation_cache_dir": str(CACHE),
    "jax_persistent_cache_min_compile_time_secs": 0,
    "jax_persistent_cache_min_entry_size_bytes": -1,
}
for option, choice in CACHING.items():
    jax.config.update(option, choice)
    os.environ[option.upper()] = str(choice)
# half the work of the compiler, for programs that are up to a fourth slower
FLAGS = ["--xla_backend_optimization_level=1"]
if jax.__version_info__ < (0, 11):  # XLA of jax 0.12 has no other emitters, and ends at this flag
    FLAGS.append("--xla_cpu_use_fusion_emitters=false")
os.environ["XLA_FLAGS"] = " ".join([*FLAGS, os.environ.get("XLA_FLAGS", "")])
# The workers share the cores already: threads that NumPy and PyTorch start beside them only wait.
# These are read by what starts after this line: workers, and the processes that tests start
for variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"):
    os.environ.setdefault(variable, "1")
# each search for cycles walks over all that JAX and the tests keep: an eighth of the time
gc.set_threshold(200_000, 10, 10)
hypothesis_settings.register_profile(
    "fuzz", max_examples=20_000, deadline=None, suppress_health_check=list(HealthCheck)
)


def _judged_two_modes(sigma_fix, num_seeds, steps=10_000, judged_at=None):
    """A sweep of the toy's model with its default settings, judged at one sigma_fix or at each
    run's own."""
    from experiments import two_modes

    settings = two_modes.TwoModeSettings(steps=steps, seeds=num_seeds, quiet=True)
    runs = two_modes.train(settings, sigma_fix, 1e-3, cure="")
    arms = ["spread_vae" if sigma else "vae" for sigma in sigma_fix]
    return two_modes.judge(settings, runs, arms, sigma_fix=judged_at)


@pytest.fixture(scope="session")
def short_toy():
    """16 seeds of plain and spread VAE, 4,000 steps, judged and described as the toy does."""
    return _judged_two_modes([0.0, 0.1], num_seeds=16, steps=4000, judged_at=0.1)


@pytest.fixture(scope="session")
def judged_two_modes():
    """``(sigma_fix, num_seeds, steps, judged_at) -> judged``, for runs of another length."""
    return _judged_two_modes


@pytest.fixture
def as_users_run_it(monkeypatch):
    """Without the checks of shapes and types, which would be the first to refuse."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


@pytest.fixture
def best_cpu_seconds():
    """``(start a process) -> (its result, processor seconds)``, the best of three.

    On an idle machine that is the wall time; here other tests share the cores.
    """

    def measure(run):
        best = float("inf")
        for _ in range(3):
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            result = run()
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
            best = min(best, used)
        return result, best

    return measure


@pytest.fixture
def laid_out(tmp_path):
    """``(page, width) -> facts`` of a page in a window of headless Chromium: ``width`` of what it
    lays out, ``wide``, what sticks out but for tables and code, and ``broken`` images.

    The window is a frame, since headless Chromium has none narrower than 500 pixels.
    """
    names = ("chromium", "chromium-browser", "google-chrome")
    chromium = next(filter(None, map(shutil.which, names)), None)
    if not chromium:
        pytest.skip("Chromium is not installed: apt install chromium")
    script = """onload = () => setTimeout(() => {
      const page = frame.contentDocument, found = document.createElement("pre");
      const wide = [...page.querySelectorAll("body *")].filter(
        e => e.getBoundingClientRect().right > WIDTH + 1 && e.closest("main")
          && !e.closest("pre, table, [style*=overflow-x]"));
      found.id = "found";
      found.textContent = JSON.stringify({
        width: page.documentElement.scrollWidth,
        wide: wide.map(e => e.outerHTML.slice(0, 200)),
        broken: [...page.images].filter(i => !i.naturalWidth).map(i => i.alt),
      });
      document.body.append(found);
    }, 500)"""

    def lay_out(page, width):
        path = tmp_path / "frame.html"
        path.write_text(
            f'<iframe id="frame" src="file://{page}" style="width:{width}px;height:800px;border:0">'
            f"</iframe><script>{script.replace('WIDTH', str(width))}</script>",
            encoding="utf-8",
        )
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--allow-file-access-from-files"]
        flags += ["--virtual-time-budget=5000", f"--user-data-dir={tmp_path}/profile", "--dump-dom"]
        done = subprocess.run(
            [chromium, *flags, f"file://{path}"], capture_output=True, text=True, timeout=120
        )
        found = re.search(r'<pre id="found">(.*?)</pre>', done.stdout, flags=re.S)
        assert found, done.stdout + done.stderr
        return json.loads(html.unescape(found[1]))

    return lay_out


@pytest.fixture
def refuses(monkeypatch, capsys, tmp_path):
    """``(experiment, flag, value)``: one line of error, status 2, and no file."""

    def check(experiment, flag, value):
        from spread_jax.cli import command

        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", [experiment.__name__, flag, value])
        with pytest.raises(SystemExit) as exit:
            command.main(experiment.Settings, experiment.run)
        error = capsys.readouterr().err
        assert exit.value.code == 2
        assert error.startswith(f"error: {flag} ")
        assert "must be" in error
        assert error.count("\n") == 1
        assert not list(tmp_path.iterdir())

    return check


@pytest.fixture(scope="session")
def linear_vae():
    """``vae``, ``params`` and closed forms: three pixels, decoder N(z W, VAR), posterior
    N(0.3 y₀, 0.25) whatever the data; their clean law is N(0, ``covariance``). ``exact`` is the
    same without draws of z: two points have the moments that a quadratic needs."""
    from spread_jax.latents import gaussian_latent
    from spread_jax.models.vae import VAE

    w = np.array([[0.5, -1.0, 2.0]], np.float32)
    var = np.array([0.1, 0.2, 0.3], np.float32)

    def expected_bound(x, sigma_data, sigma_model):
        """E_y E_q[log N(y; zW, VAR + σ²)] - E_y KL, and that KL: all moments are Gaussians'."""
        total = var + sigma_model**2
        mean_z = 0.3 * x[0]
        square = 0.0
        for i in range(3):
            # y_i - z W_i, with z = 0.3 y_0 + 0.5 ε
            slope = (i == 0) - 0.3 * w[0, i]
            if i == 0:
                variance = slope**2 * sigma_data**2
            else:
                variance = sigma_data**2 + (0.3 * w[0, i]) ** 2 * sigma_data**2
            variance += w[0, i] ** 2 * 0.25
            square += ((x[i] - mean_z * w[0, i]) ** 2 + variance) / total[i]
        log_lik = -0.5 * (np.log(2 * np.pi * total).sum() + square)
        kl = 0.5 * (mean_z**2 + 0.09 * sigma_data**2 + 0.25 - 1 - math.log(0.25))
        return log_lik - kl, kl

    def two_points(key, posterior, fn):
        mean, log_var = posterior
        return fn(jnp.stack([mean - jnp.exp(log_var / 2), mean + jnp.exp(log_var / 2)])).mean(0)

    vae = VAE(
        lambda key: {"w": jnp.asarray(w)},
        lambda params, y: (0.3 * y[..., :1], jnp.full_like(y[..., :1], math.log(0.25))),
        lambda params, z: (z @ params["w"], jnp.broadcast_to(var, (*z.shape[:-1], 3))),
        gaussian_latent(1),
    )
    return SimpleNamespace(
        vae=vae,
        exact=vae._replace(latent=vae.latent._replace(expectation=two_points)),
        params={"w": jnp.asarray(w)},
        covariance=w.T @ w + np.diag(var),
        expected_bound=expected_bound,
    )


@pytest.fixture(scope="session")
def runs_by_hand():
    """``(stacked params, hyper, record_every, **curves) -> Sweep``, all arrays ``[seed, ...]``."""
    from spread_jax.sweeps import Sweep

    def make(params, hyper=None, record_every=1, **curves):
        curves = {"loss": np.zeros((len(jax.tree.leaves(params)[0]), 1)), **curves}
        num_seeds, num_records = np.shape(curves["loss"])
        variables = {
            name: (("seed", "step", *(f"{name}_{i}" for i in range(np.ndim(curve) - 2))), curve)
            for name, curve in curves.items()
        }
        steps = record_every * np.arange(1, num_records + 1)
        dataset = xr.Dataset(variables, {"seed": np.arange(num_seeds), "step": steps})
        dataset["first_nonfinite_step"] = ("seed", np.full(num_seeds, np.inf))
        numbers = {
            name: np.broadcast_to(np.float32(number), num_seeds)
            for name, number in (hyper or {"sigma_fix": 0.0}).items()
        }
        return Sweep(dataset, params, numbers, 0.0, 0.0)

    return make
