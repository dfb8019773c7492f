"""The arms of a comparison: the spread VAE and its honest alternatives, in one table.

An arm is a structure, which is a program, and numbers, by which the cells of a program differ. A
new arm is an entry of ARMS; what it is called decides nothing.
"""

import math
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import jax.numpy as jnp
import optax
from jaxtyping import Array

from spread_jax.gan import gan_training
from spread_jax.models.networks import Variance
from spread_jax.models.vae import VAE
from spread_jax.schedules import annealed_noise, at_the_end, settling_adam
from spread_jax.spreads import NoiseLaw, Spread, dequantizing_noise, gaussian_spread, no_spread
from spread_jax.training import Hyper, OfHyper, Training, model_training

ArmVariance = Literal[Variance, "optimal", "gan"]
"""Of an arm's decoder; ``optimal``: :class:`OptimalVarianceVAE`; ``gan``: without a likelihood."""


class Structure(NamedTuple):
    """What arms of one program share.

    Attributes:
      variance: the decoder's.
      sigma_floor: added to the decoder's standard deviation, in data units.
      clean_encoder: the encoder sees the clean x, and the noise on the data is integrated.
      beta: weight of the KL.
      max_grad_norm: to which the gradient is clipped, inf if it is not.
      learning_rate_end: share of the learning rate that is left at the last step.
      settles: whether the learning rate falls as :func:`spread_jax.schedules.settling_adam` says.
      dequantizes: whether the noise is that of :func:`spread_jax.spreads.dequantizing_noise`; its
        sigma_fix is then 1/√12 of a grey level.
    """

    variance: ArmVariance = "each"
    sigma_floor: float = 0.0
    clean_encoder: bool = False
    beta: float = 1.0
    max_grad_norm: float = math.inf
    learning_rate_end: float = 1.0
    settles: bool = False
    dequantizes: bool = False


class Arm(NamedTuple):
    """A way to train a generative model.

    Attributes:
      label, color: how tables and figures show it.
      data, model: noise on the data and on the model, as shares of sigma_fix.
      end: share of both noises that is left at the end, by :func:`spread_jax.annealed_noise`.
      fitted_latent: whether its samples are drawn from a prior that is fitted after training, as
        :func:`spread_jax.aggregate_latent` does.
      structure: which program it belongs to; its variance is the arm's too.
    """

    label: str
    color: str = "#666666"
    data: float = 0.0
    model: float = 0.0
    end: float = 1.0
    structure: Structure = Structure()
    fitted_latent: bool = False

    @property
    def variance(self) -> ArmVariance:
        return self.structure.variance

    @property
    def has_noise(self) -> bool:
        """Whether sigma_fix changes anything."""
        return self.data > 0 or self.model > 0

    @property
    def has_floor(self) -> bool:
        """Whether its last losses cannot fall below the entropy of the data at its last noise."""
        return self.data == self.model > 0 and not self.structure.clean_encoder

    @property
    def is_annealed(self) -> bool:
        return self.end != 1

    def cells(self, sigma_fix: Sequence[float]) -> list[dict[str, float]]:
        """The numbers of a run at each sigma_fix; one cell, at 0, for an arm without noise.

        A GAN has no such numbers.
        """
        if self.variance == "gan":
            return [{}]
        shares = {"noise_on_data": self.data, "noise_on_model": self.model, "noise_end": self.end}
        return [{"sigma_fix": s, **shares} for s in (sigma_fix if self.has_noise else (0.0,))]

    def predicted_std(self, data_std: float, sigma_fix: float) -> float:
        """√max(0, s² + noise on the data² - noise on the model²): the σ along the line of the two
        modes at the arm's optimum, in data units.

        With one σ for both dimensions, of which the data fill one, s/√2; without a σ, 0.
        """
        if self.variance in ("shared", "optimal"):
            return data_std / math.sqrt(2)
        if self.variance == "none":
            return 0.0
        noise = (self.data**2 - self.model**2) * (self.end * sigma_fix) ** 2
        return max(math.sqrt(max(0.0, data_std**2 + noise)), self.structure.sigma_floor)


TWENTIETH = 0.05
SETTLES = Structure("none", settles=True)

