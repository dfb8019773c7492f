"""Images as rows of pixels in [0, 1], and back."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from spread_jax.data.datasets import as_rows


class Images(NamedTuple):
    """``[n, height, width]`` ↦ ``[n, height · width]`` in [0, 1], and back.

    Attributes:
      height, width: of an image.
      is_uint8: whether white is 255, as it was in the images that were given; else it is 1.
    """

    height: int
    width: int
    is_uint8: bool

    @classmethod
    def of(cls, x: np.ndarray) -> "Images":
        """The form of images ``[n, height, width]``, uint8 or floats in [0, 1]."""
        height, width = x.shape[1:]
        return cls(height, width, bool(x.dtype == np.uint8))

    @property
    def shape(self) -> tuple[int, int]:
        return self.height, self.width

    def apply(self, x: ArrayLike) -> NDArray[np.float32]:
        """Rows of pixels in [0, 1].

        Raises:
          ValueError: if the images are of another size, or as :func:`as_rows`.
        """
        x = np.asarray(x)
        if x.shape[1:] != self.shape:
            wanted = f"[n, {self.height}, {self.width}]"
            raise ValueError(f"the images must have the shape {wanted}, got {x.shape}")
        if x.dtype == np.uint8:  # one black image has no pixel above 1, and is as good as any
            return x.reshape(len(x), -1).astype(np.float32) / np.float32(255)
        return as_rows(x)

    def inverse(self, z: ArrayLike) -> np.ndarray:
        """Images, their pixels cut to [0, 1]; of uint8, rounded to whole numbers up to 255.

        Raises:
          ValueError: if z is of another width.
        """
        z = np.asarray(z)
        if z.shape[1:] != (self.height * self.width,):
            raise ValueError(f"must be [n, {self.height * self.width}], not of shape {z.shape}")
        pixels = np.clip(z, 0, 1).reshape(-1, *self.shape)
        return np.round(255 * pixels).astype(np.uint8) if self.is_uint8 else pixels

    def assumptions(self) -> list[str]:
        """What was taken for granted, a sentence each."""
        white = 255 if self.is_uint8 else 1
        return [f"the rows are images of {self.height} x {self.width} pixels, and white is {white}"]

    def to_json(self) -> dict[str, Any]:
        return self._asdict()

    @classmethod
    def from_json(cls, saved: dict[str, Any]) -> "Images":
        return cls(**saved)
