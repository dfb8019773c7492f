"""How every figure looks: widths, colours, and the name and colour of each arm.

Widths are those of a paper's columns, colours are Okabe and Ito's (safe for colour-blind
readers), and an arm has the same colour everywhere.
"""

from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

COLUMN = 3.4  # inches
PAGE = 7.0
LEGEND_COLUMNS = 6  # what a page holds
LEGEND_ROW = 0.15  # inches
STYLE: dict[Any, Any] = {
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "legend.frameon": False,
    "legend.fontsize": 7,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "savefig.facecolor": "white",
}
DATA_COLOR = "#000000"
FLOOR_COLOR = "#009E73"
NOISE_COLOR = "#666666"
FOUND_COLOR = "#0072B2"
LOST_COLOR = "#D55E00"


class ArmStyle(NamedTuple):
    """How an arm is named and coloured, everywhere."""

    label: str
    color: str


ARMS = {
    "vae": ArmStyle("plain VAE", "#D55E00"),
    "spread_vae": ArmStyle("spread VAE", "#0072B2"),
    "spread_annealed": ArmStyle("annealed spread VAE", "#56B4E9"),
    "variance_floor": ArmStyle("variance floor only", "#E69F00"),
    "noise_only": ArmStyle("noise only", "#CC79A7"),
    "clean_encoder": ArmStyle("clean encoder", "#666666"),
    "soft_clip": ArmStyle("soft clip of log σ", "#B8860B"),
    "shared_sigma": ArmStyle("one σ, learned", "#666666"),
    "optimal_sigma": ArmStyle("one σ, analytic", "#666666"),
    "fixed_sigma": ArmStyle("fixed σ", "#666666"),
    "beta_vae": ArmStyle("β-VAE", "#666666"),
    "gradient_clipping": ArmStyle("gradient clipping", "#666666"),
    "learning_rate_decay": ArmStyle("learning-rate decay", "#666666"),
    "wgan_gp": ArmStyle("WGAN-GP", "#666666"),
    "deconvolution": ArmStyle("exact optimum (ceiling)", "#000000"),
    "shared_variance": ArmStyle("shared variance", "#E69F00"),
    "fixed_variance": ArmStyle("fixed variance", "#CC79A7"),
    "delta_vae": ArmStyle("δ-VAE", "#009E73"),
}


def arm_style(name: str) -> ArmStyle:
    """How an arm is drawn: one not of ours by its own name, in grey."""
    return ARMS.get(name, ArmStyle(str(name), NOISE_COLOR))


def loss_limits(
    mean: np.ndarray, top: np.ndarray, skip_start: bool, floor: float | None = None
) -> tuple[float, float]:
    """What is seen after the first hundredth of the steps, which would flatten a bounded loss,
    and the floor where one is drawn."""
    start = max(1, mean.shape[1] // 100) if skip_start and mean.shape[1] > 1 else 0
    seen = np.concatenate([mean[:, start:], top[:, start:]], axis=None, dtype=float)
    if floor is not None:
        seen = np.append(seen, floor)
    seen = seen[np.isfinite(seen)]
    low, high = (seen.min(), seen.max()) if seen.size else (0.0, 1.0)
    margin = 0.06 * (high - low) or 0.06 * abs(high) or 1.0
    return float(low - margin), float(high + margin)


def one_record(steps: np.ndarray) -> dict[str, Any]:
    """Keywords of a curve: of one record it is a dot at the edge, for a line would not be seen."""
    return {"marker": ".", "clip_on": False} if len(steps) == 1 else {}


def say(axes: Axes, words: str) -> None:
    """Words in the middle of a panel that has nothing to show."""
    axes.text(0.5, 0.5, words, ha="center", va="center", fontsize=7, transform=axes.transAxes)


def log_scale(axes: Axes) -> None:
    """A log axis with plain numbers for decades, and for thirds where it spans few of them; of
    data with nothing above 0 the axis stays linear."""
    if not np.isfinite(axes.dataLim.minposy):
        return
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    axes.yaxis.set_major_locator(
        mpl.ticker.LogLocator(subs=(1.0, 3.0) if high < 1e3 * low else (1.0,), numticks=8)
    )
    axes.yaxis.set_major_formatter(mpl.ticker.FormatStrFormatter("%g"))
    axes.yaxis.set_minor_formatter(mpl.ticker.NullFormatter())


def legend_below(figure: Figure, panels: np.ndarray, columns: int = LEGEND_COLUMNS) -> None:
    """One legend under all panels, each label once."""
    entries: dict[str, Artist] = {}
    for axes in panels:
        handles, labels = axes.get_legend_handles_labels()
        entries.update(zip(labels, handles, strict=True))
    figure.legend(
        list(entries.values()),
        list(entries),
        loc="outside lower center",
        ncols=min(len(entries), columns),
    )
