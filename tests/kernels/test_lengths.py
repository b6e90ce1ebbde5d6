"""Rounding, padding and cutting against NumPy."""

from __future__ import annotations

from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from kedge_kernels import lengths
from kedge_kernels.fields import INPUTS, ROWS
from support import reference_lengths as reference

randoms = st.randoms(use_true_random=False)


def contents_of(random: Random, rows: int, sizes: tuple[int, ...], item: int) -> NDArray[np.uint8]:
    shape = (rows, *sizes, item)
    size = int(np.prod(shape))
    # Never 0, so that padding is told from contents.
    return np.frombuffer(bytes(random.choices(range(1, 256), k=size)), np.uint8).reshape(shape)


def fields_of(requests: list[list[NDArray[np.uint8]]]) -> tuple[NDArray[np.int64], int]:
    """The columns of requests, which have an array per input, and where their sizes begin."""
    table = []
    for inputs in requests:
        row = [0] * INPUTS
        row[ROWS] = inputs[0].shape[0]
        for own in inputs:
            row += [own.ctypes.data, own.size]
        for own in inputs:
            row += own.shape[1:-1]
        table.append(row)
    return np.array(table, np.int64), INPUTS + 2 * len(requests[0])


@settings(deadline=None)
@given(
    st.lists(st.lists(st.integers(0, 12), min_size=3, max_size=3), min_size=1, max_size=6),
    st.lists(st.booleans(), min_size=3, max_size=3),
    st.sets(st.integers(1, 10), min_size=1, max_size=4),
    st.booleans(),
)
def test_sizes_are_rounded_up_to_the_smallest_bucket_that_holds_them(
    sizes: list[list[int]], free: list[bool], buckets: set[int], alike: bool
) -> None:
    expected = reference.round_up(sizes, free, sorted(buckets), alike)
    padded, refused = lengths.round_up(
        np.array(sizes), np.array(free), np.array(sorted(buckets)), alike
    )
    assert refused == expected.count(None)
    assert padded.tolist() == [[-1] * 3 if row is None else row for row in expected]


def test_a_size_is_refused_only_beyond_the_largest_bucket() -> None:
    sizes = np.array([[0], [1], [2], [3], [4], [5]])
    padded, refused = lengths.round_up(sizes, np.array([True]), np.array([2, 4]), False)
    assert padded.ravel().tolist() == [2, 2, 2, 4, 4, -1]
    assert refused == 1


@settings(max_examples=200, deadline=None)
@given(randoms)
def test_gathered_rows_are_padded_with_zeros_at_the_end_of_each_axis(random: Random) -> None:
    rank = random.randint(0, 3)
    inputs = random.randint(1, 3)
    dims = [tuple(random.randint(1, 4) for _ in range(rank)) for _ in range(inputs)]
    items = [random.choice((1, 2, 4, 8)) for _ in range(inputs)]
    requests = []
    for _ in range(random.randint(1, 4)):
        rows = random.randint(1, 3)
        requests.append(
            [
                contents_of(random, rows, tuple(random.randint(0, dim) for dim in row), item)
                for row, item in zip(dims, items, strict=True)
            ]
        )
    fields, start = fields_of(requests)
    expected = [
        reference.pad([own[k] for own in requests], row).tobytes() for k, row in enumerate(dims)
    ]
    destinations = [np.full(len(batch), 9, np.uint8) for batch in expected]
    lengths.gather_padded(fields, start, dims, items, destinations)
    assert [batch.tobytes() for batch in destinations] == expected


