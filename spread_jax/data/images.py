"""Images as rows of pixels in [0, 1], and back."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from spread_jax.data.datasets import as_rows, shown_white


def grey_step(x: np.ndarray) -> float:
    """The smallest difference of two pixels: 1/255 of MNIST's images, 1/16 of the digits.

    Raises:
      ValueError: if all pixels are equal.
    """
    levels = np.unique(x)
    if len(levels) < 2:
        raise ValueError("x must have two grey levels or more")
    return float(np.diff(levels).min())


class Images(NamedTuple):
    """``[n, height, width]`` ↦ ``[n, height · width]`` in [0, 1], and back.

    Attributes:
      height, width: of an image.
      white: of the uint8 images that were given; None where they were floats, whose white is 1.
    """

    height: int
    width: int
    white: int | None

    @classmethod
    def of(cls, x: np.ndarray) -> "Images":
        """The form of images ``[n, height, width]``, uint8 or floats in [0, 1]."""
        height, width = x.shape[1:]
        return cls(height, width, shown_white(x) if x.dtype == np.uint8 else None)

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
        return as_rows(x, self.white) if len(x) > 1 else as_rows(np.repeat(x, 2, 0), self.white)[:1]

    def inverse(self, z: ArrayLike) -> np.ndarray:
        """Images, their pixels cut to [0, 1]; of uint8, rounded to whole numbers up to white.

        Raises:
          ValueError: if z is of another width.
        """
        z = np.asarray(z)
        if z.shape[1:] != (self.height * self.width,):
            raise ValueError(f"must be [n, {self.height * self.width}], not of shape {z.shape}")
        pixels = np.clip(z, 0, 1).reshape(-1, *self.shape)
        return pixels if self.white is None else np.round(self.white * pixels).astype(np.uint8)

    def assumptions(self) -> list[str]:
        """What was taken for granted, a sentence each."""
        size = f"{self.height} x {self.width}"
        return [f"the rows are images of {size} pixels, and white is {self.white or 1}"]

    def to_json(self) -> dict[str, Any]:
        return self._asdict()

    @classmethod
    def from_json(cls, saved: dict[str, Any]) -> "Images":
        return cls(**saved)
