"""From trained runs to numbers: metrics, each a value, and the one judge that applies them."""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array, PRNGKeyArray, PyTree
from numpy.typing import NDArray

from spread_jax.data.datasets import Dataset
from spread_jax.models.model import Model
from spread_jax.objectives import Bound
from spread_jax.spreads import Spread
from spread_jax.sweeps import Sweep
from spread_jax.training import Hyper, OfHyper, sigma_fix_spread

MAX_SAMPLES = 3_000  # clean samples of a run
POINTS_AT_ONCE = 1_000

T = TypeVar("T")


@dataclasses.dataclass(eq=False)
class Run:
    """One finished run, as a metric sees it; what is expensive is computed once, at its first use.

    Attributes:
      params: the final parameters.
      hyper: the numbers of the run.
      curves: what was recorded along the run, name → ``[record, ...]``, with ``step`` itself.
      data: the data set.
      held_out: the part of it that the run is judged on, ``[n, dim]``.
      num_samples: how many clean samples it is judged by.
      key: the PRNG key of every random draw.
      evaluate: what :meth:`ask` calls, with ``(function, params, hyper, *arguments)``.
    """

    params: PyTree
    hyper: Mapping[str, float]
    curves: Mapping[str, np.ndarray]
    data: Dataset
    held_out: np.ndarray
    num_samples: int
    key: PRNGKeyArray
    evaluate: Callable[..., Any] = dataclasses.field(repr=False)
    _known: dict[Callable, Any] = dataclasses.field(default_factory=dict, init=False, repr=False)

    def once(self, function: "Callable[[Run], T]") -> T:
        """``function(run)``, computed at the first call: for what several metrics share."""
        if function not in self._known:
            self._known[function] = function(self)
        return self._known[function]

    def ask(self, function: Callable[..., T], *arguments: Any) -> T:
        """``function(model, params, spread, *arguments)`` of this run, NumPy leaves.

        It is compiled once for all runs of the model.
        """
        return jax.device_get(self.evaluate(function, self.params, self.hyper, *arguments))

    def ask_of_points(
        self, function: Callable[..., T], x: np.ndarray, at_once: int = POINTS_AT_ONCE
    ) -> T:
        """``function(model, params, spread, key, x)`` of all points x ``[n, dim]``, axis n first.

        Every batch has ``at_once`` points, which bounds the memory, and a key of its own: one
        program serves them all.
        """
        at_once = min(at_once, len(x))
        parts = []
        for i, start in enumerate(range(0, len(x), at_once)):
            points = jnp.asarray(x[np.arange(start, start + at_once) % len(x)])
            parts.append(self.ask(function, jax.random.fold_in(self.key, i), points))
        return jax.tree.map(lambda *leaves: np.concatenate(leaves)[: len(x)], *parts)

    @functools.cached_property
    def samples(self) -> NDArray[np.float32]:
        """Clean samples, ``[num_samples, dim]``; all runs draw with one key."""
        return np.asarray(self.ask(_sampler(self.num_samples), self.key))

    def bound(self, x: np.ndarray) -> Bound:
        """The model's bound of every row of ``x``, leaves ``[n, ...]``, in nats."""
        return jax.tree.map(jnp.asarray, self.ask_of_points(_bound, x))

    @functools.cached_property
    def held_out_bound(self) -> Bound:
        """The bound of every held-out row."""
        return self.bound(self.held_out)


def _bound(model: Model, params: PyTree, spread: Spread, key: Array, x: Array) -> Bound:
    return model.bound(params, key, x, spread)


@functools.cache
def _sampler(n: int) -> Callable[..., Array]:
    return lambda model, params, spread, key: model.sample(params, key, n, spread)


class Metric(NamedTuple):
    """A number that judges a run.

    Attributes:
      name: of the variable in the judged dataset.
      units: nats, data units, "1" for a share or a count.
      better: which direction is better, and so which is worst for a run without a number; "" where
        neither is.
      function: ``(run) -> number``; a bool where the metric is whether something holds, whose mean
        over seeds is a rate; NaN where the run has no such number; inf for a step that never came.
      long_name: what a table or a figure says; by default the name.
    """

    name: str
    units: str
    better: Literal["lower", "higher", ""]
    function: Callable[[Run], Any]
    long_name: str = ""

    @property
    def attrs(self) -> dict[str, str]:
        """Of its variable in a dataset."""
        long_name = self.long_name or self.name.replace("_", " ")
        return {"long_name": long_name, "units": self.units, "better": self.better}


