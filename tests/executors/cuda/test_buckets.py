"""Which row counts get a graph."""

from __future__ import annotations

import pytest

from kedge.core.settings import ExecutionLimits
from kedge.core.values import ModelSchema
from kedge.executors.cuda.buckets import bucket_for, buckets_of


def schema(rows_max: int, batched: bool = True) -> ModelSchema:
    return ModelSchema((), (), batched, rows_max)


@pytest.mark.parametrize(
    ("rows_max", "expected"),
    [
        (1, (1,)),
        (2, (1, 2)),
        (3, (1, 2, 3)),
        (8, (1, 2, 4, 8)),
        (9, (1, 2, 4, 8, 9)),
        (256, (1, 2, 4, 8, 16, 32, 64, 128, 256)),
    ],
)
def test_without_a_list_they_are_powers_of_two_and_the_largest(
    rows_max: int, expected: tuple[int, ...]
) -> None:
    assert buckets_of(schema(rows_max), ExecutionLimits()) == expected


@pytest.mark.parametrize(
    ("declared", "expected"),
    [((4,), (4, 8)), ((8, 2), (2, 8)), ((16, 3), (3, 8)), ((8,), (8,))],
)
def test_a_list_is_taken_and_completed_to_the_largest_batch(
    declared: tuple[int, ...], expected: tuple[int, ...]
) -> None:
    assert buckets_of(schema(8), ExecutionLimits(batch_buckets=declared)) == expected


def test_deterministic_and_no_batch_dimension_leave_one() -> None:
    limits = ExecutionLimits(deterministic=True, batch_buckets=(2, 4))
    assert buckets_of(schema(8), limits) == (8,)
    assert buckets_of(schema(1, batched=False), ExecutionLimits()) == (1,)


def test_a_batch_goes_to_the_smallest_bucket_that_takes_it() -> None:
    buckets = (1, 4, 9)
    assert [bucket_for(rows, buckets) for rows in range(1, 10)] == [1, 4, 4, 4, 9, 9, 9, 9, 9]


@pytest.mark.parametrize("rows_max", [1, 2, 5, 64, 1000])
def test_every_batch_has_a_bucket_that_wastes_less_than_half(rows_max: int) -> None:
    buckets = buckets_of(schema(rows_max), ExecutionLimits())
    for rows in range(1, rows_max + 1):
        assert rows <= bucket_for(rows, buckets) < 2 * rows
