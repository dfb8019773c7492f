import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spread_jax.data.tables import Table

N = 40
EPS = np.finfo(np.float64).eps


def rng():
    return np.random.default_rng(0)


def saved(table):
    return Table.from_json(json.loads(json.dumps(table.to_json(), allow_nan=False)))


def samples(table, rows=500, seed=1):
    """The tables of z as a model may draw them, also far out."""
    z = np.random.default_rng(seed).normal(0, 1.5, (rows, table.width))
    return table.inverse(z)


def people():
    r = rng()
    height, income = np.round(r.normal(1.7, 0.1, N), 2), np.round(r.lognormal(10, 1, N), 2)
    return pd.DataFrame(
        {
            "total": height + income,
            "height": height,
            "income": income,
            "country": "Peru",
            "age": r.integers(18, 90, N).astype(np.uint8),
            "smoker": r.random(N) < 0.3,
            "sex": r.integers(1, 3, N),
            "weight": np.round(r.normal(70, 9, N), 1).astype(np.float32),
            "city": r.choice(["Ulm", "Rom", "Bern"], N),
            "word": pd.Series(r.choice(["a", "b"], N), dtype=object),
            "size": pd.Categorical(r.choice(["S", "L"], N), ["S", "M", "L"], ordered=True),
            "grade": pd.Categorical(r.integers(0, 4, N)),
            "children": pd.array(r.integers(0, 9, N), dtype="Int64"),
            "member": pd.array(r.random(N) < 0.5, dtype="boolean"),
            "id": r.integers(0, 10**12, N),
            "price": 1000 * r.integers(3, 80, N),
        }
    )


def test_a_frame_comes_back_bit_for_bit_with_its_columns_order_and_dtypes():
    """Truth: the frame itself."""
    frame = people()
    table = Table.of(frame)
    pd.testing.assert_frame_equal(table.inverse(table.apply(frame)), frame, check_exact=True)
    drawn = samples(table)
    assert drawn.dtypes.equals(frame.dtypes)
    assert list(drawn.columns) == list(frame.columns)


def test_z_is_standardized_and_text_weighs_as_much_as_a_number():
    """Truth: mean 0, and variances that add up to 1 per column of the user that is not left out."""
    frame = people()
    table = Table.of(frame)
    z = table.apply(frame)
    np.testing.assert_allclose(z.mean(axis=0), 0, atol=1e-13)
    assert z.var(axis=0).sum() == pytest.approx(frame.shape[1] - 2)


def test_samples_keep_to_steps_ranges_and_categories():
    """Truth: what people() says of each column."""
    drawn = samples(Table.of(people()))
    for name, decimals in {"height": 2, "income": 2, "price": -3}.items():
        nearest = [float(f"{round(value, decimals)}") for value in drawn[name].tolist()]
        assert drawn[name].tolist() == nearest
    tenths = np.round(drawn["weight"].to_numpy(np.float64), 1).astype(np.float32)
    np.testing.assert_array_equal(drawn["weight"], tenths)
    for name in ("age", "children", "id", "price"):
        assert drawn[name].between(people()[name].min(), people()[name].max()).all()
    for name in ("smoker", "sex", "city", "word", "size", "grade", "member", "country"):
        assert set(drawn[name]) == set(people()[name])


def test_tenths_are_the_nearest_float64_and_not_three_times_a_tenth():
    """Truth: Python's own reading of the decimal."""
    x = np.array([[k / 10] for k in range(30)])
    table = Table.of(x)
    z = table.apply(x) + rng().uniform(-0.1, 0.1, x.shape) / 10
    assert table.inverse(z).ravel().tolist() == [float(f"{k / 10:.1f}") for k in range(30)]
    assert 3 * 0.1 not in samples(table)


