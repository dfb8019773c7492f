"""What a command says on stderr while it works: its stage, how far it is, and warnings."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

import rich.progress
from rich.console import Console

if TYPE_CHECKING:
    import numpy as np

    from spread_jax.sweeps import Progress

SECONDS_BETWEEN_LINES = 5.0


def warn(message: str) -> None:
    """Prints one line of warning."""
    print(f"warning: {message}", file=sys.stderr)


@contextlib.contextmanager
def stage_line(quiet: bool) -> Iterator[Callable[[str], None]]:
    """Yields ``(stage)``: a spinner with the stage's name on a terminal, else a line each."""
    console = Console(stderr=True)
    if quiet:
        yield lambda stage: None
    elif console.is_terminal:
        with console.status("") as status:
            yield lambda stage: status.update(f"{stage} ...")
    else:
        yield lambda stage: console.print(f"{stage} ...", highlight=False)


@contextlib.contextmanager
def progress_bar(quiet: bool) -> Iterator[Callable[["Progress"], None]]:
    """Yields a sweep's ``on_progress``: a bar on a terminal, else a line now and then."""
    console = Console(stderr=True)
    if quiet:
        yield lambda progress: None
    elif console.is_terminal:
        with _bar(console) as bar:
            task = bar.add_task("compiling", total=None, note="")

            def on_progress(progress: "Progress") -> None:
                if progress.done:
                    note = _note(progress, bar.tasks[task].elapsed or 0)
                    bar.update(task, completed=progress.done, note=note)
                else:
                    bar.reset(task, total=progress.total, description="training")

            yield on_progress
    else:
        yield _lines(console)


def _bar(console: Console) -> rich.progress.Progress:
    return rich.progress.Progress(
        "{task.description}",
        rich.progress.BarColumn(bar_width=None),
        rich.progress.TaskProgressColumn(),
        rich.progress.TimeElapsedColumn(),
        rich.progress.TimeRemainingColumn(),
        "{task.fields[note]}",
        console=console,
    )


def _lines(console: Console) -> Callable[["Progress"], None]:
    console.print("compiling ...", highlight=False)
    started = last = time.perf_counter()

    def on_progress(progress: "Progress") -> None:
        nonlocal started, last
        now = time.perf_counter()
        if not progress.done:
            console.print(f"compiled in {now - started:.1f} s, training ...", highlight=False)
            started = last = now
        elif now - last > SECONDS_BETWEEN_LINES:
            last = now
            percent = 100 * progress.done / progress.total
            console.print(f"{percent:3.0f} %  {_note(progress, now - started)}", highlight=False)

    return on_progress


def _note(progress: "Progress", seconds: float) -> str:
    note = f"{progress.done:,} run-steps, {progress.done / max(seconds, 1e-9):,.0f}/s"
    return note + (f", {progress.num_nonfinite} non-finite" if progress.num_nonfinite else "")


def alarm_once(
    on_progress: Callable[["Progress"], None],
    alarms: Callable[[Mapping[str, "np.ndarray"]], "np.ndarray"],
    advice: str,
) -> Callable[["Progress"], None]:
    """``on_progress``, and one warning at the first chunk after which a likelihood runs away.

    ``alarms`` takes the curves so far to each run's step of alarm, -1 where there is none.
    """
    told = False
    seen = 0

    def with_alarm(progress: "Progress") -> None:
        nonlocal told, seen
        on_progress(progress)
        num_records = progress.history["loss"].shape[1] if progress.history else 0
        if told or num_records == seen:  # a chunk of many groups is told after each of them
            return
        seen = num_records
        steps = alarms(progress.history)
        fired = steps[steps >= 0]
        if fired.size:
            told = True
            warn(
                f"the likelihood is running away in {fired.size} of {steps.size} runs, seen from "
                f"step {fired.min():,} on: its standard deviation is below 1 % of the data's and "
                f"falls, and so does the loss. {advice}"
            )

    return with_alarm
