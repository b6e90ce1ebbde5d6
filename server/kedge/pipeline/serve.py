"""READ THIS FIRST: the way of a request through the gateway, from the front's events to the
answers.

    receive -> decode -> admit -> form a batch -> gather -> execute -> encode -> respond
 The loop blocks for the first event and drains the front to empty before it takes a batch, so that
cancellations are seen and bounds hold. Inline executors run to completion on this loop; others call
back from their own threads. One lock guards everything, and whoever brings something does the work.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence

from kedge.core.errors import (
    ExecuteTimeout,
    Internal,
    QueueTimeout,
    ServeError,
    ShuttingDown,
    WorkerLost,
)
from kedge.core.ports import BatchResult, Clock, Drain, Executor, Front
from kedge.core.settings import EVENTS_PER_DRAIN_MAX, QUEUE_BYTES_MAX
from kedge.core.values import Catalog, ServedVersion
from kedge.pipeline.answer import encode_answers
from kedge.pipeline.batch import Batch, join
from kedge.pipeline.blocks import RequestBlock
from kedge.pipeline.decode import Decoder
from kedge.pipeline.former import BatchFormer
from kedge.pipeline.lane import Lane

log = logging.getLogger("kedge.pipeline")

NS_PER_MS = 1_000_000
# How long the loop sleeps when nothing waits: it must look for SIGTERM, which the front does not
# notice.
IDLE_WAIT_MS = 50
# After the last answer the front still writes to its sockets; closing it at once would cut them
# off.
LINGER_NS = 200 * NS_PER_MS

# Batches in a row whose worker ended under them, until the model is to blame and not a request.
WORKERS_LOST_MAX = 4
# Batches given out at once when workers come: as many as one gateway can have at 32 workers.
DISPATCHES_MAX = 64

# The front is drained to empty before a batch is taken, but a flood must not keep batches from
# running: after 16 x 512 events even the widest client has its cancellations seen.
DRAINS_MAX = 16

NOTHING = Drain([], [], [], [])

HandleCall = Callable[[int, bytes, Callable[[bytes | ServeError], None]], None]


class Gateway:
    """Receives, batches, executes and answers until `stop`, then drains.

    handle_call: answers every method that is no inference. queue_bytes_max: bound on the bytes that
    wait in all queues together.
    """

    def __init__(
        self,
        front: Front,
        handle_call: HandleCall,
        clock: Clock,
        queue_bytes_max: int = QUEUE_BYTES_MAX,
    ) -> None:
        self._front = front
        self._handle_call = handle_call
        self._clock = clock
        self._queue_bytes_max = queue_bytes_max
        self._lock = threading.RLock()
        self._decoder = Decoder()
        self._waiting: dict[BatchFormer, Lane] = {}
        self._queue_bytes = 0
        self._batches_running = 0
        self._running: dict[ServedVersion[Executor], int] = {}
        self._alone: set[ServedVersion[Executor]] = set()
        self._draining = False
        self._is_dispatching = False
        self.refused: dict[str, int] = {}

    # What others ask of the gateway, from any thread

    @property
    def draining(self) -> bool:
        return self._draining

    @property
    def queue_bytes(self) -> int:
        """Raw input bytes that wait in all queues."""
        return self._queue_bytes

    def install(self, catalog: Catalog[Executor]) -> None:
        """Serve `catalog` from the next request on. What waits runs where it was accepted."""
        with self._lock:
            self._decoder.install(catalog)

    def is_busy_with(self, served: ServedVersion[Executor]) -> bool:
        """Whether requests that were accepted for a version wait or run."""
        with self._lock:
            waits = any(lane.served is served for lane in self._waiting.values())
            return waits or served in self._running

    def dispatch(self) -> None:
        """An executor can take batches that it could not before: give it what waits."""
        with self._lock:
            for _ in range(DISPATCHES_MAX):
                running = self._batches_running
                self._dispatch_one()
                # Until nothing more is under way: no capacity, nothing due, or it ran inline.
                if self._batches_running == running:
                    return

    def stop(self) -> None:
        """Refuse what comes from now on; `run` returns when everything accepted is answered."""
        self._draining = True

    # The loop

    def run(self, drain_s_max: float) -> bool:
        """Serve until `stop`, then drain at most `drain_s_max`; whether every accepted call was
        answered.
        """
        while not self._draining:
            self._step(self._wait_ms())
        deadline_ns = self._clock.now_ns() + int(drain_s_max * 1_000) * NS_PER_MS
        while self._is_busy() and self._clock.now_ns() < deadline_ns:
            self._step(min(self._wait_ms(), 1))
        answered = not self._is_busy()
        linger_ns = self._clock.now_ns() + LINGER_NS
        while self._clock.now_ns() < linger_ns:
            self._step(10)
        return answered

    def _is_busy(self) -> bool:
        # A batch that another thread is about to queue again neither waits nor runs meanwhile.
        with self._lock:
            return bool(self._waiting) or self._batches_running > 0

    def _step(self, wait_ms: int) -> None:
        """Take what the front has, then run at most one batch."""
        drain = self._front.receive(EVENTS_PER_DRAIN_MAX, wait_ms)
        if drain is None:
            self._draining = True
            return
        with self._lock:
            self._arrive(drain)
            for _ in range(DRAINS_MAX):
                if drain.events < EVENTS_PER_DRAIN_MAX:
                    break
                drain = self._front.receive(EVENTS_PER_DRAIN_MAX, 0) or NOTHING
                self._arrive(drain)
            self._dispatch_one()

    def _wait_ms(self) -> int:
        """How long the front may block: 0 if a batch is due within a millisecond.

        The last fraction is spent polling, because the front's time-out counts in milliseconds.
        """
        with self._lock:
            due_ns = self._next_due_ns()
        if due_ns == 0:
            return IDLE_WAIT_MS
        left_ms = (due_ns - self._clock.now_ns()) // NS_PER_MS
        return int(min(max(left_ms, 0), IDLE_WAIT_MS))

    def _next_due_ns(self) -> int:
        """When the next batch or expiry is due, 0 if there is nothing to wait for."""
        due_ns = 0
        for former, lane in self._waiting.items():
            times = []
            if self._can_run(former, lane):
                times.append(former.due_ns())
            if lane.can_expire and (expiry_ns := former.next_expiry_ns()):
                times.append(expiry_ns)
            for time_ns in times:
                due_ns = min(due_ns or time_ns, time_ns)
        return due_ns

    # Arrival

    def _arrive(self, drain: Drain) -> None:
        if drain.infer_ids:
            if self._draining:
                self._refuse(drain.infer_ids, ShuttingDown(), None)
            else:
                self._accept(drain.infer_ids, drain.infer_payloads)
        for call_id in drain.cancelled:
            self._cancel(call_id)
        for call in drain.calls:
            self._handle(call.call_id, call.method, call.payload)

    def _accept(self, call_ids: list[int], payloads: list[bytes]) -> None:
        decoded, refused = self._decoder.decode(call_ids, payloads, self._clock.now_ns())
        for lane, block in decoded:
            self._admit(lane, block)
        for call_id, refusal in refused:
            if refusal.lane is not None:
                refusal.lane.statistics.path_requests["protobuf"] += 1
            self._refuse([call_id], refusal.error, refusal.lane)

    def _admit(self, lane: Lane, block: RequestBlock) -> None:
        lane.statistics.path_requests[block.path] += block.requests
        bytes_free = self._queue_bytes_max - self._queue_bytes
        bytes_before = lane.statistics.bytes_pending
        former, refused = lane.admit(block, bytes_free)
        self._queue_bytes += lane.statistics.bytes_pending - bytes_before
        if former is not None:
            self._waiting[former] = lane
        if refused is not None:
            self._refuse(refused.call_ids, lane.refusal(bytes_free), lane)

    def _cancel(self, call_id: int) -> None:
        """Free the slot of a call that still waits; one that runs, runs on and is not answered."""
        for former, lane in self._waiting.items():
            block = former.cancel(call_id)
            if block is not None:
                self._left_queue(lane, former, [block])
                waited_ns = self._clock.now_ns() - block.arrived_ns
                lane.statistics.count_failure("CANCELED", 1, waited_ns)
                return

    def _handle(self, call_id: int, method: int, payload: bytes) -> None:
        def answer(result: bytes | ServeError) -> None:
            if isinstance(result, ServeError):
                self._front.fail(call_id, result)
            else:
                self._front.respond(call_id, result)

        try:
            self._handle_call(method, payload, answer)
        except Exception:
            log.exception("call.failed method=%d", method)
            self._front.fail(call_id, Internal())

    def _refuse(self, call_ids: Sequence[int], error: ServeError, lane: Lane | None) -> None:
        for call_id in call_ids:
            self._front.fail(call_id, error)
            if lane is not None:
                lane.statistics.count_refusal(error.reason)
            else:
                self.refused[error.reason] = self.refused.get(error.reason, 0) + 1

    # Execution

    def _dispatch_one(self) -> None:
        """Expire what waited too long, then run the batch that has been due longest."""
        if not self._waiting or self._is_dispatching:
            return
        now_ns = self._clock.now_ns()
        self._expire(now_ns)
        chosen: BatchFormer | None = None
        chosen_due_ns = 0
        for former, lane in self._waiting.items():
            due_ns = former.due_ns()
            if due_ns > now_ns or not self._can_run(former, lane):
                continue
            if chosen is None or due_ns < chosen_due_ns:
                chosen, chosen_due_ns = former, due_ns
        if chosen is None:
            return
        lane = self._waiting[chosen]
        blocks = chosen.take()
        self._left_queue(lane, chosen, blocks)
        self._is_dispatching = True
        try:
            self._execute(lane, blocks)
        finally:
            self._is_dispatching = False

    def _can_run(self, former: BatchFormer, lane: Lane) -> bool:
        """Whether a batch may go to the executor now.

        What runs alone has the model for itself: a worker that ends under it must take no other
        request along, and workers join batches that they have at once.
        """
        served = lane.served
        if served in self._alone:
            return False
        if former.is_next_alone and served in self._running:
            return False
        if lane.lone_requests > 0 and not former.is_next_alone:
            return False  # other shapes would keep what must run alone waiting for ever
        return served.executor.batches_free > 0

    def _left_queue(self, lane: Lane, former: BatchFormer, blocks: Sequence[RequestBlock]) -> None:
        for block in blocks:
            lane.account(block, -1)
            self._queue_bytes -= block.nbytes
        if not former.requests:
            del self._waiting[former]
            if lane.fixed_dims is None:
                lane.forget_idle_shapes()

    def _expire(self, now_ns: int) -> None:
        for former, lane in list(self._waiting.items()):
            blocks = former.expired(now_ns) if lane.can_expire else []
            if blocks:
                self._left_queue(lane, former, blocks)
            for block in blocks:
                waited_ns = block.requests * (now_ns - block.arrived_ns)
                lane.statistics.count_failure("REJECTED", block.requests, waited_ns)
                for call_id in block.call_ids:
                    self._front.fail(call_id, QueueTimeout())

    def _execute(self, lane: Lane, blocks: list[RequestBlock]) -> None:
        batch = join(lane, blocks, self._clock.now_ns())
        self._batches_running += 1
        self._running[lane.served] = self._running.get(lane.served, 0) + 1
        if blocks[0].runs_alone:
            self._alone.add(lane.served)
        executor = lane.served.executor
        try:
            sizes = lane.input_bytes(batch.fields, batch.rows, batch.dims)
            inputs = executor.allocate(batch.rows, batch.dims, sizes)
            lane.gather(batch.fields, batch.dims, inputs)
            batch.gathered_ns = self._clock.now_ns()
            executor.submit(
                batch.rows,
                batch.dims,
                inputs,
                lambda result, final: self._on_result(batch, result, final),
            )
        except Exception:  # no memory or descriptor for its tensors, or a bug of the executor's
            log.exception("batch.failed model=%s", lane.served.ref)
            if not batch.is_over:
                self._on_result(batch, BatchResult((), Internal(), 0), True)

    # Completion

    def _on_result(self, batch: Batch, result: BatchResult, final: bool) -> None:
        with self._lock:
            if final:
                batch.is_over = True
                self._count_ended(batch.lane.served)
            try:
                self._finish(batch, result)
            except ServeError as error:
                self._fail(batch, error)
            except Exception:
                log.exception("batch.failed model=%s", batch.lane.served.ref)
                self._fail(batch, Internal())
            if not self._is_dispatching:
                self._dispatch_one()

    def _count_ended(self, served: ServedVersion[Executor]) -> None:
        self._batches_running -= 1
        self._running[served] -= 1
        if not self._running[served]:
            del self._running[served]
        self._alone.discard(served)

    def _finish(self, batch: Batch, result: BatchResult) -> None:
        infer_end_ns = self._clock.now_ns()
        if result.error is not None:
            self._on_error(batch, result.error)
            return
        answers = encode_answers(batch.lane, batch.fields, result.outputs)
        respond = self._front.respond
        for call_id, answer in zip(batch.call_ids, answers, strict=True):
            respond(call_id, answer)
        batch.count_success(
            result.infer_ns, infer_end_ns, self._clock.now_ns(), self._clock.wall_ms()
        )
        batch.lane.workers_lost = 0

    def _on_error(self, batch: Batch, error: ServeError) -> None:
        """A batch failed: one request may be to blame, so each runs alone and fails only for
        itself. A lone request runs again if its worker ended, perhaps for other reasons. Where
        worker after worker ends, the model is to blame.
        """
        lane = batch.lane
        is_lost = isinstance(error, WorkerLost | ExecuteTimeout)
        lane.workers_lost = lane.workers_lost + 1 if is_lost else 0
        is_over = lane.workers_lost >= WORKERS_LOST_MAX
        may_help = len(batch.call_ids) > 1 or isinstance(error, WorkerLost)
        if may_help and not batch.blocks[0].runs_alone and not is_over:
            self._run_one_by_one(batch)
            return
        self._fail(batch, error)
        if is_over:
            for former, owner in list(self._waiting.items()):
                if owner is lane and (lone := former.take_lone()):
                    self._left_queue(lane, former, lone)
                    self._fail(join(lane, lone, self._clock.now_ns()), error)

    def _run_one_by_one(self, batch: Batch) -> None:
        """Queue each request to run alone, before all others and in order."""
        lane = batch.lane
        former = lane.former(batch.dims)
        for block in reversed(batch.blocks):
            for lone in reversed(block.apart()):
                lone.runs_alone = True
                former.add_first(lone)
                lane.account(lone, +1)
                self._queue_bytes += lone.nbytes
        self._waiting[former] = lane

    def _fail(self, batch: Batch, error: ServeError) -> None:
        for call_id in batch.call_ids:
            self._front.fail(call_id, error)
        waited_ns = batch.waited_ns(self._clock.now_ns())
        batch.lane.statistics.count_failure("BACKEND", len(batch.call_ids), waited_ns)
