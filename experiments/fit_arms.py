"""The arms of :mod:`experiments.fit`: how each is trained and judged."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    import xarray as xr

    from spread_jax.datasets import Dataset
    from spread_jax.networks import Variance
    from spread_jax.sample_quality import Classifier
    from spread_jax.sweeps import Sweep
    from spread_jax.vae import VAE

NUM_WATCHED = 64  # training points at which the decoder's sigma is recorded
MAX_JUDGED = 5_000  # training points whose bound is taken
MAX_IW = 1_000  # held-out points whose importance-weighted bound is taken
MAX_SAMPLES = 3_000  # in precision and recall
MAX_PAIRED = 1_000  # points whose distances are all taken
NUM_PICTURES = 32  # and of a table
NUM_ROWS = 500
NUM_TRAVERSED = 6  # latent dimensions
TRAVERSED = np.linspace(-2, 2, 9)  # standard deviations of the prior
NUM_WORST = 10


class Arm(NamedTuple):
    """A model: what its decoder's variance is, and where the noise is added.

    ``at_zero``: without any noise, whatever sigma_fix is.
    """

    variance: "Variance"
    spread_data: float
    at_zero: bool = False


ARMS = {
    "vae": Arm("each", 1.0, at_zero=True),
    "spread_vae": Arm("each", 1.0),
    "shared_variance": Arm("shared", 1.0, at_zero=True),
    "fixed_variance": Arm("none", 0.0),
    "delta_vae": Arm("none", 1.0),
}


class Program(NamedTuple):
    """Arms of one structure: numbers of one compiled program."""

    vae: "VAE"
    arms: list[str]
    grid: dict[str, list[float]]


class Cell(NamedTuple):
    """The finished runs of one arm at one sigma_fix.

    Attributes:
      arm, sigma_fix: which.
      vae, hyper: the model and the numbers that its noise needs.
      curves: dims (seed, step, pixel).
      params: NumPy leaves ``[seed, ...]``.
    """

    arm: str
    sigma_fix: float
    vae: "VAE"
    hyper: dict[str, float]
    curves: "xr.Dataset"
    params: Any

    def run_params(self, seed: int) -> Any:
        import jax

        return jax.tree.map(lambda leaf: leaf[seed], self.params)


def make_programs(
    arms: list[str], sigmas: tuple[float, ...], make_vae: Callable[["Variance"], "VAE"]
) -> "dict[Variance, Program]":
    """variance → the program that trains its arms."""
    programs: dict[Variance, Program] = {}
    for variance in dict.fromkeys(ARMS[arm].variance for arm in arms):
        members = [arm for arm in arms if ARMS[arm].variance == variance]
        noisy = any(not ARMS[arm].at_zero for arm in members)
        zero = any(ARMS[arm].at_zero for arm in members)
        programs[variance] = Program(
            make_vae(variance),
            members,
            {
                "sigma_fix": [*([0.0] if zero else []), *(sigmas if noisy else ())],
                "spread_data": sorted({ARMS[arm].spread_data for arm in members}),
            },
        )
    return programs


def cells_of(program: Program, result: "Sweep", sigmas: tuple[float, ...]) -> Iterator[Cell]:
    import jax

    for name in program.arms:
        arm = ARMS[name]
        for sigma in (0.0,) if arm.at_zero else sigmas:
            i = program.grid["sigma_fix"].index(sigma)
            j = program.grid["spread_data"].index(arm.spread_data)
            curves = result.dataset.isel(sigma_fix=i, spread_data=j)
            if name == "fixed_variance":  # its sigma is no parameter
                known = {key: curves[key] + sigma for key in ("sigma", "min_sigma", "median_sigma")}
                curves = curves.assign(known)
            yield Cell(
                name,
                sigma,
                program.vae,
                {"sigma_fix": sigma, "spread_data": arm.spread_data},
                curves.drop_vars(["sigma_fix", "spread_data"]),
                jax.tree.map(lambda leaf, i=i, j=j: leaf[i, j], result.params),
            )


class Judge:
    """What every run of a data set is judged by; compiles once for each structure."""

    def __init__(
        self, data: "Dataset", iw_samples: int, classifier: "Classifier | None", seed: int
    ) -> None:
        import jax

        from spread_jax.guard import data_scale

        self.data = data
        self._scale = data_scale(data.train)
        self._iw_samples = iw_samples
        self._key = jax.random.key(seed)
        self._classifier = classifier
        self._compiled: dict[int, Any] = {}
        self.num_samples = min(len(data.test), MAX_SAMPLES)
        if classifier:
            self._real = classifier.features(data.train[:MAX_SAMPLES])

    def reference(self) -> dict[str, float | None]:
        """Held-out real data, judged as samples are; training data for the energy distance."""
        return {
            **self.quality(self.data.test[: self.num_samples]),
            "energy_distance": self.energy_distance(self.data.train),
        }

    def energy_distance(self, samples: np.ndarray) -> float | None:
        """To held-out data, in data units; it is not 0 for two samples of one law."""
        from spread_jax.evaluation import energy_distance

        n = min(len(samples), len(self.data.test), MAX_PAIRED)
        return known(energy_distance(samples[:n], self.data.test[:n]))

    def quality(self, samples: np.ndarray) -> dict[str, float | None]:
        """In the classifier's features, as a viewer shows them: cut to [0, 1]."""
        from spread_jax.sample_quality import SampleQuality, sample_quality

        if self._classifier is None:
            return dict.fromkeys(SampleQuality._fields)
        features = self._classifier.features(samples.clip(0, 1))
        return sample_quality(self._real, features)._asdict()

    def numbers(self, cell: Cell) -> dict[str, list[Any]]:
        """Lists over seeds, the keys of metrics.json."""
        seeds = [self._numbers_of_run(cell, i) for i in range(cell.curves.sizes["seed"])]
        return {key: [run[key] for run in seeds] for key in seeds[0]}

    def bounds(self, cell: Cell, seed: int, x: np.ndarray) -> Any:
        return self._programs(cell.vae)[0](cell.run_params(seed), self._key, x, cell.hyper)

    def samples(self, cell: Cell, seed: int, n: int) -> tuple[np.ndarray, np.ndarray]:
        """Clean samples of a run, and the means of the decoder at the same z."""
        import jax

        samples, means = self._programs(cell.vae)[2](cell.run_params(seed), self._key, n)
        return jax.device_get((samples, means))

    def reconstructed(self, cell: Cell, seed: int, y: np.ndarray) -> np.ndarray:
        """The decoder's means at the posterior means."""
        return np.asarray(self._programs(cell.vae)[3](cell.run_params(seed), y))

    def decoded(self, cell: Cell, seed: int, z: np.ndarray) -> np.ndarray:
        """The decoder's means at z."""
        return np.asarray(self._programs(cell.vae)[4](cell.run_params(seed), z))

    def _programs(self, vae: "VAE") -> tuple:
        import jax

        import spread_jax as sj
        from spread_jax.vae import make_bounds, make_importance_weighted

        def draw(params: Any, key: Any, n: int) -> tuple:
            options = {"latent": vae.latent, "decode": lambda z: vae.decode(params, z)}
            means = {**options, "decode": lambda z: (vae.decode(params, z)[0], None)}
            return sj.sample(key, n, **options), sj.sample(key, n, **means)

        if id(vae) not in self._compiled:
            self._compiled[id(vae)] = (
                make_bounds(vae),
                make_importance_weighted(vae, self._iw_samples),
                jax.jit(draw, static_argnums=2),
                jax.jit(lambda params, y: vae.decode(params, vae.encode(params, y)[0])[0]),
                jax.jit(lambda params, z: vae.decode(params, z)[0]),
            )
        return self._compiled[id(vae)]

    def _numbers_of_run(self, cell: Cell, seed: int) -> dict[str, Any]:
        from spread_jax.guard import runaway_step

        data = self.data
        test = self.bounds(cell, seed, data.test)
        weighted = self._programs(cell.vae)[1](
            cell.run_params(seed), self._key, data.test[:MAX_IW], cell.hyper
        )
        curves = cell.curves.isel(seed=seed)
        rise, first = float(curves["max_loss_rise"]), int(curves["first_nonfinite_step"])
        alarm = runaway_step(
            curves["loss"],
            curves["min_sigma"],
            cell.sigma_fix,
            scale=self._scale,
            record_every=int(curves["step"][0]),
        )
        test_bound = float(test.bound.mean())
        numbers = {
            "train_bound": float(self.bounds(cell, seed, data.train[:MAX_JUDGED]).bound.mean()),
            "test_bound": test_bound,
            "test_iw_bound": float(weighted.mean()),
            "worst_test_bound": float(test.bound.min()),
            "bits_per_dim": -test_bound / (data.test.shape[1] * np.log(2)),
            "kl": float(test.kl.mean()),
            "active_dims": test.active_dims,
            "min_sigma": float(curves["min_sigma"][-1]),
            "median_sigma": float(curves["median_sigma"][-1]),
            "max_loss_rise": rise,
            "late_loss_std": float(curves["late_loss_std"]),
            "first_nonfinite_step": first if first >= 0 else None,
            "alarm_step": int(alarm) if alarm >= 0 else None,
        }
        drawn = self.samples(cell, seed, self.num_samples)
        numbers["energy_distance"] = self.energy_distance(drawn[0])
        for suffix, points in zip(("", "_of_means"), drawn, strict=True):
            numbers |= {name + suffix: value for name, value in self.quality(points).items()}
        return {key: known(value) for key, value in numbers.items()}


