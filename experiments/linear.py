"""Deterministic linear models by EM: ordinary EM freezes as the noise vanishes, spread EM not."""

import dataclasses
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from experiments import command

if TYPE_CHECKING:
    import xarray as xr

METHODS = ("em", "spread_em", "structured_spread_em")
LABELS = {
    "em": "ordinary EM",
    "spread_em": "isotropic spread EM",
    "structured_spread_em": "structured spread EM",
}
RELAXATION = 1.3  # of structured spread EM
# of both methods by importance sampling; it falls to 0 over the last four tenths, to average them
SAMPLED_RELAXATION = 1.8
EARLY_POINTS = 4_000  # of structured spread EM's first stage, which only has to come near


@dataclasses.dataclass(frozen=True)
class Settings:
    """Deterministic linear models x = A z by EM: PCA (z Gaussian) and ICA (z Laplace). Ordinary EM,
    spread EM with isotropic noise, and spread EM with noise of covariance sigma^2 A A^T, which
    follows the model; the error of A as the observation noise gamma goes to 0."""

    points: int = 20_000
    """Data points of a run."""
    observed: int = 20
    """Dimension of x."""
    latent: int = 10
    """Dimension of z."""
    gamma: tuple[float, ...] = (1.0, 0.3, 0.1, 0.01, 0.001, 0.0)
    """Standard deviations of the observation noise, in data units."""
    iterations: int = 500
    """EM iterations of every method, a multiple of 50."""
    sigma: float = 1.0
    """Standard deviation of the isotropic spread, in data units."""
    structured_sigma: float = 0.5
    """Standard deviation of the structured spread, in units of z; halved for the last 8 %."""
    batch_size: int = 500
    """Points per iteration of the methods that sample z (ICA, ordinary and isotropic)."""
    samples: int = 20
    """Importance samples of z per point."""
    seeds: int = 16
    """Number of seeds: independent runs (A, data, start, noise)."""
    seed: int = 0
    """The first seed; run i starts from key(seed + i)."""
    out: Path = Path("outputs/linear")
    """Folder for the results."""
    quiet: bool = False
    """Show no progress."""
    no_compilation_cache: bool = False
    """Do not keep compiled programs in the user's cache folder."""

    def check(self) -> None:
        command.require(self.latent >= 1, "--latent", self.latent, "at least 1")
        command.require(
            self.observed >= self.latent,
            "--observed",
            self.observed,
            f"at least the latent dimension, {self.latent}",
        )
        command.require(
            self.points >= 10 * self.observed,
            "--points",
            self.points,
            f"at least ten times the observed dimension, {10 * self.observed}",
        )
        command.require(len(self.gamma) > 0, "--gamma", "", "one number or more")
        for gamma in self.gamma:
            command.require_non_negative("--gamma", gamma, "data units")
        command.require(
            len(set(self.gamma)) == len(self.gamma),
            "--gamma",
            " ".join(map(str, self.gamma)),
            "given once each",
        )
        command.require(
            self.iterations >= RECORDS and self.iterations % RECORDS == 0,
            "--iterations",
            self.iterations,
            f"a multiple of {RECORDS}, at least {RECORDS}",
        )
        command.require_positive("--sigma", self.sigma, "data units")
        command.require_positive("--structured-sigma", self.structured_sigma, "units of z")
        command.require(
            self.latent <= self.batch_size <= self.points,
            "--batch-size",
            self.batch_size,
            f"between the latent dimension and the points, {self.latent} to {self.points}",
        )
        command.require(self.samples >= 2, "--samples", self.samples, "at least 2")
        command.require(self.seeds >= 1, "--seeds", self.seeds, "at least 1")
        command.require(
            0 <= self.seed <= command.MAX_SEED - self.seeds,
            "--seed",
            self.seed,
            f"at least 0, and seed + seeds at most {command.MAX_SEED}",
        )


RECORDS = 50  # points of a curve


def run(settings: Settings) -> None:
    started = time.perf_counter()
    output = command.OutputFolder(settings.out)
    command.start_jax(settings)
    with command.stage_line(settings.quiet) as on_stage:
        programs = Programs(settings)
        pca = run_pca(settings, programs, on_stage)
        ica = run_ica(settings, programs, on_stage)
        on_stage("FastICA")
        fastica, unconverged = fastica_errors(programs)
        on_stage("drawing")
        dataset = as_dataset(settings, pca, ica, fastica)
        from spread_jax import figures

        output.write_dataset("results.nc", dataset)
        output.write_figure("error.png", figures.error_against_gamma_figure(dataset))
        output.write_figure("convergence.png", figures.convergence_figure(dataset))
    print_table(settings, dataset)
    output.write_metrics(
        {
            "config": command.config(settings),
            "environment": command.environment(started, programs.compile_seconds),
            "pca": {
                **summary(dataset, "pca"),
                "eigen_error": dataset["eigen_error"].values.tolist(),
            },
            "ica": {
                **summary(dataset, "ica"),
                "effective_sample_size": ica["effective"].tolist(),
                "fastica_error": fastica,
                "fastica_unconverged": unconverged,
            },
        }
    )
    print(f"written to {output.path}/")


