"""Waits for batches on the device and hands them on, in order, from one thread; with a deadline.

The thread sleeps in the driver, without the GIL, until a batch is done. A second one, which nearly
always sleeps, looks whether the oldest batch is overdue: the first cannot, for a hung device never
wakes it.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from queue import SimpleQueue

from kedge.core.ports import OnResult
from kedge.executors.cuda.buffers import Slot
from kedge.executors.cuda.device import Device
from kedge.executors.cuda.faults import DeviceLost
from kedge.executors.cuda.runners import Computed

# Overdue batches are seen after this share of the deadline, and within a second.
WATCHES_PER_TIMEOUT = 8
WATCH_S_MAX = 1.0
# Longest wait for a thread to end: it has nothing to do any more, or hangs for ever.
JOIN_S_MAX = 1.0


class InFlight:
    """A batch that the device has and that is not answered yet. outputs: kept until then, for the
    device still writes and reads them.
    """

    __slots__ = ("on_result", "outputs", "slot")

    def __init__(self, slot: Slot, on_result: OnResult, outputs: Sequence[Computed]) -> None:
        self.slot = slot
        self.on_result = on_result
        self.outputs = outputs


class Completion:
    """on_done(batch): its outputs are on the host. on_lost(error or None): the device failed, or
    (None) the oldest batch is overdue. Both from this object's threads.
    """

    def __init__(
        self,
        device: Device,
        timeout_ns: int,
        on_done: Callable[[InFlight], None],
        on_lost: Callable[[Exception | None], None],
    ) -> None:
        self._device = device
        self._timeout_ns = timeout_ns
        self._on_done = on_done
        self._on_lost = on_lost
        self._arrived: SimpleQueue[InFlight | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._in_flight: deque[InFlight] = deque()
        # When the oldest batch had the device to itself: a batch does not answer for the time of
        # the one before it.
        self._oldest_since_ns = 0
        self._is_over = threading.Event()
        self._threads = [
            threading.Thread(target=self._wait_for_batches, name="kedge-cuda", daemon=True),
            threading.Thread(target=self._watch, name="kedge-cuda-watch", daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def put(self, batch: InFlight) -> None:
        """Take a batch whose last work was given to the device. Raises DeviceLost after `stop`."""
        with self._lock:
            if self._is_over.is_set():
                raise DeviceLost("the device was given up")
            if not self._in_flight:
                self._oldest_since_ns = time.monotonic_ns()
            self._in_flight.append(batch)
        self._arrived.put(batch)

    def stop(self) -> list[InFlight]:
        """Give up the device; what was not answered, oldest first. Nothing is called any more."""
        with self._lock:
            self._is_over.set()
            batches = list(self._in_flight)
            self._in_flight.clear()
        self._arrived.put(None)
        return batches

    def close(self) -> None:
        """Ends the threads; when the device hangs, without the one that waits for it."""
        self._arrived.put(None)
        self._is_over.set()
        for thread in self._threads:
            thread.join(JOIN_S_MAX)

    def _wait_for_batches(self) -> None:
        self._device.enter_thread()
        while (batch := self._arrived.get()) is not None:
            try:
                batch.slot.done.synchronize()
            except Exception as error:
                self._on_lost(error)
                return
            if self._take(batch):
                self._on_done(batch)

    def _take(self, batch: InFlight) -> bool:
        """Whether the batch is still to be answered: the device may have been given up."""
        with self._lock:
            if not self._in_flight:
                return False
            oldest = self._in_flight.popleft()
            self._oldest_since_ns = time.monotonic_ns()
        assert oldest is batch, "batches end in the order of their launch"
        return True

    def _watch(self) -> None:
        interval_s = min(self._timeout_ns / WATCHES_PER_TIMEOUT / 1e9, WATCH_S_MAX)
        while not self._is_over.wait(interval_s):
            if self.is_overdue(time.monotonic_ns()):
                self._on_lost(None)

    def is_overdue(self, now_ns: int) -> bool:
        """Whether the oldest batch has been on the device for longer than it may."""
        with self._lock:
            return bool(self._in_flight) and now_ns - self._oldest_since_ns > self._timeout_ns
