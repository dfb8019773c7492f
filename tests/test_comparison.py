import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr

from spread_jax import ARMS, Arm, comparison, judge, make_vae, metrics, rows, sweep
from spread_jax.data import Dataset
from spread_jax.judgement import each_run
from spread_jax.models.optimal_variance import OptimalVarianceVAE
from spread_jax.models.vae import watch_sigma
from spread_jax.problems import two_modes
from spread_jax.sample_quality import frechet_distance, train_classifier

RNG = np.random.default_rng(0)
DATA = Dataset("by hand", *(RNG.normal(size=(n, 3)).astype(np.float32) for n in (60, 8, 12)))
SOME = {name: ARMS[name] for name in ("vae", "spread_vae", "soft_clip", "optimal_variance")}
OTHERS = [{"learning_rate": 1e-3}, {"learning_rate": 1e-2}]


def make_model(structure):
    variance = "shared" if structure.variance == "optimal" else structure.variance
    return make_vae(3, latent_dim=2, hidden=(4,), variance=variance, min_std=structure.min_std)


def programs_of(arms, others=OTHERS, sigma_fix=(0.1, 0.3), num_steps=4):
    return comparison.programs(
        arms,
        make_model,
        sigma_fix=sigma_fix,
        others=others,
        sample_batch=rows(8),
        num_steps=num_steps,
        observe=lambda model: watch_sigma(model, jnp.asarray(DATA.train[:5])),
    )


def test_arms_of_one_structure_are_cells_of_one_program():
    """By hand: two sigma_fix for the arm with noise, one cell for one without, each at both
    learning rates."""
    first, clipped, optimal = programs_of(SOME)
    cells = [(c["arm"], c["sigma_fix"], c["learning_rate"]) for c in first.cells]
    assert cells == [
        ("vae", 0.0, 1e-3), ("vae", 0.0, 1e-2),
        ("spread_vae", 0.1, 1e-3), ("spread_vae", 0.1, 1e-2),
        ("spread_vae", 0.3, 1e-3), ("spread_vae", 0.3, 1e-2),
    ]  # fmt: skip
    assert [c["arm"] for c in clipped.cells] == ["soft_clip"] * 2
    assert [c["arm"] for c in optimal.cells] == ["optimal_variance"] * 2
    assert isinstance(optimal.model, OptimalVarianceVAE)
    assert not isinstance(first.model, OptimalVarianceVAE)
    spread = first.spread({name: cell for name, cell in first.cells[2].items() if name != "arm"})
    x = jnp.zeros((4, 3))
    noise = spread.sample(jax.random.key(0), x)
    np.testing.assert_allclose(noise, 0.1 * jax.random.normal(jax.random.key(0), x.shape))


def judged_by_hand(arms, values, **others):
    return xr.Dataset(
        {"m": (("cell", "seed"), values, {"better": "lower"}), **others},
        {"arm": ("cell", arms), "seed": [0, 1]},
    )


def test_programs_are_put_together_in_the_order_of_the_arms():
    """By hand: cells of two programs, of which one recorded a number that the other did not."""
    one = judged_by_hand(["soft_clip"], [[1.0, 2.0]], only=(("cell", "seed"), [[7.0, 8.0]]))
    two = judged_by_hand(["spread_vae", "vae"], [[3.0, 4.0], [5.0, 6.0]])
    arms = {name: ARMS[name] for name in ("vae", "soft_clip", "spread_vae")}
    found = comparison.together([one, two], arms)
    assert found["arm"].values.tolist() == ["vae", "soft_clip", "spread_vae"]
    np.testing.assert_array_equal(found["m"], [[5, 6], [1, 2], [3, 4]])
    np.testing.assert_array_equal(found["only"], [[np.nan] * 2, [7, 8], [np.nan] * 2])
    assert found["label"].values.tolist() == ["plain VAE", "soft clip of log σ", "spread VAE"]
    assert found["m"].attrs["better"] == "lower"


