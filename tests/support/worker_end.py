"""The worker's end of a link, moved by hand: it takes frames and sends what a test makes up."""

from __future__ import annotations

import socket

import numpy as np

from kedge.workers.frames import IN_OUTPUT, BatchFrame, Place, ResultFrame, pack_result, read_batch
from kedge.workers.segment import Segment
from kedge.workers.slots import receive_frame, send_frame


class WorkerEnd:
    """`gateway_end` goes to `WorkerPool.attach`; the rest is what a worker would do."""

    def __init__(self) -> None:
        self.gateway_end, self.socket = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket.setblocking(False)
        self.inputs: dict[int, Segment] = {}

    def take(self) -> BatchFrame | None:
        """The next granted batch, None if there is none."""
        try:
            data, fd = receive_frame(self.socket)
        except BlockingIOError:
            return None
        frame = read_batch(data)
        if fd is not None:
            self.inputs[frame.slot] = Segment(fd, frame.segment_bytes)
        return frame

    def values(self, frame: BatchFrame) -> list[float]:
        """The only FP32 input of a batch."""
        place = frame.inputs[0]
        raw = self.inputs[frame.slot].buffer[place.offset : place.offset + place.nbytes]
        return raw.view(np.float32).tolist()

    def start(self, frame: BatchFrame) -> None:
        """Mark a batch as one that runs."""
        self.inputs[frame.slot].buffer[:8].view(np.int64)[0] = frame.serial

    def answer(self, frame: BatchFrame, values: list[float]) -> None:
        """Answer with one FP32 output [rows, 1] in new memory."""
        data = np.float32(values).view(np.uint8)
        segment = Segment.create(4096)
        segment.buffer[: data.size] = data
        place = Place(0, data.size, (len(values), 1), IN_OUTPUT)
        self.send(ResultFrame(frame.slot, frame.serial, True, 5, 4096, (place,)), segment)

    def send(self, frame: ResultFrame, segment: Segment | None = None) -> None:
        send_frame(self.socket, pack_result(frame), segment)

    def close(self) -> None:
        self.socket.close()
