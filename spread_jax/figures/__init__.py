"""Figures: each function takes results and returns a matplotlib Figure; none of them computes."""

from spread_jax.figures.baselines import baselines_figure, curves_figure
from spread_jax.figures.diagnosis import diagnosis_figure
from spread_jax.figures.style import ARMS, ArmStyle
from spread_jax.figures.sweep import (
    distance_figure,
    loss_fan_figure,
    price_figure,
    recovery_figure,
    recovery_heat_map,
    stability_figure,
)
from spread_jax.figures.throughput import throughput_figure
from spread_jax.figures.toy import data_figure, loss_figure, samples_figure, sigma_figure

__all__ = [
    "ARMS",
    "ArmStyle",
    "baselines_figure",
    "curves_figure",
    "data_figure",
    "diagnosis_figure",
    "distance_figure",
    "loss_fan_figure",
    "loss_figure",
    "price_figure",
    "recovery_figure",
    "recovery_heat_map",
    "samples_figure",
    "sigma_figure",
    "stability_figure",
    "throughput_figure",
]