ARMS = {
    "vae": Arm("plain VAE", "#D55E00"),
    "spread_vae": Arm("spread VAE", "#0072B2", data=1, model=1),
    "annealed_spread": Arm("annealed spread VAE", "#56B4E9", data=1, model=1, end=TWENTIETH),
    "spread_delta": Arm("δ-VAE", "#009E73", data=1, model=1, structure=Structure("none")),
    "annealed_delta": Arm("annealed δ-VAE", "#117733", 1, 1, TWENTIETH, SETTLES),
    "recipe": Arm("recipe", "#000000", 1, 1, TWENTIETH, SETTLES, fitted_latent=True),
    "variance_floor": Arm("variance floor only", "#E69F00", model=1),
    "dequantized": Arm("dequantised pixels", "#882255", 1, structure=Structure(dequantizes=True)),
    "noise_only": Arm("noise only", "#CC79A7", data=1),
    "clean_encoder": Arm("clean encoder", data=1, model=1, structure=Structure(clean_encoder=True)),
    "soft_clip": Arm(
        "soft clip of log σ", "#B8860B", structure=Structure(sigma_floor=math.exp(-6))
    ),
    "shared_variance": Arm("one σ, learned", "#E69F00", structure=Structure("shared")),
    "optimal_variance": Arm("one σ, analytic", structure=Structure("optimal")),
    "fixed_variance": Arm("fixed σ", "#CC79A7", model=1, structure=Structure("none")),
    "beta_vae": Arm("β-VAE", "#44AA99", structure=Structure(beta=4.0)),
    "gradient_clipping": Arm(
        "gradient clipping", "#999933", structure=Structure(max_grad_norm=1.0)
    ),
    "learning_rate_decay": Arm(
        "learning-rate decay", "#661100", structure=Structure(learning_rate_end=0.0)
    ),
    "wgan_gp": Arm("WGAN-GP", structure=Structure("gan")),
}


def spread_of(structure: Structure, noise: NoiseLaw = gaussian_spread) -> OfHyper[Spread]:
    """``(hyper) -> Spread``: ``noise_on_data`` times ``sigma_fix`` on the data, and on the model.

    For a clean encoder the noise on the data is integrated, E_n log N(x + σε; μ, V) =
    log N(x; μ, V) - Σ_i σ² / 2V_i: a valid bound, whose merged solution is a stable fixed point.
    """
    if structure.variance == "gan":
        return lambda hyper: no_spread()

    noise_on_data = dequantizing_noise if structure.dequantizes else noise

    def spread(hyper: Hyper) -> Spread:
        on_data = jnp.multiply(hyper["noise_on_data"], hyper["sigma_fix"])
        on_model = jnp.multiply(hyper["noise_on_model"], hyper["sigma_fix"])
        both = Spread(noise_on_data(on_data).sample, noise(on_model).log_prob)
        if not structure.clean_encoder:
            return both

        def log_prob(y: Array, mean: Array, var: Array | None) -> Array:
            assert var is not None, "a clean encoder is compared with a decoder that has a variance"
            ratio = jnp.square(on_data) / (var + jnp.square(on_model))
            return both.log_prob(y, mean, var) - 0.5 * jnp.sum(ratio, axis=-1)

        return Spread(no_spread().sample, log_prob)

    return spread


def last_spread_of(structure: Structure, noise: NoiseLaw = gaussian_spread) -> OfHyper[Spread]:
    """:func:`spread_of` at the last step of a run, by which it is judged."""
    spread = spread_of(structure, noise)
    return spread if structure.variance == "gan" else lambda hyper: spread(at_the_end(hyper))


def arm_training(
    structure: Structure,
    model: VAE,
    *,
    num_steps: int,
    noise: NoiseLaw = gaussian_spread,
    **training: Any,
) -> Training:
    """The training of all arms of a structure, by Adam, under :func:`spread_of`.

    Its hyper is what :meth:`Arm.cells` gives, and ``learning_rate``.

    Args:
      structure, noise: as in :func:`spread_of`.
      model: with a decoder of that structure; for ``gan`` its encoder is the critic.
      num_steps, **training: as in :func:`spread_jax.model_training`.
    """
    if structure.variance == "gan":
        return gan_training(model, num_steps=num_steps, **training)

    def optimizer(hyper: Hyper) -> optax.GradientTransformation:
        if structure.settles:
            return settling_adam(num_steps)(hyper)
        rate = hyper["learning_rate"]
        if structure.learning_rate_end != 1:
            rate = optax.cosine_decay_schedule(rate, num_steps, structure.learning_rate_end)
        if structure.max_grad_norm == math.inf:
            return optax.adam(rate)
        return optax.chain(optax.clip_by_global_norm(structure.max_grad_norm), optax.adam(rate))

    return model_training(
        model,
        num_steps=num_steps,
        spread=spread_of(structure, noise),
        optimizer=optimizer,
        loss=lambda bound, hyper: jnp.mean(structure.beta * bound.kl - bound.log_lik),
        schedule=annealed_noise(num_steps),
        **training,
    )
