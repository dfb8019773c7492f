"""Where a sweep keeps its runs, the finished ones and those on their way; only process 0 touches
the disk."""

import json
import math
import os
import zlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.experimental import multihost_utils
from jaxtyping import PyTree

from spread_jax.loss_statistics import can_be_lengthened
from spread_jax.sweeps.identity import Identity, digest

NAME = "runs-{}.checkpoint"
CRC_BYTES = 4


class CheckpointError(Exception):
    """A checkpoint cannot be read, written or used; the message says which and why."""


class Stored(NamedTuple):
    """What a folder has of the runs of a sweep.

    Attributes:
      records: ``[run]``, how many records each is far; 0 where it is not there.
      num_steps: ``[run]``, the length of the whole run that it was stored as.
      places: of each run that is there, the file and the place in it; only on process 0.
      unused: a sentence on runs of these seeds and numbers that are there and cannot be used, "" if
        there are none.
    """

    records: np.ndarray
    num_steps: np.ndarray
    places: dict[int, tuple[Path, int]]
    unused: str


class Checkpoints:
    """A folder of runs: whoever trains one of them again goes on from what is there.

    A file holds runs that were trained together, with their curves: those of one sweep, or those
    that a sweep which grew had to add. Its name and its first line say by a digest which runs they
    are and how far; so sweeps can share a folder, and folders are merged by copying their files.
    It is replaced as a whole after every chunk of steps until its runs are finished, and never
    again: a line of JSON behind its CRC-32, the bytes of all arrays, and the CRC-32 of everything,
    which detects damage, though not forgery, in less than half the time of SHA-256. Each method
    raises CheckpointError where it cannot read or write, or where the write that :meth:`save` began
    has failed.
    """

    def __init__(self, folder: Path | str, settings: dict[str, Any] | None = None) -> None:
        """Opens the folder.

        Args:
          folder: where; made if missing.
          settings: JSON values by which a message tells this training from others in the folder,
            such as ``{"hidden": 64}``. Nothing depends on them.

        Raises:
          CheckpointError: if the folder holds other files and no runs, or cannot be made.
        """
        self.folder = Path(folder).absolute()
        self._settings = json.loads(json.dumps(settings or {}, default=str))
        self._is_writer = jax.process_index() == 0
        self._thread = ThreadPoolExecutor(max_workers=1)  # the disk is slow, and training goes on
        self._saving: Future | None = None
        if self._is_writer:
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
                is_others = any(self.folder.iterdir()) and not any(self.folder.glob("runs-*"))
            except OSError as error:
                raise CheckpointError(f"{self.folder}: {error}") from error
            if is_others:
                what = f"holds files but no {NAME.format('...')}"
                raise CheckpointError(f"{self.folder}: {what}: it is no sweep's checkpoint folder")

    def find(self, identity: Identity, names: Sequence[str]) -> Stored:
        """What is there of the runs with these names, each as far as possible; agreed by all
        processes."""
        self.wait()
        records = np.zeros(len(names), np.int32)
        num_steps = np.full(len(names), identity.num_steps, np.int32)
        places: dict[int, tuple[Path, int]] = {}
        others: list[tuple[int, dict[str, Any]]] = []
        runs_of = defaultdict(list)  # of the same numbers there can be several
        for run, name in enumerate(names):
            runs_of[name].append(run)
        for path, header in self._headers() if self._is_writer else ():
            there = enumerate(header["runs"])
            mine = [(place, run) for place, name in there for run in runs_of.get(name, ())]
            if mine and not _goes_on(header, identity):
                others.append((len(mine), header))
                continue
            # of two that are as far the one of this length needs no other statistics
            ahead = header["records"], header["num_steps"] == identity.num_steps
            for place, run in mine:
                if ahead > (records[run], num_steps[run] == identity.num_steps):
                    records[run], num_steps[run] = header["records"], header["num_steps"]
                    places[run] = path, place
        records, num_steps = _from_process_zero((records, num_steps))
        all_there = (records * identity.record_every == identity.num_steps).all()
        unused = "" if all_there else self._unused(identity, others)
        return Stored(records, num_steps, places, unused)

    def load(self, stored: Stored, runs: np.ndarray, like: PyTree) -> PyTree:
        """NumPy leaves ``[run, ...]`` of some runs, on every process.

        Args:
          like: shapes and dtypes of one run's leaves, as :meth:`save` was given them.
        """
        tree = jax.tree.map(lambda leaf: np.empty((len(runs), *leaf.shape), leaf.dtype), like)
        if self._is_writer:
            of_file = defaultdict(list)
            for into, run in enumerate(runs.tolist()):
                path, place = stored.places[run]
                of_file[path].append((into, place))
            for path, pairs in of_file.items():
                where, places = map(list, zip(*pairs, strict=True))
                leaves = jax.tree.leaves(tree)
                for leaf, there in zip(leaves, self._read(path, leaves), strict=True):
                    leaf[where] = there[places]
        return _from_process_zero(tree)

    def save(self, identity: Identity, names: Sequence[str], records: int, tree: PyTree) -> None:
        """Begins to replace the file of these runs by NumPy leaves ``[run, ...]``, which must not
        change meanwhile."""
        self.wait()
        if self._is_writer:
            header = {
                "identity": identity.digest,
                "num_steps": identity.num_steps,
                "records": records,
                "told": {**self._settings, **identity.facts},
                "runs": list(names),
            }
            own = digest([identity.digest, str(identity.num_steps), *names])
            path = self.folder / NAME.format(own)
            self._saving = self._thread.submit(self._write, path, header, tree)

    def wait(self) -> None:
        """Waits until all is written."""
        saving, self._saving = self._saving, None
        if saving:
            saving.result()

    def _write(self, path: Path, header: dict[str, Any], tree: PyTree) -> None:
        part = path.with_suffix(".part")
        line = json.dumps(header).encode()
        contents: list[bytes | memoryview] = [f"{zlib.crc32(line):08x} ".encode() + line + b"\n"]
        contents += [np.ravel(leaf).view(np.uint8).data for leaf in jax.tree.leaves(tree)]
        crc = 0
        try:
            with part.open("wb") as file:
                for content in contents:
                    crc = zlib.crc32(content, crc)
                    file.write(content)
                file.write(crc.to_bytes(CRC_BYTES))
                file.flush()
                os.fsync(file.fileno())
            part.replace(path)
        except OSError as error:
            raise CheckpointError(f"{self.folder}: cannot be written ({error})") from error

    def _headers(self) -> Iterator[tuple[Path, dict[str, Any]]]:
        for path in sorted(self.folder.glob(NAME.format("*"))):
            try:
                with path.open("rb") as file:
                    crc, _, line = file.readline().removesuffix(b"\n").partition(b" ")
            except OSError as error:
                raise _cannot_read(path, str(error)) from error
            if f"{zlib.crc32(line):08x}".encode() != crc:
                raise _cannot_read(path, "its first line is not what was written")
            yield path, json.loads(line)

    def _read(self, path: Path, like: list[np.ndarray]) -> list[np.ndarray]:
        """Leaves ``[run, ...]`` of all runs in a file, like those of other runs."""
        try:
            content = path.read_bytes()
        except OSError as error:
            raise _cannot_read(path, str(error)) from error
        whole, crc = memoryview(content)[:-CRC_BYTES], content[-CRC_BYTES:]
        if zlib.crc32(whole).to_bytes(CRC_BYTES) != crc:
            raise _cannot_read(path, "its digest is not that of its content")
        start = content.index(b"\n") + 1
        num_runs = len(json.loads(content[:start].partition(b" ")[2])["runs"])
        leaves = []
        for leaf in like:
            shape = num_runs, *leaf.shape[1:]
            there = np.frombuffer(whole, leaf.dtype, math.prod(shape), start)
            leaves.append(there.reshape(shape))
            start += there.nbytes
        return leaves

    def _unused(self, identity: Identity, others: list[tuple[int, dict[str, Any]]]) -> str:
        """A sentence on runs of other trainings: how many, and the header of their file."""
        if not others:
            return ""
        now = {**self._settings, **identity.facts}
        ways = {header["identity"]: _differing(header, now, identity) for _, header in others}
        nearest = min(ways.values(), key=len)
        also = f" (and {len(ways) - 1} other ways)" if len(ways) > 1 else ""
        return (
            f"{self.folder} has {sum(count for count, _ in others)} of these runs as another "
            f"training left them; they stay there, and new ones are trained beside them: "
            f"{'; '.join(nearest)}{also}"
        )


