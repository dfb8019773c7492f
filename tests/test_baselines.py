import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr
from scipy.optimize import minimize_scalar

import spread_jax as sj
from experiments import arms, baselines, command, judging
from spread_jax import figures

SIGMA = 0.1
SMALL = {"hidden": (8,), "batch_size": 16, "num_steps": 12, "max_data_size": None}


def program_of(arm, problem=arms.two_modes, **others):
    return arms.make_program(arms.arms(SIGMA)[arm].loss, problem(), **{**SMALL, **others})


@functools.cache
def loss_and_inputs(arm):
    """The arm's loss, compiled, with params, a key and a batch to call it with."""
    defined = arms.arms(SIGMA)[arm]
    problem, encoder = arms.two_modes(), sj.networks.BernoulliEncoder((8,))
    hyper = {**arms.NUMBERS, **defined.numbers, "learning_rate": 1e-3, "data_std": 0.05}
    program = program_of(arm)
    params = jax.jit(program.training.init)(jax.random.key(0), hyper).params
    x = sj.sample_two_modes(jax.random.key(1), 16, 0.05)
    loss_fn = arms.LOSSES[defined.loss][0](encoder, program.decode, problem)
    return jax.jit(loss_fn), params, jax.random.key(2), x, hyper, encoder, program


@functools.partial(jax.jit, static_argnums=(4, 5, 6))
def library_elbo(params, key, x, hyper, encoder, program, sigma):
    terms = sj.spread_elbo(
        key,
        x,
        encode=lambda y: encoder.apply(params["encoder"], y),
        decode=lambda z: program.decode(params, hyper, z),
        latent=sj.bernoulli_latent(),
        spread=sj.gaussian_spread(sigma),
    )
    return terms.elbo


@pytest.mark.parametrize(("arm", "sigma"), [("spread_vae", SIGMA), ("soft_clip", 0.0)])
def test_arms_by_numbers_are_the_librarys_bounds(arm, sigma):
    loss_fn, *inputs, encoder, program = loss_and_inputs(arm)
    expected = -library_elbo(*inputs, encoder, program, sigma).mean()
    np.testing.assert_allclose(loss_fn(*inputs), expected, rtol=1e-6)


def test_soft_clip_is_softplus_of_log_sigma():
    *_, params, _, _, hyper, _, program = loss_and_inputs("soft_clip")
    z = jnp.array([[0.0], [1.0]])
    _, var = program.decode(params, arms.NUMBERS, z)
    _, clipped = program.decode(params, hyper, z)
    expected = -6 + jax.nn.softplus(0.5 * jnp.log(var) + 6)
    np.testing.assert_allclose(0.5 * jnp.log(clipped), expected, rtol=1e-5)


def test_the_clean_encoder_integrates_the_noise():
    """Truth: Monte Carlo over 40,000 draws of the noise, the posterior of the clean x."""
    loss_fn, params, key, x, hyper, encoder, program = loss_and_inputs("clean_encoder")
    latent, spread = sj.bernoulli_latent(), sj.gaussian_spread(SIGMA)
    posterior = encoder.apply(params["encoder"], x)

    def loss_of_one_draw(key):
        y = spread.sample(key, x)
        log_lik = latent.expectation(
            key, posterior, lambda z: spread.log_prob(y, *program.decode(params, hyper, z))
        )
        return jnp.mean(latent.kl(posterior) - log_lik)

    draws = jax.lax.map(loss_of_one_draw, jax.random.split(key, 40_000), batch_size=1000)
    error = draws.std() / np.sqrt(len(draws))
    assert abs(draws.mean() - loss_fn(params, key, x, hyper)) < 5 * error


def test_the_analytic_sigma_is_the_best_shared_one():
    """Truth: the learned shared σ, searched over."""
    shared_loss, params, key, x, hyper, *_ = loss_and_inputs("shared_sigma")
    optimal_loss = jax.jit(jax.value_and_grad(loss_and_inputs("optimal_sigma")[0]))

    def loss_at(log_sigma):
        return float(shared_loss({**params, "log_sigma": log_sigma}, key, x, hyper))

    best = minimize_scalar(loss_at, bounds=(-5.0, 2.0), method="bounded", options={"xatol": 1e-6})
    for offset in (-0.5, 0.5):  # what follows the optimum is pulled to it from both sides
        loss, slope = optimal_loss({**params, "log_sigma": best.x + offset}, key, x, hyper)
        np.testing.assert_allclose(loss, best.fun, rtol=1e-5)
        np.testing.assert_allclose(slope["log_sigma"], 2 * offset, rtol=1e-2)


