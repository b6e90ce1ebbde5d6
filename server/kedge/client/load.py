"""A closed loop: so many callers, each sending its next request when the last one is answered.

Python needs about 100 us of CPU per call here, several times what the server does: what this
measures at high concurrency is the client. h2load and perf_analyzer show the server's limit.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import grpc
import grpc.aio
import numpy as np

from kedge.client.connection import CHANNEL_OPTIONS, call_metadata
from kedge.client.errors import from_rpc
from kedge.proto import INFERENCE_SERVICE

# The first calls open the connection and warm both sides; they are not counted.
WARMUP_S = 0.5
TICK_S = 0.1


@dataclass(frozen=True, slots=True)
class LoadReport:
    """What the callers saw. requests: answered without error; errors: by gRPC status; latencies of
    answered requests, nan if there were none.
    """

    seconds: float
    requests: int
    errors: dict[str, int]
    requests_per_s: float
    p50_us: float
    p90_us: float
    p99_us: float
    max_us: float


@dataclass(frozen=True, slots=True)
class Load:
    """How to load a server. payloads: serialized requests, sent in turn."""

    address: str
    token: str | None
    payloads: Sequence[bytes]
    concurrency: int
    seconds: float
    timeout_s: float


def run_load(load: Load, on_progress: Callable[[float, int], None]) -> LoadReport:
    """Load the server for `load.seconds`; on_progress(share of the time, requests so far)."""
    return asyncio.run(_Loop(load).run(on_progress))


class _Loop:
    def __init__(self, load: Load) -> None:
        self._load = load
        self._payloads: Iterator[bytes] = itertools.cycle(load.payloads)
        self._metadata = call_metadata(load.token)
        self._latencies_ns: list[int] = []
        self._errors: Counter[str] = Counter()
        self._count_from_ns = 0
        self._end_ns = 0

    async def run(self, on_progress: Callable[[float, int], None]) -> LoadReport:
        async with grpc.aio.insecure_channel(
            self._load.address, options=CHANNEL_OPTIONS
        ) as channel:
            call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(
                f"{INFERENCE_SERVICE}ModelInfer"
            )
            self._count_from_ns = time.perf_counter_ns() + int(WARMUP_S * 1e9)
            self._end_ns = self._count_from_ns + int(self._load.seconds * 1e9)
            callers = [asyncio.create_task(self._call(call)) for _ in range(self._load.concurrency)]
            progress = asyncio.create_task(self._report(on_progress))
            await asyncio.gather(*callers)
            progress.cancel()
        return self._summary()

    async def _call(self, call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]) -> None:
        while (start_ns := time.perf_counter_ns()) < self._end_ns:
            status = ""
            try:
                await call(
                    next(self._payloads), timeout=self._load.timeout_s, metadata=self._metadata
                )
            except grpc.RpcError as error:
                status = from_rpc(error).status.name
            end_ns = time.perf_counter_ns()
            if start_ns < self._count_from_ns:
                continue
            if status:
                self._errors[status] += 1
            else:
                self._latencies_ns.append(end_ns - start_ns)

    async def _report(self, on_progress: Callable[[float, int], None]) -> None:
        while True:
            done_ns = time.perf_counter_ns() - self._count_from_ns
            on_progress(max(0.0, done_ns / 1e9 / self._load.seconds), len(self._latencies_ns))
            await asyncio.sleep(TICK_S)

    def _summary(self) -> LoadReport:
        latencies_us = np.array(self._latencies_ns) / 1e3
        requests = len(latencies_us)
        p50, p90, p99, most = (
            np.percentile(latencies_us, [50, 90, 99, 100]) if requests else [float("nan")] * 4
        )
        return LoadReport(
            seconds=self._load.seconds,
            requests=requests,
            errors=dict(self._errors),
            requests_per_s=round(requests / self._load.seconds, 1),
            p50_us=round(float(p50), 1),
            p90_us=round(float(p90), 1),
            p99_us=round(float(p99), 1),
            max_us=round(float(most), 1),
        )
