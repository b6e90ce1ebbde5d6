"""What the pipeline keeps per served version: its codec tables, its forming batches and its bounds.
Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np
from numpy.typing import NDArray

from kedge.core.errors import QueueFull
from kedge.core.ports import Buffer, Executor
from kedge.core.values import ServedVersion
from kedge.pipeline.blocks import Dims, RequestBlock
from kedge.pipeline.former import BatchFormer
from kedge.pipeline.padding import Padding
from kedge_kernels.codec import (
    INPUTS,
    NBYTES,
    ROWS,
    AnswerTable,
    InputPlan,
    OutputPlan,
    RequestPlan,
    gather,
)


class Lane:
    """One served version on its way through the pipeline.

    A lane outlives its place in the catalog: requests that were accepted before an unload still run
    on it. `answers` is None when an output is BYTES, whose rows have no fixed size; `padding` when
    every length is run as it is.
    """

    def __init__(self, served: ServedVersion[Executor], newest: bool) -> None:
        manifest = served.manifest
        schema = manifest.schema
        self.served = served
        self.schema = schema
        self.statistics = served.statistics
        self.plan = RequestPlan(
            name=manifest.ref.name,
            version=manifest.ref.version,
            newest=newest,
            inputs=tuple(
                InputPlan(spec.name, spec.datatype.name, spec.datatype.item_bytes, spec.dims)
                for spec in schema.inputs
            ),
            outputs=tuple(spec.name for spec in schema.outputs),
            batched=schema.batched,
            rows_max=schema.rows_max,
        )
        self.answers: AnswerTable | None = None
        if all(spec.datatype.is_fixed_size for spec in schema.outputs):
            self.answers = AnswerTable(
                manifest.ref.name,
                manifest.ref.version,
                [
                    OutputPlan(spec.name, spec.datatype.name, spec.datatype.item_bytes)
                    for spec in schema.outputs
                ],
                schema.batched,
            )
        buckets = manifest.execution.length_buckets
        self.padding = Padding(schema, buckets) if buckets else None
        self.columns = INPUTS + 2 * len(schema.inputs)
        if self.padding is not None:
            self.columns += self.padding.sizes
        has_fixed_dims = all(spec.has_fixed_dims for spec in schema.inputs)
        self.fixed_dims: Dims | None = (
            tuple(spec.dims for spec in schema.inputs) if has_fixed_dims else None
        )
        self.can_expire = manifest.queue.timeout_us > 0
        self.formers: dict[Dims, BatchFormer] = {}
        # Batches in a row whose worker ended under them.
        self.workers_lost = 0
        # How many wait to run alone.
        self.lone_requests = 0
        self._fixed_row_bytes = self._row_bytes(self.fixed_dims) if self.fixed_dims else None

    def __repr__(self) -> str:
        return f"<Lane {self.served.ref} {list(self.formers.values())}>"

    def _row_bytes(self, dims: Dims) -> tuple[int, ...] | None:
        """Raw bytes of one row per input; None if an input is BYTES."""
        inputs = self.schema.inputs
        if not all(spec.datatype.is_fixed_size for spec in inputs):
            return None
        return tuple(
            spec.datatype.item_bytes * prod(row) for spec, row in zip(inputs, dims, strict=True)
        )

    def input_bytes(self, fields: NDArray[np.int64], rows: int, dims: Dims) -> Sequence[int]:
        """Raw bytes of every input of a batch of `rows` rows."""
        row_bytes = self._fixed_row_bytes or self._row_bytes(dims)
        if row_bytes is not None:
            return [rows * nbytes for nbytes in row_bytes]
        lengths: list[int] = fields[:, INPUTS + 1 : self.columns : 2].sum(axis=0).tolist()
        return lengths

    def gather(self, fields: NDArray[np.int64], dims: Dims, inputs: Sequence[Buffer]) -> None:
        """Fill the executor's buffers with the contents of all requests of a batch."""
        if self.padding is None:
            gather(fields, inputs)
        else:
            self.padding.gather(fields, dims, inputs)

    def former(self, dims: Dims) -> BatchFormer:
        """The forming batch for one input shape, made on first use."""
        former = self.formers.get(dims)
        if former is None:
            former = self.formers[dims] = BatchFormer(self.served.manifest.batch)
        return former

    def admit(
        self, block: RequestBlock, process_bytes_free: int
    ) -> tuple[BatchFormer | None, RequestBlock | None]:
        """Queue as many of the block's requests as the bounds allow.

        Returns the former that took them, None if it took none, and the refused ones, None if there
        are none.
        """
        limits = self.served.manifest.queue
        pending = self.statistics
        requests_free = limits.requests_max - pending.requests_pending
        rows_free = limits.rows_max - pending.rows_pending
        bytes_free = min(limits.bytes_max - pending.bytes_pending, process_bytes_free)
        refused = None
        if block.requests > requests_free or block.rows > rows_free or block.nbytes > bytes_free:
            fits = min(
                max(requests_free, 0),
                block.requests_within(ROWS, rows_free),
                block.requests_within(NBYTES, bytes_free),
            )
            if fits == 0:
                return None, block
            block, refused = block.split(fits), block
        former = self.former(block.dims)
        former.add(block)
        self.account(block, +1)
        return former, refused

    def refusal(self, process_bytes_free: int) -> QueueFull:
        """Which bound a refused request ran into, in numbers."""
        limits = self.served.manifest.queue
        pending = self.statistics
        return QueueFull(
            f"model '{self.served.ref.name}' has {pending.requests_pending} of at most "
            f"{limits.requests_max} requests, {pending.rows_pending} of {limits.rows_max} rows and "
            f"{pending.bytes_pending} of {limits.bytes_max} bytes waiting; the process has "
            f"{process_bytes_free} bytes free"
        )

    def account(self, block: RequestBlock, sign: int) -> None:
        """Keep the gauges of what waits."""
        pending = self.statistics
        pending.requests_pending += sign * block.requests
        pending.rows_pending += sign * block.rows
        pending.bytes_pending += sign * block.nbytes
        if block.runs_alone:
            self.lone_requests += sign * block.requests

    def forget_idle_shapes(self) -> None:
        """Drop empty formers, so that a client that varies its shapes cannot grow the dict for
        ever.
        """
        for dims in [dims for dims, former in self.formers.items() if not former.requests]:
            del self.formers[dims]
