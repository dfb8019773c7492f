"""From data to clean samples: fit, what it returns, and its files."""

import dataclasses
import io
import json
import os
import pathlib
import shutil
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

import spread_jax as sj
from spread_jax.data.latent_dim import suggest_latent_dim
from spread_jax.metrics import energy_distance
from spread_jax.recipe import last_spread, prepare
from spread_jax.spreads import gaussian_spread

KEY = jax.random.key(0)
QUICK = {"num_steps": 20, "num_seeds": 2, "batch_size": 16, "hidden": (8,), "quiet": True}
PLAIN = np.random.default_rng(0).normal(size=(60, 2))


def people(n=300):
    rng = np.random.default_rng(0)
    height, income = np.round(rng.normal(1.7, 0.1, n), 2), np.round(rng.lognormal(3, 1, n), 2)
    return pd.DataFrame(
        {
            "total": height + income,
            "height": height,
            "income": income,
            "country": "Peru",
            "age": rng.integers(18, 90, n),
            "smoker": rng.integers(0, 2, n),
            "city": rng.choice(["Ulm", "Rom", "Bern"], n),
        }
    )


@pytest.fixture(scope="module")
def table():
    return people()


@pytest.fixture(scope="module")
def fitted(table):
    return sj.fit(KEY, table, latent_sizes=(1, 2), latent_dim=2, **QUICK)


def assert_same(one, other):
    """Two models, to the bit."""
    jax.tree.map(np.testing.assert_array_equal, one.params, other.params)
    jax.tree.map(np.testing.assert_array_equal, one.latent, other.latent)
    np.testing.assert_array_equal(one.loss, other.loss)
    assert one.choices == other.choices
    assert (one.architecture, one.sigma) == (other.architecture, other.sigma)


@pytest.mark.slow
def test_a_model_whose_z_says_nothing_is_told_of():
    """Truth: under noise of 10 standard deviations a row of two columns says log(1 + 1/100) nats
    of itself, and one without noise to speak of as much as the model can hold."""
    arguments = {**QUICK, "num_steps": 1_000, "latent_dim": 2, "latent_sizes": ()}
    arguments |= {"learning_rate": 1e-2}
    with pytest.warns(UserWarning, match="z says almost nothing .* smaller sigma_fix than 10"):
        sj.fit(KEY, PLAIN, sigma_fix=10.0, noise_end=1.0, **arguments)
    sj.fit(KEY, PLAIN, sigma_fix=0.5, **arguments)  # warns of nothing: a warning fails a test


@pytest.mark.parametrize(("columns", "hidden"), [(64, [128, 128]), (65, [400])])
def test_a_table_of_many_columns_has_one_wide_hidden_layer(columns, hidden):
    x = np.random.default_rng(0).normal(size=(80, columns))
    arguments = {**QUICK, "num_steps": 1, "hidden": None, "latent_dim": 2, "sigma_fix": 0.5}
    assert sj.fit(KEY, x, latent_sizes=(), **arguments).architecture["hidden"] == hidden


