"""What every front does, on every front: real sockets, grpcio's client, raw bytes.

`DIFFERENCES` lists what they do not have in common; docs/fronts.md must say the same.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kedge import proto
from kedge.core import errors
from kedge.core.errors import InvalidRequest, ServeError, Status, UnknownModel
from kedge.core.ports import Front
from kedge.core.settings import (
    STREAMS_PER_CONNECTION_MAX,
    CompressionLevel,
    FrontKind,
    FrontSettings,
)
from support.fronts import (
    DEADLINE_S,
    INFER,
    KINDS,
    OPEN,
    OPERATE,
    READ,
    answering,
    channel_to,
    failure,
    half_sent_call,
    local_channel,
    receive_calls,
    receive_until,
    running_front,
    tokens,
    wait_until,
)

ROOT = Path(__file__).parents[2]
NATIVE, GRPCIO = KINDS
# Row of the table in docs/fronts.md, and who has it.
DIFFERENCES: dict[str, dict[FrontKind, bool]] = {
    "deflate requests": {NATIVE: False, GRPCIO: True},
    "TLS, mTLS": {NATIVE: False, GRPCIO: True},
    "maximum connection age": {NATIVE: False, GRPCIO: True},
    "compressed answers": {NATIVE: False, GRPCIO: True},
    "limit on one message": {NATIVE: False, GRPCIO: True},
    "a reason for calls that closing cuts off": {NATIVE: False, GRPCIO: True},
    "limit on calls over all connections": {NATIVE: False, GRPCIO: True},
}


@pytest.fixture(params=KINDS, ids=lambda kind: kind.value)
def kind(request: pytest.FixtureRequest) -> FrontKind:
    return FrontKind(request.param)


@pytest.fixture
def front(kind: FrontKind) -> Iterator[Front]:
    with running_front(FrontSettings(kind)) as front:
        yield front


@pytest.fixture
def channel(front: Front) -> Iterator[grpc.Channel]:
    with channel_to(front) as channel:
        yield channel


def test_inference_comes_in_columns_and_other_calls_by_index(
    front: Front, channel: grpc.Channel
) -> None:
    infer = channel.unary_unary(INFER).future(b"one", timeout=DEADLINE_S)
    other = channel.unary_unary(OPERATE).future(b"two", timeout=DEADLINE_S)
    drain = receive_until(front, lambda total: bool(total.infer_ids and total.calls))
    assert drain.infer_payloads == [b"one"]
    assert [(call.method, call.payload) for call in drain.calls] == [(2, b"two")]
    assert front.respond(drain.infer_ids[0], b"first")
    assert front.fail(drain.calls[0].call_id, InvalidRequest("tensor 'x': expected 1, got 2"))
    assert infer.result() == b"first"
    assert failure(other.result) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "tensor 'x': expected 1, got 2",
    )


def all_errors() -> list[ServeError]:
    """One of each class of core/errors.py."""
    classes = [each for each in vars(errors).values() if isinstance(each, type)]
    found = []
    for each in classes:
        if issubclass(each, ServeError) and each is not ServeError:
            takes_text = each.__init__ is ServeError.__init__ or each is errors.QueueFull
            found.append(each("what is wrong") if takes_text else each())
    return found


def test_every_error_reaches_the_client_with_its_status_and_text(
    front: Front, channel: grpc.Channel
) -> None:
    known = {str(index): error for index, error in enumerate(all_errors())}
    assert len(known) > 10
    with answering(front, lambda payload: known[payload.decode()]):
        for key, error in known.items():
            code, text = failure(
                lambda key=key: channel.unary_unary(INFER)(key.encode(), timeout=DEADLINE_S)
            )
            assert (Status(code.value[0]), text) == (error.status, str(error))


@pytest.mark.parametrize(
    ("text", "received"),
    [
        ("", ""),
        ("ü 50 % of %41\n\tand \x00", "ü 50 % of %41\n\tand \x00"),
        ("\ud800 alone", "? alone"),
        ("ü" * 100_000, "ü" * 1_000 + " …"),
    ],
)
def test_any_text_survives_the_trailer_and_a_long_one_is_cut(
    front: Front, channel: grpc.Channel, text: str, received: str
) -> None:
    call = channel.unary_unary(INFER).future(b"", timeout=DEADLINE_S)
    (call_id,) = receive_calls(front, 1)
    front.fail(call_id, UnknownModel(text))
    assert failure(call.result) == (grpc.StatusCode.NOT_FOUND, received)


def test_a_cancelled_call_is_reported_and_cannot_be_answered(
    front: Front, channel: grpc.Channel
) -> None:
    call = channel.unary_unary(INFER).future(b"", timeout=DEADLINE_S)
    (call_id,) = receive_calls(front, 1)
    call.cancel()
    assert receive_until(front, lambda total: bool(total.cancelled)).cancelled == [call_id]
    assert not front.respond(call_id, b"late")
    assert not front.fail(call_id, UnknownModel("late"))


def test_a_deadline_ends_the_call_and_is_reported_as_cancelled(
    front: Front, channel: grpc.Channel
) -> None:
    call = channel.unary_unary(INFER).future(b"", timeout=0.2)
    (call_id,) = receive_calls(front, 1)
    assert receive_until(front, lambda total: bool(total.cancelled)).cancelled == [call_id]
    assert failure(call.result)[0] is grpc.StatusCode.DEADLINE_EXCEEDED


def test_a_killed_client_is_reported_for_each_of_its_calls(front: Front) -> None:
    script = (
        "import grpc\n"
        f"infer = grpc.insecure_channel('127.0.0.1:{front.port}').unary_unary({INFER!r})\n"
        "calls = [infer.future(b'x') for _ in range(20)]\n"
        "calls[0].result()\n"
    )
    process = subprocess.Popen([sys.executable, "-c", script])
    try:
        call_ids = receive_calls(front, 20)
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    drain = receive_until(front, lambda total: len(total.cancelled) >= 20)
    assert sorted(drain.cancelled) == sorted(call_ids)


def test_an_answer_is_taken_once_and_an_unknown_call_never(
    front: Front, channel: grpc.Channel
) -> None:
    call = channel.unary_unary(INFER).future(b"", timeout=DEADLINE_S)
    (call_id,) = receive_calls(front, 1)
    assert front.respond(call_id, b"first")
    assert not front.respond(call_id, b"second")
    assert not front.fail(call_id + 1, UnknownModel("nobody"))
    assert call.result() == b"first"


def test_receiving_waits_no_longer_than_it_is_told(front: Front) -> None:
    for timeout_ms in (0, 1):
        drain = front.receive(64, timeout_ms)
        assert drain is not None
        assert drain.events == 0


def test_a_drain_holds_no_more_events_than_asked_for(front: Front, channel: grpc.Channel) -> None:
    calls = [channel.unary_unary(INFER).future(b"x", timeout=DEADLINE_S) for _ in range(10)]
    delivered: list[int] = []
    while len(delivered) < 10:
        drain = front.receive(3, 1_000)
        assert drain is not None
        assert drain.events <= 3
        delivered += drain.infer_ids
    for call_id in delivered:
        front.respond(call_id, b"")
    assert [call.result() for call in calls] == [b""] * 10


def test_an_unlisted_method_is_unimplemented(front: Front, channel: grpc.Channel) -> None:
    code, text = failure(lambda: channel.unary_unary("/test.Service/No")(b"", timeout=DEADLINE_S))
    assert (code, text) == (grpc.StatusCode.UNIMPLEMENTED, "Method not found!")


@pytest.mark.parametrize("size", [0, 1, 4 * 1024 * 1024 + 1, 64 * 1024 * 1024])
def test_messages_of_any_size_pass_each_way(front: Front, channel: grpc.Channel, size: int) -> None:
    message = (bytes(range(256)) * (size // 256 + 1))[:size]
    with answering(front):
        assert channel.unary_unary(INFER)(message, timeout=DEADLINE_S) == message


@pytest.fixture(scope="module", params=KINDS, ids=lambda kind: kind.value)
def echo_channel(request: pytest.FixtureRequest) -> Iterator[grpc.Channel]:
    with (
        running_front(FrontSettings(request.param)) as front,
        answering(front),
        channel_to(front) as channel,
    ):
        yield channel


@given(payload=st.binary(max_size=300))
def test_no_byte_of_a_message_matters_to_a_front(
    echo_channel: grpc.Channel, payload: bytes
) -> None:
    assert echo_channel.unary_unary(INFER)(payload, timeout=DEADLINE_S) == payload


def test_many_calls_of_many_connections_each_get_their_own_answer(front: Front) -> None:
    def client(number: int) -> list[bytes]:
        with channel_to(front) as channel:
            infer = channel.unary_unary(INFER)
            bodies = [b"%d/%d" % (number, index) for index in range(200)]
            calls = [infer.future(body, timeout=DEADLINE_S) for body in bodies]
            return [body for body, call in zip(bodies, calls, strict=True) if call.result() != body]

    with answering(front), ThreadPoolExecutor(8) as pool:
        assert list(pool.map(client, range(8))) == [[]] * 8


def test_a_connection_with_more_calls_than_allowed_keeps_the_rest_on_its_side(
    front: Front, channel: grpc.Channel
) -> None:
    infer = channel.unary_unary(INFER)
    calls = [infer.future(b"", timeout=DEADLINE_S) for _ in range(STREAMS_PER_CONNECTION_MAX + 5)]
    first = receive_calls(front, STREAMS_PER_CONNECTION_MAX)
    assert len(first) == STREAMS_PER_CONNECTION_MAX
    assert front.receive(64, 100) == ([], [], [], [])
    for call_id in first:
        front.respond(call_id, b"")
    for call_id in receive_calls(front, 5):
        front.respond(call_id, b"")
    assert [call.result() for call in calls] == [b""] * len(calls)


def test_gzip_requests_are_unpacked(front: Front, channel: grpc.Channel) -> None:
    with answering(front):
        infer = channel.unary_unary(INFER)
        answer = infer(bytes(10_000), compression=grpc.Compression.Gzip, timeout=DEADLINE_S)
    assert answer == bytes(10_000)


def test_tokens_open_what_their_role_needs_and_open_methods_need_none(
    kind: FrontKind, tmp_path: Path
) -> None:
    with (
        running_front(FrontSettings(kind), tokens(tmp_path)) as front,
        answering(front),
        channel_to(front) as channel,
    ):

        def code(method: str, *headers: str) -> str:
            metadata = [("authorization", header) for header in headers]
            call = channel.unary_unary(method).future(b"", metadata=metadata, timeout=DEADLINE_S)
            call.exception()
            return call.code().name

        allowed = {"aaa": [INFER], "bbb": [READ], "ccc": [INFER, READ, OPERATE]}
        for token, methods in allowed.items():
            for method in (INFER, READ, OPERATE):
                expected = "OK" if method in methods else "PERMISSION_DENIED"
                assert code(method, f"Bearer {token}") == expected
        for headers in ((), ("Bearer wrong",), ("aaa",), ("",)):
            assert code(INFER, *headers) == "UNAUTHENTICATED"
            assert code(OPEN, *headers) == "OK"
            assert code(proto.HEALTH_CHECK, *headers) == "OK"


def test_without_tokens_control_is_answered_on_loopback_only(kind: FrontKind) -> None:
    with running_front(FrontSettings(kind), host="0.0.0.0") as front, answering(front):
        for host in ("127.0.0.1", own_address()):
            with grpc.insecure_channel(f"{host}:{front.port}") as channel:
                assert channel.unary_unary(INFER)(b"x", timeout=DEADLINE_S) == b"x"
                operate = channel.unary_unary(OPERATE)
                if host.startswith("127."):
                    assert operate(b"x", timeout=DEADLINE_S) == b"2:x"
                else:
                    code, text = failure(lambda call=operate: call(b"x", timeout=DEADLINE_S))
                    assert code is grpc.StatusCode.PERMISSION_DENIED
                    assert host in text


def own_address() -> str:
    """An IPv4 address of this machine, other than loopback if it has one. Nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return "127.0.0.1"
        return str(probe.getsockname()[0])


