"""The tables of README and docs: functions from the metrics of a table's runs to its rows.

A row is its cells with " | " between them, and the first row holds the titles.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from experiments.baselines_report import arms as all_arms
from experiments.learned_spread import TITLES
from spread_jax.cli.tables import fill

Metrics = dict[str, Any]
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
"""The flags of the table of settings."""
TOYS = {f"toy-{sigma_fix}": sigma_fix for sigma_fix in ("0.03", "0.1", "0.3", "0.5")}
INTERVAL = "[{frechet_fitted_latent_interval[0]:.2f}, {frechet_fitted_latent_interval[1]:.2f}]"
OF_ARMS = {
    "largest rise of the loss, nats": "{median_max_loss_rise}",
    "Fréchet, z from N(0, I)": "{median_frechet}",
    "Fréchet, fitted latent": "{median_frechet_fitted_latent:.2f} " + INTERVAL,
    "precision": "{median_precision_fitted_latent:.2f}",
    "recall": "{median_recall_fitted_latent:.2f}",
    "nearest training row": "{median_nearest_train_fitted_latent:.2f}",
}
"""What is said of an arm on real data; from the interval on, of its fitted latent."""
BIAS = {
    "floor only (σ_fix on the model)": "variance_floor",
    "noise only (σ_fix on the data)": "noise_only",
    "spread (on both)": "spread_vae",
    "spread, σ_fix annealed": "annealed_spread",
}
SLOPES = {
    "KL, nats": "kl",
    "Jensen-Shannon, nats": "js",
    "total variation": "tv",
    "squared Hellinger": "hellinger",
}
DELTA_COLUMNS = {
    words: f"{{median_{name}:.3g}} [{{{name}_interval[0]:.3g}}, {{{name}_interval[1]:.3g}}]"
    for words, name in [("Fréchet distance", "frechet"), ("energy distance", "energy_distance")]
}


def row(label: str, template: str, *cells: Metrics) -> str:
    """A row whose cells are the template filled by each of ``cells``."""
    return " | ".join([label, *(fill(template, numbers) for numbers in cells)])


def toy(with_plain: Metrics, *runs: Metrics) -> Iterator[str]:
    yield "σ_fix | both modes found | median spread KL, nats | late loss std, nats"
    plain = "{recovered} |  | {median_late_loss_std:.2f}"
    yield row("0 (plain VAE)", plain, with_plain["arms"]["vae"])
    spread = "{recovered} | {median_spread_kl:.4f} | {median_late_loss_std:.3f}"
    for run in runs:
        yield row(f"{run['config']['sigma_fix']:g}", spread, run["arms"]["spread_vae"])


def settings(*runs: Metrics) -> Iterator[str]:
    yield "flags | plain VAE: found both | late loss std | largest rise | spread VAE"
    plain = "{vae[recovered]} | {vae[median_late_loss_std]:.1f} | {vae[median_max_loss_rise]:.0f}"
    for flags, run in zip(SETTINGS.values(), runs, strict=True):
        label = f"`{flags}`" if flags else "(defaults)"
        yield row(label, plain + " | {spread_vae[recovered]}", run["arms"])


def bias(baselines: Metrics) -> Iterator[str]:
    yield "data std 0.05, σ_fix 0.1 | predicted σ_x | learned σ_x | found both"
    rate = "{recovered_rate:.0%} [{recovered_interval[0]:.0%}, {recovered_interval[1]:.0%}]"
    narrow = [cell for cell in baselines["rows"] if cell["data_std"] == 0.05]
    cells = {cell["arm"]: cell for cell in narrow if not cell["data_size"]}  # fresh data
    for label, arm in BIAS.items():
        yield row(label, "{predicted_sigma_x:.4f} | {median_sigma_x:.4f} | " + rate, cells[arm])


def curve_distance(baselines: Metrics) -> Iterator[str]:
    """A row for each arm, a column for each curve."""
    cells = [cell for cell in baselines["rows"] if cell["data"] in ("ring", "spiral")]
    columns = {cell["data"]: cell for cell in cells}
    yield row("", "{data}", *columns.values())
    for arm in dict.fromkeys(cell["arm"] for cell in cells):
        of_arm = {cell["data"]: cell for cell in cells if cell["arm"] == arm}
        yield row(all_arms()[arm].label, "{median_off_data:.3f}", *(of_arm[d] for d in columns))


def fit(run: Metrics) -> Iterator[str]:
    yield " | ".join(["arm, σ_fix", *OF_ARMS])
    for arm, cell in run["arms"].items():
        sigma = f", {cell['sigma_fix']:.3g}" if cell["sigma_fix"] else ""
        known = dict(cell)
        if all_arms()[arm].fitted_latent:
            known["median_frechet"] = None
        if all_arms()[arm].is_annealed:
            known["median_max_loss_rise"] = None  # its loss rises because its noise falls
        yield row(all_arms()[arm].label + sigma, " | ".join(OF_ARMS.values()), known)
    real = "{frechet} | {precision:.2f} | {recall:.2f} | {nearest_train:.2f}"
    yield row("held-out data", " |  | " + real, run["reference"])


def images(digits: Metrics, mnist: Metrics) -> Iterator[str]:
    """A row for each arm, two columns for each data set."""
    priors = ("z from N(0, I)", "fitted latent")
    yield " | ".join(["arm", *(f"{name}, {z}" for name in ("digits", "MNIST") for z in priors)])
    for arm in IN_README:
        prior = "-" if all_arms()[arm].fitted_latent else "{median_frechet}"
        template = prior + " | {median_frechet_fitted_latent:.2f}"
        yield row(all_arms()[arm].label, template, digits["arms"][arm], mnist["arms"][arm])
    yield row("held-out data", " | {frechet:.2f}", digits["reference"], mnist["reference"])


def learned(run: Metrics) -> Iterator[str]:
    yield " | ".join(["", *next(iter(run["data"].values()))])
    for data, cells in run["data"].items():
        fixed, *others = ({**c, "seeds": len(c["energy_distance"])} for c in cells.values())
        label = row(TITLES[data], "{median_energy_distance:.3f}", fixed)
        yield row(
            label,
            "{median_energy_distance:.3f}, {energy_distance_seeds_better} of {seeds}",
            *others,
        )


def delta_mnist(run: Metrics) -> Iterator[str]:
    yield " | ".join(["noise", *DELTA_COLUMNS])
    template = " | ".join(DELTA_COLUMNS.values())
    yield from (row(label, template, cell) for label, cell in run["data"]["mnist"].items())


def slopes(divergences: Metrics) -> Iterator[str]:
    largest = divergences["largest_slope"]
    sigmas = [sigma for sigma in largest["tv"] if float(sigma)]
    yield " | ".join(["largest slope per data unit", *(f"σ_fix {sigma}" for sigma in sigmas)])
    for title, name in SLOPES.items():
        yield " | ".join([title, *(f"{largest[name][sigma]:.3g}" for sigma in sigmas)])


def linear(run: Metrics) -> Iterator[str]:
    methods = "ordinary EM | isotropic | structured"
    yield f"γ | PCA: {methods} | eigen-solution | ICA: {methods}"
    names = [f"median_{name}_error" for name in ("em", "spread_em", "structured_spread_em")]
    pca, ica = run["pca"], run["ica"]
    columns = [*map(pca.get, [*names, "median_eigen_error"]), *map(ica.get, names)]
    for gamma, *errors in zip(pca["gamma"], *columns, strict=True):
        yield row(f"{gamma:g}", "{error:.3g}", *({"error": error} for error in errors))


def made_by_the_run(name: str) -> Callable[[Metrics], list[str]]:
    """A table whose rows stand in the metrics of its run, as the benchmarks write them."""
    return lambda run: run["tables"][name]


IN_README = (
    *("vae", "spread_vae", "annealed_spread", "soft_clip", "dequantized", "shared_variance"),
    *("fixed_variance", "recipe"),
)

TABLES: dict[str, tuple[str, Sequence[str], Callable[..., Iterable[str]]]] = {
    "toy": ("docs/results.md", ["toy-0.1", *TOYS], toy),
    "settings": ("docs/results.md", list(SETTINGS), settings),
    "bias": ("docs/results.md", ["baselines"], bias),
    "curve-distance": ("docs/results.md", ["baselines"], curve_distance),
    "digits": ("docs/images.md", ["digits"], fit),
    "mnist": ("docs/images.md", ["mnist"], fit),
    "peers": ("docs/images.md", ["quality"], made_by_the_run("peers")),
    "recipe": ("docs/results.md", ["recipe"], made_by_the_run("recipe")),
    "images": ("README.md", ["digits", "mnist"], images),
    "best": ("docs/images.md", ["mnist-5k"], fit),
    "flows-distance": ("docs/flows.md", ["flows"], made_by_the_run("distance")),
    "mixtures": ("docs/mixtures.md", ["mixtures"], made_by_the_run("mixtures")),
    "cleaning": ("docs/noise_laws.md", ["cleaning"], made_by_the_run("cleaning")),
    "learned": ("docs/noise_laws.md", ["learned"], learned),
    "delta-mnist": ("docs/paper.md", ["delta-mnist"], delta_mnist),
    "slopes": ("docs/noise_laws.md", ["divergences"], slopes),
    "linear": ("docs/linear.md", ["linear"], linear),
    "ratios": ("docs/benchmarks.md", ["benchmark-sweep"], made_by_the_run("ratios")),
    "one-model": ("docs/benchmarks.md", ["benchmark-fit"], made_by_the_run("one-model")),
    **{
        name: ("docs/how_far.md", ["benchmark-sweep"], made_by_the_run(name))
        for name in ("cost", "cost-unseen", "cost-predicted", "cost-images")
    },
}
"""Between ``<!-- NAME -->`` and ``<!-- end -->`` of a page: the page, the runs, what makes rows."""
