"""Image files of a folder, as one array or as rows that stay on the disk."""

import math
import struct
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spread_jax.data.by_place import ByPlace
from spread_jax.data.files import OnAssumption, errors_that_name, require
from spread_jax.data.parts import LARGE_BYTES

ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".pgm", ".ppm")
VALIDATION = ("val", "valid", "validation")
GREY, COLOURED = ("1", "L", "LA"), ("P", "PA", "RGB", "RGBA", "CMYK", "YCbCr")  # Pillow's modes


class ImageFiles(ByPlace):
    """The images of files of one size as uint8, ``[height, width]`` if all are grey and else
    ``[height, width, 3]``, for ``sweep(data=...)``. Transparency is left out.

    Attributes:
      shape: of all of them, ``[n, height, width]`` or ``[n, height, width, 3]``.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        """Opens each file, and reads its size.

        Raises:
          DataFileError: naming the first file that is no image, has pixels of more than 8 bits, or
            another size than most.
        """
        headers = [self._header(path) for path in paths]
        (size, _), *_ = Counter(size for size, _ in headers).most_common()
        for path, (other, _) in zip(paths, headers, strict=True):
            with errors_that_name(path):
                accepted = "of one size with the others, {} x {} pixels, not {} x {}"
                require(other == size, accepted.format(*size, *other))
        self._paths = paths
        self._mode = "L" if all(mode in GREY for _, mode in headers) else "RGB"
        width, height = size
        self.shape = (len(paths), height, width, *(3,) * (self._mode == "RGB"))

    def __len__(self) -> int:
        return self.shape[0]

    def __getitems__(self, places: Sequence[int]) -> NDArray[np.uint8]:
        """Images at places from 0."""
        images = np.empty((len(places), *self.shape[1:]), np.uint8)
        for image, place in zip(images, places, strict=True):
            with _opened(self._paths[place]) as found:
                image[...] = found.convert(self._mode)
        return images

    @staticmethod
    def _header(path: Path) -> tuple[tuple[int, int], str]:
        with _opened(path) as image:
            accepted = f"an image of 8 bits a pixel, not of mode {image.mode}"
            require(image.mode in GREY + COLOURED, accepted)
            return image.size, image.mode


def image_paths(folder: Path) -> list[Path]:
    """The image files in a folder and in the folders below it, by their names; hidden ones not."""
    below = (path.relative_to(folder) for path in folder.rglob("*"))
    found = (path for path in below if path.suffix.lower() in ENDINGS)
    return [folder / path for path in sorted(found) if not any(p[0] == "." for p in path.parts)]


def read_images(paths: Sequence[Path], on_assumption: OnAssumption) -> np.ndarray | ImageFiles:
    """The images of files: an array, or of more than 2 GiB a source.

    Args:
      paths: of one file or more.
      on_assumption: called with a line that says what was found.

    Raises:
      DataFileError: as :class:`ImageFiles`.
    """
    images = ImageFiles(paths)
    size, is_large = " x ".join(map(str, images.shape[1:])), math.prod(images.shape) > LARGE_BYTES
    stay = ", which stay on the disk, and are read as they are needed" * is_large
    on_assumption(f"the folder holds {len(images):,} images of {size} pixels{stay}")
    return images if is_large else images.__getitems__(range(len(images)))


def is_split(folder: Path) -> bool:
    """Whether a folder has folders for a training and a test part."""
    return (folder / "train").is_dir() and (folder / "test").is_dir()


def image_folder(folder: Path) -> dict[str, np.ndarray]:
    """The images of a folder as ``x_train``, or of its folders ``train``, ``test`` and perhaps
    ``val`` as ``x_train``, ``x_test`` and ``x_validation``; nothing if there are none. Where all
    images lie in folders below, the names of these are the labels, as their places in the alphabet:
    ``y_train`` and so on.

    Raises:
      DataFileError: as :class:`ImageFiles`.
    """
    tops = {"train": folder}
    if is_split(folder):
        tops = {part: folder / part for part in ("train", "test")}
        for name in VALIDATION:
            if (folder / name).is_dir():
                tops["validation"] = folder / name
    paths = {part: image_paths(top) for part, top in tops.items()}
    all_paths = [(path, tops[part]) for part, found in paths.items() for path in found]
    names = sorted({path.parent.name for path, _ in all_paths})
    has_labels = all(path.parent != top for path, top in all_paths)
    arrays = dict[str, np.ndarray]()
    for part, found in paths.items():
        if found:
            images = ImageFiles(found)
            arrays[f"x_{part}"] = images.__getitems__(range(len(images)))
            if has_labels:
                arrays[f"y_{part}"] = np.array([names.index(path.parent.name) for path in found])
    return arrays


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """A file as an image of Pillow, whose pixels are not read yet."""
    try:
        from PIL import Image
    except ImportError:
        raise ValueError("must be read with Pillow: pip install 'spread_jax[figures]'") from None
    with errors_that_name(path):
        try:
            with Image.open(path) as image:
                yield image
        except (SyntaxError, EOFError, struct.error, zlib.error, Image.DecompressionBombError):
            raise ValueError("must be a whole image file; this one is damaged") from None
