"""Multivariate drift against scikit-learn, SciPy and definitions; its promises over many seeds."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose
from numpy.typing import NDArray
from scipy import stats
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.metrics.pairwise import rbf_kernel

from kedge_kernels import multivariate as mv
from support.floats import commit_seed
from support.reference_drift import slow_mmd

SEEDS = 200
RNG = np.random.default_rng(0)


def correlated(rng: np.random.Generator, rows: int, correlation: float) -> NDArray[np.float64]:
    """Three columns, each standard normal whatever the correlation of the first two."""
    data = rng.normal(size=(rows, 3))
    data[:, 1] = correlation * data[:, 0] + math.sqrt(1 - correlation**2) * data[:, 1]
    return data


def pca_p(a: Any, b: Any) -> float:
    return mv.pca_drift(mv.PcaReference.from_data(a), b).p_value


def classifier_p(a: Any, b: Any) -> float:
    return mv.classifier_two_sample(a, b).p_value


def mmd_p(a: Any, b: Any) -> float:
    return mv.mmd_linear(a, b).p_value


TESTS = [pca_p, classifier_p, mmd_p]


def test_reconstruction_errors_are_those_of_scikit_learn() -> None:
    data, current = correlated(RNG, 400, 0.9), correlated(RNG, 50, 0.0)
    reference = mv.PcaReference.from_data(data, explained=0.5)
    order = np.random.default_rng(0).permutation(400)
    learned = data[order[200:]]
    scale = learned.std(axis=0)
    pca = PCA(n_components=reference.directions.shape[1]).fit((learned - learned.mean(0)) / scale)
    rows = (current - learned.mean(axis=0)) / scale
    rest = rows - pca.inverse_transform(pca.transform(rows))
    assert_allclose(reference.errors(current), np.linalg.norm(rest, axis=1), rtol=1e-9)
    others = np.sort(reference.errors(data[order[:200]]))  # not the rows it has learned from
    assert_allclose(reference.error_held_out, others, rtol=1e-12)


@pytest.mark.parametrize("ridge", [0.1, 1.0, 20.0])
def test_the_classifier_is_scikit_learns(ridge: float) -> None:
    x = RNG.normal(size=(300, 4))
    y = (x[:, 0] + RNG.normal(size=300) > 0.5).astype(float)
    found = mv.logistic_fit(np.concatenate([x, np.ones((300, 1))], axis=1), y, ridge)
    oracle = LogisticRegression(C=1 / ridge, tol=1e-10, max_iter=1000).fit(x, y)
    assert_allclose(found[:-1], oracle.coef_[0], rtol=1e-4, atol=1e-6)
    assert_allclose(found[-1], oracle.intercept_[0], rtol=1e-4, atol=1e-6)


def test_a_classifier_that_separates_everything_still_ends() -> None:
    a, b = np.zeros((20, 1)) + RNG.normal(size=(20, 1)) * 1e-3, np.full((20, 1), 9.0)
    found = mv.classifier_two_sample(a, b)
    assert found.auc == 1.0
    assert found.p_value < 0.001


@pytest.mark.parametrize("decimals", [1, 8])
def test_auc_and_p_value_are_those_of_scikit_learn_and_mann_whitney(decimals: int) -> None:
    a = np.round(RNG.normal(size=150), decimals)
    b = np.round(RNG.normal(0.4, size=120), decimals)
    found = mv._judge(a, b, 0.05)
    auc = roc_auc_score(np.repeat([0, 1], [150, 120]), np.concatenate([a, b]))
    assert_allclose(found.auc, auc, rtol=1e-12)
    oracle = stats.mannwhitneyu(b, a, alternative="greater", use_continuity=False)
    assert_allclose(found.p_value, oracle.pvalue, rtol=1e-9)
    assert found.low < found.auc < found.high


def test_mmd_is_its_definition_and_unbiased() -> None:
    a, b = RNG.normal(size=(41, 2)), RNG.normal(1, size=(60, 2))
    terms = np.empty(20)
    mv.mmd_terms(a, b, 1.5, terms)
    assert_allclose(terms, slow_mmd(a.tolist(), b.tolist(), 1.5), rtol=1e-12)
    kernel = [rbf_kernel(p, q, gamma=1 / (2 * 1.5**2)) for p, q in ((a, a), (b, b), (a, b))]
    even, odd = np.arange(0, 40, 2), np.arange(1, 40, 2)
    whole = kernel[0][even, odd] + kernel[1][even, odd]
    whole = whole - kernel[2][even, odd] - kernel[2][odd, even]
    assert_allclose(terms, whole, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("test", TESTS)
@pytest.mark.parametrize(("n", "m"), [(300, 300), (600, 150)])
def test_windows_without_drift_alarm_at_most_as_often_as_alpha_says(
    test: Callable[..., float], n: int, m: int
) -> None:
    rng = np.random.default_rng([commit_seed(), n])
    alpha = 0.05
    count = sum(
        test(correlated(rng, n, 0.8), correlated(rng, m, 0.8)) <= alpha for _ in range(SEEDS)
    )
    # Exceeded with probability 1e-6 if the true rate were 6.5 %, what a normal limit may cost.
    assert count <= stats.binom.isf(1e-6, SEEDS, 1.3 * alpha)


@pytest.mark.parametrize("test", TESTS)
def test_a_stated_drift_is_found(test: Callable[..., float]) -> None:
    rng = np.random.default_rng(commit_seed())
    shift = 0.0 if test is pca_p else 1.0
    correlation = -0.8 if test is pca_p else 0.8
    count = sum(
        test(correlated(rng, 600, 0.8), correlated(rng, 600, correlation) + shift) <= 0.05
        for _ in range(30)
    )
    assert count >= 27


def test_a_change_of_relations_alone_is_found_by_pca_and_by_no_single_column() -> None:
    rng = np.random.default_rng(commit_seed())
    reference, current = correlated(rng, 2000, 0.9), correlated(rng, 500, -0.9)
    found = mv.pca_drift(mv.PcaReference.from_data(reference), current)
    assert found.ratio > 1.5
    assert found.p_value < 1e-6
    assert min(stats.ks_2samp(reference[:, f], current[:, f]).pvalue for f in range(3)) > 1e-4


def test_a_change_of_spread_needs_the_squares() -> None:
    rng = np.random.default_rng(commit_seed())
    a, b = rng.normal(size=(1000, 2)), rng.normal(0, 2, size=(1000, 2))
    assert mv.classifier_two_sample(a, b).auc > 0.7
    assert abs(mv.classifier_two_sample(a, b, squares=False).auc - 0.5) < 0.15


def test_the_interval_of_the_auc_covers_the_truth() -> None:
    rng = np.random.default_rng(commit_seed())
    truth = stats.norm.cdf(0.5 / math.sqrt(2))
    covered = 0
    for _ in range(SEEDS):
        found = mv._judge(rng.normal(size=200), rng.normal(0.5, size=150), 0.1)
        covered += found.low <= truth <= found.high
    assert covered >= stats.binom.ppf(1e-6, SEEDS, 0.88)


def test_missing_values_constant_columns_and_infinities_are_no_obstacle() -> None:
    a = np.column_stack([RNG.normal(size=40), np.full(40, 3.0), np.full(40, np.nan)])
    a[3, 0], a[4, 0] = np.nan, np.inf
    for test in TESTS:
        assert 0 <= test(a, a[:20]) <= 1
    constant = np.ones((20, 2))
    assert mv.pca_drift(mv.PcaReference.from_data(constant), constant) == (1.0, 1.0)
    assert mv.classifier_two_sample(constant, constant).p_value == 1.0
    assert mv.mmd_linear(constant, constant).p_value == 1.0
    assert all(map(math.isnan, mv.pca_drift(mv.PcaReference.from_data(a), np.empty((0, 3)))))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: mv.mmd_linear(np.ones((7, 1)), np.ones((8, 1))),
            r"reference: expected at least 8",
        ),
        (lambda: mv.mmd_linear(np.ones((8, 1)), np.ones((8, 2))), "expected the same columns"),
        (lambda: mv.mmd_linear(np.ones((8, 1)), np.ones((8, 1)), width=0), "width: expected"),
        (lambda: mv.classifier_two_sample(np.ones((9, 1)), np.ones((9, 0))), "current: expected"),
        (lambda: mv.classifier_two_sample(np.ones((9, 1)), np.ones((9, 1)), ridge=0), "ridge"),
        (lambda: mv.classifier_two_sample(np.ones((9, 1)), np.ones((9, 1)), alpha=2), "alpha"),
        (lambda: mv.PcaReference.from_data(np.ones((9, 1)), explained=1.0), "explained"),
        (
            lambda: mv.PcaReference.from_data(np.ones((9, 2))).errors(np.ones((9, 1))),
            "data: expected 2 columns",
        ),
    ],
)
def test_what_does_not_fit_is_refused(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
