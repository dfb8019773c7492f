"""Normalising flows on curves, which have no density: without noise, with it, and cleaned of it."""

import dataclasses
import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from benchmarks import flows_report
from spread_jax.cli.command import main, start_jax
from spread_jax.cli.output import OutputFolder
from spread_jax.cli.settings import (
    MAX_STEPS,
    require,
    require_distinct,
    require_positive,
    require_seeds,
)
from spread_jax.progress import progress_bar

if TYPE_CHECKING:
    import xarray as xr
    from jax import Array

    from spread_jax.data.datasets import Dataset
    from spread_jax.judgement import Metric
    from spread_jax.models.density import DensityModel
    from spread_jax.problems import Problem
    from spread_jax.sweeps import Sweep
    from spread_jax.training import SampleBatch

HIGH_DIM, COPIES = 20, 12
NUM_SAMPLES = 1_000  # of a run
HELD_OUT = 4_000
CLEANING_STEPS = 1
ENTROPY_DRAWS = 20_000  # for an error of 0.7 / √20,000 = 0.005 nats on a curve


@dataclasses.dataclass(frozen=True)
class Settings:
    """Trains normalising flows by maximum likelihood on curves, which have no density, without
    noise and with it. With noise, the draws are judged with the noise left on, cleaned by Tweedie's
    formula, and cleaned by clean_samples. All seeds of both trainings are one program. Data are
    drawn afresh at each step."""

    data: tuple[Literal["ring", "spiral", "ring20", "spiral20", "repeated"], ...] = (
        "ring",
        "spiral",
        "ring20",
        "spiral20",
        "repeated",
    )
    """Data: curves in the plane, the same curves in R^20, or a ring with twelve copies of each of
    its two columns."""
    flows: tuple[Literal["small", "flowjax"], ...] = ("small", "flowjax")
    """Flows: the RealNVP of docs/extending.md for any dimension, or flowjax's coupling flow with
    tanh for its activation, which has second derivatives."""
    sigma_fix: float = 0.03
    """Standard deviation of the noise in every column, in data units."""
    steps: int = 20_000
    """Optimizer steps of a run."""
    batch_size: int = 128
    """Data points per step."""
    learning_rate: float = 3e-3
    """Adam's learning rate at the first step. It falls to 0 along a half cosine."""
    seeds: int = 16
    """Number of seeds: independent runs of each flow with each noise."""
    seed: int = 0
    """The first seed."""
    out: Path = Path("outputs/benchmark-flows")
    """Folder for the results."""
    quiet: bool = False
    """Show no progress."""
    no_compilation_cache: bool = False
    """Do not keep compiled programs in the user's cache folder."""

    def check(self) -> None:
        require_distinct("--data", self.data)
        require_distinct("--flows", self.flows)
        require_positive("--sigma-fix", self.sigma_fix, "data units")
        require(1 <= self.steps <= MAX_STEPS, "--steps", self.steps, f"1 to {MAX_STEPS}")
        require(self.batch_size >= 1, "--batch-size", self.batch_size, "at least 1")
        require_positive("--learning-rate", self.learning_rate)
        require_seeds(self.seeds, self.seed)
        here = "flowjax" not in self.flows or importlib.util.find_spec("flowjax") is not None
        require(here, "--flows", "flowjax", "installed: pip install -e '.[flows]'")


