"""Where a sweep keeps all that it needs to go on after a crash; only process 0 touches the disk."""

import json
import os
import shutil
import zlib
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jaxtyping import PyTree

IDENTITY = "sweep.json"
FILE = "checkpoint"
CRC_BYTES = 4


class CheckpointError(Exception):
    """A checkpoint cannot be read, written or used; the message says which and why."""


class Checkpoints:
    """A folder that holds the newest checkpoint of one sweep.

    It is one file, replaced as a whole: a line of JSON (chunks of steps done, layout of the
    arrays), the bytes of all arrays, and the CRC-32 of both, which detects damage, though not
    forgery, in less than half the time of SHA-256. Each method raises CheckpointError where it
    cannot read or write, or where the write that :meth:`save` began has failed.
    """

    def __init__(self, folder: Path | str, settings: dict[str, Any], *, resume: bool) -> None:
        """Opens the folder; without ``resume``, an earlier checkpoint in it is forgotten.

        Args:
          folder: where; made if missing.
          settings: JSON values that a resumed sweep must share with the one that began it: all
            that its numbers and seeds do not tell, such as networks, loss and data.
          resume: go on from the checkpoint, if there is one.

        Raises:
          CheckpointError: if the folder holds something else, was begun with other settings
            (their names and both values are given), or cannot be read or written.
        """
        self.folder = Path(folder).absolute()
        self._file = self.folder / FILE
        self._is_writer = jax.process_index() == 0
        self._thread = ThreadPoolExecutor(max_workers=1)  # the disk is slow, and training goes on
        self._saving: Future | None = None
        if self._is_writer:
            try:
                _claim(self.folder, json.loads(json.dumps(settings)), resume)
            except (OSError, ValueError) as error:
                raise CheckpointError(f"{self.folder}: {error}") from error

    def latest(self) -> int | None:
        """Chunks done at the checkpoint, None if there is none; agreed by all processes."""
        self.wait()
        there = self._is_writer and self._file.exists()
        chunks_done = self._read()[0]["chunks_done"] if there else 0
        return int(_from_process_zero(np.int32(chunks_done))) or None

    def restore(self, like: PyTree) -> PyTree:
        """The checkpoint's NumPy leaves, on every process.

        Args:
          like: NumPy leaves with the shapes and dtypes of what was saved.
        """
        if self._is_writer:
            header, body = self._read()
            if {**header, **_layout(like)} != header:
                raise self._cannot_read("it is of another number of runs, or of another model")
            like = _unpack(body, like)
        return _from_process_zero(like)

    def save(self, chunks_done: int, tree: PyTree) -> None:
        """Begins to replace the checkpoint by NumPy leaves, which must not change meanwhile."""
        self.wait()
        if self._is_writer:
            self._saving = self._thread.submit(self._write, chunks_done, tree)

    def wait(self) -> None:
        """Waits until all is written."""
        saving, self._saving = self._saving, None
        if saving:
            saving.result()

    def _write(self, chunks_done: int, tree: PyTree) -> None:
        part = self.folder / f"{FILE}.part"
        header = json.dumps({"chunks_done": chunks_done, **_layout(tree)}) + "\n"
        contents: list[bytes | memoryview] = [header.encode()]
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
            part.replace(self._file)
        except OSError as error:
            raise CheckpointError(f"{self.folder}: cannot be written ({error})") from error

    def discard(self) -> None:
        """Removes the folder: the sweep is finished."""
        self.wait()
        if self._is_writer:
            shutil.rmtree(self.folder, ignore_errors=True)

    def _read(self) -> tuple[dict[str, Any], memoryview]:
        """The header, and the bytes of the arrays."""
        try:
            content = self._file.read_bytes()
        except OSError as error:
            raise self._cannot_read(str(error)) from error
        whole, crc = memoryview(content)[:-CRC_BYTES], content[-CRC_BYTES:]
        if not whole or zlib.crc32(whole).to_bytes(CRC_BYTES) != crc:
            raise self._cannot_read("its digest is not that of its content")
        start = content.index(b"\n") + 1
        return json.loads(content[:start]), whole[start:]

    def _cannot_read(self, why: str) -> CheckpointError:
        return CheckpointError(
            f"{self._file}: cannot be read, it is damaged or not of this sweep; remove the folder "
            f"to start again ({why})"
        )


def _claim(folder: Path, settings: dict[str, Any], resume: bool) -> None:
    identity = folder / IDENTITY
    if folder.exists() and any(folder.iterdir()) and not identity.exists():
        raise ValueError(f"holds files but no {IDENTITY}: it is no sweep's checkpoint folder")
    if identity.exists() and resume:
        try:
            before = dict(json.loads(identity.read_text()))
        except (ValueError, TypeError):
            raise ValueError(f"its {IDENTITY} is not a sweep's: remove the folder") from None
        differing = [
            f"{name} was {before.get(name)}, is {settings.get(name)}"
            for name in sorted(before.keys() | settings.keys())
            if before.get(name) != settings.get(name)
        ]
        if differing:
            raise ValueError("was begun with other settings: " + "; ".join(differing))
        return
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    identity.write_text(json.dumps(settings, indent=1) + "\n")


def _layout(tree: PyTree) -> dict[str, str]:
    return {"layout": str(jax.tree.map(lambda leaf: f"{leaf.dtype} {leaf.shape}", tree))}


def _unpack(body: memoryview, like: PyTree) -> PyTree:
    leaves, structure = jax.tree.flatten(like)
    parts = np.split(np.frombuffer(body, np.uint8), np.cumsum([leaf.nbytes for leaf in leaves]))
    views = [x.view(leaf.dtype).reshape(leaf.shape) for x, leaf in zip(parts, leaves, strict=False)]
    return jax.tree.unflatten(structure, views)


def _from_process_zero(tree: PyTree) -> PyTree:
    if jax.process_count() == 1:
        return tree
    return jax.tree.map(np.asarray, multihost_utils.broadcast_one_to_all(tree))
