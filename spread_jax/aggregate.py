"""What runs say over the seeds: the one aggregator, by which a broken run counts as the worst."""

import math
from collections.abc import Hashable
from typing import Any

import numpy as np
import xarray as xr
from scipy.special import bdtr, ndtri


def over_seeds(judged: xr.Dataset) -> xr.Dataset:
    """The middle of every metric over the seeds, with its 95 % interval.

    A run without a number counts as the worst in the metric's direction, as the largest where the
    metric has none. Of numbers the middle is the median, and the interval runs between two order
    statistics that hold the true median with at least 95 %; with fewer than 6 seeds there are no
    such, and it is their range. Of bools it is the rate, with Wilson's interval.

    Args:
      judged: variables with the dim ``seed``; curves over ``step``, and samples, are left out.

    Returns:
      The same variables, with the dim ``statistic``, of middle, low and high, in place of seed.

    Examples:
      >>> kl = [0.3, 0.1, np.nan, 0.2, 0.4, 0.6, 0.5]  # of seven runs, one of them broken
      >>> judged = xr.Dataset({"kl": ("seed", kl, {"better": "lower"})})
      >>> print(sj.over_seeds(judged)["kl"].values)
      [0.4 0.1 inf]

    References:
      David, Nagaraja, "Order Statistics", 3rd edition (2003), section 7.1; Wilson, "Probable
      inference, the law of succession, and statistical inference", JASA (1927).
    """

    def statistics(variable: xr.DataArray) -> xr.DataArray:
        return xr.apply_ufunc(
            _middle_and_interval,
            with_worst(variable),
            kwargs={"worst": _worst(variable)},
            input_core_dims=[["seed"]],
            output_core_dims=[["statistic"]],
        )

    found = judged[_metrics(judged)].map(statistics, keep_attrs=True)
    return found.assign_coords(statistic=["middle", "low", "high"])


def fan_over_seeds(runs: xr.Dataset) -> xr.Dataset:
    """``loss_low``, ``loss_middle`` and ``loss_high`` ``[..., step]``, in nats: over the seeds, 5 %
    and 50 % of a record's mean loss and 95 % of its largest; a loss that is not finite is inf.

    Args:
      runs: of any sweep, ``loss`` and ``loss_max`` ``[..., seed, step]``.
    """

    def quantile(name: str, share: float) -> xr.DataArray:
        with np.errstate(invalid="ignore"):  # inf - inf between two broken runs
            found = with_worst(runs[name]).quantile(share, "seed", keep_attrs=True)
        return found.fillna(np.inf).drop_vars("quantile")

    return xr.Dataset(
        {
            "loss_low": quantile("loss", 0.05),
            "loss_middle": quantile("loss", 0.5),
            "loss_high": quantile("loss_max", 0.95),
        }
    )


def best(judged: xr.Dataset, name: str, dim: str) -> int:
    """The place along ``dim`` where a metric's middle over the seeds is best; of equals the first.

    Args:
      judged: on validation data, with ``name`` of dims (dim, seed).

    Examples:
      >>> kl = [[0.3, 0.5, 0.4], [0.2, 0.3, 0.1], [0.0, np.nan, np.nan]]  # of three cells
      >>> judged = xr.Dataset({"kl": (("cell", "seed"), kl, {"better": "lower"})})
      >>> sj.best(judged, "kl", "cell")  # two of the last cell's runs are broken
      1
    """
    middle = over_seeds(judged[[name]])[name].sel(statistic="middle").transpose(dim).values
    return int(np.argmax(middle) if judged[name].attrs["better"] == "higher" else np.argmin(middle))


def per_seed_json(cell: xr.Dataset) -> dict[str, list]:
    """Each metric as a list over the seeds; a value that is not finite is None.

    Args:
      cell: metrics whose only dim is ``seed``.
    """
    return {str(name): finite(cell[name]) for name in _metrics(cell)}


def over_seeds_json(cell: xr.Dataset) -> dict[str, Any]:
    """The middle of each metric as ``median_<name>``, or as ``<name>_rate`` where it is a bool, and
    its ``<name>_interval``; ``cell`` and None are as in :func:`per_seed_json`."""
    found: dict[str, Any] = {}
    for name, statistics in over_seeds(cell).items():
        middle, *interval = finite(statistics)
        found[f"{name}_rate" if cell[name].dtype == bool else f"median_{name}"] = middle
        found[f"{name}_interval"] = interval
    return found


def finite(variable: xr.DataArray) -> list:
    """The values of a variable with one dim; a value that is not finite is None."""
    return [value if math.isfinite(value) else None for value in variable.values.tolist()]


def _metrics(judged: xr.Dataset) -> list[Hashable]:
    """Names of the variables with a number for each run."""
    return [n for n, v in judged.data_vars.items() if "seed" in v.dims and "step" not in v.dims]


def _worst(variable: xr.DataArray) -> float:
    """The worst value in the metric's direction, inf where it has none."""
    return -np.inf if variable.attrs.get("better") == "higher" else np.inf


def with_worst(variable: xr.DataArray) -> xr.DataArray:
    """The metric with ±inf, the worst in its direction, where a run has no number."""
    return variable if variable.dtype == bool else variable.fillna(_worst(variable))


def _middle_and_interval(values: np.ndarray, worst: float) -> np.ndarray:
    """``[..., seed]`` → ``[..., 3]``."""
    n = values.shape[-1]
    if values.dtype == bool:
        return _rate_and_interval(values)
    ordered = np.sort(values)
    low_middle, high_middle = ordered[..., (n - 1) // 2], ordered[..., n // 2]
    # the two in the middle may both be infinite; where their signs differ they have no mean
    has_mean = ~((-low_middle == high_middle) & np.isposinf(high_middle))
    with np.errstate(invalid="ignore"):
        middle = np.where(has_mean, (low_middle + high_middle) / 2, worst)
    # the largest r with P(Binomial(n, 1/2) <= r) <= 2.5 %: then [x_r, x_{n-1-r}], counted from 0,
    # holds the median with 95 % or more; 0 where there is none
    rank = max(0, np.sum(bdtr(np.arange(n), n, 0.5) <= 0.025) - 1)
    return np.stack([middle, ordered[..., rank], ordered[..., n - 1 - rank]], -1).astype(np.float64)


def _rate_and_interval(values: np.ndarray) -> np.ndarray:
    """The rate with Wilson's interval. scipy.stats has it too, but is slow to import."""
    n, rate, z = values.shape[-1], values.mean(axis=-1), ndtri(0.975)
    centre = (rate + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(rate * (1 - rate) / n + z**2 / (4 * n**2))
    low, high = np.where(rate == 0, 0, centre - half), np.where(rate == 1, 1, centre + half)
    return np.stack([rate, low, high], -1)
