"""Requests that run together. Pure; `former.py` says when a batch closes, `serve.py` runs it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kedge.pipeline.blocks import Dims, RequestBlock
from kedge.pipeline.lane import Lane


@dataclass(slots=True, eq=False)
class Batch:
    """Blocks in order of arrival and their merged columns.

    started_ns: when it left the queue; gathered_ns: when its tensors lay in the executor's buffers.
    is_over: its final result is there.
    """

    lane: Lane
    blocks: list[RequestBlock]
    fields: NDArray[np.int64]
    dims: Dims
    rows: int
    started_ns: int
    gathered_ns: int = 0
    is_over: bool = False

    @property
    def call_ids(self) -> list[int]:
        if len(self.blocks) == 1:
            return self.blocks[0].call_ids
        return [call_id for block in self.blocks for call_id in block.call_ids]

    def waited_ns(self, until_ns: int) -> int:
        """The sum over all requests of the time from arrival to `until_ns`."""
        return sum(block.requests * (until_ns - block.arrived_ns) for block in self.blocks)

    def count_success(self, infer_ns: int, infer_end_ns: int, end_ns: int, wall_ms: int) -> None:
        """Count it as executed and answered."""
        self.lane.statistics.count_batch(
            requests=len(self.fields),
            rows=self.rows,
            total_ns=self.waited_ns(end_ns),
            queue_ns=self.waited_ns(self.started_ns),
            input_ns=self.gathered_ns - self.started_ns,
            infer_ns=infer_ns,
            output_ns=end_ns - infer_end_ns,
            wall_ms=wall_ms,
        )


def join(lane: Lane, blocks: list[RequestBlock], now_ns: int) -> Batch:
    """One batch of blocks that have the same dimensions."""
    first = blocks[0]
    if len(blocks) == 1:
        return Batch(lane, blocks, first.fields, first.dims, first.rows, now_ns)
    # Widths may differ: each block was decoded with the table of its time.
    fields = np.concatenate([block.fields[:, : lane.columns] for block in blocks])
    rows = sum(block.rows for block in blocks)
    return Batch(lane, blocks, fields, first.dims, rows, now_ns)
