"""Tests of two samples against SciPy and against counting all orders, and their promises."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray
from scipy import stats

from kedge_kernels.sample_tests import (
    anderson_darling,
    cramer_von_mises,
    ks_2samp,
    ks_w1_exact,
    sorted_columns,
    wasserstein_1d,
)
from support import reference_drift as slow
from support.floats import commit_seed, matrices, property_test, samples

Sample = NDArray[np.float64]
Test = Callable[..., tuple[float, float]]
TESTS: list[Test] = [ks_2samp, wasserstein_1d, cramer_von_mises, anderson_darling]
SEEDS = 200


@property_test
@given(samples(1), samples(1))
def test_ks_and_wasserstein_are_their_definitions(a: Sample, b: Sample) -> None:
    assert_allclose(ks_2samp(a, b)[0], float(slow.slow_ks(a.tolist(), b.tolist())), rtol=1e-12)
    distance, p_value = wasserstein_1d(a, b)
    assert math.isnan(p_value)
    expected = slow.slow_wasserstein(a.tolist(), b.tolist())
    assert_allclose(distance, expected, rtol=1e-9, atol=1e-9)
    assert_allclose(distance, stats.wasserstein_distance(a, b), rtol=1e-9, atol=1e-9)


@property_test
@given(samples(1), samples(1))
def test_ks_is_that_of_scipy(a: Sample, b: Sample) -> None:
    expected = stats.ks_2samp(a, b)
    assert_allclose(ks_2samp(a, b), (expected.statistic, expected.pvalue), rtol=1e-9)


@pytest.mark.parametrize(("n", "m"), [(1, 1), (1, 4), (3, 4), (4, 4), (5, 3), (6, 6)])
def test_the_exact_ks_p_value_is_the_share_of_all_orders(n: int, m: int) -> None:
    rng = np.random.default_rng(n * 10 + m)
    for _ in range(3):
        a, b = rng.normal(size=n), rng.normal(1, size=m)
        statistic = slow.slow_ks(a.tolist(), b.tolist())
        assert_allclose(ks_2samp(a, b)[1], slow.slow_ks_p_value(statistic, n, m), rtol=1e-12)


SIZES = [(100, 80), (1000, 1000), (3000, 50), (20_000, 100), (30_000, 1), (30_000, 20_000)]


@pytest.mark.parametrize(("n", "m"), SIZES)
@pytest.mark.parametrize("shift", [0.0, 0.05, 0.5])
def test_large_samples_have_the_p_values_of_scipy(n: int, m: int, shift: float) -> None:
    rng = np.random.default_rng(commit_seed())
    a, b = rng.normal(size=n), rng.normal(shift, size=m)
    expected = stats.ks_2samp(a, b)
    # Pelz and Good's expansion with less than 1,000 values is good to five digits.
    assert_allclose(ks_2samp(a, b), (expected.statistic, expected.pvalue), rtol=1e-5, atol=1e-300)
    if m > 1:
        cvm = stats.cramervonmises_2samp(a, b)
        assert_allclose(cramer_von_mises(a, b), (cvm.statistic, cvm.pvalue), rtol=1e-6, atol=1e-7)
    check_anderson_darling(a, b)


def check_anderson_darling(a: Sample, b: Sample) -> None:
    with np.testing.suppress_warnings() as quiet:
        quiet.filter(UserWarning)  # SciPy says so where it caps the p-value
        expected = stats.anderson_ksamp([a, b], variant="midrank")
    assert_allclose(anderson_darling(a, b), (expected.statistic, expected.pvalue), rtol=1e-7)


@property_test
@given(samples(2), samples(2))
def test_anderson_darling_is_that_of_scipy(a: Sample, b: Sample) -> None:
    assume(len({*a, *b}) > 1)
    check_anderson_darling(a, b)


@pytest.mark.parametrize(("n", "m"), [(2, 2), (2, 5), (4, 3), (5, 5)])
def test_the_exact_cramer_von_mises_p_value_is_the_share_of_all_orders(n: int, m: int) -> None:
    rng = np.random.default_rng(n * 10 + m)
    a, b = rng.normal(size=n), rng.normal(1, size=m)
    statistic, p_value = cramer_von_mises(a, b)
    assert_allclose(statistic, slow.slow_cvm(a.tolist(), b.tolist()), rtol=1e-12)
    assert_allclose(p_value, slow.slow_cvm_p_value(a.tolist(), b.tolist()), rtol=1e-12)


@pytest.mark.parametrize(
    ("n", "m", "ties"),
    [(7, 7, 0), (7, 7, 1), (8, 12, 0), (20, 20, 0), (20, 20, 1), (21, 5, 0), (60, 60, 1)],
)
def test_small_cramer_von_mises_is_that_of_scipy(n: int, m: int, ties: bool) -> None:
    rng = np.random.default_rng(commit_seed())
    a, b = rng.normal(size=n), rng.normal(0.5, size=m)
    if ties:
        a, b = np.round(a), np.round(b)
    expected = stats.cramervonmises_2samp(a, b)
    found = cramer_von_mises(a, b)
    assert_allclose(found, (expected.statistic, expected.pvalue), rtol=1e-7, atol=1e-7)


def test_cramer_von_mises_with_ties_is_its_mean_over_orders_of_the_tied_values() -> None:
    rng = np.random.default_rng(0)
    a, b = np.array([1.0, 1, 1, 2, 2, 3]), np.array([1.0, 1, 2])
    broken = [
        cramer_von_mises(a + rng.uniform(0, 0.1, 6), b + rng.uniform(0, 0.1, 3))[0]
        for _ in range(20_000)
    ]
    error = 5 * np.std(broken) / math.sqrt(len(broken))
    assert abs(np.mean(broken) - cramer_von_mises(a, b)[0]) < error


def test_ties_between_samples_of_different_sizes_are_no_evidence() -> None:
    rng = np.random.default_rng(commit_seed())
    a, b = np.round(rng.normal(size=5000)), np.round(rng.normal(size=300))
    assert stats.cramervonmises_2samp(a, b).pvalue < 1e-6  # what is not copied
    assert cramer_von_mises(a, b)[1] > 1e-6
    # Nothing but ties: the statistic's mean under no drift.
    assert_allclose(cramer_von_mises(np.zeros(5000), np.zeros(300))[0], 1 / 6, rtol=1e-3)


@pytest.mark.parametrize("test", TESTS)
def test_nan_is_missing_and_minus_zero_is_zero(test: Test) -> None:
    a, b = [1.0, -0.0, 2.0, 5.0], [0.0, 3.0, 4.0, 1.5, 7.0]
    expected = test(a, b)
    found = test([math.nan, 1, 0.0, math.nan, 2, 5], [0, 3, math.nan, 4, 1.5, 7])
    assert_array_equal(found, expected)


@pytest.mark.parametrize("test", TESTS)
def test_a_sample_without_values_has_no_result(test: Test) -> None:
    for a, b in (([], [1.0]), ([1.0], []), ([math.nan], [1.0, 2.0]), ([], [])):
        assert all(math.isnan(value) for value in test(a, b))


@pytest.mark.parametrize("test", TESTS)
def test_samples_of_other_shapes_and_types_are_refused(test: Test) -> None:
    with pytest.raises(
        ValueError, match=r"sample_a: expected 1 dimension\(s\), got shape \(1, 1\)"
    ):
        test([[1.0]], [1.0])
    with pytest.raises(ValueError, match="sample_b: expected numbers, got dtype <U1"):
        test([1.0], ["a"])


@pytest.mark.parametrize("test", [ks_2samp, cramer_von_mises])
def test_an_unknown_method_is_refused(test: Test) -> None:
    with pytest.raises(ValueError, match="method: expected one of auto, exact, asymptotic"):
        test([1.0], [1.0], method="fast")


def test_one_value_and_constant_columns_are_defined() -> None:
    assert ks_2samp([1.0], [1.0]) == (0.0, 1.0)
    assert ks_2samp([1.0], [2.0]) == (1.0, 1.0)
    assert wasserstein_1d([1.0], [3.5])[0] == 2.5
    assert all(map(math.isnan, cramer_von_mises([1.0], [2.0, 3.0])))
    assert all(map(math.isnan, anderson_darling([1.0], [2.0, 3.0])))
    assert all(map(math.isnan, anderson_darling([1.0] * 9, [1.0] * 9)))
    assert ks_2samp([1.0] * 9, [1.0] * 5) == (0.0, 1.0)


def test_infinities_are_ordered_as_numbers() -> None:
    inf = math.inf
    a, b = [-inf, 0.0, 1.0, inf], [0.5, 1.0, inf, -inf]
    expected = stats.ks_2samp([-9, 0, 1, 9], [0.5, 1, 9, -9])
    assert_allclose(ks_2samp(a, b), (expected.statistic, expected.pvalue))
    assert_allclose(wasserstein_1d(a, b)[0], 0.5 / 4)
    assert wasserstein_1d([0.0, inf], [0.0, 1.0])[0] == inf
    assert wasserstein_1d([0.0, -inf], [0.0, 1.0])[0] == inf
    assert wasserstein_1d([-inf, inf], [-inf, inf])[0] == 0.0
    assert ks_2samp([inf, inf], [0.0, inf])[0] == 0.5
    assert ks_2samp([-inf, inf], [inf, inf])[0] == 0.5


def test_denormals_are_distinct_values() -> None:
    least = 5e-324
    assert ks_2samp([0.0, 0.0], [least, least])[0] == 1.0
    assert ks_2samp([least], [2 * least])[0] == 1.0
    assert wasserstein_1d([0.0], [least])[0] == least


@property_test
@given(st.data(), st.sampled_from([np.float32, np.float64]))
def test_all_columns_at_once_are_each_column(data: st.DataObject, dtype: Any) -> None:
    reference, current = data.draw(matrices(dtype)), data.draw(matrices(dtype))
    features = min(reference.shape[1], current.shape[1])
    reference, current = reference[:, :features], current[:, :features]
    with np.errstate(over="ignore"):
        ks, w1 = ks_w1_exact(sorted_columns(reference), current)
    for feature in range(features):
        a, b = reference[:, feature], current[:, feature]
        assert_array_equal(ks[feature], ks_2samp(a, b)[0])
        assert_allclose(w1[feature], wasserstein_1d(a, b)[0], rtol=1e-9)


def test_columns_that_do_not_fit_are_refused() -> None:
    reference = sorted_columns(np.zeros((3, 2), np.float32))
    with pytest.raises(ValueError, match=r"current: expected 2 columns, got \[4, 3\]"):
        ks_w1_exact(reference, np.zeros((4, 3)))
    with pytest.raises(ValueError, match=r"reference_sorted: expected float32 or float64 \[F, n\]"):
        ks_w1_exact(np.zeros((2, 3), int), np.zeros((4, 2)))


@pytest.mark.parametrize("test", [ks_2samp, cramer_von_mises, anderson_darling])
@pytest.mark.parametrize(("n", "m"), [(19, 12), (60, 60), (800, 90)])
@pytest.mark.parametrize("decimals", [None, 1])
def test_windows_without_drift_alarm_at_most_as_often_as_alpha_says(
    test: Test, n: int, m: int, decimals: int | None
) -> None:
    rng = np.random.default_rng([commit_seed(), n])
    alpha, count = 0.05, 0
    for _ in range(SEEDS):
        a, b = rng.normal(size=n), rng.normal(size=m)
        if decimals is not None:
            a, b = np.round(a, decimals), np.round(b, decimals)
        count += test(a, b)[1] <= alpha
    # Exceeded with probability 1e-6 if the true rate were 6 %, what a limit may cost.
    assert count <= stats.binom.isf(1e-6, SEEDS, 1.2 * alpha)


@pytest.mark.parametrize("test", [ks_2samp, cramer_von_mises, anderson_darling])
def test_a_stated_shift_is_found(test: Test) -> None:
    rng = np.random.default_rng(commit_seed())
    found = sum(
        test(rng.normal(size=1000), rng.normal(0.25, size=500))[1] <= 0.05 for _ in range(SEEDS)
    )
    # Power about 0.98 for each; less than 0.88 has probability below 1e-9.
    assert found >= 0.88 * SEEDS
