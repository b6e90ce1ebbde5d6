"""Scores against their definitions."""

from itertools import product

import numpy as np
import pytest
from scores import auc, score


@pytest.mark.parametrize("levels", [2, 5, 1_000])
def test_auc_is_the_share_of_pairs_ranked_right_with_ties_as_half(levels: int):
    random = np.random.default_rng(levels)
    late = random.random(60) < 0.3
    probability = (random.integers(levels, size=60) / levels).astype(np.float32)
    pairs = list(product(probability[late], probability[~late]))
    expected = sum((above > below) + 0.5 * (above == below) for above, below in pairs) / len(pairs)
    assert auc(late, probability) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("late", [True, False])
def test_auc_of_a_single_class_is_nan(late: bool):
    assert np.isnan(auc(np.array([late, late]), np.array([0.1, 0.9], dtype=np.float32)))


def test_score_counts_an_answer_right_when_it_is_on_the_side_of_the_truth():
    late = np.array([True, True, False, False])
    scored = score(late, np.array([0.75, 0.25, 0.25, 0.25], dtype=np.float32))
    assert (scored.flights, scored.late_share, scored.prediction_mean) == (4, 0.5, 0.375)
    assert scored.accuracy == 0.75
    assert scored.brier == pytest.approx((3 * 0.25**2 + 0.75**2) / 4)
    assert scored.auc == 0.75
