"""Tables in text files (.csv, .tsv): how a file is written is found out, and said where it was
guessed; Python's csv splits the rows."""

import csv
import gzip
import io
import itertools
import re
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from spread_jax.data.columns import objects
from spread_jax.data.files import OnAssumption, require

DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars", " ": "spaces"}
LOOKED_AT = 1_000  # rows that show how a file is written
MISSING = {"", "na", "n/a", "nan", "null", "none", "<na>", "#n/a", "?"}
BOOLEANS = {"true", "false"}
PLAIN = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|[+-]?inf(inity)?", re.IGNORECASE)
DECIMAL_COMMA = re.compile(r"[+-]?(\d+|[1-9]\d{0,2}(\.\d{3})+),\d+([eE][+-]?\d+)?")
# three digits after each mark: 1,234,567.8
GROUPED = {mark: rf"[+-]?[1-9]\d{{0,2}}({re.escape(mark)}\d{{3}})+" for mark in ",.' \xa0\u202f"}


def read_text(
    path: Path,
    on_assumption: OnAssumption,
    *,
    delimiter: str | None = None,
    decimal: str | None = None,
    has_names: bool | None = None,
) -> pd.DataFrame:
    """The table of a file: numbers, booleans and text; columns without names are numbered from 1.

    Args:
      path: of a text file, which may be packed by gzip.
      on_assumption: called with one line for each thing that was guessed.
      delimiter: between the fields; a space stands for any run of spaces.
      decimal: the mark before decimals, a point or a comma.
      has_names: whether the first row holds the names of the columns.

    Raises:
      ValueError: naming the line, counted from 1, and the column of what cannot be read.
    """
    text, comments = _without_comments(_decoded(path, on_assumption))
    if re.match("sep=.\r?\n", text):  # a line of Excel's
        delimiter, text, comments = text[4], text.partition("\n")[2], ["", *comments]
    if delimiter is None:
        delimiter = "\t" if ".tsv" in path.name.lower() else _found_delimiter(text)
        if delimiter not in ",\t":
            on_assumption(f"the fields are separated by {DELIMITERS[delimiter]}")
    lines, rows = _rows_of_one_length(text, delimiter, len(comments))
    above = next(iter(_rows(comments[-1], delimiter)), (0, []))[1] if comments else []
    names: list[str] | None = None
    if has_names is not False and len(above) == len(rows[-1]) and not any(map(_is_number, above)):
        on_assumption(f"the comment {', '.join(above)} was taken for the names of the columns")
        names = above
    elif has_names or (has_names is None and _finds_names(rows, on_assumption)):
        names, rows, lines = rows[0], rows[1:], lines[1:]
    require(len(rows) > 0, "a file of rows; this one has none")
    columns = list(zip(*rows, strict=True))
    kept: dict[int, str | int] = {j: j + 1 for j in range(len(columns))}
    if names is not None:
        kept = _named(names, columns, on_assumption)
    decimal, thousands = _marks(columns, decimal, on_assumption)
    table = {}
    for j, name in kept.items():
        items = [item.strip() for item in columns[j]]
        values = _typed(items, decimal, thousands)
        wrong = _first_wrong(values, items)
        if wrong is not None:
            row, reason = wrong
            accepted = "finite numbers, booleans or text in every row"
            raise ValueError(f"must be {accepted}: line {lines[row]}, column {name!r} {reason}")
        if values.dtype == object and any(map(_has_leading_zero, items)):
            on_assumption(f"column {name!r} has numbers that begin with 0: it was taken for text")
        table[name] = values
    return pd.DataFrame(table)


