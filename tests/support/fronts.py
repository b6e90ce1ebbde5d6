"""Fronts of both kinds on free ports, and a gateway that answers what they deliver."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc

from kedge import proto
from kedge.core.errors import ServeError
from kedge.core.ports import SECRET_METADATA, Drain, Front
from kedge.core.settings import FrontKind, FrontSettings, ServerSettings
from kedge.front.auth import Access, load_access
from kedge.front.make import make_front

INFER, STREAM = "/test.Service/Infer", "/test.Service/Stream"
OPEN, READ, OPERATE = "/test.Service/Open", "/test.Service/Read", "/test.Service/Operate"
METHODS = {
    OPEN: frozenset({"open"}),
    READ: frozenset({"read"}),
    OPERATE: frozenset({"operate"}),
    proto.HEALTH_CHECK: frozenset({"open"}),
}
KINDS = (FrontKind.NATIVE, FrontKind.GRPCIO)
DEADLINE_S = 20
LARGE = (("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1))

Answer = Callable[[bytes], bytes | ServeError]


def tokens(folder: Path, lines: str = "infer:aaa\nread:bbb\noperate:ccc\n") -> Access:
    path = folder / "tokens"
    path.write_text(lines)
    return load_access(path)


@contextmanager
def running_front(
    settings: FrontSettings, access: Access | None = None, host: str = "127.0.0.1", port: int = 0
) -> Iterator[Front]:
    """A started front, closed when the block is left."""
    server = ServerSettings(targets=(), host=host, grpc_port=port, front=settings)
    front = make_front(server, INFER, STREAM, METHODS, access or load_access(None))
    front.start()
    try:
        yield front
    finally:
        front.close()


def echo(payload: bytes) -> bytes:
    return payload


@contextmanager
def answering(front: Front, answer: Answer = echo) -> Iterator[list[int]]:
    """A gateway that answers every call with `answer` of its payload, and other calls with their
    index in front of it. Yields the ids that were reported as cancelled.
    """
    stop = threading.Event()
    cancelled: list[int] = []

    def run() -> None:
        while not stop.is_set() and (drain := front.receive(512, 10)) is not None:
            cancelled.extend(drain.cancelled)
            for call_id, payload in zip(drain.infer_ids, drain.infer_payloads, strict=True):
                settle(front, call_id, answer(payload))
            for call in drain.calls:
                settle(front, call.call_id, b"%d:%b" % (call.method, call.payload))

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield cancelled
    finally:
        stop.set()
        thread.join()


def settle(front: Front, call_id: int, answer: bytes | ServeError) -> bool:
    if isinstance(answer, ServeError):
        return front.fail(call_id, answer)
    return front.respond(call_id, answer)


def receive_until(front: Front, enough: Callable[[Drain], bool]) -> Drain:
    """Everything the front delivers until `enough` holds for the sum, or the test fails."""
    total = Drain([], [], [], [])
    for _ in range(DEADLINE_S * 100):
        drain = front.receive(64, 10)
        assert drain is not None
        for column, more in zip(total, drain, strict=True):
            column.extend(more)
        if enough(total):
            return total
    raise AssertionError(f"the front delivered only {total}")


def receive_calls(front: Front, calls: int) -> list[int]:
    """The ids of that many inference calls, in order of delivery."""
    return receive_until(front, lambda total: len(total.infer_ids) >= calls).infer_ids


def channel_to(front: Front, *options: tuple[str, int | str]) -> grpc.Channel:
    """A connection of its own, for messages of any size."""
    own = (*LARGE, ("grpc.use_local_subchannel_pool", 1), *options)
    return grpc.insecure_channel(f"127.0.0.1:{front.port}", own)


def local_channel(front: Front) -> tuple[grpc.Channel, list[tuple[str, str]]]:
    """What the server's own processes use, and the metadata that they send."""
    target, secret = front.local
    return grpc.insecure_channel(target), [(SECRET_METADATA, secret)] if secret else []


def failure(call: Callable[[], object]) -> tuple[grpc.StatusCode, str]:
    """Status and message of a call that must fail."""
    try:
        call()
    except grpc.RpcError as error:
        return error.code(), error.details()
    raise AssertionError("the call succeeded")


def wait_until(condition: Callable[[], bool]) -> bool:
    """Whether `condition()` became true in time."""
    end = time.monotonic() + DEADLINE_S
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.005)
    return False


@contextmanager
def half_sent_call(front: Front) -> Iterator[socket.socket]:
    """A connection that has sent 100 bytes of a message of 4,096 and answers no ping: HTTP/2 by
    hand, ended when the block is left.
    """
    fields = (
        (b":method", b"POST"),
        (b":scheme", b"http"),
        (b":path", INFER.encode()),
        (b":authority", b"x"),
        (b"content-type", b"application/grpc"),
        (b"te", b"trailers"),
    )
    head = b"".join(
        b"\x00" + bytes((len(name),)) + name + bytes((len(value),)) + value
        for name, value in fields
    )
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + _frame(4, 0, 0, b"")
    message = b"\x00\x00\x00\x10\x00" + bytes(100)
    with socket.create_connection(("127.0.0.1", front.port), DEADLINE_S) as connection:
        connection.sendall(preface + _frame(1, 4, 1, head) + _frame(0, 0, 1, message))
        assert connection.recv(100)
        yield connection


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    size = len(payload).to_bytes(3, "big")
    return size + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload
