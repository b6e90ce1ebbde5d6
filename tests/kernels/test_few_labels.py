"""Calibration against scikit-learn; CBPE and PPI against simulation."""

from __future__ import annotations

import math
from typing import Any

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from kedge_kernels._frames import pack
from kedge_kernels.calibration import IsotonicCalibrator, PlattCalibrator
from kedge_kernels.few_labels import Cbpe, ExpectedConfusion, PpiMean
from support import reference_evidence as reference
from support.seeds import generator

Floats = NDArray[np.float64]

pairs = st.lists(
    st.tuples(st.one_of(st.floats(-1e3, 1e3), st.integers(0, 5).map(float)), st.booleans()),
    min_size=1,
    max_size=30,
)


@settings(max_examples=60, deadline=None)
@given(pairs=pairs)
def test_isotonic_calibration_is_scikit_learns_and_the_min_max_formulas(
    pairs: list[tuple[float, bool]],
) -> None:
    scores, labels = [s for s, _ in pairs], [float(y) for _, y in pairs]
    ours = IsotonicCalibrator(scores, labels)
    for score, chance in reference.isotonic(scores, labels).items():
        assert math.isclose(ours.probabilities(score)[0], chance, rel_tol=1e-9, abs_tol=1e-12)
    # Scikit-learn takes scores that are a rounding apart for one.
    if np.diff(np.unique(scores), prepend=-np.inf).min() > 1e-6:
        theirs = IsotonicRegression(out_of_bounds="clip").fit(scores, labels)
        grid = np.concatenate([np.linspace(-1100, 1100, 50), scores])
        assert np.allclose(ours.probabilities(grid), theirs.predict(grid), atol=1e-9)


def logistic(scores: Floats, labels: Floats) -> tuple[float, float]:
    """Platt's sigmoid by scikit-learn: every row as both labels, weighted by its target."""
    positives, negatives = labels.sum(), (1 - labels).sum()
    high, low = (positives + 1) / (positives + 2), 1 / (negatives + 2)
    targets = np.where(labels > 0, high, low)
    fitted = LogisticRegression(C=np.inf, tol=1e-12, max_iter=10_000, solver="newton-cholesky").fit(
        np.concatenate([scores, scores])[:, None],
        np.repeat([1, 0], scores.size),
        np.concatenate([targets, 1 - targets]),
    )
    return float(fitted.coef_[0, 0]), float(fitted.intercept_[0])


@pytest.mark.parametrize("count", [3, 40, 2000])
@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_platts_sigmoid_is_scikit_learns_at_every_scale(count: int, scale: float) -> None:
    rng = generator(f"platt {count}")
    scores = rng.normal(0, 2, count)
    labels = (rng.random(count) < 1 / (1 + np.exp(-(1.5 * scores - 1)))).astype(float)
    labels[:2] = 0, 1
    slope, offset = logistic(scores, labels)
    ours = PlattCalibrator(scores * scale, labels)
    assert math.isclose(ours.slope * scale, slope, rel_tol=1e-4, abs_tol=1e-5)
    assert math.isclose(ours.offset, offset, rel_tol=1e-4, abs_tol=1e-5)


def test_scores_that_separate_the_classes_or_do_not_differ_give_a_finite_sigmoid() -> None:
    separated = PlattCalibrator([-3, -2, -1, 1, 2, 3], [0, 0, 0, 1, 1, 1])
    chances = separated.probabilities([-1e6, -1, 1, 1e6])
    assert np.isfinite(chances).all()
    assert (np.diff(chances) > 0).all()
    equal = PlattCalibrator(np.full(10, 7.0), [1, 0] * 5)
    assert np.allclose(equal.probabilities([7.0]), 0.5)
    one_class = PlattCalibrator([1.0, 2.0, 3.0], [1, 1, 1])
    assert (one_class.probabilities([1.0, 2.0, 3.0]) > 0.5).all()


def test_missing_scores_stay_missing_and_infinite_ones_are_the_ends() -> None:
    for calibrator in (
        IsotonicCalibrator([0.1, 0.9], [0, 1]),
        PlattCalibrator([0.1, 0.5, 0.9], [0, 1, 1]),
    ):
        chances = calibrator.probabilities([math.nan, -math.inf, math.inf])
        assert math.isnan(chances[0])
        assert 0 <= chances[1] < chances[2] <= 1


