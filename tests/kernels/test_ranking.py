"""Areas under curves against scikit-learn and all pairs; the bounds on what bins cost."""

from __future__ import annotations

import math
from typing import Any

import numba
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score

from kedge_kernels._frames import pack
from kedge_kernels.ranking import BinnedRanking, auprc, auroc
from support import reference_scores as reference
from support.seeds import generator

score = st.one_of(st.floats(0, 1), st.integers(0, 5).map(lambda k: k / 5))
pairs = st.lists(st.tuples(st.booleans(), score), min_size=1, max_size=60)


@settings(max_examples=80, deadline=None)
@given(pairs=st.lists(st.tuples(st.booleans(), st.floats(allow_nan=False)), max_size=25))
def test_areas_are_those_over_all_pairs(pairs: list[tuple[bool, float]]) -> None:
    labels, scores = [y for y, _ in pairs], [s for _, s in pairs]
    for ours, twin in ((auroc, reference.auroc), (auprc, reference.auprc)):
        found, expected = ours(labels, scores), twin(labels, scores)
        assert (math.isnan(found) and math.isnan(expected)) or math.isclose(
            found, expected, rel_tol=1e-12
        )


@settings(max_examples=60, deadline=None)
@given(pairs=pairs)
def test_areas_are_scikit_learns(pairs: list[tuple[bool, float]]) -> None:
    labels, scores = np.array([y for y, _ in pairs]), np.array([s for _, s in pairs])
    assume(labels.any() and not labels.all())
    assert math.isclose(auroc(labels, scores), roc_auc_score(labels, scores), rel_tol=1e-9)
    assert math.isclose(
        auprc(labels, scores), average_precision_score(labels, scores), rel_tol=1e-9
    )


def test_areas_of_many_rows_are_scikit_learns() -> None:
    rng = generator("ranking")
    count = 2000 if numba.config.DISABLE_JIT else 100_000
    labels = rng.random(count) < 0.02
    scores = np.round(rng.normal(labels * 1.5, 1), 2)
    assert math.isclose(auroc(labels, scores), roc_auc_score(labels, scores), rel_tol=1e-9)
    assert math.isclose(
        auprc(labels, scores), average_precision_score(labels, scores), rel_tol=1e-9
    )


@settings(max_examples=80, deadline=None)
@given(pairs=pairs, bins=st.integers(2, 12), cut=st.integers(0, 60))
def test_binned_areas_are_those_of_binned_scores_and_within_their_bounds(
    pairs: list[tuple[bool, float]], bins: int, cut: int
) -> None:
    labels, scores = np.array([y for y, _ in pairs]), np.array([s for _, s in pairs])
    whole, second = BinnedRanking(bins), BinnedRanking(bins)
    whole.update(labels[:cut], scores[:cut])
    second.update(labels[cut:], scores[cut:])
    whole.merge(BinnedRanking.from_bytes(second.to_bytes()))
    binned = np.minimum(np.floor(scores * bins), bins - 1)
    assert whole.count == len(pairs)
    for found, exact, oracle in (
        (whole.auroc, auroc(labels, scores), auroc(labels, binned)),
        (whole.auprc, auprc(labels, scores), auprc(labels, binned)),
    ):
        assert (math.isnan(found) and math.isnan(exact)) or math.isclose(found, oracle)
    if not math.isnan(whole.auroc):
        assert abs(whole.auroc - auroc(labels, scores)) <= whole.auroc_error_max + 1e-12
    least, most = whole.auprc_bounds
    if labels.any():
        assert least - 1e-12 <= auprc(labels, scores) <= most + 1e-12


def test_the_bound_of_average_precision_holds_for_the_worst_and_the_best_order() -> None:
    for negatives in (0, 1, 5, 50):
        for positives in (1, 2, 7):
            labels = [False] * negatives + [True] * positives
            ranking = BinnedRanking(2)
            ranking.update(labels, np.full(len(labels), 0.25))
            least, most = ranking.auprc_bounds
            rising, falling = np.arange(len(labels), 0.0, -1), np.arange(len(labels))
            assert least - 1e-12 <= auprc(labels, rising)
            assert auprc(labels, falling) <= most + 1e-12
            assert auprc(labels, [0.0] * negatives + [1.0] * positives) <= most + 1e-12


def test_four_thousand_bins_cost_less_than_a_thousandth() -> None:
    rng = generator("bins")
    count = 2000 if numba.config.DISABLE_JIT else 100_000
    labels = rng.random(count) < 0.1
    scores = 1 / (1 + np.exp(-rng.normal(labels * 2.0 - 1.0, 1)))
    ranking = BinnedRanking()
    ranking.update(labels, scores)
    assert ranking.auroc_error_max < 1e-3
    assert abs(ranking.auroc - roc_auc_score(labels, scores)) <= ranking.auroc_error_max
    least, most = ranking.auprc_bounds
    assert least <= average_precision_score(labels, scores) <= most
    assert least <= ranking.auprc <= most


def test_scores_beyond_the_bins_and_infinite_ones_fall_into_the_end_bins() -> None:
    ranking = BinnedRanking(10, low=-20, high=20)
    ranking.update([0, 0, 1, 1], [-math.inf, -50.0, 20.0, math.inf])
    assert (ranking.count, ranking.auroc, ranking.auroc_error_max) == (4, 1.0, 0.0)


def test_missing_scores_are_skipped_in_a_stream_and_refused_in_a_batch() -> None:
    ranking = BinnedRanking()
    ranking.update([1, 0], [math.nan, 0.5])
    assert (ranking.count, ranking.skipped) == (1, 1)
    for area in (auroc, auprc):
        with pytest.raises(ValueError, match="scores: expected numbers, got NaN"):
            area([1, 0], [math.nan, 0.5])


def test_one_class_or_no_row_has_no_area() -> None:
    ranking = BinnedRanking()
    assert math.isnan(ranking.auroc)
    assert math.isnan(ranking.auroc_error_max)
    assert math.isnan(ranking.auprc_bounds[0])
    assert math.isnan(auroc([], []))
    assert math.isnan(auroc([1, 1], [0.1, 0.2]))
    assert auprc([1, 1], [0.1, 0.2]) == 1.0
    assert math.isnan(auprc([0, 0], [0.1, 0.2]))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: BinnedRanking(1), "bins: expected"),
        (lambda: BinnedRanking(low=1.0, high=1.0), "low, high: expected"),
        (lambda: BinnedRanking(low=-math.inf), "low, high: expected"),
        (lambda: BinnedRanking().update([1], [0.1, 0.2]), "expected equal lengths"),
        (lambda: BinnedRanking().update([3], [0.1]), "labels: expected truths"),
        (lambda: BinnedRanking().merge(BinnedRanking(8)), "merge: expected bins as"),
        (lambda: BinnedRanking().merge(BinnedRanking(low=-1.0)), "merge: expected bins as"),
        (lambda: BinnedRanking.from_bytes(b""), "state of BinnedRanking"),
        (lambda: BinnedRanking.from_bytes(pack("BinnedRanking", [0, 1, 0, 1])), "state of"),
        (lambda: BinnedRanking.from_bytes(pack("BinnedRanking", [0, 1, 0])), "bins: expected"),
        (lambda: BinnedRanking.from_bytes(pack("BinnedRanking", [1, 0, 0, *[0] * 4])), "low, high"),
        (
            lambda: BinnedRanking.from_bytes(pack("BinnedRanking", [0, 1, 0, *[-1] * 4])),
            "expected counts",
        ),
    ],
)
def test_wrong_arguments_are_refused(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
