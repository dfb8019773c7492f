"""How every figure looks: widths, colours, and the name and colour of each arm.

Widths are those of a paper's columns, colours are Okabe and Ito's (safe for colour-blind
readers), and an arm has the same colour everywhere.
"""

from typing import Any, NamedTuple

import numpy as np

COLUMN = 3.4  # inches
PAGE = 7.0
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
}


def loss_limits(mean: np.ndarray, top: np.ndarray, skip_start: bool) -> tuple[float, float]:
    """What is seen after the first hundredth of the steps, which would flatten a bounded loss."""
    start = max(1, mean.shape[1] // 100) if skip_start and mean.shape[1] > 1 else 0
    low = np.nanmin(np.where(np.isfinite(mean), mean, np.nan)[:, start:], initial=0.0)
    high = np.nanmax(np.where(np.isfinite(top), top, np.nan)[:, start:], initial=low + 1e-3)
    margin = 0.06 * (high - low)
    return float(low - margin), float(high + margin)
