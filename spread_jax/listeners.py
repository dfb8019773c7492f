"""Ready listeners of a sweep: a picture of the loss, and event files for TensorBoard."""

import contextlib
import time
import warnings
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from spread_jax.sweeps import Records

MOST_CELLS = 6  # that a picture tells apart
MOST_POINTS = 400  # of a curve in the picture
SHARE_OF_TIME = 0.005  # of the time, that drawing may take
EVENTS_PER_CALL = 10  # of a curve in TensorBoard


class LossPicture:
    """A picture of the loss so far, made again while a sweep trains: for each grid point (up to
    six; else for all runs together) the median over the seeds, and the largest faint.

    It is replaced as a whole, at most every ``seconds``, more seldom where drawing would take more
    than a two-hundredth of the time, and at the end. Where it cannot be written, a warning says so
    and the sweep goes on.

    Args:
      path: a .png file; its folder is made if missing.
      seconds: least time between two pictures, and before the first.
      at_end: draw the last records too, however soon they come.

    Raises:
      ImportError: without the extra ``figures``.

    Examples:
      >>> training = sj.model_training(
      ...     sj.make_vae(2, latent_dim=1, hidden=(8,)),
      ...     sample_batch=lambda key, data, hyper: sj.sample_two_modes(key, 32),
      ...     num_steps=40,
      ... )
      >>> grid = {"sigma_fix": [0.1, 0.3], "learning_rate": 1e-3}
      >>> done = sj.sweep(training, grid, num_seeds=2, on_record=sj.LossPicture("loss.png"))
    """

    def __init__(self, path: Path | str, *, seconds: float = 10.0, at_end: bool = True) -> None:
        """A listener that draws nothing before it hears of records."""
        from spread_jax import figures  # brings Matplotlib, before the runs begin

        self._draw = figures.loss_so_far_figure
        self._path = Path(path)
        self._seconds, self._at_end = seconds, at_end
        self._next, self._gave_up = time.perf_counter() + seconds, False

    def __call__(self, records: Records, /) -> None:
        """As :class:`spread_jax.sweeps.OnRecord`."""
        now = time.perf_counter()
        is_last = self._at_end and records.done == records.total
        is_due = is_last or (records.num_new > 0 and now >= self._next)
        if self._gave_up or not is_due or not len(records.steps):
            return
        part = self._path.with_name(f".{self._path.name}.part")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._draw(*_summary(records)).savefig(part, format="png", dpi=120)
            part.replace(self._path)
        except OSError as error:
            warnings.warn(f"{self._path} cannot be written: {error}", stacklevel=2)
            self._gave_up = True
            with contextlib.suppress(OSError):
                part.unlink()
        end = time.perf_counter()
        self._next = end + max(self._seconds, (end - now) / SHARE_OF_TIME)


class TensorBoardListener:
    """Event files for TensorBoard: one of its runs for each grid point.

    The scalars are, over the seeds, ``loss/median`` and ``loss/worst``, and ``NAME/median`` of what
    is observed as one number. Of each chunk of a sweep ten records are written, so that hundreds of
    runs cost little. Watch with ``tensorboard --logdir FOLDER``.

    Args:
      folder: made if missing.

    Raises:
      ImportError: without the extra ``tensorboard``.
    """

    def __init__(self, folder: Path | str) -> None:
        """A listener that writes nothing before it hears of records."""
        try:
            import tensorboardX
        except ImportError:
            needs = "TensorBoardListener needs tensorboardX"
            raise ImportError(f"{needs}: pip install 'spread_jax[tensorboard]'") from None
        self._folder = Path(folder)
        self._writer = tensorboardX.SummaryWriter
        self._writers: dict[str, tensorboardX.SummaryWriter] = {}

    def __call__(self, records: Records, /) -> None:
        """As :class:`spread_jax.sweeps.OnRecord`."""
        new = range(len(records.steps) - records.num_new, len(records.steps))
        places = np.unique(
            np.linspace(new.start, new.stop - 1, EVENTS_PER_CALL).round().astype(int)
        )
        if not new:
            return
        for cell, runs in cells_of(records.labels).items():
            curves = {"loss/median": _median(records.curves["loss"][runs][:, places])}
            curves["loss/worst"] = _worst(records.curves["loss_max"][runs][:, places])
            for name in records.curves.keys() - {"loss", "loss_max", "loss_rise"}:
                if records.curves[name].ndim == 2:
                    curves[f"{name}/median"] = _median(records.curves[name][runs][:, places])
            if cell not in self._writers:
                self._writers[cell] = self._writer(str(self._folder / cell))
            for name, values in curves.items():
                for place, value in zip(places, values, strict=True):
                    self._writers[cell].add_scalar(name, value, int(records.steps[place]))
        if records.done == records.total:
            for writer in self._writers.values():
                writer.close()  # it opens again where a next sweep writes


def cells_of(labels: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The runs of each grid point, by the numbers in which grid points differ: ``sigma_fix 0.1``.

    Args:
      labels: name → ``[run]``, as in :class:`spread_jax.sweeps.Records`.
    """
    numbers = {name: values for name, values in labels.items() if name != "seed"}
    varying = {name: v for name, v in numbers.items() if (v != v[0]).any()}
    if not varying:
        return {"all runs": np.arange(len(labels["seed"]))}
    rows, which = np.unique(np.stack(list(varying.values())), axis=1, return_inverse=True)
    texts = (
        ", ".join(f"{name} {value:.4g}" for name, value in zip(varying, row, strict=True))
        for row in rows.T
    )
    return {text: np.flatnonzero(which == cell) for cell, text in enumerate(texts)}


def _summary(records: Records) -> tuple[np.ndarray, dict[str, tuple[np.ndarray, np.ndarray]]]:
    """Steps, and for each cell the median and the worst loss at each of them."""
    stride = -(-len(records.steps) // MOST_POINTS)
    last = slice((len(records.steps) - 1) % stride, None, stride)  # the newest is among them
    cells = cells_of(records.labels)
    if len(cells) > MOST_CELLS:
        cells = {f"all {len(records.runs)} runs": np.arange(len(records.runs))}
    loss, largest = records.curves["loss"], records.curves["loss_max"]
    return records.steps[last], {
        cell: (_median(loss[runs, last]), _worst(largest[runs, last]))
        for cell, runs in cells.items()
    }


def _median(values: np.ndarray) -> np.ndarray:
    """Over runs ``[run, record]``; a run that broke counts as infinite."""
    return np.median(np.where(np.isnan(values), np.inf, values), axis=0)


def _worst(values: np.ndarray) -> np.ndarray:
    """The largest of the runs that have not broken; -inf where all have."""
    return np.where(np.isnan(values), -np.inf, values).max(axis=0)
