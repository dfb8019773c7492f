"""Processes like ``python -m module ...``, two seconds sooner: they begin with JAX imported.

They have the environment of the first of them, and one seed of Python's hashes: what must not
depend on it needs a process of another kind too. They end without the end of an interpreter.
"""

import atexit
import contextlib
import functools
import itertools
import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import jax

_server = multiprocessing.get_context("forkserver")
_server.set_forkserver_preload(
    [
        *("flax.linen", "optax", "pandas", "xarray", "scipy.optimize", "sklearn.mixture"),
        *("spread_jax.figures", "spread_jax.sweeps", "spread_jax.recipe", "spread_jax.problems"),
    ]
)
_numbers = itertools.count()


@functools.cache
def _folder() -> str:
    """Of what the processes write."""
    folder = tempfile.TemporaryDirectory()
    atexit.register(folder.cleanup)
    return folder.name


class Forked:
    """A process with the methods of :class:`subprocess.Popen` that tests use."""

    def __init__(self, line: tuple[str, ...], cores: list[int] | None) -> None:
        self._texts = [Path(_folder(), str(next(_numbers))) for _ in ("stdout", "stderr")]
        self._process = _server.Process(target=_carry_out, args=(line, cores, self._texts))
        self._process.start()
        atexit.register(self.kill)  # a failed test leaves it running, and Python waits for it

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self.returncode

    def wait(self, timeout: float) -> int:
        self._process.join(timeout)
        if self.returncode is None:
            self.kill()
            self._process.join()
            raise subprocess.TimeoutExpired(str(self._process), timeout)
        return self.returncode

    def communicate(self, timeout: float = 300) -> tuple[str, str]:
        """What it wrote to stdout and to stderr."""
        self.wait(timeout)
        out, error = (path.read_text() if path.exists() else "" for path in self._texts)
        return out, error

    def send_signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):  # it may end just now
            if self.poll() is None:
                os.kill(self._process.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def start(*line: object, cores: list[int] | None = None) -> Forked:
    """``python *line``, where the line begins with ``-m module`` or ``-c program``."""
    return Forked(tuple(map(str, line)), cores)


def _carry_out(line: tuple[str, ...], cores: list[int] | None, texts: list[Path]) -> None:
    if cores:
        os.sched_setaffinity(0, cores)
    for number, path in enumerate(texts, start=1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), number)
    flag, program, *arguments = line
    sys.argv = [program, *arguments]
    try:
        if flag == "-m":
            runpy.run_module(program, run_name="__main__", alter_sys=True)
        else:
            exec(program, {"__name__": "__main__"})
    finally:
        # of two processes each waits here for the other: what JAX registers for the end never runs
        jax.distributed.shutdown()
