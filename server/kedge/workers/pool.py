"""The workers of one version, behind `core.ports.Executor`.

Chooses the worker of each batch, and decides what becomes of the batches of a worker that ended:
one that it had begun to run fails, one that it had not runs elsewhere.
"""

from __future__ import annotations

import logging
import socket
import threading
from collections import deque
from collections.abc import Callable, Sequence

import numpy as np

from kedge.core.errors import (
    ExecuteTimeout,
    Internal,
    InvalidRequest,
    ModelFailed,
    ServeError,
    Unavailable,
    WorkerLost,
    error_from_reason,
)
from kedge.core.ports import BatchResult, Buffer, Clock, OnResult
from kedge.core.settings import BATCHES_PER_WORKER_MAX
from kedge.core.values import VersionManifest
from kedge.workers.slots import Answer, Grant, Link, Slot, SlotBuffers, places_for

log = logging.getLogger("kedge.workers")

NS_PER_US = 1_000
# Workers in a row that may end before they begin a batch that they have: then it is to blame.
MOVES_MAX = 4
# What a model may fail with. Other words are the server's own, and clients act on them.
WORKER_ERRORS = (InvalidRequest, ModelFailed, WorkerLost, Internal)


class WorkerPool:
    """Implements `core.ports.Executor` over any number of workers, which come and go.

    on_capacity: called from any thread, without locks, when batches can be submitted that could
    not be before. `submit` and `allocate` are called by one thread at a time.
    """

    def __init__(
        self, manifest: VersionManifest, clock: Clock, on_capacity: Callable[[], None]
    ) -> None:
        self._manifest = manifest
        self._clock = clock
        self._on_capacity = on_capacity
        # Guards all that follows. Never held while a result is handed over.
        self._lock = threading.Lock()
        self._links: list[Link] = []
        self._orphans: deque[Grant] = deque()
        self._down: ServeError | None = None
        self._lent: Slot | None = None
        self._serial = 0

    def __repr__(self) -> str:
        return f"<WorkerPool {self._manifest.ref} {self._links}>"

    # Executor

    @property
    def batches_free(self) -> int:
        if self._down is not None:
            return 1  # to be told so
        if self._orphans:
            return 0
        return sum(link.slots_free for link in self._links)

    def allocate(
        self, rows: int, dims: Sequence[tuple[int, ...]], nbytes: Sequence[int]
    ) -> Sequence[Buffer]:
        with self._lock:
            self._take_back()
            link = max(self._links, key=lambda link: link.slots_free, default=None)
            if link is None or link.slots_free == 0:
                return [np.empty(size, dtype=np.uint8) for size in nbytes]
            places, total_bytes = places_for(nbytes, dims)
            slot = link.free_slot()
            slot.input_for(total_bytes)
            slot.is_lent = True
            self._lent = slot
            return SlotBuffers(slot, places, link)

    def _take_back(self) -> None:
        """What `allocate` lent is either submitted now or never."""
        if self._lent is not None:
            self._lent.is_lent = False
            self._lent = None

    def submit(
        self,
        rows: int,
        dims: Sequence[tuple[int, ...]],
        inputs: Sequence[Buffer],
        on_result: OnResult,
    ) -> None:
        with self._lock:
            self._take_back()
            down = self._down
            if down is None:
                self._grant(rows, dims, inputs, on_result)
        if down is not None:
            on_result(BatchResult((), down, 0), True)

    def _grant(
        self,
        rows: int,
        dims: Sequence[tuple[int, ...]],
        inputs: Sequence[Buffer],
        on_result: OnResult,
    ) -> None:
        if not isinstance(inputs, SlotBuffers):
            inputs = _copied(dims, inputs)
        assert inputs.slot.input is not None
        grant = Grant(rows, inputs.places, inputs.slot.input, on_result)
        if inputs.link is None or inputs.link.is_broken:
            self._orphans.append(grant)
            self._place_orphans()
        else:
            self._send(inputs.link, inputs.slot, grant)

    def _send(self, link: Link, slot: Slot, grant: Grant) -> None:
        # Unique in the pool: an orphan's memory still has the serial of the batch before it.
        self._serial += 1
        grant.serial = self._serial
        link.send(slot, grant, self._clock.now_ns())

    def close(self) -> None:
        """Let the workers go; what they have, and all that is submitted now, fails."""
        error = Unavailable(f"model '{self._manifest.ref}' was unloaded")
        with self._lock:
            self._down = error
            links, self._links = self._links, []
            failed = [grant for link in links for grant in _unfinished(link)]
            for grant in failed:
                grant.is_over = True
            failed += self._take_orphans()
        for link in links:
            link.close()
        self._fail(failed, error)
        self._on_capacity()

    # Workers come and go

    @property
    def is_idle(self) -> bool:
        """Whether no worker has anything to run."""
        return not self._orphans and not any(link.grants for link in self._links)

    def attach(self, connection: socket.socket, worker: int) -> Link:
        """A worker that has loaded the model; the caller reads its link and calls `receive`."""
        link = Link(connection, worker, self._manifest.schema, BATCHES_PER_WORKER_MAX)
        with self._lock:
            self._down = None
            self._links.append(link)
            self._place_orphans()
        self._on_capacity()
        return link

    def set_down(self, error: ServeError) -> None:
        """No worker can be started: everything gets `error` at once until one is attached.

        Nothing changes while there is one, which was attached when this was on its way.
        """
        with self._lock:
            if self._links:
                return
            self._down = error
            orphans = self._take_orphans()
        self._fail(orphans, error)
        self._on_capacity()

    def receive(self, answers: Sequence[Answer]) -> None:
        """Hand over what a link received, then free the slots."""
        for slot, grant, failure, infer_ns, outputs in answers:
            with self._lock:
                is_news, grant.is_over = not grant.is_over, True
            error = None if failure is None else _error_of(*failure)
            try:
                if is_news:
                    grant.on_result(BatchResult(outputs, error, infer_ns), True)
            except Exception:
                log.exception("worker.answer_failed model=%s", self._manifest.ref)
            with self._lock:
                if slot.grant is grant:
                    slot.grant = None
                self._place_orphans()
        self._on_capacity()

    def overdue(self, now_ns: int) -> list[Link]:
        """Links whose worker has run one batch for longer than the execute timeout."""
        limit_ns = self._manifest.execution.timeout_us * NS_PER_US
        with self._lock:
            return [
                link for link in self._links if link.grants and now_ns - link.progress_ns > limit_ns
            ]

    def drop(self, link: Link, error: ServeError) -> None:
        """A worker ended, or is to be ended: what it began to run fails with `error`, and what it
        had not begun goes to others, though not for ever.
        """
        with self._lock:
            if link not in self._links:
                return
            self._links.remove(link)
            link.is_broken = True
            failed: list[Grant] = []
            moved: list[Grant] = []
            for grant in _unfinished(link):
                grant.is_over = grant.has_started or grant.moves == MOVES_MAX
                grant.moves += 1
                (failed if grant.is_over else moved).append(grant)
            self._orphans.extendleft(reversed(moved))
            self._place_orphans()
        log.warning("worker.lost model=%s worker=%d %s", self._manifest.ref, link.worker, error)
        if len(failed) > 1:
            # The worker joined them: which one hung is only known when each runs by itself.
            error = WorkerLost(str(error))
        self._fail(failed, error)
        self._on_capacity()

    def timed_out(self) -> ExecuteTimeout:
        """The error of a batch that ran too long."""
        seconds = self._manifest.execution.timeout_us / 1e6
        return ExecuteTimeout(
            f"model '{self._manifest.ref}' ran longer than its execute_timeout of {seconds:g} s; "
            "its worker is replaced"
        )

    def ended(self, how: str) -> WorkerLost:
        """The error of a batch whose worker ended."""
        return WorkerLost(
            f"the worker of model '{self._manifest.ref}' ended while it ran this batch: {how}"
        )

    def _place_orphans(self) -> None:
        """Give batches without a worker to whoever is free."""
        while self._orphans:
            link = max(self._links, key=lambda link: link.slots_free, default=None)
            if link is None or link.slots_free == 0:
                return
            grant = self._orphans.popleft()
            slot = link.free_slot()
            slot.replace_input(grant.segment)
            self._send(link, slot, grant)

    def _take_orphans(self) -> list[Grant]:
        """The batches without a worker, which are over now."""
        taken = [grant for grant in self._orphans if not grant.is_over]
        self._orphans.clear()
        for grant in taken:
            grant.is_over = True
        return taken

    @staticmethod
    def _fail(grants: Sequence[Grant], error: ServeError) -> None:
        for grant in grants:
            grant.on_result(BatchResult((), error, 0), True)


def _unfinished(link: Link) -> list[Grant]:
    return [grant for grant in link.grants if not grant.is_over]


def _error_of(reason: str, message: str) -> ServeError:
    error = error_from_reason(reason, message)
    return error if isinstance(error, WORKER_ERRORS) else ModelFailed(message)


def _copied(dims: Sequence[tuple[int, ...]], inputs: Sequence[Buffer]) -> SlotBuffers:
    """Inputs that lie elsewhere, as those of a batch that no worker was free for."""
    places, total_bytes = places_for([buffer.size for buffer in inputs], dims)
    slot = Slot(0)
    slot.input_for(total_bytes)
    lent = SlotBuffers(slot, places, None)
    for target, source in zip(lent, inputs, strict=True):
        target[:] = source
    return lent
