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
    """Yields a function that shows a stage's name: by a spinner on a terminal, else by a line."""
    console = Console(stderr=True, highlight=False, quiet=quiet)
    if console.is_terminal and not quiet:
        with console.status("") as status:
            yield lambda stage: status.update(f"{stage} ...")
    else:
        yield lambda stage: console.print(f"{stage} ...")


@contextlib.contextmanager
def progress_bar(quiet: bool) -> Iterator[Callable[["Progress"], None]]:
    """Yields a sweep's ``on_progress``: a bar on a terminal, else a line now and then."""
    console = Console(stderr=True, highlight=False, quiet=quiet)
    with_bar = console.is_terminal and not quiet
    bar = rich.progress.Progress(
        *rich.progress.Progress.get_default_columns(),
        rich.progress.TimeElapsedColumn(),
        "{task.fields[note]}",
        console=console,
    )
    task = bar.add_task("compiling", total=None, note="")
    if not with_bar:
        console.print("compiling ...")
    started = last = time.perf_counter()

    def on_progress(progress: "Progress") -> None:
        nonlocal started, last
        now = time.perf_counter()
        if not progress.done:
            bar.reset(task, total=progress.total, description="training")
            if not with_bar:
                console.print(f"compiled in {now - started:.1f} s, training ...")
            started = last = now
            return
        rate = progress.done / max(now - started, 1e-9)
        broken = f", {progress.num_nonfinite} non-finite" if progress.num_nonfinite else ""
        note = f"{progress.done:,} run-steps, {rate:,.0f}/s{broken}"
        bar.update(task, completed=progress.done, note=note)
        if now - last > SECONDS_BETWEEN_LINES and not with_bar:
            last = now
            console.print(f"{progress.done / progress.total:4.0%}  {note}")

    with bar if with_bar else contextlib.nullcontext():
        yield on_progress


def alarm_once(
    on_progress: Callable[["Progress"], None],
    alarms: Callable[[Mapping[str, "np.ndarray"]], "np.ndarray"],
    advice: str,
) -> Callable[["Progress"], None]:
    """An ``on_progress`` that also warns, once, after the first chunk in which a likelihood runs
    away: ``alarms(curves so far)`` is the step of each run's alarm, -1 where there is none.
    """
    told, seen = False, 0

    def with_alarm(progress: "Progress") -> None:
        nonlocal told, seen
        on_progress(progress)
        num_records = progress.history["loss"].shape[1] if progress.history else 0
        if told or num_records == seen:  # progress comes after each group, curves after all
            return
        seen = num_records
        steps = alarms(progress.history)
        fired = steps[steps >= 0]
        if fired.size:
            told = True
            warn(
                f"the likelihood is running away in {fired.size} of {steps.size} runs, seen from "
                f"step {fired.min():,} on: its standard deviations are small for the data's scale "
                f"and fall, and so does the loss. {advice}"
            )

    return with_alarm