def known(value: Any) -> Any:
    """None for a number that is not finite."""
    return value if value is None or np.isfinite(value) else None


def pictures(judge: Judge, cells: dict[str, Cell], sigma_fix: float) -> "xr.Dataset":
    """All that the figures of images show of each arm's first run, dims (arm, picture, pixel)."""
    import jax
    import jax.numpy as jnp
    import xarray as xr

    data = judge.data
    key = jax.random.key(0)
    count = NUM_ROWS if data.shape is None else NUM_PICTURES
    x = data.test[:count]
    noise = np.asarray(
        next(iter(cells.values())).vae.noise(sigma_fix).sample(key, jnp.zeros_like(x))
    )
    shown: dict[str, list] = {
        name: [] for name in ("samples", "spread_samples", "reconstructions", "traversal")
    }
    of_each = []
    for cell in cells.values():
        samples = judge.samples(cell, 0, len(x))[0]
        shown["samples"].append(samples)
        shown["spread_samples"].append(samples + noise)
        y = x + noise * (cell.hyper["spread_data"] * (cell.sigma_fix > 0))
        shown["reconstructions"].append(judge.reconstructed(cell, 0, y))
        bounds = judge.bounds(cell, 0, data.test)
        of_each.append(bounds.bound)
        spread_of_means = bounds.posterior_mean.std(axis=0)
        largest = np.argsort(-spread_of_means)[:NUM_TRAVERSED]
        z = np.zeros((len(largest), len(TRAVERSED), len(spread_of_means)), np.float32)
        for row, latent in enumerate(largest):
            z[row, :, latent] = TRAVERSED
        shown["traversal"].append(judge.decoded(cell, 0, z))
    worst = np.argsort(of_each[0])[:NUM_WORST]  # the plain arm comes first
    dims = {
        **dict.fromkeys(shown, ("arm", "picture", "pixel")),
        "traversal": ("arm", "latent", "value", "pixel"),
    }
    return xr.Dataset(
        {
            **{name: (dims[name], np.stack(shown[name])) for name in shown},
            "held_out": (("picture", "pixel"), x),
            "held_out_spread": (("picture", "pixel"), x + noise),
            "worst": (("worst_image", "pixel"), data.test[worst]),
            "worst_bound": (("arm", "worst_image"), np.stack([b[worst] for b in of_each])),
        },
        coords={"arm": list(cells), "value": TRAVERSED},
    )