def test_all_addresses_of_both_families_are_listened_on(kind: FrontKind) -> None:
    with running_front(FrontSettings(kind), host="::") as front, answering(front):
        for host in ("127.0.0.1", "[::1]"):
            with grpc.insecure_channel(f"{host}:{front.port}") as channel:
                assert channel.unary_unary(OPERATE)(b"", timeout=DEADLINE_S) == b"2:"


def test_the_servers_own_processes_have_a_way_in_on_which_tokens_apply(
    kind: FrontKind, tmp_path: Path
) -> None:
    with (
        running_front(FrontSettings(kind), tokens(tmp_path), host="::") as front,
        answering(front),
    ):
        channel, metadata = local_channel(front)
        with channel:
            infer = channel.unary_unary(INFER)
            allowed = [*metadata, ("authorization", "Bearer aaa")]
            assert infer(b"x", metadata=allowed, timeout=DEADLINE_S) == b"x"
            code, _ = failure(lambda: infer(b"x", metadata=metadata, timeout=DEADLINE_S))
            assert code is grpc.StatusCode.UNAUTHENTICATED


def test_a_taken_port_is_an_oserror_with_the_kernels_reason(kind: FrontKind) -> None:
    with (
        running_front(FrontSettings(kind)) as front,
        pytest.raises(OSError, match="98"),
        running_front(FrontSettings(kind), port=front.port),
    ):
        pass