@pytest.mark.parametrize("order", [[0, 1, 2], [2, 0, 1], [2, 1, 0], [1, 2, 0]])
@pytest.mark.parametrize("decimals", [2, None])
def test_total_is_height_plus_income_in_samples(order, decimals):
    """Truth: the sum of the samples' own height and income, to 4 units in the last place."""
    r = rng()
    parts = [r.normal(1.7, 0.1, N), r.lognormal(10, 1, N)]
    if decimals is not None:
        parts = [np.round(part, decimals) for part in parts]
    names = np.array(["height", "income", "total"])[order]
    x = np.column_stack([*parts, parts[0] + parts[1]])[:, order]
    frame = pd.DataFrame(x, columns=names)
    table = Table.of(frame)
    assert table.width == 2
    # a height that is total - income would have twelve digits
    np.testing.assert_allclose(table.inverse(table.apply(frame)), x, rtol=4 * EPS)
    (relation,) = table.relations
    assert {abs(c) for c in relation.coefficients} == {1.0}
    assert relation.intercept == 0
    drawn = samples(table)
    size = drawn.abs().max(axis=1)
    assert ((drawn["total"] - (drawn["height"] + drawn["income"])).abs() <= 4 * EPS * size).all()


def test_a_total_of_rounded_numbers_is_rounded_as_it_was():
    """Truth: Python's own rounding of the sum; 0.1 + 0.2 is another float64 than 0.3."""
    r = rng()
    parts = np.round(r.normal(5, 2, (N, 2)), 1)
    total = np.array([round(a + b, 1) for a, b in parts.tolist()])
    assert (total != parts.sum(axis=1)).any()
    x = np.column_stack([parts, total])
    table = Table.of(x)
    assert table.width == 2
    np.testing.assert_array_equal(table.inverse(table.apply(x)), x)
    assert all(c == round(a + b, 1) for a, b, c in samples(table).tolist())


def test_a_column_left_out_may_depend_on_another_that_is_left_out():
    """Truth: the formulas. The double is found first, and must be computed last."""
    a, b = rng().uniform(1, 2, (2, N))
    table = Table.of(pd.DataFrame({"a": a, "b": b, "sum": a + b, "double": 2 * (a + b)}))
    assert table.width == 2
    assert table.assumptions()[-1] == "column 'double' is 2 sum: it is left out and computed back"
    drawn = samples(table)
    assert drawn["sum"].equals(drawn["a"] + drawn["b"])
    assert drawn["double"].equals(2 * drawn["sum"])


def test_coefficients_are_the_ones_the_user_had():
    """Truth: the formulas by which the columns are made."""
    r = rng()
    a, b, k = r.normal(size=N), r.normal(size=N), r.integers(0, 50, N)
    columns = {"a": a, "b": b, "k": k}
    columns |= {"s": 2.5 * a - 1e-3 * b + 12, "mean": (a + b + k) / 3, "inch": a / 0.0254}
    columns |= {"twice": 2 * k, "copy": a, "not": 7 - k}
    frame = pd.DataFrame(columns)
    table = Table.of(frame)
    lines = dict(line.split("' ", 1) for line in table.assumptions())
    left_out = ": it is left out and computed back"
    assert lines["column 's"] == f"is 2.5 a - 0.001 b + 12{left_out}"
    assert lines["column 'inch"] == f"is a / 0.0254{left_out}"
    assert lines["column 'mean"] == f"is a / 3 + b / 3 + k / 3{left_out}"
    assert lines["column 'twice"] == f"is 2 k{left_out}"
    assert lines["column 'copy"] == f"is a{left_out}"
    assert lines["column 'not"] == f"is 7 - k{left_out}"
    drawn = samples(table)
    assert drawn["copy"].equals(drawn["a"])
    assert drawn["inch"].equals(drawn["a"] / 0.0254)
    assert drawn["twice"].equals(2 * drawn["k"])


