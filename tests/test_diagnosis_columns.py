"""Columns of a diagnosed table: their names, digits, offsets, units, and rows that set a scale."""

import ml_dtypes
import numpy as np
import pandas as pd
import pytest
from scipy.linalg import eigh

import spread_jax as sj
from spread_jax import diagnose, standardize, suggest_sigma
from spread_jax.data.rank import rank_of
from spread_jax.data.rare_rows import rare_rows


def rng(seed=0):
    return np.random.default_rng(seed)


def said(x):
    return " | ".join(diagnose(x).reasons)


@pytest.fixture(scope="module")
def frame():
    a = rng().normal(size=(200, 2))
    return pd.DataFrame(
        {
            "height": a[:, 0],
            "city": ["Oslo", "Rome"] * 100,
            "id": 7,
            "twice": 2 * a[:, 0],
            "owns": a[:, 1] > 0,
            "rooms": pd.array(rng(1).integers(0, 99, 200), dtype="Int64"),
            "kind": pd.Categorical(["u", "v"] * 100),
        }
    )


def test_names_are_kept_and_text_is_left_out_and_named(frame):
    found = diagnose(frame)
    assert found.columns == ["height", "id", "twice", "owns", "rooms"]
    assert (found.constant_columns, found.dependent_columns) == ([1], [2])
    assert found.reasons[0] == "column 'id' is constant"
    assert "column 'twice' is a linear combination of columns to the left" in found.reasons
    assert "2 columns ('city', 'kind') hold text or categories and are left out" in found.reasons


def test_a_frame_is_judged_as_the_array_of_its_numbers(frame):
    numbers = frame[["height", "id", "twice", "owns", "rooms"]]
    array = numbers.to_numpy(dtype=float)
    from_frame, from_array = diagnose(frame), diagnose(array)
    for name in ("verdict", "rank", "constant_columns", "dependent_columns", "discrete_columns"):
        assert getattr(from_frame, name) == getattr(from_array, name)
    assert from_array.columns == [1, 2, 3, 4, 5]
    assert from_array.reasons[0] == "column 2 is constant"
    assert from_frame.suggested_sigma == from_array.suggested_sigma
    assert suggest_sigma(numbers) == suggest_sigma(array)
    np.testing.assert_array_equal(standardize(numbers)[0], standardize(array)[0])


@pytest.mark.parametrize("function", [diagnose, standardize, suggest_sigma])
@pytest.mark.parametrize(
    ("x", "words"),
    [
        ({"a": [1.0, 2.0], "b": [3.0, None]}, "in column 'b' row 2 is missing"),
        ({"a": pd.array([1, None], dtype="Int64")}, "in column 'a' row 2 is missing"),
        ({"a": [1.0, 2.0], "t": ["x", None]}, "in column 't' row 2 is missing"),
        ({"t": ["x", "y"]}, "column"),
        ({"a": [1e306, 1.0]}, "column 'a' has larger"),
        ({"a": [1.0]}, "2 rows"),
        ({}, "it has no column"),
    ],
)
def test_a_frame_that_cannot_be_used_is_refused_by_name(function, x, words):
    with pytest.raises(ValueError, match=words):
        function(pd.DataFrame(x))


@pytest.mark.parametrize("place", [0, 1, 3])
def test_a_column_constant_but_for_rounding_leaves_the_others_as_without_it(place):
    """Truth: the same table without the column; 0.3 and 0.1 + 0.2 are neighbours in float64."""
    for seed in range(5):
        x = rng(seed).normal(size=(300, 3))
        x[250:] = x[:50]
        rounded = np.where(rng(seed).random(300) < 0.5, 0.3, 0.1 + 0.2)
        found, truth = diagnose(np.insert(x, place, rounded, axis=1)), diagnose(x)
        assert found.constant_columns == [place]
        assert found.reasons[0] == f"column {place + 1} is constant but for rounding"
        assert found.rank == truth.rank == 3
        assert found.dependent_columns == found.discrete_columns == []
        assert found.duplicate_rows == truth.duplicate_rows == 50
        np.testing.assert_allclose(found.spectrum, truth.spectrum)
        np.testing.assert_allclose(found.start_with, truth.start_with)
        scaled = suggest_sigma(np.insert(1e-20 * x, place, rounded, axis=1))
        np.testing.assert_allclose(scaled.low, 1e-20 * suggest_sigma(x).low, rtol=1e-9)


def random_table(seed):
    """Two to four modes in a plane or space; copies and sums of columns; a constant; or a curve."""
    g = rng(seed)
    if seed % 3 == 0:
        t = g.uniform(0, 2 * np.pi, 400)
        return np.stack([np.cos(t), np.sin(t), g.normal(size=400)], axis=1)
    x = g.normal(size=(400, 3)) + 8 * g.integers(0, 2 + seed % 3, (400, 1))
    return np.column_stack([x, x[:, 0] - x[:, 1], np.full(400, 2.5)]) if seed % 3 == 1 else x


