"""Sketches against a slow twin and numpy.searchsorted, merging, and what is refused."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray

from kedge_kernels.sketch import BRIEF_VALUES_MAX, Reference, Sketch, merge, update
from support.floats import matrices, property_test
from support.reference_sketch import edges_of, slow_column

F32 = np.float32


def sketch_of(values: Any, reference: Reference) -> Sketch:
    sketch = Sketch(reference)
    update(values, reference, sketch)
    return sketch


def check_against_twin(values: NDArray[Any], reference: Reference, sketch: Sketch) -> None:
    for feature in range(reference.features):
        column = [float(value) for value in values[:, feature]]
        edges = edges_of(reference.edges[feature])
        expected = slow_column(column, edges, float(reference.centers[feature]), reference.bins)
        assert sketch.counts[feature].tolist() == expected.counts
        sums = [expected.sum, expected.squares, expected.least, expected.greatest, expected.finite]
        scale = 1e-12 * sum(abs(x - reference.centers[feature]) for x in column if np.isfinite(x))
        assert_allclose(sketch.moments[0, feature], sums[0], rtol=1e-12, atol=scale)
        assert_allclose(sketch.moments[1:, feature], sums[1:], rtol=1e-12)


@property_test
@given(st.data(), st.sampled_from([F32, np.float64]), st.sampled_from([1, 2, 3, 10, 33, 100]))
def test_update_does_what_one_value_at_a_time_does(data: Any, dtype: Any, bins: int) -> None:
    training = data.draw(matrices(dtype, rows_min=1))
    values = data.draw(matrices(dtype, features_max=1).map(lambda m: np.repeat(m, 4, axis=1)))
    values = values[:, : training.shape[1]]
    if dtype is np.float64:  # beyond it the squares overflow, which the twin cannot do
        values, training = (
            np.where(np.isfinite(array), np.clip(array, -1e150, 1e150), array)
            for array in (values, training)
        )
    reference = Reference.from_data(training, bins)
    check_against_twin(values, reference, sketch_of(values, reference))


def test_squares_beyond_the_greatest_number_are_infinite_and_nothing_else_suffers() -> None:
    reference = Reference.from_data([[0.0], [1.0], [2.0]], bins=3)
    sketch = sketch_of(np.array([[1e200], [1.5]]), reference)
    assert sketch.counts[0].tolist() == [0, 1, 1, 0]
    assert sketch.moments[:, 0].tolist() == [1e200, np.inf, 1.5, 1e200, 2]


@pytest.mark.parametrize("dtype", [F32, np.float64])
@pytest.mark.parametrize("bins", [2, 10, 32, 33, 100, 1000])
@pytest.mark.parametrize("tail", ["normal", "cauchy", "integers", "uniform", "denormal"])
def test_a_bin_is_that_of_searchsorted_bit_for_bit(dtype: Any, bins: int, tail: str) -> None:
    rng = np.random.default_rng(bins)
    training = {
        "normal": rng.normal(size=(3000, 2)),
        "cauchy": rng.standard_cauchy((3000, 2)),
        "integers": rng.integers(-20, 20, (3000, 2)),
        "uniform": rng.uniform(1e6, 1e6 + 1, (3000, 2)),
        "denormal": rng.uniform(0, 100, (3000, 2)) * np.finfo(dtype).smallest_subnormal,
    }[tail].astype(dtype)
    reference = Reference.from_data(training, bins)
    for feature in range(2):
        edges = np.array(edges_of(reference.edges[feature]), dtype)
        # The edges and their nearest neighbours are where rounding would show.
        near = [edges, np.nextafter(edges, -np.inf, dtype=dtype), np.nextafter(edges, np.inf)]
        probes = np.concatenate([*near, training[:500, feature], [np.inf, -np.inf]]).astype(dtype)
        values = np.full((probes.size, 2), np.nan, dtype)
        values[:, feature] = probes
        found = sketch_of(values, reference).counts[feature]
        where = np.searchsorted(edges, probes, side="right")
        assert_array_equal(found[:-1], np.bincount(where, minlength=reference.bins))


def test_bins_of_the_reference_hold_about_as_many_values_each() -> None:
    training = np.random.default_rng(0).normal(size=(10_003, 3)).astype(F32)
    reference = Reference.from_data(training, bins=10)
    shares = reference.counts[:, :-1] / 10_003
    assert shares.shape == (3, 10)
    assert_allclose(shares, 0.1, atol=2e-4)
    assert_array_equal(reference.counts, sketch_of(training, reference).counts)


def test_a_value_that_fills_a_bin_gets_its_own() -> None:
    column = np.repeat([0.0, 1.0, 2.0, 3.0], [100, 500, 300, 100])[:, None]
    reference = Reference.from_data(column, bins=10)
    assert edges_of(reference.edges[0]) == [1.0, 2.0, 3.0]
    assert reference.counts[0, : reference.bins_of(0)].tolist() == [100, 500, 300, 100]


def test_a_constant_column_has_a_bin_below_one_at_and_one_above_it() -> None:
    reference = Reference.from_data(np.full((50, 1), 7.0), bins=10)
    assert reference.bins_of(0) == 3
    values = np.array([[6.999], [7.0], [7.0], [np.nextafter(7.0, 8.0)], [np.nan]])
    assert sketch_of(values, reference).counts[0].tolist() == [1, 2, 1, *[0] * 7, 1]


def test_the_greatest_number_as_a_constant_column_has_no_infinite_edge() -> None:
    reference = Reference.from_data(np.full((3, 1), np.finfo(F32).max, F32), bins=10)
    assert edges_of(reference.edges[0]) == [np.finfo(F32).max]
    assert Reference.from_bytes(reference.to_bytes()).key == reference.key


def test_a_column_without_finite_values_has_one_bin() -> None:
    reference = Reference.from_data([[np.nan], [np.inf]], bins=5)
    assert reference.bins_of(0) == 1
    assert reference.counts[0].tolist() == [1, 0, 0, 0, 0, 1]
    sketch = sketch_of(np.array([[np.nan]]), reference)
    assert np.isnan(sketch.means[0])
    assert (sketch.minima[0], sketch.maxima[0]) == (np.inf, -np.inf)


def test_moments_are_those_of_the_finite_values() -> None:
    values = np.array([[1.0], [2.0], [6.0], [np.inf], [-np.inf], [np.nan]])
    sketch = sketch_of(values, Reference.from_data([[100.0], [101.0]]))
    assert sketch.rows == 6
    assert sketch.nulls[0] == 1
    assert_allclose(sketch.means, [3.0])
    assert_allclose(sketch.variances, [np.var([1.0, 2.0, 6.0])])
    assert (sketch.minima[0], sketch.maxima[0]) == (1.0, 6.0)


@property_test
@given(matrices(F32, rows_min=1), st.integers(0, 40), st.integers(0, 40))
def test_merged_parts_are_the_whole_in_any_order(
    values: NDArray[Any], first: int, second: int
) -> None:
    reference = Reference.from_data(values, bins=4)
    first, second = sorted((first, second))
    parts = [sketch_of(values[:first], reference), sketch_of(values[first:second], reference)]
    parts.append(sketch_of(values[second:], reference))
    whole = sketch_of(values, reference)
    for order in ([0, 1, 2], [2, 0, 1]):
        total = Sketch(reference)
        for index in order:
            merge(total, parts[index])
        assert_array_equal(total.counts, whole.counts)
        assert_array_equal(total.moments[2:], whole.moments[2:])
        scale = 1e-12 * (1 + np.abs(whole.moments[1]))
        assert (np.abs(total.moments[:2] - whole.moments[:2]) <= scale).all()


@pytest.mark.parametrize("bins", [10, 50])
def test_layout_type_and_size_of_a_batch_make_no_difference(bins: int) -> None:
    values = np.random.default_rng(1).integers(-9, 9, (BRIEF_VALUES_MAX // 2, 3))
    reference = Reference.from_data(values.astype(F32), bins)
    expected = sketch_of(values.astype(F32), reference)
    read_only = np.frombuffer(values.astype(F32).tobytes(), F32).reshape(values.shape)
    forms = [values, values.astype(np.int8), values.astype(np.float64), read_only]
    forms += [np.asfortranarray(values.astype(F32)), values.tolist()]
    for form in forms:
        assert_array_equal(sketch_of(form, reference).counts, expected.counts)
    pieces = Sketch(reference)
    for row in values[:100].astype(F32):
        update(row[None], reference, pieces)
    assert_array_equal(pieces.counts, sketch_of(values[:100].astype(F32), reference).counts)


def test_integers_have_a_float64_reference() -> None:
    reference = Reference.from_data(np.array([[2**53 - 1], [2**53 - 2], [5]]), bins=3)
    assert reference.dtype == np.float64
    assert sketch_of(np.array([[2**53 - 2]]), reference).counts[0].tolist() == [0, 1, 0, 0]


def test_one_sketch_per_thread_loses_no_row() -> None:
    values = np.random.default_rng(2).normal(size=(4000, 20)).astype(F32)
    reference = Reference.from_data(values)
    sketches = [Sketch(reference) for _ in range(4)]

    def fold(sketch: Sketch) -> None:
        for _ in range(20):
            update(values, reference, sketch)

    threads = [threading.Thread(target=fold, args=(sketch,)) for sketch in sketches]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    total = Sketch(reference)
    for sketch in sketches:
        merge(total, sketch)
    assert_array_equal(total.counts, 80 * reference.counts)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.zeros((2, 3), F32), r"values: expected shape \[n, 2\], got \[2, 3\]"),
        (np.zeros(2, F32), r"values: expected shape \[n, 2\], got \[2\]"),
        (np.zeros((2, 2), "U1"), r"values: expected numbers, got dtype <U1"),
        ([[None, 1.0]], r"values: expected numbers, got dtype object"),
    ],
)
def test_values_that_do_not_fit_are_refused(values: Any, message: str) -> None:
    reference = Reference.from_data(np.zeros((3, 2), F32))
    sketch = Sketch(reference)
    with pytest.raises(ValueError, match=message):
        update(values, reference, sketch)
    assert sketch.rows == 0


def test_a_sketch_of_another_reference_is_refused() -> None:
    one, other = Reference.from_data([[1.0]]), Reference.from_data([[2.0]])
    with pytest.raises(ValueError, match="sketch: expected one of <Reference"):
        update(np.zeros((1, 1)), one, Sketch(other))
    with pytest.raises(ValueError, match="other: expected a sketch of <Reference"):
        merge(Sketch(one), Sketch(other))
    equal = Reference.from_data([[1.0]])
    update(np.zeros((1, 1)), one, Sketch(equal))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([], 3), "data: expected 2 dimension"),
        ((np.zeros((0, 2)), 3), "data: expected at least 1 row, got 0"),
        (([[1.0]], 0), "bins: expected an integer of at least 1, got 0"),
        (([[1.0]], 1001), "bins: expected at most 1000, got 1001"),
        (([[1.0]], 2.5), "bins: expected an integer of at least 1, got 2.5"),
        (([["a"]], 3), "data: expected numbers, got dtype <U1"),
    ],
)
def test_a_reference_needs_rows_of_numbers(arguments: tuple[Any, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Reference.from_data(*arguments)


def test_edges_can_be_given() -> None:
    reference = Reference.from_edges([[0.0, 1.0, np.nan], [5.0, 6.0, 7.0]])
    counts = sketch_of(np.array([[0.0, 7.0], [-1.0, 4.0]]), reference).counts
    assert counts.tolist() == [[1, 1, 0, 0, 0], [1, 0, 0, 1, 0]]
    for edges in ([[1.0, 0.0]], [[1.0, 1.0]], [[np.nan, 1.0]], [[0.0, np.inf]], [[-np.inf]]):
        with pytest.raises(ValueError, match="edges: expected finite and ascending"):
            Reference.from_edges(edges)
    with pytest.raises(ValueError, match="centers: expected 1 finite"):
        Reference.from_edges([[0.0]], [np.nan])


def test_clear_and_copy_leave_the_other_sketch_alone() -> None:
    reference = Reference.from_data([[1.0], [2.0]])
    sketch = sketch_of(np.array([[1.5]]), reference)
    copied = sketch.copy()
    sketch.clear()
    assert (sketch.rows, copied.rows) == (0, 1)
    assert_array_equal(sketch.moments, Sketch(reference).moments)
    assert repr(copied).startswith("<Sketch of 1 rows in <Reference 1 columns, 10 bins")