class Law(NamedTuple):
    """A curve of the plane, and a linear map that takes it to the data's columns.

    Attributes:
      title: of tables and figures.
      problem: the curve.
      matrix: ``[2, dim]``, its rows orthogonal and of one length.
    """

    title: str
    problem: "Problem"
    matrix: np.ndarray

    @property
    def dim(self) -> int:
        return self.matrix.shape[1]

    def batches(self, batch_size: int) -> "SampleBatch":
        return lambda key, data, hyper: self.problem.sample(key, batch_size) @ self.matrix

    def dataset(self) -> "Dataset":
        import jax

        plane = self.problem.dataset(jax.random.key(0), held_out=HELD_OUT)
        parts = (x @ self.matrix for x in (plane.train, plane.validation, plane.test))
        return plane._replace(**dict(zip(("train", "validation", "test"), parts, strict=True)))

    def in_plane(self, x: np.ndarray) -> np.ndarray:
        """The curve's own coordinates of the nearest points in its plane."""
        return np.asarray(x @ np.linalg.pinv(self.matrix), np.float32)

    def off_plane(self, x: np.ndarray) -> np.ndarray:
        """Distance from the plane; of copied columns, from where the copies are equal."""
        return np.linalg.norm(x - self.in_plane(x) @ self.matrix, axis=1)

    def from_curve_in_plane(self, x: np.ndarray) -> np.ndarray:
        """How far the nearest points in the plane are from the curve, in its own units."""
        return np.asarray(self.problem.distance(self.in_plane(x)))

    def off_curve(self, x: np.ndarray) -> np.ndarray:
        """Distance from the curve where it lies among all columns."""
        length = np.linalg.norm(self.matrix[0])
        return np.hypot(length * self.from_curve_in_plane(x), self.off_plane(x))

    def metrics(self) -> "list[Metric]":
        import spread_jax as sj

        def of_samples(distance: Callable[[np.ndarray], np.ndarray], long_name: str) -> sj.Metric:
            def mean(run: sj.Run) -> float:
                return float(distance(run.samples).mean())

            return sj.Metric(distance.__name__, "data units", "lower", mean, long_name)

        return [
            of_samples(self.off_curve, "mean distance from the curve"),
            of_samples(self.off_plane, "mean distance from the curve's plane"),
            of_samples(self.from_curve_in_plane, "mean distance from the curve, in its plane"),
            sj.metrics.ENERGY_DISTANCE,
        ]


def law(name: str) -> Law:
    import jax
    import jax.numpy as jnp

    import spread_jax as sj

    curve, _, _ = name.partition("20")
    problem = sj.problems.spiral() if curve == "spiral" else sj.problems.ring()
    problem = problem._replace(distance=jax.jit(problem.distance))  # once for all runs
    plane = np.eye(2, dtype=np.float32)
    if name.endswith("20"):
        matrix = np.asarray(sj.embed(jax.random.key(1), jnp.eye(2), HIGH_DIM))
        return Law(f"{curve} in R^{HIGH_DIM}", problem, matrix)
    if name == "repeated":
        return Law(f"ring, {COPIES} copies", problem, np.tile(plane, COPIES))
    return Law(name, problem, plane)


def flow(name: str, dim: int) -> "DensityModel":
    """A density of points of ``dim`` columns; its draws are cleaned by Tweedie's formula."""
    import jax
    import jax.numpy as jnp

    import spread_jax as sj
    from benchmarks.small_flow import SmallFlow

    if name == "small":
        small = SmallFlow(dim)
        return sj.density_model(init=small.init, log_prob=small.log_prob, sample=small.sample)
    import equinox as eqx
    from flowjax.distributions import StandardNormal, Transformed
    from flowjax.flows import coupling_flow

    def build(key: "Array") -> Transformed:
        return coupling_flow(key, base_dist=StandardNormal((dim,)), nn_activation=jnp.tanh)

    structure = eqx.partition(build(jax.random.key(0)), eqx.is_inexact_array)[1]
    return sj.density_model(
        init=lambda key: eqx.filter(build(key), eqx.is_inexact_array),
        log_prob=lambda params, y: eqx.combine(params, structure).log_prob(y),
        sample=lambda params, key, n: eqx.combine(params, structure).sample(key, (n,)),
    )


def arms(model: "DensityModel") -> "dict[str, tuple[float, DensityModel]]":
    """Of each arm the noise in training, as a share of sigma_fix, and the model that samples."""
    from spread_jax.models.density import DensityModel

    class Uncleaned(DensityModel):
        def sample(self, params: Any, key: Any, n: int, spread: Any) -> "Array":
            return self.draw(params, key, n)

    cleaned = model._replace(cleaning_steps=CLEANING_STEPS)
    return dict(
        zip(
            flows_report.ARMS,
            [(0.0, Uncleaned(*model)), (1.0, Uncleaned(*model)), (1.0, model), (1.0, cleaned)],
            strict=True,
        )
    )