@pytest.mark.parametrize("seed", range(9))
def test_neither_offsets_nor_units_nor_order_change_the_answer(seed):
    """Truth: brute force, the same table as it was before. Offsets: POSIX seconds, UTM metres."""
    x = random_table(seed)
    truth = diagnose(x)
    g = rng(seed + 100)
    offset = g.choice([0.0, 1.7e9, 5.6e6, -3e5], x.shape[1])
    unit = 10.0 ** g.choice([-300, -6, 0, 3, 290], x.shape[1])
    order = g.permutation(x.shape[1])
    found = diagnose(((x + offset) * unit)[:, order])
    assert (found.verdict, found.rank) == (truth.verdict, truth.rank)
    assert sorted(order[found.constant_columns]) == truth.constant_columns
    assert len(found.dependent_columns) == len(truth.dependent_columns)
    assert sorted(order[found.discrete_columns]) == truth.discrete_columns
    np.testing.assert_allclose(found.suggested_sigma[:2], truth.suggested_sigma[:2], rtol=1e-4)
    np.testing.assert_allclose(found.spectrum, truth.spectrum, atol=1e-6)
    alone = suggest_sigma(1e-290 * (x + 1.7e9))
    np.testing.assert_allclose(alone.low, 1e-290 * suggest_sigma(x).low, rtol=1e-4)


def test_the_rank_counts_what_varies_by_more_than_each_columns_rounding():
    """Truth: scipy's generalised eigenvalues of ZᵀZ and diag(noise²)."""
    for seed in range(20):
        z = rng(seed).normal(size=(50, 6)) @ np.diag(10.0 ** rng(seed).uniform(-6, 0, 6))
        z = z @ np.linalg.qr(rng(seed).normal(size=(6, 6)))[0]
        noise = 10.0 ** rng(seed + 1).uniform(-6, -1, 6)
        values = eigh(z.T @ z, np.diag(noise**2), eigvals_only=True)
        assert rank_of(np.linalg.qr(z, mode="r"), noise) == np.sum(values > 1)


def test_a_column_of_few_digits_hides_neither_a_thin_direction_nor_its_own_copy():
    """Truth: by construction; columns 3 and 4 are one but for the rounding of column 3."""
    a, b, c = rng().normal(size=(3, 500))
    seconds = 1.7e9 + 1e-5 * c  # stored in steps of 2.4e-7
    found = diagnose(np.column_stack([a, a + 1e-4 * b, seconds, c]))
    assert found.rank == 3  # the maximum over columns, 0.04, would have taken a and a + 1e-4 b
    assert found.dependent_columns == [3]


def test_an_offset_costs_no_more_digits_than_it_has_taken():
    """Truth: the same numbers less the offset, a subtraction that is exact."""
    x = 1.7e9 + rng().normal(size=(300, 2)) * [1e-6, 1e-5]
    found, truth = diagnose(x), diagnose(x - 1.7e9)
    np.testing.assert_allclose(found.scale, (x - 1.7e9).std(axis=0), rtol=1e-12)
    np.testing.assert_allclose(found.spectrum, truth.spectrum, rtol=1e-9)
    np.testing.assert_allclose(found.start_with, truth.start_with, rtol=1e-6)
    np.testing.assert_allclose(found.distances, truth.distances, rtol=1e-6)


def test_few_digits_are_said_with_their_step():
    """Truth: NumPy's spacing near 1.7e9 is 2.4e-7; eps max |x| is up to twice as much."""
    x = pd.DataFrame({"t": 1.7e9 + 1e-6 * rng().normal(size=300), "y": rng(1).normal(size=300)})
    assert np.spacing(1.7e9) == pytest.approx(2.4e-7, rel=0.01)
    assert "few digits are left in column 't', which is stored in steps of 3.8e-07" in said(x)
    assert "few digits" not in said(x.assign(t=x["t"] - 1.7e9 + 0.001 * x["y"]))


def test_counts_and_three_enormous_rows():
    """The report: counts to 10 and three values near 1e12, 400 rows, four columns."""
    x = rng(8).poisson(3, size=(400, 4)).astype(float)
    scale = x[3:].std(axis=0)
    x[:3] = 1e12 * rng(9).random((3, 4))
    for j in range(4):
        found = rare_rows(x[:, j])
        assert found.rows == [0, 1, 2]
        assert found.scale == pytest.approx(x[:, j].std())
        assert found.scale_without == pytest.approx(scale[j])
    words = said(pd.DataFrame(x[:, :1], columns=["hits"]))
    assert "3 rows, the first of them row 1, set the scale of column 'hits'" in words
    assert f"{x[:, 0].std():.2g}, and {scale[0]:.2g} without them" in words
    assert "a few rows set the scale of 4 columns (1, 2, 3, 4)" in said(x)


