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
FEW = 6  # values that a message shows


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

    def latest(self, runs: dict[str, list] | None = None) -> int | None:
        """Chunks done at the checkpoint, None if there is none; agreed by all processes.

        Args:
          runs: names of what tells the runs apart, each with its JSON values. If the checkpoint is
            of others, CheckpointError says which were and which are.
        """
        self.wait()
        there = self._is_writer and self._file.exists()
        header: dict[str, Any] = self._read()[0] if there else {}
        before = header.get("runs")
        if before and runs and (differing := _differing(before, runs)):
            raise self.of_other_runs("; ".join(differing))
        chunks_done = header.get("chunks_done", 0)
        return int(_from_process_zero(np.int32(chunks_done))) or None

    def restore(self, like: PyTree) -> PyTree:
        """The checkpoint's NumPy leaves, on every process.

        Args:
          like: NumPy leaves with the shapes and dtypes of what was saved.
        """
        if self._is_writer:
            header, body = self._read()
            was, now = header["layout"], _layout(like)
            if list(was.items()) != list(now.items()):
                other = [name for name in was | now if was.get(name) != now.get(name)] or ["order"]
                texts = f"{other[0]} was {was.get(other[0])}, is {now.get(other[0])}"
                raise self.of_other_runs(f"the model has other arrays: {texts}")
            like = _unpack(body, like)
        return _from_process_zero(like)

    def save(self, chunks_done: int, tree: PyTree, runs: dict[str, list] | None = None) -> None:
        """Begins to replace the checkpoint by NumPy leaves, which must not change meanwhile; with
        what :meth:`latest` is to compare."""
        self.wait()
        if self._is_writer:
            header = {"chunks_done": chunks_done, "runs": runs, "layout": _layout(tree)}
            self._saving = self._thread.submit(self._write, header, tree)

    def wait(self) -> None:
        """Waits until all is written."""
        saving, self._saving = self._saving, None
        if saving:
            saving.result()

    def _write(self, header: dict[str, Any], tree: PyTree) -> None:
        part = self.folder / f"{FILE}.part"
        contents: list[bytes | memoryview] = [(json.dumps(header) + "\n").encode()]
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
            f"{self._file}: cannot be read, it is damaged; remove the folder to start again ({why})"
        )

    def of_other_runs(self, what: str) -> CheckpointError:
        """The error for a checkpoint that is whole, and of other runs: ``what`` differs."""
        return CheckpointError(
            f"{self.folder}: was begun with other settings: {what}; go on with those, or take "
            "another folder"
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


def _differing(was: dict[str, list], now: dict[str, list]) -> list[str]:
    """``sigma_fix was 0, 0.1, is 0, 0.1, 0.3``, for every name that differs."""
    told = []
    for name in was | now:
        before, after = was.get(name, []), now.get(name, [])
        if before == after:
            continue
        texts = f"{name} was {_text(before)}, is {_text(after)}"
        gone, new = (
            [value for value in one if value not in other]
            for one, other in ((before, after), (after, before))
        )
        if max(len(before), len(after)) > FEW and len(gone) + len(new) <= FEW:
            parts = {"without": gone, "with": new}
            changes = [f"now {word} {_text(values)}" for word, values in parts.items() if values]
            texts = f"{name} is {' and '.join(changes)}" if changes else texts
        told.append(texts)
    return told


def _text(values: list) -> str:
    texts = [f"{value:.6g}" if isinstance(value, float) else str(value) for value in values]
    if len(texts) > FEW:
        texts = [*texts[:2], "...", f"{texts[-1]} ({len(texts)} values)"]
    return ", ".join(texts) or "not there"


def _layout(tree: PyTree) -> dict[str, str]:
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {jax.tree_util.keystr(path): f"{leaf.dtype} {leaf.shape}" for path, leaf in leaves}


def _unpack(body: memoryview, like: PyTree) -> PyTree:
    leaves, structure = jax.tree.flatten(like)
    parts = np.split(np.frombuffer(body, np.uint8), np.cumsum([leaf.nbytes for leaf in leaves]))
    views = [x.view(leaf.dtype).reshape(leaf.shape) for x, leaf in zip(parts, leaves, strict=False)]
    return jax.tree.unflatten(structure, views)


def _from_process_zero(tree: PyTree) -> PyTree:
    if jax.process_count() == 1:
        return tree
    return jax.tree.map(np.asarray, multihost_utils.broadcast_one_to_all(tree))