def judge(
    model: Model,
    runs: Sweep,
    data: Dataset,
    metrics: Sequence[Metric],
    *,
    spread: OfHyper[Spread] = sigma_fix_spread,
    part: Literal["validation", "test"] = "test",
    num_samples: int | None = None,
    seed: int = 0,
) -> xr.Dataset:
    """The runs' dataset, with a variable for each metric, dims (grid axes or cell, seed).

    Choose on ``part="validation"``, with :func:`best`; report on ``part="test"``.

    Args:
      model, runs: what was trained, and what :func:`spread_jax.sweep` returned.
      data, part: what the runs are judged on.
      metrics: each name once.
      spread: as the training had it.
      num_samples: clean samples of each run; by default as many as the part has rows, at most
        3,000.
      seed: of the samples and of the bounds' draws, which are the same for all runs.

    Raises:
      ValueError: if two metrics, or a metric and a variable of the runs, have one name.

    Examples:
      >>> data = sj.problems.ring().dataset(jax.random.key(0))
      >>> vae = sj.make_vae(2, latent_dim=2, hidden=(16,))
      >>> training = sj.model_training(vae, sample_batch=sj.rows(64), num_steps=10)
      >>> grid = {"sigma_fix": [0.1, 0.3], "learning_rate": 1e-3}
      >>> runs = sj.sweep(training, grid, num_seeds=3, data=data.train)
      >>> off_ring = sj.Metric(
      ...     "off_ring", "data units", "lower",
      ...     lambda run: np.abs(np.linalg.norm(run.samples, axis=1) - 1).mean(),
      ... )
      >>> judged = sj.judge(vae, runs, data, [off_ring])
      >>> dict(judged["off_ring"].sizes), dict(sj.over_seeds(judged)["off_ring"].sizes)
      ({'sigma_fix': 2, 'seed': 3}, {'sigma_fix': 2, 'statistic': 3})
    """
    names = [metric.name for metric in metrics]
    taken = {name for name in names if names.count(name) > 1 or name in runs.dataset}
    if taken:
        raise ValueError(f"these names are taken: {', '.join(sorted(taken))}")
    every = each_run(
        model, runs, data, spread=spread, part=part, num_samples=num_samples, seed=seed
    )
    values = [[metric.function(run) for metric in metrics] for run in every]
    lead, shape = zip(*runs.sizes.items(), strict=True)
    judged = {}
    for metric, column in zip(metrics, zip(*values, strict=True), strict=True):
        array = _as_array(column, metric.better).reshape(shape)
        judged[metric.name] = (lead, array, metric.attrs)
    return runs.dataset.assign(judged)


def _as_array(column: Sequence[Any], better: str) -> np.ndarray:
    """A metric's numbers of all runs. Bools know no NaN: among them a missing one is the worst."""
    if any(isinstance(value, bool | np.bool_) for value in column):
        return np.array([better == "lower" if np.isnan(value) else value for value in column], bool)
    return np.array(column)


def each_run(
    model: Model,
    runs: Sweep,
    data: Dataset,
    *,
    spread: OfHyper[Spread] = sigma_fix_spread,
    part: Literal["validation", "test"] = "test",
    num_samples: int | None = None,
    seed: int = 0,
) -> Iterator[Run]:
    """The runs one by one, in the order of the dataset's axes; arguments as in :func:`judge`."""
    held_out = data.validation if part == "validation" else data.test
    steps = runs.dataset["step"].values
    curves = {
        str(name): variable.transpose(*runs.sizes, "step", ...).values
        for name, variable in runs.dataset.data_vars.items()
        if "step" in variable.dims
    }

    @functools.partial(jax.jit, static_argnums=0)
    def evaluate(function: Callable[..., T], params: PyTree, hyper: Hyper, *arguments: Any) -> T:
        return function(model, params, spread(hyper), *arguments)

    key = jax.random.key(seed)
    for index in np.ndindex(*runs.sizes.values()):
        yield Run(
            params=jax.tree.map(lambda leaf, index=index: leaf[index], runs.stacked_params),
            # the shortest decimal of a float32: 0.1 as it was given, not 0.10000000149
            hyper={name: float(str(numbers[index])) for name, numbers in runs.hyper.items()},
            curves={name: curve[index] for name, curve in curves.items()} | {"step": steps},
            data=data,
            held_out=held_out,
            num_samples=num_samples or min(len(held_out), MAX_SAMPLES),
            key=key,
            evaluate=evaluate,
        )


def first_of_each_cell(model: Model, runs: Sweep, data: Dataset, **options: Any) -> list[Run]:
    """The run of the first seed of every cell; options as in :func:`each_run`."""
    *_, num_seeds = runs.sizes.values()
    return list(itertools.islice(each_run(model, runs, data, **options), 0, None, num_seeds))


def first_samples(model: Model, runs: Sweep, data: Dataset, n: int, **options: Any) -> xr.DataArray:
    """Clean samples of the runs of :func:`first_of_each_cell`, ``[..., point, dim]``."""
    first = first_of_each_cell(model, runs, data, num_samples=n, **options)
    (*lead, _), (*shape, _) = runs.sizes, runs.sizes.values()
    return xr.DataArray(
        np.stack([run.samples for run in first]).reshape(*shape, n, -1),
        dims=(*lead, "point", "dim"),
        attrs={"long_name": "clean samples of the first seed", "units": "data units"},
    )


def judge_samples(
    samples: np.ndarray,
    data: Dataset,
    metrics: Sequence[Metric],
    hyper: Mapping[str, float] | None = None,
) -> dict[str, float]:
    """The metrics of points that stand in place of a run's samples: what real data would score.

    Args:
      samples: ``[n, dim]``.
      data: its test part is what they are judged on.
      metrics: that look at samples only.
      hyper: the numbers of the run, where the metrics ask for them.
    """
    unused_key = jax.random.key(0)
    run = Run({}, hyper or {}, {}, data, data.test, len(samples), unused_key, evaluate=_no_model)
    run.samples = samples
    return {metric.name: float(metric.function(run)) for metric in metrics}


def _no_model(*arguments: Any) -> Any:
    raise ValueError("these are samples without a model: give metrics of samples only")