def test_a_report_of_sorted_rows_looks_at_all_of_them_as_if_they_were_shuffled(fitted):
    """Truth: the energy distances of random halves. Halves of sorted rows lie far apart."""
    rows = people(7_000).sort_values("income")
    report = fitted.report(jax.random.key(1), rows)
    assert report.numbers["rows"] == 2_334  # every third
    z = fitted.transform.apply(rows[::3])

    def of_halves(z):
        return energy_distance(z[: len(z) // 2], z[len(z) // 2 :])

    rng = np.random.default_rng(1)
    by_chance = [of_halves(rng.permutation(z)) for _ in range(10)]
    found = report.numbers["energy_distance_of_two_halves"]
    assert found < min(by_chance) + 5 * np.std(by_chance) < of_halves(z) / 2


def test_samples_are_rows_like_those_that_were_fitted(fitted, table):
    """Truth: what people() says of each column."""
    drawn = fitted.sample(jax.random.key(1), 500)
    assert list(drawn.columns) == list(table.columns)
    assert drawn.dtypes.equals(table.dtypes)
    assert len(drawn) == 500
    np.testing.assert_array_equal(drawn["total"], drawn["height"] + drawn["income"])
    assert set(drawn["country"]) == {"Peru"}
    assert set(drawn["smoker"]) <= {0, 1}
    assert set(drawn["city"]) <= {"Ulm", "Rom", "Bern"}
    assert drawn["age"].between(table["age"].min(), table["age"].max()).all()
    np.testing.assert_array_equal(drawn["height"], drawn["height"].round(2))


def test_one_key_gives_the_same_rows(fitted):
    first, second, other = (fitted.sample(jax.random.key(seed), 20) for seed in (1, 1, 2))
    pd.testing.assert_frame_equal(first, second, check_exact=True)
    assert not first.equals(other)


def test_rows_are_those_of_the_vae_and_its_prior(fitted):
    """Truth: the VAE of ``params``, by its own sampling."""
    z = fitted.vae.sample(fitted.params, jax.random.fold_in(jax.random.key(1), 0), 50)
    expected = fitted.transform.inverse(np.asarray(z))
    drawn = fitted.sample(jax.random.key(1), 50)
    numbers = ["height", "income", "total"]
    np.testing.assert_allclose(drawn[numbers], expected[numbers], rtol=1e-2)


@pytest.mark.parametrize("n", [0, -1, 2.5, "3", None])
def test_a_number_of_rows_that_is_none_is_refused(fitted, n, as_users_run_it):
    with pytest.raises(ValueError, match="n must be a whole number >= 1"):
        fitted.sample(KEY, n)


@pytest.mark.slow
def test_bounds_are_those_of_the_vae_one_for_each_row(fitted, table):
    """Truth: the VAE's own bound in the spread space of ``sigma``."""
    bound = fitted.bound(KEY, table)
    assert bound.shape == (300,)
    assert np.isfinite(bound).all()
    z = jnp.float32(fitted.transform.apply(table))
    key, spread = jax.random.fold_in(KEY, 0), gaussian_spread(fitted.sigma)
    expected = fitted.vae.bound(fitted.params, key, z, spread).elbo
    np.testing.assert_allclose(bound, expected, rtol=1e-3, atol=1e-2)
    shuffled = table[table.columns[::-1]]
    np.testing.assert_array_equal(fitted.bound(KEY, shuffled), bound)


def test_rows_are_counted_in_batches(fitted, table, monkeypatch):
    """Truth: as many rows as were asked for, none twice."""
    monkeypatch.setattr("spread_jax.fitted.ROWS_AT_ONCE", 128)
    drawn = fitted.sample(KEY, 300)
    assert len(drawn) == 300
    assert drawn["income"].nunique() > 150
    bound = fitted.bound(KEY, table)
    assert bound.shape == (300,)
    assert np.isfinite(bound).all()


@pytest.mark.slow
def test_denoised_rows_are_posterior_means(fitted, table):
    """Truth: denoise_by_decoder; rows come back in the user's columns."""
    clean = fitted.denoise(KEY, table)
    assert list(clean.columns) == list(table.columns)
    z = jnp.float32(fitted.transform.apply(table))
    parts = {
        "encode": lambda y: fitted.vae.encode(fitted.params, y),
        "decode": lambda z: fitted.vae.decode(fitted.params, z),
    }
    mean = sj.denoise_by_decoder(
        jax.random.fold_in(KEY, 0), z, **parts, latent=fitted.vae.latent, sigma=fitted.sigma
    )
    expected = fitted.transform.inverse(np.asarray(mean))
    np.testing.assert_allclose(clean["income"], expected["income"], rtol=1e-3, atol=0.02)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda x: x.drop(columns="age"), "missing: 'age'"),
        (lambda x: x.assign(more=1.0), "extra: 'more'"),
        (lambda x: x.assign(age=np.nan), "'age' row 1 is missing"),
        (lambda x: x.assign(city="Oslo"), "'city' row 1 is 'Oslo'"),
        (lambda x: x.to_numpy(), "a DataFrame"),
        (lambda x: None, "array"),
    ],
)
def test_rows_unlike_those_that_were_fitted_are_refused(fitted, table, change, said):
    for method in (fitted.bound, fitted.denoise):
        with pytest.raises(ValueError, match=said):
            method(KEY, change(table))


