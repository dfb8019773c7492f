"""Data laws on thin sets, which have no density: each with its truth and its distance."""

from spread_jax.problems.curves import ring as ring
from spread_jax.problems.curves import sample_ring as sample_ring
from spread_jax.problems.curves import sample_spiral as sample_spiral
from spread_jax.problems.curves import spiral as spiral
from spread_jax.problems.problem import Problem as Problem
from spread_jax.problems.problem import embed as embed
from spread_jax.problems.problem import problem_metrics as problem_metrics
from spread_jax.problems.problem import true_scores as true_scores
from spread_jax.problems.two_modes import sample_two_modes as sample_two_modes
from spread_jax.problems.two_modes import two_mode_mixture as two_mode_mixture
from spread_jax.problems.two_modes import two_modes as two_modes
