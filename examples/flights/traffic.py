"""Flights sent one by one through the stock tritonclient, and what came back."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt
from data import Flights

try:
    from tritonclient.grpc import InferInput
    from tritonclient.grpc.aio import InferenceServerClient
except ModuleNotFoundError as missing:
    raise SystemExit(f"{missing.name} is not installed: pip install 'kedge[examples]'") from None

ENDPOINT = "flights"
VERSIONS = ("1", "2")
REQUEST_S_MAX = 10.0
NS_PER_MS = 1_000_000
NS_PER_S = 1_000_000_000
# Twice a second: drawing takes the client's own time, and with it some 30 requests are late, which
# must stay below one in a hundred for the p99 to be the server's.
WATCH_INTERVAL_S = 0.5


class Traffic:
    """Flights, sent to every version with `in_flight` requests at once, and the answers so far."""

    def __init__(self, flights: Flights, in_flight: int) -> None:
        self.flights = flights
        self.in_flight = in_flight
        # NaN: not answered yet.
        self.probability: dict[str, npt.NDArray[np.float32]] = {
            version: np.full(len(flights), np.nan, dtype=np.float32) for version in VERSIONS
        }
        self.requests_total = len(flights) * len(VERSIONS)
        self._started_ns = 0
        self._latest_ns = 0
        self._latency_ns = np.zeros(self.requests_total, dtype=np.int64)
        self._answers = 0

    @property
    def answers(self) -> int:
        """Requests answered so far, all versions together."""
        return self._answers

    @property
    def elapsed_s(self) -> float:
        """From start() to the latest answer; 0 before it."""
        return (self._latest_ns - self._started_ns) / NS_PER_S

    @property
    def answers_per_s(self) -> float:
        """Over elapsed_s; 0 before the first answer."""
        return self._answers / self.elapsed_s if self.elapsed_s else 0.0

    def latency_ms(self, percentile: float) -> float:
        """As the client saw it, its own work included; NaN before the first answer."""
        latency_ns = self._latency_ns[: self._answers]
        return (
            float(np.percentile(latency_ns, percentile)) / NS_PER_MS if len(latency_ns) else np.nan
        )

    def start(self) -> None:
        """Called before the first request is sent."""
        self._started_ns = self._latest_ns = time.perf_counter_ns()

    def answered(self, version: str, row: int, probability: float, sent_ns: int) -> None:
        """Records the answer to one flight; sent_ns is of time.perf_counter_ns."""
        self._latest_ns = time.perf_counter_ns()
        self.probability[version][row] = probability
        self._latency_ns[self._answers] = self._latest_ns - sent_ns
        self._answers += 1


async def send(address: str, traffic: Traffic, watch: Callable[[], None]) -> None:
    """Sends all flights in order and calls watch() now and then, last when all are answered.

    Raises tritonclient's InferenceServerException at the first request that fails.
    """
    async with InferenceServerClient(address) as client:
        rows = iter(range(len(traffic.flights)))
        traffic.start()
        # One gather: whichever fails first, a request or the drawing, ends the whole.
        await asyncio.gather(
            *(_work(client, traffic, rows) for _ in range(traffic.in_flight)),
            _watch(traffic, watch),
        )


async def _watch(traffic: Traffic, watch: Callable[[], None]) -> None:
    while traffic.answers < traffic.requests_total:
        await asyncio.sleep(WATCH_INTERVAL_S)
        watch()


async def _work(client: InferenceServerClient, traffic: Traffic, rows: Iterator[int]) -> None:
    """One of the concurrent senders: takes the next flight, asks each version, and so on."""
    for row in rows:
        features = InferInput("features", [1, traffic.flights.features.shape[1]], "FP32")
        features.set_data_from_numpy(traffic.flights.features[row : row + 1])
        for version in VERSIONS:
            sent_ns = time.perf_counter_ns()
            answer = await client.infer(ENDPOINT, [features], version, client_timeout=REQUEST_S_MAX)
            probability = float(answer.as_numpy("late_probability")[0, 0])
            traffic.answered(version, row, probability, sent_ns)