def test_calibrators_are_saved() -> None:
    rng = generator("calibrator bytes")
    scores, labels = rng.random(50), rng.random(50) < 0.5
    for made in (IsotonicCalibrator(scores, labels), PlattCalibrator(scores, labels)):
        again = type(made).from_bytes(made.to_bytes())
        assert again.probabilities(scores).tolist() == made.probabilities(scores).tolist()
        assert again.score_range == made.score_range
        with pytest.raises(ValueError, match="state of"):
            type(made).from_bytes(made.to_bytes()[:-1])
    for numbers in ([], [1.0], [0.0, 1.0, 0.5, 1.5], [1.0, 0.0, 0.5, 0.5], [math.nan, 0.5]):
        with pytest.raises(ValueError, match="state of Isotonic"):
            IsotonicCalibrator.from_bytes(pack("Isotonic", numbers))
    with pytest.raises(ValueError, match="state of Platt"):
        PlattCalibrator.from_bytes(pack("Platt", [math.inf, 0, 0, 1]))


@pytest.mark.parametrize("kind", [IsotonicCalibrator, PlattCalibrator])
@pytest.mark.parametrize(
    ("scores", "labels"), [([], []), ([math.nan], [1]), ([1.0], [0.5]), ([1.0, 2.0], [1])]
)
def test_wrong_references_are_refused(kind: Any, scores: Any, labels: Any) -> None:
    with pytest.raises(ValueError, match="expected"):
        kind(scores, labels)


class Identity:
    """Scores that are probabilities already."""

    score_range = (0.0, 1.0)

    def probabilities(self, scores: Any) -> Floats:
        return np.asarray(scores, dtype=np.float64)


@settings(max_examples=40, deadline=None)
@given(
    scores=st.lists(st.floats(0, 1), min_size=1, max_size=50),
    threshold=st.floats(0, 1),
    cut=st.integers(0, 50),
)
def test_expected_confusion_is_the_sum_of_chances_however_rows_are_split(
    scores: list[float], threshold: float, cut: int
) -> None:
    first, second = Cbpe(Identity(), threshold), Cbpe(Identity(), threshold)
    first.update(scores[:cut])
    second.update([*scores[cut:], math.nan])
    first.merge(second)
    expected = reference.confusion(scores, scores, threshold)
    assert np.allclose(first.confusion, expected, rtol=1e-9, atol=1e-9)
    again = Cbpe(Identity(), threshold)
    again.load(first.to_bytes())
    assert again.confusion == first.confusion


def test_performance_is_estimated_without_labels_when_only_the_inputs_shift() -> None:
    """The model is fitted in one place and used in another; its scores need calibration."""
    rng = generator("cbpe")

    def draw(count: int, shift: float) -> tuple[Floats, Floats]:
        x = rng.normal(shift, 1, count)
        labels = (rng.random(count) < 1 / (1 + np.exp(-2 * x))).astype(float)
        return 1 / (1 + np.exp(-5 * x)), labels

    reference_scores, reference_labels = draw(50_000, 0.0)
    scores, labels = draw(20_000, 0.7)
    calibrator = IsotonicCalibrator(reference_scores, reference_labels)
    estimate = Cbpe(calibrator)
    estimate.update(scores)
    accuracy = ((scores >= 0.5) == labels).mean()
    # Six standard deviations of the draw, and 0.01 for the calibrator's own error.
    assert abs(estimate.confusion.accuracy - accuracy) < 6 * estimate.accuracy_sd + 0.01
    positive = scores >= 0.5
    assert abs(estimate.confusion.precision - labels[positive].mean()) < 0.03
    recall = labels[positive].sum() / labels.sum()
    assert abs(estimate.confusion.recall - recall) < 0.03
    assert estimate.outside_share < 0.01
    # Believing the scores themselves would have promised far too much.
    naive = Cbpe(Identity())
    naive.update(scores)
    assert naive.confusion.accuracy - accuracy > 0.04


