"""Whether a stationary noise law keeps the spread divergence valid: zeros of its transform."""

from collections.abc import Callable
from functools import partial
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq, minimize_scalar

ROUNDING = 1e-13  # a value below this, against 1 at frequency 0, may be rounding and nothing else
# times ROUNDING, within BESIDE of the frequency where the zeros begin: they do not begin by decay.
# there exp(-|k|^p) rises from 1e-13 by a factor of 1.1 to 2.5, p from 1 to 10; (1 - |k|)^3 to 3e-8
ABRUPT = 1e4
BESIDE = 0.003


class Validity(NamedTuple):
    """What :func:`is_valid_spread` found; true as a condition only if the verdict is "yes".

    Attributes:
      verdict: "yes", "no" or "cannot tell".
      reason: one sentence.
      frequencies: the range that was looked at, (low, high), radians per data unit.
      condition: largest over smallest |c.f.| on the range; inf if it has a zero. It is the factor
        by which the best and the worst seen frequency of a difference of laws differ in the
        spread laws: at 1e3 a divergence sees the worst one a million times weaker.
      zeros: isolated zeros on the range, ascending.
      gap: the interval of zeros, (low, high), or None.
    """

    verdict: Literal["yes", "no", "cannot tell"]
    reason: str
    frequencies: tuple[float, float]
    condition: float = np.nan
    zeros: tuple[float, ...] = ()
    gap: tuple[float, float] | None = None

    def __bool__(self) -> bool:
        return self.verdict == "yes"


def is_valid_spread(
    characteristic_function: Callable[[NDArray[np.float64]], ArrayLike], frequencies: ArrayLike
) -> Validity:
    """Is φ(k) = E exp(ikε), of the noise y = x + ε, zero on no interval of these frequencies?

    Spread by such noise the c.f. of a law is multiplied by φ. Where φ is not zero, equal spread
    laws have equal c.f.s; isolated zeros do no harm, since a c.f. is continuous; on an interval
    of zeros two laws may differ unseen. The verdict speaks of the stated range alone, as finely
    as its points lie, and to a precision of 1e-13:

    - "no": φ drops to zero and stays there, over three points or more;
    - "yes": φ is above rounding everywhere but at isolated zeros;
    - "cannot tell": φ decays below rounding (a Gaussian's far tail does), is not finite, or
      changes much between two points: ask about a narrower range, or with more points.

    At 0, where every φ is 1, it need not have a value: 0/0 will do.

    Noise with independent coordinates is valid if each coordinate's law is; ask once for each.

    Args:
      characteristic_function: ``k [n] -> φ(k) [n]``, real or complex, of float64 frequencies.
      frequencies: ``[n]``, at least 8, ascending, in radians per data unit.

    Raises:
      ValueError: if the frequencies are not such, or |φ| exceeds 1: then it is no c.f.

    Examples:
      >>> k = np.linspace(-20, 20, 2001)
      >>> sj.is_valid_spread(lambda k: 1 / (1 + k**2), k).verdict  # Laplace noise
      'yes'
      >>> sj.is_valid_spread(lambda k: np.maximum(1 - abs(k), 0), k).gap  # band-limited noise
      (-20.0, -1.0)

    References:
      Zhang, Hayes, Bird, Habib, Barber, "Spread Divergence", ICML 2020, arXiv 1811.08968,
      on stationary spread.
    """
    k = np.asarray(frequencies, np.float64)
    if k.ndim != 1 or len(k) < 8 or not np.isfinite(k).all() or (np.diff(k) <= 0).any():
        raise ValueError("frequencies must be at least 8 finite numbers in ascending order")
    bounds = float(k[0]), float(k[-1])
    cannot_tell = partial(Validity, "cannot tell", frequencies=bounds)

    def phi(k: float | NDArray) -> NDArray:
        """The characteristic function, 1 where it has no finite value at frequency 0."""
        k = np.atleast_1d(k)
        with np.errstate(divide="ignore", invalid="ignore"):
            value = np.asarray(characteristic_function(k))
        if value.shape != k.shape:
            return value
        return np.where((k == 0) & ~np.isfinite(value), 1, value)

    transform = phi(k)
    not_finite = "φ is not one finite number for each frequency:"
    if transform.shape != k.shape:
        return cannot_tell(f"{not_finite} its shape is {transform.shape}")
    if not np.isfinite(transform).all():
        first = np.argmin(np.isfinite(transform))
        return cannot_tell(f"{not_finite} {transform[first]} at {k[first]:.6g}")
    size = np.abs(transform)
    if size.max() > 1 + 1e-9:
        raise ValueError(f"|φ| must not exceed 1, got {size.max():.3g}: no characteristic function")
    # a value half-way between two points, against their mean
    bend = np.abs(phi((k[1:] + k[:-1]) / 2) - (transform[1:] + transform[:-1]) / 2)
    if not (bend <= 0.05).all():
        return cannot_tell(
            "it changes too much between neighbouring frequencies: ask with more points"
        )

    at = np.flatnonzero(size <= ROUNDING)
    run = max(np.split(at, np.flatnonzero(np.diff(at) > 1) + 1), key=len)
    if len(run) >= 3:  # an interval and not a point
        low, high = run[0], run[-1]
        gap = float(k[low]), float(k[high])
        edges = [(k[i], k[j]) for i, j in ((low - 1, low), (high + 1, high)) if 0 <= i < len(k)]
        span = f"from {gap[0]:.4g} to {gap[1]:.4g}"
        # if all the range is zero, ask how φ gets there from 1 at 0
        if all(_is_abrupt(phi, *edge) for edge in edges or [(0.0, k[low])]):
            reason = f"zero {span}: two laws may differ unseen there"
            return Validity("no", reason, bounds, np.inf, gap=gap)
        reason = f"it decays below rounding {span}: zero or only small cannot be told"
        return cannot_tell(reason, condition=np.inf)

    zeros = _isolated_zeros(k, transform, phi)
    if zeros:
        reason = f"{len(zeros)} isolated zeros: valid, and badly conditioned near them"
        return Validity("yes", reason, bounds, np.inf, zeros)
    condition = float(size.max() / size.min())
    reason = f"never zero on this range; its sizes differ by a factor of {condition:.3g}"
    return Validity("yes", reason, bounds, condition)