def test_critic_and_generator_take_turns_and_every_turn_counts():
    program = program_of("wgan_gp")
    hyper = {**arms.NUMBERS, "learning_rate": 1e-3, "data_std": 0.1}
    step = jax.jit(program.training.train_step)
    state = jax.jit(program.training.init)(jax.random.key(0), hyper)
    moved = []
    for _ in range(12):
        before, (state, _) = state, step(state)
        moved.append(
            "".join(
                name[0]
                for name in ("critic", "decoder")
                if not jax.tree.all(
                    jax.tree.map(jnp.array_equal, before.params[name], state.params[name])
                )
            )
        )
    assert moved == ["c", "c", "c", "c", "c", "d"] * 2


def test_the_penalty_of_a_linear_critic_is_known():
    """f(x) = w·x has slope w everywhere: 10 (‖w‖ - 1)², beside E f(fake) - E f(x) = 0 at equal x.

    Here w = (3, 4) and x, the generator's own draws, so the loss is 10 · 16.
    """

    class Linear:
        apply = staticmethod(lambda w, x: (x @ w)[..., None])

    problem = arms.two_modes()._replace(
        latent=sj.bernoulli_latent()._replace(sample_prior=lambda key, n: jnp.zeros((n, 1)))
    )
    x = jnp.ones((16, 2))
    loss_fn = arms.LOSSES["wgan_gp"][0](Linear, lambda *_: (x, jnp.zeros_like(x)), problem)
    w = jnp.array([3.0, 4.0])
    np.testing.assert_allclose(loss_fn({"critic": w}, jax.random.key(0), x, {}), 160.0, rtol=1e-6)


@pytest.mark.parametrize(("step", "share"), [(0, 1.0), (50, 0.55), (100, 0.1)])
def test_noise_anneals_along_a_half_cosine(step, share):
    """(1 - e) (1 + cos πt/T) / 2 + e, at 0, T/2 and T, with e = 0.1."""
    hyper = arms.NUMBERS | arms.arms(SIGMA)["spread_annealed"].numbers
    now = arms.annealed(jnp.int32(step), hyper, 100)
    expected = hyper | {"sigma_data": share * SIGMA, "sigma_model": share * SIGMA}
    assert now == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    ("arm", "data_std", "expected"),
    [
        ("vae", 0.05, 0.05),
        ("variance_floor", 0.05, 0.0),
        ("variance_floor", 0.3, np.sqrt(0.3**2 - 0.1**2)),
        ("noise_only", 0.05, np.sqrt(0.05**2 + 0.1**2)),
        ("spread_vae", 0.05, 0.05),
        ("clean_encoder", 0.02, 0.02),
        ("fixed_sigma", 0.02, 0.1),
        ("shared_sigma", 0.1, 0.1 / np.sqrt(2)),
        ("optimal_sigma", 0.1, 0.1 / np.sqrt(2)),
    ],
)
def test_predicted_widths(arm, data_std, expected):
    assert arms.predicted_sigma_x(arm, data_std, SIGMA) == pytest.approx(expected)


def test_samples_are_stratified_by_mode():
    problem = arms.two_modes()
    x = problem.sample_truth(jax.random.key(0), 100, {"data_std": 0.1})
    assert (np.sign(x[:, 0]) == np.repeat([-1, 1], 50)).all()
    assert (problem.sample_latent(jax.random.key(0), 100)[:, 0] == np.repeat([0, 1], 50)).all()


def test_a_finite_data_set_is_all_that_a_run_sees():
    """One point of five: without noise and without learning, the loss repeats itself."""
    program = program_of("vae", max_data_size=5)
    hyper = {**arms.NUMBERS, "learning_rate": 0.0, "data_std": 0.05, "data_size": jnp.float32(1)}
    state, history = jax.jit(program.training.train)(jax.random.key(0), hyper)
    assert state.data.shape == (5, 2)
    np.testing.assert_allclose(history["loss"], history["loss"][0], rtol=1e-6)


def test_every_arm_is_drawn_and_the_grid_is_the_issues():
    settings = baselines.Settings()
    cells = baselines.cells(settings)
    assert {name: len(members) for name, members in cells.items()} == {
        "fresh": 15 * 4,
        "finite": 7 * 3,
        "curves": 6 * 2,
    }
    assert set(arms.arms(SIGMA)) <= set(figures.ARMS)
    main_colors = [figures.ARMS[arm].color for arm in arms.MAIN_ARMS]
    assert len(set(main_colors)) == len(main_colors)