def test_no_rows_are_refused(fitted, table):
    for method in (fitted.bound, fitted.denoise):
        with pytest.raises(ValueError, match="one row or more"):
            method(KEY, table.iloc[:0])


def test_what_was_chosen_is_told(fitted):
    """Truth: the arguments, and a tenth of the rows for validation."""
    chosen = fitted.choices
    assert chosen["rows"] == {"train": 270, "validation": 30}
    assert (chosen["num_steps"], chosen["num_seeds"], chosen["batch_size"]) == (20, 2, 16)
    bounds = chosen["validation_bounds"]
    assert len(bounds) == 2
    first_seed = chosen["seed"] - int(np.argmax(bounds))
    assert first_seed == int(jax.random.randint(jax.random.split(KEY)[0], (), 0, 2**31 - 1))
    assert chosen["latent_components"] == len(fitted.latent.weights)
    assert fitted.sigma == pytest.approx(chosen["sigma_fix"] * chosen["noise_end"])
    assert fitted.loss.shape == (20,)
    assert np.isfinite(fitted.loss).all()
    json.dumps(chosen, allow_nan=False)


def test_the_last_noise_is_the_share_of_the_first():
    spread = last_spread({"sigma_fix": jnp.float32(0.5), "noise_end": jnp.float32(0.1)})
    noise = np.asarray(spread.sample(KEY, jnp.zeros((20_000, 1))))
    assert noise.std() == pytest.approx(0.05, rel=0.03)


