import os
from pathlib import Path

import jax
import numpy as np
import pytest
from scipy.linalg import null_space
from sklearn.datasets import load_digits

import spread_jax as sj
from spread_jax import diagnose, standardize, suggest_sigma
from spread_jax.data.intrinsic_dimension import intrinsic_dimension
from spread_jax.data.modes import Mixture
from spread_jax.problems.two_modes import recovered_two_modes

MNIST_DIR = os.environ.get("MNIST_DIR")
needs_mnist = pytest.mark.skipif(not MNIST_DIR, reason="MNIST_DIR, a folder of IDX files, not set")


def rng(seed=0):
    return np.random.default_rng(seed)


def two_modes(seed, n, data_std, unit=1.0):
    return unit * np.asarray(sj.sample_two_modes(jax.random.key(seed), n, data_std), np.float64)


@pytest.mark.slow
@needs_mnist
def test_mnist_has_67_constant_pixels_and_rank_712():
    """Truth: counted on the 60,000 training images by an exact comparison, and by an SVD."""
    x = sj.read_table(Path(MNIST_DIR or "") / "train-images-idx3-ubyte.gz")
    found = diagnose(x)
    assert x.shape == (60_000, 784)
    assert len(found.constant_columns) == 67
    assert found.rank == 712
    assert len(found.dependent_columns) == 784 - 67 - 712
    assert found.verdict == "degenerate"


def test_digits_have_3_constant_columns():
    x = load_digits().data
    found = diagnose(x)
    assert found.verdict == "degenerate"
    assert found.constant_columns == np.flatnonzero(x.std(axis=0) == 0).tolist() == [0, 32, 39]
    assert found.rank == np.linalg.matrix_rank(x - x.mean(axis=0)) == 61
    assert found.discrete_columns == np.setdiff1d(np.arange(64), [0, 32, 39]).tolist()


@pytest.mark.parametrize("unit", [1e-6, 1.0, 1e6])
def test_two_modes_are_a_line_with_a_constant_column(unit):
    found = diagnose(two_modes(0, 1000, 0.1, unit))
    assert found.verdict == "degenerate"
    assert found.constant_columns == [1]
    assert found.rank == 1
    assert found.dependent_columns == found.discrete_columns == []


def test_the_ring_has_rank_2_and_dimension_1():
    found = diagnose(np.asarray(sj.sample_ring(jax.random.key(0), 1000)))
    assert found.verdict == "degenerate"
    assert found.rank == found.dim == 2
    assert found.intrinsic_dimension.interval[0] <= 1.05
    assert found.intrinsic_dimension.interval[1] >= 1
    assert found.intrinsic_dimension.interval[1] < 1.1


def test_a_ring_with_a_little_noise_is_nearly_degenerate():
    """Truth: by construction a density in the plane; it is as wide as neighbours are apart."""
    angle = rng().uniform(0, 2 * np.pi, 3000)
    radius = 1 + 0.002 * rng(1).standard_normal((3000, 1))
    found = diagnose(np.stack([np.cos(angle), np.sin(angle)], -1) * radius)
    assert found.verdict == "nearly degenerate"
    assert found.rank == 2


def test_the_spiral_in_20_dimensions_has_rank_2_and_dimension_1():
    plane = sj.sample_spiral(jax.random.key(0), 1000)
    found = diagnose(np.asarray(sj.embed(jax.random.key(1), plane, 20)))
    assert found.verdict == "degenerate"
    assert found.rank == 2
    assert found.dependent_columns == list(range(2, 20))
    low, high = found.intrinsic_dimension.interval
    assert low < 1 < high


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_duplicated_and_a_summed_column_are_named_in_any_units(dtype):
    a = rng().standard_normal((500, 3)) * [1e-6, 1, 1e6] + [0, 5, 1e6]
    x = np.column_stack([a, a[:, 0], a[:, 1] + a[:, 2]]).astype(dtype)
    found = diagnose(x)
    assert found.verdict == "degenerate"
    assert found.dependent_columns == [3, 4]
    assert found.rank == 3
    assert any("standardize" in reason for reason in found.reasons)


