import jax
import numpy as np
import pytest
import scipy.linalg
from sklearn.linear_model import LogisticRegression

from spread_jax.data import Dataset, load_dataset
from spread_jax.judgement import judge_samples
from spread_jax.sample_quality import (
    Classifier,
    frechet_distance,
    precision_recall,
    quality_metrics,
    train_classifier,
)

RNG = np.random.default_rng(0)


def test_frechet_distance_is_that_of_the_gaussians_of_the_moments():
    """Truth: SciPy's matrix square root."""
    x = RNG.normal(size=(50, 4)) @ RNG.normal(size=(4, 4))
    y = RNG.normal(size=(80, 4)) @ RNG.normal(size=(4, 4)) + 1
    cov_x, cov_y = np.cov(x.T), np.cov(y.T)
    root = scipy.linalg.sqrtm(cov_x @ cov_y)
    squared = np.sum((x.mean(0) - y.mean(0)) ** 2)
    truth = squared + np.trace(cov_x + cov_y - 2 * root.real)
    np.testing.assert_allclose(frechet_distance(x, y), truth, rtol=1e-9)
    np.testing.assert_allclose(frechet_distance(y, x), truth, rtol=1e-9)
    np.testing.assert_allclose(frechet_distance(x, x), 0, atol=1e-9)


def test_frechet_distance_of_one_feature_and_of_constant_features():
    """Closed form: (m₁ - m₂)² + (s₁ - s₂)²; a constant feature adds only its means."""
    x, y = RNG.normal(size=(40, 1)), 3 + 2 * RNG.normal(size=(60, 1))
    truth = (x.mean() - y.mean()) ** 2 + (x.std(ddof=1) - y.std(ddof=1)) ** 2
    np.testing.assert_allclose(frechet_distance(x, y), truth)
    padded = [np.column_stack([points, np.full(len(points), c)]) for points, c in ((x, 1), (y, 3))]
    np.testing.assert_allclose(frechet_distance(*padded), truth + 4)
    copied = [np.repeat(points, 3, axis=1) for points in (x, y)]  # singular, and not lost in digits
    np.testing.assert_allclose(frechet_distance(*copied), 3 * truth, rtol=1e-12)


def test_precision_and_recall_are_counted_ball_by_ball():
    """Truth: brute force in plain loops."""
    real, samples = RNG.normal(size=(30, 2)), 1.5 * RNG.normal(size=(25, 2)) + 0.5

    def share_inside(points, centres, k=3):
        inside = 0
        for point in points:
            hit = False
            for centre in centres:
                radius = sorted(np.linalg.norm(other - centre) for other in centres)[k]
                hit |= np.linalg.norm(point - centre) <= radius  # [0] is the centre itself
            inside += hit
        return inside / len(points)

    precision, recall = precision_recall(real, samples)
    assert 0 < precision < 1
    assert precision == share_inside(samples, real)
    assert recall == share_inside(real, samples)


def test_samples_of_one_mode_are_precise_and_recall_half():
    """By construction: two far modes of equal size, samples equal to those of one."""
    mode = RNG.normal(size=(20, 3))
    real = np.concatenate([mode, mode + 100])
    assert precision_recall(real, mode) == (1.0, 0.5)


def test_a_ball_contains_its_border():
    """By hand: only 6 reaches as far as 9, exactly its radius; no sample reaches a real point."""
    real, samples = np.array([[0.0], [1.0], [3.0], [6.0]]), np.array([[9.0], [9.5], [20.0], [30.0]])
    assert precision_recall(real, samples, num_neighbours=1) == (0.25, 0.0)


def test_samples_that_are_not_finite_have_no_quality():
    real = RNG.normal(size=(20, 3))
    one_entry = real.copy()
    one_entry[0, 0] = np.nan
    for samples in (np.full((20, 3), np.nan), one_entry):
        assert np.isnan(precision_recall(real, samples)).all()
        assert np.isnan(precision_recall(samples, real)).all()


@pytest.fixture(scope="module")
def classifier():
    data = load_dataset("digits")
    return train_classifier(jax.random.key(0), data.train, data.train_labels, 1500)


