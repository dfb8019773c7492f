"""What callers give as arguments, looked at once: by its type, and by its values where JAX does not
trace them. Nothing of this is in a compiled program."""

import numbers
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from spread_jax.spreads import concrete_value


def described(value: Any) -> str:
    """What came, in a few words: ``the number 0.1``, ``an array of float32 and shape (3, 2)``."""
    if isinstance(value, str):
        return f"the text {value!r}"
    if isinstance(value, numbers.Number):
        return f"the number {value!r}"
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return f"an array of {value.dtype} and shape {tuple(value.shape)}"
    if callable(value) and hasattr(value, "__name__"):
        return f"the function {value.__name__}"
    return f"an object of type {type(value).__name__}" if value is not None else "None"


def is_whole(value: Any, least: int = 1) -> bool:
    """Whether it is a whole number, and no bool, of ``least`` or more."""
    is_int = isinstance(value, int | np.integer) and not isinstance(value, bool)
    return is_int and bool(value >= least)


def require_whole(name: str, value: Any, least: int = 1) -> None:
    """Raises ValueError unless it is a whole number of ``least`` or more."""
    if not is_whole(value, least):
        got = described(value) if hasattr(value, "shape") else repr(value)
        raise ValueError(f"{name} must be a whole number >= {least}, got {got}")


def require_function(name: str, value: Any, written: str) -> None:
    """Raises TypeError unless it can be called; ``written`` is an example of what can."""
    if not callable(value):
        raise TypeError(f"{name} must be a function, such as {written}, got {described(value)}")


def require_key(key: Any) -> None:
    """Raises TypeError unless it is one key of JAX, typed or raw."""
    dtype, shape = getattr(key, "dtype", None), getattr(key, "shape", None)
    is_typed = dtype is not None and jnp.issubdtype(dtype, jax.dtypes.prng_key)
    is_raw = dtype == np.uint32 and shape is not None and len(shape) == 1
    if (is_typed and shape == ()) or is_raw:
        return
    seed = key if isinstance(key, int) and not isinstance(key, bool) else 0
    got = f"{len(key)} keys" if is_typed else described(key)
    raise TypeError(f"key must be one key, such as jax.random.key({seed}), got {got}")


def require_spread(spread: Any) -> None:
    """Raises TypeError unless it has the two functions of a ``Spread``."""
    if not all(callable(getattr(spread, name, None)) for name in ("sample", "log_prob")):
        sigma = spread if isinstance(spread, int | float) else 0.1
        wanted = f"a Spread, such as gaussian_spread({sigma!r})"
        raise TypeError(f"spread must be {wanted}, got {described(spread)}")


def require_latent(latent: Any) -> None:
    """Raises TypeError unless it has the functions of a ``Latent``."""
    names = ("sample_prior", "sample", "log_ratio", "expectation", "kl")
    if not all(callable(getattr(latent, name, None)) for name in names):
        wanted = f"a Latent, such as gaussian_latent({latent if is_whole(latent) else 2})"
        raise TypeError(f"latent must be {wanted}, got {described(latent)}")


def as_points(x: Any, name: str = "x") -> Array:
    """x as a JAX array of floats, a list or a table as the numbers that it holds.

    Raises:
      ValueError: if it holds something else than numbers, is an array of whole numbers, or concrete
        values are not finite; it names their row and column.
    """
    if not isinstance(x, jax.Array):
        x = jnp.asarray(as_numbers(x, name))
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise ValueError(f"{name} must be floating, got {x.dtype}: divide or cast it first")
    if not isinstance(x, jax.core.Tracer):
        require_finite(x, name)
    return x


def as_numbers(x: Any, name: str) -> Any:
    """A table or a list as a NumPy array of floats; an array of numbers as it is.

    Raises:
      ValueError: naming the columns that are no numbers.
    """
    if hasattr(x, "columns") and hasattr(x, "to_numpy"):
        no_numbers = [
            f"column {label!r} of {kind}"
            for label, kind in zip(x.columns, x.dtypes, strict=True)
            if getattr(kind, "kind", "O") not in "iufb"
        ]
        if no_numbers:
            advice = "leave it out or code it as numbers; sj.fit takes text and categories"
            raise ValueError(f"{name} must hold numbers, got {', '.join(no_numbers)}: {advice}")
        return x.to_numpy(np.float64, na_value=np.nan)
    try:
        array = np.asarray(x) if not isinstance(x, jax.Array) else x
    except ValueError:
        raise ValueError(f"{name} must have rows of equal length, got {described(x)}") from None
    # the extended floats of ml_dtypes, such as bfloat16, are of kind V
    is_number = array.dtype.kind in "iufb" or jnp.issubdtype(array.dtype, jnp.floating)
    if not is_number:
        what = described(x) if array.ndim == 0 else f"values of {array.dtype}"
        raise ValueError(f"{name} must be an array of numbers, got {what}")
    return array.astype(np.float64) if isinstance(x, list | tuple) else array


def require_finite(x: Any, name: str, columns: Any = None) -> None:
    """Raises ValueError at the first number that is not finite, by row and column from 1."""
    array = np.asarray(x)  # not in JAX: inside a compiled function it would be traced
    if np.isfinite(array).all():
        return
    first = np.argwhere(~np.isfinite(array))[0]
    raise ValueError(f"{name} must be finite, got {array[tuple(first)]}{place(first, columns)}")


