"""Text files as people write them: read right, with what was guessed said, or refused by line."""

import gzip

import numpy as np
import pandas as pd
import pytest

from spread_jax.data.files import DataFileError
from spread_jax.data.reading import read_table

X = np.random.default_rng(3).normal(size=(30, 3)).round(3)


def csv(rows, delimiter=",", header=None, form=str):
    lines = [delimiter.join(map(form, row)) for row in np.asarray(rows).tolist()]
    return "\n".join([*([header] if header else []), *lines]) + "\n"


def comma(number):
    return str(number).replace(".", ",")


def german(number):
    return f"{number:,.2f}".replace(",", " ").replace(".", ",").replace(" ", ".")


def read(tmp_path, text, name="x.csv", **options):
    """The table, and what was said of it."""
    path, said = tmp_path / name, []
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_table(path, on_assumption=said.append, **options), said


NAMED = {
    "names": (csv(X, header="a,b,c"), "abc", []),
    "no names": (csv(X), [1, 2, 3], []),
    "quotes, CRLF, blank lines, byte order mark": (
        "\ufeff" + csv(X, header='"a","b","c"').replace("\n", "\r\n\r\n"),
        "abc",
        [],
    ),
    "names of pandas": (csv(X, header="0,1,2"), "012", ["0, 1, 2.* names"]),
    "names and index of pandas": (
        csv(
            [[i, *row] for i, row in enumerate(X.astype(object))], header=",0,1,2", form=str
        ).replace(".0,", ",", 0),
        "012",
        ["0, 1, 2.* names", "index"],
    ),
    "wavelengths": (csv(X, header="400.5,401,401.5"), ["400.5", "401", "401.5"], ["400.5.* names"]),
    "wavelengths and a name": (csv(X, header="400,500,y"), ["400", "500", "y"], []),
    "index": (
        csv([[i, *row] for i, row in enumerate(X.astype(object))], header=",a,b,c"),
        "abc",
        ["index"],
    ),
    "semicolons and decimal commas": (
        csv(X, ";", "a;b;c", comma),
        "abc",
        ["semicolons", "decimal comma"],
    ),
    "the same without names": (csv(X, ";", None, comma), [1, 2, 3], ["semicolons", "comma"]),
    "quoted decimal commas": (
        csv(X, ",", "a,b,c", lambda v: f'"{comma(v)}"'),
        "abc",
        ["decimal comma"],
    ),
    "tabs": (csv(X, "\t", "a\tb\tc"), "abc", []),
    "bars": (csv(X, "|", "a|b|c"), "abc", ["bars"]),
    "spaces": (csv(X, "   ").replace("\n", "  \n"), [1, 2, 3], ["spaces"]),
    "a comment with the names": (csv(X, header="# made by hand\n# a,b,c"), "abc", ["comment a, b"]),
    "comments without names": ("# by\n" + csv(X), [1, 2, 3], []),
    "Excel's sep line": (csv(X, ";", "sep=;\na;b;c"), "abc", []),
    "a delimiter at each end": (
        csv(X, header="a,b,c").replace("\n", ",\n"),
        "abc",
        ["empty last column"],
    ),
    "a comma in a name": (csv(X, header='"a, 1",b,c'), ["a, 1", "b", "c"], []),
    "UTF-16": (csv(X, header="ä,b,c").encode("utf-16"), "äbc", []),
    "Windows-1252": (csv(X, header="ä,b,c").encode("cp1252"), "äbc", ["line 1 is not UTF-8"]),
    "gzip": (gzip.compress(csv(X, header="a,b,c").encode()), "abc", []),
}


@pytest.mark.parametrize("kind", NAMED)
def test_numbers_come_with_their_names_whoever_wrote_them(kind, tmp_path):
    """Truth: the numbers and names that were written, every digit."""
    text, names, expected = NAMED[kind]
    table, said = read(tmp_path, text, "x.csv.gz" if kind == "gzip" else "x.csv")
    np.testing.assert_array_equal(table, X)
    assert list(table.columns) == list(names)
    assert len(said) == len(expected), said
    for words, line in zip(expected, said, strict=True):
        assert pd.Series([line]).str.contains(words).all(), line


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (csv(1e4 * X, ";", "a;b;c", german), ["semicolons", "decimal comma", "thousands"]),
        (csv(1e4 * X, ",", "a,b,c", lambda v: f'"{v:,.2f}"'), ["thousands"]),
        (csv(1e4 * X, ";", "a;b;c", lambda v: f"{v:,.2f}".replace(",", "'")), ["semi", "thous"]),
        (csv(1e4 * X, "\t", "a\tb\tc", lambda v: f"{v:,.2f}".replace(",", " ")), ["thousands"]),
    ],
)
def test_thousands_are_read(text, said, tmp_path):
    table, found = read(tmp_path, text)
    np.testing.assert_allclose(table, 1e4 * X, atol=0.00501)
    assert [words in line for words, line in zip(said, found, strict=True)] == [True] * len(said)


