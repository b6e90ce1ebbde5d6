"""Sketches that travel: the same on the other side, and nothing damaged is ever taken."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from numpy.typing import NDArray

from kedge_kernels import sketch_bytes
from kedge_kernels.sketch import Reference, Sketch, merge, update
from support.floats import matrices, property_test


@property_test
@given(matrices(np.float32, rows_min=1), st.integers(1, 40))
def test_a_reference_and_its_sketches_survive_the_way_through_bytes(
    values: NDArray[np.float32], bins: int
) -> None:
    reference = Reference.from_data(values, bins)
    sketch = Sketch(reference)
    update(values, reference, sketch)
    there = Reference.from_bytes(reference.to_bytes())
    assert there.key == reference.key
    assert_array_equal(there.edges, reference.edges)
    assert_array_equal(there.counts, reference.counts)
    received = Sketch.from_bytes(sketch.to_bytes(), there)
    assert_array_equal(received.counts, sketch.counts)
    assert_array_equal(received.moments, sketch.moments)
    merge(received, sketch)
    update(values, there, received)
    assert received.rows == 3 * len(values)


REFERENCE = Reference.from_data(np.arange(20.0).reshape(10, 2), bins=3)
SKETCH = Sketch(REFERENCE)
update(np.ones((1, 2)), REFERENCE, SKETCH)


@property_test
@given(st.data())
def test_damaged_bytes_are_refused(data: st.DataObject) -> None:
    whole = data.draw(st.sampled_from([REFERENCE.to_bytes(), SKETCH.to_bytes()]))
    cut = data.draw(st.integers(0, len(whole) - 1))
    flipped = bytearray(whole)
    flipped[cut] ^= data.draw(st.integers(1, 255))
    for damaged in (whole[:cut], bytes(flipped), whole + b"\0", whole[cut:] + whole[:cut]):
        if damaged == whole:
            continue
        with pytest.raises(ValueError, match="KDG"):
            Reference.from_bytes(damaged)
        with pytest.raises(ValueError, match="KDG"):
            Sketch.from_bytes(damaged, REFERENCE)


@property_test
@given(st.binary(max_size=80))
def test_forged_bytes_with_a_right_digest_are_refused_too(contents: bytes) -> None:
    for kind in (sketch_bytes.REFERENCE, sketch_bytes.SKETCH):
        forged = sketch_bytes.pack(kind, REFERENCE.key, [])[: len(kind) + 16] + contents
        forged = sketch_bytes.sealed(forged)
        with pytest.raises(ValueError, match=r"KDG|reference|counts|moments|edges"):
            Reference.from_bytes(forged)
        with pytest.raises(ValueError, match=r"KDG|sketch|counts|moments"):
            Sketch.from_bytes(forged, REFERENCE)


def test_an_array_that_claims_to_be_huge_is_refused_without_memory_for_it() -> None:
    head = sketch_bytes.SKETCH + REFERENCE.key + bytes([2])
    for shape in ((2**62, 2**62), (2**63, 1), (0, 2**63)):
        huge = sketch_bytes.sealed(head + struct.pack("<BB2Q", 2, 2, *shape))
        with pytest.raises(ValueError, match="KDGSKT"):
            Sketch.from_bytes(huge, REFERENCE)


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        (np.array([[1, 0, 0, 0], [1, 1, 0, 0]]), "as many rows in every column"),
        (np.array([[2, 0, 0, -1], [1, 0, 0, 0]]), "none below 0"),
        (np.zeros((2, 3), np.int64), r"expected int64\[2, 4\], got int64\[2, 3\]"),
        (np.zeros((2, 4)), r"expected int64\[2, 4\], got float64\[2, 4\]"),
    ],
)
def test_counts_that_cannot_be_are_refused(counts: NDArray[np.int64], message: str) -> None:
    data = sketch_bytes.pack(sketch_bytes.SKETCH, REFERENCE.key, [counts, SKETCH.moments])
    with pytest.raises(ValueError, match=message):
        Sketch.from_bytes(data, REFERENCE)


def test_a_sketch_of_another_reference_is_refused() -> None:
    other = Reference.from_data([[1.0, 2.0]])
    with pytest.raises(ValueError, match="sketch: expected one of reference"):
        Sketch.from_bytes(SKETCH.to_bytes(), other)
