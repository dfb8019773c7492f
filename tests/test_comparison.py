import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr

from spread_jax import ARMS, Arm, comparison, make_vae, rows, sweep
from spread_jax.data import Dataset
from spread_jax.models.optimal_variance import OptimalVarianceVAE
from spread_jax.models.vae import watch_sigma
from spread_jax.problems import two_modes

RNG = np.random.default_rng(0)
DATA = Dataset("by hand", *(RNG.normal(size=(n, 3)).astype(np.float32) for n in (60, 8, 12)))
SOME = {name: ARMS[name] for name in ("vae", "spread_vae", "soft_clip", "optimal_variance")}
OTHERS = [{"learning_rate": 1e-3}, {"learning_rate": 1e-2}]


def make_model(structure):
    variance = "shared" if structure.variance == "optimal" else structure.variance
    return make_vae(
        3, latent_dim=2, hidden=(4,), variance=variance, sigma_floor=structure.sigma_floor
    )


def programs_of(arms, others=OTHERS, sigma_fix=(0.1, 0.3), anneal_from=None):
    return comparison.programs(
        arms,
        make_model,
        sigma_fix=sigma_fix,
        others=others,
        sample_batch=rows(8),
        num_steps=4,
        observe=lambda model: watch_sigma(model, jnp.asarray(DATA.train[:5])),
        anneal_from=anneal_from,
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
    arms = [ARMS["recipe"], ARMS["wgan_gp"], Arm("mine", "#123456", data=1)]
    found = comparison.describe(judged_by_hand(["a", "b", "c"], np.zeros((3, 2))), arms)
    assert found["label"].values.tolist() == ["recipe", "WGAN-GP", "mine"]
    assert found["color"].values[2] == "#123456"
    assert found["has_noise"].values.tolist() == [True, False, True]
    assert found["has_floor"].values.tolist() == [True, False, False]
    assert found["variance"].values.tolist() == ["none", "gan", "each"]
    assert found["fitted_latent"].values.tolist() == [True, False, False]
    assert {found[name].dims for name in ("label", "color", "has_noise")} == {("cell",)}


def test_the_best_cell_of_each_arm_is_chosen_by_the_middle_over_seeds():
    """By hand; a cell with a broken run is as bad as can be."""
    names = ["vae", "spread_vae", "vae", "spread_vae", "spread_vae"]
    values = [[5.0, 5.0], [2.0, 2.0], [4.0, 4.0], [0.0, np.nan], [1.0, 2.0]]
    assert comparison.best_cells(judged_by_hand(names, values), "m") == [2, 4]


def test_only_arms_whose_noise_falls_begin_where_it_is_told():
    """By hand; what is judged is the noise of the last step, a twentieth of the first."""
    arms = {name: ARMS[name] for name in ("spread_vae", "annealed_spread")}
    (program,) = programs_of(arms, others=OTHERS[:1], sigma_fix=(0.1,), anneal_from=0.5)
    found = [(cell["arm"], cell["sigma_fix"], cell["noise_end"]) for cell in program.cells]
    assert found == [("spread_vae", 0.1, 1.0), ("annealed_spread", 0.5, 0.05)]
    x = jnp.zeros((4, 3))
    last = {name: number for name, number in program.cells[1].items() if name != "arm"}
    noise = program.spread(last).sample(jax.random.key(0), x)
    np.testing.assert_allclose(
        noise, 0.025 * jax.random.normal(jax.random.key(0), x.shape), rtol=1e-6
    )


@pytest.mark.slow
def test_every_arm_of_the_table_trains_on_the_two_modes():
    """A finite loss and a finite clean sample for each, and no two arms have one result, but for
    the recipe, whose training is the annealed δ-VAE's."""
    problem = two_modes(0.1)

    def model_of(structure):
        variance = {"optimal": "shared", "gan": "each"}.get(structure.variance, structure.variance)
        return problem.vae((8,), variance=variance, sigma_floor=structure.sigma_floor)

    found = {}
    for program in comparison.programs(
        ARMS,
        model_of,
        sigma_fix=[0.1],
        grey_step=0.2,
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
    assert found.pop("recipe") == found["annealed_delta"]
    assert len(set(found.values())) == len(found)
