"""One row by its place, of what gives many rows by theirs."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np


class ByPlace(ABC):
    """Rows by their places: ``source[i]`` is row i, counted from the end where i is negative."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def __getitems__(self, places: Sequence[int]) -> np.ndarray:
        """Rows ``[k, *row]`` at places from 0."""

    def __getitem__(self, place: int) -> np.ndarray:
        if not -len(self) <= place < len(self):
            raise IndexError(f"row {place} of {len(self)}")
        return self.__getitems__([place % len(self)])[0]
