"""The recipe: from data to a trained model and clean samples, with one call and no σ to choose."""

import math
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import jax
import numpy as np
from jaxtyping import PRNGKeyArray

from spread_jax.arguments import is_whole, require_whole
from spread_jax.arms import TWENTIETH
from spread_jax.data.datasets import Dataset, read_data
from spread_jax.data.files import OnAssumption
from spread_jax.data.images import CHANNELS, Images, as_rows
from spread_jax.data.latent_dim import MOST_ROWS, suggest_latent_dim
from spread_jax.data.reading import warn_of_assumption
from spread_jax.data.sigma_suggestion import largest_sigma, suggest_sigma
from spread_jax.data.sources import Rows, is_source
from spread_jax.data.streams import Streamed, most_drawn, streamed
from spread_jax.data.tables import Table
from spread_jax.fitted import Fitted, Transform, model_of
from spread_jax.fitted_latents import with_fitted_latents
from spread_jax.judgement import judge
from spread_jax.metrics import TEST_BOUND, TEST_KL
from spread_jax.models.fitted_latent import SIZES
from spread_jax.models.networks import Variance
from spread_jax.models.vae import Network
from spread_jax.progress import progress_bar, stage_line
from spread_jax.schedules import annealed_noise, at_the_end, settling_adam
from spread_jax.spreads import Spread, gaussian_spread
from spread_jax.sweeps import Checkpoints, Sweep, sweep
from spread_jax.training import Hyper, model_training, rows

Data: TypeAlias = Any
"""An array, a DataFrame, a :class:`spread_jax.Dataset`, a path, or rows larger than memory."""

EPOCHS = 20
FEWEST_STEPS, MOST_STEPS = 3_000, 10_000
SHARE_OF_VALIDATION, MOST_VALIDATION = 0.1, 5_000
# hidden layers for a table of few columns, and for others and images: under much noise two layers
# on hundreds of columns learn to ignore z
NARROW, WIDE, FEW_COLUMNS = (128, 128), (400,), 64
LEAST_KL = 0.1  # nats of a row, below which z says nothing of it
CURVE_POINTS = 200