def test_every_digit_of_float64_and_of_integers_is_kept(tmp_path):
    x = np.random.default_rng(0).normal(size=200) * 10.0 ** np.arange(-100, 100)
    n = 2**63 - 1 - np.arange(200)
    table, _ = read(tmp_path, pd.DataFrame({"x": x, "n": n}).to_csv(index=False))
    np.testing.assert_array_equal(table["x"], x)
    np.testing.assert_array_equal(table["n"], n)
    assert table["n"].dtype == np.int64


def test_booleans_text_and_codes_keep_their_kind(tmp_path):
    text = "zip,yes,no,city,n\n01234,True,FALSE,Ulm,1\n89073,False,true,Rom; x,2\n"
    table, said = read(tmp_path, text)
    assert table["zip"].tolist() == ["01234", "89073"]
    assert table["yes"].tolist() == [True, False]
    assert table["no"].tolist() == [False, True]
    assert table["city"].tolist() == ["Ulm", "Rom; x"]
    assert table["n"].dtype == np.int64
    assert len(said) == 1
    assert "'zip' has numbers that begin with 0" in said[0]


def test_a_first_row_of_numbers_like_all_others_is_a_row(tmp_path):
    for x in (X, np.arange(30).reshape(10, 3), np.array([[5, 1, 2], [3, 4, 9], [7, 7, 1]])):
        table, said = read(tmp_path, csv(x))
        np.testing.assert_array_equal(table, x)
        assert not said


def test_what_is_known_is_not_guessed(tmp_path):
    x = np.array([[0, 1, 2], [5, 3, 4]])
    assert len(read(tmp_path, csv(x), has_names=False)[0]) == 2
    assert len(read(tmp_path, csv(x), has_names=True)[0]) == 1
    text = 'a,b\n"1,234",1\n"5,678",2\n'
    assert read(tmp_path, text, decimal=",")[0]["a"].tolist() == [1.234, 5.678]
    assert read(tmp_path, text, decimal=".")[0]["a"].tolist() == [1234, 5678]
    assert read(tmp_path, "1;2,3\n4;5,6\n", delimiter=";")[0].shape == (2, 2)


REFUSED = {
    "a missing cell": ("a,b\n1,2\n\n3,\n4,5\n", "line 4, column 'b' is missing"),
    "NaN": ("1,2\n3,nan\n5,6\n", "line 2, column 2 is missing"),
    "infinity": ("1,2\n3,inf\n5,6\n", "line 2, column 2 is inf"),
    "too large": ("1,2\n3,1e999\n5,6\n", "line 2, column 2 is 1e999"),
    "text among numbers": (
        "# note\na,b\n1,2\n3,four\n5,6\n",
        "line 4, column 'b' is 'four', and others are numbers",
    ),
    "nothing but infinity": ("1e999,1e999\n1e999,1e999\n", "line 1, column 1 is 1e999"),
    "a short row": ("1,2\n3,4\n3\n", "line 3 has 1 fields, others 2"),
    "a long row": ("a,b\n1,2\n3,4,5\n6,7\n", "line 3 has 3 fields, others 2"),
    "R's write.table": ('"a","b"\n"1",1.5,2\n"2",2.5,3\n', "line 1 has 2 fields.*col.names=NA"),
    "names only": ("a,b\n", "this one has none"),
    "nothing but lines": ("\n\n", "this one has none"),
    "one name twice": ("a,a\n1,2\n3,4\n", "'a' is there 2 times"),
    "no name": ("a,,c\n1,2,3\n3,4,5\n", "column 2 has none"),
    "bytes": (bytes(range(128, 256)), "UTF-8; line 1"),
    "a zero byte": (b"a,b\n1,\0\n", "UTF-8"),
    "thousands or decimals": ('a,b\n"1,234",1\n"5,678",2\n', "1,234 has decimals or thousands"),
    "both": ('a,b\n"1,234.5",1\n"5,67",2\n', "1,234.5 has thousands and 5,67 decimals"),
    "one column with decimal commas": ("1,05\n2,10\n3,99\n", "1,05 is two columns, or one"),
    "a damaged .gz": (gzip.compress(b"1,2\n3,4\n")[:-9], "whole .gz"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_be_read_is_refused_by_line(kind, tmp_path):
    text, words = REFUSED[kind]
    with pytest.raises(DataFileError, match=words) as error:
        read(tmp_path, text)
    assert "x.csv" in str(error.value)
    assert "\n" not in str(error.value)