def test_a_half_of_even_integers_leaves_the_doubles_out_whatever_their_order():
    """Truth: 2 k is an integer for every integer k, and k / 2 is not."""
    k = rng().integers(0, 50, N)
    for x in (np.column_stack([2 * k, k]), np.column_stack([k, 2 * k])):
        drawn = samples(Table.of(x))
        assert set(abs(drawn[:, 0] - drawn[:, 1])) == set(np.minimum(*drawn.T))


def test_integers_that_no_integers_would_give_are_kept():
    """Truth: 3 k is 1.5 times 2 k, and 1.5 times 5 is no integer."""
    k = rng().integers(0, 50, N)
    assert Table.of(np.column_stack([2 * k, 3 * k])).width == 2
    assert Table.of(np.column_stack([2 * k, 3.0 * k])).width == 1


def test_sums_of_small_integers_do_not_wrap_around():
    """Truth: the sum in Python's integers, held within 0 and 255."""
    a = rng().integers(0, 200, (2 * N, 2))
    a = a[a.sum(axis=1) <= 255]
    for x, true in [
        (np.column_stack([a, a.sum(axis=1)]), lambda s: s),
        (np.column_stack([a, 255 - a.sum(axis=1)]), lambda s: 255 - s),
    ]:
        table = Table.of(x.astype(np.uint8))
        assert table.width == 2
        drawn = samples(table).astype(int)
        expected = true(drawn[:, :2].sum(axis=1))
        assert not np.array_equal(expected, np.clip(expected, 0, 255))
        np.testing.assert_array_equal(drawn[:, 2], np.clip(expected, 0, 255))


@pytest.mark.parametrize("unit", [1e-300, 1e-30, 1.0, 1e30, 1e300])
def test_no_unit_makes_a_column_dependent_and_none_hides_that_it_is(unit):
    """Truth: two independent columns, and the second twice."""
    x = rng().normal(size=(N, 2))
    independent = np.column_stack([x[:, 0] * unit, x[:, 1]])
    table = Table.of(independent)
    assert table.width == 2
    np.testing.assert_allclose(table.inverse(table.apply(independent)), independent, rtol=1e-13)
    same = Table.of(np.column_stack([x[:, 0] * unit, x[:, 1], 2 * x[:, 0] * unit]))
    assert same.width == 2
    drawn = samples(same)
    np.testing.assert_array_equal(drawn[:, 2], 2 * drawn[:, 0])


def test_seconds_since_1970_are_no_constant_and_no_copy_of_each_other():
    """Truth: independent times, and one that is an hour later."""
    t = 1.7e9 + rng().normal(0, 1000, (N, 2))
    table = Table.of(np.column_stack([t, t[:, 0] + 3600]))
    assert table.width == 2
    assert table.assumptions() == ["column 3 is column 1 + 3600: it is left out and computed back"]
    np.testing.assert_allclose(table.inverse(table.apply(np.column_stack([t, t[:, 0]])))[:, :2], t)
    almost = np.column_stack([t, t.sum(axis=1) + rng().normal(0, 1e-3, N)])
    assert Table.of(almost).width == 3
    last_digits = 1e16 + 2.0 * np.arange(N)
    other = np.where(np.arange(N) == 3, last_digits + 2, last_digits)
    other[5] -= 2
    assert Table.of(np.column_stack([last_digits, other])).width == 2


def test_what_is_said_of_many_columns_is_one_line():
    """Truth: 7 columns of integers, 5 constant ones and one of halves, made by hand."""
    integers = rng().permuted(np.tile(np.arange(200), (7, 1)), axis=1).T
    halves = rng().integers(0, 9, 200) / 2
    x = np.column_stack([integers, np.full((200, 5), 3), halves])
    first, *constant, last = Table.of(x).assumptions()
    assert first == "7 columns (1, 2, 3, 4, 5, ...): each holds integers"
    assert len(constant) == 5
    assert constant[0] == "column 8 is constant: it is left out and put back"
    assert last.startswith("column 13 is rounded to ")


