"""`ModelStreamInfer` of both fronts against grpcio's client and tritonclient's messages."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest
from tritonclient.grpc import service_pb2 as pb

from kedge.core.errors import InvalidRequest, ModelFailed, ServeError
from kedge.core.ports import Front
from kedge.core.settings import FrontKind, FrontSettings
from support.fronts import (
    DEADLINE_S,
    KINDS,
    STREAM,
    answering,
    channel_to,
    failure,
    receive_calls,
    receive_until,
    running_front,
    tokens,
)
from support.requests import infer_request


@pytest.fixture(params=KINDS, ids=lambda kind: kind.value)
def kind(request: pytest.FixtureRequest) -> FrontKind:
    return FrontKind(request.param)


class Client:
    """One open stream: send requests, read answers."""

    def __init__(self, channel: grpc.Channel, *metadata: tuple[str, str]) -> None:
        self._requests: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        method = channel.stream_stream(
            STREAM, response_deserializer=pb.ModelStreamInferResponse.FromString
        )
        self.call = method(iter(self._requests.get, None), metadata=metadata, timeout=DEADLINE_S)

    def send(self, *ids: str) -> None:
        for own_id in ids:
            self._requests.put(request(own_id))

    def half_close(self) -> None:
        self._requests.put(None)

    def read(self) -> pb.ModelStreamInferResponse:
        return next(self.call)

    def read_rest(self) -> list[pb.ModelStreamInferResponse]:
        return list(self.call)


def request(own_id: str) -> bytes:
    data: bytes = infer_request(request_id=own_id).SerializeToString()
    return data


def response(own_id: str) -> bytes:
    data: bytes = pb.ModelInferResponse(id=own_id, model_name="m").SerializeToString()
    return data


def answer_by_id(payload: bytes) -> bytes | ServeError:
    """An answer with the request's id; an id that begins with `bad` is refused."""
    own_id = pb.ModelInferRequest.FromString(payload).id
    return InvalidRequest(f"{own_id} is wrong") if own_id.startswith("bad") else response(own_id)


def final(own_id: str) -> pb.ModelStreamInferResponse:
    expected = pb.ModelInferResponse.FromString(response(own_id))
    expected.parameters["triton_final_response"].bool_param = True
    return pb.ModelStreamInferResponse(infer_response=expected)


@contextmanager
def stream_to(front: Front, *metadata: tuple[str, str], is_ended: bool = True) -> Iterator[Client]:
    with channel_to(front) as channel:
        client = Client(channel, *metadata)
        yield client
        if is_ended:
            client.half_close()
            client.read_rest()
            assert client.call.code() is grpc.StatusCode.OK


@pytest.fixture
def front(kind: FrontKind) -> Iterator[Front]:
    with running_front(FrontSettings(kind)) as front:
        yield front


def test_every_message_is_a_call_of_its_own_in_the_streams_order(front: Front) -> None:
    ids = [str(number) for number in range(50)]
    with stream_to(front) as client:
        client.send(*ids)
        drain = receive_until(front, lambda total: len(total.infer_ids) == 50)
        assert drain.infer_payloads == [request(own_id) for own_id in ids]
        assert len(set(drain.infer_ids)) == 50
        for call_id, own_id in zip(drain.infer_ids, ids, strict=True):
            assert front.respond(call_id, response(own_id))
        assert [client.read() for _ in ids] == [final(own_id) for own_id in ids]


def test_answers_leave_as_they_come(front: Front) -> None:
    with stream_to(front) as client:
        client.send("first", "second")
        first, second = receive_calls(front, 2)
        front.respond(second, response("second"))
        assert client.read() == final("second")
        front.respond(first, response("first"))
        assert client.read() == final("first")


