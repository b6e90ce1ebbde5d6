"""The bounds of one connection, over real sockets in this process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.server import ServerState

from kedge.control.http import connection
from kedge.control.http.connection import BoundedHttpProtocol
from kedge.control.http.limits import HEAD_BYTES_MAX

HEAD = b"GET / HTTP/1.1\r\nHost: a\r\n"
REQUEST = HEAD + b"\r\n"
LAST = HEAD + b"Connection: close\r\n\r\n"
WAIT_S_MAX = 20
Exchange = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[Any, Any, bytes]]


async def hello(scope: Scope, receive: Receive, send: Send) -> None:
    await send(
        {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]}
    )
    await send({"type": "http.response.body", "body": b"hi"})


def exchange(talk: Exchange, app: ASGIApp = hello) -> bytes:
    """What `talk` returns after it talked to a server of `app`."""

    async def run() -> bytes:
        config = uvicorn.Config(app, lifespan="off", log_config=None)
        config.load()
        state = ServerState()
        server = await asyncio.get_running_loop().create_server(
            lambda: BoundedHttpProtocol(config, state, {}), "127.0.0.1", 0
        )
        async with server:
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            async with asyncio.timeout(WAIT_S_MAX):
                received = await talk(reader, writer)
            writer.close()
            return received

    return asyncio.run(run())


def sending(sent: bytes) -> Exchange:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        writer.write(sent)
        return await reader.read()

    return talk


def head_of(nbytes: int) -> bytes:
    """The beginning of a request, its head not finished."""
    return (HEAD + b"X: ").ljust(nbytes, b"a")


def test_a_head_is_taken_up_to_its_bound_and_refused_beyond() -> None:
    end = b"\r\nConnection: close\r\n\r\n"
    assert exchange(sending(head_of(HEAD_BYTES_MAX - len(end)) + end)).startswith(b"HTTP/1.1 200")
    # Only the server can end this exchange: the client never finishes its head.
    assert exchange(sending(head_of(HEAD_BYTES_MAX + 1))).startswith(b"HTTP/1.1 400")


def test_the_heads_of_pipelined_requests_do_not_add_up() -> None:
    requests = 2 * HEAD_BYTES_MAX // len(REQUEST)
    received = exchange(sending(REQUEST * requests + LAST))
    assert received.count(b"HTTP/1.1 200") == requests + 1


def test_a_body_does_not_count_as_head() -> None:
    body = b"b" * (2 * HEAD_BYTES_MAX)
    post = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(body)
    assert exchange(sending(post + body + LAST)).count(b"HTTP/1.1 200") == 2


@pytest.mark.parametrize("sent", [b"", b"GET", HEAD])
def test_a_head_that_never_ends_closes_the_connection(
    monkeypatch: pytest.MonkeyPatch, sent: bytes
) -> None:
    monkeypatch.setattr(connection, "READ_S_MAX", 0.01)
    assert exchange(sending(sent)) == b""


def test_blank_lines_between_requests_do_not_keep_a_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        writer.write(REQUEST)
        await reader.readuntil(b"hi")
        writer.write(b"\r\n")
        return await reader.read()

    monkeypatch.setattr(connection, "READ_S_MAX", 0.2)
    assert exchange(talk) == b""


def test_an_answer_may_take_longer_than_a_head(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "READ_S_MAX", 0.2)
    late = asyncio.Event()

    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        asyncio.get_running_loop().call_later(0.3, late.set)
        await late.wait()
        await hello(scope, receive, send)

    assert exchange(sending(LAST), slow).startswith(b"HTTP/1.1 200")
