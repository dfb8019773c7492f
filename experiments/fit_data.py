"""The data of :mod:`experiments.fit`: what is trained on, chosen by and reported on."""

import sys
from typing import TYPE_CHECKING, Any

import spread_jax as sj
from spread_jax.cli.settings import BadInputError, require

if TYPE_CHECKING:
    from experiments.fit import Settings

MOST_TEST = 5_000  # rows of what stays on the disk


def load(settings: "Settings") -> "tuple[sj.Dataset, Any]":
    """The data set, and the rows to train on: its own, or a source of which those are drawn."""
    from spread_jax.data import DataFileError
    from spread_jax.data.sigma_suggestion import largest_sigma

    try:
        data, to_train = read(settings)
    except DataFileError as error:
        raise BadInputError("--data", error.path, error.accepted) from None
    require(bool(settings.arms_of(data)), "--arms", " ".join(settings.arms), "arms of a table")
    if data.shape is None:
        require(settings.network == "mlp", "--network", "conv", "mlp: the data are a table")
        data = data.standardized()
        to_train = data.train
    most = largest_sigma(data.train.shape[1])
    unit = "standard deviations of a column" if data.shape is None else "pixels in [0, 1]"
    accepted = f"a number above 0, up to {most:.3g} ({unit})"
    flags = [("--sigma-fix", sigma) for sigma in settings.sigma_fix]
    flags += [("--anneal-from", settings.anneal_from or 0.0)]
    for flag, sigma in (*flags, ("--common-sigma", settings.common_sigma)):
        require(sigma <= most, flag, f"{sigma:g}", accepted)
    return data, to_train


def read(settings: "Settings") -> "tuple[sj.Dataset, Any]":
    """A data set in memory, or images that stay on the disk."""
    from pathlib import Path

    from spread_jax.cli.reading import say_assumption
    from spread_jax.data.parts import opened_if_large
    from spread_jax.data.sources import Rows
    from spread_jax.data.streams import most_drawn, streamed

    source = opened_if_large(Path(settings.data), say_assumption)
    if source is None:
        data = sj.load_dataset(settings.data)
        return data, data.train
    rows = Rows(source)
    accepted = "images, of a table one file of at most 2 GiB; spread-jax fit takes larger tables"
    is_usable = len(rows.shape) in (3, 4) and len(rows) > most_drawn(rows)
    accepted += f"; of images in such files more than {most_drawn(rows):,}"
    require(is_usable, "--data", settings.data, accepted)

    def on_stage(stage: str) -> None:
        if not settings.quiet:
            print(f"{stage} ...", file=sys.stderr)

    try:
        data, _, to_train = streamed(rows, on_stage, num_test=MOST_TEST)
    except ValueError as error:
        accepted = str(error).removeprefix("must be ")
        raise BadInputError("--data", settings.data, accepted) from None
    return data._replace(name=settings.data), to_train
