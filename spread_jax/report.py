"""What a fitted model is worth: numbers, figures, and one page that shows them all."""

import base64
import html
import io
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from spread_jax.data.frames import columns_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_COLUMNS_TOLD = 50
MEANINGS = {
    "rows": "rows that the numbers below are of",
    "bound": "mean spread ELBO of a row, in nats: how likely the rows are, with noise added to "
    "them and to the model; higher is better, among models of the same data and noise",
    "energy_distance": "distance between the law of the samples and that of half of the rows",
    "energy_distance_of_two_halves": "the same distance between the two halves of the rows: "
    "samples that are as good as data come near it",
}
STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #222; background: #fff; margin: 0 auto;
  max-width: 60rem; padding: 1rem; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.2rem; margin-top: 2rem; }
img { max-width: 100%; height: auto; display: block; }
.wide { overflow-x: auto; }
img.samples, img.pairs { min-width: 36rem; }
table { border-collapse: collapse; font-size: 0.9rem; }
th, td { text-align: left; padding: 0.25rem 0.75rem 0.25rem 0; border-bottom: 1px solid #ddd;
  vertical-align: top; }
"""


class Report(NamedTuple):
    """What :meth:`spread_jax.Fitted.report` says.

    Attributes:
      numbers: ``rows``; ``bound``, the mean over the rows, in nats; and the ``energy_distance`` of
        samples to half of the rows, beside that of the other half, in the units of the transform.
      figures: ``training``, ``samples`` and, of a table, ``pairs``; of Matplotlib.
      assumptions: what was taken for granted of the data, a sentence each.
      choices: all that the recipe chose.
      columns: of a table: name, data and samples in words, for each column.
    """

    numbers: dict[str, Any]
    figures: "dict[str, Figure]"
    assumptions: list[str]
    choices: dict[str, Any]
    columns: list[tuple[str, str, str]]

    def save(self, folder: Path | str) -> None:
        """Writes ``report.html``, ``numbers.json`` and a PNG of each figure."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        for name, figure in self.figures.items():
            figure.savefig(folder / f"{name}.png", dpi=200)
        numbers = json.dumps(self.numbers, indent=1) + "\n"
        (folder / "numbers.json").write_text(numbers, encoding="utf-8")
        (folder / "report.html").write_text(self.page(), encoding="utf-8")

    def page(self, title: str = "A model of your data") -> str:
        """One page of HTML that needs nothing else: figures are in it, and no network is used."""
        rows = self.choices["rows"]
        of_columns = f" of {len(self.columns)} columns" if self.columns else ""
        numbers = (
            (
                name.replace("_", " "),
                f"{value:,.4g}" if isinstance(value, float) else f"{value:,}",
                MEANINGS[name],
            )
            for name, value in self.numbers.items()
        )
        choices = ((name.replace("_", " "), _told(value)) for name, value in self.choices.items())
        listed = self.columns[:MOST_COLUMNS_TOLD]
        left_out = len(self.columns) - len(listed)
        assumptions = "".join(f"<li>{html.escape(each)}</li>" for each in self.assumptions)
        parts = [
            f"<p>{rows['train']:,} rows{of_columns} were trained on, and {rows['validation']:,} "
            "were set aside to choose the best of the runs. "
            f"{self.numbers['rows']:,} rows are compared with as many samples.</p>",
            "<h2>Data beside samples</h2>",
            *(_image(self.figures, name) for name in ("samples", "pairs")),
            _table(("column", "data", "samples"), listed) if listed else "",
            f"<p>{left_out} more columns are not shown.</p>" if left_out else "",
            "<h2>Numbers</h2>",
            _table(("", "", "what it means"), numbers),
            "<h2>What was assumed of the data</h2>",
            f"<ul>{assumptions or '<li>Nothing.</li>'}</ul>",
            "<h2>Training</h2>",
            "<p>Noise is added to the data and to the model, and falls while the model is trained: "
            "its standard deviation is σ. With less noise finer details count, so that the loss "
            "may rise; it should not jump.</p>",
            _image(self.figures, "training"),
            "<h2>What the recipe chose</h2>",
            _table(("", ""), choices),
        ]
        body = "\n".join(part for part in parts if part)
        return (
            '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            f"<title>{html.escape(title)}</title>\n<style>{STYLE}</style></head>\n"
            f"<body><h1>{html.escape(title)}</h1>\n{body}\n</body></html>\n"
        )


def columns_in_words(data: Any, samples: Any) -> list[tuple[str, str, str]]:
    """Name, data and samples of each column of two tables: mean, standard deviation and range of
    numbers; of text and categories the three most frequent."""
    in_words = (
        [(str(column.name), _in_words(values)) for column, values in columns_of(x)[1]]
        for x in (data, samples)
    )
    return [
        (name, of_data, of_samples)
        for (name, of_data), (_, of_samples) in zip(*in_words, strict=True)
    ]


def _in_words(values: np.ndarray) -> str:
    if values.dtype.kind == "O":
        names, counts = np.unique(values.astype(str), return_counts=True)
        order = np.argsort(-counts, kind="stable")[:3]
        shares = [f"{names[i]} {counts[i] / len(values):.0%}" for i in order]
        return ", ".join(shares) + (", ..." if len(names) > 3 else "")
    if values.dtype.kind == "b":
        return f"true {values.mean():.0%}"
    numbers = values.astype(np.float64)
    low, high = numbers.min(), numbers.max()
    unit = max(abs(low), abs(high)) or 1.0  # so that no square overflows
    mean, std = unit * (numbers / unit).mean(), unit * (numbers / unit).std()
    return f"{mean:.4g} ± {std:.3g}, from {low:.6g} to {high:.6g}"


def _told(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_told(each)}" for name, each in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(_told, value))
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    head = "".join(f"<th>{html.escape(title)}</th>" for title in titles)
    body = "".join(
        "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows
    )
    head = f"<tr>{head}</tr>" if any(titles) else ""
    return f'<div class="wide"><table>{head}{body}</table></div>'


def _image(figures: "dict[str, Figure]", name: str) -> str:
    if name not in figures:
        return ""
    png = io.BytesIO()
    figures[name].savefig(png, format="png", dpi=160)
    content = base64.b64encode(png.getvalue()).decode()
    source = f"data:image/png;base64,{content}"
    return f'<div class="wide"><img class="{name}" alt="{name}" src="{source}"></div>'
