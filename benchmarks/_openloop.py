"""Open-loop load: calls leave when their time has come, whether or not earlier ones were answered.

Every latency counts from the moment the call was due, so a server that stalls cannot hide by
keeping the client from asking (no coordinated omission). One thread, one core; it reports how late
its calls left and how much of its core it took, so that a run it could not keep up with shows.
"""

from __future__ import annotations

import gc
import socket
import time
from collections import deque
from dataclasses import dataclass
from itertools import cycle
from math import ceil
from select import select

import numpy as np
from _http2 import Connection, Http2Failed
from _load import LoadFailed
from numpy.typing import NDArray

OK, DEADLINE_EXCEEDED, RESOURCE_EXHAUSTED, UNAVAILABLE = 0, 4, 8, 14
REFUSALS = (RESOURCE_EXHAUSTED, UNAVAILABLE)
NEVER_SENT = -1
# A server has this long to report the deadline itself; then the client gives up. It resets no
# stream: servers end a connection after some 20 resets of streams that they had no time to accept.
GRACE_S = 0.05
CONNECT_TIMEOUT_S = 10.0
RECEIVE_BYTES = 262_144
# The client looks at most this often: calls leave and answers are seen up to so much later, and its
# CPU time per call halves at 8,000 calls/s, where the server shares the machine.
TICK_S = 0.0005
# It looks at least this often for calls to give up.
IDLE_S = 0.01
# From the last preparation to the schedule's begin.
LEAD_S = 0.05


@dataclass(frozen=True)
class Outcome:
    """One open loop, an array element per call. Times in seconds since the schedule's begin.

    status: gRPC's number, or NEVER_SENT for a call that found no free stream before its deadline.
    client_cpu_s: processor time of the client.
    """

    due_s: NDArray[np.float64]
    sent_s: NDArray[np.float64]
    done_s: NDArray[np.float64]
    status: NDArray[np.int64]
    client_cpu_s: float

    @property
    def seconds(self) -> float:
        """From the schedule's begin to the last call due."""
        return float(self.due_s[-1])


def poisson(rate_per_s: float, seconds: float, seed: int = 0) -> NDArray[np.float64]:
    """When calls are due: independent of each other at a mean rate, the same in every run."""
    random = np.random.default_rng(seed)
    count = round(rate_per_s * seconds)
    gaps: NDArray[np.float64] = random.exponential(1 / rate_per_s, count)
    return np.cumsum(gaps)


def open_loop(
    address: str, message: bytes, due_s: NDArray[np.float64], deadline_s: float, connections: int
) -> Outcome:
    """Makes one call per entry of due_s, which is sorted; each has deadline_s from then.

    Calls go to the connections in turn, to the next one if one has no free stream, and wait in the
    client if none has. Raises LoadFailed if the server cannot be reached or ends a connection.
    """
    loop = _Loop(address, message, deadline_s, connections)
    gc.collect()
    gc.disable()
    try:
        loop.connect()
        return loop.run(due_s)
    except (OSError, Http2Failed) as failure:
        raise LoadFailed(f"open loop at {address}: {failure}") from failure
    finally:
        gc.enable()
        loop.close()


class _Loop:
    """The sockets and clocks of one open loop."""

    def __init__(self, address: str, message: bytes, deadline_s: float, connections: int) -> None:
        self._address = address
        self._deadline_s = deadline_s
        self._connections = [Connection(address, message) for _ in range(connections)]
        self._by_socket: dict[socket.socket, Connection] = {}
        self._turn = cycle(self._connections)

    def connect(self) -> None:
        """Opens the connections and waits until the server has said what it allows."""
        host, _, port = self._address.rpartition(":")
        for connection in self._connections:
            opened = socket.create_connection((host, int(port)), timeout=CONNECT_TIMEOUT_S)
            opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._by_socket[opened] = connection
            while not connection.settled:
                self._send(opened)
                connection.received(self._receive(opened))
            opened.setblocking(False)

    def close(self) -> None:
        """Closes the connections."""
        for opened in self._by_socket:
            opened.close()

    def run(self, due_s: NDArray[np.float64]) -> Outcome:
        """Makes the calls and waits for all of them."""
        count = len(due_s)
        # Lists: an element of an array costs ten times as much.
        sent_at, done_at = [0.0] * count, [0.0] * count
        status = [NEVER_SENT] * count
        waiting: deque[int] = deque()
        # Calls in the order of their deadlines, to give them up.
        given: deque[int] = deque()
        wait_s = self._deadline_s + GRACE_S
        cpu_s = time.process_time()
        begin = time.perf_counter() + LEAD_S
        due = (due_s + begin).tolist()
        position = ended = 0
        now = 0.0
        while ended < count:
            time.sleep(max(0.0, now + TICK_S - time.perf_counter()))
            now = time.perf_counter()
            while position < count and due[position] <= now:
                waiting.append(position)
                position += 1
            while waiting:
                token = waiting[0]
                left_s = due[token] + self._deadline_s - now
                if left_s <= 0:
                    done_at[token] = now
                    ended += 1
                elif (connection := self._free()) is not None:
                    sent_at[token] = now
                    status[token] = DEADLINE_EXCEEDED
                    connection.call(token, ceil(left_s * 1000))
                    given.append(token)
                else:
                    break
                waiting.popleft()
            while given and due[given[0]] + wait_s <= now:
                token = given.popleft()
                if done_at[token] == 0.0:
                    done_at[token] = now
                    ended += 1
            for opened in self._ready(self._next_event(due, position, now)):
                for token, answer in self._by_socket[opened].received(self._receive(opened)):
                    if done_at[token] == 0.0:
                        done_at[token] = time.perf_counter()
                        status[token] = answer
                        ended += 1
        cpu_s = time.process_time() - cpu_s
        sent, done = np.array(sent_at), np.array(done_at)
        return Outcome(due_s, sent - begin, done - begin, np.array(status), cpu_s)

    @staticmethod
    def _next_event(due: list[float], position: int, now: float) -> float:
        """Seconds until the next call is due, or until calls may be given up."""
        soon = now + IDLE_S
        return max(0.0, min(soon, due[position] if position < len(due) else soon) - now)

    def _free(self) -> Connection | None:
        for _ in self._connections:
            connection = next(self._turn)
            if connection.can_call():
                return connection
        return None

    def _ready(self, timeout_s: float) -> list[socket.socket]:
        """Sends what is to be sent; the sockets with something to read, at the latest in time."""
        unsent = [opened for opened in self._by_socket if self._send(opened)]
        readable, _, _ = select(list(self._by_socket), unsent, [], timeout_s)
        return readable

    def _send(self, opened: socket.socket) -> bool:
        """Whether bytes are left that the kernel does not take now."""
        out = self._by_socket[opened].out
        if out:
            try:
                del out[: opened.send(out)]
            except BlockingIOError:
                return True
        return bool(out)

    @staticmethod
    def _receive(opened: socket.socket) -> bytes:
        data = opened.recv(RECEIVE_BYTES)
        if not data:
            raise Http2Failed("the server closed the connection")
        return data
