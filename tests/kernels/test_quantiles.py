"""Quantile sketches against the sorted values they stand for."""

from __future__ import annotations

import builtins
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from scipy import stats

from kedge_kernels.quantile_bytes import is_kll
from kedge_kernels.quantiles import QuantileSketch, weighted_w1
from kedge_kernels.sketch_bytes import DIGEST_BYTES, sealed
from support.floats import commit_seed, property_test


def sketch_of(values: Any, k: int = 200) -> QuantileSketch:
    sketch = QuantileSketch(np.asarray(values).shape[1], k)
    sketch.update(values)
    return sketch


def test_ranks_are_within_the_promised_error() -> None:
    values = np.random.default_rng(commit_seed()).standard_cauchy((50_000, 2)).astype(np.float32)
    sketch = sketch_of(values)
    ranks = np.array([0.01, 0.25, 0.5, 0.9, 0.99])
    for feature, found in enumerate(sketch.quantiles(ranks)):
        true = np.searchsorted(np.sort(values[:, feature]), found) / len(values)
        # The promise holds with 99 %: twice of it, so that commits do not fail by chance.
        assert np.abs(true - ranks).max() < 2 * sketch.rank_error


def test_few_values_are_kept_exactly_and_nan_is_ignored() -> None:
    values = np.array([[1.0, np.nan], [3.0, np.nan], [2.0, np.nan]])
    sketch = sketch_of(values)
    assert sketch.counts.tolist() == [3, 0]
    assert sketch.quantiles([0.0, 0.5, 1.0])[0].tolist() == [1.0, 2.0, 3.0]
    assert np.isnan(sketch.quantiles([0.5])[1]).all()
    assert np.isnan(sketch.wasserstein(sketch)[1])


def test_merged_parts_are_as_good_as_the_whole() -> None:
    values = np.random.default_rng(commit_seed()).normal(size=(40_000, 1))
    total = QuantileSketch(1)
    for part in np.split(values, 8):
        total.merge(QuantileSketch.from_bytes(sketch_of(part).to_bytes()))
    assert total.counts.tolist() == [40_000]
    found = total.quantiles([0.5])[0, 0]
    assert abs(stats.norm.cdf(found) - 0.5) < 3 * total.rank_error


def test_the_wasserstein_distance_is_near_scipys() -> None:
    rng = np.random.default_rng(commit_seed())
    a, b = rng.normal(size=(20_000, 2)), rng.normal([0.5, 0], [1, 3], size=(5000, 2))
    found = sketch_of(a, 800).wasserstein(sketch_of(b, 800))
    for feature in range(2):
        expected = stats.wasserstein_distance(a[:, feature], b[:, feature])
        assert_allclose(found[feature], expected, rtol=0.1)


WEIGHTED = st.lists(
    st.tuples(st.integers(-5, 5).map(float) | st.floats(-1e6, 1e6), st.integers(1, 9)),
    min_size=1,
    max_size=12,
)


@property_test
@given(WEIGHTED, WEIGHTED)
def test_the_distance_of_weighted_values_is_scipys(
    a: list[tuple[float, int]], b: list[tuple[float, int]]
) -> None:
    (x, u), (y, v) = (np.array(sorted(pairs), np.float64).T.copy() for pairs in (a, b))
    found = weighted_w1(x.copy(), u.copy(), y.copy(), v.copy())
    assert_allclose(found, stats.wasserstein_distance(x, y, u, v), rtol=1e-9, atol=1e-9)


def test_infinities_are_far_unless_both_have_the_same_share() -> None:
    inf, one, two = np.array([-np.inf, 0.0, np.inf]), np.ones(3), np.array([1.0, 2.0, 1.0])
    assert weighted_w1(inf, one, inf, one) == 0.0
    assert weighted_w1(inf, one, inf, two) == math.inf
    assert math.isnan(weighted_w1(np.empty(0), np.empty(0), inf, one))


WHOLE = sketch_of(np.random.default_rng(0).normal(size=(9000, 2)).astype(np.float32)).to_bytes()


@property_test
@given(st.integers(0, len(WHOLE) - 1), st.integers(1, 255))
def test_damaged_bytes_are_refused(place: int, flip: int) -> None:
    damaged = bytearray(WHOLE)
    damaged[place] ^= flip
    for data in (WHOLE[:place], bytes(damaged), WHOLE + b"\0"):
        with pytest.raises(ValueError, match="quantile sketch"):
            QuantileSketch.from_bytes(data)


@property_test
@given(st.lists(st.tuples(st.integers(0, 120), st.integers(0, 255)), min_size=1, max_size=4))
def test_forged_bytes_with_a_right_digest_break_nothing(changes: list[tuple[int, int]]) -> None:
    forged = bytearray(WHOLE[:-DIGEST_BYTES])
    for place, value in changes:
        forged[place] = value
    try:
        sketch = QuantileSketch.from_bytes(sealed(bytes(forged)))
    except ValueError as error:
        assert "quantile sketch" in str(error)  # noqa: PT017 - a changed value may be a sketch too
        return
    assert sketch.features == 2
    sketch.wasserstein(sketch)
    sketch.merge(sketch_of(np.zeros((5000, 2))))
    assert sketch.quantiles([0.5]).shape == (2, 1)


@pytest.mark.parametrize("k", [8, 9, 200, 1000])
@pytest.mark.parametrize("rows", [0, 1, 2, 7, 8, 9, 199, 1000, 30_000, 300_000])
def test_every_real_sketch_is_taken(k: int, rows: int) -> None:
    values = np.random.default_rng(rows).normal(size=(rows, 1)).astype(np.float32)
    sketch = sketch_of(values, k)
    sketch.merge(sketch_of(values[: rows // 3], k))
    assert QuantileSketch.from_bytes(sketch.to_bytes()).to_bytes() == sketch.to_bytes()
    assert not is_kll(sketch._vector.serialize()[0] + b"\0", k)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: QuantileSketch(0), "features: expected an integer of at least 1"),
        (lambda: QuantileSketch(1, 7), "k: expected an integer of at least 8"),
        (lambda: sketch_of([[1.0]]).update([[1.0, 2.0]]), "values: expected 1 columns"),
        (lambda: sketch_of([[1.0]]).merge(sketch_of([[1.0, 2.0]])), "other: expected 1 columns"),
        (lambda: sketch_of([[1.0]]).wasserstein(sketch_of([[1.0, 2.0]])), "other: expected 1"),
        (lambda: sketch_of([[1.0]]).quantiles([1.5]), "ranks: expected numbers from 0 to 1"),
    ],
)
def test_what_does_not_fit_is_refused(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_without_datasketches_the_error_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = builtins.__import__

    def refuse(name: str, *rest: Any) -> Any:
        if name == "datasketches":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(ImportError, match=r"pip install 'kedge\[stats\]'"):
        QuantileSketch(1)