def test_rank_and_dependent_columns_are_those_of_brute_force():
    """Truth: scipy's null space; and matrix_rank of the columns up to j, for each j."""
    for seed in range(20):
        mix = rng(seed).integers(-2, 3, (5, 9)).astype(float)
        x = rng(seed).standard_normal((100, 5)) @ mix
        z = standardize(x)[0]
        found = diagnose(x)
        varying = np.setdiff1d(np.arange(9), found.constant_columns)
        ranks = [0, *(np.linalg.matrix_rank(z[:, varying[: j + 1]]) for j in range(len(varying)))]
        assert found.rank == len(varying) - null_space(z[:, varying]).shape[1]
        assert found.dependent_columns == varying[np.diff(ranks) == 0].tolist()


def test_with_fewer_rows_than_columns_only_copies_are_dependent():
    x = rng().standard_normal((20, 40))
    found = diagnose(x)
    assert found.verdict == "full-dimensional"
    assert found.dependent_columns == []
    assert found.rank == 19
    assert any("20 rows cannot fill 40 dimensions" in reason for reason in found.reasons)
    copied = diagnose(np.column_stack([x, 3 * x[:, 5] + 1]))
    assert copied.dependent_columns == [40]
    assert copied.verdict == "degenerate"


def test_integers_are_discrete_and_a_fine_grid_nearly():
    digits = diagnose(rng().integers(0, 10, (1000, 3)))
    assert digits.verdict == "degenerate"
    assert digits.discrete_columns == [0, 1, 2]
    assert digits.duplicate_rows == 1000 - len(np.unique(rng().integers(0, 10, (1000, 3)), axis=0))
    pixels = diagnose(rng().integers(0, 256, (1000, 3), np.uint8))
    assert pixels.verdict == "nearly degenerate"
    assert pixels.discrete_columns == [0, 1, 2]


def test_a_frequent_value_among_continuous_ones_is_an_atom():
    x = rng().standard_normal((500, 2))
    x[:100, 1] = 0
    found = diagnose(x)
    assert found.discrete_columns == [1]
    assert found.verdict == "degenerate"


def test_repeated_rows_and_thin_directions_are_nearly_degenerate():
    x = rng().standard_normal((500, 2))
    repeated = diagnose(np.concatenate([x, x[:100]]))
    assert repeated.duplicate_rows == 100
    assert repeated.verdict == "nearly degenerate"
    thin = diagnose(np.column_stack([x[:, 0], x[:, 0] + 0.01 * x[:, 1]]))
    assert thin.verdict == "nearly degenerate"
    assert thin.rank == 2


@pytest.mark.parametrize(
    "seeds", [range(30), pytest.param(range(30, 200), marks=pytest.mark.slow)], ids=["30", "170"]
)
def test_no_false_alarm_on_200_draws_of_gaussian_noise(seeds):
    alarms = []
    for seed in seeds:
        n = int(10 ** rng(seed).uniform(np.log10(5), np.log10(2000)))
        dim = int(10 ** rng(seed + 1000).uniform(0, np.log10(60)))
        scale = 10 ** rng(seed + 2000).uniform(-3, 3, dim)
        found = diagnose(scale * (rng(seed).standard_normal((n, dim)) + 3))
        if found.verdict != "full-dimensional" or found.rank != min(n - 1, dim):
            alarms.append((seed, n, dim, found.reasons))
    assert alarms == []


@pytest.mark.parametrize("law", ["standard_cauchy", "standard_exponential", "random"])
def test_no_false_alarm_on_other_full_dimensional_laws(law):
    for n, dim in ((300, 1), (1000, 3), (1000, 20)):
        assert diagnose(getattr(rng(), law)((n, dim))).verdict == "full-dimensional"


