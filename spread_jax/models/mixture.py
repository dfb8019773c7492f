"""A mixture of Gaussians with full covariances: a model whose spread density is exact."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from spread_jax.denoising import TINY_VAR, noise_covariance
from spread_jax.latents import PerPoint
from spread_jax.objectives import Bound
from spread_jax.spreads import Points, Spread


class MixtureModel(NamedTuple):
    """p(x) = Σ_k w_k N(x; m_k, L_k L_kᵀ): a :class:`spread_jax.Model` of few numbers.

    Its parameters are a dict: ``logits [component]``, of the weights; ``means [component, dim]``
    and ``factors [component, dim, dim]``, L, of which the lower triangle counts, in data units. A
    factor may be singular, so a constant column can be learned exactly. The attributes are as
    :func:`mixture_model` says.
    """

    dim: int
    num_components: int
    initial_std: float

    def init(self, key: PRNGKeyArray) -> PyTree:
        """Equal weights, means drawn from N(0, I), factors ``initial_std`` I."""
        factor, count = self.initial_std * jnp.eye(self.dim), self.num_components
        return {
            "logits": jnp.zeros(count),
            "means": jax.random.normal(key, (count, self.dim)),
            "factors": jnp.tile(factor[None], (count, 1, 1)),
        }

    def log_prob(self, params: PyTree, y: Points, spread: Spread) -> PerPoint:
        """log p~(y) = log Σ_k w_k N(y; m_k, L_k L_kᵀ + Σ), Σ the noise's covariance, in nats.

        With R from the QR decomposition of [L_k, Σ^(1/2)]ᵀ, Rᵀ R is the component's covariance:
        the sum itself, which would lose the digits of the smaller part, is never formed.

        Raises:
          ValueError: if y is not of the model's dim; as :func:`spread_jax.noise_covariance`.
        """
        if y.shape[-1] != self.dim:  # it would broadcast
            raise ValueError(f"the data must have the model's dim {self.dim}, got shape {y.shape}")
        covariance = noise_covariance(spread, self.dim).astype(y.dtype)
        noise = jnp.linalg.cholesky(covariance + TINY_VAR * jnp.eye(self.dim, dtype=y.dtype))
        factors = jnp.tril(params["factors"])
        both = jnp.concatenate([factors, jnp.broadcast_to(noise[None], factors.shape)], axis=-1)
        root = jnp.linalg.qr(both.mT, mode="r")
        residual = y.reshape(-1, self.dim).T[None] - params["means"][..., None]
        whitened = jax.scipy.linalg.solve_triangular(root, residual, trans=1)
        log_det = jnp.sum(jnp.log(jnp.abs(jnp.diagonal(root, axis1=-2, axis2=-1))), axis=-1)
        constant = jax.nn.log_softmax(params["logits"]) - log_det
        constant -= 0.5 * self.dim * jnp.log(2 * jnp.pi)
        log_joint = constant[:, None] - 0.5 * jnp.sum(jnp.square(whitened), axis=1)
        return jax.nn.logsumexp(log_joint, axis=0).reshape(y.shape[:-1])

    def bound(self, params: PyTree, key: PRNGKeyArray, x: Points, spread: Spread) -> Bound:
        """log p~(y) of one draw y for each x, as :meth:`log_prob`; the kl is 0."""
        log_lik = self.log_prob(params, spread.sample(key, x), spread)
        return Bound(log_lik, jnp.zeros_like(log_lik))

    def sample(
        self, params: PyTree, key: PRNGKeyArray, n: int, spread: Spread | None = None
    ) -> Float[Array, "n dim"]:
        """k ~ w, x ~ N(m_k, L_k L_kᵀ): clean points, whatever the spread."""
        del spread  # the mixture is a model of the clean data
        component_key, normal_key = jax.random.split(key)
        component = jax.random.categorical(component_key, params["logits"], shape=(n,))
        normal = jax.random.normal(normal_key, (n, self.dim), params["means"].dtype)
        factors = jnp.tril(params["factors"])[component]
        return params["means"][component] + jnp.einsum("nij,nj->ni", factors, normal)


def mixture_model(dim: int, num_components: int, *, initial_std: float = 1.0) -> MixtureModel:
    """p(x) = Σ_k w_k N(x; m_k, L_k L_kᵀ), whose bound is log p~(y) itself, under Gaussian noise.

    Args:
      dim: of the data, which should be standardized: the means start as draws from N(0, I).
      num_components: of the mixture.
      initial_std: standard deviation of every component at first, in data units.

    Raises:
      ValueError: if ``dim`` or ``num_components`` is below 1, or ``initial_std`` not positive.

    Examples:
      >>> model = sj.mixture_model(dim=2, num_components=1)
      >>> on_a_line = {
      ...     "logits": jnp.zeros(1),
      ...     "means": jnp.zeros((1, 2)),
      ...     "factors": jnp.array([[[1.0, 0.0], [1.0, 0.0]]]),  # x = (a, a), a ~ N(0, 1)
      ... }
      >>> spread = sj.gaussian_spread(1.0)  # covariance [[2, 1], [1, 2]]
      >>> log_prob = model.log_prob(on_a_line, jnp.zeros(2), spread)  # -log 2π - log(3) / 2
      >>> round(float(log_prob), 4)
      -2.3872
    """
    if dim < 1 or num_components < 1 or not initial_std > 0:
        got = f"{dim}, {num_components} and {initial_std}"
        raise ValueError(f"dim and num_components must be >= 1 and initial_std > 0, got {got}")
    return MixtureModel(dim, num_components, initial_std)