def test_a_half_closed_stream_ends_with_its_last_answer(front: Front) -> None:
    with stream_to(front, is_ended=False) as client:
        client.send("a", "b")
        client.half_close()
        first, second = receive_calls(front, 2)
        front.respond(first, response("a"))
        assert client.read() == final("a")
        assert not client.call.done()
        front.respond(second, response("b"))
        assert client.read() == final("b")
        assert client.call.code() is grpc.StatusCode.OK


def test_a_message_is_delivered_to_a_gateway_that_already_waits(front: Front) -> None:
    """Once a stream is open, no front lets its messages wait for a unary call to come."""
    with stream_to(front) as client:
        client.send("first")
        front.respond(*receive_calls(front, 1), response("first"))
        assert client.read() == final("first")
        sender = threading.Timer(0.1, client.send, ["second"])
        sender.start()
        begin_s, call_ids = time.monotonic(), []
        while not call_ids:
            drain = front.receive(64, 60_000)
            assert drain is not None
            call_ids = drain.infer_ids
        assert time.monotonic() - begin_s < DEADLINE_S
        front.respond(*call_ids, response("second"))
        assert client.read() == final("second")
        sender.join()


def test_an_empty_stream_ends_well(front: Front) -> None:
    with stream_to(front):
        pass


def test_an_error_is_a_message_with_the_requests_id_and_the_next_one_is_served(
    front: Front,
) -> None:
    with answering(front, answer_by_id), stream_to(front) as client:
        client.send("bad1", "good")
        answers = [client.read(), client.read()]
    refused = pb.ModelStreamInferResponse(
        error_message="bad1 is wrong", infer_response={"id": "bad1"}
    )
    assert answers == [refused, final("good")]


@pytest.mark.parametrize(("value", "ends"), [("true", True), ("false", False), ("1", False)])
def test_with_triton_grpc_error_an_error_ends_the_stream_with_its_status(
    front: Front, value: str, ends: bool
) -> None:
    with stream_to(front, ("triton_grpc_error", value), is_ended=not ends) as client:
        client.send("a", "b")
        first, second = receive_calls(front, 2)
        front.fail(first, ModelFailed("it broke"))
        if ends:
            assert failure(client.read) == (grpc.StatusCode.INTERNAL, "it broke")
            # Its other call is given up: nobody could send the answer.
            assert receive_until(front, lambda total: bool(total.cancelled)).cancelled == [second]
        else:
            assert client.read().error_message == "it broke"
            front.respond(second, response("b"))
            assert client.read() == final("b")


def test_at_most_so_many_messages_of_a_stream_are_read_before_they_are_answered(
    kind: FrontKind,
) -> None:
    with (
        running_front(FrontSettings(kind, stream_messages_max=4)) as front,
        stream_to(front) as client,
    ):
        client.send(*map(str, range(6)))
        first = receive_calls(front, 4)
        assert len(first) == 4
        assert front.receive(64, 200) == ([], [], [], [])
        front.respond(first[0], response("0"))
        assert client.read() == final("0")
        (fifth,) = receive_calls(front, 1)
        assert front.receive(64, 100) == ([], [], [], [])
        front.respond(fifth, response("4"))
        (sixth,) = receive_calls(front, 1)
        for call_id in (*first[1:], sixth):
            front.respond(call_id, response(""))


def test_a_client_that_does_not_read_its_answers_is_not_read_either(kind: FrontKind) -> None:
    large = bytes(1024 * 1024)
    taken: list[bytes] = []

    def answer(payload: bytes) -> bytes:
        taken.append(payload)
        return large

    with (
        running_front(FrontSettings(kind, stream_messages_max=4)) as front,
        channel_to(front, ("grpc.http2.lookahead_bytes", 65_536)) as channel,
    ):
        with answering(front, answer):
            client = Client(channel)
            client.send(*map(str, range(200)))
            assert receives_nothing_for_a_while(taken)
        # Four that wait, and what the sockets' and HTTP/2's buffers hold.
        assert len(taken) < 40
        client.call.cancel()


