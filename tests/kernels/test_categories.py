"""Categories counted one by one, of every type that a column may have."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kedge_kernels.categories import (
    CategoryReference,
    CategorySketch,
    merge_categories,
    update_categories,
)
from support.floats import property_test

TEXTS = st.one_of(st.none(), st.sampled_from(["a", "b", "", "ä"]), st.text(max_size=2))
NUMBERS = st.one_of(st.none(), st.integers(-3, 3), st.sampled_from([2**63, 1.5, True, math.nan]))


def counts_of(values: Any, reference: CategoryReference) -> list[int]:
    sketch = CategorySketch(reference)
    update_categories(values, reference, sketch)
    return sketch.counts.tolist()


def slow_counts(values: list[Any], reference: CategoryReference) -> list[int]:
    names = list(reference.categories)
    counts = [0] * (len(names) + 2)
    for value in values:
        is_missing = value is None or value != value
        place = names.index(value) if value in names else len(names)
        counts[len(names) + 1 if is_missing else place] += 1
    return counts


@property_test
@given(
    st.one_of(*(st.tuples(st.lists(kind), st.lists(kind)) for kind in (TEXTS, NUMBERS))),
    st.integers(0, 4),
)
def test_every_value_is_counted_once(lists: tuple[list[Any], list[Any]], most: int) -> None:
    training, values = lists
    reference = CategoryReference.from_values(training, most)
    assert len(reference.categories) <= most
    assert reference.counts.tolist() == slow_counts(training, reference)
    assert counts_of(values, reference) == slow_counts(values, reference)
    assert counts_of(np.array(values, object), reference) == slow_counts(values, reference)


@property_test
@given(st.lists(st.integers(-(2**63), 2**63 - 1) | st.integers(-3, 3)), st.integers(0, 6))
def test_integer_arrays_are_counted_as_lists_are(values: list[int], most: int) -> None:
    reference = CategoryReference.from_values([*values[::2], "text", 2**70], most)
    assert counts_of(np.array(values, np.int64), reference) == counts_of(values, reference)


def test_the_most_frequent_categories_are_known_and_the_rest_is_unknown() -> None:
    reference = CategoryReference.from_values(["b", "a", "a", "c", None, "d", "b", "a"], 2)
    assert reference.categories == ("a", "b")
    assert reference.counts.tolist() == [3, 2, 2, 1]
    sketch = CategorySketch(reference)
    update_categories(["z", "a", None, math.nan], reference, sketch)
    assert (sketch.unknown, sketch.nulls) == (1, 2)


def test_one_value_in_different_types_is_one_category() -> None:
    reference = CategoryReference.from_values(["é", 1])
    assert counts_of(["é".encode(), True, 1.0, np.int8(1), b"\xff"], reference) == [3, 1, 1, 0]
    forms = [np.array([1, 2], np.uint64), np.array([True, False]), np.array([1.0, 0.5])]
    for form in forms:
        assert counts_of(form, CategoryReference.from_values([1])) == [1, 1, 0]


def test_sketches_merge_and_travel() -> None:
    reference = CategoryReference.from_values(["a", "b"])
    one, other = CategorySketch(reference), CategorySketch(reference)
    update_categories(["a", "z"], reference, one)
    update_categories(["a", None], reference, other)
    merge_categories(one, CategorySketch.from_bytes(other.to_bytes(), reference))
    assert one.counts.tolist() == [2, 0, 1, 1]
    stranger = CategoryReference.from_values(["c"])
    with pytest.raises(ValueError, match="other: expected a sketch of"):
        merge_categories(one, CategorySketch(stranger))
    with pytest.raises(ValueError, match="sketch: expected one of"):
        update_categories(["a"], stranger, one)
    with pytest.raises(ValueError, match="sketch: expected one of"):
        CategorySketch.from_bytes(one.to_bytes(), stranger)
    with pytest.raises(ValueError, match="KDGCAT"):
        CategorySketch.from_bytes(one.to_bytes()[:-1], reference)


@pytest.mark.parametrize("values", ["text", 7, [[1]], [(1, 2)], np.zeros((2, 2)), [object()]])
def test_what_is_no_sequence_of_categories_is_refused(values: Any) -> None:
    with pytest.raises(ValueError, match="values: expected"):
        CategoryReference.from_values(values)


def test_a_category_given_twice_or_missing_is_refused() -> None:
    for categories in (["a", "a"], [1, True], [None], [math.nan]):
        with pytest.raises(ValueError, match="categories: expected distinct"):
            CategoryReference(categories)