class Programs:
    """All seeds of a method as one compiled program, with gamma and sigma traced."""

    def __init__(self, settings: Settings) -> None:
        import jax
        import jax.numpy as jnp
        from jax.sharding import AxisType, NamedSharding, PartitionSpec

        self.settings = settings
        self.compile_seconds = 0.0
        self._compiled: dict[str, Callable] = {}
        seeds = settings.seed + jnp.arange(settings.seeds)
        self.keys = jax.vmap(jax.random.key)(seeds)
        if settings.seeds % len(jax.devices()) == 0:
            mesh = jax.make_mesh((len(jax.devices()),), ("seed",), axis_types=(AxisType.Auto,))
            self.keys = jax.device_put(self.keys, NamedSharding(mesh, PartitionSpec("seed")))

    def __call__(self, name: str, fn: Callable, *arguments: Any) -> tuple[Any, float]:
        """``fn(*arguments)`` by a compiled program, kept under ``name``; its result and seconds."""
        import jax

        before = time.perf_counter()
        if name not in self._compiled:
            self._compiled[name] = jax.jit(fn).lower(*arguments).compile()
        compiled = time.perf_counter()
        self.compile_seconds += compiled - before
        result = jax.block_until_ready(self._compiled[name](*arguments))
        return result, time.perf_counter() - compiled

    def problems(self, law: Literal["gaussian", "laplace"], gamma: float) -> Any:
        """The data sets of all seeds."""
        import jax

        from spread_jax import linear_models

        def sample(keys, gamma):
            s = self.settings
            return jax.vmap(
                lambda key: linear_models.sample_problem(
                    key,
                    points=s.points,
                    observed=s.observed,
                    latent=s.latent,
                    law=law,
                    gamma=gamma,
                )
            )(keys)

        return self(f"data {law}", sample, self.keys, gamma)[0]


def run_pca(
    settings: Settings, programs: Programs, on_stage: Callable[[str], None]
) -> dict[str, Any]:
    import jax
    import numpy as np

    from spread_jax import linear_models as lm

    def em(structured):
        def fit(starts, moments, gamma, sigma):
            step = lm.pca_structured_step if structured else lm.pca_em_step
            return jax.vmap(
                lambda start, moment: lm.iterate(
                    lambda factor, i: (step(factor, moment, gamma, sigma), gamma),
                    start,
                    start=0,
                    records=RECORDS,
                    record_every=settings.iterations // RECORDS,
                )[0]
            )(starts, moments)

        return fit

    sigmas = {
        "em": 0.0,
        "spread_em": settings.sigma,
        "structured_spread_em": settings.structured_sigma,
    }
    error = np.zeros((len(METHODS), len(settings.gamma), settings.seeds, RECORDS + 1))
    eigen = np.zeros((len(settings.gamma), settings.seeds))
    seconds = np.zeros((len(METHODS), RECORDS + 1))
    for g, gamma in enumerate(settings.gamma):
        on_stage(f"PCA at gamma {gamma:g}")
        problem = programs.problems("gaussian", gamma)
        moments = jax.jit(jax.vmap(lm.second_moment))(problem.x)
        exact = np.asarray(moments, np.float64)
        for seed, moment in enumerate(exact):
            solution = lm.eigen_solution(moment, settings.latent, gamma)
            eigen[g, seed] = lm.pca_error(solution, moment)
        for m, method in enumerate(METHODS):
            structured = method == "structured_spread_em"
            fits, took = programs(
                f"PCA {structured}", em(structured), problem.start, moments, gamma, sigmas[method]
            )
            seconds[m] += took * np.linspace(0, 1, RECORDS + 1) / len(settings.gamma)
            curves = np.concatenate([np.asarray(problem.start)[:, None], fits], axis=1, dtype=float)
            for index in np.ndindex(error.shape[2:]):
                error[m, g][index] = lm.pca_error(curves[index], exact[index[0]])
    return {"error": error, "seconds": seconds / settings.seeds, "eigen": eigen}


