"""What the runs of a sweep are called: the grid's axes or cells, coordinates, names and units."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import xarray as xr

from spread_jax.training import NEVER, LossStatistics

MAX_RECORDS = 1_000_000  # of all curves by default: 4,096 runs stay below 1 GiB

Grid: TypeAlias = (
    Mapping[str, float | int | Sequence[float | int]] | Sequence[Mapping[str, float | int | str]]
)
"""Name → a number or an axis of numbers, whose product is trained; or a list of cells."""


class Variable(NamedTuple):
    """How an array of the runs is labelled.

    Attributes:
      dims: its axes after (grid, seed, step).
      long_name, units: for readers and figures.
      better: "lower", "higher" or, where neither is, "".
    """

    dims: tuple[str, ...]
    long_name: str
    units: str
    better: str = ""


_LOSS_VARIABLES = {
    "loss": Variable((), "training loss, mean over the steps of the record", "nats"),
    "loss_max": Variable((), "training loss, largest over the steps of the record", "nats"),
    "late_loss_std": Variable(
        (), "standard deviation of the per-step training loss over the last tenth", "nats", "lower"
    ),
    "max_loss_rise": Variable(
        (), "largest rise of the loss above its earlier minimum, last nine tenths", "nats", "lower"
    ),
    "first_nonfinite_step": Variable(
        (), "first step with a non-finite loss, inf if none", "step", "higher"
    ),
}


RESERVED = {"seed", "step", "cell", "loss_rise", *_LOSS_VARIABLES}
"""Names that the results use for themselves."""


class Layout(NamedTuple):
    """How the runs of a sweep lie: along axes ``dims`` of lengths ``shape``, ``seed`` the last.

    Attributes:
      coords: label → the axis that it lies along, and its values.
      constants: numbers of the grid that all runs share.
      hyper: number of the grid → float32, with the shape of the axes.
    """

    dims: tuple[str, ...]
    shape: tuple[int, ...]
    coords: dict[str, tuple[str, np.ndarray]]
    constants: dict[str, Any]
    hyper: dict[str, np.ndarray]


def lay_out(grid: Grid, seeds: np.ndarray) -> Layout:
    """The axes of the grid or its cells, and the seeds; raises as :func:`spread_jax.sweep`."""
    if isinstance(grid, Mapping):
        columns = dict[str, Any](grid)
        axis, accepted = None, "a number or a list of one number or more"
    else:
        is_list = isinstance(grid, Sequence) and all(isinstance(cell, Mapping) for cell in grid)
        if not is_list:
            wanted = "a dict, name -> number or list of numbers, or a list of such dicts"
            raise ValueError(f"grid must be {wanted}, got {grid!r}")
        if not grid or not grid[0] or any(set(cell) != set(grid[0]) for cell in grid):
            raise ValueError("a list of cells must have one or more, all with the same keys")
        columns = {name: [cell[name] for cell in grid] for name in grid[0]}
        axis, accepted = "cell", "a number in every cell or a string in all"
    coords, hyper = {}, {}
    for name, values in columns.items():
        if name in RESERVED:
            raise ValueError(f"nothing in a grid can be called {name!r}: the results use that name")
        array = np.asarray(values)
        is_text = bool(axis) and all(isinstance(value, str) for value in values)
        if not is_text and (array.dtype.kind not in "biuf" or array.ndim > 1 or array.size == 0):
            raise ValueError(f"{name} must be {accepted}, got {values!r}")
        if array.dtype.kind == "f" and np.isnan(array).any():
            raise ValueError(f"{name} must hold numbers that are not NaN, got {values!r}")
        if array.ndim:
            coords[name] = (axis or name, array)
        if not is_text:
            hyper[name] = array
    coords["seed"] = ("seed", seeds)
    sizes = {dim: array.size for dim, array in coords.values()}
    shape = tuple(sizes.values())
    for name, array in hyper.items():
        along = [-1 if name in coords and coords[name][0] == dim else 1 for dim in sizes]
        hyper[name] = np.broadcast_to(array.reshape(along), shape).astype(np.float32)
    constants = {name: values for name, values in columns.items() if name not in coords}
    return Layout(tuple(sizes), shape, coords, constants, hyper)


def label(
    layout: Layout,
    curves: Mapping[str, np.ndarray],
    statistics: LossStatistics,
    record_every: int,
    variables: Mapping[str, Variable],
) -> xr.Dataset:
    """Arrays with the shape of the layout's axes, and of curves ``step``, as a dataset."""
    variables = {**_LOSS_VARIABLES, **variables}
    first = np.asarray(statistics.first_nonfinite_step)
    numbers = {
        "late_loss_std": np.asarray(statistics.late_loss_std),
        "max_loss_rise": np.asarray(statistics.max_loss_rise),
        # inf, so that a run that never broke is the best in every order and median
        "first_nonfinite_step": np.where(first == NEVER, np.inf, first),
    }
    steps = record_every * np.arange(1, curves["loss"].shape[-1] + 1)
    step = ("step", steps, {"long_name": "optimizer steps done", "units": "steps"})
    dataset = xr.Dataset(coords={**layout.coords, "step": step}, attrs=layout.constants)
    for dims, arrays in (((*layout.dims, "step"), curves), (layout.dims, numbers)):
        for name, array in arrays.items():
            inner = tuple(f"{name}_{i}" for i in range(array.ndim - len(dims)))
            variable = variables.get(name, Variable(inner, name, ""))
            better = {"better": variable.better} if variable.better else {}
            attrs = {"long_name": variable.long_name, "units": variable.units, **better}
            dataset[name] = ((*dims, *variable.dims), array, attrs)
    return dataset


