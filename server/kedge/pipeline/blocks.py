"""Requests in columns: a block is what arrived together for one version with one shape.

Columns instead of one object per request, because at 25 us a request each object more is felt; the
kernels read and write the same `fields` array. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from kedge.core.values import TensorSpec
from kedge_kernels.codec import summarize

NS_PER_US = 1_000
Dims = tuple[tuple[int, ...], ...]


def split_dims(inputs: Sequence[TensorSpec], sizes: NDArray[np.int64]) -> Dims:
    """The dimensions of all inputs, which `sizes`, int64[d], has one input behind another."""
    flat = sizes.tolist()
    dims = []
    start = 0
    for spec in inputs:
        dims.append(tuple(flat[start : start + len(spec.dims)]))
        start += len(spec.dims)
    return tuple(dims)


@dataclass(slots=True, eq=False)
class RequestBlock:
    """n requests of one version whose inputs have the same per-row dimensions.

    fields: int64[n, width], the codec's columns; addresses in it point into `owners`, which keeps
    the bytes alive. arrived_ns: when the front delivered them. expires_ns: when they stop waiting,
    0 = never. path: which decoder accepted them (`fast` or `protobuf`). runs_alone: of a batch that
    failed; each of its requests runs again by itself.
    """

    call_ids: list[int]
    owners: list[object]
    fields: NDArray[np.int64]
    dims: Dims
    arrived_ns: int
    expires_ns: int = 0
    path: str = "fast"
    runs_alone: bool = False
    requests: int = field(init=False)
    rows: int = field(init=False)
    nbytes: int = field(init=False)

    def __post_init__(self) -> None:
        assert len(self.call_ids) == len(self.owners) == len(self.fields)
        self._count()

    def _count(self) -> None:
        self.requests = len(self.call_ids)
        self.rows = self.nbytes = 0
        if self.requests > 0:
            _, self.rows, self.nbytes = summarize(self.fields)

    def __repr__(self) -> str:
        return f"<RequestBlock {self.requests} requests, {self.rows} rows, {self.nbytes} bytes>"

    def split(self, requests: int) -> RequestBlock:
        """Remove the first `requests` requests, 0 < requests < all, and return them as a block."""
        assert 0 < requests < self.requests
        head = RequestBlock(
            self.call_ids[:requests],
            self.owners[:requests],
            self.fields[:requests],
            self.dims,
            self.arrived_ns,
            self.expires_ns,
            self.path,
            self.runs_alone,
        )
        del self.call_ids[:requests]
        del self.owners[:requests]
        self.fields = self.fields[requests:]
        self._count()
        return head

    def apart(self) -> list[RequestBlock]:
        """One block per request, in order; this one is one of them afterwards."""
        alone = [self.split(1) for _ in range(self.requests - 1)]
        return [*alone, self]

    def requests_within(self, column: int, total_max: int) -> int:
        """How many of the first requests have at most `total_max` in `column`, ROWS or NBYTES."""
        return int(np.searchsorted(self.fields[:, column].cumsum(), total_max, side="right"))

    def extract(self, call_id: int) -> RequestBlock:
        """Remove one request that is here and return it; the block may be empty afterwards."""
        index = self.call_ids.index(call_id)
        gone = RequestBlock(
            [self.call_ids.pop(index)],
            [self.owners.pop(index)],
            self.fields[index : index + 1],
            self.dims,
            self.arrived_ns,
            self.expires_ns,
            self.path,
            self.runs_alone,
        )
        self.fields = np.delete(self.fields, index, axis=0)
        self._count()
        return gone
