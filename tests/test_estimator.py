"""The recipe as an estimator of scikit-learn."""

import jax
import numpy as np
import pytest
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

from spread_jax import SpreadDensity

pytestmark = [
    pytest.mark.slow,  # each trains, or needs what is trained
    pytest.mark.filterwarnings("ignore:z says almost nothing of a row"),  # after so few steps
]

X = np.random.default_rng(0).normal(size=(90, 2))


def quick(**parameters):
    small = {"num_steps": 10, "num_seeds": 1, "hidden": (4,), "latent_sizes": (1,)}
    return SpreadDensity(**small, latent_dim=1, sigma_fix=0.3, random_state=0, **parameters)


@pytest.fixture(scope="module")
def fitted():
    return quick().fit(X)


def test_scikit_learns_own_checks_pass(as_users_run_it):
    """Truth: scikit-learn's rules for its estimators; the names of the checks that fail."""
    checks = check_estimator(quick(), on_fail=None, on_skip=None)
    assert len(checks) > 30
    assert [each["check_name"] for each in checks if each["status"] == "failed"] == []


def test_a_score_is_the_mean_bound_over_draws(fitted):
    """Truth: the bounds of Fitted, each row with draws of its own; 5 standard errors."""
    scores = fitted.score_samples(X)
    draws = np.stack([fitted.fitted_.bound(jax.random.key(i), X) for i in range(64)])
    # the 16 draws of the score are the same for all rows: their mean scatters as a whole
    error = draws.std(axis=0) * np.sqrt(1 / 16 + 1 / 64)
    assert (np.abs(scores - draws.mean(axis=0)) < 5 * error).all()
    assert fitted.score(X) == pytest.approx(scores.mean())


def test_a_rows_score_does_not_depend_on_the_others(fitted):
    order = np.random.default_rng(1).permutation(len(X))
    np.testing.assert_array_equal(fitted.score_samples(X[order]), fitted.score_samples(X)[order])


def test_samples_are_those_of_the_model(fitted):
    drawn = fitted.sample(5, random_state=1)
    seed = np.random.RandomState(1).randint(2**31 - 1)
    np.testing.assert_array_equal(drawn, fitted.fitted_.sample(jax.random.key(seed), 5))


def test_it_works_in_a_pipeline_under_cross_validation():
    pipeline = make_pipeline(StandardScaler(), quick())
    assert np.isfinite(cross_val_score(pipeline, X, cv=2)).all()
