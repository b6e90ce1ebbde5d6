"""Messages between a parent process and its child over one Unix socket pair, with descriptors.

A message is a kind, fields that JSON has, a blob of bytes and up to `FDS_MAX` open descriptors.
Nothing is unpickled on its way up: a child that runs a model's own code cannot harm its parent.
"""

from __future__ import annotations

import array
import contextlib
import json
import os
import select
import socket
import struct
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

_HEAD = struct.Struct("<II")
FDS_MAX = 8
# The largest fields are the counters of all versions: 10 KB for one that ran batches of 64 sizes.
FIELDS_BYTES_MAX = 1 << 26
# The largest blob is a load call with uploaded files; gRPC's own messages end at 2 GiB.
BLOB_BYTES_MAX = (1 << 31) - 1


class ChannelClosed(Exception):
    """The process at the other end is gone, or sent what is no message."""


class MessageTooLarge(Exception):
    """Nothing was sent: the fields are more than FIELDS_BYTES_MAX."""


@dataclass(frozen=True, slots=True)
class Message:
    """kind: what it is. fields: JSON values. fds: owned by whoever receives the message."""

    kind: str
    fields: Mapping[str, Any] = field(default_factory=dict)
    blob: bytes = b""
    fds: Sequence[int] = ()


class Channel:
    """One end. `send` may be called from any thread; `receive` from one at a time.

    is_parent: descriptors that a child sends are closed unseen, and what it sends in one message
    has at most `receive_bytes_max`.
    """

    def __init__(
        self,
        connection: socket.socket,
        *,
        is_parent: bool = False,
        receive_bytes_max: int = BLOB_BYTES_MAX,
    ) -> None:
        self._socket = connection
        self._sending = threading.Lock()
        self._fds_max = 0 if is_parent else FDS_MAX
        self._fields_bytes_max = min(FIELDS_BYTES_MAX, receive_bytes_max)
        self._blob_bytes_max = receive_bytes_max

    @classmethod
    def pair(cls, reply_bytes_max: int = BLOB_BYTES_MAX) -> tuple[Channel, socket.socket]:
        """A parent's channel, and the socket of its other end, to be inherited by its child."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        return cls(ours, is_parent=True, receive_bytes_max=reply_bytes_max), theirs

    @classmethod
    def inherited(cls, fd: int) -> Channel:
        """The child's end, which it was started with."""
        os.set_inheritable(fd, False)
        return cls(socket.socket(fileno=fd))

    def fileno(self) -> int:
        return self._socket.fileno()

    def send(
        self,
        kind: str,
        fields: Mapping[str, Any] | None = None,
        blob: bytes = b"",
        fds: Sequence[int] = (),
    ) -> None:
        """Send one message; it waits while the other end is busy. Raises ChannelClosed,
        MessageTooLarge.
        """
        assert len(fds) <= FDS_MAX
        text = json.dumps([kind, fields or {}], separators=(",", ":")).encode()
        if len(text) > FIELDS_BYTES_MAX:
            raise MessageTooLarge(f"{kind}: {len(text)} bytes of fields")
        head = _HEAD.pack(len(text), len(blob))
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        try:
            with self._sending:
                # The head leaves alone, so that the descriptors arrive with exactly its bytes.
                sent = self._socket.sendmsg([head], rights)
                assert sent == len(head)
                self._socket.sendall(text + blob)
        except OSError as error:
            raise ChannelClosed(str(error)) from None

    def wait(self, wait_s: float) -> bool:
        """Whether something can be received within `wait_s`, be it the end. Raises ChannelClosed if
        this end is closed.
        """
        poll = select.poll()
        try:
            poll.register(self._socket, select.POLLIN)
        except ValueError:
            raise ChannelClosed("closed at this end") from None
        return bool(poll.poll(max(wait_s, 0) * 1_000))

    def receive(self, wait_s: float | None = None) -> Message:
        """The next message; waits for it. Raises ChannelClosed at the other end's end, for what is
        no message, and for one that is not there whole within `wait_s`, None being for ever.
        """
        until_s = None if wait_s is None else time.monotonic() + wait_s
        head, fds = self._receive_head(until_s)
        try:
            return self._receive_body(head, fds, until_s)
        except ChannelClosed:
            for fd in fds:
                os.close(fd)
            raise

    def _receive_body(self, head: bytes, fds: Sequence[int], until_s: float | None) -> Message:
        head += bytes(self._receive_exactly(_HEAD.size - len(head), until_s))
        text_bytes, blob_bytes = _HEAD.unpack(head)
        if text_bytes > self._fields_bytes_max or blob_bytes > self._blob_bytes_max:
            raise ChannelClosed(f"no message: it claims {text_bytes} and {blob_bytes} bytes")
        text = self._receive_exactly(text_bytes, until_s)
        blob = self._receive_exactly(blob_bytes, until_s)
        try:
            kind, fields = json.loads(text)
            if not (isinstance(kind, str) and isinstance(fields, dict)):
                raise ValueError("expected a kind and fields")
        except (ValueError, TypeError, RecursionError) as error:
            raise ChannelClosed(f"no message: {error}") from None
        return Message(kind, fields, bytes(blob), fds)

    def _until(self, until_s: float | None) -> None:
        if until_s is not None and not self.wait(until_s - time.monotonic()):
            raise ChannelClosed("no whole message came in time")

    def _receive_head(self, until_s: float | None) -> tuple[bytes, list[int]]:
        """What there is of a head, at least a byte of it, and the descriptors that came along."""
        self._until(until_s)
        # Without room for descriptors the kernel closes those that come.
        space = socket.CMSG_SPACE(self._fds_max * array.array("i").itemsize) if self._fds_max else 0
        try:
            head, ancillary, _, _ = self._socket.recvmsg(_HEAD.size, space, socket.MSG_CMSG_CLOEXEC)
        except OSError as error:
            raise ChannelClosed(str(error)) from None
        fds = array.array("i")
        for _, _, data in ancillary:
            fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
        if not head:
            raise ChannelClosed("closed by the other end")
        return head, fds.tolist()

    def _receive_exactly(self, nbytes: int, until_s: float | None) -> bytearray:
        buffer = bytearray(nbytes)
        view = memoryview(buffer)
        while view:
            self._until(until_s)
            try:
                received = self._socket.recv_into(view)
            except OSError as error:
                raise ChannelClosed(str(error)) from None
            if received == 0:
                raise ChannelClosed("closed by the other end in the middle of a message")
            view = view[received:]
        return buffer

    def close(self) -> None:
        """Close this end; whoever waits in `receive` at either end gets ChannelClosed."""
        with contextlib.suppress(OSError):  # the other end is gone already
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
