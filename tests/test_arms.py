import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy.optimize import minimize_scalar

from spread_jax import ARMS, VAE, Arm, gaussian_spread, sample_two_modes, spread_elbo
from spread_jax.arms import Structure, arm_training, last_spread_of, spread_of
from spread_jax.models.optimal_variance import optimal_variance_vae
from spread_jax.problems import two_modes
from spread_jax.spreads import Spread

SIGMA = 0.1
KEY = jax.random.key(2)
X = sample_two_modes(jax.random.key(1), 16, 0.05)


def numbers(arm, learning_rate=1e-3):
    """What the runs of an arm read, but for a GAN."""
    (cell,) = ARMS[arm].cells([SIGMA])
    return {**cell, "learning_rate": learning_rate}


@functools.cache
def model_and_params(structure):
    variance = {"optimal": "shared", "gan": "each"}.get(structure.variance, structure.variance)
    model = two_modes(0.05).vae((8,), variance=variance, sigma_floor=structure.sigma_floor)
    if structure.variance == "optimal":
        model = optimal_variance_vae(model)
    return model, jax.jit(model.init)(jax.random.key(0))


def make(arm, **others):
    """The arm's training on the batch X, its first state, and its model."""
    structure = ARMS[arm].structure
    model, _ = model_and_params(structure)
    options = {"sample_batch": lambda key, data, hyper: X, "num_steps": 12, **others}
    return arm_training(structure, model, **options), model


def bound_of(arm, key=KEY, params=None):
    model, first = model_and_params(ARMS[arm].structure)
    spread = spread_of(ARMS[arm].structure)(numbers(arm))
    return model.bound(first if params is None else params, key, X, spread)


