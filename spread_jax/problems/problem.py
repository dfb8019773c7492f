"""What a data law on a thin set offers, and its isometric copy in a higher dimension."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array, Float, PRNGKeyArray
from numpy.typing import NDArray

from spread_jax.data.datasets import Dataset
from spread_jax.judgement import Metric, Run, judge_samples
from spread_jax.latents import Latent, Sampler
from spread_jax.metrics import energy_distance, of_samples, wasserstein
from spread_jax.models.networks import GaussianDecoder
from spread_jax.models.vae import VAE, linen_vae
from spread_jax.training import OfHyper, SampleBatch


class Problem(NamedTuple):
    """A data law on a thin set of the plane, the latent that suits it, and its distance.

    Attributes:
      name: of the law.
      sample: ``(key, n) -> x [n, 2]``, independent points.
      distance: ``(x [..., 2]) -> [...]``, from the set, in data units.
      latent: prior and posterior family.
      encoder: ``(hidden widths) ->`` a Linen module for q(z|y) of that latent.
      even: where the law has modes: the same law whose ``sample``, and whose latent's prior, give
        every mode equally many points. Samples are judged with it, since they scatter less.
    """

    name: str
    sample: Sampler
    distance: Callable[[Array | np.ndarray], Array]
    latent: Latent
    encoder: Callable[[Sequence[int]], nn.Module]
    even: "Problem | None" = None

    @property
    def evenly(self) -> "Problem":
        """``even``, or the law itself where it has no modes."""
        return self.even or self

    def vae(self, hidden: Sequence[int] = (64,), **decoder: Any) -> VAE:
        """A VAE of dense layers of these widths with the law's latent; ``decoder`` are options of
        :class:`spread_jax.models.networks.GaussianDecoder`."""
        network = GaussianDecoder(hidden, dim=2, **decoder)
        return linen_vae(self.encoder(hidden), network, self.latent, dim=2)

    def batches(self, batch_size: int) -> SampleBatch:
        """A ``sample_batch`` that draws fresh points at every step."""
        return lambda key, data, hyper: self.sample(key, batch_size)

    def dataset(self, key: PRNGKeyArray, train: int = 10_000, held_out: int = 500) -> Dataset:
        """Points to train on, and evenly drawn ones for validation and test, without labels."""
        keys = jax.random.split(key, 3)
        validation, test = (self.evenly.sample(part_key, held_out) for part_key in keys[1:])
        x = self.sample(keys[0], train)
        return Dataset(self.name, np.asarray(x), np.asarray(validation), np.asarray(test))


def problem_metrics(problem: OfHyper[Problem], num_samples: int) -> list[Metric]:
    """Of clean samples of a law: energy distance and W2 to one evenly drawn true sample, and the
    mean distance from the law's set.

    Args:
      problem: ``(hyper) -> Problem`` that a run was trained on.
      num_samples: of the true sample; judge as many. W2, whose time is their cube, takes 250.
    """

    @functools.cache
    def points_of(*hyper: tuple[str, float]) -> NDArray[np.float32]:
        return np.asarray(problem(dict(hyper)).evenly.sample(_true_key(0), num_samples))

    def truth(run: Run) -> NDArray[np.float32]:
        return points_of(*sorted(run.hyper.items()))

    def off_data(run: Run) -> float:
        return float(problem(run.hyper).distance(jnp.asarray(run.samples)).mean())

    units, to_truth = "data units", "of clean samples to true ones"
    energy, w2 = f"energy distance {to_truth}", f"W2 {to_truth}"
    return [
        of_samples("energy_distance", units, energy_distance, energy, truth=truth),
        of_samples("wasserstein", units, wasserstein, w2, 250, truth),
        Metric("off_data", units, "lower", off_data, "mean distance from the data's set"),
    ]


def true_scores(problem: Problem, num_samples: int, num_seeds: int) -> xr.Dataset:
    """What independent samples of a law, of ``num_samples`` points each, score by
    :func:`problem_metrics`, ``[seed]``."""
    metrics = problem_metrics(lambda hyper: problem, num_samples)
    data = problem.dataset(_true_key(0), 2, 2)
    samples = (problem.evenly.sample(_true_key(1 + i), num_samples) for i in range(num_seeds))
    scores = [judge_samples(np.asarray(x), data, metrics) for x in samples]
    return xr.Dataset({m.name: ("seed", [s[m.name] for s in scores], m.attrs) for m in metrics})


def _true_key(i: int) -> PRNGKeyArray:
    """No run's."""
    return jax.random.key(2**31 - 1 - i)


def embed(
    rotation_key: PRNGKeyArray, x: Float[Array, "*batch plane_dim"], dim: int
) -> Float[Array, "*batch dim"]:
    """x ↦ x Q with orthonormal rows Q, uniform over rotations: an isometric copy of x in R^dim.

    The same key gives the same rotation.

    Raises:
      ValueError: if ``dim`` is below the last axis of ``x``.

    Examples:
      >>> x = sj.sample_ring(jax.random.key(0), 1000)
      >>> high = sj.embed(jax.random.key(1), x, dim=20)
      >>> high.shape, int(jnp.linalg.matrix_rank(high))
      ((1000, 20), 2)
    """
    plane_dim = x.shape[-1]
    if dim < plane_dim:
        raise ValueError(f"dim must be at least {plane_dim}, the dimension of x, got {dim}")
    q, r = jnp.linalg.qr(jax.random.normal(rotation_key, (dim, plane_dim)))
    # the sign of r's diagonal makes the law of q uniform (Mezzadri 2007, arXiv math-ph/0609050)
    return x @ (q * jnp.sign(jnp.diagonal(r))[None]).T
