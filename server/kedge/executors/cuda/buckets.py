"""Row counts to which batches are padded, so that a few CUDA graphs serve all batches. Pure."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

from kedge.core.settings import ExecutionLimits
from kedge.core.values import ModelSchema


def buckets_of(schema: ModelSchema, execution: ExecutionLimits) -> tuple[int, ...]:
    """Ascending, the last one takes the largest batch.

    Those of the endpoint; else powers of two, which waste less than half of a batch. Deterministic:
    only the largest, for two buckets may run different kernels, which add in another order.
    """
    rows_max = schema.rows_max
    if not schema.batched or execution.deterministic:
        return (rows_max,)
    sizes = {rows for rows in execution.batch_buckets if rows < rows_max}
    if not execution.batch_buckets:
        sizes = {2**power for power in range((rows_max - 1).bit_length())}
    return (*sorted(sizes), rows_max)


def bucket_for(rows: int, buckets: Sequence[int]) -> int:
    """The smallest bucket that takes `rows` rows; there is one."""
    return buckets[bisect_left(buckets, rows)]
