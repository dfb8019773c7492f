"""A model that was fitted to a user's data: clean rows, bounds, denoising; saved and loaded."""

import dataclasses
import functools
import hashlib
import io
import json
import math
import os
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from jaxtyping import PRNGKeyArray, PyTree
from numpy.typing import NDArray

from spread_jax.data.images import Images
from spread_jax.data.sources import Rows, is_source
from spread_jax.data.tables import Table
from spread_jax.denoising import denoise_by_decoder
from spread_jax.gaussian_mixture import GaussianMixture
from spread_jax.latents import mixture_latent
from spread_jax.metrics import energy_distance
from spread_jax.models.vae import VAE, make_vae
from spread_jax.report import Report, columns_in_words
from spread_jax.schedules import annealed_noise
from spread_jax.spreads import Spread, gaussian_spread

FORMAT, VERSION = "spread_jax.Fitted", 2
DESCRIPTION, ARRAYS = "model.json", "arrays.npz"
ROWS_AT_ONCE = 10_000
MOST_REPORTED = 3_000
TRANSFORMS: dict[str, Any] = {"table": Table, "images": Images}


@runtime_checkable
class Transform(Protocol):
    """From a user's rows to those that a model is trained on, and back."""

    def apply(self, x: Any, /) -> np.ndarray:
        """``rows -> z [n, dim]``."""

    def inverse(self, z: Any, /) -> Any:
        """``z [n, dim] -> rows``, with the user's own columns, types and units."""

    def assumptions(self) -> list[str]:
        """What was taken for granted, a sentence each."""

    def to_json(self) -> dict[str, Any]:
        """All of it, in JSON's own types."""


