"""Sliding windows against a list of all batches."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from kedge_kernels.sketch import Reference, Sketch, update
from kedge_kernels.windows import Windows
from support.floats import property_test

REFERENCE = Reference.from_data(np.random.default_rng(0).normal(size=(100, 2)), bins=5)


@property_test
@given(st.lists(st.integers(0, 9), max_size=12), st.integers(1, 5), st.data())
def test_the_last_windows_are_what_was_folded_since_they_began(
    sizes: list[int], length: int, data: st.DataObject
) -> None:
    windows = Windows(REFERENCE, length)
    batches = [np.random.default_rng(i).normal(size=(size, 2)) for i, size in enumerate(sizes)]
    for batch in batches:
        update(batch, REFERENCE, windows.current)
        assert windows.advance().rows == len(batch)
    batches.append(np.empty((0, 2)))  # the window that has just begun
    back = data.draw(st.integers(1, length))
    expected = Sketch(REFERENCE)
    update(np.concatenate(batches[-back:]), REFERENCE, expected)
    found = windows.last(back)
    assert_array_equal(found.counts, expected.counts)
    assert_array_equal(found.moments[2:], expected.moments[2:])
    assert windows.begun == min(length, len(batches))


def test_a_window_that_ended_is_not_changed_later() -> None:
    windows = Windows(REFERENCE, 2)
    update(np.zeros((3, 2)), REFERENCE, windows.current)
    ended = windows.advance()
    update(np.ones((1, 2)), REFERENCE, windows.current)
    windows.advance()
    update(np.ones((4, 2)), REFERENCE, windows.current)
    assert ended.rows == 3
    assert windows.last(2).rows == 5
    assert repr(windows) == "<Windows 2/2, 5 rows>"


def test_more_windows_than_there_is_room_for_are_refused() -> None:
    with pytest.raises(ValueError, match="length: expected an integer of at least 1, got 0"):
        Windows(REFERENCE, 0)
    windows = Windows(REFERENCE, 2)
    with pytest.raises(ValueError, match="windows: expected at most 2, got 3"):
        windows.last(3)
    with pytest.raises(ValueError, match="windows: expected an integer of at least 1, got 0"):
        windows.last(0)
