"""Images as rows of pixels in [0, 1], and back."""

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from spread_jax.data.files import as_table, require

Pixels = NDArray[np.floating]

CHANNELS = (1, 3)  # grey, and red, green, blue
ROUNDING = 1e-6  # of pixels: white may be 1.0000001


def grey_step(x: np.ndarray) -> float:
    """The smallest difference of two pixels: 1/255 of MNIST's images, 1/16 of the digits.

    Raises:
      ValueError: if all pixels are equal.
    """
    levels = np.unique(x)
    if len(levels) < 2:
        raise ValueError("x must have two grey levels or more")
    return float(np.diff(levels).min())


def shown_white(x: np.ndarray) -> int:
    """White of uint8 images: 255, or the largest value if that is below 128."""
    largest = int(x.max(initial=0))
    return largest if 0 < largest < 128 else 255


def as_rows(x: np.ndarray, white: int | None = None) -> Pixels:
    """Images ``[n, height, width]`` or ``[n, height, width, channels]`` as rows ``[n, pixels]`` in
    [0, 1], or a table as it is.

    Images of uint8 are divided by ``white``; floats must lie in [0, 1] already, but for rounding.

    Raises:
      ValueError: naming another dtype, another shape or a pixel outside.
    """
    require_axes(x)
    has_white = x.dtype == np.uint8 or x.dtype.kind == "f"
    require(
        has_white or (x.ndim < 3 and x.dtype != np.uint16),
        f"uint8, or floats in [0, 1], not {x.dtype}, whose white is not known: save them as "
        "floats in [0, 1]",
    )
    rows = as_table(x)
    if x.ndim < 3:
        return rows.astype(np.float64)
    low, high = float(rows.min()), float(rows.max())
    if x.dtype == np.uint8:
        white = white or shown_white(rows)
        require(high <= white, f"pixels up to {white}, the white that was found, not {high:g}")
        return rows.astype(np.float32) / np.float32(white)
    is_within = low >= -ROUNDING and high <= 1 + ROUNDING
    hint = ": divide them by 255" if 1 < high <= 255 and low >= 0 else ""
    require(is_within, f"pixels in [0, 1], not from {low:.9g} to {high:.9g}{hint}")
    return np.clip(rows, 0, 1).astype(np.float32)


def require_axes(x: np.ndarray) -> None:
    """Raises ValueError, which says what to do, unless x has the axes of images or of a table."""
    are_labels = x.ndim == 1 and x.dtype == np.uint8
    have_colours = x.ndim == 4 and x.shape[3] in CHANNELS
    hint = ": are these labels?" if are_labels else ""
    if x.ndim == 4 and x.shape[1] in CHANNELS:
        hint = ": channels must come last, give numpy.moveaxis(x, 1, -1)"
    elif x.ndim == 4 and x.shape[3] == 4:
        hint = ": leave transparency out, x[..., :3]"
    images = "images [n, height, width] or [n, height, width, 3]"
    accepted = f"{images}, or a table [n, columns], not of shape {x.shape}{hint}"
    require((x.ndim <= 3 and not are_labels) or have_colours, accepted)


class Images(NamedTuple):
    """Images ``[n, *shape]`` ↦ ``[n, pixels]`` in [0, 1], and back.

    Attributes:
      shape: ``(height, width)``, or ``(height, width, channels)`` where each channel of a place
        counts as a pixel.
      white: of the uint8 images that were given; None where they were floats, whose white is 1.
    """

    shape: tuple[int, ...]
    white: int | None = None

    @classmethod
    def of(cls, x: np.ndarray) -> "Images":
        """The form of images ``[n, height, width]`` or ``[n, height, width, channels]``, uint8 or
        floats in [0, 1].

        Raises:
          ValueError: if they have other axes.
        """
        require_axes(x)
        return cls(x.shape[1:], shown_white(x) if x.dtype == np.uint8 else None)

    def apply(self, x: ArrayLike) -> NDArray[np.float32]:
        """Rows of pixels in [0, 1].

        Raises:
          ValueError: if the images are of another size, or as :func:`as_rows`.
        """
        x = np.asarray(x)
        if x.shape[1:] != self.shape:
            wanted = f"[n, {', '.join(map(str, self.shape))}]"
            raise ValueError(f"the images must have the shape {wanted}, got {x.shape}")
        return as_rows(x, self.white) if len(x) > 1 else as_rows(np.repeat(x, 2, 0), self.white)[:1]

    def inverse(self, z: ArrayLike) -> np.ndarray:
        """Images, their pixels cut to [0, 1]; of uint8, rounded to whole numbers up to white.

        Raises:
          ValueError: if z is of another width.
        """
        z = np.asarray(z)
        if z.shape[1:] != (math.prod(self.shape),):
            raise ValueError(f"must be [n, {math.prod(self.shape)}], not of shape {z.shape}")
        pixels = np.clip(z, 0, 1).reshape(-1, *self.shape)
        return pixels if self.white is None else np.round(self.white * pixels).astype(np.uint8)

    def assumptions(self) -> list[str]:
        """What was taken for granted, a sentence each."""
        size = " x ".join(map(str, self.shape))
        return [f"the rows are images of {size} pixels, and white is {self.white or 1}"]

    def to_json(self) -> dict[str, Any]:
        return {"shape": list(self.shape), "white": self.white}

    @classmethod
    def from_json(cls, saved: dict[str, Any]) -> "Images":
        # models that were saved before there were colours have two numbers
        shape = saved.get("shape") or (saved["height"], saved["width"])
        return cls(tuple(shape), saved["white"])