@pytest.mark.parametrize(
    ("arm", "on_data", "on_model"),
    [
        ("vae", 0.0, 0.0),
        ("spread_vae", SIGMA, SIGMA),
        ("soft_clip", 0.0, 0.0),
        ("variance_floor", 0.0, SIGMA),
        ("noise_only", SIGMA, 0.0),
        ("spread_delta", SIGMA, SIGMA),
    ],
)
def test_arms_by_numbers_are_the_librarys_bounds(arm, on_data, on_model):
    """Truth: spread_elbo with the noise of the table."""
    model, params = model_and_params(ARMS[arm].structure)
    expected = spread_elbo(
        KEY,
        X,
        encode=lambda y: model.encode(params, y),
        decode=lambda z: model.decode(params, z),
        latent=model.latent,
        spread=Spread(gaussian_spread(on_data).sample, gaussian_spread(on_model).log_prob),
    )
    np.testing.assert_allclose(bound_of(arm).elbo, expected.elbo, rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(("arm", "beta"), [("spread_vae", 1.0), ("beta_vae", 4.0)])
def test_a_steps_loss_is_beta_kl_less_the_likelihood(arm, beta):
    training, _ = make(arm)
    state = jax.jit(training.init)(jax.random.key(0), numbers(arm))
    _, loss_key = jax.random.split(jax.random.fold_in(state.key, 0))
    bound = bound_of(arm, loss_key, state.params)
    expected = (beta * bound.kl - bound.log_lik).mean()
    np.testing.assert_allclose(jax.jit(training.train_step)(state)[1]["loss"], expected, rtol=1e-6)
    if beta != 1:
        assert abs(expected + bound.elbo.mean()) > 1e-3


def test_soft_clip_is_softplus_of_log_sigma():
    clipped_vae, params = model_and_params(ARMS["soft_clip"].structure)
    vae, _ = model_and_params(ARMS["vae"].structure)
    z = jnp.array([[0.0], [1.0]])
    _, var = vae.decode(params, z)
    _, clipped = clipped_vae.decode(params, z)
    expected = -6 + jax.nn.softplus(0.5 * jnp.log(var) + 6)
    np.testing.assert_allclose(0.5 * jnp.log(clipped), expected, rtol=1e-5)


def test_the_clean_encoder_integrates_the_noise():
    """Truth: Monte Carlo over 40,000 draws of the noise, the posterior of the clean x."""
    model, params = model_and_params(ARMS["clean_encoder"].structure)
    latent, spread = model.latent, gaussian_spread(SIGMA)
    posterior = model.encode(params, X)

    def loss_of_one_draw(key):
        y = spread.sample(key, X)
        log_lik = latent.expectation(
            key, posterior, lambda z: spread.log_prob(y, *model.decode(params, z))
        )
        return jnp.mean(latent.kl(key, posterior) - log_lik)

    draws = jax.lax.map(loss_of_one_draw, jax.random.split(KEY, 40_000), batch_size=1000)
    error = draws.std() / np.sqrt(len(draws))
    bound = bound_of("clean_encoder")
    assert abs(draws.mean() + bound.elbo.mean()) < 5 * error
    np.testing.assert_allclose(bound.posterior, posterior, rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("on_data", [0.0, 1.0])
def test_the_analytic_sigma_is_the_best_shared_one(on_data):
    """Truth: the learned shared σ, searched over, with and without noise on the data."""
    shared, params = model_and_params(Structure("shared"))
    optimal, _ = model_and_params(Structure("optimal"))
    hyper = {"sigma_fix": SIGMA, "noise_on_data": on_data, "noise_on_model": 0.0}
    spread = spread_of(Structure("shared"))(hyper)

    @jax.jit
    def shared_loss(log_sigma):
        decoder = {"params": {**params["decoder"]["params"], "log_var": 2 * log_sigma}}
        return -shared.bound({**params, "decoder": decoder}, KEY, X, spread).elbo.mean()

    @jax.jit
    @jax.value_and_grad
    def optimal_loss(log_sigma):
        return -optimal.bound({**params, "log_sigma": log_sigma}, KEY, X, spread).elbo.mean()

    best = minimize_scalar(
        lambda log_sigma: float(shared_loss(log_sigma)),
        bounds=(-5.0, 2.0),
        method="bounded",
        options={"xatol": 1e-6},
    )
    for offset in (-0.5, 0.5):  # what follows the optimum is pulled to it from both sides
        loss, slope = optimal_loss(best.x + offset)
        np.testing.assert_allclose(loss, best.fun, rtol=1e-5)
        np.testing.assert_allclose(slope, 2 * offset, rtol=1e-2)


@pytest.mark.slow
def test_the_optimal_variance_is_that_of_its_samples():
    """Truth: the number that follows log σ*, in every dimension and for every z."""
    optimal, params = model_and_params(Structure("optimal"))
    assert params["log_sigma"] == -1.5
    mean, var = optimal.decode({**params, "log_sigma": jnp.float32(-0.7)}, jnp.zeros((4, 1)))
    shared, _ = model_and_params(Structure("shared"))
    np.testing.assert_array_equal(mean, shared.decode(params, jnp.zeros((4, 1)))[0])
    np.testing.assert_allclose(var, np.full((4, 2), np.exp(-1.4)), rtol=1e-6)


@pytest.mark.slow
def test_critic_and_generator_take_turns_and_every_turn_counts():
    training, _ = make("wgan_gp")
    step = jax.jit(training.train_step)
    state = jax.jit(training.init)(jax.random.key(0), {"learning_rate": 1e-3})
    moved = []
    for _ in range(12):
        before, (state, _) = state, step(state)
        moved.append(
            "".join(
                name[0]
                for name in ("encoder", "decoder")
                if not jax.tree.all(
                    jax.tree.map(jnp.array_equal, before.params[name], state.params[name])
                )
            )
        )
    assert moved == ["e", "e", "e", "e", "e", "d"] * 2  # the encoder is the critic


@pytest.mark.slow
def test_the_penalty_of_a_linear_critic_is_known():
    """f(x) = w·x has slope w everywhere: 10 (‖w‖ - 1)², beside E f(fake) - E f(x) = 0 at equal x.

    Here w = (3, 4) and x, the generator's own draws, so the loss is 10 · 16.
    """
    x = jnp.ones((16, 2))
    generator = VAE(
        lambda key: {"encoder": jnp.array([3.0, 4.0]), "decoder": jnp.zeros(())},
        lambda params, x: (x @ params["encoder"])[..., None],
        lambda params, z: (x + params["decoder"], None),
        two_modes().latent,
    )
    training = arm_training(
        Structure("gan"), generator, sample_batch=lambda key, data, hyper: x, num_steps=1
    )
    state = training.init(KEY, {"learning_rate": 1e-3})
    np.testing.assert_allclose(training.train_step(state)[1]["loss"], 160.0, rtol=1e-6)


@pytest.mark.parametrize(
    ("step", "share"), [(0, 1.0), (40, math.sqrt(0.05)), (80, 0.05), (99, 0.05)]
)
def test_noise_anneals_to_a_twentieth_over_four_fifths_of_the_steps(step, share, linear_vae):
    """noise_end^((1 - cos πt) / 2) at t = 0, 1/2 and 1, by hand; here the loss is the std."""
    seen = VAE(
        *linear_vae.vae[:3],
        linear_vae.exact.latent._replace(kl=lambda key, posterior: jnp.zeros(4)),
    )
    training = arm_training(
        ARMS["annealed_spread"].structure,
        seen,
        sample_batch=lambda key, data, hyper: jnp.zeros((4, 3)),
        num_steps=100,
        noise=lambda std: Spread(
            lambda key, x: x, lambda y, mean, var: jnp.full(mean.shape[:-1], -std)
        ),
    )
    state = training.init(KEY, numbers("annealed_spread"))
    _, metrics = training.train_step(state._replace(step=jnp.int32(step)))
    np.testing.assert_allclose(metrics["loss"], share * SIGMA, rtol=1e-6)


@pytest.mark.parametrize(("arm", "share"), [("spread_vae", 1.0), ("annealed_spread", 0.05)])
def test_a_run_is_judged_at_its_last_noise(arm, share):
    """Truth: the library's noise, of the share of sigma_fix that the arm ends with."""
    noise = last_spread_of(ARMS[arm].structure)(numbers(arm)).sample(KEY, X)
    np.testing.assert_allclose(noise, gaussian_spread(share * SIGMA).sample(KEY, X), rtol=1e-6)
    assert ARMS[arm].is_annealed == (share != 1)


@pytest.mark.slow
def test_only_the_last_fifth_of_the_steps_settles():
    """By hand: a step of Adam moves by the learning rate where gradients are constant, here 1; half
    of it in the middle of the last fifth, nothing after it."""
    training = arm_training(
        ARMS["recipe"].structure,
        model_and_params(Structure("none"))[0],
        sample_batch=lambda key, data, hyper: X,
        num_steps=100,
    )
    state = jax.jit(training.init)(KEY, numbers("recipe"))
    step = jax.jit(training.train_step)

    def largest_move(at):
        counted = jax.tree.map(
            lambda leaf: jnp.full_like(leaf, at) if leaf.dtype == jnp.int32 else leaf,
            state.opt_state,
        )
        after, _ = step(state._replace(step=jnp.int32(at), opt_state=counted))
        moves = jax.tree.map(lambda a, b: jnp.abs(a - b).max(), after.params, state.params)
        return float(max(jax.tree.leaves(moves)))

    # with moments of 0 before it, a step is larger by Adam's corrections for their bias
    def bias(at):
        return 0.1 / (1 - 0.9 ** (at + 1)) / math.sqrt(0.001 / (1 - 0.999 ** (at + 1)))

    for at, share in ((0, 1.0), (79, 1.0), (90, 0.5), (100, 0.0)):
        assert largest_move(at) == pytest.approx(1e-3 * share * bias(at), rel=1e-3, abs=1e-8)


@pytest.mark.slow
def test_a_learning_rate_decays_to_nothing():
    """(1 + cos πt/T) / 2 is 0 from the last step on: then nothing moves."""
    training, _ = make("learning_rate_decay", num_steps=2)
    step = jax.jit(training.train_step)
    states = [jax.jit(training.init)(KEY, numbers("learning_rate_decay"))]
    for _ in range(3):
        states.append(step(states[-1])[0])
    leaves = [jax.tree.leaves(state.params) for state in states]
    assert any((a != b).any() for a, b in zip(leaves[0], leaves[1], strict=True))
    for a, b in zip(leaves[2], leaves[3], strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.slow
def test_a_clipped_gradient_has_norm_one():
    """Truth: Adam's first moment is a tenth of the gradient, which is of another norm."""
    norms = {}
    for arm in ("gradient_clipping", "vae"):
        training, _ = make(arm)
        state, _ = jax.jit(training.train_step)(training.init(KEY, numbers(arm)))
        norms[arm] = 10 * float(optax.tree.norm(optax.tree_utils.tree_get(state.opt_state, "mu")))
    assert norms["vae"] > 1.1
    assert norms["gradient_clipping"] == pytest.approx(1.0, rel=1e-5)


@pytest.mark.parametrize(
    ("arm", "data_std", "expected"),
    [
        ("vae", 0.05, 0.05),
        ("variance_floor", 0.05, 0.0),
        ("variance_floor", 0.3, np.sqrt(0.3**2 - 0.1**2)),
        ("noise_only", 0.05, np.sqrt(0.05**2 + 0.1**2)),
        ("spread_vae", 0.05, 0.05),
        ("annealed_spread", 0.05, 0.05),
        ("clean_encoder", 0.02, 0.02),
        ("soft_clip", 0.001, math.exp(-6)),
        ("fixed_variance", 0.02, 0.0),
        ("spread_delta", 0.02, 0.0),
        ("shared_variance", 0.1, 0.1 / np.sqrt(2)),
        ("optimal_variance", 0.1, 0.1 / np.sqrt(2)),
    ],
)
def test_predicted_widths(arm, data_std, expected):
    assert ARMS[arm].predicted_std(data_std, SIGMA) == pytest.approx(expected)


def test_an_arm_with_noise_has_a_cell_for_each_sigma_and_one_without_has_one():
    both = {"noise_on_data": 1, "noise_on_model": 1, "noise_end": 1.0}
    assert ARMS["spread_vae"].cells([0.1, 0.3]) == [
        {"sigma_fix": 0.1, **both},
        {"sigma_fix": 0.3, **both},
    ]
    none = {"noise_on_data": 0.0, "noise_on_model": 0.0, "noise_end": 1.0}
    assert ARMS["vae"].cells([0.1, 0.3]) == [{"sigma_fix": 0.0, **none}]
    assert ARMS["recipe"].cells([0.5]) == [{"sigma_fix": 0.5, **both, "noise_end": 0.05}]
    assert ARMS["wgan_gp"].cells([0.1, 0.3]) == [{}]


def test_the_recipe_is_the_annealed_delta_vae_with_a_fitted_latent():
    assert ARMS["recipe"].structure == ARMS["annealed_delta"].structure
    assert ARMS["recipe"].cells([0.1]) == ARMS["annealed_delta"].cells([0.1])
    assert {name for name, arm in ARMS.items() if arm.fitted_latent} == {"recipe"}


def test_what_has_noise_and_what_has_a_floor():
    """A floor needs the same noise on data and model, with an encoder that sees it."""
    assert {name for name, arm in ARMS.items() if arm.has_floor} == {
        "spread_vae", "annealed_spread", "spread_delta", "annealed_delta", "recipe",
    }  # fmt: skip
    assert {name for name, arm in ARMS.items() if arm.is_annealed} == {
        "annealed_spread", "annealed_delta", "recipe",
    }  # fmt: skip
    assert {name for name, arm in ARMS.items() if not arm.has_noise} == {
        "vae", "soft_clip", "shared_variance", "optimal_variance", "beta_vae",
        "gradient_clipping", "learning_rate_decay", "wgan_gp",
    }  # fmt: skip
    assert not Arm("uneven", data=1, model=0.5).has_floor
    assert len({arm.label for arm in ARMS.values()}) == len(ARMS)
