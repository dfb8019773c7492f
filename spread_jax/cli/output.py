"""The files that a command writes: whole or not at all, JSON without NaN, metrics.json last."""

import contextlib
import dataclasses
import hashlib
import json
import os
import platform
import tempfile
import time
from collections.abc import Iterable, Iterator
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import spread_jax
from spread_jax.cli.settings import BadInputError
from spread_jax.cores import num_cores

LOSS_SO_FAR = "loss_so_far.png"  # while runs are trained

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.figure import Figure


def already_done(out: Path, identity: dict[str, Any]) -> bool:
    """Whether ``out`` holds the finished results of these settings; says so if it does."""
    try:
        before = json.loads((out / "metrics.json").read_text())["config"]
    except (OSError, ValueError, KeyError, TypeError):
        return False
    done = json_values(identity) == {name: before.get(name) for name in identity}
    if done:
        print(f"done already: {out}/ holds the results of these settings")
    return done


class OutputFolder:
    """A folder whose files appear whole or not at all; metrics.json, written last, means done."""

    def __init__(self, path: Path) -> None:
        """Makes the folder, forgets an earlier run's metrics.json, and starts the clock;
        BadInputError if the folder cannot be written."""
        self.path, self.started = path, time.perf_counter()
        try:
            path.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=path):
                pass
            (path / "metrics.json").unlink(missing_ok=True)
        except OSError as error:
            accepted = f"a folder that can be written ({error.strerror})"
            raise BadInputError("--out", path, accepted) from None

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
        """A PNG of 200 dots per inch."""
        with self._whole(name) as part:
            figure.savefig(part, format="png", dpi=200)

    def write_dataset(self, name: str, dataset: "xr.Dataset") -> None:
        """A netCDF file of version 3."""
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
        """metrics.json, the last file of a run."""
        self.write_json("metrics.json", metrics)

    def finish(self, config: Any, compile_seconds: float, results: dict[str, Any]) -> None:
        """metrics.json of a training command, and a line that says where everything is.

        ``config`` is the settings, a dataclass, or a dict of them and of what else distinguishes
        the run; ``compile_seconds`` is the time that compiling all programs took.
        """
        config = config if isinstance(config, dict) else dataclasses.asdict(config)
        environment = jax_environment(self.started, compile_seconds)
        (self.path / LOSS_SO_FAR).unlink(missing_ok=True)  # of a run on its way, which is done
        self.write_metrics({"config": config, "environment": environment, **results})
        print(f"written to {self.path}/")

    def write_json(self, name: str, value: dict[str, Any]) -> None:
        """Strict JSON: a number that is not finite becomes null."""
        with self._whole(name) as part:
            part.write_text(json.dumps(json_values(value), indent=1, allow_nan=False) + "\n")


def digest(dataset: "xr.Dataset") -> str:
    """SHA-256 over the variables in name order: equal for runs of equal numbers."""
    sha = hashlib.sha256()
    for name in sorted(map(str, dataset.data_vars)):
        sha.update(name.encode())
        sha.update(dataset[name].values.tobytes())
    return sha.hexdigest()


def json_values(value: Any) -> Any:
    """The value in JSON's own types: a path becomes a string, a number that is not finite None."""
    return json.loads(json.dumps(value, default=os.fspath), parse_constant=lambda _: None)


def jax_environment(started: float, compile_seconds: float) -> dict[str, Any]:
    """Versions, device and timings, for metrics.json; ``started`` is of ``time.perf_counter``."""
    import jax

    devices = jax.devices()
    device = f"{len(devices)} x {devices[0].device_kind} ({devices[0].platform})"
    host = host_environment(started, ("jax", "flax", "optax", "numpy"))
    return {**host, "device": device, "compile_seconds": compile_seconds}


def host_environment(started: float, packages: Iterable[str]) -> dict[str, Any]:
    """What a command without JAX can say of where it ran, for metrics.json."""
    versions = {"python": platform.python_version(), "spread_jax": spread_jax.__version__}
    versions |= {package: metadata.version(package) for package in packages}
    seconds = time.perf_counter() - started
    return {"versions": versions, "cores": num_cores(), "wall_seconds": seconds}
