"""READ THIS FIRST: the way of a batch over the GPU.

    host memory -> pinned -> (copy-in stream) -> device -> (compute stream) -> graph -> device
    -> (copy-out stream) -> pinned -> `on_result`

Three streams, tied by events: while one batch computes, the next one is copied in and the last one
out. `submit` only launches; one thread waits for what is done and answers. Each batch in flight has
a `Slot`, memory that nobody else touches until its answer was taken.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import NamedTuple

import numpy as np

from kedge.core.errors import ExecuteTimeout, ServeError, WorkerLost
from kedge.core.ports import BatchResult, Buffer, OnResult, OutputTensor
from kedge.core.settings import BATCHES_PER_WORKER_MAX
from kedge.core.values import VersionManifest
from kedge.executors.cuda.buffers import Slot, host_view
from kedge.executors.cuda.completion import Completion, InFlight
from kedge.executors.cuda.device import Device
from kedge.executors.cuda.faults import DeviceLost, is_out_of_memory, told, wait_until_idle
from kedge.executors.cuda.program import Dims, Inputs, Model, check_numeric
from kedge.executors.cuda.start import choose_runner, run_zeros
from kedge.executors.tensors import Forward, OutputReader, last_line

log = logging.getLogger("kedge.executors")

NS_PER_MS = 1_000_000


class Submitted(NamedTuple):
    """A batch as it came. is_lent: its inputs are the slot's own pinned buffers already."""

    rows: int
    dims: Dims
    inputs: Sequence[Buffer]
    on_result: OnResult
    is_lent: bool