@pytest.mark.parametrize("dim", [1, 2])
def test_the_interval_of_the_dimension_covers_it(dim):
    """Truth: flat tori, which have no border. 95 % of 100 with 5 s.e.: at least 84."""
    covered = []
    for seed in range(100):
        angle = rng(seed).uniform(0, 2 * np.pi, (600, dim))
        x = np.stack([np.cos(angle), np.sin(angle)], -1).reshape(600, -1)
        low, high = intrinsic_dimension(x, np.ones(2 * dim))[0].interval
        covered.append(low <= dim <= high)
    assert sum(covered) >= 84


@pytest.mark.parametrize("unit", [1e-6, 1e6])
def test_a_suggestion_scales_with_the_units_and_ignores_constant_columns(unit):
    x = two_modes(0, 500, 0.1)
    sigma, scaled = suggest_sigma(x), suggest_sigma(unit * x)
    np.testing.assert_allclose(scaled[:2], np.multiply(unit, sigma[:2]), rtol=1e-6)
    shifted = np.column_stack([x[:, :1], np.full(500, 7.0), np.full(500, -1.0)])
    np.testing.assert_allclose(suggest_sigma(shifted)[:2], sigma[:2], rtol=1e-6)


@pytest.mark.parametrize("num_modes", [1, 2, 5, 10])
@pytest.mark.parametrize("dim", [1, 3])
def test_the_width_of_a_mode_is_found_whatever_the_number_of_modes(num_modes, dim):
    """Truth: balls of std 0.1 apart by 2; the smallest of k stds of n/k points scatters by 0.02."""
    centres = 2.0 * np.arange(num_modes)[rng().integers(0, num_modes, 2000)]
    x = 0.1 * rng().standard_normal((2000, dim))
    x[:, 0] += centres
    sigma = suggest_sigma(x)
    np.testing.assert_allclose([3 * sigma.low, 1.5 * sigma.high], 0.1, rtol=0.15)


def test_the_width_of_a_covariance_weighs_each_direction_by_its_variance():
    """Closed form: √(tr C² / tr C), here of diag(4, 1)."""
    mixture = Mixture(np.ones(1), np.zeros((1, 2)), np.array([[4.0, 1.0]]), np.eye(2)[None])
    np.testing.assert_allclose(mixture.widths, np.sqrt(17 / 5))


def test_data_where_nothing_varies_get_no_suggestion():
    found = diagnose(np.full((50, 3), 2.5))
    assert found.verdict == "degenerate"
    assert found.constant_columns == [0, 1, 2]
    assert found.rank == 0
    assert found.suggested_sigma is None
    with pytest.raises(ValueError, match="must vary"):
        suggest_sigma(np.full((50, 3), 2.5))


def test_standardize_is_safe_on_constant_columns_and_says_so():
    """Truth: scikit-learn's StandardScaler on the columns that vary; 0.1 has no exact mean."""
    from sklearn.preprocessing import StandardScaler

    x = np.column_stack([rng().standard_normal((50, 2)) * [1e-6, 1e6], np.full(50, 0.1)])
    z, scaling = standardize(x)
    np.testing.assert_allclose(z[:, :2], StandardScaler().fit_transform(x[:, :2]), atol=1e-12)
    np.testing.assert_array_equal(z[:, 2], 0)
    assert scaling.constant_columns == [2]
    assert scaling.scale[2] == 1
    np.testing.assert_allclose(scaling.inverse(z), x, rtol=1e-12)
    np.testing.assert_array_equal(scaling.inverse(z)[:, 2], x[:, 2])
    np.testing.assert_array_equal(scaling.apply(x), z)


def test_an_offset_that_leaves_few_digits_is_survived():
    found = diagnose(1e6 + 1e-10 * rng().standard_normal((100, 3)))
    assert found.verdict == "degenerate"
    assert found.discrete_columns == [0, 1, 2]


