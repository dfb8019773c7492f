"""What every command shares: its flags, its error messages, its progress and its files.

Nothing here imports JAX at the top: ``--help`` and a wrong flag must answer at once.
"""

import contextlib
import dataclasses
import json
import logging
import math
import os
import platform
import shlex
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import tyro
from rich.console import Console

if TYPE_CHECKING:
    import numpy as np
    import xarray as xr
    from _typeshed import DataclassInstance
    from matplotlib.figure import Figure

    from spread_jax.checkpoints import Checkpoints
    from spread_jax.sweeps import Progress

MAX_SEED = 2**31
MAX_STEPS = 2**31 - 1
SMALLEST, LARGEST = 1e-15, 1e15  # their squares stay well within float32
MOST_UNITS = 1_000_000  # in a layer or a batch: far beyond, memory ends the process
HEARTBEAT_SECONDS = 30  # a process that hears nothing of another for so long stops


class BadInputError(Exception):
    """What the user typed cannot be done; the message says which flag, its value, and what can."""

    def __init__(self, what: str, value: object, accepted: str) -> None:
        super().__init__(f"{what} {value}: must be {accepted}")


def require(condition: bool, what: str, value: object, accepted: str) -> None:
    """Raises BadInputError unless the condition holds."""
    if not condition:
        raise BadInputError(what, value, accepted)


def warn(message: str) -> None:
    print(f"warning: {message}", file=sys.stderr)


@dataclasses.dataclass(frozen=True)
class TrainingSettings:
    """Flags that every training command has."""

    steps: int = 10_000
    """Optimizer steps of a run."""
    seeds: int = 16
    """Number of seeds: independent runs (initialisation, data, noise)."""
    seed: int = 0
    """The first seed; run i starts from key(seed + i)."""
    batch_size: int = 128
    """Data points per step."""
    hidden: tuple[int, ...] = (64,)
    """Widths of the hidden layers of encoder and decoder."""
    out: Path = Path("outputs")
    """Folder for the results."""
    quiet: bool = False
    """Show no progress."""
    save_params: bool = False
    """Write the final parameters of every run, params.npz."""
    no_compilation_cache: bool = False
    """Do not keep compiled programs in the user's cache folder."""

    def check(self) -> None:
        """Raises BadInputError for the first flag whose value cannot be used."""
        require(1 <= self.steps <= MAX_STEPS, "--steps", self.steps, f"1 to {MAX_STEPS}")
        require(self.seeds >= 1, "--seeds", self.seeds, "at least 1")
        require(
            0 <= self.seed <= MAX_SEED - self.seeds,
            "--seed",
            self.seed,
            f"at least 0, and seed + seeds at most {MAX_SEED}",
        )
        in_range = 1 <= self.batch_size <= MOST_UNITS
        require(in_range, "--batch-size", self.batch_size, f"1 to {MOST_UNITS}")
        require(
            len(self.hidden) > 0 and min(self.hidden) >= 1 and max(self.hidden) <= MOST_UNITS,
            "--hidden",
            " ".join(map(str, self.hidden)) or "(nothing)",
            f"one width or more, each 1 to {MOST_UNITS}",
        )


def require_positive(flag: str, value: float, units: str = "") -> None:
    accepted = f"a number above 0, {SMALLEST:g} to {LARGEST:g}" + (f" ({units})" if units else "")
    require(SMALLEST <= value <= LARGEST, flag, value, accepted)


def require_non_negative(flag: str, value: float, units: str) -> None:
    accepted = f"0, or {SMALLEST:g} to {LARGEST:g} ({units})"
    require(value == 0 or SMALLEST <= value <= LARGEST, flag, value, accepted)


class Settings(Protocol):
    """A command's flags, a dataclass."""

    def check(self) -> None:
        """Raises BadInputError for the first flag whose value cannot be used."""


SettingsT = TypeVar("SettingsT", bound=Settings)


