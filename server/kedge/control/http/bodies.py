"""Reads request bodies within bounds in bytes, together and each, and in time."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.requests import Request

from kedge.control.http.errors import HttpError
from kedge.control.http.limits import BODIES_BYTES_MAX, BODY_BYTES_MAX, READ_S_MAX
from kedge.core.errors import InvalidRequest

# zlib's way to say: read the gzip or zlib header and find out which it is.
WBITS_GZIP_OR_ZLIB = 32 + zlib.MAX_WBITS
ENCODINGS = ("gzip", "deflate")


class Bodies:
    """All bodies that the process holds now. bytes_held never exceeds BODIES_BYTES_MAX."""

    def __init__(self) -> None:
        self.bytes_held = 0

    @asynccontextmanager
    async def read(self, request: Request) -> AsyncIterator[bytes]:
        """The request's whole body, decompressed; held until the block is left.

        Raises HttpError: 408, 413 and 415; 503 when other bodies leave no room. InvalidRequest for
        compressed bytes that are none.
        """
        reservation = _Reservation(self)
        try:
            body = await _read_in_time(request, reservation)
            yield _decompressed(request, body, reservation)
        finally:
            self.bytes_held -= reservation.nbytes


class _Reservation:
    """The bytes of one request, refused beyond the bounds before they are held."""

    def __init__(self, bodies: Bodies) -> None:
        self._bodies = bodies
        self.nbytes = 0

    def grow(self, nbytes: int) -> None:
        if self.nbytes + nbytes > BODY_BYTES_MAX:
            raise HttpError(413, f"the body is larger than {BODY_BYTES_MAX} bytes; use gRPC for it")
        if self._bodies.bytes_held + nbytes > BODIES_BYTES_MAX:
            raise HttpError(
                503,
                f"requests of {self._bodies.bytes_held} bytes are being answered, the limit is "
                f"{BODIES_BYTES_MAX}",
            )
        self._bodies.bytes_held += nbytes
        self.nbytes += nbytes


async def _read_in_time(request: Request, reservation: _Reservation) -> bytes:
    try:
        async with asyncio.timeout(READ_S_MAX):
            return await _read(request, reservation)
    except TimeoutError:
        raise HttpError(408, f"the body did not arrive within {READ_S_MAX:.0f} s") from None


async def _read(request: Request, reservation: _Reservation) -> bytes:
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > BODY_BYTES_MAX:
        reservation.grow(int(announced))
    chunks: list[bytes] = []
    async for chunk in request.stream():
        reservation.grow(len(chunk))
        chunks.append(chunk)
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def _decompressed(request: Request, body: bytes, reservation: _Reservation) -> bytes:
    encoding = request.headers.get("content-encoding", "identity")
    if encoding == "identity":
        return body
    if encoding not in ENCODINGS:
        raise HttpError(415, f"expected Content-Encoding {' or '.join(ENCODINGS)}, got {encoding}")
    decompressor = zlib.decompressobj(WBITS_GZIP_OR_ZLIB)
    try:
        # One byte more than allowed, so that a small bomb is seen before it is unpacked.
        text = decompressor.decompress(body, BODY_BYTES_MAX - reservation.nbytes + 1)
    except zlib.error as error:
        raise InvalidRequest(f"the body is no {encoding} data: {error}") from None
    reservation.grow(len(text))
    if not decompressor.eof or decompressor.unused_data:
        raise InvalidRequest(f"the body is not one whole {encoding} stream")
    return text
