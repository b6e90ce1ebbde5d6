"""uvicorn's HTTP protocol with what it lacks: bounds on a request's head in bytes and in time."""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from kedge.control.http.limits import HEAD_BYTES_MAX, READ_S_MAX


class BoundedHttpProtocol(HttpToolsProtocol):
    """One connection. A head that is too long or too slow ends it."""

    _in_head = True
    _head_bytes = 0
    _head_timer: asyncio.TimerHandle | None = None
    _read_has_boundary = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._start_timer()

    def data_received(self, data: bytes) -> None:
        self._read_has_boundary = False
        super().data_received(data)
        # A read with a boundary in it may be 256 KiB of other requests and the start of this head.
        if not self._in_head or self._read_has_boundary or self.transport.is_closing():
            return
        self._start_timer()
        self._head_bytes += len(data)
        if self._head_bytes > HEAD_BYTES_MAX:
            self.send_400_response(f"Request head larger than {HEAD_BYTES_MAX} bytes.")

    def on_headers_complete(self) -> None:
        self._in_head, self._head_bytes, self._read_has_boundary = False, 0, True
        self._stop_timer()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._in_head, self._read_has_boundary = True, True
        super().on_message_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        super().connection_lost(exc)

    def _start_timer(self) -> None:
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(READ_S_MAX, self.transport.close)

    def _stop_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None
