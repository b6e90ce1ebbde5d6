"""The client side of one HTTP/2 connection that makes the same gRPC call over and over.

Bytes in, bytes out, no socket and no clock; `_openloop.py` has those. Written for a load generator
that must not be the bottleneck: a call costs about 10 us, where grpc.aio takes 100. It asks the
server for header compression without a table, so that equal header blocks mean equal headers, and
each distinct block is decoded once. Sources: RFC 9113, RFC 7541, gRPC over HTTP/2.
"""

from __future__ import annotations

import struct

from _wire import METHOD_PATH, grpc_frame
from hpack import Decoder
from hpack.exceptions import HPACKError

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEAD = struct.Struct(">HBBBI")
STREAM = struct.Struct(">I")
SETTING = struct.Struct(">HI")
HEAD_BYTES = 9
DATA, HEADERS, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE = (
    0,
    1,
    3,
    4,
    5,
    6,
    7,
    8,
)
CONTINUATION = 9
END_STREAM = ACK = 0x1
END_HEADERS, PADDED, PRIORITY = 0x4, 0x8, 0x20
HEADER_TABLE_SIZE, ENABLE_PUSH, MAX_CONCURRENT_STREAMS, INITIAL_WINDOW_SIZE = 1, 2, 3, 4
WINDOW_MAX = 2**31 - 1
WINDOW_FIRST = 65_535
FRAME_BYTES_MAX = 16_384
# Half the window: the server never waits for it.
UNREAD_BYTES_MAX = 2**30
BLOCKS_MAX = 10_000

# gRPC's numbers; a stream that ends without one is UNKNOWN, and one that the server resets gets one
# by the reset's code, or INTERNAL (gRPC over HTTP/2, "Errors").
UNKNOWN, INTERNAL = 2, 13
RESET_STATUSES = {7: 14, 8: 1, 11: 8, 12: 7}


class Http2Failed(RuntimeError):
    """The server closed the connection, or sent what this small client does not understand."""


