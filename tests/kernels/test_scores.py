"""Streaming scores against scikit-learn and against exact sums."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics
from sklearn.calibration import calibration_curve

from kedge_kernels._frames import pack
from kedge_kernels.scores import (
    Accuracy,
    Brier,
    CalibrationError,
    LogLoss,
    MeanAbsoluteError,
    Pinball,
    RootMeanSquaredError,
)
from support import reference_scores as reference
from support.seeds import generator

SKLEARN: list[tuple[Callable[[], Any], Callable[[Any, Any], float], bool]] = [
    (Accuracy, metrics.accuracy_score, False),
    (LogLoss, lambda y, p: metrics.log_loss(y, p, labels=[0, 1]), True),
    (Brier, lambda y, p: metrics.brier_score_loss(y, p, pos_label=1), True),
    (MeanAbsoluteError, metrics.mean_absolute_error, False),
    (RootMeanSquaredError, metrics.root_mean_squared_error, False),
    (lambda: Pinball(0.9), lambda y, p: metrics.mean_pinball_loss(y, p, alpha=0.9), False),
]
TWINS: list[tuple[Callable[[], Any], Callable[[float, float], float], bool]] = [
    (Accuracy, reference.right, False),
    (LogLoss, reference.log_loss, True),
    (Brier, reference.square, True),
    (MeanAbsoluteError, reference.absolute, False),
    (lambda: Pinball(0.3), lambda y, p: reference.pinball(y, p, 0.3), False),
]
NAMES = ["accuracy", "log loss", "brier", "mae", "rmse", "pinball"]
number = st.floats(-1e100, 1e100)
chance = st.floats(0, 1)


@pytest.mark.parametrize(("make", "oracle", "of_chances"), SKLEARN, ids=NAMES)
@pytest.mark.parametrize("count", [1, 2, 1000])
def test_a_score_is_scikit_learns(
    make: Callable[[], Any], oracle: Callable[[Any, Any], float], of_chances: bool, count: int
) -> None:
    rng = generator(f"score {count}")
    labels = rng.integers(0, 2, count).astype(float)
    predictions = rng.random(count)
    if not of_chances:
        labels, predictions = labels * 100, np.where(rng.random(count) < 0.5, labels * 100, 7.5)
    if make is Accuracy:
        labels, predictions = labels.astype(int), predictions.astype(int)
    if make is LogLoss:
        predictions[0] = 1 - labels[0]
    score = make()
    for part in np.array_split(np.arange(count), 3):
        score.update(labels[part], predictions[part])
    assert math.isclose(score.value, oracle(labels, predictions), rel_tol=1e-12)
    assert score.count == count


@pytest.mark.parametrize(("make", "loss", "of_chances"), TWINS)
@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_a_score_is_the_exact_mean_however_it_is_split_and_merged(
    make: Callable[[], Any],
    loss: Callable[[float, float], float],
    of_chances: bool,
    data: st.DataObject,
) -> None:
    label = st.sampled_from([0.0, 1.0]) if of_chances else number
    pairs = data.draw(st.lists(st.tuples(label, chance if of_chances else number), max_size=30))
    cuts = sorted(data.draw(st.lists(st.integers(0, 30), min_size=2, max_size=2)))
    labels = np.array([y for y, _ in pairs])
    predictions = np.array([p for _, p in pairs])
    score = make()
    for part in np.split(np.arange(labels.size), cuts):
        piece = make()
        piece.update(labels[part], predictions[part])
        score.merge(type(piece).from_bytes(piece.to_bytes()))
    expected = reference.mean([loss(y, p) for y, p in pairs])
    assert score.count == len(pairs)
    assert (not pairs and math.isnan(score.value)) or math.isclose(
        score.value, expected, rel_tol=1e-12, abs_tol=1e-300
    )


def test_ten_million_small_losses_beside_a_great_one_are_not_lost() -> None:
    count = 1000 if numba.config.DISABLE_JIT else 1_000_000
    score = MeanAbsoluteError()
    score.update([1e16], [0.0])
    score.update(np.full(count, 0.1), np.zeros(count))
    assert score.value * (count + 1) == 1e16 + count / 10


@pytest.mark.parametrize("make", [pair[0] for pair in SKLEARN], ids=NAMES)
def test_pairs_that_are_not_finite_are_skipped_and_counted(make: Callable[[], Any]) -> None:
    score = make()
    score.update([1.0, math.nan, 0.0, 1.0, math.inf], [0.5, 0.5, math.nan, math.inf, 0.5])
    assert (score.count, score.skipped) == (1, 4)
    only = make()
    only.update([1.0], [0.5])
    assert score.value == only.value


def test_a_score_of_nothing_is_no_number() -> None:
    for make, _, _ in SKLEARN:
        score = make()
        assert math.isnan(score.value)
        score.update([], [])
        assert math.isnan(score.value)
        assert "nan of 0 pairs" in repr(score)


def test_losses_that_leave_float64_are_infinite_and_denormal_ones_are_kept() -> None:
    score = RootMeanSquaredError()
    score.update([1e200, 1.0], [-1e200, 1.0])
    assert score.value == math.inf
    small = MeanAbsoluteError()
    small.update([5e-324, 5e-324], [0.0, 0.0])
    assert small.value == 5e-324


def test_a_certain_and_wrong_probability_costs_36_nats() -> None:
    score = LogLoss()
    score.update([1.0, 0.0], [0.0, 1.0])
    assert math.isclose(score.value, -math.log(2**-52), rel_tol=1e-12)


@settings(max_examples=60, deadline=None)
@given(
    pairs=st.lists(
        st.tuples(
            st.sampled_from([0.0, 1.0]), st.one_of(chance, st.integers(0, 10).map(lambda k: k / 10))
        ),
        min_size=1,
        max_size=60,
    ),
    bins=st.integers(1, 20),
    cut=st.integers(0, 60),
)
def test_calibration_error_is_that_of_scikit_learns_curve(
    pairs: list[tuple[float, float]], bins: int, cut: int
) -> None:
    labels, chances = np.array(pairs).T
    score, second = CalibrationError(bins), CalibrationError(bins)
    score.update(labels[:cut], chances[:cut])
    second.update(labels[cut:], chances[cut:])
    score.merge(CalibrationError.from_bytes(second.to_bytes()))
    positives, means = calibration_curve(labels, chances, n_bins=bins)
    edges = np.linspace(0, 1, bins + 1)
    rows = np.bincount(np.searchsorted(edges[1:-1], chances), minlength=bins)
    rows = rows[rows > 0]
    gaps = np.abs(positives - means)
    assert math.isclose(score.value, (rows * gaps).sum() / rows.sum(), rel_tol=1e-9, abs_tol=1e-12)
    assert math.isclose(score.maximum, gaps.max(), rel_tol=1e-9, abs_tol=1e-12)
    assert score.count == len(pairs)


def test_a_perfect_model_has_about_the_calibration_error_that_chance_leaves() -> None:
    rng = generator("calibration")
    chances = np.full(20_000, 0.5) if numba.config.DISABLE_JIT else rng.random(200_000)
    score = CalibrationError()
    score.update((rng.random(chances.size) < chances).astype(float), chances)
    assert score.value < 5 * 0.8 * math.sqrt(15 * 0.25 / chances.size)
    score.update(np.zeros(chances.size), np.minimum(chances + 0.5, 1))
    assert score.value > 0.3


def test_missing_pairs_do_not_count_for_calibration_either() -> None:
    score = CalibrationError()
    assert math.isnan(score.value)
    assert math.isnan(score.maximum)
    score.update([math.nan, 1.0, 1.0], [0.5, math.nan, 1.0])
    assert (score.count, score.skipped, score.value) == (1, 2, 0.0)


def test_states_of_others_are_refused() -> None:
    with pytest.raises(ValueError, match="merge: expected"):
        Pinball(0.5).merge(Pinball(0.6))
    with pytest.raises(ValueError, match="merge: expected"):
        MeanAbsoluteError().merge(Brier())  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="merge: expected 15 bins"):
        CalibrationError(15).merge(CalibrationError(10))
    data = Brier().to_bytes()
    for wrong in (b"", data[:-1], LogLoss().to_bytes(), pack("Brier", [1.0, 0, 0, 0, 0])):
        with pytest.raises(ValueError, match="state of Brier"):
            Brier.from_bytes(wrong)
    for numbers in ([0, -1, 0, 0, 0], [0, math.nan, 0, 0, 0], [0, 0, 0, 0, 2.0**60]):
        with pytest.raises(ValueError, match="state of Brier"):
            Brier.from_bytes(pack("Brier", numbers))
    for numbers in ([], [0, 1, 2], [0, 1, 2, math.nan], [0, 1, 2, -3]):
        with pytest.raises(ValueError, match="state of Calibration"):
            CalibrationError.from_bytes(pack("Calibration", numbers))


@pytest.mark.parametrize(
    ("make", "labels", "predictions", "message"),
    [
        (LogLoss, [0.5], [0.5], "labels: expected 0 or 1, got 0.5 at 0"),
        (Brier, [1, 0], [0.5, 1.5], r"predictions: expected numbers in \[0, 1\], got 1.5 at 1"),
        (CalibrationError, [2], [0.5], "labels: expected 0 or 1, got 2.0 at 0"),
        (MeanAbsoluteError, [1, 2], [1], "labels and predictions: expected equal lengths"),
        (MeanAbsoluteError, [[1]], [1], "labels: expected 1 dimension"),
    ],
)
def test_wrong_pairs_are_refused_and_nothing_is_taken_in(
    make: Callable[[], Any], labels: Any, predictions: Any, message: str
) -> None:
    score = make()
    with pytest.raises(ValueError, match=message):
        score.update(labels, predictions)
    assert score.count == 0


def test_wrong_parameters_are_refused() -> None:
    with pytest.raises(ValueError, match="quantile: expected"):
        Pinball(1.0)
    with pytest.raises(ValueError, match="bins: expected a whole number 1 to 10000, got 0"):
        CalibrationError(0)