def run_ica(
    settings: Settings, programs: Programs, on_stage: Callable[[str], None]
) -> dict[str, Any]:
    import numpy as np

    from spread_jax import linear_models as lm

    error = np.zeros((len(METHODS), len(settings.gamma), settings.seeds, RECORDS + 1))
    seconds = np.zeros((len(METHODS), RECORDS + 1))
    effective = np.zeros((len(settings.gamma), settings.seeds))
    for g, gamma in enumerate(settings.gamma):
        problem = programs.problems("laplace", gamma)
        for m, method in enumerate(METHODS):
            on_stage(f"ICA at gamma {gamma:g}: {LABELS[method]}")
            factors, took, numbers = [problem.start[:, None]], [0.0], []
            for records, (fits, number), stage_seconds in ica_stages(
                settings, programs, problem, gamma, method
            ):
                factors.append(fits)
                numbers.append(number)
                took += [stage_seconds / records] * records
            curves = np.concatenate([np.asarray(f) for f in factors], axis=1)
            truth = np.asarray(problem.factor)
            for index in np.ndindex(error.shape[2:]):
                error[m, g][index] = lm.ica_error(curves[index], truth[index[0]])
            seconds[m] += np.cumsum(took) / len(settings.gamma)
            if method == "spread_em":
                effective[g] = np.asarray(numbers[-1])[:, -1]
    return {"error": error, "seconds": seconds / settings.seeds, "effective": effective}


def ica_stages(
    settings: Settings, programs: Programs, problem: Any, gamma: float, method: str
) -> Iterator[tuple[int, tuple[Any, Any], float]]:
    """Yields each stage's records, its (factors, numbers) [seed, record, ...], and its seconds."""
    record_every = settings.iterations // RECORDS
    if method != "structured_spread_em":
        sigma = settings.sigma if method == "spread_em" else 0.0
        fit = sampled_ica(settings)
        fits, took = programs(
            "ICA sampled", fit, programs.keys, problem.start, problem.x, gamma, sigma
        )
        yield RECORDS, fits, took
        return
    factor, start = problem.start, 0
    # 80 % of the iterations on few points, 12 % on all, 8 % on all with less noise
    for records, points, sigma in (
        (40, min(settings.points, EARLY_POINTS), settings.structured_sigma),
        (6, settings.points, settings.structured_sigma),
        (4, settings.points, settings.structured_sigma / 2),
    ):
        fit = structured_ica(points, records, record_every)
        arguments = (programs.keys, factor, problem.x, gamma, sigma, start)
        fits, took = programs(f"ICA structured {records}", fit, *arguments)
        factor, start = fits[0][:, -1], start + records * record_every
        yield records, fits, took


def sampled_ica(settings: Settings) -> Callable:
    """All seeds of ordinary EM (sigma 0) or isotropic spread EM."""
    import jax
    import jax.numpy as jnp

    from spread_jax import linear_models as lm

    late = 0.4 * settings.iterations
    shape = (settings.latent, settings.samples, settings.batch_size)

    def fit(keys, starts, xs, gamma, sigma):
        # the proposals' normal numbers serve all seeds: drawing them would cost more than the rest
        proposal_key = jax.random.key(settings.seed)

        def step(factors, i):
            proposals = jax.random.normal(jax.random.fold_in(proposal_key, i), shape)
            left = (settings.iterations - i) / late
            relaxation = SAMPLED_RELAXATION * jnp.minimum(left, 1)

            def one(key, factor, x):
                batch_key, noise_key = jax.random.split(jax.random.fold_in(key, i))
                # points are independent: any block of them is a random batch
                low = jax.random.randint(batch_key, (), 0, len(x) - settings.batch_size + 1)
                batch = jax.lax.dynamic_slice_in_dim(x, low, settings.batch_size)
                return lm.ica_isotropic_step(
                    noise_key, factor, batch, proposals, gamma, sigma, relaxation
                )

            return jax.vmap(one)(keys, factors, xs)

        factors, numbers = lm.iterate(
            step,
            starts,
            start=0,
            records=RECORDS,
            record_every=settings.iterations // RECORDS,
        )
        return jnp.swapaxes(factors, 0, 1), jnp.swapaxes(numbers, 0, 1)

    return fit


