"""The messages between a gateway and a worker, one datagram each. Pure.

Tensors are not in them: they lie in shared memory (`segment.py`), of which a message says where. A
frame is int64 numbers, the first of which counts them, and text behind them:

    batch   numbers, BATCH, slot, serial, rows, segment bytes, inputs,
            then per input: offset, bytes, dims, dim...
    result  numbers, RESULT, slot, serial, final, infer ns, segment bytes, outputs,
            then per output: place, offset, bytes, row ends' offset or -1, dims, dim...
            and, if it failed, the text `reason message`

slot: where the batch lies. serial: counts the batches of a slot's owner. segment bytes: size of the
new shared memory whose descriptor comes with the frame, 0 if it is the one of the last time.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple

BATCH, RESULT = 1, 2
# Places of an output: the batch's own input segment (an answer that is a view of its input is not
# copied), or the slot's output segment.
IN_INPUT, IN_OUTPUT = 0, 1
# 62 tensors of 32 dimensions have 18 KB; an error's text is cut to fit with them into a datagram.
FRAME_BYTES_MAX = 65_536
TEXT_BYTES_MAX = 8_192
_NUMBER_BYTES = 8


class BadFrame(Exception):
    """The bytes are no frame. Whoever sent them is to be ended."""


class Place(NamedTuple):
    """Where a tensor lies: `nbytes` from `offset` of a segment; dims: as the frame's kind says.

    segment: IN_INPUT or IN_OUTPUT. row_ends: offset of int64 row ends, -1 for none.
    """

    offset: int
    nbytes: int
    dims: tuple[int, ...]
    segment: int = IN_INPUT
    row_ends: int = -1


class BatchFrame(NamedTuple):
    """One granted batch. inputs: dims are per row, without the batch dimension."""

    slot: int
    serial: int
    rows: int
    segment_bytes: int
    inputs: tuple[Place, ...]


class ResultFrame(NamedTuple):
    """One answer of a batch. outputs: dims are whole. error: (reason, message), None if it ran."""

    slot: int
    serial: int
    final: bool
    infer_ns: int
    segment_bytes: int = 0
    outputs: tuple[Place, ...] = ()
    error: tuple[str, str] | None = None


def pack_batch(frame: BatchFrame) -> bytes:
    numbers = [BATCH, frame.slot, frame.serial, frame.rows, frame.segment_bytes, len(frame.inputs)]
    for place in frame.inputs:
        numbers += (place.offset, place.nbytes, len(place.dims), *place.dims)
    return _pack(numbers)


def pack_result(frame: ResultFrame) -> bytes:
    numbers = [
        RESULT,
        frame.slot,
        frame.serial,
        int(frame.final),
        frame.infer_ns,
        frame.segment_bytes,
        len(frame.outputs),
    ]
    for place in frame.outputs:
        numbers += (place.segment, place.offset, place.nbytes, place.row_ends)
        numbers += (len(place.dims), *place.dims)
    text = b""
    if frame.error is not None:
        text = " ".join(frame.error).encode(errors="replace")[:TEXT_BYTES_MAX]
    return _pack(numbers) + text


def _pack(numbers: Sequence[int]) -> bytes:
    return struct.pack(f"<{len(numbers) + 1}q", len(numbers), *numbers)


def read_batch(data: bytes) -> BatchFrame:
    """Raises BadFrame."""
    numbers = _Numbers(data, BATCH)
    slot, serial, rows, segment_bytes = numbers.take(4)
    places = tuple(_input(numbers) for _ in range(numbers.take_count()))
    numbers.end()
    return BatchFrame(slot, serial, rows, segment_bytes, places)


def read_result(data: bytes) -> ResultFrame:
    """Raises BadFrame."""
    numbers = _Numbers(data, RESULT)
    slot, serial, final, infer_ns, segment_bytes = numbers.take(5)
    places = []
    for _ in range(numbers.take_count()):
        segment, offset, nbytes, row_ends = numbers.take(4)
        if segment not in (IN_INPUT, IN_OUTPUT):
            raise BadFrame(f"an output lies in segment {segment}")
        places.append(Place(offset, nbytes, numbers.take_dims(), segment, row_ends))
    text = numbers.end()
    reason, _, message = text.partition(" ")
    error = (reason, message) if text else None
    return ResultFrame(slot, serial, final == 1, infer_ns, segment_bytes, tuple(places), error)


def _input(numbers: _Numbers) -> Place:
    offset, nbytes = numbers.take(2)
    return Place(offset, nbytes, numbers.take_dims())


class _Numbers:
    """The numbers of a frame, taken from the front; every count is checked before it is used."""

    def __init__(self, data: bytes, kind: int) -> None:
        count = struct.unpack_from("<q", data)[0] if len(data) >= _NUMBER_BYTES else 0
        end = (count + 1) * _NUMBER_BYTES
        if count < 1 or end > len(data):
            raise BadFrame(f"{len(data)} bytes claim {count} numbers")
        self._numbers = struct.unpack_from(f"<{count}q", data, _NUMBER_BYTES)
        self._text = data[end:]
        self._next = 0
        if self.take(1) != (kind,):
            raise BadFrame(f"expected kind {kind}, got {self._numbers[0]}")

    def take(self, count: int) -> tuple[int, ...]:
        start, self._next = self._next, self._next + count
        if self._next > len(self._numbers):
            raise BadFrame(f"{len(self._numbers)} numbers are too few")
        return self._numbers[start : self._next]

    def take_count(self) -> int:
        """How many of something follow, each of which has a number or more."""
        (count,) = self.take(1)
        if not 0 <= count <= len(self._numbers) - self._next:
            raise BadFrame(f"{count} of something do not fit into {len(self._numbers)} numbers")
        return count

    def take_dims(self) -> tuple[int, ...]:
        return self.take(self.take_count())

    def end(self) -> str:
        """The text; there are no more numbers."""
        if self._next != len(self._numbers):
            raise BadFrame(f"{len(self._numbers) - self._next} numbers are left over")
        return self._text.decode(errors="replace")