def run_small(out, **others):
    settings = baselines.Settings(
        **{
            "steps": 12,
            "curve_steps": 8,
            "seeds": 2,
            "seed": 3,
            "hidden": (4,),
            "batch_size": 8,
            "data_std": (0.05,),
            "num_samples": 20,
            "wasserstein_seeds": 1,
            "out": out,
            "save_params": True,
            "quiet": True,
            **others,
        }
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(command, "start_jax", lambda settings: None)
        baselines.run(settings)


@pytest.fixture(scope="module")
def small_run(tmp_path_factory):
    """Five cells of two programs; all programs are the slow test's."""
    out = tmp_path_factory.mktemp("baselines")
    some = {
        "fresh": [
            baselines.Cell(arm, "two_modes", 0.05, None)
            for arm in ("vae", "spread_vae", "deconvolution")
        ],
        "curves": [baselines.Cell("spread_vae", data, None, None) for data in baselines.CURVES],
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(baselines, "cells", lambda settings: some)
        run_small(out)
    return out


KEYS = {"arm", "data", "data_std", "data_size", "energy_distance", "wasserstein"}
KEYS |= {"energy_distance_truth", "wasserstein_truth", "sigma_x_bias", "position_bias"}
KEYS |= {"off_manifold", "recovery_rate", "recovery_interval", "late_loss_std"}


@pytest.mark.slow
def test_the_command_keeps_the_contract_of_its_files(small_run):
    names = {"metrics.json", "results.nc", "params.npz", "baselines.png", "curves.png"}
    assert {path.name for path in small_run.iterdir()} == names
    metrics = json.loads((small_run / "metrics.json").read_text(), parse_constant=pytest.fail)
    assert metrics["config"]["seeds"] == 2
    assert len(metrics["rows"]) == 5
    for row in metrics["rows"]:
        assert set(row) >= KEYS
        assert row["energy_distance_truth"] > 0
        assert (row["recovery_rate"] is None) == (row["data"] != "two_modes")
    ceiling = metrics["rows"][2]
    assert ceiling["arm"] == "deconvolution"
    assert ceiling["late_loss_std"] is None
    assert abs(ceiling["sigma_x_bias"]) < 0.005


@pytest.mark.slow
def test_results_hold_what_metrics_say(small_run):
    rows = json.loads((small_run / "metrics.json").read_text())["rows"]
    with xr.open_dataset(small_run / "results.nc") as dataset:
        assert [row["arm"] for row in rows] == dataset["arm"].values.astype(str).tolist()
        np.testing.assert_array_equal(dataset["seed"], [3, 4])
        medians = np.median(dataset["energy_distance"], axis=1)
        np.testing.assert_allclose([row["energy_distance"] for row in rows], medians)
        assert np.isfinite(dataset["wasserstein"].values).all(axis=0).tolist() == [True, False]


@pytest.mark.slow
def test_every_arm_has_its_row_and_its_line_of_the_table(tmp_path, capsys):
    run_small(tmp_path, data_size=(5, 50))
    rows = json.loads((tmp_path / "metrics.json").read_text())["rows"]
    table = capsys.readouterr().out
    assert len(rows) == 15 + 7 * 2 + 6 * 2
    assert [row["arm"] for row in rows[:15]] == list(arms.arms(SIGMA))
    assert all(figures.ARMS[arm].label in table for arm in arms.arms(SIGMA))


BAD_FLAGS = [
    ("--sigma-fix", "0"),
    ("--sigma-fix", "nan"),
    ("--curve-steps", "0"),
    ("--steps", "0"),
    ("--learning-rate", "-1"),
    ("--data-std", "0"),
    ("--data-size", "0"),
    ("--finite-data-std", "inf"),
    ("--num-samples", "7"),
    ("--num-samples", "0"),
    ("--wasserstein-seeds", "0"),
]


@pytest.mark.parametrize(("flag", "value"), BAD_FLAGS)
def test_bad_values_name_the_flag_the_value_and_what_is_accepted(flag, value, refuses):
    refuses(baselines, flag, value)


@pytest.mark.slow
def test_floor_and_noise_are_biased_as_predicted_and_the_spread_is_not():
    """Data std 0.05, σ_fix 0.1, 16 seeds. Truths: 0, √(0.05² + 0.1²) = 0.1118, and 0.05."""
    settings = baselines.Settings(seeds=16, quiet=True)
    names = ("variance_floor", "noise_only", "spread_vae")
    members = [baselines.Cell(name, "two_modes", 0.05, None) for name in names]
    dataset, _, _ = baselines.train_program(settings, "elbo", members)
    dataset = judging.judge(settings, dataset, {})
    rows = [judging.row(settings, dataset.isel(cell=i)) for i in range(3)]
    floor, noise, spread = rows
    assert floor["sigma_x"] < 0.01
    assert noise["sigma_x"] == pytest.approx(np.hypot(0.05, 0.1), rel=0.03)
    assert spread["sigma_x"] == pytest.approx(0.05, rel=0.1)
    assert (
        spread["recovery_rate"] > 0.8
    )  # a width may be a learning-rate jitter off at the last step
    assert floor["recovery_rate"] == noise["recovery_rate"] == 0
    assert spread["wasserstein"] < 0.5 * min(floor["wasserstein"], noise["wasserstein"])