@dataclasses.dataclass(frozen=True, eq=False)
class Fitted:
    """What :func:`spread_jax.fit` returns, and :func:`spread_jax.load`.

    Attributes:
      architecture: arguments of :func:`spread_jax.make_vae`.
      params: of that VAE.
      latent: the prior that was fitted to its aggregate posterior.
      sigma: standard deviation of the noise that it was last trained under, in the units of
        ``transform``: pixels, or standard deviations of a column. Bounds are in its spread space.
      transform: from the user's rows to those of the model, and back.
      choices: all that was chosen, and how many rows there were.
      loss: training loss of the run that was kept, ``[record]``, in nats.
    """

    architecture: dict[str, Any]
    params: PyTree
    latent: GaussianMixture
    sigma: float
    transform: Transform
    choices: dict[str, Any]
    loss: NDArray[np.float32]

    @functools.cached_property
    def vae(self) -> VAE:
        """The model itself, with the fitted prior: a :class:`spread_jax.Model` of ``params``."""
        return model_of(self.architecture)._replace(latent=mixture_latent(*self.latent))

    @property
    def spread(self) -> Spread:
        """``gaussian_spread(sigma)``."""
        return gaussian_spread(self.sigma)

    def sample(self, key: PRNGKeyArray, n: int) -> Any:
        """n clean rows, with the columns, types and units of the data that were fitted.

        The same key gives the same rows, to the last bit, before and after saving.

        Raises:
          ValueError: if ``n`` is no whole number of 1 or more.
        """
        if not isinstance(n, int | np.integer) or n < 1:
            raise ValueError(f"n must be a whole number >= 1, got {n!r}")
        parts = [
            self._sample(self.params, jax.random.fold_in(key, i), min(n - start, ROWS_AT_ONCE))
            for i, start in enumerate(range(0, n, ROWS_AT_ONCE))
        ]
        return self.transform.inverse(np.concatenate([np.asarray(part) for part in parts]))

    def bound(self, key: PRNGKeyArray, x: Any) -> NDArray[np.float32]:
        """The spread ELBO of each row, in nats, at the noise ``sigma``: higher is likelier.

        Args:
          key: of the noise and of the draws of z.
          x: rows like those that were fitted.

        Raises:
          ValueError: if the rows have other columns or another size, or there are none.
        """
        return self._by_rows(self._bound, key, x)

    def denoise(self, key: PRNGKeyArray, y: Any) -> Any:
        """E[x|y]: the posterior mean of clean rows, given rows with Gaussian noise of ``sigma``.

        Args:
          key: of the draw of z.
          y: rows like those that were fitted, with noise of standard deviation ``sigma`` in the
            units of ``transform``.

        Raises:
          ValueError: as :meth:`bound`.
        """
        return self.transform.inverse(self._by_rows(self._denoise, key, y))

    def save(self, folder: Path | str) -> None:
        """Writes ``model.json``, which describes the model, and ``arrays.npz``, its numbers.

        Neither can hold code. An earlier model in the folder is replaced; model.json comes last.

        Raises:
          OSError: if the folder cannot be written to.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        arrays = {
            **{f"params/{name}": leaf for name, leaf in flatten_dict(self.params, sep="/").items()},
            **{f"latent/{name}": leaf for name, leaf in self.latent._asdict().items()},
            "loss": self.loss,
        }
        (kind,) = (name for name, each in TRANSFORMS.items() if isinstance(self.transform, each))
        described = {
            **{"format": FORMAT, "version": VERSION, "architecture": self.architecture},
            **{"sigma": self.sigma, "transform": {kind: self.transform.to_json()}},
            "choices": self.choices,
        }
        arrays_part, part = folder / f"{ARRAYS}.part", folder / f"{DESCRIPTION}.part"
        with arrays_part.open("wb") as file:
            np.savez(file, **arrays)
        # of two files one can be replaced and the other not: then load refuses them
        described["arrays_sha256"] = hashlib.sha256(arrays_part.read_bytes()).hexdigest()
        part.write_text(json.dumps(described, indent=1, allow_nan=False) + "\n", encoding="utf-8")
        os.replace(arrays_part, folder / ARRAYS)
        os.replace(part, folder / DESCRIPTION)

    def report(self, key: PRNGKeyArray, x: Any, assumptions: Sequence[str] = ()) -> Report:
        """Numbers, figures and a page: how the training went, and samples beside the rows of x.

        Args:
          key: of the samples and of the bounds' draws.
          x: rows like those that were fitted, best ones that were not; at most 3,000 that are
            evenly spaced are looked at.
          assumptions: further ones, of the reading of a file.

        Raises:
          ValueError: as :meth:`bound`; for fewer than 2 rows.
        """
        from spread_jax import figures

        every = max(1, -(-len(x) // MOST_REPORTED))  # the first rows may be alike
        source = is_source(x) and len(x)
        rows = Rows(x).as_given(np.arange(0, len(x), every)) if source else x[::every]
        z = np.asarray(self.transform.apply(rows), np.float32)
        if len(z) < 2:
            raise ValueError(f"a report needs 2 rows or more, got {len(z)}")
        sample_key, bound_key = jax.random.split(key)
        samples = self.sample(sample_key, len(z))
        of_samples = np.asarray(self.transform.apply(samples), np.float32)
        half = len(z) // 2
        one, other = np.split(np.random.default_rng(0).permutation(z)[: 2 * half], 2)
        numbers = {
            "rows": len(z),
            "bound": float(self.bound(bound_key, rows).mean()),
            "energy_distance": energy_distance(of_samples[:half], one),
            "energy_distance_of_two_halves": energy_distance(other, one),
        }
        every = self.choices["num_steps"] // len(self.loss)
        steps = every * np.arange(1, len(self.loss) + 1)
        schedule = annealed_noise(self.choices["num_steps"])
        start = {name: jnp.float32(self.choices[name]) for name in ("sigma_fix", "noise_end")}
        sigma = np.asarray(schedule(jnp.asarray(steps), start)["sigma_fix"])
        drawn = {"training": figures.recipe_training_figure(steps, self.loss, sigma)}
        columns = []
        if isinstance(self.transform, Images):
            shape = self.transform.shape
            drawn["samples"] = figures.images_beside_samples_figure(z, of_samples, shape)
        if isinstance(self.transform, Table):
            names, of_data = self.transform.numeric_columns(rows)
            _, drawn_columns = self.transform.numeric_columns(samples)
            if names:
                drawn["samples"] = figures.columns_beside_samples_figure(
                    names, of_data, drawn_columns
                )
            if len(names) > 1:
                drawn["pairs"] = figures.pairs_beside_samples_figure(names, of_data, drawn_columns)
            columns = columns_in_words(rows, samples)
        assumptions = [*assumptions, *self.transform.assumptions()]
        return Report(numbers, drawn, assumptions, self.choices, columns)

    def _by_rows(self, function: Any, key: PRNGKeyArray, x: Any) -> NDArray[np.float32]:
        def applied(x: Any) -> NDArray[np.float32]:
            return np.asarray(self.transform.apply(x), np.float32)

        if is_source(x) and len(x):
            source = Rows(x)
            count, z_of = len(source), lambda places: applied(source.as_given(places))
        else:
            z = applied(x)
            count, z_of = len(z), lambda places: z[places]
        if not count:
            raise ValueError("must be one row or more, not none")
        size = min(count, ROWS_AT_ONCE)
        parts = []
        for i, start in enumerate(range(0, count, size)):
            batch = z_of(np.arange(start, start + size) % count)
            parts.append(np.asarray(function(self.params, jax.random.fold_in(key, i), batch)))
        return np.concatenate(parts)[:count]

    @functools.cached_property
    def _sample(self) -> Any:
        return jax.jit(self.vae.sample, static_argnums=2)

    @functools.cached_property
    def _bound(self) -> Any:
        vae = self.vae  # made here: what is made while JAX traces must not be kept
        return jax.jit(lambda params, key, x: vae.bound(params, key, x, self.spread).elbo)

    @functools.cached_property
    def _denoise(self) -> Any:
        vae = self.vae
        return jax.jit(
            lambda params, key, y: denoise_by_decoder(
                key,
                y,
                encode=functools.partial(vae.encode, params),
                decode=functools.partial(vae.decode, params),
                latent=vae.latent,
                sigma=self.sigma,
            )
        )


def load(folder: Path | str) -> Fitted:
    """The model that :meth:`Fitted.save` wrote. Nothing in its files is run.

    Raises:
      ValueError: naming what is missing, damaged, or of another version.

    Examples:
      >>> x = np.random.default_rng(0).normal(size=(100, 2))
      >>> fitted = sj.fit(jax.random.key(0), x, num_steps=10, num_seeds=1, quiet=True)
      >>> fitted.save("model")
      >>> loaded = sj.load("model")
      >>> key = jax.random.key(1)
      >>> bool((loaded.sample(key, 3) == fitted.sample(key, 3)).all())
      True
    """
    folder = Path(folder)
    accepted = f"{folder}: must be a folder that Fitted.save wrote"
    try:
        described = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
        content = (folder / ARRAYS).read_bytes()
        archive = np.load(io.BytesIO(content), allow_pickle=False)
        if not isinstance(archive, np.lib.npyio.NpzFile):
            raise ValueError(f"{ARRAYS} is one array")
        arrays = {name: archive[name] for name in archive.files}
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ValueError(f"{accepted}; {Path(error.filename).name} is missing") from None
    except (OSError, ValueError, EOFError, RecursionError, zipfile.BadZipFile) as error:
        raise ValueError(f"{accepted}; it is damaged ({error})") from None
    if not isinstance(described, dict) or described.get("format") != FORMAT:
        raise ValueError(f"{accepted}; {DESCRIPTION} describes something else")
    if described.get("version") != VERSION:
        raise ValueError(
            f"{folder}: is of version {described.get('version')!r} of the format, and this "
            f"spread_jax reads version {VERSION}"
        )
    digest = hashlib.sha256(content).hexdigest()
    if described.get("arrays_sha256", digest) != digest:  # older models have none
        raise ValueError(f"{accepted}; {ARRAYS} is not the file that {DESCRIPTION} describes")
    try:
        ((kind, transform),) = described["transform"].items()
        flat = {n.removeprefix("params/"): x for n, x in arrays.items() if n.startswith("params/")}
        fitted = Fitted(
            architecture=described["architecture"],
            params=unflatten_dict(flat, sep="/"),
            latent=GaussianMixture(*(arrays[f"latent/{name}"] for name in GaussianMixture._fields)),
            sigma=described["sigma"],
            transform=TRANSFORMS[kind].from_json(transform),
            choices=described["choices"],
            loss=arrays["loss"],
        )
        wanted = jax.tree.map(_form, jax.eval_shape(fitted.vae.init, jax.random.key(0)))
        is_whole = wanted == jax.tree.map(_form, fitted.params) and (
            fitted.latent.means.shape[1] == fitted.architecture["latent_dim"]
        )
        if is_whole:
            _require_usable(fitted)
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise ValueError(f"{accepted}; {DESCRIPTION} or {ARRAYS} is damaged ({error})") from None
    if not is_whole:
        raise ValueError(f"{accepted}; {ARRAYS} holds the numbers of another model")
    return fitted


def _form(leaf: Any) -> str:
    return f"{leaf.dtype} {leaf.shape}"


def _require_usable(fitted: Fitted) -> None:
    """Raises what its first use would raise."""
    if not (isinstance(fitted.sigma, float) and 0 < fitted.sigma < math.inf):
        raise ValueError(f"sigma must be a finite number above 0, got {fitted.sigma!r}")
    if not isinstance(fitted.choices, dict):
        raise TypeError("choices must be an object")
    if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((fitted.params, fitted.latent))):
        raise ValueError("parameters must be finite")
    fitted.transform.inverse(np.zeros((1, fitted.architecture["dim"]), np.float32))


def model_of(architecture: dict[str, Any]) -> VAE:
    """The VAE of these arguments of :func:`spread_jax.make_vae`, in JSON's own types."""
    shape = architecture["shape"]
    return make_vae(**{**architecture, "shape": tuple(shape) if shape else None})