def test_columns_of_few_rows_are_not_called_dependent():
    """Truth: among 5 rows any column is linear in 4 others, and 4 points lie easily on a line."""
    assert Table.of(np.array([[1, 2], [2, 4], [3, 6], [4, 8]])).width == 2
    assert Table.of(np.array([[1, 2], [2, 4], [3, 6], [4, 8], [5, 10]])).width == 1
    assert Table.of(rng().normal(size=(5, 8))).width == 8


def test_two_integers_that_end_in_0_are_no_evidence_of_tens():
    """Truth: one in a hundred pairs does; of three, one in a thousand."""
    assert Table.of([[10], [20], [20]]).assumptions() == ["column 1 holds integers"]
    assert Table.of([[10], [20], [50]]).assumptions() == ["column 1 is rounded to 10"]


def test_an_approximate_sum_is_kept():
    x = rng().normal(size=(N, 2))
    noisy = np.column_stack([x, x.sum(axis=1) + 1e-9 * rng().normal(size=N)])
    assert Table.of(noisy).width == 3


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_continuous_columns_are_not_called_rounded(dtype):
    table = Table.of(rng().normal(5, 3, (2000, 3)).astype(dtype))
    if dtype != np.float16:  # which has three digits, and these are tenths and hundredths in part
        assert table.assumptions() == []
    x = rng().normal(size=(100, 2)).astype(dtype)
    table = Table.of(x)
    assert table.inverse(table.apply(x)).dtype == dtype
    np.testing.assert_allclose(table.inverse(table.apply(x)), x, rtol=1e-14)


@pytest.mark.parametrize("dtype", [np.int64, np.uint64, np.int8, np.uint8, np.uint32])
def test_integers_at_the_limits_of_their_dtype_or_at_2_to_the_50_stay_exact(dtype):
    """Truth: Python's integers."""
    most, least = min(np.iinfo(dtype).max, 2**50), max(np.iinfo(dtype).min, -(2**50))
    x = np.array([[most - k, least + k**2] for k in (0, 9, 1, 7, 3)], dtype)
    table = saved(Table.of(x))
    np.testing.assert_array_equal(table.inverse(table.apply(x)), x, strict=True)
    drawn = samples(table)
    assert (drawn.min(axis=0) >= x.min(axis=0)).all()
    assert (drawn.max(axis=0) <= x.max(axis=0)).all()


def test_integers_over_the_widest_range_stay_exact():
    """Truth: the integers; most at one end, a few at the other."""
    r = rng()
    x = 2**50 - r.integers(0, 2**30, (2000, 1))
    x[:5] = -(2**50) + r.integers(0, 2**30, (5, 1))
    table = Table.of(x)
    np.testing.assert_array_equal(table.inverse(table.apply(x)), x, strict=True)


KINDS = {
    "normal": lambda r, n: r.normal(10.0 ** r.integers(-5, 9), 1, n),
    "float32": lambda r, n: r.normal(size=n).astype(np.float32),
    "tenths": lambda r, n: r.integers(-99, 99, n) / 10.0,
    "int": lambda r, n: r.integers(-(10**6), 10**6, n),
    "uint8": lambda r, n: r.integers(0, 256, n).astype(np.uint8),
    "bool": lambda r, n: r.random(n) < 0.5,
    "text": lambda r, n: r.choice(["x", "yy", "é"], n),
    "category": lambda r, n: pd.Categorical(r.choice([3, 1, 2], n), [3, 1, 2, 9]),
    "constant": lambda r, n: np.full(n, 0.1),
    "word": lambda r, n: np.full(n, "word"),
}


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(sorted(KINDS)), min_size=1, max_size=7), st.integers(0, 10**6))
def test_tables_of_mixed_kinds_come_back_also_from_json(kinds, seed):
    """Truth: the frame; a float64 that is not rounded may lose its last digits."""
    r = np.random.default_rng(seed)
    frame = pd.DataFrame({f"{k} {kind}": KINDS[kind](r, 30) for k, kind in enumerate(kinds)})
    if not (frame.nunique() > 1).any():
        return
    table = Table.of(frame)
    assert saved(table) == table
    back = table.inverse(table.apply(frame))
    pd.testing.assert_frame_equal(back, frame, check_exact=False, rtol=4 * EPS)
    exact = [name for name in frame if "normal" not in name]
    pd.testing.assert_frame_equal(back[exact], frame[exact], check_exact=True)
    pd.testing.assert_frame_equal(samples(saved(table)), samples(table), check_exact=True)
    assert table.inverse(np.zeros((0, table.width))).dtypes.equals(frame.dtypes)


