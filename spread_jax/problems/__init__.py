"""Data laws on thin sets, which have no density: each with its truth and its distance."""

from spread_jax.problems.curves import ring, sample_ring, sample_spiral, spiral
from spread_jax.problems.problem import Problem, embed, problem_metrics, true_scores
from spread_jax.problems.two_modes import sample_two_modes, two_mode_mixture, two_modes

__all__ = [
    "Problem",
    "embed",
    "problem_metrics",
    "ring",
    "sample_ring",
    "sample_spiral",
    "sample_two_modes",
    "spiral",
    "true_scores",
    "two_mode_mixture",
    "two_modes",
]
