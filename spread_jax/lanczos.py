"""The square root of a matrix that is known by its products with vectors only."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

Vector = Float[Array, " dim"]

SWEEPS = 7  # of Jacobi's method: 24 dimensions need 6 in float32, and 5 leave an error of 2e-4


def root_product(multiply: Callable[[Vector], Vector], v: Vector, num_products: int) -> Vector:
    """M^(1/2) v by Lanczos's method, the negative eigenvalues of M taken as 0.

    Of v ~ N(0, I) it is a draw from N(0, M). With as many products as M has distinct eigenvalues
    it is exact, so ``dim`` products always suffice. With m products, and eigenvalues from 0 to λ,
    the error is at most 0.28 √λ ‖v‖ / (m - 1): that of the best polynomial of degree m - 1 for a
    square root, doubled. Rounding adds √ε where an eigenvalue is 0, ε the relative error of a
    product.

    Args:
      multiply: v ↦ M v, M symmetric.
      v: ``[dim]``.
      num_products: the calls of ``multiply``.

    Examples:
      >>> from spread_jax.lanczos import root_product
      >>> matrix = jnp.diag(jnp.array([4.0, 9.0, -1.0]))
      >>> root = root_product(lambda v: matrix @ v, jnp.ones(3), num_products=3)
      >>> print(jnp.abs(root).round(4))
      [2. 3. 0.]

    References:
      Higham, "Functions of Matrices", SIAM 2008, section 13.2; the polynomial's error by Varga and
      Carpenter, "On the Bernstein conjecture in approximation theory", 1985.
    """
    norm = jnp.linalg.norm(v)
    rounding = 10 * jnp.finfo(v.dtype).eps

    def unit(w: Vector, smallest: Array) -> Vector:
        size = jnp.linalg.norm(w)
        is_direction = size > smallest
        return jnp.where(is_direction, w / jnp.where(is_direction, size, 1.0), 0.0)

    def product(basis: Array, i: Array) -> tuple[Array, tuple[Array, Array]]:
        image = multiply(basis[i])
        rest = image
        for _ in range(2):  # once leaves in float32 what the next steps would multiply
            rest -= basis.T @ (basis @ rest)
        # where the space is exhausted, what is left is rounding: 0 then ends the recursion
        following = unit(rest, rounding * (1 + jnp.linalg.norm(image)))
        basis = basis.at[i + 1].set(following, mode="drop")
        return basis, (basis[i] @ image, following @ image)

    basis = jnp.zeros((num_products, len(v)), v.dtype).at[0].set(unit(v, jnp.zeros_like(norm)))
    basis, (diagonal, beside) = jax.lax.scan(product, basis, jnp.arange(num_products))
    beside = beside[: num_products - 1]
    values, vectors = eigen(jnp.diag(diagonal) + jnp.diag(beside, 1) + jnp.diag(beside, -1))
    return norm * basis.T @ (vectors @ (jnp.sqrt(jnp.maximum(values, 0)) * vectors[0]))


def eigen(
    matrix: Float[Array, "dim dim"],
) -> tuple[Float[Array, " even"], Float[Array, "dim even"]]:
    """Eigenvalues, in any order, and eigenvectors, in columns, of a small symmetric matrix; of an
    odd one also a 0 with a vector of zeros.

    By Jacobi's method, dim / 2 rotations at once. ``jnp.linalg.eigh`` of a batch waits on the CPU
    for threads of the pool that it runs on: two at a time, in one program, waited for ever on two
    cores (jaxlib 0.10.2).

    References:
      Golub, Van Loan, "Matrix Computations", 4th edition (2013), sections 8.5.3 and 8.5.8.
    """
    dim = len(matrix)
    half = (dim + 1) // 2
    matrix = jnp.pad(matrix, (0, 2 * half - dim))  # an odd one waits for a partner of zeros
    top, bottom = jnp.arange(half), jnp.arange(half, 2 * half)
    if half > 1:  # as at a tournament: one stays, all others move on by one place
        top, bottom = (
            jnp.concatenate([top[:1], bottom[:1], top[1:-1]]),
            jnp.concatenate([bottom[1:], top[-1:]]),
        )
    following = jnp.concatenate([top, bottom])

    def rotate(rows: Array, cos: Array, sin: Array) -> Array:
        a, b = rows[:half], rows[half:]
        cos, sin = cos[:, None], sin[:, None]
        return jnp.concatenate([cos * a - sin * b, sin * a + cos * b])[following]

    def round_of_pairs(_: Array, state: tuple[Array, Array]) -> tuple[Array, Array]:
        matrix, vectors = state
        diagonal, beside = jnp.diagonal(matrix), jnp.diagonal(matrix[:half, half:])
        difference = diagonal[half:] - diagonal[:half]
        sign = jnp.where(difference < 0, -2.0, 2.0)
        # at most 45 degrees: more would swap the two, and such rounds need not converge
        angle = jnp.arctan2(sign * beside, jnp.abs(difference)) / 2
        cos, sin = jnp.cos(angle), jnp.sin(angle)
        return rotate(rotate(matrix, cos, sin).T, cos, sin).T, rotate(vectors, cos, sin)

    start = (matrix, jnp.eye(2 * half, dtype=matrix.dtype))
    rounds = SWEEPS * (2 * half - 1) if half > 1 else 1
    matrix, vectors = jax.lax.fori_loop(0, rounds, round_of_pairs, start)
    return jnp.diagonal(matrix), vectors[:, :dim].T