def test_scores_beyond_the_reference_are_counted() -> None:
    estimate = Cbpe(IsotonicCalibrator([0.2, 0.8], [0, 1]))
    assert math.isnan(estimate.outside_share)
    estimate.update([0.1, 0.2, 0.5, 0.9])
    assert estimate.outside_share == 0.5


def test_measures_of_a_confusion_matrix() -> None:
    matrix = ExpectedConfusion(6.0, 2.0, 3.0, 9.0)
    assert matrix.accuracy == 0.75
    assert matrix.precision == 0.75
    assert math.isclose(matrix.recall, 2 / 3)
    assert math.isclose(matrix.f1, 2 * 0.75 * (2 / 3) / (0.75 + 2 / 3))
    empty = ExpectedConfusion(0.0, 0.0, 0.0, 0.0)
    assert math.isnan(empty.accuracy)
    assert math.isnan(empty.f1)


@pytest.mark.parametrize("asymptotic", [False, True])
def test_few_labels_and_many_predictions_cover_the_mean_at_all_times(asymptotic: bool) -> None:
    """The model is biased by 0.1, which the labels correct."""
    rng = generator(f"ppi {asymptotic}")
    runs = 10 if numba.config.DISABLE_JIT else 200
    alpha, missed = 0.1, 0
    for _ in range(runs):
        ppi = PpiMean(alpha, asymptotic=asymptotic)
        covered = True
        for _ in range(30):
            chances = rng.beta(2, 2, 110)
            labels = (rng.random(110) < chances).astype(float)
            predictions = np.clip(chances + 0.1, 0, 1)
            ppi.update_unlabelled(predictions[:100])
            ppi.update_labelled(labels[100:], predictions[100:])
            low, high = ppi.interval()
            covered &= low <= 0.5 <= high
        missed += not covered
    assert missed <= runs * alpha + 5 * math.sqrt(runs * alpha * (1 - alpha))
    assert high - low < 0.5
    assert abs(ppi.estimate - 0.5) < 0.15


def test_a_good_model_makes_the_interval_narrower_than_the_labels_alone() -> None:
    rng = generator("ppi width")
    widths = []
    for noise in (0.02, 0.5):
        ppi = PpiMean(0.05)
        truth = rng.random(100_000)
        predictions = np.clip(truth + rng.normal(0, noise, truth.size), 0, 1)
        ppi.update_unlabelled(predictions[1000:])
        ppi.update_labelled(truth[:1000], predictions[:1000])
        low, high = ppi.interval()
        widths.append(high - low)
        assert math.isclose(
            ppi.estimate,
            predictions[1000:].mean() + (truth[:1000] - predictions[:1000]).mean(),
            rel_tol=1e-9,
        )
    assert widths[0] < widths[1] / 2


@pytest.mark.parametrize("asymptotic", [False, True])
def test_a_ppi_mean_is_saved_and_goes_on(asymptotic: bool) -> None:
    rng = generator("ppi bytes")
    ppi = PpiMean(0.05, -1.0, 2.0, asymptotic)
    assert math.isnan(ppi.estimate)
    assert ppi.interval() == (-1.0, 2.0)
    ppi.update_unlabelled(rng.random(300))
    ppi.update_labelled(rng.random(60), rng.random(60))
    again = PpiMean.from_bytes(ppi.to_bytes())
    assert (again.estimate, again.interval()) == (ppi.estimate, ppi.interval())
    assert again.to_bytes() == ppi.to_bytes()
    for wrong in (b"", ppi.to_bytes()[:-8], ppi.to_bytes()[8:]):
        with pytest.raises(ValueError, match="state of"):
            PpiMean.from_bytes(wrong)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: PpiMean(0.0), "alpha: expected"),
        (lambda: PpiMean(0.1, 1.0, 0.0), "lower, upper: expected"),
        (lambda: PpiMean(0.1).update_unlabelled([2.0]), "predictions: expected .* got 2.0"),
        (lambda: PpiMean(0.1).update_labelled([-1.0], [0.5]), "labels: expected .* got -1.0"),
        (lambda: PpiMean(0.1).update_labelled([1.0], [0.5, 0.5]), "expected equal lengths"),
    ],
)
def test_wrong_arguments_are_refused(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
