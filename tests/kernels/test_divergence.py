"""Divergences of counts against their definitions and SciPy, one by one and all in one pass."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray
from scipy.spatial.distance import jensenshannon
from scipy.stats import entropy

from kedge_kernels.count_tests import chi2_two_sample, g_test, ks_binned
from kedge_kernels.divergence import BINNED_STATS, binned_stats, hellinger, js, kl, psi
from kedge_kernels.sketch import Reference, Sketch, update
from support import reference_drift as slow
from support.floats import counts, property_test

Counts = NDArray[np.int64]
Divergence = Callable[..., float]
TWINS: list[tuple[Divergence, Divergence]] = [
    (psi, slow.slow_psi),
    (kl, slow.slow_kl),
    (js, slow.slow_js),
    (hellinger, slow.slow_hellinger),
]
DIVERGENCES = [fast for fast, _ in TWINS]


@property_test
@given(st.data(), st.sampled_from([0.0, 1e-4, 0.3]), st.sampled_from(TWINS))
def test_a_divergence_is_its_definition(
    data: st.DataObject, eps: float, twins: tuple[Divergence, Divergence]
) -> None:
    fast, twin = twins
    expected = data.draw(counts())
    observed = data.draw(counts(expected.size, expected.size))
    found = fast(expected, observed, eps)
    if expected.sum() == 0 or observed.sum() == 0:
        assert math.isnan(found)
        return
    assert_allclose(found, twin(expected.tolist(), observed.tolist(), eps), rtol=1e-9, atol=1e-12)


@property_test
@given(counts(2), st.integers(1, 1000))
def test_scipy_agrees(expected: Counts, seed: int) -> None:
    expected[0] += 1
    observed = np.random.default_rng(seed).integers(1, 100, expected.size)
    assert_allclose(kl(expected, observed), entropy(expected, observed), rtol=1e-9, atol=1e-12)
    distance = jensenshannon(expected, observed)
    assert_allclose(js(expected, observed), np.nan_to_num(distance) ** 2, rtol=1e-9, atol=1e-12)
    both_ways = entropy(expected, observed) + entropy(observed, expected)
    assert_allclose(psi(expected, observed), both_ways, rtol=1e-9, atol=1e-12)


def test_a_bin_that_only_one_side_has_makes_psi_infinite_unless_eps_says_otherwise() -> None:
    assert psi([5, 5, 0], [5, 4, 1]) == math.inf
    assert psi([5, 4, 1], [5, 5, 0]) == math.inf
    assert kl([5, 5, 0], [5, 4, 1]) < math.inf
    assert kl([5, 4, 1], [5, 5, 0]) == math.inf
    assert_allclose(psi([1, 0], [1, 0], eps=0.01), 0.0)
    assert_allclose(
        psi([1, 0], [1, 1], eps=0.01), 0.5 * math.log(1 / 0.5) + 0.49 * math.log(0.5 / 0.01)
    )


def test_a_bin_that_is_empty_on_both_sides_changes_nothing() -> None:
    for divergence in DIVERGENCES:
        assert divergence([3, 0, 7], [5, 0, 5]) == divergence([3, 7], [5, 5])


def test_bounds_are_reached() -> None:
    assert_allclose(js([1, 0], [0, 1]), math.log(2))
    assert_allclose(hellinger([1, 0], [0, 1]), 1.0)
    for divergence in DIVERGENCES:
        assert divergence([2, 4, 6], [1, 2, 3]) == 0.0
        assert math.isnan(divergence([0, 0], [1, 1]))


@pytest.mark.parametrize("divergence", [*DIVERGENCES, chi2_two_sample, g_test, ks_binned])
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([1, 2], [1, 2, 3]), r"expected the same bins, got \(2,\) and \(3,\)"),
        (([], []), "expected at least 1 bin, got 0"),
        (([1, -1], [1, 1]), "finite and at least 0, got -1.0"),
        (([1, 1], [1, math.nan]), "finite and at least 0, got nan"),
        (([math.inf, 1], [1, 1]), "finite and at least 0, got inf"),
        (([[1, 2]], [[1, 2]]), r"expected 1 dimension\(s\), got shape \(1, 2\)"),
        ((["a"], ["b"]), "expected numbers, got dtype"),
    ],
)
def test_what_are_no_counts_is_refused(
    divergence: Callable[..., Any], arguments: tuple[Any, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        divergence(*arguments)


@pytest.mark.parametrize("eps", [-0.1, 1.0, math.nan])
def test_eps_is_a_share(eps: float) -> None:
    with pytest.raises(ValueError, match="eps: expected a share"):
        psi([1], [1], eps)
    with pytest.raises(ValueError, match="eps: expected a share"):
        binned_stats(np.ones((1, 2), int), np.ones((1, 2), int), np.empty((1, 7)), eps)


@property_test
@given(st.data(), st.integers(1, 5), st.integers(2, 12), st.sampled_from([0.0, 1e-3]))
def test_one_pass_over_all_columns_gives_what_each_function_gives(
    data: st.DataObject, features: int, bins: int, eps: float
) -> None:
    rows = st.lists(counts(bins, bins), min_size=features, max_size=features)
    reference, current = np.stack(data.draw(rows)), np.stack(data.draw(rows))
    out = np.empty((features, len(BINNED_STATS)))
    binned_stats(reference, current, out, eps)
    for a, b, found in zip(reference, current, out, strict=True):
        if a.sum() == 0 or b.sum() == 0:
            assert np.isnan(found).all()
            continue
        expected = [divergence(a, b, eps) for divergence in DIVERGENCES]
        expected += [chi2_two_sample(a, b)[0], g_test(a, b)[0]]
        assert_allclose(found[:6], expected, rtol=1e-9, atol=1e-12)
        if a[:-1].sum() and b[:-1].sum():
            assert_allclose(found[6], ks_binned(a[:-1], b[:-1])[0], rtol=1e-12, atol=1e-15)


def test_sketches_are_compared_as_they_are() -> None:
    rng = np.random.default_rng(0)
    reference = Reference.from_data(rng.normal(size=(1000, 300)).astype(np.float32))
    sketch = Sketch(reference)
    update(rng.normal(0.5, size=(200, 300)).astype(np.float32), reference, sketch)
    out = np.empty((300, len(BINNED_STATS)))
    binned_stats(reference.counts, sketch.counts, out)
    one = np.empty((1, len(BINNED_STATS)))
    binned_stats(reference.counts[7:8].copy(), sketch.counts[7:8], one)
    assert_array_equal(one[0], out[7])
    assert_allclose(out[7, 0], psi(reference.counts[7], sketch.counts[7]))


@pytest.mark.parametrize(
    ("reference", "current", "out", "message"),
    [
        (
            np.ones((2, 3)),
            np.ones((2, 3), int),
            np.empty((2, 7)),
            "reference_counts: expected int64",
        ),
        (np.ones((2, 3), int), [[1]], np.empty((2, 7)), "current_counts: expected int64"),
        (np.ones((2, 3), int), np.ones((3, 3), int), np.empty((2, 7)), "expected the same shape"),
        (np.ones((2, 1), int), np.ones((2, 1), int), np.empty((2, 7)), "expected the same shape"),
        (np.ones((2, 3), int), np.ones((2, 3), int), np.empty((2, 6)), "out: expected contiguous"),
        (np.ones((2, 3), int), np.ones((2, 3), int), np.empty((7, 2)).T, "out: expected contig"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(
    reference: Any, current: Any, out: Any, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        binned_stats(reference, current, out)
