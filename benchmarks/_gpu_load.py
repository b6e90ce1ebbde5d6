"""Client processes that keep prepared requests in flight, and the pace of what came back.

Nothing but grpc: serialized requests go out as they are, and answers are not read.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import time
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Barrier

import numpy as np
from numpy.typing import NDArray

METHOD = "/inference.GRPCInferenceService/ModelInfer"
WARMUP_S = 1.0
CALL_TIMEOUT_S = 60.0
START_TIMEOUT_S = 120.0


class LoadFailed(RuntimeError):
    """A client could not start, or a request was refused."""


@dataclass(frozen=True)
class Load:
    """requests_per_s: between the first and the last answer after the warm-up."""

    requests: int
    requests_per_s: float
    p50_us: float
    p99_us: float


def load(address: str, request: bytes, processes: int, in_flight: int, seconds: float) -> Load:
    """Every process keeps `in_flight` calls open. Raises LoadFailed if any call fails."""
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(processes)
    readers, clients = [], []
    for _ in range(processes):
        reader, writer = context.Pipe(duplex=False)
        arguments = (writer, barrier, address, request, in_flight, WARMUP_S + seconds)
        client = context.Process(target=_client, args=arguments, daemon=True)
        client.start()
        writer.close()
        readers.append(reader)
        clients.append(client)
    try:
        parts = [_received(reader, WARMUP_S + seconds) for reader in readers]
    finally:
        for client in clients:
            client.kill()
            client.join()
    return summary(parts, int(WARMUP_S * 1e9))


def summary(parts: Sequence[NDArray[np.int64]], skip_ns: int) -> Load:
    """parts: per process, columns of when each answer came and how long it took, in ns."""
    ended_ns, took_ns = np.concatenate(parts, axis=1)
    counts = ended_ns >= ended_ns.min() + skip_ns
    ended_ns, took_ns = ended_ns[counts], took_ns[counts]
    return Load(
        len(ended_ns),
        pace(ended_ns),
        *(float(value) / 1e3 for value in np.percentile(took_ns, [50, 99])),
    )


def pace(times_ns: NDArray[np.int64]) -> float:
    """Events per second between the first and the last of them: the edges of a window, which cut
    through batches of 0.1 s, do not count. Raises LoadFailed for fewer than three.
    """
    if len(times_ns) < 3:
        raise LoadFailed(f"only {len(times_ns)} answers came: load for longer")
    return float((len(times_ns) - 1) * 1e9 / (times_ns.max() - times_ns.min()))


def _received(reader: Connection, seconds: float) -> NDArray[np.int64]:
    if not reader.poll(START_TIMEOUT_S + seconds + CALL_TIMEOUT_S):
        raise LoadFailed("a client never came back")
    try:
        answer = reader.recv()
    except EOFError:
        raise LoadFailed("a client ended without an answer") from None
    if isinstance(answer, str):
        raise LoadFailed(answer)
    times: NDArray[np.int64] = answer
    return times


def _client(
    writer: Connection,
    barrier: Barrier,
    address: str,
    request: bytes,
    in_flight: int,
    seconds: float,
) -> None:
    try:
        times = asyncio.run(_call_for(barrier, address, request, in_flight, seconds))
        writer.send(np.array(times, dtype=np.int64).reshape(-1, 2).T)
    except Exception as error:
        writer.send(f"{type(error).__name__}: {error}"[:500])


async def _call_for(
    barrier: Barrier, address: str, request: bytes, in_flight: int, seconds: float
) -> list[tuple[int, int]]:
    import grpc.aio

    options = (
        ("grpc.max_send_message_length", -1),
        ("grpc.max_receive_message_length", -1),
        # Otherwise all processes' channels to one address may share nothing but their names.
        ("grpc.use_local_subchannel_pool", 1),
    )
    times: list[tuple[int, int]] = []
    async with grpc.aio.insecure_channel(address, options=options) as channel:
        call = channel.unary_unary(METHOD)
        await call(request, timeout=CALL_TIMEOUT_S)
        barrier.wait(START_TIMEOUT_S)
        end_ns = time.monotonic_ns() + int(seconds * 1e9)

        async def caller() -> None:
            while (start_ns := time.monotonic_ns()) < end_ns:
                await call(request, timeout=CALL_TIMEOUT_S)
                ended_ns = time.monotonic_ns()
                times.append((ended_ns, ended_ns - start_ns))

        await asyncio.gather(*(caller() for _ in range(in_flight)))
    return times
