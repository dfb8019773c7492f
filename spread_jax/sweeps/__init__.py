"""Many training runs as one program: a grid of numbers × seeds, labelled, stopped and resumed."""

from spread_jax.sweeps.call import Sweep, sweep
from spread_jax.sweeps.checkpoints import CheckpointError, Checkpoints
from spread_jax.sweeps.compiler import use_all_cores
from spread_jax.sweeps.engine import NUM_CHUNKS, FinishedRuns, Progress, train_runs
from spread_jax.sweeps.groups import Groups, bytes_per_run, initialiser
from spread_jax.sweeps.labels import Grid, Variable, default_record_every

__all__ = [
    "NUM_CHUNKS",
    "CheckpointError",
    "Checkpoints",
    "FinishedRuns",
    "Grid",
    "Groups",
    "Progress",
    "Sweep",
    "Variable",
    "bytes_per_run",
    "default_record_every",
    "initialiser",
    "sweep",
    "train_runs",
    "use_all_cores",
]
