"""The native front against grpcio's client: real sockets, raw bytes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest

from kedge.core.errors import InvalidRequest, UnknownModel
from kedge.core.ports import Drain
from kedge.front.auth import load_access
from kedge.front.native import NativeFront

METHODS = {
    "/test.Service/Open": frozenset({"open"}),
    "/test.Service/Operate": frozenset({"operate"}),
}
DEADLINE_S = 10


@pytest.fixture
def front() -> Iterator[NativeFront]:
    front = NativeFront("127.0.0.1", 0, "/test.Service/Infer", METHODS, load_access(None))
    front.start()
    yield front
    front.close()


@pytest.fixture
def channel(front: NativeFront) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(f"127.0.0.1:{front.port}") as channel:
        yield channel


def receive_until(front: NativeFront, enough: Callable[[Drain], bool]) -> Drain:
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


def test_inference_comes_in_columns_and_other_calls_by_index(
    front: NativeFront, channel: grpc.Channel
) -> None:
    infer = channel.unary_unary("/test.Service/Infer").future(b"one", timeout=DEADLINE_S)
    other = channel.unary_unary("/test.Service/Operate").future(b"two", timeout=DEADLINE_S)
    drain = receive_until(front, lambda total: bool(total.infer_ids and total.calls))
    assert drain.infer_payloads == [b"one"]
    assert [(call.method, call.payload) for call in drain.calls] == [(1, b"two")]
    assert front.respond(drain.infer_ids[0], b"first")
    assert front.fail(drain.calls[0].call_id, InvalidRequest("tensor 'x': expected 1, got 2"))
    assert infer.result() == b"first"
    assert other.exception().code() is grpc.StatusCode.INVALID_ARGUMENT
    assert other.exception().details() == "tensor 'x': expected 1, got 2"


def test_a_cancelled_call_is_reported_and_cannot_be_answered(
    front: NativeFront, channel: grpc.Channel
) -> None:
    call = channel.unary_unary("/test.Service/Infer").future(b"", timeout=DEADLINE_S)
    (call_id,) = receive_until(front, lambda total: bool(total.infer_ids)).infer_ids
    call.cancel()
    assert receive_until(front, lambda total: bool(total.cancelled)).cancelled == [call_id]
    assert not front.respond(call_id, b"late")
    assert not front.fail(call_id, UnknownModel("late"))


def test_a_deadline_is_answered_by_the_front_and_reported_as_cancelled(
    front: NativeFront, channel: grpc.Channel
) -> None:
    call = channel.unary_unary("/test.Service/Infer").future(b"", timeout=0.2)
    (call_id,) = receive_until(front, lambda total: bool(total.infer_ids)).infer_ids
    assert receive_until(front, lambda total: bool(total.cancelled)).cancelled == [call_id]
    assert call.exception().code() is grpc.StatusCode.DEADLINE_EXCEEDED


def test_a_long_message_is_cut_so_that_clients_accept_the_trailer(
    front: NativeFront, channel: grpc.Channel
) -> None:
    call = channel.unary_unary("/test.Service/Infer").future(b"", timeout=DEADLINE_S)
    (call_id,) = receive_until(front, lambda total: bool(total.infer_ids)).infer_ids
    front.fail(call_id, UnknownModel("ü" * 100_000))
    assert call.exception().code() is grpc.StatusCode.NOT_FOUND
    assert call.exception().details().endswith("ü …")


def test_an_unlisted_method_is_unimplemented(front: NativeFront, channel: grpc.Channel) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary("/test.Service/Nothing")(b"", timeout=DEADLINE_S)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_a_closed_front_delivers_none_and_a_taken_port_is_an_oserror(front: NativeFront) -> None:
    with pytest.raises(OSError, match="98"):
        NativeFront("127.0.0.1", front.port, "/test.Service/Infer", METHODS, load_access(None))
    front.close()
    assert front.receive(1, 0) is None


def test_tokens_guard_inference_and_calls_but_not_open_methods(tmp_path: Path) -> None:
    token_file = tmp_path / "tokens"
    token_file.write_text("infer:aaa\n")
    front = NativeFront("127.0.0.1", 0, "/test.Service/Infer", METHODS, load_access(token_file))
    front.start()
    stop = threading.Event()

    def echo() -> None:
        while not stop.is_set() and (drain := front.receive(64, 10)) is not None:
            for call_id, payload in zip(drain.infer_ids, drain.infer_payloads, strict=True):
                front.respond(call_id, payload)
            for call in drain.calls:
                front.respond(call.call_id, call.payload)

    thread = threading.Thread(target=echo)
    thread.start()
    try:
        with grpc.insecure_channel(f"127.0.0.1:{front.port}") as channel:

            def code(method: str, token: str | None) -> grpc.StatusCode:
                metadata = [("authorization", f"Bearer {token}")] if token else []
                call = channel.unary_unary(f"/test.Service/{method}")
                future = call.future(b"x", metadata=metadata, timeout=DEADLINE_S)
                future.exception()
                return future.code()

            assert code("Infer", "aaa") is grpc.StatusCode.OK
            assert code("Infer", "bbb") is grpc.StatusCode.UNAUTHENTICATED
            assert code("Infer", None) is grpc.StatusCode.UNAUTHENTICATED
            assert code("Operate", "aaa") is grpc.StatusCode.PERMISSION_DENIED
            assert code("Open", None) is grpc.StatusCode.OK
    finally:
        stop.set()
        thread.join()
        front.close()