def structured_ica(points: int, records: int, record_every: int) -> Callable:
    """All seeds of a stage of structured spread EM."""
    import jax

    from spread_jax import linear_models as lm

    def fit(keys, starts, xs, gamma, sigma, first):
        def one(key, start, x):
            def step(factor, i):
                noise_key, batch_key = jax.random.split(jax.random.fold_in(key, i))
                low = jax.random.randint(batch_key, (), 0, len(x) - points + 1)
                batch = jax.lax.dynamic_slice_in_dim(x, low, points)
                return lm.ica_structured_step(
                    noise_key, factor, batch, gamma, sigma, RELAXATION
                ), sigma

            return lm.iterate(step, start, start=first, records=records, record_every=record_every)

        return jax.vmap(one)(keys, starts, xs)

    return fit


def fastica_errors(programs: Programs) -> tuple[list[float], int]:
    """scikit-learn's FastICA on the same data without observation noise; and how many of its runs
    stopped before they converged."""
    import numpy as np
    from sklearn.decomposition import FastICA
    from sklearn.exceptions import ConvergenceWarning

    from spread_jax import linear_models

    settings = programs.settings
    problem = programs.problems("laplace", 0.0)
    errors, unconverged = [], 0
    for seed, (factor, x) in enumerate(zip(problem.factor, problem.x, strict=True)):
        model = FastICA(
            settings.latent, whiten="unit-variance", random_state=seed, max_iter=1000, tol=1e-5
        )
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", ConvergenceWarning)
            model.fit(np.asarray(x, np.float64))
        unconverged += any(issubclass(w.category, ConvergenceWarning) for w in caught)
        errors.append(linear_models.ica_error(model.mixing_, np.asarray(factor)))
    return errors, unconverged


def as_dataset(
    settings: Settings, pca: dict[str, Any], ica: dict[str, Any], fastica: list[float]
) -> "xr.Dataset":
    import numpy as np
    import xarray as xr

    curve = ("model", "algorithm", "gamma", "seed", "iteration")
    variables = {
        "error": (curve, np.stack([pca["error"], ica["error"]]), "relative error of A", "1"),
        "seconds": (
            ("model", "algorithm", "iteration"),
            np.stack([pca["seconds"], ica["seconds"]]),
            "wall seconds of the program of all seeds, divided by their number",
            "s",
        ),
        "eigen_error": (("gamma", "seed"), pca["eigen"], "PCA's eigen-solution, error", "1"),
        "effective_sample_size": (
            ("gamma", "seed"),
            ica["effective"],
            "of isotropic spread EM, last iterations, share of the samples",
            "1",
        ),
        "fastica_error": (("seed",), np.array(fastica), "FastICA at gamma 0, error", "1"),
    }
    return xr.Dataset(
        {
            name: (dims, values, {"long_name": long_name, "units": units})
            for name, (dims, values, long_name, units) in variables.items()
        },
        coords={
            "model": ["pca", "ica"],
            "algorithm": list(METHODS),
            "gamma": list(settings.gamma),
            "seed": settings.seed + np.arange(settings.seeds),
            "iteration": settings.iterations // RECORDS * np.arange(RECORDS + 1),
        },
    )


def summary(dataset: "xr.Dataset", model: str) -> dict[str, Any]:
    runs = dataset.sel(model=model).isel(iteration=-1)
    iterations = float(dataset["iteration"][-1])
    return {
        "gamma": dataset["gamma"].values.tolist(),
        **{f"{m}_error": runs["error"].sel(algorithm=m).values.tolist() for m in METHODS},
        "seconds_per_iteration": {
            m: float(runs["seconds"].sel(algorithm=m)) / iterations for m in METHODS
        },
    }


def print_table(settings: Settings, dataset: "xr.Dataset") -> None:
    from rich.console import Console
    from rich.table import Table

    last = dataset.isel(iteration=-1).median("seed")
    references = {
        "pca": ("eigen-solution", lambda gamma: last["eigen_error"].sel(gamma=gamma)),
        "ica": ("FastICA, gamma 0", lambda gamma: last["fastica_error"]),
    }
    for model, (reference, value) in references.items():
        table = Table(
            title=f"{model.upper()}: relative error of A, median of {settings.seeds} seeds, "
            f"{settings.iterations} iterations"
        )
        for column in ("gamma", *LABELS.values(), reference):
            table.add_column(column, justify="right")
        for gamma in dict.fromkeys(settings.gamma):
            errors = last["error"].sel(model=model, gamma=gamma)
            numbers = [errors.sel(algorithm=m) for m in METHODS]
            table.add_row(f"{gamma:g}", *(f"{float(x):.3g}" for x in (*numbers, value(gamma))))
        Console().print(table)
    ess = float(dataset["effective_sample_size"].median())
    print(f"isotropic spread EM: effective sample size {ess:.0%} of {settings.samples}")


if __name__ == "__main__":
    command.main(Settings, run)