def main(settings_type: type[SettingsT], run: Callable[[SettingsT], None]) -> None:
    """Parses the command line and runs; bad input ends with one line on stderr and status 2."""
    settings = tyro.cli(
        settings_type,
        prog=f"python -m {_module()}",
        description=" ".join((settings_type.__doc__ or "").split()),
        config=(tyro.conf.FlagCreatePairsOff,),
    )
    try:
        settings.check()
        run(settings)
    except BadInputError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        raise SystemExit(130) from None


class CacheSettings(Protocol):
    """Flags that :func:`start_jax` looks at."""

    @property
    def no_compilation_cache(self) -> bool: ...


def start_jax(settings: CacheSettings) -> None:
    """Before JAX's first use: a CPU device per core, and the cache of compiled programs.

    With :class:`DistributedSettings` that ask for it, joins the other processes.
    """
    import jax

    from spread_jax.sweeps import use_all_cores

    use_all_cores()
    if not settings.no_compilation_cache:
        caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        jax.config.update("jax_compilation_cache_dir", str(caches / "spread_jax"))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
        jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    if isinstance(settings, DistributedSettings) and settings.distributed:
        _join(settings)


@dataclasses.dataclass(frozen=True)
class DistributedSettings(TrainingSettings):
    """Flags of a command that can run on several processes."""

    distributed: bool = False
    """Run on several processes; Slurm, Open MPI and TPU pods are detected."""
    coordinator: str | None = None
    """HOST:PORT of process 0, where nothing is detected."""
    num_processes: int | None = None
    """Number of processes, where nothing is detected."""
    process_id: int | None = None
    """This process's number, from 0, where nothing is detected."""

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


def _join(settings: DistributedSettings) -> None:
    import jax

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
        accepted = "used under Slurm, Open MPI or on a TPU pod, or with --coordinator HOST:PORT "
        raise BadInputError(
            "--distributed", "", accepted + "--num-processes N --process-id I"
        ) from None


