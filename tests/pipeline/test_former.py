"""When a batch closes, on both sides of every edge."""

from __future__ import annotations

import numpy as np
import pytest

from kedge.core.settings import BatchLimits
from kedge.pipeline.blocks import RequestBlock
from kedge.pipeline.former import BatchFormer
from kedge_kernels.codec import INPUTS, NBYTES, ROWS


def block(rows: list[int], first_id: int = 0, now_us: int = 0, expires_us: int = 0) -> RequestBlock:
    fields = np.zeros((len(rows), INPUTS + 2), dtype=np.int64)
    fields[:, ROWS] = rows
    fields[:, NBYTES] = [4 * count for count in rows]
    ids = list(range(first_id, first_id + len(rows)))
    return RequestBlock(ids, list(ids), fields, ((1,),), now_us * 1_000, expires_us * 1_000)


def taken(former: BatchFormer) -> list[int]:
    return [call_id for part in former.take() for call_id in part.call_ids]


def test_without_delay_a_batch_is_due_at_once() -> None:
    former = BatchFormer(BatchLimits(rows_max=8))
    former.add(block([1], now_us=100))
    assert former.due_ns() == 100_000


def test_with_delay_a_batch_is_due_when_its_first_request_has_waited_that_long() -> None:
    former = BatchFormer(BatchLimits(rows_max=8, delay_us_max=2_000))
    former.add(block([1], now_us=100))
    former.add(block([1], first_id=1, now_us=900))
    assert former.due_ns() == 2_100_000


@pytest.mark.parametrize(("rows", "due_us"), [(7, 2_100), (8, 100), (9, 100)])
def test_a_full_batch_does_not_wait(rows: int, due_us: int) -> None:
    former = BatchFormer(BatchLimits(rows_max=8, delay_us_max=2_000))
    former.add(block([1] * rows, now_us=100))
    assert former.due_ns() == due_us * 1_000


@pytest.mark.parametrize(("rows", "due_us"), [(3, 2_000), (4, 0), (5, 2_000)])
def test_a_preferred_size_does_not_wait(rows: int, due_us: int) -> None:
    former = BatchFormer(BatchLimits(rows_max=8, delay_us_max=2_000, preferred_rows=(4,)))
    former.add(block([1] * rows))
    assert former.due_ns() == due_us * 1_000


def test_a_batch_takes_the_largest_preferred_size_that_is_there() -> None:
    former = BatchFormer(BatchLimits(rows_max=8, preferred_rows=(2, 4)))
    former.add(block([1] * 7))
    assert taken(former) == [0, 1, 2, 3]
    assert taken(former) == [4, 5]
    assert taken(former) == [6]


def test_whole_requests_leave_in_order_of_arrival_up_to_rows_max() -> None:
    former = BatchFormer(BatchLimits(rows_max=8))
    former.add(block([3, 3]))
    former.add(block([3, 8], first_id=2))
    assert taken(former) == [0, 1]
    assert taken(former) == [2]
    assert taken(former) == [3]
    assert (former.requests, former.rows, former.nbytes) == (0, 0, 0)


def test_requests_run_alone_where_the_model_does_not_join_them() -> None:
    former = BatchFormer(BatchLimits(rows_max=8, delay_us_max=500, joins_requests=False))
    former.add(block([1, 1]))
    assert former.due_ns() == 0
    assert taken(former) == [0]
    assert taken(former) == [1]


def test_a_cancelled_request_leaves_and_its_neighbours_stay() -> None:
    former = BatchFormer(BatchLimits(rows_max=8))
    former.add(block([1, 2, 3]))
    former.add(block([4], first_id=3))
    gone = former.cancel(1)
    assert gone is not None
    assert (gone.call_ids, gone.rows, gone.nbytes) == ([1], 2, 8)
    assert former.cancel(1) is None
    assert former.cancel(3) is not None
    assert (former.requests, former.rows, former.nbytes) == (2, 4, 16)
    assert taken(former) == [0, 2]


def test_a_block_expires_exactly_at_its_time() -> None:
    former = BatchFormer(BatchLimits(rows_max=8))
    former.add(block([1], expires_us=50))
    former.add(block([1], first_id=1))
    assert former.next_expiry_ns() == 50_000
    assert former.expired(49_999) == []
    assert [part.call_ids for part in former.expired(50_000)] == [[0]]
    assert former.next_expiry_ns() == 0
    assert taken(former) == [1]


def test_its_repr_is_for_people() -> None:
    former = BatchFormer(BatchLimits(rows_max=64))
    former.add(block([5, 7]))
    assert repr(former) == "<BatchFormer [12/64 rows, 2 requests]>"