def _is_abrupt(phi: Callable[[float | NDArray], NDArray], outside: float, inside: float) -> bool:
    """Whether |φ|, above rounding outside and zero inside, is large close to where it gets zero."""
    side = np.sign(outside - inside)
    for _ in range(40):
        middle = (outside + inside) / 2
        above = np.abs(phi(middle))[0] > ROUNDING
        outside, inside = (middle, inside) if above else (outside, middle)
    beside = inside + side * BESIDE * abs(inside) * np.linspace(0, 1, 100)
    return bool(np.abs(phi(beside)).max() > ABRUPT * ROUNDING)


def _isolated_zeros(
    k: NDArray, transform: NDArray, phi: Callable[[float | NDArray], NDArray]
) -> tuple[float, ...]:
    """Zeros at a point, at a change of sign, and where a bounded search takes |φ| to zero."""
    size, real = np.abs(transform), np.real(transform)
    above = size > ROUNDING
    found = list(k[~above])
    if np.abs(np.imag(transform)).max() <= ROUNDING:
        changes = above[1:] & above[:-1] & (real[1:] * real[:-1] < 0)
        for i in np.flatnonzero(changes):
            found.append(brentq(lambda at: phi(at)[0].real, k[i], k[i + 1]))
    beside = np.stack([size[:-2], size[2:]])
    for i in 1 + np.flatnonzero(above[1:-1] & (size[1:-1] <= beside.min(axis=0))):
        low, high = k[i - 1], k[i + 1]
        if any(low <= zero <= high for zero in found):
            continue
        search = minimize_scalar(
            lambda at: abs(phi(at)[0]), bounds=(low, high), options={"xatol": 1e-14}
        )
        # it finds a minimum to about 1e-8 of its place
        if search.fun <= 1e-4 * beside[:, i - 1].max():
            found.append(search.x)
    return tuple(sorted(map(float, found)))
