"""Frames are read back as they were written, and anything else is refused with one error."""

from __future__ import annotations

import contextlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kedge.workers.frames import (
    IN_INPUT,
    IN_OUTPUT,
    TEXT_BYTES_MAX,
    BadFrame,
    BatchFrame,
    Place,
    ResultFrame,
    pack_batch,
    pack_result,
    read_batch,
    read_result,
)

NUMBERS = st.integers(0, 2**62)
DIMS = st.lists(NUMBERS, max_size=8).map(tuple)
INPUTS = st.tuples(NUMBERS, NUMBERS, DIMS).map(lambda parts: Place(*parts))
OUTPUTS = st.builds(
    Place, NUMBERS, NUMBERS, DIMS, st.sampled_from([IN_INPUT, IN_OUTPUT]), st.integers(-1, 2**40)
)
BATCHES = st.builds(
    BatchFrame, NUMBERS, NUMBERS, NUMBERS, NUMBERS, st.lists(INPUTS, max_size=5).map(tuple)
)
REASONS = st.from_regex(r"[a-z_]{1,20}", fullmatch=True)
ERRORS = st.none() | st.tuples(REASONS, st.text(min_size=1, max_size=200))
RESULTS = st.builds(
    ResultFrame,
    NUMBERS,
    NUMBERS,
    st.booleans(),
    NUMBERS,
    NUMBERS,
    st.lists(OUTPUTS, max_size=5).map(tuple),
    ERRORS,
)


@given(BATCHES)
def test_a_batch_is_read_back_as_it_was_written(frame: BatchFrame) -> None:
    assert read_batch(pack_batch(frame)) == frame


@given(RESULTS)
def test_a_result_is_read_back_as_it_was_written(frame: ResultFrame) -> None:
    packed = pack_result(frame)
    if frame.error is not None:
        # What is no Unicode text becomes question marks on its way.
        text = frame.error[1].encode(errors="replace").decode()
        frame = frame._replace(error=(frame.error[0], text))
    assert read_result(packed) == frame


@given(st.binary(max_size=400))
def test_bytes_that_are_no_frame_are_refused(data: bytes) -> None:
    for read in (read_batch, read_result):
        with pytest.raises(BadFrame):
            read(data)


@given(RESULTS, st.data())
def test_a_damaged_result_is_refused_or_read_as_another_one(
    frame: ResultFrame, data: st.DataObject
) -> None:
    packed = bytearray(pack_result(frame))
    at = data.draw(st.integers(0, len(packed) - 1))
    packed[at] ^= data.draw(st.integers(1, 255))
    cut = data.draw(st.integers(0, len(packed)))
    for damaged in (bytes(packed), bytes(packed[:cut])):
        with contextlib.suppress(BadFrame):
            assert isinstance(read_result(damaged), ResultFrame)


@pytest.mark.parametrize("numbers", [[1, 0, 0, 0, 0, 10**9], [1, 0, 0, 0, 0, -1], [3]])
def test_a_count_beyond_the_frame_is_refused(numbers: list[int]) -> None:
    data = struct.pack(f"<{len(numbers) + 1}q", len(numbers), *numbers)
    with pytest.raises(BadFrame):
        read_batch(data)


def test_a_long_error_is_cut() -> None:
    packed = pack_result(ResultFrame(0, 1, True, 0, error=("model_failed", "x" * 100_000)))
    error = read_result(packed).error
    assert error is not None
    assert error[0] == "model_failed"
    assert len(error[1]) == TEXT_BYTES_MAX - len("model_failed ")
