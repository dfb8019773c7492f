"""From a spread point back to clean ones: the moments of x given y under Gaussian noise."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float, PRNGKeyArray

from spread_jax.arguments import moments
from spread_jax.lanczos import root_product
from spread_jax.latents import Latent
from spread_jax.objectives import Decode, Encode
from spread_jax.spreads import Points, Spread, broadcast_as, checked, concrete_value, plus_noise

TINY_VAR = 1e-30  # no noise, to float32, and yet a density
MAX_CHANGE = 1e-3  # of the curvature of a Gaussian law, from point to point: rounding only
MAX_PRODUCTS = 24  # of a Hessian with a vector, for one draw: exact in up to as many dimensions
NUMBERS_AT_ONCE = 2**14  # of points: their Lanczos vectors take 1.5 MB, and stay in the cache
ROWS_AT_ONCE = 32  # of a Hessian


def noise_covariance(spread: Spread, dim: int) -> Float[Array, "dim dim"]:
    """Σ = -(∇²_y log n(y|0))⁻¹: the covariance of the noise that ``spread`` adds to the model.

    Exact for Gaussian noise. It is that of ``spread.log_prob``, also where ``spread.sample`` has
    another. Where there is no noise it is 0. With concrete parameters it is a constant, also in a
    compiled function.

    Of :func:`spread_jax.low_rank_spread` it loses digits as sigma falls below the factor, as any
    float32 matrix with these eigenvalues does: the variance in its worst direction has a relative
    error of about 1e-5 at a tenth of the factor's largest singular value and 1e-3 at a hundredth.
    A low-rank law with a traced sigma of 0 gives NaN.

    Args:
      spread: :func:`spread_jax.gaussian_spread`, :func:`spread_jax.low_rank_spread`,
        :func:`spread_jax.fixed_volume_spread`, or one of them :func:`spread_jax.with_gaussian`.
      dim: of the data.

    Returns:
      Σ, in squared data units; NaN for noise that is not Gaussian and has traced parameters.

    Raises:
      ValueError: if the noise is not Gaussian and its parameters are concrete; if the law is not
        closed for a Gaussian model.

    Examples:
      >>> print(sj.noise_covariance(sj.gaussian_spread(jnp.array([0.5, 0.0])), dim=2))
      [[0.25 0.  ]
       [0.   0.  ]]
    """
    with jax.ensure_compile_time_eval():
        zero = jnp.zeros(dim)
        var = jnp.full(dim, TINY_VAR)  # of the model: a law of the mean alone would be refused

        def curvature(y: Array) -> Array:
            return -jax.hessian(lambda y: spread.log_prob(y, zero, var))(y)

        precision = curvature(zero)
        std = jax.lax.rsqrt(jnp.diagonal(precision))
        change = std[:, None] * std[None] * (curvature(2 * std) - precision)
        is_gaussian = jnp.max(jnp.abs(change)) < MAX_CHANGE  # False where it is NaN
        is_known_gaussian = concrete_value(is_gaussian)
        if is_known_gaussian is not None and not is_known_gaussian:
            raise ValueError(
                "the covariance of the noise is needed, which must be Gaussian: gaussian_spread, "
                "low_rank_spread, fixed_volume_spread, or one of them with_gaussian"
            )
        covariance = jnp.linalg.inv(precision) - jnp.diag(var)
        return jnp.where(is_gaussian, covariance, jnp.nan)


def tweedie(y: Points, log_prob: Callable[[Array], Array], noise: Spread | ArrayLike) -> Points:
    """E[x|y] = y + Σ ∇ log p~(y), for y = x + N(0, Σ): Tweedie's formula, whatever p is.

    Args:
      y: spread points.
      log_prob: ``y [..., dim] -> log p~(y) [...]``, of the spread law, each point for itself.
      noise: the law of Gaussian noise, or its standard deviation, a scalar or ``[dim]``.

    Raises:
      ValueError: as :func:`noise_covariance`.

    Examples:
      >>> y = jnp.array([[2.0]])
      >>> log_prob = lambda y: -jnp.sum(y**2, -1) / 4  # x and the noise N(0, 1): y is N(0, 2)
      >>> print(sj.tweedie(y, log_prob, 1.0))  # half the way back to the mean
      [[1.]]

    References:
      Efron, "Tweedie's formula and selection bias", JASA 106 (2011), equation 1.4.
    """
    score = jax.grad(lambda y: jnp.sum(log_prob(y)))(y)
    if isinstance(noise, Spread):
        return y + score @ noise_covariance(noise, y.shape[-1]).astype(y.dtype)
    return y + broadcast_as(jnp.square(noise), y) * score


def denoising_posterior(
    y: Points, log_prob: Callable[[Array], Array], sigma: ArrayLike
) -> tuple[Points, Float[Array, "*batch dim dim"]]:
    """E[x|y] = y + Σ ∇ log p~(y) and Cov[x|y] = Σ + Σ ∇² log p~(y) Σ, for y = x + N(0, Σ).

    Σ = diag sigma². They are the exact first two moments of the clean points behind y, whatever
    their law p is. For a learned density they are what it would mean if it were a spread density:
    where it is none, the covariance may have negative eigenvalues.

    Args:
      y: spread points.
      log_prob: ``y [..., dim] -> log p~(y) [...]``, of the spread law, each point for itself, twice
        differentiable.
      sigma: standard deviation of the noise, a scalar or ``[dim]``, in data units.

    Returns:
      The mean, in data units, and the covariance, in squared ones. The covariance takes dim
      products of the Hessian with a vector for each point.

    Raises:
      ValueError: if ``sigma`` is neither a scalar nor ``[dim]``, or is concrete and negative or not
        finite.

    Examples:
      >>> y = jnp.array([[2.0]])
      >>> log_prob = lambda y: -jnp.sum(y**2, -1) / 4  # x and the noise N(0, 1): y is N(0, 2)
      >>> mean, covariance = sj.denoising_posterior(y, log_prob, 1.0)
      >>> print(mean, covariance)
      [[1.]] [[[0.5]]]

    References:
      Zhang, Hawkins-Hooker, Paige, Barber, "Moment Matching Denoising Gibbs Sampling", NeurIPS
      2023, arXiv 2305.11650, the analytical full covariance.
    """
    std = _standard_deviations(sigma, y)

    def row(direction: Array) -> Array:
        """Of the Hessian, at every point, [*batch, dim]."""
        score = jax.grad(lambda y: jnp.sum(log_prob(y)))
        return jax.jvp(score, (y,), (broadcast_as(direction, y),))[1]

    basis = jnp.eye(y.shape[-1], dtype=y.dtype)
    rows = jax.lax.map(row, basis, batch_size=ROWS_AT_ONCE)
    hessian = jnp.moveaxis(rows, 0, -2)
    scale = broadcast_as(jnp.outer(std, std), hessian)
    symmetric = (hessian + hessian.mT) / 2
    covariance = scale * (broadcast_as(basis, hessian) + scale * symmetric)
    return tweedie(y, log_prob, sigma), covariance


def clean_samples(
    key: PRNGKeyArray,
    y: Points,
    log_prob: Callable[[Array], Array],
    sigma: ArrayLike,
    steps: int = 1,
) -> Points:
    """x ~ N(E[x|y], Cov[x|y]), then y = x + N(0, Σ), and so on: clean points, by Gibbs sampling.

    The two moments are those of :func:`denoising_posterior`, Σ = diag sigma²; a negative eigenvalue
    of the covariance counts as 0. If y are draws from p~, the first x have exactly the mean and the
    covariance of the clean law, whatever it is, where E[x|y] alone has too little variance. Each x
    given y is Gaussian: where the clean points behind one y are not (two modes, a bend), with the
    noise, the law of x is theirs in these moments only, and more steps are not always better.

    One draw takes min(dim, 24) products of the Hessian with a vector. In up to 24 dimensions its
    covariance is exact, and so it is in more if it has at most 24 distinct eigenvalues; else a draw
    is off by 1.2 % at most of the longest that its eigenvalues allow, as
    :func:`spread_jax.lanczos.root_product` says. Where it is called more than once, jit it.

    Args:
      y: spread points to begin with; draws from p~, or data.
      log_prob, sigma: as in :func:`denoising_posterior`.
      steps: draws of x.

    Returns:
      The last x, in the shape of y.

    Raises:
      ValueError: if ``steps`` is below 1; as :func:`denoising_posterior`.

    Examples:
      >>> s, sigma = 0.05, 0.1
      >>> scale = (s**2 + sigma**2) ** 0.5
      >>> log_prob = lambda y: -jnp.sum((y / scale) ** 2, -1) / 2  # x is N(0, s²)
      >>> y = scale * jax.random.normal(jax.random.key(0), (10_000, 1))
      >>> x = sj.clean_samples(jax.random.key(1), y, log_prob, sigma)
      >>> round(float(x.std()), 2), round(float(sj.tweedie(y, log_prob, sigma).std()), 2)
      (0.05, 0.02)

    References:
      Zhang, Hawkins-Hooker, Paige, Barber, "Moment Matching Denoising Gibbs Sampling", NeurIPS
      2023, arXiv 2305.11650.
    """
    return gibbs_steps(key, y, log_prob, _standard_deviations(sigma, y), steps)


def gibbs_steps(
    key: PRNGKeyArray,
    y: Points,
    log_prob: Callable[[Array], Array],
    root: Float[Array, " dim"] | Float[Array, "dim dim"],
    steps: int,
) -> Points:
    """:func:`clean_samples` for noise of any covariance root rootᵀ, or diag root².

    Raises:
      ValueError: if ``steps`` is below 1.
    """
    if steps < 1:
        raise ValueError(f"steps must be >= 1: each is a draw of clean points; got {steps}")
    dim = y.shape[-1]
    num_products = min(dim, MAX_PRODUCTS)

    def noise(v: Array) -> Array:
        return root * v if root.ndim == 1 else root @ v

    def noise_transposed(v: Array) -> Array:
        return root * v if root.ndim == 1 else root.T @ v

    def draw(key: PRNGKeyArray, y: Array) -> Array:
        score, hessian_product = jax.linearize(
            jax.grad(lambda y: jnp.sum(log_prob(y[None]))),  # [1, dim]: it may ask for a batch
            y,
        )

        def whitened_covariance(v: Array) -> Array:
            return v + noise_transposed(hessian_product(noise(v)))

        normal = jax.random.normal(key, y.shape, y.dtype)
        offset = root_product(whitened_covariance, normal, num_products)
        return y + noise(noise_transposed(score) + offset)

    def step(y: Array, key: PRNGKeyArray) -> tuple[Array, Array]:
        draw_key, noise_key = jax.random.split(key)
        x = draw(draw_key, y)
        return x + noise(jax.random.normal(noise_key, x.shape, x.dtype)), x

    def clean(point: tuple[PRNGKeyArray, Array]) -> Array:
        _, x = jax.lax.scan(step, point[1], jax.random.split(point[0], steps))
        return x[-1]

    points = y.reshape(-1, dim)
    keys = jax.random.split(key, len(points))
    at_once = max(1, NUMBERS_AT_ONCE // dim)
    return jax.lax.map(clean, (keys, points), batch_size=at_once).reshape(y.shape)


def _standard_deviations(sigma: ArrayLike, y: Array) -> Float[Array, " dim"]:
    """``sigma`` of each coordinate of ``y``."""
    sigma, dim = checked(sigma), y.shape[-1]
    if jnp.shape(sigma) not in [(), (1,), (dim,)]:
        raise ValueError(f"sigma must be a scalar or [{dim}], got shape {jnp.shape(sigma)}")
    return jnp.broadcast_to(sigma, (dim,)).astype(y.dtype)


def denoise_by_decoder(
    key: PRNGKeyArray,
    y: Points,
    *,
    encode: Encode,
    decode: Decode,
    latent: Latent,
    sigma: ArrayLike,
) -> Points:
    """E_{q(z|y)} [ mean(z) + var(z)/(var(z) + sigma²) (y - mean(z)) ], a VAE's posterior mean.

    Exact if q(z|y) is the model's posterior. A deterministic decoder gives E_q[mean(z)].

    Args:
      key, encode, decode, latent: as in :func:`spread_jax.spread_elbo`.
      y: points spread by Gaussian noise.
      sigma: standard deviation of the noise, a scalar or ``[dim]``, in data units.

    Raises:
      TypeError: if ``decode`` does not return a pair.

    Examples:
      >>> x = sj.denoise_by_decoder(
      ...     jax.random.key(0),
      ...     jnp.array([[2.0]]),
      ...     encode=lambda y: (jnp.zeros((1, 1)), jnp.zeros((1, 1))),
      ...     decode=lambda z: (0 * z, 0 * z + 1.0),  # x is N(0, 1) whatever z
      ...     latent=sj.gaussian_latent(dim=1),
      ...     sigma=1.0,
      ... )
      >>> print(x)
      [[1.]]
    """
    posterior = encode(y)

    def clean(z: Array) -> Array:
        mean, var = moments(decode, z, y.shape[-1])
        if var is None:
            return jnp.broadcast_to(mean, (mean.shape[0], *y.shape))
        return mean + var / plus_noise(var, sigma) * (y[None] - mean)

    def coordinate(i: Array) -> Array:
        return latent.expectation(key, posterior, lambda z: clean(z)[..., i])

    return jnp.moveaxis(jax.vmap(coordinate)(jnp.arange(y.shape[-1])), 0, -1)
