"""Many tests at once, against SciPy and the definitions, and that few of the named are false."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from scipy import stats

from kedge_kernels.multiple import benjamini_hochberg, benjamini_yekutieli, e_bh
from support.floats import commit_seed, property_test
from support.reference_drift import slow_benjamini_hochberg

P_VALUES = st.lists(
    st.one_of(st.floats(0, 1), st.sampled_from([0.0, 0.01, 0.02, 0.05, 1.0, math.nan])),
    max_size=12,
)


@property_test
@given(P_VALUES, st.sampled_from([0.01, 0.05, 0.2]))
def test_benjamini_hochberg_is_its_definition(p_values: list[float], alpha: float) -> None:
    found = benjamini_hochberg(p_values, alpha)
    assert found.tolist() == slow_benjamini_hochberg(p_values, alpha)
    assert found.dtype == np.bool_


@pytest.mark.parametrize(
    ("ours", "method"), [(benjamini_hochberg, "bh"), (benjamini_yekutieli, "by")]
)
def test_scipy_names_the_same(ours: object, method: str) -> None:
    assert callable(ours)
    rng = np.random.default_rng(commit_seed())
    for _ in range(100):
        p_values = rng.uniform(size=50) ** rng.uniform(1, 6)
        adjusted = stats.false_discovery_control(p_values, method=method)
        assert_array_equal(ours(p_values, 0.05), adjusted <= 0.05)


def test_the_bound_itself_is_rejected_and_what_is_above_it_is_not() -> None:
    assert benjamini_hochberg([0.025, 0.9], 0.05).tolist() == [True, False]
    assert benjamini_hochberg([math.nextafter(0.025, 1), 0.9], 0.05).tolist() == [False, False]
    # The third is below its bound, and takes the first two with it.
    assert benjamini_hochberg([0.04, 0.045, 0.05], 0.05).tolist() == [True] * 3
    assert benjamini_yekutieli([0.04, 0.045, 0.05], 0.05).tolist() == [False] * 3


def test_tests_without_a_result_are_not_counted() -> None:
    assert benjamini_hochberg([0.03, math.nan, 0.9], 0.05).tolist() == [False, False, False]
    assert benjamini_hochberg([0.03, math.nan], 0.05).tolist() == [True, False]
    assert benjamini_hochberg([math.nan], 0.05).tolist() == [False]
    for procedure in (benjamini_hochberg, benjamini_yekutieli, e_bh):
        assert procedure([], 0.05).tolist() == []


def test_e_values_are_rejected_from_n_over_k_alpha() -> None:
    assert e_bh([60.0, 1.0, 0.0], 0.05).tolist() == [True, False, False]
    assert e_bh([59.9, 1.0, 0.0], 0.05).tolist() == [False, False, False]
    assert e_bh([30.0, 30.0, 0.0], 0.05).tolist() == [True, True, False]
    assert e_bh([math.inf, math.nan], 0.05).tolist() == [True, False]


@pytest.mark.parametrize("alpha", [0.0, 1.0, -1.0, math.nan])
def test_alpha_is_a_probability(alpha: float) -> None:
    for procedure in (benjamini_hochberg, benjamini_yekutieli, e_bh):
        with pytest.raises(ValueError, match="alpha: expected a number between 0 and 1"):
            procedure([0.5], alpha)


def test_what_are_no_p_or_e_values_is_refused() -> None:
    for values in ([-0.1], [1.1], [math.inf]):
        with pytest.raises(ValueError, match="p_values: expected numbers from 0 to 1"):
            benjamini_hochberg(values, 0.05)
    with pytest.raises(ValueError, match=r"e_values: expected at least 0, got -1\.0"):
        e_bh([2.0, -1.0], 0.05)
    with pytest.raises(ValueError, match=r"p_values: expected 1 dimension\(s\)"):
        benjamini_hochberg([[0.1]], 0.05)


def test_the_share_of_false_alarms_among_the_named_is_at_most_alpha() -> None:
    rng = np.random.default_rng(commit_seed())
    alpha, runs = 0.1, 400
    for procedure in (benjamini_hochberg, benjamini_yekutieli):
        shares = []
        for _ in range(runs):
            z = np.concatenate([rng.normal(3, 1, 10), rng.normal(size=40)])
            named = procedure(stats.norm.sf(z), alpha)
            shares.append(named[10:].sum() / max(named.sum(), 1))
        # Five standard errors: exceeded with probability 3e-7.
        assert np.mean(shares) <= alpha + 5 * np.std(shares) / math.sqrt(runs)
