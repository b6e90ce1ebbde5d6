"""What a grpcio front has received and nobody has taken yet: bounded, from one thread to another.

The event loop puts, the gateway's loop takes. Not here: who waits for the answers (`grpcio.py`).
"""

from __future__ import annotations

import threading
from collections import OrderedDict

from kedge.core.errors import QueueFull
from kedge.core.ports import Call, Drain

# The method of an inference call; every other one is an index in the list that the front was given.
INFER = -1


class Inbox:
    """Calls in order of arrival, and cancellations of those that were taken.

    Payloads of at most `bytes_max` bytes together wait; a single larger one passes when it is
    alone. How many calls wait is bounded by whoever puts them.
    """

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._bytes = 0
        self._calls: OrderedDict[int, tuple[int, bytes]] = OrderedDict()
        self._cancelled: list[int] = []
        self._is_closed = False
        self._is_waited_for = False
        self._changed = threading.Condition(threading.Lock())

    @property
    def events(self) -> int:
        """How many wait to be taken."""
        return len(self._calls) + len(self._cancelled)

    @property
    def waiting_bytes(self) -> int:
        return self._bytes

    def put(self, call_id: int, method: int, payload: bytes) -> None:
        """Raises QueueFull when the payload does not fit."""
        with self._changed:
            if self._calls and self._bytes + len(payload) > self._bytes_max:
                raise QueueFull(
                    f"{self._bytes} bytes wait in front of the queues, this message has "
                    f"{len(payload)}, the limit is {self._bytes_max}"
                )
            self._bytes += len(payload)
            self._calls[call_id] = (method, payload)
            self._wake()

    def cancel(self, call_id: int) -> None:
        """Nobody waits for this call's answer. One that was not taken is never seen; its bytes are
        free at once.
        """
        with self._changed:
            call = self._calls.pop(call_id, None)
            if call is not None:
                self._bytes -= len(call[1])
                return
            self._cancelled.append(call_id)
            self._wake()

    def take(self, events_max: int, timeout_ms: int) -> Drain | None:
        """As `core.ports.Front.receive`. One thread at a time."""
        with self._changed:
            if not (self._calls or self._cancelled or self._is_closed) and timeout_ms > 0:
                self._is_waited_for = True
                self._changed.wait(timeout_ms / 1_000)
                self._is_waited_for = False
            if self._is_closed:
                return None
            return self._drain(events_max)

    def close(self) -> None:
        """`take` returns None from now on, and what waits is forgotten."""
        with self._changed:
            self._is_closed = True
            self._calls.clear()
            self._cancelled.clear()
            self._bytes = 0
            self._changed.notify_all()

    def _wake(self) -> None:
        # Waking costs 5 us and is needed once per pause, not once per call.
        if self._is_waited_for:
            self._is_waited_for = False
            self._changed.notify()

    def _drain(self, events_max: int) -> Drain:
        # Cancellations first: they are of calls taken before, and each makes room.
        cancelled = self._cancelled[:events_max]
        del self._cancelled[:events_max]
        drain = Drain([], [], [], cancelled)
        for _ in range(min(events_max - len(cancelled), len(self._calls))):
            call_id, (method, payload) = self._calls.popitem(last=False)
            self._bytes -= len(payload)
            if method == INFER:
                drain.infer_ids.append(call_id)
                drain.infer_payloads.append(payload)
            else:
                drain.calls.append(Call(call_id, method, payload))
        return drain