class _StoppedError(Exception):
    """Ctrl-C or SIGTERM, told at a moment when everything is whole."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.status = 128 + number


@contextlib.contextmanager
def checkpoints(
    out: Path, settings: dict[str, Any], *, resume: bool
) -> Iterator[tuple["Checkpoints", Callable[[], None]]]:
    """Yields checkpoints under ``out``, and what to call between chunks so that a stop is heard.

    A stop by Ctrl-C (status 130) or SIGTERM (143) leaves the newest checkpoint whole and says how
    to go on; at the second Ctrl-C it is at once. A checkpoint that cannot be used is bad input.
    """
    from spread_jax.checkpoints import CheckpointError, Checkpoints

    # orbax logs each save, and a failed one with its traceback; the error says it once
    logging.getLogger("absl").setLevel(logging.CRITICAL)
    numbers = (signal.SIGINT, signal.SIGTERM)
    heard: list[int] = []

    def on_signal(number: int, frame: object) -> None:
        heard.append(number)
        for number, handler in before.items():
            signal.signal(number, handler)

    def stop_if_told() -> None:
        if heard:
            raise _StoppedError(heard[0])

    before = {number: signal.signal(number, on_signal) for number in numbers}
    try:
        store = Checkpoints(out / "checkpoints", settings, resume=resume)
        try:
            yield store, stop_if_told
        finally:
            store.close()
    except _StoppedError as stop:
        arguments = [argument for argument in sys.argv[1:] if argument != "--resume"]
        again = shlex.join(["python", "-m", _module(), *arguments, "--resume"])
        print(
            f"stopped; all finished chunks of steps are saved. To go on:\n  {again}",
            file=sys.stderr,
        )
        raise SystemExit(stop.status) from None
    except CheckpointError as error:
        bad = BadInputError("--out", out, f"a folder that checkpoints can use: {error}")
        print(f"error: {bad}", file=sys.stderr, flush=True)
        # at a normal exit the storage's threads add tracebacks of the read or write that failed
        os._exit(2)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _module() -> str:
    """``experiments.toy``: what follows ``python -m``."""
    return ".".join(Path(sys.argv[0]).with_suffix("").parts[-2:])


def already_done(out: Path, identity: dict[str, Any]) -> bool:
    """Whether ``out`` holds the finished results of these settings; says so if it does."""
    try:
        before = json.loads((out / "metrics.json").read_text())["config"]
    except (OSError, ValueError, KeyError, TypeError):
        return False
    done = json.loads(json.dumps(identity)) == {name: before.get(name) for name in identity}
    if done:
        print(f"done already: {out}/ holds the results of these settings")
    return done


class OutputFolder:
    """A folder whose files appear whole or not at all; metrics.json, written last, means done."""

    def __init__(self, path: Path) -> None:
        """Makes the folder, and forgets an earlier run's metrics.json.

        Raises:
          BadInputError: if the folder cannot be made or written.
        """
        self.path = path
        try:
            path.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=path):
                pass
            (path / "metrics.json").unlink(missing_ok=True)
        except OSError as error:
            raise BadInputError(
                "--out", path, f"a folder that can be written ({error.strerror})"
            ) from None

    @contextlib.contextmanager
    def _whole(self, name: str) -> Iterator[Path]:
        part = self.path / f".{name}.part"
        try:
            yield part
            part.replace(self.path / name)
        except OSError as error:
            accepted = f"a folder that {name} can be written to ({error.strerror})"
            raise BadInputError("--out", self.path, accepted) from None
        finally:
            part.unlink(missing_ok=True)

    def write_figure(self, name: str, figure: "Figure") -> None:
        with self._whole(name) as part:
            figure.savefig(part, format="png", dpi=200)

    def write_dataset(self, name: str, dataset: "xr.Dataset") -> None:
        with self._whole(name) as part:
            dataset.to_netcdf(part, engine="scipy")

    def write_params(self, name: str, params: Any) -> None:
        """Every leaf under its path, ``encoder/params/...``, with leading axes (grid, seed)."""
        import jax
        import numpy as np

        leaves = jax.tree_util.tree_flatten_with_path(params)[0]
        arrays = {jax.tree_util.keystr(path, simple=True, separator="/"): x for path, x in leaves}
        with self._whole(name) as part, part.open("wb") as file:
            np.savez(file, **arrays)

    def write_metrics(self, metrics: dict[str, Any]) -> None:
        self.write_json("metrics.json", metrics)

    def write_json(self, name: str, value: dict[str, Any]) -> None:
        """Strict JSON: a number that is not finite becomes null."""
        with self._whole(name) as part:
            part.write_text(json.dumps(strict(value), indent=1, allow_nan=False) + "\n")


def strict(value: Any) -> Any:
    """JSON's own types; a number that is not finite becomes null."""
    if isinstance(value, dict):
        return {key: strict(v) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [strict(v) for v in value]
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value


def config(settings: "DataclassInstance") -> dict[str, Any]:
    """The settings as typed, for metrics.json."""
    return dataclasses.asdict(settings)


def environment(started: float, compile_seconds: float) -> dict[str, Any]:
    """Versions, device and timings, for metrics.json; ``started`` by ``time.perf_counter``."""
    import jax

    device = jax.devices()[0]
    return {
        **host_environment(started, ("jax", "flax", "optax", "numpy")),
        "device": f"{len(jax.devices())} x {device.device_kind} ({device.platform})",
        "compile_seconds": compile_seconds,
    }


def host_environment(started: float, packages: Iterable[str]) -> dict[str, Any]:
    """What a command without JAX can say of where it ran, for metrics.json."""
    import spread_jax
    from spread_jax.machine import num_cores

    return {
        "versions": {
            "python": platform.python_version(),
            "spread_jax": spread_jax.__version__,
            **{package: metadata.version(package) for package in packages},
        },
        "cores": num_cores(),
        "wall_seconds": time.perf_counter() - started,
    }


SECONDS_BETWEEN_LINES = 5.0


@contextlib.contextmanager
def stage_line(quiet: bool) -> Iterator[Callable[[str], None]]:
    """Yields ``(stage)``: a spinner with the stage's name on a terminal, else a line each."""
    console = Console(stderr=True)
    if quiet:
        yield lambda stage: None
    elif console.is_terminal:
        with console.status("") as status:
            yield lambda stage: status.update(f"{stage} ...")
    else:
        yield lambda stage: console.print(f"{stage} ...", highlight=False)


@contextlib.contextmanager
def progress_bar(quiet: bool) -> Iterator[Callable[["Progress"], None]]:
    """Yields a sweep's ``on_progress``: a bar on a terminal, else a line now and then."""
    console = Console(stderr=True)
    if quiet:
        yield lambda progress: None
    elif console.is_terminal:
        with _bar(console) as on_progress:
            yield on_progress
    else:
        yield _lines(console)


@contextlib.contextmanager
def _bar(console: Console) -> Iterator[Callable[["Progress"], None]]:
    from rich import progress as rich_progress

    columns = (
        rich_progress.TextColumn("{task.description}"),
        rich_progress.BarColumn(bar_width=None),
        rich_progress.TaskProgressColumn(),
        rich_progress.TimeElapsedColumn(),
        rich_progress.TimeRemainingColumn(),
        rich_progress.TextColumn("{task.fields[note]}"),
    )
    with rich_progress.Progress(*columns, console=console) as bar:
        task = bar.add_task("compiling", total=None, note="")
        started = 0.0

        def on_progress(progress: "Progress") -> None:
            nonlocal started
            if not progress.done:
                bar.reset(task, total=progress.total, description="training")
                started = time.perf_counter()
                return
            rate = progress.done / (time.perf_counter() - started)
            bar.update(task, completed=progress.done, note=_note(progress, rate))

        yield on_progress


def alarm_once(
    on_progress: Callable[["Progress"], None],
    alarms: Callable[[Mapping[str, "np.ndarray"]], "np.ndarray"],
    advice: str,
) -> Callable[["Progress"], None]:
    """``on_progress``, and one warning at the first chunk after which a likelihood runs away.

    ``alarms`` takes the curves so far to each run's step of alarm, -1 where there is none.
    """
    told = False
    seen = 0

    def with_alarm(progress: "Progress") -> None:
        nonlocal told, seen
        on_progress(progress)
        num_records = progress.history["loss"].shape[1] if progress.history else 0
        if told or num_records == seen:  # a chunk of many groups is told after each of them
            return
        seen = num_records
        steps = alarms(progress.history)
        fired = steps[steps >= 0]
        if fired.size:
            told = True
            warn(
                f"the likelihood is running away in {fired.size} of {steps.size} runs, seen from "
                f"step {fired.min():,} on: its standard deviation is below 1 % of the data's and "
                f"falls, and so does the loss. {advice}"
            )

    return with_alarm


def _lines(console: Console) -> Callable[["Progress"], None]:
    console.print("compiling ...", highlight=False)
    started = last = time.perf_counter()

    def on_progress(progress: "Progress") -> None:
        nonlocal started, last
        now = time.perf_counter()
        if not progress.done:
            console.print(f"compiled in {now - started:.1f} s, training ...", highlight=False)
            started = last = now
        elif now - last > SECONDS_BETWEEN_LINES:
            last = now
            percent = 100 * progress.done / progress.total
            rate = progress.done / (now - started)
            console.print(f"{percent:3.0f} %  {_note(progress, rate)}", highlight=False)

    return on_progress


def _note(progress: "Progress", rate: float) -> str:
    note = f"{progress.done:,} run-steps, {rate:,.0f}/s"
    return note + (f", {progress.num_nonfinite} non-finite" if progress.num_nonfinite else "")