def test_a_rare_event_is_named():
    x = rng().normal(size=(400, 2))
    x[:, 1] = 0
    x[133, 1] = 50_000
    assert "column 'rare' is 0 in all rows but row 134: " in said(
        pd.DataFrame(x, columns=["a", "rare"])
    )
    x[[7, 200], 1] = -3, 5
    assert "column 2 is 0 in all rows but 3 rows, the first of them row 8: " in said(x)


def test_rows_that_set_a_scale_are_those_of_brute_force():
    """Truth: the standard deviation with the rows farthest from the median taken out one by one."""
    for seed in range(30):
        count = int(rng(seed).integers(10, 800))
        x = rng(seed).normal(size=count) + 1e3 * (seed % 2)
        few = int(rng(seed).integers(0, 4 if count >= 30 else 2))
        where = rng(seed).choice(count, few, replace=False)
        x[where] = 10.0 ** rng(seed).uniform(5, 9, few)
        found = rare_rows(x)
        assert (found.rows if found else []) == sorted(where)
        if found:
            assert found.scale_without == pytest.approx(np.delete(x, where).std(), rel=1e-9)


def test_noise_without_outliers_has_no_rows_that_set_its_scale():
    for seed in range(50):
        assert rare_rows(rng(seed).normal(size=30 + 10 * seed)) is None
        assert rare_rows(rng(seed).exponential(size=30 + 10 * seed)) is None


@pytest.mark.parametrize("dtype", [ml_dtypes.bfloat16, np.float16, np.float32, ">f4"])
def test_a_sum_in_a_short_dtype_is_dependent_to_that_dtypes_rounding(dtype):
    """Truth: in float64 column 3 is the sum; each dtype rounds it by its own eps."""
    a = rng().normal(size=(300, 2))
    found = diagnose(np.column_stack([a, a.sum(axis=1)]).astype(dtype))
    assert found.dependent_columns == [2]
    assert found.rank == 2
    np.testing.assert_allclose(found.scale, np.column_stack([a, a.sum(1)]).std(axis=0), rtol=0.01)


@pytest.mark.parametrize("maximum", [255, 1.0])
def test_three_axes_are_images_whose_sigma_is_in_pixels(maximum):
    """Truth: suggest_sigma of the rows divided by white."""
    x = maximum * rng().random((100, 4, 3)) * (rng(1).random((4, 3)) < 0.7)
    x = x.astype(np.uint8) if maximum == 255 else x
    found = diagnose(x)
    assert (found.dim, found.sigma_unit) == (12, "pixels in [0, 1]")
    truth = suggest_sigma(x.reshape(100, -1).astype(np.float32) / np.float32(maximum))
    np.testing.assert_allclose(found.suggested_sigma[:2], truth[:2])
    assert found.start_with == pytest.approx(np.sqrt(truth.low * truth.high))
    assert diagnose(x.reshape(100, -1)).sigma_unit == "standard deviations of a column"
    with pytest.raises(ValueError, match="pixels in"):
        diagnose(2.0 * x + 0.5)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e7])
def test_a_tables_sigma_is_in_standard_deviations_of_a_column(scale):
    """Truth: suggest_sigma of the standardized columns, whatever the units."""
    x = [1.0, scale, 5.0] * rng().normal(size=(200, 3))
    found = diagnose(x)
    truth = suggest_sigma(standardize(x)[0])
    np.testing.assert_allclose(found.suggested_sigma[:2], truth[:2], rtol=1e-6)
    assert truth.low < found.start_with < truth.high


@pytest.mark.parametrize(
    ("x", "verdict", "rank"),
    [
        ([[1.0, 2.0], [3.0, 4.0]], "full-dimensional", 1),
        ([[1], [3]], "full-dimensional", 1),
        (np.ones((10, 2), np.uint8), "degenerate", 0),
        (rng().integers(0, 9, (50, 2), np.uint8), "degenerate", 2),
        (5e-324 * rng().integers(0, 9, (50, 2)), "degenerate", 2),
        (rng().normal(size=(40, 3)) @ rng(1).normal(size=(3, 2000)), "degenerate", 3),
        (np.array([[2**64 - 1], [2**64 - 3], [2**64 - 9]], np.uint64), "full-dimensional", 1),
    ],
)
def test_small_wide_and_equal_tables_are_judged_without_a_warning(x, verdict, rank):
    """Truth: counted by hand; the tests take any warning for an error."""
    found = sj.diagnose(x)
    assert (found.verdict, found.rank) == (verdict, rank)
    sj.standardize(x)


def test_float32_columns_of_a_frame_are_measured_without_a_warning():
    """Warnings are errors here: the largest number that is accepted is none of float32."""
    x = np.random.default_rng(0).normal(size=(50, 2)).astype(np.float32)
    frame = pd.DataFrame(x, columns=["a", "b"])
    assert sj.diagnose(frame).verdict == sj.diagnose(x).verdict