def test_what_is_kept_does_not_grow_with_the_rows():
    few, many = (Table.of(rng().normal(size=(n, 3))).to_json() for n in (50, 5000))
    assert abs(len(json.dumps(few)) - len(json.dumps(many))) < 50


def test_arrays_of_text_and_of_objects_come_back():
    x = np.array([["b", 1.5, True], ["a", 2.0, False], ["b", 4.25, True]], object)
    table = saved(Table.of(x))
    back = table.inverse(table.apply(x))
    assert back.tolist() == x.tolist()
    assert {type(each) for each in back[0]} == {str, float, bool}
    words = np.array([["b", "x"], ["a", "y"]])
    np.testing.assert_array_equal(Table.of(words).inverse(Table.of(words).apply(words)), words)


def test_other_rows_are_taken_by_name_in_any_order():
    frame = people()
    table = Table.of(frame)
    other = frame.iloc[:3, ::-1]
    np.testing.assert_array_equal(table.apply(other), table.apply(frame)[:3])


def test_every_assumption_is_named():
    assert Table.of(people()).assumptions() == [
        "column 'total' is height + income: it is left out and computed back",
        "column 'height' is rounded to 0.01",
        "column 'income' is rounded to 0.01",
        "column 'country' is constant: it is left out and put back",
        "column 'age' holds integers",
        "column 'smoker' is true or false",
        "column 'sex' holds 1 or 2, nothing else",
        "column 'weight' is rounded to 0.1",
        "column 'city' is text with 3 values",
        "column 'word' is text with 2 values",
        "column 'size' is a category with 2 values",
        "column 'grade' is a category with 4 values",
        "column 'children' holds integers",
        "column 'member' is true or false",
        "column 'id' holds integers",
        "column 'price' is rounded to 1000",
    ]


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.array([[1, 2], [3, np.nan], [np.inf, 4]]), "column 1 row 3 is inf"),
        (pd.DataFrame({"u": [1.0, 2.0, np.nan]}), "column 'u' row 3 is missing"),
        (pd.DataFrame({"u": ["a", None]}), "column 'u' row 2 is missing"),
        (pd.DataFrame({"u": pd.array([1, None], dtype="Int64")}), "'u' row 2 is missing"),
        (np.array([["a"], [None]], object), "column 1 row 2 is missing"),
        (pd.DataFrame({"c": pd.Categorical(["a", None])}), "'c' row 2 is missing"),
        (np.ones((3, 2)) * 1j, "column 1 row 1 is of dtype complex128"),
        (pd.DataFrame({"d": pd.date_range("2020", periods=3)}), "'d' row 1 is of dtype datetime64"),
        (
            pd.DataFrame({"c": pd.cut([1.0, 2.0], 2)}),
            "column 'c' the categories are of dtype inter",
        ),
        (pd.DataFrame({"c": pd.Categorical([1.0, np.inf])}), "float64, one infinite"),
        (pd.DataFrame({"o": ["a", 2]}), "'o' row 2 is a number and row 1 text"),
        (pd.DataFrame({"o": [[1], [2]]}), "column 'o' row 1 is list"),
        (pd.DataFrame({"o": [10**30, 2]}), "column 'o' are integers that no dtype of NumPy holds"),
        ([[1, 2], [3]], "rows of equal length, not ragged"),
        (np.ma.masked_array([[1.0], [2.0]], [[1], [0]]), "without masked entries"),
        (np.arange(3), r"not of shape \[3\]"),
        (pd.Series([1, 2]), "DataFrame, not a Series"),
        (
            pd.DataFrame([[1, 2], [3, 4]], columns=["x", "x"]),
            "different names; column 'x' is twice",
        ),
        (pd.DataFrame([[1], [3]], columns=[("x", 1)]), "names that are text"),
        (np.ones((4, 2)), "every column of this one is constant"),
        (np.ones((1, 2)), "2 rows or more, not of 1"),
        (np.ones((4, 0)), "one column or more"),
        (pd.DataFrame({"t": [f"{k}" for k in range(101)]}), "column 't' has 101: drop it or merge"),
        (np.array([[-(2**50) - 1], [5]]), "column 1 goes from -1125899906842625 to 5: change"),
        (np.array([[2**64 - 1], [5]], np.uint64), "column 1 goes from 5 to 18446744073709551615"),
        (np.array([[1e307], [2e307]]), "column 1 goes from 1e.307 to 2e.307: change its units"),
        (np.array([[1e-307], [2e-307]]), "column 1 goes from 1e-307 to 2e-307: change its units"),
    ],
)
def test_what_is_no_table_is_refused_in_one_line_that_says_where(x, message):
    with pytest.raises(ValueError, match=message) as error:
        Table.of(x)
    assert "\n" not in str(error.value)
    assert str(error.value).startswith("must be ")