@pytest.mark.parametrize("unit", [1e-150, 1e-30, 1e30, 1e149])
def test_extreme_units_neither_over_nor_underflow(unit):
    x = two_modes(0, 100, 0.1)
    np.testing.assert_allclose(standardize(unit * x)[0], standardize(x)[0], atol=1e-9)
    assert diagnose(unit * x).verdict == "degenerate"


@pytest.mark.parametrize(
    ("x", "words"),
    [
        ([[1.0, float("nan")], [2.0, 3.0]], "in column 2 row 1 is nan"),
        ([[1.0, 2.0], [float("inf"), 3.0]], "in column 1 row 2 is inf"),
        ([[1.0], [2.0, 3.0]], "ragged"),
        (np.zeros((0, 3)), "empty"),
        (np.zeros((3, 0)), "empty"),
        (np.zeros((1, 3)), "2 rows"),
        (np.array([[1, "a"]] * 2, object), "object"),
        ([["a"], ["b"]], "dtype <U1"),
        (np.zeros((3, 3), complex), "complex"),
        (np.full((3, 1), 1e306), "1e\\+305"),
        (np.array(5.0), "2 rows"),
    ],
)
def test_what_is_no_table_is_refused_by_name(x, words):
    for function in (diagnose, standardize, suggest_sigma):
        with pytest.raises(ValueError, match=words):
            function(x)


@pytest.mark.slow
def test_both_ends_of_the_suggestion_recover_two_modes_from_standardized_data():
    """≥ 95 % at each of 8 corners: data std 1 % and 15 % of the distance, n = 200 and 5,000, units
    1e-6 and 1e6, both ends; 16 seeds each, data of their own, judged in the data's own scale."""
    assert min(recovery_rates(num_seeds=16).values()) >= 0.95


def recovery_rates(num_seeds, data_stds=(0.02, 0.3), sizes=(200, 5000), num_steps=10_000):
    from experiments.two_modes import TwoModeSettings, make_training
    from spread_jax.sweeps import train_runs

    rates = {}
    for n in sizes:
        settings = TwoModeSettings(steps=num_steps, data_size=n)
        training = make_training(settings)

        def init(key, hyper, training=training):
            return training.init(key, hyper)._replace(data=hyper["data"])

        runs, scalings, cells = [], [], []
        for data_std in data_stds:
            for seed in range(num_seeds):
                unit = (1e-6, 1e6)[seed % 2]
                z, scaling = standardize(two_modes(seed, n, data_std, unit))
                sigma = suggest_sigma(z)
                for end in ("low", "high"):
                    runs.append({"data": z, "sigma_fix": getattr(sigma, end), "data_std": data_std})
                    scalings.append((scaling, unit))
                    cells.append((data_std, n, end))
        hyper = jax.tree.map(lambda *leaves: np.stack(leaves).astype(np.float32), *runs)
        hyper["learning_rate"] = np.full(len(runs), 1e-3, np.float32)
        _, history, *_ = train_runs(
            training._replace(init=init), np.arange(len(runs)), hyper, record_every=num_steps
        )
        for i, (cell, (scaling, unit)) in enumerate(zip(cells, scalings, strict=True)):
            mean = scaling.inverse(history["mean"][i, -1]) / unit
            std = scaling.scale * history["std"][i, -1] / unit
            rates.setdefault(cell, []).append(recovered_two_modes(mean, std, cell[0]))
    return {cell: float(np.mean(recovered)) for cell, recovered in rates.items()}


def test_times_in_nanoseconds_are_told_apart():
    """Truth: the same integers from 0, which float64 holds."""
    steps = np.random.default_rng(0).integers(0, 200, (300, 2))
    times = steps + 2**60
    found, truth = diagnose(times), diagnose(steps - steps[:1])
    assert found.constant_columns == []
    assert found.rank == truth.rank == 2
    np.testing.assert_allclose(found.scale, truth.scale)
    np.testing.assert_allclose(suggest_sigma(times)[:2], suggest_sigma(steps)[:2], rtol=1e-6)
