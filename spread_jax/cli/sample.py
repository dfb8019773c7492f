"""The command that draws clean rows from a model that `spread-jax fit` wrote."""

import dataclasses
import json
import os
import secrets
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from spread_jax.cli.command import start_jax
from spread_jax.cli.settings import BadInputError, require, require_seeds
from spread_jax.progress import stage_line

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.figure import Figure

MOST_ROWS = 100_000_000
TABLES, IMAGES = (".csv", ".tsv", ".parquet", ".npy"), (".npy", "")
ACCEPTED_OF_TABLES = f"a file name that ends in {', '.join(TABLES)}"
ACCEPTED_OF_IMAGES = "a file name that ends in .npy, or without a dot a folder for .png files"
SHOWN, MOST_PICTURED = 5, 32
MOST_COLUMNS = 10  # that are printed


@dataclasses.dataclass(frozen=True)
class Settings:
    """Draws clean rows from a model that `spread-jax fit` wrote. The rows have the columns, types
    and units of the data."""

    model: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="MODEL")]
    """Folder of the model."""
    n: Annotated[int, tyro.conf.arg(aliases=["-n"])] = 500
    """Number of rows."""
    out: Path | None = None
    """File for the rows: .csv, .tsv, .parquet or .npy. Images need .npy, or a name without an
    ending: a folder for .png files. A picture is written beside it. By default rows.csv, and
    rows.npy of images."""
    seed: int | None = None
    """The same seed gives the same rows. By default each call takes another seed and prints it."""
    json: bool = False
    """Print one JSON object instead of a report."""
    quiet: bool = False
    """Show no progress."""
    no_compilation_cache: bool = False
    """Do not keep compiled programs in the user's cache folder."""

    def check(self) -> None:
        """Raises BadInputError for the first flag whose value cannot be used."""
        require(1 <= self.n <= MOST_ROWS, "-n", self.n, f"1 to {MOST_ROWS:,}")
        require_seeds(1, self.seed or 0)
        if self.out is not None:
            accepted = f"{ACCEPTED_OF_TABLES}; or, for images, a folder's name without a dot"
            is_name = self.out.name != "" and self.out.suffix.lower() in (*TABLES, *IMAGES)
            require(is_name, "--out", self.out, accepted)
            has_folder = os.path.isdir(self.out.parent)
            require(has_folder, "--out", self.out, "in a folder that exists")
        require(os.path.exists(self.model), "MODEL", self.model, "a folder that exists")


def run(settings: Settings) -> None:
    """Writes the rows, and prints the first of them."""
    start_jax(settings)
    import jax

    import spread_jax as sj

    try:
        fitted = sj.load(settings.model)
    except ValueError as error:
        accepted = str(error).partition(": must be ")[2] or str(error)
        raise BadInputError("MODEL", settings.model, accepted) from None
    transform = fitted.transform
    endings: tuple[str, ...] = TABLES
    accepted = f"{ACCEPTED_OF_TABLES}, since the rows are a table"
    if isinstance(transform, sj.fitted.Images):
        endings, accepted = IMAGES, f"{ACCEPTED_OF_IMAGES}, since the rows are images"
    out = settings.out or Path(f"rows{endings[0]}")
    require(out.suffix.lower() in endings, "--out", out, accepted)
    is_taken = not out.suffix and (out.is_file() or (out.is_dir() and any(out.iterdir())))
    require(not is_taken, "--out", out, "a folder that is empty or not there")
    seed = secrets.randbelow(2**31) if settings.seed is None else settings.seed
    with stage_line(settings.quiet) as on_stage:
        on_stage(f"drawing {settings.n:,} rows")
        rows = fitted.sample(jax.random.key(seed), settings.n)
        on_stage("writing")
        try:
            if isinstance(transform, sj.fitted.Images) and not out.suffix:
                write_images(rows, out)
            else:
                write(rows, out)
            on_stage("drawing a picture")
            written = f"{settings.n:,} rows written to {out}"
            figure = picture_of(rows, transform)
            if figure is not None:
                picture = out.with_suffix(".png")
                figure.savefig(picture, dpi=200)
                written += f", a picture to {picture}"
        except OSError as error:
            accepted = f"a file that can be written ({error.strerror or error})"
            raise BadInputError("--out", out, accepted) from None
    if settings.json:
        print(json.dumps({"rows": settings.n, "seed": seed, "out": str(out)}))
        return
    if hasattr(rows, "head"):
        print(rows.head(SHOWN).to_string(index=False, max_cols=MOST_COLUMNS))
        if settings.n > SHOWN:
            print("...")
    print(written)
    print(f"--seed {seed} draws the same rows again")


def write(rows: Any, path: Path) -> None:
    """The rows in a file, whole or not at all: a DataFrame, or an array."""
    import numpy as np
    import pandas as pd

    ending = path.suffix.lower()
    part = path.with_name(f".{path.name}.part")
    try:
        if ending == ".npy":
            with part.open("wb") as file:
                np.save(file, _as_array(rows, path))
        else:
            frame = rows if isinstance(rows, pd.DataFrame) else pd.DataFrame(rows)
            if not isinstance(rows, pd.DataFrame):
                frame.columns = range(1, frame.shape[1] + 1)
            has_names = not all(isinstance(name, int) for name in frame.columns)
            if ending == ".parquet":
                frame.columns = frame.columns.map(str)
                _write_parquet(frame, part, path)
            else:
                separator = "\t" if ending == ".tsv" else ","
                frame.to_csv(part, sep=separator, index=False, header=has_names)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def write_images(images: "np.ndarray", folder: Path) -> None:
    """Images, uint8 or floats in [0, 1], as 1.png and so on in a folder, all or none."""
    import numpy as np
    from PIL import Image

    part = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir()
    images = images[..., 0] if images.shape[3:] == (1,) else images
    if images.dtype != np.uint8:
        images = np.rint(255 * images).astype(np.uint8)
    for i, image in enumerate(images, 1):
        Image.fromarray(image).save(part / f"{i:0{len(str(len(images)))}}.png")
    part.replace(folder)


def _as_array(rows: Any, path: Path) -> "np.ndarray":
    """The array of an array, or of a DataFrame of numbers."""
    import numpy as np
    import pandas as pd

    if not isinstance(rows, pd.DataFrame):
        return np.asarray(rows)
    is_text = [not pd.api.types.is_numeric_dtype(dtype) for dtype in rows.dtypes]
    accepted = "a .csv or .parquet file, since a column is text: "
    require(not any(is_text), "--out", path, f"{accepted}{list(rows.columns[is_text])[:3]}")
    return rows.to_numpy()


def _write_parquet(frame: Any, part: Path, path: Path) -> None:
    try:
        frame.to_parquet(part, engine="pyarrow", index=False)
    except ImportError:
        accepted = "a .csv file, or pyarrow installed: pip install 'spread_jax[data]'"
        raise BadInputError("--out", path, accepted) from None


def picture_of(rows: Any, transform: Any) -> "Figure | None":
    """Some of the images, or histograms of the columns of numbers; None if there are none."""
    from spread_jax.data.tables import Table
    from spread_jax.figures import columns_figure, images_figure

    if not isinstance(transform, Table):
        return images_figure(transform.apply(rows[:MOST_PICTURED]), transform.shape)
    names, numbers = transform.numeric_columns(rows)
    return columns_figure(names, numbers) if names else None
