"""Many training runs as one program: a grid of numbers × seeds, labelled, stopped and resumed."""

from spread_jax.sweeps.call import Sweep as Sweep
from spread_jax.sweeps.call import sweep as sweep
from spread_jax.sweeps.checkpoints import CheckpointError as CheckpointError
from spread_jax.sweeps.checkpoints import Checkpoints as Checkpoints
from spread_jax.sweeps.compiler import use_all_cores as use_all_cores
from spread_jax.sweeps.engine import NUM_CHUNKS as NUM_CHUNKS
from spread_jax.sweeps.engine import TrainedRuns as TrainedRuns
from spread_jax.sweeps.engine import train_runs as train_runs
from spread_jax.sweeps.groups import Groups as Groups
from spread_jax.sweeps.groups import bytes_per_run as bytes_per_run
from spread_jax.sweeps.groups import initialiser as initialiser
from spread_jax.sweeps.labels import Grid as Grid
from spread_jax.sweeps.labels import Variable as Variable
from spread_jax.sweeps.labels import default_record_every as default_record_every
from spread_jax.sweeps.records import OnRecord as OnRecord
from spread_jax.sweeps.records import Records as Records