def _decoded(path: Path, on_assumption: OnAssumption) -> str:
    content = path.read_bytes()
    if content.startswith(b"\x1f\x8b"):
        try:
            content = gzip.decompress(content)
        except (EOFError, zlib.error, gzip.BadGzipFile):
            raise ValueError("must be a whole .gz file; this one is damaged or cut short") from None
    is_utf16 = content[:2] in (b"\xff\xfe", b"\xfe\xff")
    require(is_utf16 or b"\0" not in content, "a text file in UTF-8; this one has bytes 0")
    try:
        return content.decode("utf-16" if is_utf16 else "utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
    try:
        text = content.decode("utf-16" if is_utf16 else "cp1252")
    except UnicodeDecodeError:
        raise ValueError(f"must be a text file in UTF-8; line {line} is not") from None
    on_assumption(f"line {line} is not UTF-8: the file was read as Windows-1252")
    return text


def _without_comments(text: str) -> tuple[str, list[str]]:
    """The text below the lines that begin with #, and these lines without it."""
    rest, comments = text.lstrip("\r\n"), []
    while rest.startswith("#"):
        comment, _, rest = rest.partition("\n")
        comments.append(comment[1:].strip())
    return (rest, comments) if comments else (text, [])


def _rows(text: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """The number of its last line, and the fields, of every row that is not blank."""
    lines = io.StringIO(text, newline="")
    if delimiter == " ":
        yield from ((i, line.split()) for i, line in enumerate(lines, 1) if line.strip())
        return
    reader = csv.reader(lines, delimiter=delimiter, skipinitialspace=True)
    try:
        yield from ((reader.line_num, row) for row in reader if len(row) > 1 or "".join(row))
    except csv.Error as error:
        raise ValueError(f"must be rows of text: line {reader.line_num}: {error}") from None


def _found_delimiter(text: str) -> str:
    """What splits the rows, the first one left out, most often into equally many fields, of which
    most are numbers."""
    best, best_score = ",", (0.0, 0.0)
    for delimiter in DELIMITERS:
        rows = [row for _, row in itertools.islice(_rows(text, delimiter), LOOKED_AT)]
        rows = rows[1:] or rows
        if not rows:
            break
        width, count = Counter(map(len, rows)).most_common(1)[0]
        are_numbers = [_is_number(field) for row in rows for field in row]
        share = sum(are_numbers) / len(are_numbers)
        score = (round(count / len(rows), 1), share)
        # words have spaces between them too
        if width > 1 and score > best_score and (delimiter != " " or share == 1):
            best, best_score = delimiter, score
    return best


def _rows_of_one_length(
    text: str, delimiter: str, lines_before: int
) -> tuple[list[int], list[list[str]]]:
    """The lines and fields of all rows, names among them."""
    found = [(number + lines_before, row) for number, row in _rows(text, delimiter)]
    widths = Counter(len(row) for _, row in found[1:] or found)
    require(bool(widths), "a file of rows; this one has none")
    width = widths.most_common(1)[0][0]
    for i, (line, row) in enumerate(found):
        is_r = i == 0 and len(row) == width - 1 and not any(map(_is_number, row))
        hint = "; R's write.table leaves out a name unless col.names=NA" * is_r
        require(
            len(row) == width,
            f"rows of equal length: line {line} has {len(row)} fields, others {width}{hint}",
        )
    return [line for line, _ in found], [row for _, row in found]


def _finds_names(rows: list[list[str]], on_assumption: OnAssumption) -> bool:
    """Whether the first row is of another kind than those below it."""
    first, *below = rows[: LOOKED_AT + 1]
    if not first[0].strip() and len(first) > 1:  # an index has no name
        first, below = first[1:], [row[1:] for row in below]
    columns = list(zip(*below, strict=True))
    if not all(map(_is_number, first)):
        shares = [sum(map(_is_number, column)) / len(column) for column in columns]
        over_numbers = [field for field, share in zip(first, shares, strict=False) if share > 0.5]
        # without a column of numbers nothing tells; most files have names
        return not over_numbers or any(not _is_number(field) for field in over_numbers)
    plain = [field for field in first if PLAIN.fullmatch(field.strip())]
    values = np.array(plain, float)
    if not np.isfinite(values).all():
        return False
    steps = np.diff(values)
    if len(plain) < max(2, len(first)) or not below or not (steps > 0).all():
        return False
    are_whole = all(field.strip().isdigit() for field in plain)
    found = are_whole and all(any(set(field) & set(".,eE") for field in c) for c in columns)
    if not found and len(plain) > 2 and np.allclose(steps, steps[0], rtol=1e-3):
        others = [row for row in below[:20] if all(PLAIN.fullmatch(each.strip()) for each in row)]
        found = not any(np.allclose(np.diff(np.array(row, float)), steps[0]) for row in others)
    if found:
        shown = ", ".join(plain[:3]) + ", ..." * (len(plain) > 3)
        on_assumption(f"the first row ({shown}) was taken for the names of the columns")
    return found


def _named(
    names: list[str], columns: list[tuple[str, ...]], on_assumption: OnAssumption
) -> dict[int, str | int]:
    """The columns that are kept, by place, with their names: without an index, and without what
    a delimiter at the end of every row makes."""
    kept: dict[int, str | int] = {j: name.strip() for j, name in enumerate(names)}
    last = len(names) - 1
    if last and kept[last] == "" and not "".join(columns[last]).strip():
        on_assumption("each row ends with a delimiter: the empty last column was left out")
        del kept[last]
    if kept[0] == "" and len(kept) > 1 and len(set(columns[0])) == len(columns[0]):
        on_assumption("the first column has no name and no value twice: it was taken for an index")
        del kept[0]
    for j, name in kept.items():
        require(name != "", f"a table with a name for each column; column {j + 1} has none")
    (name, count) = Counter(kept.values()).most_common(1)[0]
    require(count == 1, f"a table of different names; {name!r} is there {count} times")
    return kept


def _marks(
    columns: list[tuple[str, ...]], decimal: str | None, on_assumption: OnAssumption
) -> tuple[str, str]:
    """The marks before decimals and between thousands, by fields that can be read in one way."""
    texts = {text.strip() for column in columns for text in column}
    commas = {text for text in texts if "," in text}
    grouped = {text for text in commas if re.fullmatch(GROUPED[","] + r"(\.\d*)?", text)}
    with_decimals = {text for text in commas if DECIMAL_COMMA.fullmatch(text)}
    surely_grouped, surely_decimal = grouped - with_decimals, with_decimals - grouped
    if decimal is None:
        if surely_grouped and surely_decimal:
            shown = f"{min(surely_grouped)} has thousands and {min(surely_decimal)} decimals"
            raise ValueError(f"must be commas of one meaning: {shown}")
        if with_decimals and not surely_grouped and not surely_decimal:
            raise ValueError(
                f"must be numbers that can be read in one way: {min(with_decimals)} has decimals "
                "or thousands; say which mark stands before decimals, `decimal`"
            )
        if surely_decimal:
            on_assumption(f"numbers have a decimal comma, such as {min(surely_decimal)}")
        _refuse_one_number_in_two(columns)
        decimal = "," if surely_decimal else "."
    for mark, form in GROUPED.items():
        if mark == decimal or (mark == "." and decimal == "."):
            continue
        form += rf"({re.escape(decimal)}\d*)?"
        found = [text for text in texts if mark in text and re.fullmatch(form, text)]
        if found:
            on_assumption(f"numbers have marks between thousands, such as {min(found)}")
            return decimal, mark
    return decimal, ""


def _refuse_one_number_in_two(columns: list[tuple[str, ...]]) -> None:
    """1,05 and 2,10 without quotes look like two columns of integers."""
    if len(columns) != 2:
        return
    left, right = ([field.strip() for field in column] for column in columns)
    is_padded = any(map(_has_leading_zero, right)) and len(set(map(len, right))) == 1
    if is_padded and all(re.fullmatch(r"[+-]?\d+", each) for each in left + right):
        raise ValueError(
            f"must be numbers that can be read in one way: {left[0]},{right[0]} is two columns, or "
            "one number with a decimal comma; put quotes around numbers with commas"
        )


def _typed(items: list[str], decimal: str, thousands: str) -> np.ndarray:
    """Numbers or booleans where all fields are; else objects, in which numbers are no text."""
    lower = {item.lower() for item in items}
    if lower <= BOOLEANS:
        return np.array([item.lower() == "true" for item in items])
    whole = r"[+-]?\d+" + (f"|{GROUPED[thousands]}" if thousands else "")
    point = re.escape(decimal)
    number = re.compile(
        rf"(({whole})({point}\d*)?|[+-]?{point}\d+)([eE][+-]?\d+)?|[+-]?inf(inity)?", re.IGNORECASE
    )
    are_numbers = [bool(number.fullmatch(item)) for item in items]
    is_text = 2 * sum(are_numbers) < sum(not _is_missing(item) for item in items)
    if is_text or any(map(_has_leading_zero, items)):
        return objects(items)
    are_whole = all(re.fullmatch(whole, item) for item in items)
    read: list[Any] = []
    for item, is_number in zip(items, are_numbers, strict=True):
        if not is_number:
            read.append(item)
            continue
        plain = (item.replace(thousands, "") if thousands else item).replace(decimal, ".")
        read.append(int(plain) if are_whole else float(plain))
    if not all(are_numbers):
        return objects(read)
    values = np.array(read)
    return values if values.dtype.kind in "iuf" else values.astype(np.float64)


def _first_wrong(values: np.ndarray, items: list[str]) -> tuple[int, str] | None:
    """The first row that is missing, not finite, or no number among numbers, and what it is."""
    are_numbers = values.dtype != object or not all(isinstance(each, str) for each in values)
    for i, item in enumerate(items):
        if _is_missing(item):
            return i, f"is missing ({item!r})"
        if are_numbers and isinstance(values[i], str):
            return i, f"is {item!r}, and others are numbers"
        if values.dtype.kind == "f" and not np.isfinite(values[i]):
            return i, f"is {item}"
    return None


def _is_missing(item: str) -> bool:
    return item.lower() in MISSING


def _has_leading_zero(item: str) -> bool:
    return bool(re.fullmatch(r"0\d+", item))


def _is_number(field: str) -> bool:
    """Whether it is a number in some convention, a boolean, or missing."""
    bare = field.strip()
    if bare.lower() in MISSING | BOOLEANS or PLAIN.fullmatch(bare) or DECIMAL_COMMA.fullmatch(bare):
        return True
    return any(re.fullmatch(form + r"([.,]\d*)?", bare) for form in GROUPED.values())
