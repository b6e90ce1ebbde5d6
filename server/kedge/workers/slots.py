"""One gateway's end of one worker: slots of shared memory, and the socket that says what is there.

Decides nothing: which worker gets a batch, and what becomes of the batches of one that ended, is in
`pool.py`.
"""

from __future__ import annotations

import array
import contextlib
import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kedge.core.ports import Buffer, OnResult, OutputTensor
from kedge.core.values import ModelSchema, TensorSpec
from kedge.workers.frames import (
    FRAME_BYTES_MAX,
    IN_OUTPUT,
    BadFrame,
    BatchFrame,
    Place,
    pack_batch,
    read_result,
)
from kedge.workers.segment import ALIGNMENT, BadSegment, Segment, aligned, segment_bytes_for

# The head of an input segment: int64 serial of the batch that the worker began to run last.
HEAD_BYTES = ALIGNMENT
_FDS_BYTES = socket.CMSG_SPACE(array.array("i").itemsize)


class LinkBroken(Exception):
    """The worker closed its end, or sent what no worker sends."""


@dataclass(slots=True, eq=False)
class Grant:
    """A batch that a worker may run: its inputs lie in `segment`, wherever it is sent."""

    rows: int
    places: tuple[Place, ...]
    segment: Segment
    on_result: OnResult
    serial: int = 0
    sent_ns: int = 0
    # How often it was taken from a worker that ended before it began to run it.
    moves: int = 0
    # Set under the pool's lock by whoever hands the result over: a worker may end while it answers.
    is_over: bool = False

    @property
    def has_started(self) -> bool:
        """Whether a worker began to run it."""
        return int(self.segment.buffer[:8].view(np.int64)[0]) == self.serial


class Slot:
    """Room for one batch at a worker."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.input: Segment | None = None
        self.output: Segment | None = None
        self.is_announced = False
        self.grant: Grant | None = None
        # Its memory is being filled for the batch that comes next.
        self.is_lent = False

    @property
    def is_free(self) -> bool:
        return self.grant is None and not self.is_lent

    def input_for(self, nbytes: int) -> Segment:
        """The slot's memory, replaced by a larger one if it is too small."""
        if self.input is None or self.input.nbytes < nbytes:
            self.replace_input(Segment.create(segment_bytes_for(nbytes)))
        assert self.input is not None
        return self.input

    def replace_input(self, segment: Segment) -> None:
        """From now on the inputs lie in `segment`."""
        self.input = segment
        self.is_announced = False


class SlotBuffers(list[Buffer]):
    """What `WorkerPool.allocate` lends: views on a slot's memory. link: None if the slot belongs to
    no worker yet.
    """

    def __init__(self, slot: Slot, places: tuple[Place, ...], link: Link | None) -> None:
        assert slot.input is not None
        memory = slot.input.buffer
        super().__init__(memory[p.offset : p.offset + p.nbytes] for p in places)
        self.slot = slot
        self.places = places
        self.link = link


class Answer(NamedTuple):
    """A result and the batch that it belongs to. error: (reason, message), None if it ran; outputs
    are views on shared memory.
    """

    slot: Slot
    grant: Grant
    error: tuple[str, str] | None
    infer_ns: int
    outputs: tuple[OutputTensor, ...]


