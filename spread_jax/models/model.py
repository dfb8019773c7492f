"""What a generative model must offer to be trained through a spread, judged and sampled."""

from typing import Protocol, runtime_checkable

from jaxtyping import Array, PRNGKeyArray, PyTree

from spread_jax.objectives import Bound
from spread_jax.spreads import Spread


@runtime_checkable
class Init(Protocol):
    """What makes the first parameters of a run."""

    def __call__(self, key: PRNGKeyArray, /) -> PyTree:
        """``(key) -> params``."""


@runtime_checkable
class Observe(Protocol):
    """What is watched of the parameters, and recorded along a run."""

    def __call__(self, params: PyTree, /) -> dict[str, Array]:
        """``(params) -> dict of arrays``."""


@runtime_checkable
class Model(Protocol):
    """A generative model as three pure functions of its parameters.

    Any object with these three serves: a NamedTuple of functions such as
    :class:`spread_jax.models.vae.VAE`, a module, a class of your own.
    """

    def init(self, key: PRNGKeyArray, /) -> PyTree:
        """``(key) -> params``, the first parameters of a run."""

    def bound(self, params: PyTree, key: PRNGKeyArray, x: Array, spread: Spread, /) -> Bound:
        """``(params, key, x [..., dim], spread) -> Bound``: log p~(y) of one draw y ~ n(y|x) for
        each x, or a lower bound of it, in nats. Training maximises its mean."""

    def sample(self, params: PyTree, key: PRNGKeyArray, n: int, spread: Spread, /) -> Array:
        """``(params, key, n, spread) -> x [n, dim]``: clean points. A density of the spread data
        needs the spread to clean its own draws; a model of the clean data does not use it."""