def receives_nothing_for_a_while(taken: list[bytes]) -> bool:
    end, before = time.monotonic() + DEADLINE_S, -1
    while time.monotonic() < end and before != len(taken):
        before = len(taken)
        time.sleep(0.5)
    return before == len(taken)


def test_a_cancelled_stream_gives_up_its_calls_and_their_places(kind: FrontKind) -> None:
    # One place for the stream, three for its messages.
    with running_front(FrontSettings(kind, calls_max=4)) as front:
        with channel_to(front) as channel:
            client = Client(channel)
            client.send("a", "b", "c")
            call_ids = receive_calls(front, 3)
            assert failure(Client(channel).read) == (
                grpc.StatusCode.UNAVAILABLE,
                "Exceeds maximum queue size: 4 calls are open, the limit is 4",
            )
            client.call.cancel()
            drain = receive_until(front, lambda total: len(total.cancelled) == 3)
            assert sorted(drain.cancelled) == call_ids
            assert not front.respond(call_ids[0], response("a"))
        with answering(front, answer_by_id), stream_to(front) as client:
            client.send("d", "e", "f")
            assert [client.read() for _ in range(3)] == [final("d"), final("e"), final("f")]


def test_a_lost_connection_gives_up_the_calls_of_its_stream(front: Front) -> None:
    with channel_to(front) as channel:
        client = Client(channel)
        client.send("a", "b")
        call_ids = receive_calls(front, 2)
    drain = receive_until(front, lambda total: len(total.cancelled) == 2)
    assert sorted(drain.cancelled) == call_ids


def test_a_message_too_many_is_answered_with_the_refusal_and_the_stream_goes_on(
    kind: FrontKind,
) -> None:
    with (
        running_front(FrontSettings(kind, calls_max=2)) as front,
        stream_to(front) as client,
    ):
        client.send("a", "b")
        (first,) = receive_calls(front, 1)
        refused = client.read()
        assert refused.infer_response.id == "b"
        assert "2 calls are open, the limit is 2" in refused.error_message
        front.respond(first, response("a"))
        assert client.read() == final("a")
        client.send("c")
        (third,) = receive_calls(front, 1)
        front.respond(third, response("c"))
        assert client.read() == final("c")


def test_a_message_that_nobody_can_parse_is_delivered_as_it_is(front: Front) -> None:
    with channel_to(front) as channel:
        call = channel.stream_stream(STREAM)(iter([b"\xff\xff"]), timeout=DEADLINE_S)
        drain = receive_until(front, lambda total: bool(total.infer_ids))
        assert drain.infer_payloads == [b"\xff\xff"]
        front.fail(drain.infer_ids[0], InvalidRequest("no message"))
        answer = pb.ModelStreamInferResponse.FromString(next(call))
        assert (answer.error_message, answer.infer_response.id) == ("no message", "")


def test_closing_ends_open_streams(front: Front) -> None:
    with channel_to(front) as channel:
        idle, busy = Client(channel), Client(channel)
        busy.send("a")
        receive_calls(front, 1)
        front.close()
        assert failure(idle.read) == (grpc.StatusCode.UNAVAILABLE, "gRPC server is shutting down")
        assert busy.read().error_message == "gRPC server is shutting down"
        assert failure(busy.read)[0] is grpc.StatusCode.UNAVAILABLE


def test_a_stream_needs_the_role_infer(kind: FrontKind, tmp_path: Path) -> None:
    with (
        running_front(FrontSettings(kind), tokens(tmp_path)) as front,
        answering(front, answer_by_id),
    ):
        with channel_to(front) as channel:
            for token, code in (("", "UNAUTHENTICATED"), ("bbb", "PERMISSION_DENIED")):
                client = Client(channel, ("authorization", f"Bearer {token}"))
                client.send("a")
                assert failure(client.read)[0].name == code
        with stream_to(front, ("authorization", "Bearer aaa")) as client:
            client.send("a")
            assert client.read() == final("a")