def test_closing_refuses_what_is_open_and_delivers_nothing_more(
    kind: FrontKind,
) -> None:
    with running_front(FrontSettings(kind)) as front, channel_to(front) as channel:
        call = channel.unary_unary(INFER).future(b"", timeout=DEADLINE_S)
        (call_id,) = receive_calls(front, 1)
        front.close()
        code, text = failure(call.result)
        assert code is grpc.StatusCode.UNAVAILABLE
        if DIFFERENCES["a reason for calls that closing cuts off"][kind]:
            assert text == "gRPC server is shutting down"
        assert front.receive(1, 0) is None
        assert not front.respond(call_id, b"late")
        front.close()


def test_closing_wakes_whoever_receives(front: Front) -> None:
    received: list[object] = []
    thread = threading.Thread(target=lambda: received.append(front.receive(1, 60_000)))
    thread.start()
    front.close()
    thread.join(DEADLINE_S)
    assert received == [None]


def test_a_connection_that_answers_no_ping_is_closed(kind: FrontKind) -> None:
    settings = FrontSettings(kind, keepalive_ms=100, keepalive_timeout_ms=100)
    with running_front(settings) as front, half_sent_call(front) as connection:
        while connection.recv(1_000):
            pass


def test_nothing_of_a_closed_front_stays_behind(kind: FrontKind) -> None:
    with running_front(FrontSettings(kind)):
        pass
    files, threads = len(os.listdir("/proc/self/fd")), threading.active_count()
    for _ in range(3):
        with running_front(FrontSettings(kind)):
            pass
    assert threading.active_count() == threads
    assert len(os.listdir("/proc/self/fd")) <= files


