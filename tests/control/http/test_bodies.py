"""Bodies of requests and their bounds."""

from __future__ import annotations

import asyncio
import gzip
import zlib
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import pytest
from starlette.requests import ClientDisconnect, Request

from kedge.control.http import bodies as module
from kedge.control.http.bodies import Bodies
from kedge.control.http.errors import HttpError
from kedge.core.errors import InvalidRequest


def request(*chunks: bytes, **headers: str) -> Request:
    """A request whose body comes in `chunks`; without any it never comes."""
    messages = [
        {"type": "http.request", "body": chunk, "more_body": index < len(chunks)}
        for index, chunk in enumerate(chunks, start=1)
    ]
    return asgi_request(messages, headers)


def asgi_request(messages: Sequence[dict[str, Any]], headers: dict[str, str]) -> Request:
    waiting = list(messages)

    async def receive() -> dict[str, Any]:
        if not waiting:
            await asyncio.Event().wait()
        return waiting.pop(0)

    raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return Request({"type": "http", "headers": raw}, receive)


async def read(bodies: Bodies, given: Request) -> bytes:
    async with bodies.read(given) as body:
        return body


def read_alone(given: Request) -> bytes:
    return asyncio.run(read(Bodies(), given))


def refusal(work: Coroutine[Any, Any, object]) -> HttpError:
    with pytest.raises(HttpError) as refused:
        asyncio.run(work)
    return refused.value


def refusal_alone(given: Request) -> HttpError:
    return refusal(read(Bodies(), given))


@pytest.fixture
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    """10 bytes for one body, 15 for all."""
    monkeypatch.setattr(module, "BODY_BYTES_MAX", 10)
    monkeypatch.setattr(module, "BODIES_BYTES_MAX", 15)


@pytest.mark.parametrize("chunks", [[b""], [b"abc"], [b"a", b"", b"bc"]])
def test_a_body_is_all_its_chunks(chunks: list[bytes]) -> None:
    assert read_alone(request(*chunks)) == b"".join(chunks)


@pytest.mark.usefixtures("_small")
def test_a_body_is_taken_up_to_its_bound_and_refused_beyond() -> None:
    assert read_alone(request(b"12345", b"67890")) == b"1234567890"
    assert refusal_alone(request(b"12345", b"67890", b"1")).http_status == 413
    announced = refusal_alone(request(content_length="11"))
    assert (announced.http_status, str(announced)) == (
        413,
        "the body is larger than 10 bytes; use gRPC for it",
    )


@pytest.mark.usefixtures("_small")
def test_bodies_together_are_bounded_until_they_are_answered() -> None:
    async def second_while_first_is_held(second: bytes) -> bytes:
        bodies = Bodies()
        async with bodies.read(request(b"1234567890")):
            assert bodies.bytes_held == 10
            return await read(bodies, request(second))

    assert asyncio.run(second_while_first_is_held(b"12345")) == b"12345"
    refused = refusal(second_while_first_is_held(b"123456"))
    assert refused.http_status == 503
    assert "requests of 10 bytes are being answered, the limit is 15" in str(refused)


@pytest.mark.usefixtures("_small")
def test_what_a_refused_or_abandoned_body_held_is_free_again() -> None:
    abandoned = [
        {"type": "http.request", "body": b"123", "more_body": True},
        {"type": "http.disconnect"},
    ]

    async def read_all() -> int:
        bodies = Bodies()
        with pytest.raises(HttpError):
            await read(bodies, request(b"12345", b"678901"))
        with pytest.raises(ClientDisconnect):
            await read(bodies, asgi_request(abandoned, {}))
        with pytest.raises(InvalidRequest):
            await read(bodies, request(b"123", content_encoding="gzip"))
        await read(bodies, request(b"123"))
        return bodies.bytes_held

    assert asyncio.run(read_all()) == 0


def test_a_body_that_does_not_come_in_time_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "READ_S_MAX", 0.01)
    assert refusal_alone(request()).http_status == 408


def test_only_the_reading_has_a_time_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "READ_S_MAX", 0.01)
    late = asyncio.Event()

    async def answer_slowly() -> bytes:
        async with Bodies().read(request(b"abc")) as body:
            asyncio.get_running_loop().call_later(0.05, late.set)
            await late.wait()
            return body

    assert asyncio.run(answer_slowly()) == b"abc"


def test_a_time_out_of_the_answer_is_not_one_of_the_body() -> None:
    async def time_out() -> None:
        async with Bodies().read(request(b"abc")):
            raise TimeoutError

    with pytest.raises(TimeoutError):
        asyncio.run(time_out())


@pytest.mark.parametrize(
    ("encoding", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress)]
)
def test_packed_bodies_are_unpacked(encoding: str, pack: Callable[[bytes], bytes]) -> None:
    assert read_alone(request(pack(b"abc" * 100), content_encoding=encoding)) == b"abc" * 100


def test_a_packed_bomb_is_not_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    bomb = gzip.compress(bytes(1_000_000))
    monkeypatch.setattr(module, "BODY_BYTES_MAX", len(bomb) + 1_000_000)
    assert len(read_alone(request(bomb, content_encoding="gzip"))) == 1_000_000
    monkeypatch.setattr(module, "BODY_BYTES_MAX", len(bomb) + 999_999)
    assert refusal_alone(request(bomb, content_encoding="gzip")).http_status == 413


@pytest.mark.parametrize(
    "body",
    [b"", b"abc", gzip.compress(b"abc")[:-1], gzip.compress(b"abc") + b"x"],
)
def test_what_is_not_one_whole_packed_stream_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidRequest, match="gzip"):
        read_alone(request(body, content_encoding="gzip"))
