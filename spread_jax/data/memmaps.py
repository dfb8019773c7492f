"""Random rows of a memmap, without its pages becoming memory of the process."""

import mmap
import os
import weakref
from typing import Any

import numpy as np


class MemmapRows:
    """Rows ``[k, *row]`` of a memmap at places from 0, read from its file.

    A page fault costs twice the time of a read, brings 128 KiB around each row, and leaves pages
    that count as memory of the process. Where the file cannot be read in this way, as of a private
    copy (mode "c") or of rows that are not contiguous, the rows are taken from the memmap.
    """

    def __init__(self, array: np.memmap) -> None:
        """``array`` has a row or more."""
        self._array: Any = np.asarray(array)
        self._file: int | None = None
        mapped: Any
        mapped, name = getattr(array, "_mmap", None), getattr(array, "filename", None)
        can_read = isinstance(mapped, mmap.mmap) and hasattr(os, "preadv") and array.mode != "c"
        if not (can_read and name and self._array[:1].flags.c_contiguous and array[0].nbytes):
            return
        begin = array.offset - array.offset % mmap.ALLOCATIONGRANULARITY  # as NumPy maps it
        into = self._array.ctypes.data - np.frombuffer(mapped, np.uint8).ctypes.data
        self._first = begin + into
        try:
            self._file = os.open(name, os.O_RDONLY)
            weakref.finalize(self, os.close, self._file)
            same = self.read(np.zeros(1, int)).tobytes() == self._array[:1].tobytes()
        except OSError:
            same = False
        if not same:  # another file has this name by now
            self._file = None

    def read(self, places: np.ndarray) -> np.ndarray:
        """The rows; OSError if the file has become too short, IndexError if a place is outside."""
        if self._file is None:
            return self._array[places]
        if len(places) and not (places.min() >= 0 and places.max() < len(self._array)):
            raise IndexError(f"rows {places.min()} to {places.max()} of {len(self._array)}")
        rows = np.empty((len(places), *self._array.shape[1:]), self._array.dtype)
        raw = rows.view(np.uint8).reshape(len(places), self._array[0].nbytes)
        step = self._array.strides[0]
        if len(places) > 1 and step == raw.shape[1] and (np.diff(places) == 1).all():
            raw, places = raw.reshape(1, -1), places[:1]  # one long read
        for i, place in enumerate(places.tolist()):
            if os.preadv(self._file, [raw[i]], self._first + place * step) != raw.shape[1]:
                raise OSError(f"the file of the data ends at row {place + 1} or soon after")
        return rows