# What only one of them does


def test_deflate_requests(kind: FrontKind, front: Front, channel: grpc.Channel) -> None:
    with answering(front):
        infer = channel.unary_unary(INFER)
        call = infer.future(bytes(10_000), compression=grpc.Compression.Deflate, timeout=DEADLINE_S)
        call.exception()
    has = DIFFERENCES["deflate requests"][kind]
    assert call.code() is (grpc.StatusCode.OK if has else grpc.StatusCode.UNIMPLEMENTED)


@pytest.mark.parametrize(
    ("row", "settings"),
    [
        ("TLS, mTLS", {"tls_cert": Path("cert"), "tls_key": Path("key")}),
        ("maximum connection age", {"connection_age_ms_max": 1}),
        ("compressed answers", {"compression": CompressionLevel.LOW}),
        ("limit on one message", {"message_bytes_max": 1}),
    ],
)
def test_an_option_that_a_front_cannot_honour_is_refused_and_chooses_the_other(
    row: str, settings: dict[str, object]
) -> None:
    from kedge.front.make import chosen_kind

    assert DIFFERENCES[row] == {NATIVE: False, GRPCIO: True}
    assert chosen_kind(FrontSettings()) is NATIVE
    assert chosen_kind(FrontSettings(**settings)) is GRPCIO  # type: ignore[arg-type]
    assert chosen_kind(FrontSettings(GRPCIO, **settings)) is GRPCIO  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="--front native, which has no"):
        chosen_kind(FrontSettings(NATIVE, **settings))  # type: ignore[arg-type]


def test_calls_over_all_connections(kind: FrontKind) -> None:
    with running_front(FrontSettings(kind, calls_max=10)) as front:
        channels = [channel_to(front) for _ in range(3)]
        calls = [
            channel.unary_unary(INFER).future(b"x", timeout=DEADLINE_S)
            for channel in channels
            for _ in range(10)
        ]
        has = DIFFERENCES["limit on calls over all connections"][kind]
        delivered = receive_calls(front, 10 if has else 30)
        if has:
            assert wait_until(lambda: sum(call.done() for call in calls) == 20)
        for call_id in delivered:
            front.respond(call_id, b"")
        for call in calls:
            call.exception()
        codes = [call.code().name for call in calls]
        assert (codes.count("OK"), codes.count("UNAVAILABLE")) == ((10, 20) if has else (30, 0))
        for channel in channels:
            channel.close()


def test_the_page_on_fronts_states_the_same_differences() -> None:
    page = (ROOT / "docs" / "fronts.md").read_text()
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in page.splitlines()]
    stated = {row[0]: row[1:] for row in cells if len(row) == 3}
    for row, has in DIFFERENCES.items():
        said = [cell.split()[0].rstrip(":,;") for cell in stated[row]]
        assert said == ["yes" if has[kind] else "no" for kind in KINDS], row
