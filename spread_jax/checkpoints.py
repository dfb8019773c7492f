"""Where a sweep keeps all that it needs to go on after a crash; only process 0 touches the disk."""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jaxtyping import PyTree

IDENTITY = "sweep.json"


class CheckpointError(Exception):
    """A checkpoint cannot be read, written or used; the message says which and why."""


class Checkpoints:
    """A folder of checkpoints of one sweep, numbered by the chunks of steps that are done.

    Saving is asynchronous; a checkpoint appears whole or not at all.
    """

    def __init__(self, folder: Path | str, settings: dict[str, Any], *, resume: bool) -> None:
        """Opens the folder; without ``resume``, earlier checkpoints in it are forgotten.

        Args:
          folder: where; made if missing.
          settings: JSON values that a resumed sweep must share with the one that began it: all
            that its numbers and seeds do not tell, such as networks, loss and data.
          resume: go on from the newest checkpoint, if there is one.

        Raises:
          CheckpointError: if the folder holds something else, was begun with other settings
            (their names and both values are given), or cannot be read or written.
        """
        self._folder = Path(folder).absolute()
        self._manager: Any = None
        if jax.process_index() != 0:
            return
        import orbax.checkpoint as ocp  # a second and more, which only sweeps with checkpoints pay

        try:
            _claim(self._folder, json.loads(json.dumps(settings)), resume)
            alone = ocp.options.MultiprocessingOptions(primary_host=0, active_processes={0})
            self._manager = ocp.CheckpointManager(
                self._folder,
                options=ocp.CheckpointManagerOptions(
                    max_to_keep=2, create=False, multiprocessing_options=alone
                ),
                item_handlers=ocp.PyTreeCheckpointHandler(
                    use_compression=False, multiprocessing_options=alone
                ),
            )
        except (OSError, ValueError) as error:
            raise CheckpointError(f"{self._folder}: {error}") from error

    @property
    def folder(self) -> Path:
        return self._folder

    def latest(self) -> int | None:
        """Chunks done at the newest checkpoint, None if there is none; agreed by all processes."""
        step = self._manager.latest_step() if self._manager else None
        step = int(_from_process_zero(np.int32(-1 if step is None else step)))
        return None if step < 0 else step

    def restore(self, chunks_done: int, like: PyTree) -> PyTree:
        """The checkpoint's NumPy leaves, on every process.

        Args:
          chunks_done: as :meth:`latest` says.
          like: leaves with ``shape`` and ``dtype`` of what was saved.

        Raises:
          CheckpointError: if it cannot be read.
        """
        target = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), like)
        if self._manager:
            import orbax.checkpoint as ocp

            try:
                saved = self._manager.restore(
                    chunks_done, args=ocp.args.PyTreeRestore({"bytes": _pack(target)})
                )
                target = _unpack(saved["bytes"], target)
            except Exception as error:  # orbax raises whatever its storage raises
                raise CheckpointError(
                    f"{self._folder}: checkpoint {chunks_done} cannot be read, it is damaged or "
                    f"not of this sweep; remove the folder to start again ({_first_line(error)})"
                ) from error
        return _from_process_zero(target)

    def save(self, chunks_done: int, tree: PyTree) -> None:
        """Begins to save NumPy leaves; they must not change afterwards.

        Raises:
          CheckpointError: if this save or the one before it failed.
        """
        if self._manager:
            import orbax.checkpoint as ocp

            try:
                packed = ocp.args.PyTreeSave({"bytes": _pack(tree)})
                if not self._manager.save(chunks_done, args=packed):
                    raise OSError(f"checkpoint {chunks_done} was skipped")
            except Exception as error:  # orbax raises whatever its storage raises
                raise self._cannot_write(error) from error

    def wait(self) -> None:
        """Waits for the save under way.

        Raises:
          CheckpointError: if it failed.
        """
        if self._manager:
            try:
                self._manager.wait_until_finished()
            except Exception as error:  # orbax raises whatever its storage raises
                raise self._cannot_write(error) from error

    def close(self) -> None:
        """Waits for the save under way, and ends.

        Raises:
          CheckpointError: if it failed.
        """
        self.wait()
        if self._manager:
            self._manager.close()

    def discard(self) -> None:
        """Removes the folder: the sweep is finished.

        Raises:
          CheckpointError: if the last save failed.
        """
        self.close()
        if self._manager:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _cannot_write(self, error: Exception) -> CheckpointError:
        return CheckpointError(f"{self._folder}: cannot be written ({_first_line(error)})")


def _claim(folder: Path, settings: dict[str, Any], resume: bool) -> None:
    identity = folder / IDENTITY
    if folder.exists() and any(folder.iterdir()) and not identity.exists():
        raise ValueError(f"holds files but no {IDENTITY}: it is no sweep's checkpoint folder")
    if identity.exists() and resume:
        try:
            before = dict(json.loads(identity.read_text()))
        except (ValueError, TypeError):
            raise ValueError(f"its {IDENTITY} is not a sweep's: remove the folder") from None
        _check_same(before, settings)
        return
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    identity.write_text(json.dumps(settings, indent=1) + "\n")


def _check_same(before: dict[str, Any], now: dict[str, Any]) -> None:
    differing = [
        f"{name} was {before.get(name)}, is {now.get(name)}"
        for name in sorted(before.keys() | now.keys())
        if before.get(name) != now.get(name)
    ]
    if differing:
        raise ValueError("was begun with other settings: " + "; ".join(differing))


def _pack(tree: PyTree) -> np.ndarray:
    """One array of bytes: all leaves, then a digest of them and of their layout.

    Saved one by one they cost three times as much, and a damaged one of many leaves threads of the
    storage behind, which report it again after the error.
    """
    leaves = np.concatenate([np.ravel(leaf).view(np.uint8) for leaf in jax.tree.leaves(tree)])
    return np.concatenate([leaves, _digest(tree, leaves)])


def _unpack(packed: np.ndarray, like: PyTree) -> PyTree:
    """The tree that was packed, laid out as ``like``; ValueError if it is another."""
    shapes, structure = jax.tree.flatten(like)
    ends = np.cumsum([leaf.nbytes for leaf in shapes])
    if len(packed) != ends[-1] + hashlib.sha256().digest_size:
        raise ValueError("it is of another number of runs, or of another model")
    *parts, digest = np.split(packed, ends)
    if not np.array_equal(digest, _digest(like, packed[: ends[-1]])):
        raise ValueError("it holds other numbers")
    leaves = [
        part.view(leaf.dtype).reshape(leaf.shape) for part, leaf in zip(parts, shapes, strict=True)
    ]
    return jax.tree.unflatten(structure, leaves)


def _digest(tree: PyTree, leaves: np.ndarray) -> np.ndarray:
    layout = jax.tree.map(lambda leaf: f"{leaf.dtype}{leaf.shape}", tree)
    digest = hashlib.sha256(str(layout).encode())
    digest.update(leaves.data)
    return np.frombuffer(digest.digest(), np.uint8)


def _from_process_zero(tree: PyTree) -> PyTree:
    if jax.process_count() == 1:
        return tree
    return jax.tree.map(np.asarray, multihost_utils.broadcast_one_to_all(tree))


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]