@settings(max_examples=200, deadline=None)
@given(randoms)
def test_cut_rows_are_the_beginning_of_each_axis(random: Random) -> None:
    rank = random.randint(0, 3)
    dims = tuple(random.randint(1, 4) for _ in range(rank))
    sizes = tuple(random.randint(0, dim) for dim in dims)
    item = random.choice((1, 2, 4, 8))
    rows = [random.randint(0, 3) for _ in range(random.randint(1, 4))]
    chosen = [random.random() < 0.6 for _ in rows]
    data = contents_of(random, sum(rows), dims, item)
    fields = np.zeros((len(rows), INPUTS), np.int64)
    fields[:, ROWS] = rows
    for writable in (False, True):
        flat = data.reshape(-1).copy()
        flat.setflags(write=writable)
        got = lengths.cut(fields, np.array(chosen), flat, dims, sizes, item)
        assert got.tobytes() == reference.cut(data, rows, chosen, sizes).tobytes()


@pytest.mark.parametrize("length", [10, 3_000])
def test_long_batches_are_padded_and_cut_like_short_ones(length: int) -> None:
    """3,000: beyond what is copied while the GIL is held."""
    random = Random(3)
    dims = (length + 7, 32)
    requests = [[contents_of(random, rows, (length - rows, 32), 4)] for rows in (1, 3)]
    fields, start = fields_of(requests)
    expected = reference.pad([own for (own,) in requests], dims)
    batch = np.full(expected.size, 9, np.uint8)
    lengths.gather_padded(fields, start, [dims], [4], [batch])
    assert batch.tobytes() == expected.tobytes()
    for r, (own,) in enumerate(requests):
        chosen = np.arange(2) == r
        cut = lengths.cut(fields, chosen, batch, dims, own.shape[1:-1], 4)
        assert cut.tobytes() == own.tobytes()


def test_nothing_is_gathered_from_requests_that_do_not_fit_their_batch() -> None:
    random = Random(4)
    fields, start = fields_of([[contents_of(random, 2, (3, 2), 4)]])
    good = np.empty(2 * 4 * 2 * 4, np.uint8)
    lengths.gather_padded(fields, start, [(4, 2)], [4], [good])
    for dims, item, size in (
        ((2, 2), 4, 32),  # longer than the batch
        ((4, 2), 4, 63),  # the batch is too small
        ((4, 2), 4, 65),  # or too large
        ((4, 2), 2, 32),  # another item
        ((-4, 2), 4, 64),
        ((2**62, 2**62), 4, 64),  # a product that overflows
    ):
        backing = np.full(256, 9, np.uint8)
        with pytest.raises(ValueError, match="input 0"):
            lengths.gather_padded(fields, start, [dims], [item], [backing[:size]])
        assert (backing[size:] == 9).all()
    with pytest.raises(ValueError, match="input 0"):
        lengths.gather_padded(fields, start, [(4, 2)], [4], [np.empty(128, np.uint8)[::2]])
    with pytest.raises(ValueError, match="columns do not hold"):
        lengths.gather_padded(fields, start, [(4, 2, 1)], [4], [good])
    for column, value in ((ROWS, -1), (ROWS, 3), (start, -1), (start, 2)):
        wrong = fields.copy()
        wrong[0, column] = value
        with pytest.raises(ValueError, match="input 0"):
            lengths.gather_padded(wrong, start, [(4, 2)], [4], [good])


def test_nothing_is_cut_from_data_that_has_not_the_rows_of_the_requests() -> None:
    fields = np.zeros((2, INPUTS), np.int64)
    fields[:, ROWS] = (1, 2)
    chosen = np.array([True, True])
    good = np.zeros(3 * 4 * 2, np.uint8)
    assert lengths.cut(fields, chosen, good, (4,), (3,), 2).size == 3 * 3 * 2
    for data, dims, sizes in (
        (good[:-1], (4,), (3,)),
        (good[:-8], (4,), (3,)),
        (np.zeros(32, np.uint8), (4,), (3,)),
        (np.zeros(48, np.uint8)[::2], (4,), (3,)),
        (good, (4,), (5,)),
        (good, (-4,), (3,)),
    ):
        with pytest.raises(ValueError, match="cannot be cut"):
            lengths.cut(fields, chosen, data, dims, sizes, 2)