@pytest.mark.slow
def test_the_classifier_is_as_good_as_another_librarys(classifier):
    """Truth: scikit-learn's logistic regression on the same split, within 5 standard errors."""
    data = load_dataset("digits")
    theirs = LogisticRegression(max_iter=500).fit(data.train, data.train_labels)
    score = theirs.score(data.test, data.test_labels)
    ours = classifier.accuracy(data.test, data.test_labels)
    assert ours > score - 5 * np.sqrt(score * (1 - score) / len(data.test))
    assert ours > 0.95
    assert classifier.features(data.test).shape == (240, 32)


@pytest.mark.slow
def test_noise_lowers_the_quality(classifier):
    """Held-out digits under more and more noise: farther in Fréchet distance, less precise."""
    data = load_dataset("digits")
    real = classifier.features(data.train)
    noise = np.random.default_rng(0).normal(size=data.test.shape).astype(np.float32)
    noisy = [classifier.features(data.test + sigma * noise) for sigma in (0.0, 0.2, 0.5)]
    distances = [frechet_distance(real, features) for features in noisy]
    assert distances[0] < distances[1] < distances[2]
    precisions = [precision_recall(real, features)[0] for features in noisy]
    assert precisions[0] > precisions[1] > precisions[2]


def test_precision_and_recall_of_repeated_rows_are_brute_force():
    """A loop over points and balls; four copies have balls of radius 0, which hold their like."""
    rng = np.random.default_rng(0)
    points = rng.normal(size=(30, 8)) * 10 + 100
    real, samples = np.repeat(points, 4, axis=0), np.repeat(points[:25], 5, axis=0)
    samples = np.concatenate([samples, rng.normal(size=(10, 8)) * 10 + 100])

    def share(points, centres):
        inside = 0
        radii = [sorted(np.linalg.norm(centres - c, axis=1))[3] for c in centres]
        for point in points:
            distances = np.linalg.norm(centres - point, axis=1)
            inside += any(d <= r for d, r in zip(distances, radii, strict=True))
        return inside / len(points)

    truth = share(samples, real), share(real, samples)
    assert truth[0] > 0.9
    assert precision_recall(real, samples) == truth


def test_precision_and_recall_of_too_few_rows_are_not_known():
    few, many = np.eye(3), np.arange(30.0).reshape(10, 3)
    precision, recall = precision_recall(many, few)
    assert np.isfinite(precision)
    assert np.isnan(recall)
    assert np.isnan(precision_recall(few, few)).all()
    with pytest.raises(ValueError, match="num_neighbours"):
        precision_recall(many, many, num_neighbours=0)


@pytest.mark.slow
def test_labels_may_be_any_integers():
    """Truth: the classifier of the labels 0 and 1, number for number."""
    x = np.random.default_rng(0).normal(size=(100, 2)).astype(np.float32)
    small = (x[:, 0] > 0).astype(np.int64)
    huge = np.where(small == 1, 10**12, -5)
    expected = train_classifier(jax.random.key(0), x, small, 50)
    found = train_classifier(jax.random.key(0), x, huge, 50)
    np.testing.assert_array_equal(found.labels, [-5, 10**12])
    np.testing.assert_array_equal(found.features(x), expected.features(x))
    assert found.accuracy(x, huge) == expected.accuracy(x, small) > 0.8


def test_the_metrics_of_quality_share_the_features_of_images_cut_to_what_is_seen(monkeypatch):
    """Truths: the three numbers of the images cut to [0, 1]; two sets of features, once each."""
    rng = np.random.default_rng(0)
    x = rng.uniform(size=(60, 4)).astype(np.float32)
    classifier = train_classifier(jax.random.key(0), x, (x[:, 0] > 0.5).astype(np.int64), 20)
    samples = (x[:40] + 0.5 * rng.normal(size=(40, 4))).astype(np.float32)
    seen = classifier.features(x), classifier.features(samples.clip(0, 1))
    truth = [frechet_distance(*seen), *precision_recall(*seen)]
    calls, features = [], Classifier.features
    monkeypatch.setattr(Classifier, "features", lambda c, x: (calls.append(x), features(c, x))[1])
    of = quality_metrics(classifier, x)
    found = judge_samples(samples, Dataset("by hand", x, x, x), of)
    assert [*found.values()] == truth
    assert [len(points) for points in calls] == [60, 40]
    assert [metric.better for metric in of] == ["lower", "higher", "higher"]
    samples[0, 0] = np.inf  # which a cut would make a white pixel
    assert np.isnan([*judge_samples(samples, Dataset("by hand", x, x, x), of).values()]).all()
