"""One batch on several devices: the step says what is split, the sweep over which devices.

Data parallel training by XLA's partitioner. It is told that the rows of the batch lie on several
devices, and follows them through whatever the loss computes: each device computes its rows, and
where rows are added up, as in the mean loss and in the gradients, the devices add up theirs. So a
model or a loss needs to know nothing of it, and the random numbers are those of one device.
"""

from collections.abc import Callable
from typing import TypeVar

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import PyTree

BATCH = "batch"  # the axis of a mesh of devices that share a batch

FunctionT = TypeVar("FunctionT", bound=Callable)


def is_split() -> bool:
    """Whether several devices share a batch in what is traced now."""
    return BATCH in jax.sharding.get_abstract_mesh().axis_names


def split_batch(x: PyTree) -> PyTree:
    """A batch ``[batch, ...]``, its rows on the devices of the axis ``batch`` of the mesh that
    :func:`on_mesh` has put in force; without one, as it is.

    XLA pads the rows where the devices do not divide their number.
    """
    if not is_split():
        return x

    def split(leaf: jax.Array) -> jax.Array:
        by_row = PartitionSpec(BATCH)
        return jax.lax.with_sharding_constraint(leaf, by_row) if jnp.ndim(leaf) else leaf

    return jax.tree.map(split, x)


def on_mesh(function: FunctionT, mesh: Mesh) -> FunctionT:
    """The function, with this mesh in force while JAX traces it."""

    def traced(*arguments: PyTree) -> PyTree:
        with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
            return function(*arguments)

    return traced  # type: ignore[return-value]