def place(index: np.ndarray, columns: Any = None) -> str:
    """``at row 3, column 2, counted from 1``; in another array than a table, by all its axes."""
    numbers = [int(i) + 1 for i in index]
    if not numbers:
        return ""
    if len(numbers) > 2:
        return f" at {numbers}, counted from 1"
    column = f", column {numbers[1]}" if len(numbers) == 2 else ""
    named = f" ({columns[numbers[1] - 1]!r})" if columns is not None and column else ""
    return f" at row {numbers[0]}{column}{named}, counted from 1"


def first_not_finite(named: dict[str, PyTree]) -> str:
    """The path of the first leaf with a value that is not finite: ``params['decoder']['w']``."""
    for path, leaf in jax.tree_util.tree_flatten_with_path(named)[0]:
        is_float = jnp.issubdtype(jnp.result_type(leaf), jnp.floating)
        if is_float and not np.isfinite(np.asarray(leaf)).all():
            return f"{path[0].key}{jax.tree_util.keystr(path[1:])}"
    return ""


def mean_and_var(decoded: Any) -> tuple[Any, Any]:
    """The pair that ``decode`` returned; else TypeError: an array would unpack along an axis."""
    if not (isinstance(decoded, (tuple, list)) and len(decoded) == 2):
        wanted = "(mean, var), var None for a deterministic decoder"
        raise TypeError(f"decode must return {wanted}, got {described(decoded)}")
    return decoded[0], decoded[1]


def moments(
    decode: Callable[[Array], Any], z: Array, dim: int | None
) -> tuple[Array, Array | None]:
    """The mean and the variance of ``decode``, of points of ``dim`` numbers, or of any where None.

    A decoder that takes no more than one leading axis, such as ``jax.vmap(decoder)``, is given z
    with its leading axes made one.

    Raises:
      TypeError: if ``decode`` does not return a pair of arrays.
      ValueError: if their shapes do not fit z or ``dim``, or concrete values are no moments.
    """
    try:
        return _checked(_decoded(decode, z), z, dim)
    except Exception:  # whatever a module says to an axis that it does not expect
        if z.ndim <= 2:
            raise
        flat = z.reshape(-1, z.shape[-1])
        try:
            mean, var = _checked(decode(flat), flat, dim)
        except Exception:
            mean = None
        if mean is None:
            raise  # what was said of z as it is
        return _unflat(mean, z), None if var is None else _unflat(var, z)


def _decoded(decode: Callable[[Array], Any], z: Array) -> Any:
    try:
        return decode(z)
    except (TypeError, ValueError, AssertionError) as error:
        error.add_note(
            f"decode was given z of shape {z.shape}; a decoder of a single z can be given as "
            'jnp.vectorize(decoder, signature="(k)->(d),(d)"), or without a variance as '
            'lambda z: (jnp.vectorize(decoder, signature="(k)->(d)")(z), None)'
        )
        raise


def _unflat(x: Array, z: Array) -> Array:
    """With the leading axes of z again, where x has them all as one."""
    has_them = x.ndim == 2 and x.shape[0] == z.size // z.shape[-1]
    return x.reshape(*z.shape[:-1], x.shape[-1]) if has_them else x


def _checked(decoded: Any, z: Array, dim: int | None) -> tuple[Array, Array | None]:
    mean, var = mean_and_var(decoded)
    if not getattr(mean, "shape", ()):
        raise TypeError(f"the decoder's mean must be an array [..., dim], got {described(mean)}")
    given = f"for z of shape {z.shape}"
    if dim is not None and mean.shape[-1] != dim:  # it would broadcast
        wanted = f"the data's dim {dim}"
        raise ValueError(f"the decoder's mean must have {wanted}, got shape {mean.shape} {given}")
    if mean.ndim == z.ndim and not _broadcasts(mean.shape[:-1], z.shape[:-1]):
        wanted = f"shape {(*z.shape[:-1], mean.shape[-1])}"
        raise ValueError(f"the decoder's mean must have {wanted} {given}, got {mean.shape}")
    _require_known(mean, "mean", np.isfinite, "finite")
    if var is None:
        return mean, None
    if not (hasattr(var, "shape") or isinstance(var, numbers.Real)):
        wanted = "an array, a number, or None for a deterministic decoder"
        raise TypeError(f"the decoder's variance must be {wanted}, got {described(var)}")
    if jnp.ndim(var) == 0:
        var = jnp.broadcast_to(jnp.asarray(var, mean.dtype), mean.shape)
    if var.shape[-1] not in (1, mean.shape[-1]) or not _broadcasts(var.shape, mean.shape):
        wanted = f"the mean's shape {mean.shape}, or be one number"
        raise ValueError(f"the decoder's variance must have {wanted}, got shape {var.shape}")
    advice = "at least 0 (of a log-variance take jnp.exp, of a standard deviation the square)"
    _require_known(var, "variance", lambda var: var >= 0, advice)
    return mean, var


def _broadcasts(*shapes: tuple[int, ...]) -> bool:
    try:
        np.broadcast_shapes(*shapes)
    except ValueError:
        return False
    return True


def _require_known(value: Array, name: str, holds: Callable[[Any], Any], accepted: str) -> None:
    """Raises ValueError unless concrete values hold."""
    concrete = concrete_value(value)
    if concrete is None:
        return
    good = np.asarray(holds(concrete))
    if not good.all():
        bad = concrete[~good]
        share = f"{bad.size:,} of {concrete.size:,} numbers, such as {bad.flat[0]}"
        raise ValueError(f"the decoder's {name} must be {accepted}, got {share}")