def _goes_on(header: dict[str, Any], identity: Identity) -> bool:
    """Whether runs of a file are the first steps of runs of this identity, or are these runs."""
    done = header["records"] * identity.record_every
    is_longer = header["num_steps"] != identity.num_steps
    return header["identity"] == identity.digest and not (
        is_longer and not can_be_lengthened(done, identity.num_steps, identity.record_every)
    )


def _differing(header: dict[str, Any], now: dict[str, Any], identity: Identity) -> list[str]:
    """``batch_size was 128, is 64``, and so on."""
    was, steps = header["told"], "number of steps"
    names = [name for name in sorted(was | now) if was.get(name) != now.get(name)]
    reasons = [f"{name} was {was.get(name)}, is {now.get(name)}" for name in names]
    if header["identity"] == identity.digest:
        reasons.append("the last tenth of the steps, whose losses are told, has begun in them")
    elif names == [steps]:
        reasons.append("what a step does depends on it, as where a learning rate or a noise falls")
    elif names == ["record_every"]:
        reasons.append(f"its default follows the number of runs; they go on with {was[names[0]]}")
    return reasons or ["what a step does differs: networks, loss, batches, optimizer or schedule"]


def _cannot_read(path: Path, why: str) -> CheckpointError:
    anew = "without this file its runs alone are trained again"
    return CheckpointError(f"{path}: cannot be read, it is damaged ({why}); {anew}")


def _from_process_zero(tree: PyTree) -> PyTree:
    if jax.process_count() == 1:
        return tree
    return jax.tree.map(np.asarray, multihost_utils.broadcast_one_to_all(tree))
