"""How a command starts, is stopped, and ends."""

import contextlib
import gc
import io
import itertools
import os
import shlex
import signal
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import tyro

from spread_jax.cli.output import LOSS_SO_FAR
from spread_jax.cli.settings import (
    BadInputError,
    CacheSettings,
    DistributedSettings,
    Settings,
    WatchedSettings,
)

if TYPE_CHECKING:
    from spread_jax.sweeps import Checkpoints, OnRecord

HEARTBEAT_SECONDS = 30  # a process that hears nothing of another for so long stops

SettingsT = TypeVar("SettingsT", bound=Settings)


def main(settings_type: type[SettingsT], run: Callable[[SettingsT], None]) -> None:
    """Parses the command line and runs, as :func:`carry_out` does."""

    def parse() -> SettingsT:
        return tyro.cli(
            settings_type,
            prog=f"python -m {_module()}",
            description=" ".join((settings_type.__doc__ or "").split()),
            config=(tyro.conf.FlagCreatePairsOff,),
        )

    carry_out(parse, run)


def carry_out(parse: Callable[[], SettingsT], run: Callable[[SettingsT], None]) -> None:
    """Parses and runs a command; bad input ends with one line on stderr and status 2.

    A character that the console cannot print, such as σ, is replaced and not an error.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a notebook's is none
            stream.reconfigure(errors="replace")
    try:
        _require_values(sys.argv[1:])
        settings = parse()
        settings.check()
        with _warnings_in_one_line(), _rare_garbage_collection():
            run(settings)
    except BadInputError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        raise SystemExit(130) from None


def _require_values(arguments: list[str]) -> None:
    """Raises BadInputError for a flag with an empty value, which a path would take for ``.``."""
    for before, argument in itertools.pairwise(["", *arguments]):
        flag, _, value = argument.partition("=")
        if before.startswith("--") and not argument:
            raise BadInputError(before, "''", "given a value, and not an empty one")
        if flag.startswith("--") and "=" in argument and not value:
            raise BadInputError(flag, "''", "given a value, and not an empty one")


@contextlib.contextmanager
def _warnings_in_one_line() -> Iterator[None]:
    """Shows Python's warnings as a command's own, without the line of code that they came from."""
    before = warnings.formatwarning
    warnings.formatwarning = lambda message, *_, **__: f"warning: {message}\n"
    try:
        yield
    finally:
        warnings.formatwarning = before


@contextlib.contextmanager
def _rare_garbage_collection() -> Iterator[None]:
    """Makes Python search for cycles some hundred times as rarely. The searches took 0.7 of the
    default toy's 5.9 s, and freed next to nothing: what importing and tracing allocate is kept."""
    before = gc.get_threshold()
    gc.set_threshold(200_000, 10, 10)
    try:
        yield
    finally:
        gc.set_threshold(*before)


def start_jax(settings: CacheSettings) -> None:
    """Sets up JAX before its first use: a CPU device per core, and the cache of compiled programs.

    Joins the other processes where :class:`DistributedSettings` ask for it.
    """
    import jax

    from spread_jax.sweeps import use_all_cores

    use_all_cores()
    if not settings.no_compilation_cache:
        caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        jax.config.update("jax_compilation_cache_dir", str(caches / "spread_jax"))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
        jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    if not (isinstance(settings, DistributedSettings) and settings.distributed):
        return
    try:
        jax.distributed.initialize(
            settings.coordinator,
            settings.num_processes,
            settings.process_id,
            # otherwise the coordinator listens on every interface
            coordinator_bind_address=settings.coordinator if settings.process_id == 0 else None,
            heartbeat_timeout_seconds=HEARTBEAT_SECONDS,
            shutdown_timeout_seconds=HEARTBEAT_SECONDS,
        )
    except ValueError:  # nothing was detected
        flags = "--coordinator HOST:PORT --num-processes N --process-id I"
        accepted = f"used under Slurm, Open MPI or on a TPU pod, or with {flags}"
        raise BadInputError("--distributed", "", accepted) from None


def watchers(settings: WatchedSettings) -> list["OnRecord"]:
    """Listeners of a sweep: the picture of its loss so far, and event files where they are asked
    for."""
    from spread_jax.listeners import LossPicture, TensorBoardListener

    # the finished command draws its own picture of the loss
    listeners: list[OnRecord] = [LossPicture(settings.out / LOSS_SO_FAR, at_end=False)]
    if settings.tensorboard:
        try:
            listeners.append(TensorBoardListener(settings.out / "tensorboard"))
        except ImportError as error:
            raise BadInputError("--tensorboard", "", f"used with its extra ({error})") from None
    return listeners


class _StoppedError(Exception):
    """Ctrl-C or SIGTERM came; it is raised between two calls of the compiled program."""


@contextlib.contextmanager
def checkpoints(
    folder: Path, settings: dict[str, Any]
) -> Iterator[tuple["Checkpoints", Callable[[object], None]]]:
    """Yields the checkpoints in a folder, and an ``on_record`` with which a signal stops the sweep
    at the next report of its records; to be the last listener.

    The signals are Ctrl-C (status 130) and SIGTERM (143). They leave the checkpoints whole, and the
    command that goes on from them is printed; a second Ctrl-C stops at once. A checkpoint
    that cannot be used is bad input.
    """
    from spread_jax.sweeps import CheckpointError, Checkpoints

    heard: list[int] = []

    def on_signal(number: int, frame: object) -> None:
        heard.append(number)
        for number, handler in before.items():
            signal.signal(number, handler)

    def stop_if_asked(records: object) -> None:
        if heard:
            raise _StoppedError

    before = {n: signal.signal(n, on_signal) for n in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield Checkpoints(folder, settings), stop_if_asked
    except _StoppedError:
        arguments = [argument for argument in sys.argv[1:] if argument != "--resume"]
        again = shlex.join(["python", "-m", _module(), *arguments, "--resume"])
        message = f"stopped; all finished chunks of steps are saved. To go on:\n  {again}"
        print(message, file=sys.stderr)
        raise SystemExit(128 + heard[0]) from None
    except CheckpointError as error:
        accepted = f"a folder that checkpoints can use: {error}"
        raise BadInputError("--out", folder.parent, accepted) from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _module() -> str:
    """The module that ``python -m`` runs, such as ``experiments.toy``."""
    return ".".join(Path(sys.argv[0]).with_suffix("").parts[-2:])
