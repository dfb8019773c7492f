"""Strictness for all tests, and the one compiled toy run that they share."""

import resource
import sys

import jax
import jaxtyping
import pytest

# shapes are checked at run time here, and only here
jaxtyping.install_import_hook("spread_jax", "beartype.beartype")
jax.config.update("jax_num_cpu_devices", 2)
jax.config.update("jax_numpy_rank_promotion", "raise")  # catches (64, 1) - (64,)


@pytest.fixture(scope="session")
def short_toy():
    """16 seeds of plain and spread VAE, 4,000 steps: the sweep's result and its settings."""
    from experiments import toy
    from spread_jax import sweeps

    settings = toy.Settings(steps=4000)
    result = sweeps.sweep(
        toy.two_mode_training(settings),
        {"sigma_fix": [0.0, 0.1], "learning_rate": 1e-3, "data_std": 0.1},
        num_seeds=settings.seeds,
        variables=toy.two_mode_variables(),
    )
    return settings, result


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
def refuses(monkeypatch, capsys, tmp_path):
    """``(experiment, flag, value)``: one line of error, status 2, and no file."""

    def check(experiment, flag, value):
        from experiments import command

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