def train(settings: Settings, of: Law, model: "DensityModel") -> "Sweep":
    """Every seed, without noise and with it, in one program."""
    import optax

    import spread_jax as sj

    def adam(hyper: Any) -> optax.GradientTransformation:
        return optax.adam(optax.cosine_decay_schedule(hyper["learning_rate"], settings.steps))

    training = sj.model_training(
        model,
        sample_batch=of.batches(settings.batch_size),
        num_steps=settings.steps,
        optimizer=adam,
    )
    grid: dict[str, Any] = {
        "sigma_fix": [0.0, settings.sigma_fix],
        "learning_rate": settings.learning_rate,
    }
    with progress_bar(settings.quiet) as on_record:
        return sj.sweep(
            training, grid, num_seeds=settings.seeds, seed=settings.seed, on_record=on_record
        )


def judge(settings: Settings, of: Law, data: "Dataset", name: str) -> "tuple[xr.Dataset, float]":
    """The judged runs of each arm of a flow, ``[arm, seed]``, with the first seed's samples in the
    plane, and the seconds that compiling took."""
    import jax
    import xarray as xr

    import spread_jax as sj
    from spread_jax.judgement import first_samples

    model = flow(name, of.dim)
    runs = train(settings, of, model)
    ways: dict[str, Any] = {
        "spread": lambda hyper: sj.gaussian_spread(settings.sigma_fix),  # one space for all arms
        "seed": settings.seed,
    }
    of_training = [sj.metrics.TEST_BOUND, sj.metrics.NONFINITE]
    runs = runs._replace(dataset=sj.judge(model, runs, data, of_training, **ways))
    parts = []
    for share, sampler in arms(model).values():
        place = [int(share > 0)]
        own = runs._replace(
            dataset=runs.dataset.isel(sigma_fix=place),
            stacked_params=jax.tree.map(lambda leaf, at=place: leaf[at], runs.stacked_params),
            hyper={key: numbers[place] for key, numbers in runs.hyper.items()},
        )
        judged = sj.judge(sampler, own, data, of.metrics(), num_samples=NUM_SAMPLES, **ways)
        samples = first_samples(sampler, own, data, NUM_SAMPLES, **ways)
        plane = of.in_plane(samples.values.reshape(NUM_SAMPLES, -1))
        parts.append(
            judged.isel(sigma_fix=0, drop=True).assign(samples=(("point", "plane"), plane))
        )
    arm = xr.Variable("arm", list(flows_report.ARMS))
    return xr.concat(parts, arm, combine_attrs="override"), runs.compile_seconds


def reference(settings: Settings, data: "Dataset") -> dict[str, float]:
    """The largest log p~ that any model can have, and what true points score."""
    import jax
    import jax.numpy as jnp

    import spread_jax as sj
    from spread_jax.entropy import spread_entropy_of_points
    from spread_jax.judgement import judge_samples

    train = jnp.asarray(data.train)
    entropy = spread_entropy_of_points(
        jax.random.key(0), train, settings.sigma_fix, num_draws=ENTROPY_DRAWS
    )
    true = judge_samples(data.train[:NUM_SAMPLES], data, [sj.metrics.ENERGY_DISTANCE])
    return {"test_bound": -entropy, **true}


def run(settings: Settings) -> None:
    output = OutputFolder(settings.out)
    start_jax(settings)
    found: list[flows_report.Found] = []
    compile_seconds = 0.0
    for data_name in settings.data:
        of = law(data_name)
        data = of.dataset()
        true = reference(settings, data)
        for flow_name in settings.flows:
            if not settings.quiet:
                flows_report.print_stage(f"{of.title}, {flow_name}")
            judged, seconds = judge(settings, of, data, flow_name)
            compile_seconds += seconds
            plane = of.in_plane(data.test[:NUM_SAMPLES])
            found.append(
                flows_report.Found(data_name, of.title, flow_name, of.dim, judged, plane, true)
            )
    output.write_figure("flows.png", flows_report.figure(found))
    results = flows_report.results(found)
    output.finish(settings, compile_seconds, results)
    flows_report.print_results(settings.seeds, settings.steps, settings.sigma_fix, results)


if __name__ == "__main__":
    main(Settings, run)