def test_a_place_is_described_by_its_arm_and_by_nothing_else():
    arms = [ARMS["spread_vae"], ARMS["wgan_gp"], Arm("mine", "#123456", data=1)]
    found = comparison.describe(judged_by_hand(["a", "b", "c"], np.zeros((3, 2))), arms)
    assert found["label"].values.tolist() == ["spread VAE", "WGAN-GP", "mine"]
    assert found["color"].values[2] == "#123456"
    assert found["has_noise"].values.tolist() == [True, False, True]
    assert found["has_floor"].values.tolist() == [True, False, False]
    assert found["variance"].values.tolist() == ["each", "gan", "each"]
    assert {found[name].dims for name in ("label", "color", "has_noise")} == {("cell",)}


def test_the_best_cell_of_each_arm_is_chosen_by_the_middle_over_seeds():
    """By hand; a cell with a broken run is as bad as can be."""
    names = ["vae", "spread_vae", "vae", "spread_vae", "spread_vae"]
    values = [[5.0, 5.0], [2.0, 2.0], [4.0, 4.0], [0.0, np.nan], [1.0, 2.0]]
    assert comparison.best_cells(judged_by_hand(names, values), "m") == [2, 4]


@pytest.fixture(scope="module")
def trained():
    arms = {name: SOME[name] for name in ("vae", "spread_vae")}
    (program,) = programs_of(arms, others=OTHERS[:1], sigma_fix=(0.3,))
    return program, sweep(program.training, program.cells, num_seeds=2, data=DATA.train)


def test_runs_on_data_are_judged_and_chosen_on_different_parts(trained):
    """Truths: the energy distance of the same samples to each part; the recorded σ."""
    program, runs = trained
    judged = comparison.judge_on_data(program, runs, DATA, iw_samples=4)
    names = {"nonfinite", "train_bound", "test_bound", "worst_test_bound", "bits_per_dim", "kl"}
    names |= {"active_dims", "test_iw_bound", "alarm_step", "alarm", "energy_distance"}
    names |= {"last_min_sigma", "last_median_sigma", "validation_energy_distance"}
    assert set(judged.data_vars) - set(runs.dataset.data_vars) == names
    assert all(judged[name].dims == ("cell", "seed") for name in names)
    np.testing.assert_array_equal(
        judged["last_min_sigma"], runs.dataset["min_sigma"].isel(step=-1).values
    )
    for name, part in (("energy_distance", "test"), ("validation_energy_distance", "validation")):
        of_part = judge(
            program.model, runs, DATA, [metrics.ENERGY_DISTANCE],
            spread=program.spread, part=part,
        )  # fmt: skip
        np.testing.assert_array_equal(judged[name], of_part["energy_distance"])
    # more draws of z can only tighten the bound, on average
    assert (judged["test_iw_bound"] > judged["test_bound"] - 0.5).all()


def test_images_are_chosen_by_their_distance_to_validation_rows_alone(trained):
    """Truth: the Fréchet distance to those rows, computed here; other validation rows move the
    chooser and nothing else, other test or training rows do not move it."""
    program, runs = trained
    labels = np.arange(len(DATA.train)) % 2
    classifier = train_classifier(jax.random.key(0), DATA.train, labels, num_steps=20)

    def judged(data):
        options = {"classifier": classifier, "iw_samples": 2}
        return comparison.judge_on_data(program, runs, data, **options)

    found = judged(DATA)
    run = next(each_run(program.model, runs, DATA, spread=program.spread, part="validation"))
    features = classifier.features(run.samples.clip(0, 1))
    truth = frechet_distance(classifier.features(DATA.validation), features)
    assert found["validation_frechet"].values[0, 0] == pytest.approx(truth)
    other = judged(DATA._replace(validation=DATA.validation + 1))
    assert (other["validation_frechet"] != found["validation_frechet"]).all()
    xr.testing.assert_identical(
        other.drop_vars("validation_frechet"), found.drop_vars("validation_frechet")
    )
    other = judged(DATA._replace(test=DATA.test + 1, train=DATA.train + 1))
    np.testing.assert_array_equal(other["validation_frechet"], found["validation_frechet"])


