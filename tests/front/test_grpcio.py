"""What only the grpcio front has besides streams and TLS: bounds, compression, age, `Watch`."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest

from kedge import proto
from kedge.core.ports import Front
from kedge.core.settings import CompressionLevel, FrontKind, FrontSettings
from support.fronts import (
    DEADLINE_S,
    INFER,
    OPEN,
    STREAM,
    answering,
    channel_to,
    failure,
    half_sent_call,
    local_channel,
    receive_calls,
    running_front,
    tokens,
    wait_until,
)

GRPCIO = FrontKind.GRPCIO
MIB = 1024 * 1024


@contextmanager
def counting_proxy(front: Front) -> Iterator[tuple[str, list[int]]]:
    """A relay to the front: its address, and the sizes of what the front has sent through it."""
    sizes: list[int] = []

    def relay(source: socket.socket, sink: socket.socket, counted: list[int]) -> None:
        try:
            while data := source.recv(65_536):
                counted.append(len(data))
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    with socket.create_server(("127.0.0.1", 0)) as listener:
        sockets: list[socket.socket] = []

        def accept() -> None:
            client, _ = listener.accept()
            server = socket.create_connection(("127.0.0.1", front.port))
            sockets.extend((client, server))
            up = threading.Thread(target=relay, args=(client, server, []))
            up.start()
            relay(server, client, sizes)
            up.join()

        thread = threading.Thread(target=accept)
        thread.start()
        yield f"127.0.0.1:{listener.getsockname()[1]}", sizes
        thread.join(DEADLINE_S)
        for each in sockets:
            each.close()


def answer_size(settings: FrontSettings, accepted: str) -> int:
    """Bytes on the wire for an answer of 1 MiB of zeros."""
    with running_front(settings) as front, answering(front, lambda _: bytes(MIB)):
        with counting_proxy(front) as (address, sizes):
            options = (("grpc.compression_enabled_algorithms_bitset", int(accepted, 2)),)
            with grpc.insecure_channel(address, options) as channel:
                infer = channel.unary_unary(INFER)
                assert infer(b"", timeout=DEADLINE_S) == bytes(MIB)
        return sum(sizes)


@pytest.mark.parametrize("level", list(CompressionLevel))
@pytest.mark.parametrize(
    ("accepted", "accepts"), [("001", False), ("011", True), ("101", True), ("111", True)]
)
def test_answers_are_compressed_at_every_level_but_none_for_clients_that_accept_it(
    level: CompressionLevel, accepted: str, accepts: bool
) -> None:
    """accepted: bits of deflate, gzip... and of no compression, which is always accepted."""
    size = answer_size(FrontSettings(GRPCIO, compression=level), accepted)
    is_compressed = size < MIB / 10
    assert is_compressed == (accepts and level is not CompressionLevel.NONE)


def test_a_connection_is_closed_at_its_age_and_calls_get_the_grace() -> None:
    settings = FrontSettings(connection_age_ms_max=300, connection_age_grace_ms=60_000)
    with running_front(settings) as front, channel_to(front) as channel:
        states: list[grpc.ChannelConnectivity] = []
        channel.subscribe(states.append)
        call = channel.unary_unary(INFER).future(b"", timeout=DEADLINE_S)
        (call_id,) = receive_calls(front, 1)
        assert wait_until(lambda: states[-1:] == [grpc.ChannelConnectivity.IDLE])
        assert not call.done()
        front.respond(call_id, b"in time")
        assert call.result() == b"in time"
        with answering(front):
            assert channel.unary_unary(INFER)(b"again", timeout=DEADLINE_S) == b"again"


def test_a_call_longer_than_the_grace_is_cut_off() -> None:
    settings = FrontSettings(connection_age_ms_max=200, connection_age_grace_ms=200)
    with running_front(settings) as front, channel_to(front) as channel:
        call = channel.unary_unary(INFER).future(b"", timeout=DEADLINE_S)
        receive_calls(front, 1)
        assert failure(call.result)[0] is grpc.StatusCode.UNAVAILABLE


def test_without_an_age_a_call_may_take_its_time() -> None:
    with running_front(FrontSettings(GRPCIO)) as front, channel_to(front) as channel:
        call = channel.unary_unary(INFER).future(b"", timeout=DEADLINE_S)
        (call_id,) = receive_calls(front, 1)
        assert front.receive(1, 500) == ([], [], [], [])
        front.respond(call_id, b"late")
        assert call.result() == b"late"


def test_a_message_above_the_limit_is_refused_and_one_at_the_limit_passes() -> None:
    with (
        running_front(FrontSettings(message_bytes_max=MIB)) as front,
        answering(front),
        channel_to(front) as channel,
    ):
        infer = channel.unary_unary(INFER)
        assert infer(bytes(MIB), timeout=DEADLINE_S) == bytes(MIB)
        code, text = failure(lambda: infer(bytes(MIB + 1), timeout=DEADLINE_S))
        assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "1048577 vs. 1048576" in text
        code, _ = failure(
            lambda: infer(bytes(64 * MIB), compression=grpc.Compression.Gzip, timeout=DEADLINE_S)
        )
        assert code is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_calls_beyond_the_bound_are_refused_by_name_and_health_still_answers() -> None:
    with running_front(FrontSettings(GRPCIO, calls_max=3)) as front, channel_to(front) as channel:
        infer = channel.unary_unary(INFER)
        calls = [infer.future(b"", timeout=DEADLINE_S) for _ in range(3)]
        call_ids = receive_calls(front, 3)
        assert failure(lambda: infer(b"", timeout=DEADLINE_S)) == (
            grpc.StatusCode.UNAVAILABLE,
            "Exceeds maximum queue size: 3 calls are open, the limit is 3",
        )
        with answering(front):
            assert channel.unary_unary(OPEN)(b"", timeout=DEADLINE_S) == b"0:"
        front.respond(call_ids[0], b"one")
        assert wait_until(lambda: [call.done() for call in calls].count(True) == 1)
        another = infer.future(b"", timeout=DEADLINE_S)
        receive_calls(front, 1)
        assert not another.done()


def test_every_way_to_end_a_call_gives_its_place_back() -> None:
    with running_front(FrontSettings(GRPCIO, calls_max=2)) as front:
        with channel_to(front) as channel:
            infer = channel.unary_unary(INFER)
            cancelled = infer.future(b"", timeout=DEADLINE_S)
            late = infer.future(b"", timeout=0.2)
            receive_calls(front, 2)
            cancelled.cancel()
            assert failure(late.result)[0] is grpc.StatusCode.DEADLINE_EXCEEDED
            half_sent_message(front)
        with answering(front), channel_to(front) as channel:
            infer = channel.unary_unary(INFER)
            assert wait_until(lambda: both_succeed(infer))


def both_succeed(infer: grpc.UnaryUnaryMultiCallable[bytes, bytes]) -> bool:
    calls = [infer.future(b"x", timeout=DEADLINE_S) for _ in range(2)]
    return all(call.exception() is None for call in calls)


def half_sent_message(front: Front) -> None:
    """A connection that ends in the middle of a message."""
    with half_sent_call(front):
        assert front.receive(1, 200) is not None


def test_bytes_beyond_the_bound_are_refused_until_the_gateway_takes_some() -> None:
    settings = FrontSettings(GRPCIO, waiting_bytes_max=10 * MIB)
    with running_front(settings) as front, channel_to(front) as channel:
        infer = channel.unary_unary(INFER)
        calls = [infer.future(bytes(4 * MIB), timeout=DEADLINE_S) for _ in range(5)]
        assert wait_until(lambda: sum(call.done() for call in calls) == 3)
        code, text = failure(next(call for call in calls if call.done()).result)
        assert code is grpc.StatusCode.UNAVAILABLE
        assert "8388608 bytes wait in front of the queues, this message has 4194304" in text
        with answering(front):
            assert sum(call.exception() is None for call in calls) == 2
            assert infer(bytes(9 * MIB), timeout=DEADLINE_S) == bytes(9 * MIB)


def test_a_message_of_somebody_without_rights_is_never_read(tmp_path: Path) -> None:
    """It is refused while the sender still sends: the front holds none of its 256 MiB."""
    with running_front(FrontSettings(GRPCIO), tokens(tmp_path)) as front:
        before = peak_bytes()
        with channel_to(front) as channel:
            body = bytes(256 * MIB)
            own = peak_bytes() - before
            for method in (INFER, STREAM):
                call = channel.stream_stream(method)(iter([body]), timeout=DEADLINE_S)
                assert failure(lambda call=call: next(call))[0].name == "UNAUTHENTICATED"
        # The sender is this process too and copies its message once.
        assert peak_bytes() - before < own + 300 * MIB


def peak_bytes() -> int:
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


def test_health_can_be_watched_and_changes_are_sent() -> None:
    health = [b"up"]
    with running_front(FrontSettings(GRPCIO)) as front, channel_to(front) as channel:
        with answering_health(front, health):
            call = channel.unary_stream(proto.HEALTH_WATCH)(b"", timeout=DEADLINE_S)
            assert next(call) == b"up"
            health[0] = b"down"
            assert next(call) == b"down"
        front.close()
        assert failure(lambda: next(call))[0] is grpc.StatusCode.UNAVAILABLE


@contextmanager
def answering_health(front: Front, health: list[bytes]) -> Iterator[None]:
    stop = threading.Event()

    def run() -> None:
        while not stop.is_set():
            drain = front.receive(10, 10)
            assert drain is not None
            for call in drain.calls:
                front.respond(call.call_id, health[0])

    thread = threading.Thread(target=run)
    thread.start()
    yield
    stop.set()
    thread.join()


def test_watching_needs_no_token_and_takes_no_place_of_others(tmp_path: Path) -> None:
    with (
        running_front(FrontSettings(GRPCIO, calls_max=1), tokens(tmp_path)) as front,
        answering(front),
        channel_to(front) as channel,
    ):
        watching = [channel.unary_stream(proto.HEALTH_WATCH)(b"", timeout=20) for _ in range(65)]
        started = [call for call in watching if first_or_none(call) is not None]
        assert len(started) == 64
        metadata = [("authorization", "Bearer aaa")]
        infer = channel.unary_unary(INFER)
        assert infer(b"x", metadata=metadata, timeout=DEADLINE_S) == b"x"


def first_or_none(call: Iterator[bytes]) -> bytes | None:
    try:
        return next(call)
    except grpc.RpcError:
        return None


def test_two_fronts_of_a_process_are_strangers(tmp_path: Path) -> None:
    with (
        running_front(FrontSettings(GRPCIO)) as one,
        running_front(FrontSettings(GRPCIO)) as other,
        answering(one),
    ):
        assert one.local != other.local
        channel, _ = local_channel(one)
        _, metadata = local_channel(other)
        with channel:
            code, _ = failure(
                lambda: channel.unary_unary(INFER)(b"", metadata=metadata, timeout=DEADLINE_S)
            )
            assert code is grpc.StatusCode.UNAUTHENTICATED
