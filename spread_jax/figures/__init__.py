"""Figures: each function takes finished results and returns a matplotlib Figure.

A figure changes numbers only for its axes: it scales, clips and bins them, and gives a run without
a number the worst place. What a conclusion rests on is computed before.
"""

try:
    import matplotlib  # noqa: F401
except ImportError:
    raise ImportError("figures need matplotlib: pip install 'spread_jax[figures]'") from None

from spread_jax.figures.comparisons import baselines_figure, curves_figure, learned_figure
from spread_jax.figures.diagnosis import diagnosis_figure
from spread_jax.figures.divergences import divergence_figure
from spread_jax.figures.images import (
    mosaics_figure,
    sigma_maps_figure,
    table_samples_figure,
    traversal_figure,
    worst_images_figure,
)
from spread_jax.figures.linear import convergence_figure, error_against_gamma_figure
from spread_jax.figures.recipe import (
    clouds_figure,
    columns_beside_samples_figure,
    columns_figure,
    images_beside_samples_figure,
    images_figure,
    pairs_beside_samples_figure,
    recipe_training_figure,
)
from spread_jax.figures.sweep import (
    distance_figure,
    loss_fan_figure,
    price_figure,
    recovery_figure,
    recovery_heat_map,
    sigma_fix_figure,
    stability_figure,
)
from spread_jax.figures.throughput import quality_figure, throughput_figure
from spread_jax.figures.toy import data_figure, samples_figure
from spread_jax.figures.training import (
    arms_sigma_figure,
    loss_figure,
    loss_so_far_figure,
    sigma_figure,
)

__all__ = [
    "arms_sigma_figure",
    "baselines_figure",
    "clouds_figure",
    "columns_beside_samples_figure",
    "columns_figure",
    "convergence_figure",
    "curves_figure",
    "data_figure",
    "diagnosis_figure",
    "distance_figure",
    "divergence_figure",
    "error_against_gamma_figure",
    "images_beside_samples_figure",
    "images_figure",
    "learned_figure",
    "loss_fan_figure",
    "loss_figure",
    "loss_so_far_figure",
    "mosaics_figure",
    "pairs_beside_samples_figure",
    "price_figure",
    "quality_figure",
    "recipe_training_figure",
    "recovery_figure",
    "recovery_heat_map",
    "samples_figure",
    "sigma_figure",
    "sigma_fix_figure",
    "sigma_maps_figure",
    "stability_figure",
    "table_samples_figure",
    "throughput_figure",
    "traversal_figure",
    "worst_images_figure",
]