def fit(
    key: PRNGKeyArray,
    x: Data,
    *,
    sigma_fix: float | None = None,
    noise_end: float = TWENTIETH,
    variance: Variance = "none",
    latent_dim: int | None = None,
    latent_sizes: Sequence[int] = SIZES,
    hidden: Sequence[int] | None = None,
    network: Network = "mlp",
    num_steps: int | None = None,
    num_seeds: int = 3,
    batch_size: int = 128,
    learning_rate: float = 1e-3,
    checkpoints: Path | str | None = None,
    quiet: bool = False,
) -> Fitted:
    """A VAE of any data, by the recipe of this package; its samples are clean rows like those of x.

    1. A tenth of the rows is set aside for validation. 2. Images become pixels in [0, 1]; of a
    table, constant columns and exact linear combinations are left out, to be put back in samples,
    and the rest is standardized (:class:`spread_jax.data.tables.Table`). 3. VAEs are trained under
    a spread whose noise falls from ``sigma_fix`` to ``noise_end`` of it. 4. Of the seeds the one
    with the best bound on validation rows is kept. 5. Its prior becomes a Gaussian mixture that is
    fitted to the aggregate posterior (:func:`spread_jax.aggregate_latent`).

    Call ``sj.sweeps.use_all_cores()`` before the first use of JAX to train on all cores of a CPU.

    Args:
      key: of everything that is random.
      x: a table ``[n, columns]`` as an array or a pandas DataFrame; images ``[n, height, width]``
        or ``[n, height, width, 3]``, uint8 or floats in [0, 1]; a :class:`spread_jax.Dataset`,
        whose own validation part is then used; a path or name of :func:`spread_jax.load_dataset`;
        or a ``numpy.memmap``, or another source of rows as of :func:`spread_jax.sweep`. Of a source
        of more than 20,000 rows, or of fewer that are wide, some are drawn, and decide all but the
        training.
      sigma_fix: standard deviation of the noise at the first step, in pixels' units or in standard
        deviations of a column; by default the upper end of :func:`spread_jax.suggest_sigma`. At
        most 10, or √columns where there are more than 100.
      noise_end: share of it that is left at the last fifth of the steps.
      variance: of the decoder; ``none``: it is deterministic, since noise is what the data lack.
      latent_dim: of z; by default 2 m + 1, m the intrinsic dimension of the data, at most their
        rank (a smooth set of m dimensions fits into 2 m + 1 flat ones, by Whitney's theorem).
      latent_sizes: numbers of components that the prior is chosen from; ``()``: N(0, I) stays.
      hidden: widths of the hidden layers; by default (128, 128) for a table of at most 64 columns,
        once constant ones are left out and text is one-hot, and (400,) for others and images.
      network: ``conv`` for images, see :func:`spread_jax.make_vae`.
      num_steps: of the optimizer; by default 20 epochs, but at least 3,000 and at most 10,000.
      num_seeds: independent runs, trained together.
      batch_size, learning_rate: of Adam.
      checkpoints: a folder that keeps the runs; a call that was stopped goes on from there when it
        is made again, and one with more seeds trains those that are missing.
      quiet: whether to show no progress on stderr.

    Raises:
      ValueError: if a number is out of its range, the data cannot be used, or every run broke; it
        says why.

    Examples:
      >>> t = np.random.default_rng(0).uniform(0, 2 * np.pi, 1000)
      >>> ring = np.stack([np.cos(t), np.sin(t)], axis=1)
      >>> fitted = sj.fit(jax.random.key(0), ring, num_steps=100, num_seeds=1, quiet=True)
      >>> fitted.sample(jax.random.key(1), 5).shape
      (5, 2)

    References:
      Zhang, Hayes, Bird, Habib, Barber, "Spread Divergence", ICML 2020, arXiv 1811.08968, for the
      spread and its annealing; Ghosh, Sajjadi, Vergari, Black, Schölkopf, "From variational to
      deterministic autoencoders", ICLR 2020, for the prior that is fitted afterwards.
    """
    _require_in_range(
        num_seeds=num_seeds,
        num_steps=num_steps,
        batch_size=batch_size,
        latent_dim=latent_dim,
        sigma_fix=sigma_fix,
        noise_end=noise_end,
        learning_rate=learning_rate,
    )
    _require_whole_numbers(hidden=hidden, latent_sizes=latent_sizes)
    with stage_line(quiet) as on_stage:
        on_stage("looking at the data")
        data, transform, to_train = _ready(x, on_stage)
        if sigma_fix is None:
            sigma_fix = suggest_sigma(data.train).high
        elif sigma_fix > largest_sigma(data.train.shape[1]):
            unit = "pixels in [0, 1]" if data.shape else "standard deviations of a column"
            most = f"{largest_sigma(data.train.shape[1]):.3g} ({unit})"
            raise ValueError(f"sigma_fix must be at most {most}, got {sigma_fix!r}")
        if latent_dim is None:
            # drawn rows are in the order of the source, whose first ones may be alike
            every = -(-len(data.train) // MOST_ROWS) if to_train is not data.train else 1
            latent_dim = suggest_latent_dim(data.train[::every])
    if num_steps is None:
        epochs = round(EPOCHS * len(to_train) / batch_size, -2)
        num_steps = int(min(max(epochs, FEWEST_STEPS), MOST_STEPS))
    dim = data.train.shape[1]
    if hidden is None:
        hidden = NARROW if not data.shape and dim <= FEW_COLUMNS else WIDE
    architecture = {
        **{"dim": dim, "latent_dim": int(latent_dim), "network": network},
        "hidden": list(map(int, hidden)),
        **{"shape": list(data.shape) if data.shape else None, "variance": variance},
    }
    model = model_of(architecture)
    numbers = {"sigma_fix": float(sigma_fix), "noise_end": float(noise_end)}
    numbers["learning_rate"] = float(learning_rate)
    sizes = {"num_steps": num_steps, "batch_size": batch_size, "num_seeds": num_seeds}
    seed_key, latent_key = jax.random.split(key)
    first_seed = _seed_of(seed_key)
    training = model_training(
        model,
        sample_batch=rows(batch_size),
        num_steps=num_steps,
        schedule=annealed_noise(num_steps),
        optimizer=settling_adam(num_steps),
    )
    folder = None
    if checkpoints is not None:
        folder = Checkpoints(checkpoints, {**architecture, "batch_size": batch_size})
    with progress_bar(quiet) as show:
        runs = sweep(
            training,
            numbers,
            num_seeds=num_seeds,
            seed=first_seed,
            record_every=_record_every(num_steps),
            on_record=show,
            checkpoints=folder,
            data=to_train,
        )
    judged = judge(model, runs, data, [TEST_BOUND, TEST_KL], spread=last_spread, part="validation")
    bounds = np.nan_to_num(judged[TEST_BOUND.name].values, nan=-np.inf)
    if not np.isfinite(bounds).any():
        raise ValueError(
            f"all {num_seeds} runs broke: no bound of validation rows is finite; try a larger "
            f"sigma_fix or noise_end than {sigma_fix:.3g} and {noise_end:g}, or a smaller "
            "learning_rate"
        )
    place = int(np.argmax(bounds))
    if judged[TEST_KL.name].values[place] < LEAST_KL:
        warnings.warn(
            "z says almost nothing of a row, so samples are all alike or random; try a smaller "
            f"sigma_fix than {sigma_fix:.3g}, one hidden layer, or more steps",
            stacklevel=2,
        )
    with stage_line(quiet) as on_stage:
        on_stage("fitting the prior to the aggregate posterior")
        kept = _one_run(runs, place)
        _, fitted = with_fitted_latents(
            model, kept, data, spread=last_spread, sizes=latent_sizes, seed=_seed_of(latent_key)
        )
    params = jax.tree.map(lambda leaf: leaf[0], fitted.stacked_params)
    found = [bound if math.isfinite(bound) else None for bound in bounds.tolist()]
    num_rows = {"train": len(to_train), "validation": len(data.validation)}
    if to_train is not data.train:
        num_rows["looked_at"] = len(data.train)
    choices = {
        **{**numbers, **sizes, "seed": first_seed + place, "validation_bounds": found},
        **{"latent_components": len(params["latent"].weights), "rows": num_rows},
    }
    return Fitted(
        architecture=architecture,
        params=params["vae"],
        latent=params["latent"],
        sigma=numbers["sigma_fix"] * numbers["noise_end"],
        transform=transform,
        choices=choices,
        loss=kept.dataset["loss"].values[0],
    )


def _ready(x: Data, on_stage: Callable[[str], None]) -> Streamed:
    """The data to look at and those to train on, which are one but for a source of many rows."""
    if isinstance(x, str | Path):
        x = read_data(x, warn_of_assumption)
    if is_source(x) and len(x):
        rows = Rows(x)
        if len(rows) > most_drawn(rows):
            return streamed(rows, on_stage)
        x = rows.as_given(np.arange(len(rows)))
    data, transform = prepare(x)
    return Streamed(data, transform, data.train)


def prepare(x: Data, on_assumption: OnAssumption = warn_of_assumption) -> tuple[Dataset, Transform]:
    """The user's data as rows to train on and to choose by, and how they came from x.

    Args:
      x: as in :func:`fit`.
      on_assumption: called with a line for each thing that was guessed of a file.

    Raises:
      ValueError: if the data cannot be used; it says why.
    """
    if isinstance(x, str | Path):
        x = read_data(x, on_assumption)
    if isinstance(x, Dataset):
        if not len(x.validation):
            raise ValueError(
                f"{x.name}: must have validation rows to choose the seed by, it has none"
            )
        if x.shape is not None:
            return x, Images(_shape_of_pixels(x))
        transform = Table.of(x.train)
        return _split("data", transform.apply(x.train), transform.apply(x.validation)), transform
    if getattr(x, "ndim", 2) > 2:
        x = np.asarray(x)
        images = Images.of(x)
        train, validation = _two_parts(as_rows(x))
        return _split("images", train, validation, images.shape), images
    transform = Table.of(x)
    return _split("table", *_two_parts(transform.apply(x))), transform


def last_spread(hyper: Hyper) -> Spread:
    """The noise that an annealed run was last trained under."""
    return gaussian_spread(at_the_end(hyper)["sigma_fix"])


def _two_parts(z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if len(z) < 3:
        raise ValueError(
            f"must be data of 3 rows or more, one of them for validation, not {len(z)}"
        )
    count = min(max(1, round(SHARE_OF_VALIDATION * len(z))), MOST_VALIDATION)
    validation, train = np.split(np.random.default_rng(0).permutation(len(z)), [count])
    return z[train], z[validation]


def _split(
    name: str, train: np.ndarray, validation: np.ndarray, shape: tuple[int, ...] | None = None
) -> Dataset:
    """There is no test part: what is chosen on validation rows is not reported here."""
    train, validation = train.astype(np.float32), validation.astype(np.float32)
    return Dataset(name, train, validation, validation[:0], shape=shape)


def _one_run(runs: Sweep, place: int) -> Sweep:
    """The sweep of one seed alone."""
    one = slice(place, place + 1)
    return runs._replace(
        dataset=runs.dataset.isel(seed=one),
        stacked_params=jax.tree.map(lambda leaf: leaf[one], runs.stacked_params),
        hyper={name: numbers[one] for name, numbers in runs.hyper.items()},
    )


def _record_every(num_steps: int) -> int:
    return max(n for n in range(1, max(1, num_steps // CURVE_POINTS) + 1) if num_steps % n == 0)


def _seed_of(key: PRNGKeyArray) -> int:
    return int(jax.random.randint(key, (), 0, 2**31 - 1))


def _require_in_range(**arguments: Any) -> None:
    """None is what is not given."""
    for name, value in arguments.items():
        if value is None:
            continue
        if name in ("num_seeds", "num_steps", "batch_size", "latent_dim"):
            require_whole(name, value)
        elif not (isinstance(value, int | float | np.number) and 0 < value < math.inf):
            raise ValueError(f"{name} must be a finite number above 0, got {value!r}")
        elif name == "noise_end" and value > 1:
            raise ValueError(f"noise_end must be at most 1, got {value!r}")


def _require_whole_numbers(**arguments: Any) -> None:
    """None is what is not given."""
    for name, values in arguments.items():
        is_sequence = isinstance(values, Sequence | np.ndarray)
        if values is not None and not (is_sequence and all(is_whole(value) for value in values)):
            raise ValueError(f"{name} must be a sequence of whole numbers >= 1, got {values!r}")


def _shape_of_pixels(data: Dataset) -> tuple[int, ...]:
    shape = tuple(map(int, data.shape or ()))
    if len(shape) not in (2, 3) or shape[2:] not in ((), *((each,) for each in CHANNELS)):
        wanted = "(height, width) or (height, width, channels) with 1 or 3 channels"
        raise ValueError(f"{data.name}: must have a shape {wanted}, not {data.shape}")
    size = math.prod(shape)
    for x in (data.train, data.validation):
        # not of NaN either
        if x.ndim != 2 or x.shape[1] != size or not (len(x) and x.min() >= 0 and x.max() <= 1):
            wanted = f"rows of {size} pixels in [0, 1], as its shape {data.shape} says"
            raise ValueError(f"{data.name}: must have {wanted}")
    return shape
