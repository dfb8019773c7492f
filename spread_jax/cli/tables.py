"""Tables of results, as a terminal and as a page in Markdown shows them."""

import string
from collections.abc import Iterable, Mapping, Sequence
from typing import Any


def print_table(
    title: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    caption: str = "",
    width: int = 0,
) -> None:
    """Prints a table, its numbers aligned to the right, at least ``width`` characters wide."""
    from rich.console import Console
    from rich.table import Table

    console = Console()
    console.width = max(console.width, width)
    table = Table(title=title, caption=caption or None)
    for i, column in enumerate(columns):
        table.add_column(column, justify="right" if i or column else "left", no_wrap=i == 0)
    for row in rows:
        table.add_row(*row)
    console.print(table)


def markdown(rows: Iterable[str]) -> str:
    """A table in Markdown; a row is its cells with " | " between them, the titles come first."""
    titles, *others = (f"| {row} |" for row in rows)
    return "\n".join([titles, "|" + "---|" * (titles.count(" | ") + 1), *others])


def fill(template: str, numbers: Mapping[str, Any]) -> str:
    """``fill("{kl:.2f}, {rise}", {"kl": 0.5, "rise": None})`` is ``0.50, -``: as str.format does.

    Without a format a number is written by :func:`number_text`, and a list of bools as ``3 of 4``.
    The format ``%`` writes a list of numbers as an interval in per cent, ``[72, 99]``.
    """
    return _Formatter().vformat(template, (), numbers)


class _Formatter(string.Formatter):
    def format_field(self, value: Any, format_spec: str) -> str:
        if format_spec == "%":
            return f"[{', '.join(f'{100 * share:.0f}' for share in value)}]"
        if isinstance(value, list):
            return f"{sum(value)} of {len(value)}"
        if value is None or (isinstance(value, float) and not format_spec):
            return number_text(value)
        return format(value, format_spec)


def number_text(value: float | None) -> str:
    """A number with three digits, a whole one from 1,000 on, and a dash for None."""
    return "-" if value is None else f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
