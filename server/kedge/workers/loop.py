"""The worker's loop: takes granted batches, merges those that fit together, runs and answers them.

Knows an executor and sockets; not which model, nor who is at the other end.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import socket
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from kedge.core.errors import Internal, ServeError
from kedge.core.ports import BatchResult, Buffer, Executor, OutputTensor
from kedge.core.values import ModelSchema
from kedge.workers.frames import (
    IN_INPUT,
    IN_OUTPUT,
    BatchFrame,
    Place,
    ResultFrame,
    pack_result,
    read_batch,
)
from kedge.workers.segment import Segment, aligned, segment_bytes_for
from kedge.workers.slots import receive_frame, send_frame

log = logging.getLogger("kedge.workers")
Dims = tuple[tuple[int, ...], ...]


class _Memory:
    """What the worker knows of one slot of one gateway."""

    def __init__(self) -> None:
        self.input: Segment | None = None
        self.output: Segment | None = None


class _Gateway:
    """One gateway's connection."""

    def __init__(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        self.socket = connection
        self.slots: dict[int, _Memory] = {}
        self.is_open = True


@dataclass(slots=True, eq=False)
class _Granted:
    """One batch that a gateway granted and that was not run yet."""

    gateway: _Gateway
    memory: _Memory
    frame: BatchFrame
    # One of several that failed together: it runs again without the others.
    runs_alone: bool = False

    @property
    def dims(self) -> Dims:
        return tuple(place.dims for place in self.frame.inputs)

    def inputs(self) -> list[Buffer]:
        assert self.memory.input is not None
        whole = self.memory.input.buffer
        return [whole[p.offset : p.offset + p.nbytes] for p in self.frame.inputs]

    def mark_started(self) -> None:
        """From now on a crash is this batch's, among those that run."""
        assert self.memory.input is not None
        self.memory.input.buffer[:8].view(np.int64)[0] = self.frame.serial


class WorkerLoop:
    """Serves any number of gateways with one executor until the last of them is gone.

    rows_max: most rows in one execution; batches of one shape are joined up to it, so that several
    gateways with small batches do not starve a device. 1: never joined.
    """

    def __init__(self, executor: Executor, schema: ModelSchema, rows_max: int) -> None:
        self._executor = executor
        self._schema = schema
        self._rows_max = rows_max
        self._epoll = select.epoll()
        self._gateways: dict[int, _Gateway] = {}
        self._pending: deque[_Granted] = deque()
        # Put here by whichever thread brings a result; the loop's own takes them.
        self._retries: deque[_Granted] = deque()
        # An executor that answers from its own thread wakes the loop, which waits for a free place.
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._epoll.register(self._wake, select.EPOLLIN)
        self._other: dict[int, Callable[[], None]] = {}
        self._loop_thread = threading.get_ident()
        self._is_stopping = False

    def add_gateway(self, connection: socket.socket) -> None:
        """Serve one gateway more; from the loop's own thread, or before `run`."""
        self._gateways[connection.fileno()] = _Gateway(connection)
        self._epoll.register(connection.fileno(), select.EPOLLIN)

    def watch(self, fd: int, on_readable: Callable[[], None]) -> None:
        """Call `on_readable` on the loop's thread whenever `fd` has something."""
        self._other[fd] = on_readable
        self._epoll.register(fd, select.EPOLLIN)

    def stop(self) -> None:
        """Return from `run` after what runs now; from the loop's own thread."""
        self._is_stopping = True

    def run(self) -> None:
        """Serve until `stop`."""
        self._loop_thread = threading.get_ident()
        while not self._is_stopping:
            while self._retries:
                # Before what came later, and in order.
                self._pending.appendleft(self._retries.pop())
            can_run = bool(self._pending) and self._executor.batches_free > 0
            for fd, _ in self._epoll.poll(0 if can_run else None):
                self._take(fd)
            if self._pending and self._executor.batches_free > 0:
                self._run(self._next_group())

    def _take(self, fd: int) -> None:
        """Everything that one descriptor has."""
        if fd in self._other:
            self._other[fd]()
        elif fd == self._wake:
            os.eventfd_read(self._wake)
        else:
            gateway = self._gateways[fd]
            if not self._receive(gateway):
                gateway.is_open = False
                self._epoll.unregister(fd)
                del self._gateways[fd]
                gateway.socket.close()
                self._pending = deque(one for one in self._pending if one.gateway is not gateway)

    def _receive(self, gateway: _Gateway) -> bool:
        """Queue a batch that a gateway granted; False once it is gone."""
        # One a look: there is rarely a second one, and the next look at all gateways finds it.
        try:
            data, segment_fd = receive_frame(gateway.socket)
        except BlockingIOError:
            return True
        except OSError:
            return False
        if not data:
            return False
        frame = read_batch(data)
        memory = gateway.slots.setdefault(frame.slot, _Memory())
        if segment_fd is not None:
            memory.input = Segment(segment_fd, frame.segment_bytes)
        self._pending.append(_Granted(gateway, memory, frame))
        return True

    # Execution

    def _next_group(self) -> list[_Granted]:
        """The oldest batch, and all others of its shape that fit into one execution with it."""
        first = self._pending.popleft()
        group = [first]
        rows = first.frame.rows
        for other in () if first.runs_alone else list(self._pending):
            if (
                not other.runs_alone
                and rows + other.frame.rows <= self._rows_max
                and other.dims == first.dims
            ):
                rows += other.frame.rows
                group.append(other)
                self._pending.remove(other)
        return group

    def _run(self, group: Sequence[_Granted]) -> None:
        for one in group:
            one.mark_started()
        if len(group) == 1:
            self._run_alone(group[0])
            return
        rows = sum(one.frame.rows for one in group)
        parts = list(zip(*(one.inputs() for one in group), strict=True))
        sizes = [sum(part.size for part in same) for same in parts]
        dims = group[0].dims
        joined = self._executor.allocate(rows, dims, sizes)
        for target, same in zip(joined, parts, strict=True):
            np.concatenate(same, out=target)

        def on_result(result: BatchResult, final: bool) -> None:
            if result.error is not None:
                # One of them is to blame; each runs again by itself.
                for one in group:
                    one.runs_alone = True
                    self._retries.append(one)
                self._awaken()
                return
            row = 0
            for one in group:
                outputs = [_rows_of(output, row, one.frame.rows) for output in result.outputs]
                row += one.frame.rows
                self._answer(one, BatchResult(outputs, None, result.infer_ns), final)

        self._submit(rows, dims, joined, on_result)

    def _run_alone(self, one: _Granted) -> None:
        self._submit(
            one.frame.rows,
            one.dims,
            one.inputs(),
            lambda result, final: self._answer(one, result, final),
        )

    def _submit(
        self,
        rows: int,
        dims: Dims,
        inputs: Sequence[Buffer],
        on_result: Callable[[BatchResult, bool], None],
    ) -> None:
        try:
            self._executor.submit(rows, dims, inputs, on_result)
        except ServeError as error:
            on_result(BatchResult((), error, 0), True)
        except Exception:
            log.exception("worker.execute_failed")
            on_result(BatchResult((), Internal(), 0), True)

    def _awaken(self) -> None:
        if threading.get_ident() != self._loop_thread:
            os.eventfd_write(self._wake, 1)

    # Answers

    def _answer(self, one: _Granted, result: BatchResult, final: bool) -> None:
        try:
            frame, segment = self._result_frame(one, result, final)
        except Exception:  # no memory for it, or an output that is none; the others are answered
            log.exception("worker.answer_failed")
            failed = BatchResult((), Internal(), result.infer_ns)
            frame, segment = self._result_frame(one, failed, final)
        # A gateway that is gone has nobody who waits for the answer.
        with contextlib.suppress(OSError):
            send_frame(one.gateway.socket, pack_result(frame), segment)
        self._awaken()

    def _result_frame(
        self, one: _Granted, result: BatchResult, final: bool
    ) -> tuple[ResultFrame, Segment | None]:
        """The answer, whose outputs lie in shared memory now, and the memory if it is new."""
        granted = one.frame
        if result.error is not None:
            error = (result.error.reason, str(result.error))
            frame = ResultFrame(granted.slot, granted.serial, final, result.infer_ns, error=error)
            return frame, None
        places, total_bytes = _places(result.outputs, one.memory.input)
        memory = one.memory
        new = None
        if total_bytes > (memory.output.nbytes if memory.output else 0):
            new = memory.output = Segment.create(segment_bytes_for(total_bytes))
        for output, place in zip(result.outputs, places, strict=True):
            _write(output, place, memory.output)
        new_bytes = new.nbytes if new else 0
        frame = ResultFrame(
            granted.slot, granted.serial, final, result.infer_ns, new_bytes, tuple(places)
        )
        return frame, new


def _places(
    outputs: Sequence[OutputTensor], input_segment: Segment | None
) -> tuple[list[Place], int]:
    """Where each output goes, and the bytes that the output segment needs for all."""
    places = []
    offset = 0
    for output in outputs:
        row_ends = -1
        if output.row_ends is not None:
            row_ends = offset
            offset = aligned(offset + output.row_ends.nbytes)
        nbytes = output.data.size
        inside = _offset_in(input_segment, output.data)
        if inside is not None:
            places.append(Place(inside, nbytes, output.shape, IN_INPUT, row_ends))
            continue
        places.append(Place(offset, nbytes, output.shape, IN_OUTPUT, row_ends))
        offset = aligned(offset + max(nbytes, 1))
    return places, offset


def _offset_in(segment: Segment | None, data: Buffer) -> int | None:
    """Where `data` begins in `segment`, None if it is not a piece of it."""
    if segment is None or not data.size:
        return None
    start = int(data.__array_interface__["data"][0] - segment.address)
    return start if 0 <= start <= segment.nbytes - data.size else None


def _write(output: OutputTensor, place: Place, segment: Segment | None) -> None:
    if segment is None:
        return
    if place.segment == IN_OUTPUT:
        segment.buffer[place.offset : place.offset + place.nbytes] = output.data
    if output.row_ends is not None:
        end = place.row_ends + output.row_ends.nbytes
        segment.buffer[place.row_ends : end].view(np.int64)[:] = output.row_ends


def _rows_of(output: OutputTensor, start: int, rows: int) -> OutputTensor:
    """Rows start to start + rows of one output of a joined batch."""
    shape = (rows, *output.shape[1:])
    end = start + rows
    if output.row_ends is not None:
        begin = int(output.row_ends[start - 1]) if start else 0
        ends = output.row_ends[start:end] - begin
        stop = begin + (int(ends[-1]) if rows else 0)
        return OutputTensor(output.data[begin:stop], shape, ends)
    row_bytes = output.data.size // output.shape[0]
    return OutputTensor(output.data[start * row_bytes : end * row_bytes], shape)
