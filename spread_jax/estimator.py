"""The recipe as an estimator of scikit-learn, for pipelines and cross-validation."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, DensityMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from spread_jax.arms import TWENTIETH
from spread_jax.models.fitted_latent import SIZES
from spread_jax.recipe import fit

NUM_DRAWS = 16  # of noise and z, over which a row's score is averaged
ROWS_AT_ONCE = 256


class SpreadDensity(DensityMixin, BaseEstimator):
    """A density of numbers that lie on a thin set, as an estimator of scikit-learn.

    Its methods are those of :class:`sklearn.neighbors.KernelDensity`. The parameters are arguments
    of :func:`spread_jax.fit`, which takes text and categories too.

    Args:
      sigma_fix, noise_end, latent_dim, latent_sizes, hidden: as in :func:`spread_jax.fit`.
      num_steps, num_seeds, batch_size, learning_rate: as in :func:`spread_jax.fit`.
      random_state: an integer, a ``RandomState`` of NumPy, or None: another fit each time.

    Attributes:
      fitted_: the :class:`spread_jax.Fitted` model.
      n_features_in_: number of columns.

    Examples:
      >>> x = np.random.default_rng(0).normal(size=(100, 2))
      >>> density = sj.SpreadDensity(num_steps=10, num_seeds=1, latent_sizes=(1,), random_state=0)
      >>> density.fit(x).score_samples(x).shape, density.sample(5).shape
      ((100,), (5, 2))
    """

    def __init__(  # noqa: D107
        self,
        *,
        sigma_fix: float | None = None,
        noise_end: float = TWENTIETH,
        latent_dim: int | None = None,
        latent_sizes: Sequence[int] = SIZES,
        hidden: Sequence[int] | None = None,
        num_steps: int | None = None,
        num_seeds: int = 3,
        batch_size: int = 128,
        learning_rate: float = 1e-3,
        random_state: Any = None,
    ) -> None:
        self.sigma_fix = sigma_fix
        self.noise_end = noise_end
        self.latent_dim = latent_dim
        self.latent_sizes = latent_sizes
        self.hidden = hidden
        self.num_steps = num_steps
        self.num_seeds = num_seeds
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.random_state = random_state

    def fit(self, X: ArrayLike, y: Any = None) -> "SpreadDensity":  # noqa: N803
        """Fits the model to the rows of X, ``[rows, columns]``; y is not used.

        Raises:
          ValueError: if X holds no finite numbers, or as :func:`spread_jax.fit`.
        """
        x = validate_data(self, X, dtype=np.float64, ensure_min_samples=3)
        arguments = self.get_params()
        seed = check_random_state(arguments.pop("random_state")).randint(2**31 - 1)
        self.fitted_ = fit(jax.random.key(seed), x, quiet=True, **arguments)
        return self

    def score_samples(self, X: ArrayLike) -> NDArray[np.float64]:  # noqa: N803
        """The spread ELBO of each row, in nats, averaged over 16 draws that all rows share.

        Raises:
          ValueError: if X has other columns.
        """
        check_is_fitted(self)
        x = validate_data(self, X, dtype=np.float64, reset=False)
        z = np.asarray(self.fitted_.transform.apply(x), np.float32)
        keys = jax.random.split(jax.random.key(0), NUM_DRAWS)
        vae, params, spread = self.fitted_.vae, self.fitted_.params, self.fitted_.spread

        @jax.jit
        def scores(rows: jax.Array) -> jax.Array:
            # one key for all rows: a row's score does not depend on the others
            def of_row(key: jax.Array, row: jax.Array) -> jax.Array:
                return vae.bound(params, key, row[None], spread).elbo[0]

            of_rows = jax.vmap(jax.vmap(of_row, (None, 0)), (0, None))
            return of_rows(keys, rows).mean(axis=0)

        # batches of one size: what XLA adds up in another order differs in its last digits
        padded = np.resize(z, (-(-len(z) // ROWS_AT_ONCE) * ROWS_AT_ONCE, z.shape[1]))
        parts = [scores(part) for part in padded.reshape(-1, ROWS_AT_ONCE, z.shape[1])]
        return np.concatenate(parts)[: len(z)].astype(np.float64)

    def score(self, X: ArrayLike, y: Any = None) -> float:  # noqa: N803
        """The mean of :meth:`score_samples`, higher is better; y is not used."""
        return float(self.score_samples(X).mean())

    def sample(self, n_samples: int = 1, random_state: Any = None) -> NDArray[np.float64]:
        """Clean rows ``[n_samples, columns]``.

        Raises:
          ValueError: if ``n_samples`` is no whole number of 1 or more.
        """
        check_is_fitted(self)
        seed = check_random_state(random_state).randint(2**31 - 1)
        return np.asarray(self.fitted_.sample(jax.random.key(seed), n_samples))