def test_pictures_are_of_the_cell_that_is_shown():
    """Truth: the runs of that cell, where others differ from it by the learning rate only."""
    (program,) = programs_of({"vae": ARMS["vae"]}, sigma_fix=())
    runs = sweep(program.training, program.cells, num_seeds=1, data=DATA.train)
    judged = comparison.judge_on_data(program, runs, DATA, iw_samples=2)
    shown = comparison.together([judged], SOME).isel(cell=[0])
    drawn = comparison.pictures_of_arms([(program, runs)], shown, DATA, count=5)
    run = next(each_run(program.model, runs, DATA, spread=program.spread))
    bound = np.sort(np.asarray(run.bound(DATA.test).elbo))[:10]
    np.testing.assert_allclose(drawn["worst_bound"].values[0], bound, rtol=1e-6)


def test_pictures_are_those_of_the_arms_first_runs(trained):
    """Truths: indices of the worst bounds of the first arm, and the noise that was added."""
    program, runs = trained
    judged = comparison.judge_on_data(program, runs, DATA, iw_samples=2)
    shown = comparison.together([judged], SOME)
    assert shown["arm"].values.tolist() == ["vae", "spread_vae"]
    drawn = comparison.pictures_of_arms([trained], shown, DATA, count=5, num_worst=3)
    assert dict(drawn["samples"].sizes) == {"cell": 2, "picture": 5, "pixel": 3}
    np.testing.assert_array_equal(drawn["held_out"], DATA.test[:5])
    assert dict(drawn["samples_projected"].sizes) == {"cell": 2, "picture": 5, "direction": 2}
    noise = 0.3 * np.asarray(jax.random.normal(jax.random.key(0), (5, 3)))
    for clean, noisy in (("held_out", "held_out_spread"), ("samples", "spread_samples")):
        np.testing.assert_allclose(
            drawn[noisy] - drawn[clean], np.broadcast_to(noise, drawn[clean].shape), atol=1e-6
        )
    (run, *_) = each_run(program.model, runs, DATA, spread=program.spread)
    bound = np.asarray(run.bound(DATA.test).elbo)
    worst = np.argsort(bound)[:3]
    np.testing.assert_array_equal(drawn["worst"], DATA.test[worst])
    np.testing.assert_allclose(drawn["worst_bound"][0], bound[worst], rtol=1e-6)
    assert drawn["worst_bound"].shape == (2, 3)
    assert "bound" not in drawn


@pytest.mark.slow
def test_every_arm_of_the_table_trains_on_the_two_modes():
    """A finite loss and a finite clean sample for each, and no two arms have one result."""
    problem = two_modes(0.1)

    def model_of(structure):
        variance = {"optimal": "shared", "gan": "each"}.get(structure.variance, structure.variance)
        return problem.vae((8,), variance=variance, min_std=structure.min_std)

    found = {}
    for program in comparison.programs(
        ARMS,
        model_of,
        sigma_fix=[0.1],
        others=[{"learning_rate": 1e-2}],
        sample_batch=problem.batches(16),
        num_steps=300,
        observe=lambda model: lambda params: {},
    ):
        runs = sweep(program.training, program.cells, num_seeds=1)
        for i, cell in enumerate(program.cells):
            params = jax.tree.map(lambda leaf, i=i: leaf[i, 0], runs.stacked_params)
            x = program.model.sample(params, jax.random.key(0), 50)
            assert np.isfinite(x).all()
            loss = runs.dataset["loss"].values[i, 0]
            assert np.isfinite(loss).all()
            found[cell["arm"]] = float(loss[-1])
    assert set(found) == set(ARMS)
    assert len(set(found.values())) == len(ARMS)