class CudaExecutor:
    """Implements `core.ports.Executor` for one version on one GPU, which this process has for it.

    forward: the model, already on the device. The constructor captures and warms up; it raises
    LoadFailed. `on_result` comes from the executor's own thread, for a batch that fails at its
    launch from the caller's; its outputs lie in pinned memory and are valid until it returns. A
    second `allocate` before `submit` takes back what the first one lent. More batches than
    `batches_free` wait here, so that `submit` may be called from within `on_result`.
    """

    def __init__(
        self,
        manifest: VersionManifest,
        forward: Forward,
        device: Device,
        batches_max: int = BATCHES_PER_WORKER_MAX,
    ) -> None:
        check_numeric(manifest)
        self._manifest = manifest
        self._device = device
        self._batches_max = batches_max
        self._inputs = Inputs(manifest.schema)
        device.enter_thread()
        self._copy_in, self._compute, self._copy_out = (device.stream() for _ in range(3))
        model = Model(manifest, forward, OutputReader(manifest))
        self._runner, self.graph_absent = choose_runner(device, self._compute, model)
        # One more than run: the answer of a batch is read while its successors run.
        self._free = deque(self._new_slot() for _ in range(batches_max + 1))
        self._lent: tuple[list[Buffer], Slot] | None = None
        self._backlog: deque[Submitted] = deque()
        self._in_flight = 0
        self._lost: DeviceLost | None = None
        self._when_lost: Callable[[Exception], None] = lambda error: None
        # State is guarded by one lock, launches by another: the answer of a batch must not wait
        # for the launch of the next.
        self._state = threading.Condition()
        self._launching = threading.Lock()
        self._completion = Completion(
            device, manifest.execution.timeout_us * 1_000, self._on_done, self._on_lost
        )
        try:
            run_zeros(self, manifest, self._inputs.is_fixed)
        except BaseException:
            self.close()
            raise

    def __repr__(self) -> str:
        graphs = f"no graph: {self.graph_absent}" if self.graph_absent else "graphs"
        return (
            f"<CudaExecutor {self._manifest.ref} on {self._device.name}, {graphs}, "
            f"{self._in_flight} in flight, {len(self._backlog)} waiting>"
        )

    @property
    def manifest(self) -> VersionManifest:
        """What it was made of."""
        return self._manifest

    @property
    def batches_free(self) -> int:
        return max(0, self._batches_max - self._in_flight)

    def when_lost(self, then: Callable[[Exception], None]) -> None:
        """Call `then` when the device is lost, after everything in flight was answered, from any
        thread: the place to end the process.
        """
        self._when_lost = then

    def close(self) -> None:
        """Answer what was submitted, at most until its deadline; then end the threads."""
        timeout_s = self._manifest.execution.timeout_us / 1e6
        with self._state:
            self._state.wait_for(lambda: self._in_flight == 0, timeout_s)
        self._completion.close()

    # Arrival

    def _new_slot(self) -> Slot:
        """A slot; for fixed shapes with the memory of the largest batch, so that none waits for an
        allocation.
        """
        schema = self._manifest.schema
        slot = Slot(self._device, len(schema.inputs), len(schema.outputs))
        if self._inputs.is_fixed:
            self._device.use(self._copy_in)
            for index, size in enumerate(self._inputs.fixed_row_bytes):
                slot.host_in.first(index, schema.rows_max * size)
                nbytes = self._runner.device_bytes(schema.rows_max, size)
                slot.device_in.first(index, nbytes)
        return slot

    def _sizes(self, rows: int, dims: Dims) -> list[int]:
        return [rows * size for size in self._inputs.row_bytes(dims)]

    def allocate(self, rows: int, dims: Dims, nbytes: Sequence[int]) -> Sequence[Buffer]:
        with self._state:
            if self._lent is not None:
                slot = self._lent[1]
            elif self._free:
                slot = self._free.popleft()
            else:
                return [np.empty(size, dtype=np.uint8) for size in nbytes]
            self._lent = (slot.lend(self._sizes(rows, dims)), slot)
            return self._lent[0]

    def submit(self, rows: int, dims: Dims, inputs: Sequence[Buffer], on_result: OnResult) -> None:
        with self._state:
            if self._lost is not None:
                raise self._lost
            self._in_flight += 1
            is_lent = self._lent is not None and inputs is self._lent[0]
            batch = Submitted(rows, dims, inputs, on_result, is_lent)
            if self._lent is not None and is_lent:
                slot = self._lent[1]
                self._lent = None
            elif self._free:
                slot = self._free.popleft()
            else:
                self._backlog.append(batch)
                return
        self._run(slot, batch)

    # Launch

    def _run(self, slot: Slot, batch: Submitted) -> None:
        """Launch a batch in the slot; if that fails, answer it and go on with the next that waits.

        Raises DeviceLost when everything was answered so.
        """
        current: Submitted | None = batch
        while current is not None and not self._is_launched(slot, current):
            current = self._next(slot)

    def _is_launched(self, slot: Slot, batch: Submitted) -> bool:
        """Whether the device has the batch; else it was answered with what prevented that."""
        try:
            sizes = self._sizes(batch.rows, batch.dims)
            self._inputs.check(sizes, batch.inputs)
            if not batch.is_lent:
                slot.write(sizes, batch.inputs)
            with self._launching:
                self._launch(slot, batch)
            return True
        except Exception as error:
            self._answer_failed(slot, batch.on_result, error)
            return False

    def _launch(self, slot: Slot, batch: Submitted) -> None:
        device, rows = self._device, batch.rows
        device.enter_thread()
        device.use(self._copy_in)
        for index, size in enumerate(self._inputs.row_bytes(batch.dims)):
            if size > 0:
                slot.device_in.first(index, self._runner.device_bytes(rows, size))
                pinned = slot.host_in.first(index, rows * size)
                device.copy(slot.device_in.first(index, rows * size), pinned)
        slot.arrived.record(self._copy_in)
        device.use(self._compute)
        self._compute.wait_event(slot.arrived)
        slot.started.record(self._compute)
        outputs = self._runner.compute(slot, rows, batch.dims)
        slot.computed.record(self._compute)
        device.use(self._copy_out)
        self._copy_out.wait_event(slot.computed)
        for index, output in enumerate(outputs):
            if output.nbytes > 0:
                device.copy(slot.host_out.first(index, output.nbytes), output.raw)
        slot.done.record(self._copy_out)
        self._completion.put(InFlight(slot, batch.on_result, outputs))

    def _answer_failed(self, slot: Slot, on_result: OnResult, error: Exception) -> None:
        try:
            if isinstance(error, DeviceLost):
                raise error
            wait_until_idle(self._device)
            if is_out_of_memory(error):
                slot.release_device_memory()
                self._device.release_memory()
            answer = told(self._manifest.ref, self._device.name, error)
        except DeviceLost as lost:
            self._answer(on_result, BatchResult((), WorkerLost(str(lost)), 0))
            raise self._lose(lost) from error
        self._answer(on_result, BatchResult((), answer, 0))

    def _next(self, slot: Slot) -> Submitted | None:
        """The next batch that waits for a slot; None if there is none, then the slot is free."""
        with self._state:
            if self._backlog:
                return self._backlog.popleft()
            self._free.append(slot)
            return None

    # Answer

    def _on_done(self, batch: InFlight) -> None:
        try:
            result = self._result(batch)
        except Exception as error:
            self._answer(batch.on_result, BatchResult((), WorkerLost(last_line(error)), 0))
            self._on_lost(error)
            return
        self._answer(batch.on_result, result)
        waiting = self._next(batch.slot)
        if waiting is not None:
            # What waited is answered also when the device is lost, and `submit` says so next.
            with suppress(DeviceLost):
                self._run(batch.slot, waiting)

    @staticmethod
    def _result(batch: InFlight) -> BatchResult:
        """What a batch that is done answers, in the slot's own memory."""
        slot = batch.slot
        outputs = [
            OutputTensor(host_view(slot.host_out.first(index, output.nbytes)), output.shape)
            for index, output in enumerate(batch.outputs)
        ]
        infer_ns = int(slot.started.elapsed_time(slot.computed) * NS_PER_MS)
        return BatchResult(outputs, None, infer_ns)

    def _answer(self, on_result: OnResult, result: BatchResult) -> None:
        with self._state:
            self._in_flight -= 1
        try:
            on_result(result, True)
        except Exception:
            log.exception("batch.answer_failed model=%s", self._manifest.ref)
        with self._state:
            self._state.notify_all()

    # Loss

    def _on_lost(self, error: Exception | None) -> None:
        if error is not None:
            self._lose(DeviceLost(f"{self._device.name}: {last_line(error)}"))
            return
        timeout_s = self._manifest.execution.timeout_us / 1e6
        overdue = f"a batch took longer than execute_timeout ({timeout_s:g} s)"
        self._lose(DeviceLost(f"{self._device.name}: {overdue}"), ExecuteTimeout(overdue))

    def _lose(self, lost: DeviceLost, first: ServeError | None = None) -> DeviceLost:
        """Answer everything, the oldest with `first`; returns the loss that came first."""
        with self._state:
            if self._lost is not None:
                return self._lost
            self._lost = lost
            waiting = [batch.on_result for batch in self._backlog]
            self._backlog.clear()
        log.error("cuda.lost model=%s reason=%s", self._manifest.ref, lost)
        for on_result in [*(batch.on_result for batch in self._completion.stop()), *waiting]:
            self._answer(on_result, BatchResult((), first or WorkerLost(str(lost)), 0))
            first = None
        self._when_lost(lost)
        return lost