def test_apply_refuses_other_columns_and_unknown_categories():
    frame = pd.DataFrame({"a": [1.0, 2.0, 4.0], "c": ["x", "y", "x"]})
    table = Table.of(frame)
    for other, message in [
        (frame.rename(columns={"a": "b"}), "missing: 'a'; extra: 'b'"),
        (frame.assign(d=1), "same columns; extra: 'd'"),
        (frame.assign(c=["x", "z", "y"]), "column 'c' row 2 is 'z'"),
        (frame.assign(a="one"), "numbers in column 'a': row 1 is 'one'"),
        (frame.assign(a=[1.0, np.nan, 2.0]), "column 'a' row 2 is missing"),
        (frame.to_numpy(), "a DataFrame, as the table that was described"),
    ]:
        with pytest.raises(ValueError, match=message):
            table.apply(other)


def test_inverse_refuses_other_shapes_and_numbers_that_are_not_finite():
    table = Table.of(rng().normal(size=(N, 2)))
    for z, message in [
        (np.zeros((3, 3)), r"\[rows, 2\], not \[3, 3\]"),
        (np.zeros(2), r"not \[2\]"),
        (np.array([[0, np.nan]]), "finite numbers"),
    ]:
        with pytest.raises(ValueError, match=message):
            table.inverse(z)


def test_the_order_and_the_units_of_columns_change_only_how_they_come_back():
    """Truth: the same table with its columns in another order, moved and in other units."""
    x = pd.DataFrame(rng().normal(size=(N, 3)), columns=["a", "b", "c"])
    x["sum"] = x["a"] + x["b"]
    x["city"] = rng().choice(["Ulm", "Rom"], N)
    table = Table.of(x)
    z = table.apply(x)
    order = ["sum", "c", "city", "b", "a"]
    np.testing.assert_allclose(Table.of(x[order]).apply(x[order]), z, atol=1e-12)
    assert list(Table.of(x[order]).inverse(z).columns) == order
    for unit, offset in ((1e-46, 0.0), (1e46, 0.0), (1.0, 1.7e9)):
        other = x[order].assign(c=x["c"] * unit + offset)
        np.testing.assert_allclose(Table.of(other).apply(other), z, atol=1e-6)
