"""The arms of the comparison: the spread VAE and its honest alternatives, on equal budgets.

An arm is a loss and numbers. Most differ by numbers alone and are cells of one program; a new one
is an entry of :func:`arms`. One that needs a loss of its own is a function here beside it.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

import spread_jax as sj
from spread_jax.networks import BernoulliEncoder, GaussianDecoder, GaussianEncoder
from spread_jax.training import Training

NUMBERS = {
    "sigma_data": 0.0,  # noise on the data
    "sigma_model": 0.0,  # noise on the model: added to its variance
    "sigma_integrated": 0.0,  # noise on the data in the likelihood alone: the encoder sees clean x
    "sigma_end": 1.0,  # share of the noise that is left at the last step
    "std_gain": 1.0,  # decoder std = gain * network + shared_gain * one number + offset
    "shared_gain": 0.0,
    "std_offset": 0.0,
    "beta": 1.0,  # weight of the KL
    "max_grad_norm": math.inf,
    "learning_rate_end": 1.0,  # share of the learning rate that is left at the last step
}
"""What an arm can differ by, at the values of a plain VAE; σ in data units."""


class Arm(NamedTuple):
    """A way to train a generative model.

    Attributes:
      loss: which program: ``elbo``, ``optimal_sigma``, ``wgan_gp``; or ``deconvolution``, no
        training but the exact optimum.
      numbers: where it differs from NUMBERS.
    """

    loss: str
    numbers: dict[str, float] = {}  # noqa: RUF012  a NamedTuple's default is never mutated


def arms(sigma_fix: float) -> dict[str, Arm]:
    """Every arm, with σ_fix for whatever noise, floor or fixed σ it has."""
    both = {"sigma_data": sigma_fix, "sigma_model": sigma_fix}
    return {
        "vae": Arm("elbo"),
        "variance_floor": Arm("elbo", {"sigma_model": sigma_fix}),
        "noise_only": Arm("elbo", {"sigma_data": sigma_fix}),
        # Rybkin, Daniilidis, Levine, "Simple and Effective VAE Training with Calibrated
        # Decoders", ICML 2021: log σ -> -6 + softplus(log σ + 6), which is σ -> σ + e^-6
        "soft_clip": Arm("elbo", {"std_offset": math.exp(-6)}),
        "shared_sigma": Arm("elbo", {"std_gain": 0.0, "shared_gain": 1.0}),
        "optimal_sigma": Arm("optimal_sigma", {"std_gain": 0.0, "shared_gain": 1.0}),
        "fixed_sigma": Arm("elbo", {"std_gain": 0.0, "std_offset": sigma_fix}),
        "beta_vae": Arm("elbo", {"beta": 4.0}),
        "gradient_clipping": Arm("elbo", {"max_grad_norm": 1.0}),
        "learning_rate_decay": Arm("elbo", {"learning_rate_end": 0.0}),
        "clean_encoder": Arm("elbo", {"sigma_integrated": sigma_fix, "sigma_model": sigma_fix}),
        "wgan_gp": Arm("wgan_gp"),
        "spread_vae": Arm("elbo", both),
        "spread_annealed": Arm("elbo", {**both, "sigma_end": 0.1}),
        "deconvolution": Arm("deconvolution"),
    }


MAIN_ARMS = ("vae", "variance_floor", "noise_only", "soft_clip", "spread_vae", "spread_annealed")


def predicted_sigma_x(arm: str, data_std: float, sigma_fix: float) -> float:
    """√max(0, s² + noise on the data² - noise on the model²): the σ_x of the arm's optimum.

    With one σ for both dimensions, of which the data fill one: s/√2.
    """
    numbers = NUMBERS | arms(sigma_fix)[arm].numbers
    if numbers["shared_gain"]:
        return data_std / math.sqrt(2)
    noise = numbers["sigma_data"] ** 2 + numbers["sigma_integrated"] ** 2
    var = max(0.0, data_std**2 + noise - numbers["sigma_model"] ** 2)
    return max(numbers["std_gain"] * math.sqrt(var), numbers["std_offset"])


class Problem(NamedTuple):
    """Data and latent that arms are compared on.

    Attributes:
      sample: ``(key, n, hyper) -> x [n, 2]``, the data law.
      sample_truth: the same, stratified by mode where there are modes.
      sample_latent: ``(key, n) -> z``, the prior, stratified likewise.
      latent: prior and posteriors.
      encoder: a Flax module for q(z|y), given the widths of its layers.
      latent_dim: of z.
    """

    sample: Callable[..., jax.Array]
    sample_truth: Callable[..., jax.Array]
    sample_latent: Callable[..., jax.Array]
    latent: sj.Latent
    encoder: Callable[[tuple[int, ...]], Any]
    latent_dim: int


def two_modes() -> Problem:
    """The failure case; hyper holds ``data_std``. A Bernoulli latent, summed exactly."""

    def stratified(n):
        return jnp.repeat(jnp.array([[0.0], [1.0]]), n // 2, axis=0)

    def sample_truth(key, n, hyper):
        z = stratified(n)
        a = 2 * z - 1 + hyper["data_std"] * jax.random.normal(key, z.shape)
        return jnp.concatenate([a, jnp.zeros_like(a)], axis=-1)

    return Problem(
        sample=lambda key, n, hyper: sj.sample_two_modes(key, n, hyper["data_std"]),
        sample_truth=sample_truth,
        sample_latent=lambda key, n: stratified(n),
        latent=sj.bernoulli_latent(),
        encoder=lambda hidden: BernoulliEncoder(hidden),
        latent_dim=1,
    )


def curves() -> Problem:
    """Ring and spiral, by ``is_spiral`` in hyper; they need a continuous latent, here N(0, I_2)."""
    latent = sj.gaussian_latent(2)

    def sample(key, n, hyper):
        return jnp.where(hyper["is_spiral"] > 0, sj.sample_spiral(key, n), sj.sample_ring(key, n))

    return Problem(
        sample=sample,
        sample_truth=sample,
        sample_latent=latent.sample_prior,
        latent=latent,
        encoder=lambda hidden: GaussianEncoder(hidden, 2),
        latent_dim=2,
    )


class Program(NamedTuple):
    """A training that many cells share.

    Attributes:
      training: its hyper holds NUMBERS, ``learning_rate``, ``data_size`` and the problem's own.
      decode: ``(params, hyper, z) -> (mean, var)``, the clean decoder.
    """

    training: Training
    decode: Callable[..., tuple[jax.Array, jax.Array]]


def make_program(
    loss: str,
    problem: Problem,
    *,
    hidden: tuple[int, ...],
    batch_size: int,
    num_steps: int,
    max_data_size: int | None,
) -> Program:
    """The training of all arms with this loss on this problem.

    Args:
      loss: a key of LOSSES.
      problem: data and latent.
      hidden: widths of the hidden layers of encoder, decoder and critic.
      batch_size: points per step.
      num_steps: gradient steps, a critic's included.
      max_data_size: the largest finite data set of the cells; None: fresh data at every step.
    """
    decoder = GaussianDecoder(hidden, dim=2)
    apply: Callable[..., Any] = decoder.apply
    loss_fn, optimizer, helper_name = LOSSES[loss]
    # a critic is a network from a point to one number, as the Bernoulli's encoder is
    helper = BernoulliEncoder(hidden) if helper_name == "critic" else problem.encoder(hidden)

    def init_params(key):
        helper_key, decoder_key = jax.random.split(key)
        return {
            helper_name: helper.init(helper_key, jnp.zeros((1, 2))),
            "decoder": decoder.init(decoder_key, jnp.zeros((1, problem.latent_dim))),
            "log_sigma": jnp.full((), decoder.initial_log_var / 2),
        }

    def decode(params, hyper, z):
        mean, var = apply(params["decoder"], z)
        std = (
            hyper["std_gain"] * jnp.sqrt(var)
            + hyper["shared_gain"] * jnp.exp(params["log_sigma"])
            + hyper["std_offset"]
        )
        return mean, jnp.square(std)

    def make_data(key, hyper):
        return None if max_data_size is None else problem.sample(key, max_data_size, hyper)

    def sample_batch(key, data, hyper):
        if data is None:
            return problem.sample(key, batch_size, hyper)
        size = hyper["data_size"].astype(jnp.int32)
        return data[jax.random.randint(key, (batch_size,), 0, size)]

    training = sj.make_training(
        init_params=init_params,
        loss_fn=loss_fn(helper, decode, problem),
        make_data=make_data,
        sample_batch=sample_batch,
        optimizer=lambda hyper: optimizer(hyper, num_steps),
        num_steps=num_steps,
        schedule=lambda step, hyper: annealed(step, hyper, num_steps),
    )
    return Program(training, decode)


def annealed(step, hyper, num_steps):
    """hyper with both noises times 1 → sigma_end along a half cosine."""
    share = optax.cosine_decay_schedule(1.0, num_steps, hyper["sigma_end"])(step)
    return {**hyper, **{name: share * hyper[name] for name in ("sigma_data", "sigma_model")}}


def _elbo_loss(encoder, decode, problem):
    """-E[spread ELBO], with separate noises for data, likelihood and model, and β on the KL.

    Noise integrated analytically: E_n log N(x + σε; μ, V) = log N(x; μ, V) - Σ_i σ² / (2 V_i).
    """

    def loss_fn(params, key, x, hyper):
        model = sj.gaussian_spread(hyper["sigma_model"])

        def log_prob(y, mean, var):
            ratio = jnp.square(hyper["sigma_integrated"]) / (var + jnp.square(hyper["sigma_model"]))
            return model.log_prob(y, mean, var) - 0.5 * jnp.sum(ratio, axis=-1)

        terms = sj.spread_elbo(
            key,
            x,
            encode=lambda y: encoder.apply(params["encoder"], y),
            decode=lambda z: decode(params, hyper, z),
            latent=problem.latent,
            spread=sj.Spread(sj.gaussian_spread(hyper["sigma_data"]).sample, log_prob),
        )
        return jnp.mean(hyper["beta"] * terms.kl - terms.log_lik)

    return loss_fn


def _optimal_sigma_loss(encoder, decode, problem):
    """-ELBO with σ*² = E_q‖x - μ(z)‖² / dim of the batch, the optimum: (dim/2) log(2πe σ*²) + KL.

    Rybkin, Daniilidis, Levine, ICML 2021, equation 8. ``log_sigma`` follows the batches' log σ*,
    for the samples; it adds nothing to the loss.
    """

    def loss_fn(params, key, x, hyper):
        posterior = encoder.apply(params["encoder"], x)

        def squared_error(z):
            return jnp.sum(jnp.square(x[None] - decode(params, hyper, z)[0]), axis=-1)

        dim = x.shape[-1]
        error = problem.latent.expectation(key, posterior, squared_error)
        log_var = jnp.log(error.mean() / dim)
        bound = 0.5 * dim * (math.log(2 * math.pi * math.e) + log_var)
        following = jnp.square(params["log_sigma"] - jax.lax.stop_gradient(0.5 * log_var))
        following = following - jax.lax.stop_gradient(following)
        return bound + problem.latent.kl(posterior).mean() + following

    return loss_fn


GRADIENT_PENALTY = 10.0
CRITIC_STEPS = 5


def _wgan_gp_loss(critic, decode, problem):
    """Critic: E f(fake) - E f(x) + 10 E(‖∇f(x̂)‖ - 1)², x̂ between x and fake; generator: -E f(fake).

    The value is the critic's, in data units. Each part sees the other as a constant, and
    :func:`_alternating` moves one of them a step. The generator is the decoder, reparameterised:
    it has a σ, yet needs no density.

    Gulrajani, Ahmed, Arjovsky, Dumoulin, Courville, "Improved Training of Wasserstein GANs",
    NeurIPS 2017, algorithm 1.
    """

    def loss_fn(params, key, x, hyper):
        latent_key, decoder_key, mix_key = jax.random.split(key, 3)
        z = problem.latent.sample_prior(latent_key, len(x))
        mean, var = decode(params, hyper, z)
        fake = mean + jnp.sqrt(var) * jax.random.normal(decoder_key, mean.shape)

        def f(x, params=params["critic"]):
            return critic.apply(params, x)[..., 0]

        constant = jax.lax.stop_gradient(fake)
        mix = jax.random.uniform(mix_key, (len(x), 1))
        slope = jax.grad(lambda x: f(x).sum())(mix * x + (1 - mix) * constant)
        penalty = jnp.square(jnp.linalg.norm(slope, axis=-1) - 1).mean()
        critic_loss = f(constant).mean() - f(x).mean() + GRADIENT_PENALTY * penalty
        generator_loss = -f(fake, jax.lax.stop_gradient(params["critic"])).mean()
        return critic_loss + generator_loss - jax.lax.stop_gradient(generator_loss)

    return loss_fn


def _adam(hyper, num_steps):
    schedule = optax.cosine_decay_schedule(
        hyper["learning_rate"], num_steps, hyper["learning_rate_end"]
    )
    return optax.chain(optax.clip_by_global_norm(hyper["max_grad_norm"]), optax.adam(schedule))


def _alternating(hyper, num_steps):
    """Five steps of the critic, one of the generator; each with its own Adam."""
    del num_steps
    adam = optax.adam(hyper["learning_rate"], b1=0.0, b2=0.9)

    def is_critics(step):
        return step % (CRITIC_STEPS + 1) < CRITIC_STEPS

    return optax.partition(
        {
            "critic": optax.conditionally_mask(adam, is_critics),
            "generator": optax.conditionally_mask(adam, lambda step: ~is_critics(step)),
        },
        {"critic": "critic", "decoder": "generator", "log_sigma": "generator"},
    )


LOSSES = {
    "elbo": (_elbo_loss, _adam, "encoder"),
    "optimal_sigma": (_optimal_sigma_loss, _adam, "encoder"),
    "wgan_gp": (_wgan_gp_loss, _alternating, "critic"),
}
"""loss → ``(helper, decode, problem) -> loss_fn``, ``(hyper, num_steps) -> optimizer``, and what
the helper is, the network beside the decoder."""