class Connection:
    """One connection's state.

    out: bytes to be sent; whoever sends them deletes them. settled: whether the server has said
    how many calls may be open.
    """

    def __init__(self, authority: str, message: bytes) -> None:
        body = grpc_frame(message)
        if len(body) > FRAME_BYTES_MAX:
            raise ValueError(f"a message fits into one frame, this one has {len(body)} bytes")
        self.out = bytearray(PREFACE)
        self.out += _settings(
            {HEADER_TABLE_SIZE: 0, ENABLE_PUSH: 0, INITIAL_WINDOW_SIZE: WINDOW_MAX}
        )
        self.out += _frame(WINDOW_UPDATE, 0, 0, STREAM.pack(WINDOW_MAX - WINDOW_FIRST))
        self.settled = False
        self._authority = authority
        self._body = body
        # By timeout: what goes before the stream's number and between its two places.
        self._parts: dict[int, tuple[bytes, bytes]] = {}
        self._open: dict[int, int] = {}
        self._open_max = 0
        self._stream_next = 1
        self._window = WINDOW_FIRST
        self._stream_window = WINDOW_FIRST
        self._unread_bytes = 0
        self._buffer = bytearray()
        self._decoder = Decoder()
        self._decoder.max_allowed_table_size = 0
        self._decoder.header_table_size = 0
        self._statuses: dict[bytes, int | None] = {}

    def can_call(self) -> bool:
        """Whether the server allows one more call now: in number, and in bytes."""
        needed = len(self._body)
        return (
            len(self._open) < self._open_max
            and needed <= self._window
            and needed <= self._stream_window
        )

    def call(self, token: int, timeout_ms: int) -> None:
        """Makes a call, known to the caller as token; only if can_call()."""
        parts = self._parts.get(timeout_ms)
        if parts is None:
            block = request_headers(self._authority, timeout_ms)
            middle = block + _head(len(self._body), DATA, END_STREAM)
            parts = self._parts[timeout_ms] = (_head(len(block), HEADERS, END_HEADERS), middle)
        stream = self._stream_next
        self._stream_next = stream + 2
        self._open[stream] = token
        self._window -= len(self._body)
        number = STREAM.pack(stream)
        self.out += b"".join((parts[0], number, parts[1], number, self._body))

    def received(self, data: bytes) -> list[tuple[int, int]]:
        """Takes bytes from the server; token and gRPC status of each call that ended by them."""
        buffer = self._buffer
        buffer += data
        ended: list[tuple[int, int]] = []
        position, available = 0, len(buffer)
        while available - position >= HEAD_BYTES:
            high, low, kind, flags, stream = HEAD.unpack_from(buffer, position)
            start = position + HEAD_BYTES
            end = start + (high << 8 | low)
            if end > available:
                break
            if kind == DATA:
                self._count_unread(end - start)
                if flags & END_STREAM:
                    self._end(stream, UNKNOWN, ended)
            elif kind == HEADERS:
                status = self._status(_block(buffer[start:end], flags))
                if flags & END_STREAM:
                    self._end(stream, UNKNOWN if status is None else status, ended)
            else:
                self._other(kind, flags, stream, bytes(buffer[start:end]), ended)
            position = end
        del buffer[:position]
        return ended

    def _end(self, stream: int, status: int, ended: list[tuple[int, int]]) -> None:
        token = self._open.pop(stream, None)
        if token is not None:
            ended.append((token, status))

    def _status(self, block: bytes) -> int | None:
        """The value of grpc-status in a header block, None if it has none."""
        try:
            return self._statuses[block]
        except KeyError:
            pass
        try:
            headers = {
                bytes(name): bytes(value) for name, value in self._decoder.decode(block, raw=True)
            }
        except HPACKError as error:
            raise Http2Failed(f"headers cannot be read: {error}") from error
        text = headers.get(b"grpc-status")
        if len(self._statuses) >= BLOCKS_MAX:
            self._statuses.clear()
        status = self._statuses[block] = None if text is None else int(text)
        return status

    def _count_unread(self, count: int) -> None:
        self._unread_bytes += count
        if self._unread_bytes > UNREAD_BYTES_MAX:
            self.out += _frame(WINDOW_UPDATE, 0, 0, STREAM.pack(self._unread_bytes))
            self._unread_bytes = 0

    def _other(
        self, kind: int, flags: int, stream: int, body: bytes, ended: list[tuple[int, int]]
    ) -> None:
        """The frames that are rare."""
        if kind == RST_STREAM:
            code = STREAM.unpack(body)[0]
            self._end(stream, RESET_STATUSES.get(code, INTERNAL), ended)
        elif kind == SETTINGS and not flags & ACK:
            self._apply(body)
            self.out += _frame(SETTINGS, ACK, 0, b"")
        elif kind == PING and not flags & ACK:
            self.out += _frame(PING, ACK, 0, body)
        elif kind == WINDOW_UPDATE and stream == 0:
            self._window += STREAM.unpack(body)[0]
        elif kind == GOAWAY:
            code, text = STREAM.unpack_from(body, 4)[0], body[8:].decode(errors="replace")
            raise Http2Failed(f"the server ended the connection with code {code}: {text!r}")
        elif kind in (CONTINUATION, PUSH_PROMISE):
            raise Http2Failed(f"a frame of kind {kind} is not understood")

    def _apply(self, body: bytes) -> None:
        if not self.settled:
            # Without a setting there is no bound; 100 is what RFC 9113 recommends as the least.
            self.settled, self._open_max = True, 100
        for setting, value in SETTING.iter_unpack(body):
            if setting == MAX_CONCURRENT_STREAMS:
                self._open_max = value
            elif setting == INITIAL_WINDOW_SIZE:
                self._stream_window = value


def request_headers(authority: str, timeout_ms: int) -> bytes:
    """The call's header block: literals without indexing (RFC 7541, 6.2.2), no Huffman code.

    Every text is shorter than 127 bytes, so a length is one byte.
    """
    return b"".join(
        (
            b"\x83\x86",  # :method POST, :scheme http
            b"\x04" + _text(METHOD_PATH),
            b"\x01" + _text(authority),
            b"\x0f\x10" + _text("application/grpc"),  # content-type
            b"\x00" + _text("te") + _text("trailers"),
            b"\x00" + _text("grpc-timeout") + _text(f"{timeout_ms}m"),
        )
    )


def _text(text: str) -> bytes:
    assert len(text) < 127
    return bytes([len(text)]) + text.encode("ascii")


def _block(body: bytearray, flags: int) -> bytes:
    """The header block of a HEADERS frame, without padding and priority."""
    if not flags & END_HEADERS:
        raise Http2Failed("a header block in several frames is not understood")
    if not flags & (PADDED | PRIORITY):
        return bytes(body)
    padding = body[0] if flags & PADDED else 0
    start = (1 if flags & PADDED else 0) + (5 if flags & PRIORITY else 0)
    return bytes(body[start : len(body) - padding])


def _settings(values: dict[int, int]) -> bytes:
    return _frame(SETTINGS, 0, 0, b"".join(SETTING.pack(*item) for item in values.items()))


def _frame(kind: int, flags: int, stream: int, body: bytes) -> bytes:
    return _head(len(body), kind, flags) + STREAM.pack(stream) + body


def _head(length: int, kind: int, flags: int) -> bytes:
    """A frame's head without the stream, which comes last."""
    return length.to_bytes(3, "big") + bytes([kind, flags])
