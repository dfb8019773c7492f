"""Arms on data: how they are built, judged with both latents, chosen and pictured."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr

from spread_jax import ARMS, comparison, data_comparison, judge, metrics, suggest_sigma, sweep
from spread_jax.data import Dataset
from spread_jax.entropy import spread_entropy_of_points
from spread_jax.fitted_latents import with_fitted_latents
from spread_jax.judgement import each_run
from spread_jax.sample_quality import frechet_distance, train_classifier
from spread_jax.spreads import gaussian_spread

pytestmark = pytest.mark.slow  # each setting is a program of its own, and compiling takes seconds

RNG = np.random.default_rng(0)
DATA = Dataset("by hand", *(RNG.normal(size=(n, 3)).astype(np.float32) for n in (60, 8, 12)))
FITTED = "_fitted_latent"


def programs_of(*names, **options):
    arms = {name: ARMS[name] for name in names}
    options = {"latent_dim": 2, "hidden": (4,), "num_steps": 4, "batch_size": 8, **options}
    return data_comparison.programs_on_data(DATA, arms, **options)


def trained_of(program, num_seeds=2, sizes=(1,), data=DATA):
    runs = sweep(program.training, program.cells, num_seeds=num_seeds, data=data.train)
    fitted = with_fitted_latents(program.model, runs, data, spread=program.spread, sizes=sizes)
    return data_comparison.TrainedArms(program, runs, *fitted)


@pytest.fixture(scope="module")
def trained():
    """Two arms of one program, the second at a σ_fix of 0.3."""
    (program,) = programs_of("vae", "spread_vae", sigma_fix=(0.3,))
    return trained_of(program)


@pytest.fixture(scope="module")
def judged(trained):
    return data_comparison.judge_on_data(trained, DATA, iw_samples=4, common_sigma=0.2)


def test_each_arm_on_data_begins_at_the_noise_it_is_told():
    """By hand; where nothing is said the annealed ones begin at the largest σ suggested."""
    first, recipe = programs_of("vae", "spread_vae", "recipe", sigma_fix=(0.1, 0.3))
    assert [(c["arm"], c["sigma_fix"]) for c in first.cells] == [
        ("vae", 0.0), ("spread_vae", 0.1), ("spread_vae", 0.3),
    ]  # fmt: skip
    (cell,) = recipe.cells
    assert cell["sigma_fix"] == suggest_sigma(DATA.train).high
    assert cell["learning_rate"] == first.cells[0]["learning_rate"] == 1e-3
    (recipe,) = programs_of("recipe", anneal_from=0.7)
    assert [c["sigma_fix"] for c in recipe.cells] == [0.7]
    params = recipe.model.init(jax.random.key(0))
    mean, var = recipe.model.decode(params, jnp.zeros((5, 2)))
    assert mean.shape == (5, 3)
    assert var is None  # of the recipe's structure


def test_runs_on_data_are_judged_and_chosen_on_different_parts(trained, judged):
    """Truths: the energy distance of the same samples to each part; the recorded σ."""
    program, runs, *fitted = trained
    names = {"nonfinite", "train_bound", "test_bound", "worst_test_bound", "bits_per_dim", "kl"}
    names |= {"active_dims", "test_iw_bound", "alarm_step", "alarm"}
    names |= {"last_min_sigma", "last_median_sigma"}
    both = {"energy_distance", "nearest_train", "common_iw_bound", "validation_energy_distance"}
    names |= both | {f"{name}{FITTED}" for name in both}
    assert set(judged.data_vars) - set(runs.dataset.data_vars) == names
    assert all(judged[name].dims == ("cell", "seed") for name in names)
    np.testing.assert_array_equal(
        judged["last_min_sigma"], runs.dataset["min_sigma"].isel(step=-1).values
    )
    for suffix, (model, its) in {"": (program.model, runs), FITTED: fitted}.items():
        for name, part in (
            ("energy_distance", "test"),
            ("validation_energy_distance", "validation"),
        ):
            of_part = judge(
                model, its, DATA, [metrics.ENERGY_DISTANCE],
                spread=program.spread, part=part, num_samples=3000,
            )  # fmt: skip
            found = judged[name + suffix]
            np.testing.assert_allclose(found, of_part["energy_distance"], rtol=1e-5)
    # more draws of z can only tighten the bound, on average
    assert (judged["test_iw_bound"] > judged["test_bound"] - 0.5).all()


def test_bounds_in_common_are_those_under_one_noise(trained, judged):
    """Truth: the metric of the library, every run judged under the noise 0.2; an arm's own noise
    does not count."""
    program, runs, fitted_model, fitted_runs = trained
    for suffix, model, its in (("", program.model, runs), (FITTED, fitted_model, fitted_runs)):
        of_one_noise = judge(
            model, its, DATA, [metrics.importance_weighted(4)],
            spread=lambda hyper: gaussian_spread(0.2),
        )  # fmt: skip
        found = judged[f"common_iw_bound{suffix}"]
        np.testing.assert_allclose(found, of_one_noise["test_iw_bound"], rtol=1e-6)
    assert (judged["common_iw_bound"] != judged["test_iw_bound"]).all()
    assert "noise 0.2 for all" in judged["common_iw_bound"].attrs["long_name"]


def test_images_are_chosen_by_their_distance_to_validation_rows_alone(trained, monkeypatch):
    """Truth: the Fréchet distance to those rows, computed here; other validation rows move the
    chooser and nothing else, other test or training rows do not move it."""
    monkeypatch.setattr(data_comparison, "MAX_SAMPLES", 50)
    program, runs, *_ = trained
    labels = np.arange(len(DATA.train)) % 2
    classifier = train_classifier(jax.random.key(0), DATA.train, labels, num_steps=20)

    def judged(data):
        options = {"classifier": classifier, "iw_samples": 2}
        return data_comparison.judge_on_data(trained, data, **options)

    found = judged(DATA)
    options = {"spread": program.spread, "part": "validation", "num_samples": 50}
    run = next(each_run(program.model, runs, DATA, **options))
    features = classifier.features(run.samples.clip(0, 1))
    truth = frechet_distance(classifier.features(DATA.validation), features)
    assert found["validation_frechet"].values[0, 0] == pytest.approx(truth)
    choosers = [f"validation_frechet{suffix}" for suffix in ("", FITTED)]
    other = judged(DATA._replace(validation=DATA.validation + 1))
    assert all((other[name] != found[name]).all() for name in choosers)
    xr.testing.assert_identical(other.drop_vars(choosers), found.drop_vars(choosers))
    other = judged(DATA._replace(test=DATA.test + 1, train=DATA.train + 1))
    for name in choosers:
        np.testing.assert_array_equal(other[name], found[name])


def test_an_arm_with_a_fitted_latent_is_known_by_its_numbers():
    """By hand: the second of two cells has one; what has no such number stays."""
    values = {"m": [[1.0], [2.0]], f"m{FITTED}": [[3.0], [4.0]], "kl": [[5.0], [6.0]]}
    cells = xr.Dataset(
        {name: (("cell", "seed"), value) for name, value in values.items()},
        {"fitted_latent": ("cell", [False, True])},
    )
    found = data_comparison.with_own_latents(cells)
    np.testing.assert_array_equal(found["m"], [[1], [4]])
    np.testing.assert_array_equal(found[f"m{FITTED}"], [[3], [4]])
    np.testing.assert_array_equal(found["kl"], [[5], [6]])


def test_floors_are_entropies_at_the_last_noise():
    """Truth: the entropy of the spread rows, at σ_fix, and at a twentieth of it if annealed."""
    arms = [ARMS[name] for name in ("vae", "spread_vae", "annealed_spread")]
    cells = xr.Dataset(
        coords={"sigma_fix": ("cell", [0.0, 0.3, 0.5]), "noise_end": ("cell", [1.0, 1.0, 0.05])}
    )
    found = data_comparison.with_floors(comparison.describe(cells, arms), DATA.train)["floor"]
    truths = [
        spread_entropy_of_points(jax.random.key(0), jnp.asarray(DATA.train), sigma)
        for sigma in (0.3, 0.025)
    ]
    np.testing.assert_allclose(found, [np.nan, *truths], rtol=1e-6)


def test_pictures_are_of_the_cell_that_is_shown():
    """Truth: the runs of that cell, where others differ from it by σ_fix only."""
    (program,) = programs_of("spread_vae", sigma_fix=(0.1, 0.5))
    trained = trained_of(program, num_seeds=1)
    judged = data_comparison.judge_on_data(trained, DATA, iw_samples=2)
    shown = comparison.together([judged], ARMS).isel(cell=[1])
    drawn = data_comparison.pictures_of_arms([trained], shown, DATA, count=5)
    _, run = each_run(program.model, trained.runs, DATA, spread=program.spread)
    np.testing.assert_array_equal(drawn["samples"].values[0], run.samples[:5])


def test_pictures_are_those_of_the_arms_first_runs(trained, judged):
    """Truths: samples of these runs, with both latents; indices of the worst bounds of the first
    arm, under one noise."""
    program, runs, fitted_model, fitted_runs = trained
    shown = comparison.together([judged], ARMS)
    assert shown["arm"].values.tolist() == ["vae", "spread_vae"]
    drawn = data_comparison.pictures_of_arms(
        [trained], shown, DATA, count=5, num_worst=3, common_sigma=0.2
    )
    assert dict(drawn["samples"].sizes) == {"cell": 2, "picture": 5, "pixel": 3}
    np.testing.assert_array_equal(drawn["held_out"], DATA.test[:5])
    assert dict(drawn["samples_projected"].sizes) == {"cell": 2, "picture": 5, "direction": 2}
    ways = {
        "normal_samples": (program.model, runs),
        "fitted_samples": (fitted_model, fitted_runs),
        "fitted_means": (fitted_model.without_variance(), fitted_runs),
    }
    for name, (model, its) in ways.items():
        (run, *_) = each_run(model, its, DATA, spread=program.spread)
        np.testing.assert_array_equal(drawn[name].values[0], run.samples[:5])
    np.testing.assert_array_equal(drawn["samples"], drawn["normal_samples"])
    (run, *_) = each_run(program.model, runs, DATA, spread=lambda hyper: gaussian_spread(0.2))
    bound = np.asarray(run.bound(DATA.test).elbo)
    worst = np.argsort(bound)[:3]
    np.testing.assert_array_equal(drawn["worst"], DATA.test[worst])
    np.testing.assert_allclose(drawn["worst_bound"][0], bound[worst], rtol=1e-6)
    assert drawn["worst_bound"].shape == (2, 3)


def test_the_recipe_is_shown_with_its_fitted_latent():
    """Truth: its own numbers and samples are those with the suffix, and the plain arm's are not."""
    programs = programs_of("vae", "recipe", anneal_from=0.5, num_steps=20)
    trained = [
        (program, sweep(program.training, program.cells, num_seeds=1, data=DATA.train))
        for program in programs
    ]
    arms = {name: ARMS[name] for name in ("vae", "recipe")}
    found = data_comparison.compare_on_data(
        trained, arms, DATA, iw_samples=2, latent_sizes=(1,), count=4
    )
    plain, recipe = (found.cells.isel(cell=i) for i in range(2))
    assert recipe["arm"] == "recipe"
    for name in ("energy_distance", "validation_energy_distance", "common_iw_bound"):
        assert recipe[name] == recipe[f"{name}{FITTED}"]
        assert plain[name] != plain[f"{name}{FITTED}"]
    for i, name in enumerate(("normal_samples", "fitted_samples")):
        drawn = found.shown.isel(cell=i)
        np.testing.assert_array_equal(drawn["samples"], drawn[name])
        assert (drawn["normal_samples"] != drawn["fitted_samples"]).any()
    assert found.accuracy is None  # there are no labels
    assert set(found.reference) == {"nearest_train", "energy_distance"}
    nearest = np.sqrt(((DATA.test[:, None] - DATA.train) ** 2).sum(-1)).min(1)
    assert found.reference["nearest_train"] == pytest.approx(np.median(nearest))
    assert found.dataset["shown"].all()


def test_pixels_are_dequantised_by_their_own_grey_levels():
    """By hand: sixteenths. A table has no grey levels."""
    x = RNG.integers(0, 17, (40, 9)).astype(np.float32) / 16
    images = Dataset("images", x[:30], x[30:35], x[35:], shape=(3, 3))
    arms = {"dequantized": ARMS["dequantized"]}
    options = {"latent_dim": 2, "hidden": (4,), "num_steps": 4, "batch_size": 8}
    (program,) = data_comparison.programs_on_data(images, arms, **options)
    assert program.cells[0]["sigma_fix"] == pytest.approx(1 / 16 / np.sqrt(12))
    judged = data_comparison.judge_on_data(trained_of(program, data=images), images, iw_samples=2)
    bits = judged["bits_per_dim"] - np.log2(1 / 16)
    np.testing.assert_allclose(judged["discrete_bits_per_dim"], bits)
    with pytest.raises(ValueError, match="must be an arm of images"):
        data_comparison.programs_on_data(DATA, arms, **options)