def select(
    dataset: xr.Dataset, labels: Mapping[str, Any]
) -> tuple[tuple[np.ndarray, ...], tuple[int, ...]]:
    """Which runs have the labels: the indices along each leading axis, and the axes to drop; raises
    as :meth:`spread_jax.Sweep.params`."""
    dims = dataset["first_nonfinite_step"].dims
    labelled = {str(name): array for name, array in dataset.coords.items() if array.dims[0] in dims}
    fits = {dim: np.ones(dataset.sizes[dim], bool) for dim in dims}
    for name, value in labels.items():
        if name not in labelled and name not in dataset.attrs:
            there = ", ".join([*labelled, *map(str, dataset.attrs)])
            raise ValueError(f"no label is called {name!r}; there are {there}")
        values = labelled[name].values if name in labelled else np.atleast_1d(dataset.attrs[name])
        is_float = values.dtype.kind == "f" and not isinstance(value, str)
        same = np.isclose(values, value, rtol=1e-6, atol=0) if is_float else values == value
        if not same.any():
            there = ", ".join(map(str, dict.fromkeys(values.tolist())))
            raise ValueError(f"no run has {name} {value!r}; there are {there}")
        if name in labelled:
            fits[labelled[name].dims[0]] &= same
    used = {name: array for name, array in labelled.items() if name in labels}
    for dim, fit in fits.items():
        if not fit.any():
            columns = {name: array.values for name, array in used.items() if array.dims == (dim,)}
            rows = dict.fromkeys(zip(*(x.tolist() for x in columns.values()), strict=True))
            raise ValueError(
                f"no {dim} has {dict(labels)}; of ({', '.join(columns)}) there are "
                f"{', '.join(map(str, rows))}"
            )
    named = {array.dims[0] for array in used.values()}
    single = (i for i, dim in enumerate(dims) if dim in named and fits[dim].sum() == 1)
    return tuple(np.flatnonzero(fit) for fit in fits.values()), tuple(single)


def default_record_every(num_steps: int, num_runs: int) -> int:
    """The largest divisor of ``num_steps`` that leaves 1,000 records and more, else 1.

    Above MAX_RECORDS of all runs added up, the curves are thinned to share them.
    """
    wanted = max(1, min(1000, MAX_RECORDS // num_runs))
    return max(n for n in range(1, max(1, num_steps // wanted) + 1) if num_steps % n == 0)