class Link:
    """The socket to one worker. worker: its number, unique in the server's life."""

    def __init__(
        self, connection: socket.socket, worker: int, schema: ModelSchema, slots: int
    ) -> None:
        connection.setblocking(False)
        self._socket = connection
        self._schema = schema
        self.worker = worker
        self.slots = [Slot(number) for number in range(slots)]
        # When the worker last showed that it works, or got something to do while it had nothing.
        self.progress_ns = 0
        self.is_broken = False

    def __repr__(self) -> str:
        return f"<Link worker {self.worker} [{len(self.grants)}/{len(self.slots)} batches]>"

    def fileno(self) -> int:
        return self._socket.fileno()

    @property
    def grants(self) -> list[Grant]:
        """What the worker has to run."""
        return [slot.grant for slot in self.slots if slot.grant is not None]

    @property
    def slots_free(self) -> int:
        return 0 if self.is_broken else sum(slot.is_free for slot in self.slots)

    def free_slot(self) -> Slot:
        """A slot without a batch; call only if there is one."""
        return next(slot for slot in self.slots if slot.is_free)

    def send(self, slot: Slot, grant: Grant, now_ns: int) -> None:
        """Give the worker a batch with a new serial whose inputs lie in the slot's memory.

        A worker that is gone is found by the reader of its socket, and the batch is still here.
        """
        assert slot.grant is None
        assert slot.input is grant.segment
        if not self.grants:
            self.progress_ns = now_ns
        grant.sent_ns = now_ns
        slot.grant = grant
        new_bytes = 0 if slot.is_announced else grant.segment.nbytes
        frame = BatchFrame(slot.number, grant.serial, grant.rows, new_bytes, grant.places)
        with contextlib.suppress(OSError):
            send_frame(self._socket, pack_batch(frame), grant.segment if new_bytes else None)
        slot.is_announced = True

    def receive(self, now_ns: int) -> list[Answer]:
        """Every answer that is there. Raises LinkBroken when there will be no more."""
        answers: list[Answer] = []
        # One that is there for every batch at most; the last look would find nothing.
        for _ in range(max(len(self.grants), 1)):
            try:
                data, segment_fd = receive_frame(self._socket)
            except BlockingIOError:
                return answers
            except ConnectionResetError:
                # It left a batch unread, which the kernel says once and before what it answered.
                continue
            except OSError as error:
                raise LinkBroken(str(error)) from None
            if not data:
                if answers:
                    return answers  # the end is there again at the next call
                raise LinkBroken("it closed its socket")
            try:
                answers.append(self._answer(data, segment_fd, now_ns))
            except (BadFrame, BadSegment) as error:
                raise LinkBroken(f"it sent no answer: {error}") from None
            self.progress_ns = now_ns
        return answers

    def _answer(self, data: bytes, segment_fd: int | None, now_ns: int) -> Answer:
        try:
            frame = read_result(data)
        except BadFrame:
            if segment_fd is not None:
                os.close(segment_fd)
            raise
        segment = Segment(segment_fd, frame.segment_bytes) if segment_fd is not None else None
        if not 0 <= frame.slot < len(self.slots):
            raise BadFrame(f"there is no slot {frame.slot}")
        slot = self.slots[frame.slot]
        if segment is not None:
            slot.output = segment
        grant = slot.grant
        if grant is None or grant.serial != frame.serial:
            raise BadFrame(f"slot {frame.slot} has no batch {frame.serial}")
        if not frame.final:
            # Each part would be answered to the same calls, and a batch without end never overdue.
            raise BadFrame("it answers in parts")
        # Sums of it must fit into the 64 bits of the statistics, or nobody can read any.
        infer_ns = min(max(frame.infer_ns, 0), now_ns - grant.sent_ns)
        if frame.error is not None:
            return Answer(slot, grant, frame.error, infer_ns, ())
        specs = self._schema.outputs
        if len(frame.outputs) != len(specs):
            raise BadFrame(f"expected {len(specs)} outputs, got {len(frame.outputs)}")
        outputs = tuple(
            self._output(place, spec, slot, grant.rows)
            for place, spec in zip(frame.outputs, specs, strict=True)
        )
        return Answer(slot, grant, None, infer_ns, outputs)

    def _output(self, place: Place, spec: TensorSpec, slot: Slot, rows: int) -> OutputTensor:
        """Checked against everything that the gateway relies on: the worker ran foreign code."""
        segment = slot.output if place.segment == IN_OUTPUT else slot.input
        if (
            segment is None
            or not 0 <= place.offset <= place.offset + place.nbytes <= segment.nbytes
        ):
            raise BadFrame(f"output '{spec.name}' lies outside of its memory")
        expected = (rows, *spec.dims) if self._schema.batched else spec.dims
        if len(place.dims) != len(expected) or any(
            size < 0 or wanted not in (-1, size)
            for size, wanted in zip(place.dims, expected, strict=True)
        ):
            raise BadFrame(f"output '{spec.name}' has the shape {place.dims}, not {expected}")
        row_ends = None
        if spec.datatype.is_fixed_size:
            if place.nbytes != prod(place.dims) * spec.datatype.item_bytes:
                raise BadFrame(f"output '{spec.name}' has {place.nbytes} bytes")
        elif self._schema.batched:
            row_ends = _row_ends(slot.output, place, rows, spec)
        data = segment.buffer[place.offset : place.offset + place.nbytes]
        return OutputTensor(data, place.dims, row_ends)

    def close(self) -> None:
        """Close the socket; the worker ends when it sees that."""
        self.is_broken = True
        self._socket.close()


def _row_ends(
    segment: Segment | None, place: Place, rows: int, spec: TensorSpec
) -> NDArray[np.int64]:
    start, nbytes = place.row_ends, rows * 8
    if segment is None or not 0 <= start <= segment.nbytes - nbytes:
        raise BadFrame(f"the row ends of output '{spec.name}' lie outside of its memory")
    # A copy: what was checked must be what is used.
    ends = segment.buffer[start : start + nbytes].view(np.int64).copy()
    if rows and (ends[0] < 0 or np.any(ends[1:] < ends[:-1]) or ends[-1] != place.nbytes):
        raise BadFrame(f"the row ends of output '{spec.name}' are none")
    return ends


def places_for(
    nbytes: Sequence[int], dims: Sequence[tuple[int, ...]]
) -> tuple[tuple[Place, ...], int]:
    """Where a batch's inputs lie behind the head, and the bytes of all."""
    places = []
    offset = HEAD_BYTES
    for size, row_dims in zip(nbytes, dims, strict=True):
        places.append(Place(offset, size, row_dims))
        offset = aligned(offset + size)
    return tuple(places), offset


def send_frame(connection: socket.socket, data: bytes, segment: Segment | None) -> None:
    """One datagram, with the descriptor of new memory. Raises OSError."""
    if segment is None:
        connection.send(data)
        return
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [segment.fd]))]
    connection.sendmsg([data], rights)


def receive_frame(connection: socket.socket) -> tuple[bytes, int | None]:
    """One datagram, b"" at the end, and the descriptor that came with it. Raises OSError."""
    data, ancillary, _, _ = connection.recvmsg(FRAME_BYTES_MAX, _FDS_BYTES, socket.MSG_CMSG_CLOEXEC)
    fds = array.array("i")
    for _, _, rights in ancillary:
        fds.frombytes(rights[: len(rights) - len(rights) % fds.itemsize])
    for surplus in fds[1:] if data else fds:
        os.close(surplus)
    return data, fds[0] if fds and data else None