@pytest.fixture(scope="module")
def saved(fitted, tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved") / "deep" / "model"
    fitted.save(folder)
    return folder


def test_a_saved_model_is_the_same_to_the_bit(fitted, saved, table):
    loaded = sj.load(saved)
    assert sorted(path.name for path in saved.iterdir()) == ["arrays.npz", "model.json"]
    assert_same(loaded, fitted)
    drawn = (one.sample(jax.random.key(1), 500) for one in (loaded, fitted))
    pd.testing.assert_frame_equal(*drawn, check_exact=True)
    np.testing.assert_array_equal(loaded.bound(KEY, table), fitted.bound(KEY, table))


@pytest.mark.slow
def test_another_process_draws_the_same_rows(fitted, saved, tmp_path):
    """Truth: 500 rows of this process, to the bit."""
    program = (
        "import sys, jax, spread_jax as sj\n"
        "jax.config.update('jax_num_cpu_devices', 2)\n"
        "sj.load(sys.argv[1]).sample(jax.random.key(1), 500).to_pickle(sys.argv[2])\n"
    )
    there = tmp_path / "rows"
    subprocess.run([sys.executable, "-c", program, str(saved), str(there)], check=True)
    drawn = fitted.sample(jax.random.key(1), 500)
    pd.testing.assert_frame_equal(pd.read_pickle(there), drawn, check_exact=True)


@pytest.mark.parametrize("first", ["bound", "denoise"])
def test_the_methods_of_a_loaded_model_work_in_any_order(fitted, saved, table, first):
    loaded = sj.load(saved)
    getattr(loaded, first)(KEY, table[:5])
    pd.testing.assert_frame_equal(loaded.sample(KEY, 5), fitted.sample(KEY, 5))


def test_saving_again_replaces_the_model(fitted, saved, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(saved, folder)
    (folder / "model.json").write_text("{}")
    fitted.save(str(folder))
    assert_same(sj.load(folder), fitted)


@pytest.mark.parametrize("end", [0, 1])
def test_a_save_that_is_cut_off_never_mixes_two_models(fitted, saved, tmp_path, monkeypatch, end):
    """It ends before the first or the second file is in its place: the model is the old one, or
    it is refused."""
    folder, replace = tmp_path / "model", os.replace
    shutil.copytree(saved, folder)
    other = dataclasses.replace(fitted, params=jax.tree.map(lambda leaf: leaf + 1, fitted.params))
    left = iter(range(end))

    def cut_off(part, whole):
        if next(left, None) is None:
            raise InterruptedError
        replace(part, whole)

    monkeypatch.setattr(os, "replace", cut_off)
    with pytest.raises(InterruptedError):
        other.save(folder)
    if end == 0:
        assert_same(sj.load(folder), fitted)
    else:
        with pytest.raises(ValueError, match=r"arrays\.npz is not the file that model\.json desc"):
            sj.load(folder)
    monkeypatch.undo()
    other.save(folder)
    assert_same(sj.load(folder), other)


class Trap:
    """Its unpickling leaves a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return pathlib.Path.touch, (self.path,)


@pytest.fixture
def damaged(saved, tmp_path):
    """A copy of the saved model: ``(change of the description, change of the arrays)``."""

    def make(describe=None, change=None):
        folder = tmp_path / "damaged"
        shutil.copytree(saved, folder)
        if describe:
            described = json.loads((folder / "model.json").read_text())
            (folder / "model.json").write_text(json.dumps(describe(described)))
        if change:
            with np.load(folder / "arrays.npz") as file:
                arrays = change(dict(file))
            np.savez(folder / "arrays.npz", **arrays)
            described = json.loads((folder / "model.json").read_text())
            del described["arrays_sha256"]  # who makes such arrays can make their digest too
            (folder / "model.json").write_text(json.dumps(described))
        return folder

    return make


def test_nothing_in_a_file_is_unpickled(damaged, tmp_path):
    trap = tmp_path / "sprung"
    objects = np.array([Trap(trap)], object)
    folder = damaged(change=lambda arrays: {**arrays, "loss": objects})
    with pytest.raises(ValueError, match="damaged"):
        sj.load(folder)
    assert not trap.exists()
    with np.load(folder / "arrays.npz", allow_pickle=True) as file:
        file["loss"]
    assert trap.exists()  # it would have


def test_a_missing_folder_or_file_is_named(saved, tmp_path):
    with pytest.raises(ValueError, match=r"nowhere: must be a folder .* model\.json is missing"):
        sj.load(tmp_path / "nowhere")
    shutil.copy(saved / "model.json", tmp_path)
    with pytest.raises(ValueError, match=r"arrays\.npz is missing"):
        sj.load(tmp_path)
    with pytest.raises(ValueError, match="must be a folder that Fitted"):
        sj.load(saved / "model.json")


def flipped(content):
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 255]) + content[middle + 1 :]


def a_single_array(content):
    file = io.BytesIO()
    np.save(file, np.ones(3))
    return file.getvalue()


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[:-200],
        flipped,
        lambda content: b"",
        lambda content: b"no",
        a_single_array,
    ],
)
def test_damaged_arrays_are_refused(damaged, damage):
    folder = damaged()
    path = folder / "arrays.npz"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match="damaged"):
        sj.load(folder)


@pytest.mark.parametrize("content", [b"{", b"\xff\xfe", b"", b"[" * 100_000])
def test_a_damaged_description_is_refused(damaged, content):
    folder = damaged()
    (folder / "model.json").write_bytes(content)
    with pytest.raises(ValueError, match="damaged"):
        sj.load(folder)


def with_architecture(**changes):
    return lambda saved: {**saved, "architecture": {**saved["architecture"], **changes}}


def without(name):
    return lambda saved: {key: value for key, value in saved.items() if key != name}


@pytest.mark.parametrize(
    ("describe", "said"),
    [
        (lambda saved: [1], "something else"),
        (lambda saved: {"a": 1}, "something else"),
        (lambda saved: {**saved, "format": "other"}, "something else"),
        (lambda saved: {**saved, "version": 3}, "version 3 of the format"),
        (lambda saved: {**saved, "version": "1"}, "version"),
        *(
            (without(name), "")
            for name in ("version", "architecture", "sigma", "transform", "choices")
        ),
        (with_architecture(dim="3"), ""),
        (with_architecture(dim=-3), ""),
        (with_architecture(dim=10**12), "another model"),
        (with_architecture(hidden=[9]), "another model"),
        (with_architecture(hidden=[0]), ""),
        (with_architecture(hidden="abc"), ""),
        (with_architecture(latent_dim=9), ""),
        (with_architecture(variance="each"), "another model"),
        (with_architecture(network="other"), ""),
        (with_architecture(shape=5), ""),
        (with_architecture(more=1), ""),
        (lambda saved: {**saved, "sigma": "a"}, ""),
        (lambda saved: {**saved, "sigma": None}, ""),
        (lambda saved: {**saved, "sigma": -1.0}, ""),
        (lambda saved: {**saved, "sigma": float("nan")}, ""),
        (lambda saved: {**saved, "choices": 5}, ""),
        (lambda saved: {**saved, "transform": []}, ""),
        (lambda saved: {**saved, "transform": {"other": {}}}, ""),
        (lambda saved: {**saved, "transform": {"table": {}}}, ""),
        (lambda saved: {**saved, "transform": {"images": {"height": 3, "width": 3}}}, ""),
        (
            lambda saved: {
                **saved,
                "transform": {"images": {"height": 3, "width": 3, "white": 255}},
            },
            "shape",
        ),
        (
            lambda saved: {
                **saved,
                "transform": {"table": {**saved["transform"]["table"], "mean": [1.0]}},
            },
            "shape",
        ),
    ],
)
def test_a_description_of_something_else_is_refused(damaged, describe, said):
    with pytest.raises(ValueError, match=f"damaged: .*{said}"):
        sj.load(damaged(describe))


def replaced(name, value):
    return lambda arrays: {**arrays, name: value(arrays[name])}


KERNEL = "params/decoder/params/Dense_0/kernel"


@pytest.mark.parametrize(
    "change",
    [
        replaced(KERNEL, lambda x: x.T),
        replaced(KERNEL, lambda x: x.astype(np.float64)),
        replaced(KERNEL, lambda x: x.astype(str)),
        replaced(KERNEL, lambda x: x * np.nan),
        without(KERNEL),
        without("loss"),
        without("latent/means"),
        replaced("latent/means", lambda x: np.zeros((len(x), 9), np.float32)),
        replaced("latent/means", lambda x: x.astype(str)),
        replaced("latent/means", lambda x: x * np.nan),
        replaced("latent/covariances", lambda x: -x),
        lambda arrays: {**arrays, "params/more": np.ones(3, np.float32)},
        lambda arrays: {**arrays, f"{KERNEL}/x": np.ones(3, np.float32)},
    ],
)
def test_arrays_of_another_model_are_refused(damaged, change):
    with pytest.raises(ValueError, match=r"damaged: must be a folder that Fitted\.save wrote"):
        sj.load(damaged(change=change))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"num_steps": 0}, "num_steps"),
        ({"num_steps": 2.5}, "num_steps"),
        ({"num_steps": True}, "num_steps"),
        ({"batch_size": 0}, "batch_size"),
        ({"num_seeds": 0}, "num_seeds"),
        ({"latent_dim": 0}, "latent_dim"),
        ({"noise_end": 2}, "noise_end must be at most 1"),
        ({"noise_end": 0}, "noise_end"),
        ({"sigma_fix": -1}, "sigma_fix"),
        ({"sigma_fix": np.nan}, "sigma_fix"),
        ({"sigma_fix": 11}, r"sigma_fix must be at most 10 \(standard deviations of a column\)"),
        ({"learning_rate": 0}, "learning_rate"),
        ({"hidden": (0,)}, "hidden must be a sequence of whole numbers"),
        ({"hidden": 4}, "hidden"),
        ({"hidden": "ab"}, "hidden"),
        ({"hidden": (2.5,)}, "hidden"),
        ({"latent_sizes": (0,)}, "latent_sizes must be a sequence of whole numbers"),
        ({"latent_sizes": 5}, "latent_sizes"),
        ({"latent_sizes": "a"}, "latent_sizes"),
        ({"variance": "other"}, "variance must be one of"),
        ({"network": "other"}, "network must be one of"),
        ({"network": "conv"}, "a convolution needs images"),
    ],
)
def test_arguments_outside_their_range_are_refused(arguments, said, as_users_run_it):
    with pytest.raises(ValueError, match=said) as caught:
        sj.fit(KEY, PLAIN, **{**QUICK, **arguments})
    assert "\n" not in str(caught.value)


def dataset(train, validation, **more):
    train, validation = np.float32(train), np.float32(validation)
    return sj.Dataset("mine", train, validation, validation[:0], **more)


@pytest.mark.parametrize(
    ("x", "said"),
    [
        (people().assign(age=np.where(np.arange(300) == 6, np.nan, 30)), "column 'age' row 7"),
        (np.where(np.arange(120).reshape(60, 2) == 7, np.nan, PLAIN), "column 2 row 4 is nan"),
        (np.zeros((0, 3)), "2 rows or more"),
        (np.zeros((5, 0)), "one column or more"),
        (pd.DataFrame(), "one column or more"),
        (PLAIN[:1], "2 rows or more"),
        (PLAIN[:2], "3 rows or more"),
        (np.ones((50, 2)), "every column of this one is constant"),
        (PLAIN[:, 0], "rows, columns"),
        (np.zeros((3, 4, 4, 4)), r"\[n, height, width, 3\]"),
        (None, "not a NoneType"),
        ({"a": [1, 2]}, "not a dict"),
        ("nowhere.csv", "file or folder that exists"),
        (np.ones((9, 4, 4), np.int16), "white is not known"),
        (np.zeros((9, 4, 4), np.uint8), "x must vary"),
        (np.full((9, 4, 4), 7, np.uint8), "must vary"),
        (np.zeros((0, 4, 4), np.uint8), "empty"),
        (np.full((1, 4, 4), 200, np.uint8), "2 rows or more"),
        (np.full((2, 4, 4), 200, np.uint8), "3 rows or more"),
        (np.full((9, 4, 4), np.nan), "finite"),
        (np.full((9, 4, 4), 2.0), r"pixels in \[0, 1\]"),
        (dataset(PLAIN, PLAIN[:0]), "validation rows"),
        (dataset(PLAIN, PLAIN[:5, :1]), "missing: 2"),
        (dataset(np.ones((9, 16)), np.ones((2, 16)), shape=(5, 4)), "20 pixels"),
        (dataset(np.full((9, 4), np.nan), np.ones((2, 4)), shape=(2, 2)), "4 pixels"),
        (dataset(np.full((9, 4), 9), np.ones((2, 4)), shape=(2, 2)), "4 pixels"),
    ],
)
def test_data_that_cannot_be_used_are_refused(x, said, as_users_run_it):
    with pytest.raises(ValueError, match=said) as caught:
        sj.fit(KEY, x, **QUICK)
    assert "\n" not in str(caught.value)


def test_jax_arrays_and_lists_are_tables_too():
    """Truth: the same table in NumPy."""
    x = np.float32(PLAIN)
    expected = prepare(x)[0].train
    np.testing.assert_array_equal(prepare(jnp.asarray(x))[0].train, expected)
    np.testing.assert_allclose(prepare(PLAIN.tolist())[0].train, expected, atol=1e-6)


def test_no_row_is_lost_or_in_both_parts():
    """Truth: the rows themselves, by a column that numbers them."""
    x = np.column_stack([np.arange(57.0), np.random.default_rng(0).normal(size=57)])
    data, transform = prepare(x)
    parts = (transform.inverse(part)[:, 0] for part in (data.train, data.validation))
    train, validation = (set(np.round(part)) for part in parts)
    assert (len(train), len(validation)) == (51, 6)
    assert train | validation == set(range(57))


def test_a_dataset_keeps_its_own_validation_rows():
    data, transform = prepare(dataset(PLAIN[:40], PLAIN[40:50]))
    back = transform.inverse(data.validation)
    np.testing.assert_allclose(back, np.float32(PLAIN[40:50]), rtol=1e-4, atol=1e-5)
    assert len(data.train) == 40


@pytest.fixture(scope="module")
def digits():
    """200 images of 6 x 5, bright on the left, uint8."""
    rng = np.random.default_rng(0)
    ramp = np.linspace(200, 40, 5)[None, None] * rng.uniform(0.5, 1, (200, 1, 1))
    return np.broadcast_to(ramp, (200, 6, 5)).round().astype(np.uint8)


@pytest.mark.slow
def test_uint8_images_come_back_as_uint8_images(digits):
    arguments = {**QUICK, "num_steps": 400}
    fitted = sj.fit(KEY, digits, latent_dim=1, sigma_fix=0.2, latent_sizes=(), **arguments)
    drawn = fitted.sample(jax.random.key(1), 7)
    assert (drawn.shape, drawn.dtype) == ((7, 6, 5), np.uint8)
    assert fitted.bound(KEY, digits).shape == (200,)
    clean = fitted.denoise(KEY, digits[:3])
    assert (clean.shape, clean.dtype) == ((3, 6, 5), np.uint8)
    assert fitted.choices["latent_components"] == 1
    np.testing.assert_array_equal(fitted.latent.covariances, np.eye(1)[None])
    with pytest.raises(ValueError, match="shape"):
        fitted.bound(KEY, digits[:, :5])


@pytest.mark.slow
@pytest.mark.parametrize("network", ["mlp", "conv"])
def test_colours_are_learned_and_come_back(network, tmp_path):
    """Truth: every image is of one colour, red or blue, without green; loaded, the same bits."""
    is_red = np.random.default_rng(0).random(200) < 0.5
    x = np.zeros((200, 4, 5, 3), np.uint8)
    x[is_red, ..., 0], x[~is_red, ..., 2] = 200, 200
    arguments = {**QUICK, "num_steps": 600, "network": network}
    fitted = sj.fit(KEY, x, latent_dim=1, sigma_fix=0.2, latent_sizes=(2,), **arguments)
    drawn = fitted.sample(jax.random.key(1), 40)
    assert (drawn.shape, drawn.dtype) == ((40, 4, 5, 3), np.uint8)
    red, green, blue = np.moveaxis(drawn.mean(axis=(1, 2)), 1, 0)
    assert green.max() < 30
    np.testing.assert_allclose(red + blue, 200, atol=40)
    assert (np.maximum(red, blue) > 150).mean() > 0.8
    assert {*(red > blue)} == {True, False}
    fitted.save(tmp_path)
    np.testing.assert_array_equal(sj.load(tmp_path).sample(jax.random.key(1), 40), drawn)


@pytest.mark.parametrize("shape", [(60,), (5, 3, 4), (3, 4, 5), (4, 5, 3, 1)])
def test_a_dataset_of_no_image_shape_is_refused_before_it_is_trained(shape):
    x = np.random.default_rng(0).random((20, 60))
    with pytest.raises(ValueError, match=r"x: must have (a shape \(height, width\)|rows of 60)"):
        prepare(sj.Dataset("x", x, x[:5], x[:0], shape=shape))


def test_a_dataset_may_have_its_shape_as_a_list():
    x = np.random.default_rng(0).random((20, 60))
    assert prepare(sj.Dataset("x", x, x[:5], x[:0], shape=[4, 5, 3]))[1].shape == (4, 5, 3)


@pytest.mark.slow
def test_a_call_that_was_stopped_goes_on_and_loses_nothing(tmp_path, monkeypatch):
    """Truth: the same call, uninterrupted, to the bit."""
    arguments = {**QUICK, "num_steps": 400, "latent_dim": 1, "sigma_fix": 0.3, "latent_sizes": ()}
    whole = sj.fit(KEY, PLAIN, **arguments)
    saves = []
    save = sj.sweeps.Checkpoints.save

    def save_twice(self, identity, names, records, tree):
        save(self, identity, names, records, tree)
        saves.append(records)
        if len(saves) == 2:
            self.wait()
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(sj.sweeps.Checkpoints, "save", save_twice)
        with pytest.raises(KeyboardInterrupt):
            sj.fit(KEY, PLAIN, checkpoints=tmp_path / "c", **arguments)
    restored = []
    load = sj.sweeps.Checkpoints.load
    monkeypatch.setattr(
        sj.sweeps.Checkpoints,
        "load",
        lambda self, stored, *others: (
            restored.extend(stored.records.tolist()),
            load(self, stored, *others),
        )[1],
    )
    again = sj.fit(KEY, PLAIN, checkpoints=tmp_path / "c", **arguments)
    assert set(restored) == {saves[-1]}
    assert_same(again, whole)


@pytest.mark.slow
def test_checkpoints_of_other_data_are_named_and_kept(tmp_path):
    """Truth: the call without checkpoints."""
    arguments = {**QUICK, "sigma_fix": 0.3, "latent_dim": 1, "latent_sizes": ()}
    sj.fit(KEY, PLAIN**3, checkpoints=tmp_path / "c", **arguments)
    (before,) = (tmp_path / "c").iterdir()
    kept = before.read_bytes()
    with pytest.warns(UserWarning, match="they stay there.* data was float32"):
        fitted = sj.fit(KEY, PLAIN, checkpoints=tmp_path / "c", **arguments)
    assert_same(fitted, sj.fit(KEY, PLAIN, **arguments))
    assert before.read_bytes() == kept


@pytest.mark.slow
def test_progress_is_told_on_stderr_only_and_not_at_all_when_quiet(capsys):
    arguments = {**QUICK, "latent_dim": 1, "sigma_fix": 0.3, "latent_sizes": ()}
    sj.fit(KEY, PLAIN, **arguments)
    assert capsys.readouterr() == ("", "")
    sj.fit(KEY, PLAIN, **{**arguments, "quiet": False})
    told = capsys.readouterr()
    assert told.out == ""
    for stage in ("looking at the data", "training", "fitting the prior"):
        assert stage in told.err


def test_the_latent_dim_of_a_ring_and_of_a_plane_is_their_rank():
    """Truth: 2 m + 1 is 3 for a ring, which has rank 2; 7 for a plane of 3, which has rank 3."""
    rng = np.random.default_rng(0)
    t = rng.uniform(0, 2 * np.pi, 1000)
    assert suggest_latent_dim(np.stack([np.cos(t), np.sin(t)], axis=1)) == 2
    plane = rng.normal(size=(1000, 3)) @ rng.normal(size=(3, 10))
    assert suggest_latent_dim((plane - plane.mean(axis=0)) / plane.std(axis=0)) == 3


@pytest.mark.parametrize("rows", [20, 300, 3_000])
@pytest.mark.parametrize("rank", [2, 11, 30])
def test_the_latent_dim_agrees_with_the_diagnosis(rank, rows):
    """Truth: 2 m + 1 of diagnose's estimate, or 20 where it has none, at most its rank; some
    columns vary only in the last rows, and some rows are twice there."""
    rng = np.random.default_rng(rank)
    x = rng.normal(size=(rows, rank)) @ rng.normal(size=(rank, 40))
    x[:-5, 35:] = 1.0
    x[3] = x[7]
    x = sj.standardize(x)[0].astype(np.float32)
    x[:, 0] = np.sin(x[:, 1])  # a set that is curved, of a rank above its dimension
    found = sj.diagnose(x)
    m = found.intrinsic_dimension
    wanted = 2 * int(np.ceil(m.estimate)) + 1 if m else 20
    assert suggest_latent_dim(x) == min(found.rank, wanted)


def test_the_latent_dim_of_a_curve_in_space_is_three():
    """Truth: Whitney's 2 m + 1, of m = 1."""
    t = np.random.default_rng(0).uniform(0, 2 * np.pi, 1000)
    curve = np.stack([np.cos(k * t + k) for k in range(1, 7)], axis=1)
    assert suggest_latent_dim(curve) == 3


@pytest.mark.slow
def test_samples_of_a_ring_lie_on_the_ring():
    """Truth: the radius 1, and all angles alike."""
    t = np.random.default_rng(0).uniform(0, 2 * np.pi, 2000)
    ring = np.stack([np.cos(t), np.sin(t)], axis=1)
    fitted = sj.fit(KEY, ring, num_steps=4000, num_seeds=1, quiet=True)
    drawn = fitted.sample(jax.random.key(1), 2000)
    radius = np.hypot(*drawn.T)
    assert np.abs(radius - 1).mean() < 0.05
    assert np.hypot(*drawn.mean(axis=0)) < 0.15
