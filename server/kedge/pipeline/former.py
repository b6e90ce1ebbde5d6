"""When a batch closes and which requests are in it. Pure: time is an argument, blocks go in and
out.

One former per (version, input shape). It keeps order of arrival and never mixes shapes.
"""

from __future__ import annotations

from collections import deque

from kedge.core.settings import BatchLimits
from kedge.pipeline.blocks import NS_PER_US, RequestBlock
from kedge_kernels.codec import ROWS


class BatchFormer:
    """A queue of blocks and the rule that cuts batches from it.

    `requests`, `rows`, `nbytes`: what waits now. A batch is due when it is full, when a preferred
    size is reached, or when the oldest request has waited `delay_us_max`.
    """

    __slots__ = ("_blocks", "_delay_ns", "_limits", "nbytes", "requests", "rows")

    def __init__(self, limits: BatchLimits) -> None:
        self._limits = limits
        self._delay_ns = limits.delay_us_max * NS_PER_US if limits.joins_requests else 0
        self._blocks: deque[RequestBlock] = deque()
        self.requests = 0
        self.rows = 0
        self.nbytes = 0

    def __repr__(self) -> str:
        return f"<BatchFormer [{self.rows}/{self._limits.rows_max} rows, {self.requests} requests]>"

    def add(self, block: RequestBlock) -> None:
        """Queue a block that is not empty."""
        assert block.requests > 0
        self._blocks.append(block)
        self._account(block, +1)

    def add_first(self, block: RequestBlock) -> None:
        """Queue a block before all others: what failed together runs alone, and soon."""
        self._blocks.appendleft(block)
        self._account(block, +1)

    @property
    def is_next_alone(self) -> bool:
        """Whether the next batch is a request that must run alone; call only while some wait."""
        return self._blocks[0].runs_alone

    def due_ns(self) -> int:
        """When the next batch is due, in `arrived_ns`'s clock; call only while requests wait."""
        oldest_ns = self._blocks[0].arrived_ns
        if self._delay_ns == 0 or self.is_next_alone or self.rows >= self._limits.rows_max:
            return oldest_ns
        if any(self.rows == rows for rows in self._limits.preferred_rows):
            return oldest_ns
        return oldest_ns + self._delay_ns

    def take(self) -> list[RequestBlock]:
        """Remove and return the next batch: whole requests in order of arrival, at most `rows_max`
        rows.

        Every request fits by itself, since decoding refuses those with more rows than a batch.
        """
        limits = self._limits
        if not limits.joins_requests or self.is_next_alone:
            return [self._take_from_front(1)]
        batch: list[RequestBlock] = []
        rows_free = self._rows_wanted()
        while self._blocks and rows_free > 0:
            first = self._blocks[0]
            if first.runs_alone:
                break
            fits = first.rows <= rows_free
            requests = first.requests if fits else first.requests_within(ROWS, rows_free)
            if requests == 0:
                break
            block = self._take_from_front(requests)
            rows_free -= block.rows
            batch.append(block)
        assert batch
        return batch

    def _rows_wanted(self) -> int:
        """The largest preferred size that is there, else as many rows as a batch holds.

        Never less than the first request has: it must leave in one piece.
        """
        limits = self._limits
        if self.rows >= limits.rows_max:
            return limits.rows_max
        preferred = max((rows for rows in limits.preferred_rows if rows <= self.rows), default=0)
        fits = preferred and self._blocks[0].requests_within(ROWS, preferred) > 0
        return preferred if fits else limits.rows_max

    def _take_from_front(self, requests: int) -> RequestBlock:
        first = self._blocks[0]
        block = self._blocks.popleft() if requests == first.requests else first.split(requests)
        self._account(block, -1)
        return block

    def take_lone(self) -> list[RequestBlock]:
        """Remove and return all blocks that wait to run alone."""
        gone = [block for block in self._blocks if block.runs_alone]
        for block in gone:
            self._blocks.remove(block)
            self._account(block, -1)
        return gone

    def expired(self, now_ns: int) -> list[RequestBlock]:
        """Remove and return the blocks whose waiting time is over."""
        gone = [block for block in self._blocks if 0 < block.expires_ns <= now_ns]
        for block in gone:
            self._blocks.remove(block)
            self._account(block, -1)
        return gone

    def next_expiry_ns(self) -> int:
        """The earliest `expires_ns` of what waits, 0 if nothing expires."""
        return min((block.expires_ns for block in self._blocks if block.expires_ns), default=0)

    def cancel(self, call_id: int) -> RequestBlock | None:
        """Remove one request and return it as a block; None if it does not wait here."""
        for block in self._blocks:
            if call_id not in block.call_ids:
                continue
            self._account(block, -1)
            gone = block.extract(call_id)
            if block.requests == 0:
                self._blocks.remove(block)
            else:
                self._account(block, +1)
            return gone
        return None

    def _account(self, block: RequestBlock, sign: int) -> None:
        self.requests += sign * block.requests
        self.rows += sign * block.rows
        self.nbytes += sign * block.nbytes
