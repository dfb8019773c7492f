"""The flags that commands share, what they accept, and the message for any other value."""

import dataclasses
from collections.abc import Collection
from pathlib import Path
from typing import Protocol, runtime_checkable

MAX_SEED = 2**31
MAX_STEPS = 2**31 - 1
SMALLEST, LARGEST = 1e-15, 1e15  # their squares stay well within float32
MOST_UNITS = 1_000_000  # of a layer or a batch: much larger ones exhaust the memory


class BadInputError(Exception):
    """The user's input cannot be used; the message has the flag, its value, and what it accepts."""

    def __init__(self, what: str, value: object, accepted: str) -> None:
        """The message is ``{what} {value}: must be {accepted}``."""
        super().__init__(f"{what} {value}: must be {accepted}")


def require(condition: bool, what: str, value: object, accepted: str) -> None:
    """Raises BadInputError unless the condition holds."""
    if not condition:
        raise BadInputError(what, value, accepted)


def require_positive(flag: str, value: float, units: str = "") -> None:
    """Raises BadInputError unless the value is above 0 and float32 holds its square."""
    accepted = f"a number above 0, {SMALLEST:g} to {LARGEST:g}" + (f" ({units})" if units else "")
    require(SMALLEST <= value <= LARGEST, flag, value, accepted)


def require_non_negative(flag: str, value: float, units: str) -> None:
    """Raises BadInputError unless the value is 0, or above it and float32 holds its square."""
    accepted = f"0, or {SMALLEST:g} to {LARGEST:g} ({units})"
    require(value == 0 or SMALLEST <= value <= LARGEST, flag, value, accepted)


def require_distinct(flag: str, values: Collection[float] | Collection[str]) -> None:
    """Raises BadInputError unless there are values, and no two are the same."""
    require(len(values) > 0, flag, "(nothing)", "one or more")
    once = len(set(values)) == len(values)
    shown = (value if isinstance(value, str) else f"{value:g}" for value in values)
    require(once, flag, " ".join(shown), "given once each")


def require_seeds(seeds: int, seed: int) -> None:
    """Raises BadInputError unless ``seed``, ..., ``seed + seeds - 1`` are seeds of JAX's keys."""
    require(seeds >= 1, "--seeds", seeds, "at least 1")
    accepted = f"at least 0, and seed + seeds at most {MAX_SEED}"
    require(0 <= seed <= MAX_SEED - seeds, "--seed", seed, accepted)


@runtime_checkable
class Settings(Protocol):
    """A command's flags, a dataclass."""

    def check(self) -> None:
        """Raises BadInputError for the first flag whose value cannot be used."""


@runtime_checkable
class CacheSettings(Protocol):
    """The flag that :func:`~spread_jax.cli.command.start_jax` looks at."""

    @property
    def no_compilation_cache(self) -> bool: ...


@dataclasses.dataclass(frozen=True)
class TrainingSettings:
    """Flags that every training command has."""

    steps: int = 10_000
    """Optimizer steps of a run."""
    seeds: int = 16
    """Number of seeds: independent runs (initialisation, data, noise)."""
    seed: int = 0
    """The first seed. Run i starts from key(seed + i)."""
    batch_size: int = 128
    """Data points per step."""
    hidden: tuple[int, ...] = (64,)
    """Widths of the hidden layers of the encoder and of the decoder."""
    out: Path = Path("outputs")
    """Folder for the results."""
    quiet: bool = False
    """Show no progress."""
    save_params: bool = False
    """Write the final parameters of every run into params.npz."""
    no_compilation_cache: bool = False
    """Do not keep compiled programs in the user's cache folder."""

    def check(self) -> None:
        """Raises BadInputError for the first flag whose value cannot be used."""
        require(1 <= self.steps <= MAX_STEPS, "--steps", self.steps, f"1 to {MAX_STEPS}")
        require_seeds(self.seeds, self.seed)
        in_range = 1 <= self.batch_size <= MOST_UNITS
        require(in_range, "--batch-size", self.batch_size, f"1 to {MOST_UNITS}")
        in_range = bool(self.hidden) and all(1 <= width <= MOST_UNITS for width in self.hidden)
        widths = " ".join(map(str, self.hidden)) or "(nothing)"
        require(in_range, "--hidden", widths, f"one width or more, each 1 to {MOST_UNITS}")


@dataclasses.dataclass(frozen=True)
class WatchedSettings(TrainingSettings):
    """Flags of a command whose runs can be watched."""

    tensorboard: bool = False
    """Write event files for TensorBoard, OUT/tensorboard; needs the extra tensorboard."""


@dataclasses.dataclass(frozen=True)
class DistributedSettings(TrainingSettings):
    """Flags of a command that can run on several processes."""

    distributed: bool = False
    """Run on several processes. Slurm, Open MPI and TPU pods are detected."""
    coordinator: str | None = None
    """HOST:PORT of process 0, if no cluster is detected."""
    num_processes: int | None = None
    """Number of processes, if no cluster is detected."""
    process_id: int | None = None
    """Number of this process, counted from 0, if no cluster is detected."""

    def check(self) -> None:
        super().check()
        given = {
            "--coordinator": self.coordinator,
            "--num-processes": self.num_processes,
            "--process-id": self.process_id,
        }
        missing = [flag for flag, value in given.items() if value is None]
        if len(missing) == len(given):
            return
        require(self.distributed, next(iter(given)), "", "used with --distributed")
        require(not missing, " ".join(missing), "", "given too: all three or none")
        host, _, port = (self.coordinator or "").rpartition(":")
        is_port = port.isdigit() and 0 < int(port) < 2**16
        require(bool(host) and is_port, "--coordinator", self.coordinator, "HOST:PORT")
        count, number = self.num_processes or 0, self.process_id or 0
        require(count >= 1, "--num-processes", count, "at least 1")
        require(0 <= number < count, "--process-id", number, f"0 to {count - 1}")
