"""What a command says on stderr while it works: its stage, how far it is, and warnings."""

import contextlib
import math
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import rich.progress
from rich.console import Console

if TYPE_CHECKING:
    from spread_jax.guard import Alarms
    from spread_jax.sweeps import Records

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
def progress_bar(
    quiet: bool, alarms: "Alarms | None" = None, advice: str = ""
) -> Iterator[Callable[["Records"], None]]:
    """Yields an ``on_record`` of a sweep: a bar on a terminal, else a line now and then.

    It shows the loss of the newest record, the median and the worst of the runs.

    Args:
      quiet: show nothing but the warning of an alarm.
      alarms: a guard, what :func:`spread_jax.guard.watch_runaway` returns. The runs with an alarm
        are counted, and at the first chunk with one a warning is printed.
      advice: the end of that warning, what to do.
    """
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
    begun = -1
    count_alarms = _alarm_counter(alarms, advice) if alarms else lambda records: 0
    loss = ""

    def on_record(records: "Records") -> None:
        nonlocal last, begun, started, loss
        now = time.perf_counter()
        if begun < 0:
            bar.reset(task, total=records.total, completed=records.done, description="training")
            if not with_bar:
                console.print(f"compiled in {now - last:.1f} s, training ...")
            started = last = now
            begun = records.done
        num_alarms = count_alarms(records)
        if records.num_new:
            loss = _newest_loss(records)
        rate = (records.done - begun) / max(now - started, 1e-9)
        broken = f", {records.num_nonfinite} non-finite" if records.num_nonfinite else ""
        alarmed = f", alarms {num_alarms}" if num_alarms else ""
        note = f"{records.done:,} run-steps, {rate:,.0f}/s{loss}{alarmed}{broken}"
        bar.update(task, completed=records.done, note=note)
        if now - last > SECONDS_BETWEEN_LINES and not with_bar:
            last = now
            console.print(f"{records.done / records.total:4.0%}  {note}")

    with bar if with_bar else contextlib.nullcontext():
        yield on_record


def _newest_loss(records: "Records") -> str:
    """``, loss 0.12, worst 3.4``: the median, to which a broken run counts as infinite, and the
    largest of the runs that have not broken."""
    losses = records.curves["loss"][:, -1].tolist()
    numbers = [loss for loss in losses if not math.isnan(loss)]
    middle = statistics.median(math.inf if math.isnan(loss) else loss for loss in losses)
    return f", loss {middle:.4g}, worst {max(numbers):.4g}" if numbers else ""


def _alarm_counter(alarms: "Alarms", advice: str) -> Callable[["Records"], int]:
    """How many runs have had an alarm; the first chunk that has one prints a warning."""
    looked_at: dict[int, int] = {}  # records of each part of the runs
    first_step: dict[int, int] = {}

    def count(records: "Records") -> int:
        num_records = len(records.steps)
        if not num_records or looked_at.get(records.runs[0]) == num_records:
            return len(first_step)  # told after each group, and curves after all
        first = looked_at.get(records.runs[0], 0)
        looked_at[records.runs[0]] = num_records
        steps = alarms(records.curves, records.runs, first)
        was_alarmed = bool(first_step)
        for run, step in zip(records.runs.tolist(), steps.tolist(), strict=True):
            if step >= 0:
                first_step.setdefault(run, step)
        if first_step and not was_alarmed:
            warn(
                f"the likelihood is running away in {len(first_step)} of {len(steps)} runs, seen "
                f"from step {min(first_step.values()):,} on: its standard deviations are small for "
                f"the data's scale and fall, and so does the loss. {advice}"
            )
        return len(first_step)

    return count
