"""Whether a stationary noise law keeps the spread divergence valid: zeros of its transform."""

from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq, minimize_scalar

ROUNDING = 1e-13  # a value below this, against 1 at frequency 0, may be rounding and nothing else
MIN_RUN = 3  # neighbouring frequencies, all of them zero: an interval and not a point
# times ROUNDING, within BESIDE of the frequency where the zeros begin: they do not begin by decay.
# there exp(-|k|^p) rises from 1e-13 by a factor of 1.1 to 2.5, p from 1 to 10; (1 - |k|)^3 to 3e-8
ABRUPT = 1e4
BESIDE = 0.003
UNRESOLVED = 0.05  # of 1: a value half-way between two points, against their mean


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
    condition: float
    zeros: tuple[float, ...]
    gap: tuple[float, float] | None

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
    characteristic_function = _one_at_zero(characteristic_function)
    transform = characteristic_function(k)
    bounds = float(k[0]), float(k[-1])
    if transform.shape != k.shape:
        reason = f"φ is not one finite number for each frequency: its shape is {transform.shape}"
        return Validity("cannot tell", reason, bounds, np.nan, (), None)
    if not np.isfinite(transform).all():
        first = int(np.argmin(np.isfinite(transform)))
        reason = (
            f"φ is not one finite number for each frequency: {transform[first]} at {k[first]:.6g}"
        )
        return Validity("cannot tell", reason, bounds, np.nan, (), None)
    size = np.abs(transform)
    if size.max() > 1 + 1e-9:
        raise ValueError(f"|φ| must not exceed 1, got {size.max():.3g}: no characteristic function")

    halfway = characteristic_function((k[1:] + k[:-1]) / 2)
    if not (np.abs(halfway - (transform[1:] + transform[:-1]) / 2) <= UNRESOLVED).all():
        reason = "it changes too much between neighbouring frequencies: ask with more points"
        return Validity("cannot tell", reason, bounds, np.nan, (), None)

    run = _longest_run(size <= ROUNDING)
    if run is not None:
        low, high = run
        gap = float(k[low]), float(k[high])
        edges = [(k[i], k[j]) for i, j in ((low - 1, low), (high + 1, high)) if 0 <= i < len(k)]
        # if all the range is zero, ask how φ gets there from 1 at 0
        if all(_is_abrupt(characteristic_function, *e) for e in edges or [(0.0, k[low])]):
            reason = f"zero from {gap[0]:.4g} to {gap[1]:.4g}: two laws may differ unseen there"
            return Validity("no", reason, bounds, np.inf, (), gap)
        reason = (
            f"it decays below rounding from {gap[0]:.4g} to {gap[1]:.4g}: "
            f"zero or only small cannot be told"
        )
        return Validity("cannot tell", reason, bounds, np.inf, (), None)

    zeros = _isolated_zeros(k, transform, characteristic_function)
    if zeros:
        reason = f"{len(zeros)} isolated zeros: valid, and badly conditioned near them"
        return Validity("yes", reason, bounds, np.inf, zeros, None)
    condition = float(size.max() / size.min())
    reason = f"never zero on this range; its sizes differ by a factor of {condition:.3g}"
    return Validity("yes", reason, bounds, condition, (), None)


def _one_at_zero(
    characteristic_function: Callable[[NDArray], ArrayLike],
) -> Callable[[NDArray], NDArray]:
    """It, with 1 where it has no finite value at frequency 0."""

    def with_one(k: NDArray) -> NDArray:
        with np.errstate(divide="ignore", invalid="ignore"):
            value = np.asarray(characteristic_function(k))
        if value.shape != k.shape:
            return value
        return np.where((k == 0) & ~np.isfinite(value), 1, value)

    return with_one


def _is_abrupt(
    characteristic_function: Callable[[NDArray], NDArray], outside: float, inside: float
) -> bool:
    """Whether |φ|, above rounding outside and zero inside, is large close to where it gets zero."""
    side = np.sign(outside - inside)
    for _ in range(40):
        middle = (outside + inside) / 2
        above = np.abs(characteristic_function(np.array([middle])))[0] > ROUNDING
        outside, inside = (middle, inside) if above else (outside, middle)
    beside = inside + side * BESIDE * abs(inside) * np.linspace(0, 1, 100)
    return bool(np.abs(characteristic_function(beside)).max() > ABRUPT * ROUNDING)


def _longest_run(flags: NDArray[np.bool_]) -> tuple[int, int] | None:
    """First and last index of the longest run of true flags, if it is MIN_RUN or more."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]]).astype(int)))
    starts, ends = edges[::2], edges[1::2] - 1
    if not len(starts):
        return None
    longest = int(np.argmax(ends - starts))
    low, high = int(starts[longest]), int(ends[longest])
    return (low, high) if high - low + 1 >= MIN_RUN else None


def _isolated_zeros(
    k: NDArray, transform: NDArray, characteristic_function: Callable[[NDArray], NDArray]
) -> tuple[float, ...]:
    """Zeros at a point, at a change of sign, and where a bounded search takes |φ| to zero."""

    def value_at(frequency: float) -> complex:
        return complex(characteristic_function(np.array([frequency]))[0])

    size = np.abs(transform)
    found = list(k[size <= ROUNDING])
    real = np.real(transform)
    is_real = np.abs(np.imag(transform)).max() <= ROUNDING
    for i in range(len(k) - 1):
        if is_real and min(size[i : i + 2]) > ROUNDING and real[i] * real[i + 1] < 0:
            found.append(brentq(lambda at: value_at(at).real, k[i], k[i + 1]))
    for i in range(1, len(k) - 1):
        is_lowest = ROUNDING < size[i] <= min(size[i - 1], size[i + 1])
        bracket = float(k[i - 1]), float(k[i + 1])
        if is_lowest and not any(bracket[0] <= zero <= bracket[1] for zero in found):
            search = minimize_scalar(
                lambda at: abs(value_at(at)), bounds=bracket, method="bounded",
                options={"xatol": 1e-14},
            )  # fmt: skip
            # it finds a minimum to about 1e-8 of its place
            if search.fun <= 1e-4 * max(size[i - 1], size[i + 1]):
                found.append(float(search.x))
    return tuple(sorted(float(zero) for zero in found))
