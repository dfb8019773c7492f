"""Image files of a folder, as one array or as rows that stay on the disk."""

import math
import struct
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from spread_jax.data.by_place import ByPlace
from spread_jax.data.files import OnAssumption, errors_that_name, require
from spread_jax.data.parts import LARGE_BYTES, PART_ENDS

ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".pgm", ".ppm")
VALIDATION = ("val", "valid", "validation")
GREY, COLOURED = ("1", "L", "LA"), ("P", "PA", "RGB", "RGBA", "CMYK", "YCbCr")  # Pillow's modes
TRANSPARENT = ("LA", "PA", "RGBA")
ORIENTATION, ON_THEIR_SIDE = 0x0112, (5, 6, 7, 8)  # of EXIF


class Header(NamedTuple):
    """Of an image file: width and height as it stands, Pillow's mode, and whether it has several
    frames or may be transparent."""

    size: tuple[int, int]
    mode: str
    is_animated: bool
    is_transparent: bool


class ImageFiles(ByPlace):
    """The images of files of one size as uint8, ``[height, width]`` if all are stored as grey, and
    else ``[height, width, 3]``: a source for :func:`spread_jax.fit`. They stand as a camera says
    they were held; of several frames the first is taken, and transparency is left out.

    Attributes:
      shape: of all of them, ``[n, height, width]`` or ``[n, height, width, 3]``.
      headers: of the files.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        """Opens each file, and reads its size.

        Raises:
          DataFileError: naming the first file that is no image, is stored in a way that 8 bits a
            channel do not hold, or has another size than most.
        """
        self.headers = [_header(path) for path in paths]
        ((width, height), _), *_ = Counter(each.size for each in self.headers).most_common()
        for path, header in zip(paths, self.headers, strict=True):
            with errors_that_name(path):
                there = f"{header.size[1]} x {header.size[0]}"
                accepted = f"of {height} x {width} pixels as most of the images, not {there}"
                require(header.size == (width, height), f"{accepted}: resize them to one size")
        self._paths = paths
        self._mode = "L" if all(each.mode in GREY for each in self.headers) else "RGB"
        self.shape = (len(paths), height, width, *(3,) * (self._mode == "RGB"))

    def __len__(self) -> int:
        return self.shape[0]

    def __getitems__(self, places: Sequence[int]) -> NDArray[np.uint8]:
        """Images at places from 0."""
        images = np.empty((len(places), *self.shape[1:]), np.uint8)
        for image, place in zip(images, places, strict=True):
            with _opened(self._paths[place]) as found:
                from PIL.ImageOps import exif_transpose

                # Pillow warns of a palette with transparency unless its colours come first
                colours = found.convert("RGBA") if _is_transparent(found) else found
                image[...] = exif_transpose(colours.convert(self._mode))
        return images

    def assumptions(self) -> list[str]:
        """What was taken for granted of the files, a sentence each."""
        animated = sum(each.is_animated for each in self.headers)
        transparent = sum(each.is_transparent for each in self.headers)
        told = [f"{animated:,} images have several frames: the first is taken"] if animated else []
        if transparent:
            told.append(f"{transparent:,} images may be transparent: that is left out")
        return told


def image_paths(folder: Path) -> list[Path]:
    """The image files in a folder and in the folders below it, by their names; hidden ones not, and
    none of a folder that holds MNIST's files.

    Raises:
      DataFileError: if there are .npy or .parquet files beside them.
    """
    if any(any(folder.glob(where)) for where in ("*ubyte*", "MNIST/raw/*ubyte*")):
        return []
    below = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    found = (path for path in below if path.suffix.lower() in ENDINGS)
    paths = [folder / path for path in sorted(found) if not any(p[0] == "." for p in path.parts)]
    parts = [path.name for end in PART_ENDS for path in sorted(folder.glob(f"*{end}"))]
    with errors_that_name(folder):
        accepted = "a folder of image files or of .npy and .parquet files, not of both"
        require(not (paths and parts), f"{accepted}: it holds {', '.join(parts[:3])} too")
    return paths


def read_images(paths: Sequence[Path], on_assumption: OnAssumption) -> np.ndarray | ImageFiles:
    """The images of files: an array, or of more than 2 GiB a source.

    Args:
      paths: of one file or more.
      on_assumption: called with a line for each thing that was guessed.

    Raises:
      DataFileError: as :class:`ImageFiles`.
    """
    images = ImageFiles(paths)
    for told in images.assumptions():
        on_assumption(told)
    if math.prod(images.shape) <= LARGE_BYTES:
        return images.__getitems__(range(len(images)))
    on_assumption(
        f"the {len(images):,} images have more than {LARGE_BYTES / 2**30:g} GiB: they stay on the "
        "disk, and are read as they are needed"
    )
    return images


def parts_of(folder: Path) -> dict[str, Path]:
    """The folders ``train``, ``test`` and perhaps ``val`` of a folder, in whatever case, by the
    names of the parts; none if it has no ``train``.

    Raises:
      DataFileError: if there are images to train on and to validate by, and none to test.
    """
    below = {each.name.lower(): each for each in sorted(folder.iterdir()) if each.is_dir()}
    validation = [below[name] for name in VALIDATION if name in below]
    if "train" not in below or not ("test" in below or validation):
        return {}
    with errors_that_name(folder):
        accepted = "a folder with train and test, and perhaps one of val, valid and validation"
        require("test" in below and len(validation) < 2, f"{accepted}; it has {', '.join(below)}")
    parts = {"train": below["train"], "test": below["test"]}
    return parts | ({"validation": validation[0]} if validation else {})


def image_folder(folder: Path, on_assumption: OnAssumption) -> dict[str, np.ndarray]:
    """The images of a folder as ``x_train``, or of its :func:`parts_of` as ``x_train``, ``x_test``
    and ``x_validation``; nothing if there are none. Where all images lie in two or more folders
    below, the names of these are the labels, numbered in their order: ``y_train`` and so on.

    Args:
      folder: that is there.
      on_assumption: called with a line for each thing that was guessed.

    Raises:
      DataFileError: as :class:`ImageFiles` and the others here, or naming a part without images.
    """
    if not image_paths(folder):
        return {}
    tops = parts_of(folder) or {"train": folder}
    paths, parts = list[Path](), list[str]()
    for part, top in tops.items():
        found = image_paths(top)
        with errors_that_name(top):
            require(bool(found), "a folder of image files; it holds none")
        paths, parts = paths + found, parts + [part] * len(found)
    images = ImageFiles(paths)  # of all parts: one colour makes all of them colours
    for told in images.assumptions():
        on_assumption(told)
    names = sorted({path.parent.name for path in paths})
    label = {name: place for place, name in enumerate(names)}
    in_folders = all(path.parent != tops[part] for path, part in zip(paths, parts, strict=True))
    arrays = dict[str, np.ndarray]()
    for part in tops:
        places = [i for i, each in enumerate(parts) if each == part]
        arrays[f"x_{part}"] = images.__getitems__(places)
        if in_folders and len(names) > 1:
            arrays[f"y_{part}"] = np.array([label[paths[i].parent.name] for i in places])
    return arrays


def _header(path: Path) -> Header:
    with _opened(path) as image:
        size = image.size[::-1] if image.getexif().get(ORIENTATION) in ON_THEIR_SIDE else image.size
        is_animated = getattr(image, "is_animated", False)
        header = Header(size, image.mode, is_animated, _is_transparent(image))
    with errors_that_name(path):
        accepted = f"an image of grey levels or of red, green and blue, not of mode {header.mode}"
        require(header.mode in GREY + COLOURED, accepted)
    return header


def _is_transparent(image: Any) -> bool:
    return image.mode in TRANSPARENT or "transparency" in image.info


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """A file as an image of Pillow, whose pixels are not read yet."""
    with errors_that_name(path):
        try:
            from PIL import Image
        except ImportError:
            accepted = "read with Pillow, which is not there: pip install 'spread_jax[figures]'"
            raise ValueError(f"must be {accepted}") from None
        try:
            with Image.open(path) as image:
                yield image
        except Image.DecompressionBombError:
            raise ValueError("must be a smaller image: resize it") from None
        except (SyntaxError, EOFError, struct.error, zlib.error, ValueError):
            raise ValueError("must be a whole image file; this one is damaged") from None
