"""What every command shares: its flags, its error messages, its progress and its files.

Nothing here imports JAX at the top: ``--help`` and a wrong flag must answer at once.
"""

import contextlib
import dataclasses
import json
import math
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import tyro
from rich.console import Console

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.figure import Figure

    from spread_jax.sweeps import Progress

MAX_SEED = 2**31


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
        require(self.steps >= 1, "--steps", self.steps, "at least 1")
        require(self.seeds >= 1, "--seeds", self.seeds, "at least 1")
        require(
            0 <= self.seed <= MAX_SEED - self.seeds,
            "--seed",
            self.seed,
            f"at least 0, and seed + seeds at most {MAX_SEED}",
        )
        require(self.batch_size >= 1, "--batch-size", self.batch_size, "at least 1")
        require(
            len(self.hidden) > 0 and min(self.hidden) >= 1,
            "--hidden",
            " ".join(map(str, self.hidden)),
            "one width or more, each at least 1",
        )


def require_positive(flag: str, value: float, units: str = "") -> None:
    accepted = "a finite number above 0" + (f" ({units})" if units else "")
    require(math.isfinite(value) and value > 0, flag, value, accepted)


def require_non_negative(flag: str, value: float, units: str) -> None:
    require(
        math.isfinite(value) and value >= 0, flag, value, f"a finite number, 0 or more ({units})"
    )


class Settings(Protocol):
    """A command's flags, a dataclass."""

    def check(self) -> None:
        """Raises BadInputError for the first flag whose value cannot be used."""


SettingsT = TypeVar("SettingsT", bound=Settings)


def main(settings_type: type[SettingsT], run: Callable[[SettingsT], None]) -> None:
    """Parses the command line and runs; bad input ends with one line on stderr and status 2."""
    module = ".".join(Path(sys.argv[0]).with_suffix("").parts[-2:])  # experiments.toy
    settings = tyro.cli(
        settings_type,
        prog=f"python -m {module}",
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


def start_jax(settings: TrainingSettings) -> None:
    """Before JAX's first use: a CPU device per core, and the cache of compiled programs."""
    import jax

    from spread_jax.sweeps import use_all_cores

    use_all_cores()
    if not settings.no_compilation_cache:
        caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        jax.config.update("jax_compilation_cache_dir", str(caches / "spread_jax"))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
        jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


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
            part.write_text(json.dumps(_strict(value), indent=1, allow_nan=False) + "\n")


def _strict(value: Any) -> Any:
    """JSON's own types; a number that is not finite becomes null."""
    if isinstance(value, dict):
        return {key: _strict(v) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [_strict(v) for v in value]
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value


def config(settings: TrainingSettings) -> dict[str, Any]:
    """The settings as typed, for metrics.json."""
    return dataclasses.asdict(settings)


def environment(started: float, compile_seconds: float) -> dict[str, Any]:
    """Versions, device and timings, for metrics.json; ``started`` by ``time.perf_counter``."""
    import jax

    import spread_jax

    packages = ("jax", "flax", "optax", "numpy")
    device = jax.devices()[0]
    return {
        "versions": {
            "python": platform.python_version(),
            "spread_jax": spread_jax.__version__,
            **{package: metadata.version(package) for package in packages},
        },
        "device": f"{len(jax.devices())} x {device.device_kind} ({device.platform})",
        "cores": len(os.sched_getaffinity(0)),
        "wall_seconds": time.perf_counter() - started,
        "compile_seconds": compile_seconds,
    }


SECONDS_BETWEEN_LINES = 5.0


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
