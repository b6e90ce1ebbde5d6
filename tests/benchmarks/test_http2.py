import grpc
import pytest
from _http2 import (
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    INITIAL_WINDOW_SIZE,
    MAX_CONCURRENT_STREAMS,
    PADDED,
    PING,
    PREFACE,
    PRIORITY,
    RST_STREAM,
    SETTINGS,
    STREAM,
    UNKNOWN,
    WINDOW_UPDATE,
    Connection,
    Http2Failed,
    _frame,
    _settings,
    request_headers,
)
from hpack import Decoder, Encoder
from hypothesis import given
from hypothesis import strategies as st

MESSAGE = b"message"


def block(**headers):
    encoder = Encoder()
    encoder.header_table_size = 0
    return encoder.encode([(name.replace("_", "-"), value) for name, value in headers.items()])


TRAILERS = block(grpc_status="0")
START = block(content_type="application/grpc")


def answer(stream, trailers=TRAILERS):
    return b"".join(
        (
            _frame(HEADERS, END_HEADERS, stream, START),
            _frame(DATA, 0, stream, b"\0\0\0\0\1x"),
            _frame(HEADERS, END_HEADERS | END_STREAM, stream, trailers),
        )
    )


@pytest.fixture
def connection():
    """One that the server has told its limits, and whose own greeting is sent."""
    made = Connection("127.0.0.1:1", MESSAGE)
    made.received(_settings({MAX_CONCURRENT_STREAMS: 2}))
    made.out.clear()
    return made


def test_request_headers_are_what_a_grpc_server_must_see():
    decoded = Decoder().decode(request_headers("127.0.0.1:8001", 250))
    assert dict(decoded) == {
        ":method": "POST",
        ":scheme": "http",
        ":path": "/inference.GRPCInferenceService/ModelInfer",
        ":authority": "127.0.0.1:8001",
        "content-type": "application/grpc",
        "te": "trailers",
        "grpc-timeout": "250m",
    }


def test_greeting_is_the_preface_and_no_call_goes_before_the_servers_settings():
    connection = Connection("a", MESSAGE)
    assert connection.out.startswith(PREFACE)
    assert not connection.settled
    assert not connection.can_call()
    connection.received(_settings({}))
    assert connection.settled
    assert connection.can_call()


def test_calls_are_bounded_by_what_the_server_allows_and_an_answer_frees_a_place(connection):
    connection.call(7, 100)
    connection.call(8, 100)
    assert not connection.can_call()
    assert connection.received(answer(1)) == [(7, 0)]
    assert connection.can_call()


def test_calls_are_bounded_by_the_connections_window_until_the_server_widens_it():
    big = bytes(16_000)
    connection = Connection("a", big)
    connection.received(_settings({MAX_CONCURRENT_STREAMS: 100}))
    for token in range(4):
        assert connection.can_call()
        connection.call(token, 100)
    assert not connection.can_call()
    connection.received(_frame(WINDOW_UPDATE, 0, 0, STREAM.pack(20_000)))
    assert connection.can_call()


def test_no_call_goes_into_a_stream_window_that_is_too_small_for_it(connection):
    connection.received(_settings({INITIAL_WINDOW_SIZE: len(MESSAGE)}))
    assert not connection.can_call()
    connection.received(_settings({INITIAL_WINDOW_SIZE: len(MESSAGE) + 5}))
    assert connection.can_call()


def test_message_that_needs_two_frames_is_refused():
    with pytest.raises(ValueError, match="fits into one frame"):
        Connection("a", bytes(16_380))


@given(
    cuts=st.lists(st.integers(1, 400), max_size=8), codes=st.lists(st.integers(0, 16), max_size=9)
)
def test_answers_are_the_same_however_the_bytes_are_cut(cuts, codes):
    connection = Connection("a", MESSAGE)
    connection.received(_settings({MAX_CONCURRENT_STREAMS: 100}))
    for token in range(len(codes)):
        connection.call(token, 100)
    data = b"".join(
        answer(2 * token + 1, block(grpc_status=str(code), grpc_message=f"text {code}"))
        for token, code in enumerate(codes)
    )
    ended = []
    for cut in cuts:
        ended += connection.received(data[:cut])
        data = data[cut:]
    ended += connection.received(data)
    assert ended == list(enumerate(codes))


def test_answer_of_trailers_alone_is_read(connection):
    connection.call(7, 100)
    both = block(content_type="application/grpc", grpc_status="14", grpc_message="full")
    frame = _frame(HEADERS, END_HEADERS | END_STREAM, 1, both)
    assert connection.received(frame) == [(7, 14)]


def test_padding_and_priority_are_no_part_of_the_headers(connection):
    connection.call(7, 100)
    body = bytes([3]) + bytes(5) + TRAILERS + bytes(3)
    flags = END_HEADERS | END_STREAM | PADDED | PRIORITY
    assert connection.received(_frame(HEADERS, flags, 1, body)) == [(7, 0)]


def test_each_call_has_its_own_timeout(connection):
    connection.call(7, 100)
    connection.call(8, 20)
    first, second = (request_headers("127.0.0.1:1", timeout_ms) for timeout_ms in (100, 20))
    assert connection.out.count(first) == connection.out.count(second) == 1


@pytest.mark.parametrize(
    ("code", "status"),
    [
        (7, grpc.StatusCode.UNAVAILABLE),
        (8, grpc.StatusCode.CANCELLED),
        (11, grpc.StatusCode.RESOURCE_EXHAUSTED),
        (12, grpc.StatusCode.PERMISSION_DENIED),
        (2, grpc.StatusCode.INTERNAL),
    ],
)
def test_reset_stream_has_the_status_that_grpc_gives_it(connection, code, status):
    connection.call(7, 100)
    reset = _frame(RST_STREAM, 0, 1, STREAM.pack(code))
    assert connection.received(reset) == [(7, status.value[0])]


@pytest.mark.parametrize(
    "frame",
    [
        _frame(DATA, END_STREAM, 1, b"<html>"),
        _frame(HEADERS, END_HEADERS | END_STREAM, 1, block(x="1")),
    ],
)
def test_stream_that_ends_without_a_status_is_unknown(connection, frame):
    connection.call(7, 100)
    assert connection.received(frame) == [(7, UNKNOWN)]


def test_answer_to_a_call_that_is_not_open_is_ignored(connection):
    assert connection.received(answer(1)) == []


def test_settings_and_pings_are_acknowledged_once(connection):
    connection.received(_frame(PING, 0, 0, b"12345678") + _settings({}))
    assert connection.out == _frame(PING, 1, 0, b"12345678") + _frame(SETTINGS, 1, 0, b"")
    connection.out.clear()
    connection.received(_frame(PING, 1, 0, b"12345678") + _frame(SETTINGS, 1, 0, b""))
    assert connection.out == b""


def test_read_bytes_are_given_back_before_the_window_is_half_used(connection):
    frame = _frame(DATA, 0, 1, bytes(2**24 - 1))
    for _ in range(64):
        connection.received(frame)
    assert connection.out == b""
    connection.received(frame)
    assert connection.out == _frame(WINDOW_UPDATE, 0, 0, STREAM.pack(65 * (2**24 - 1)))


@pytest.mark.parametrize(
    ("frame", "text"),
    [
        (_frame(GOAWAY, 0, 0, bytes(4) + STREAM.pack(11) + b"too_many_resets"), "code 11"),
        (_frame(HEADERS, END_STREAM, 1, TRAILERS), "several frames"),
        (_frame(HEADERS, END_HEADERS, 1, b"\xbe"), "cannot be read"),
        # A table of 4,096 bytes, which it was not given (RFC 7541, 6.3).
        (_frame(HEADERS, END_HEADERS, 1, b"\x3f\xe1\x1f" + TRAILERS), "cannot be read"),
    ],
    ids=["goaway", "continued", "no_such_index", "larger_table"],
)
def test_what_the_client_does_not_understand_ends_the_load(connection, frame, text):
    with pytest.raises(Http2Failed, match=text):
        connection.received(frame)


def test_server_that_uses_a_header_table_nevertheless_is_found_out(connection):
    with_table = Encoder()
    headers = [("x-first", "1"), ("grpc-status", "0")]
    connection.received(_frame(HEADERS, END_HEADERS, 1, with_table.encode(headers)))
    with pytest.raises(Http2Failed, match="cannot be read"):
        connection.received(_frame(HEADERS, END_HEADERS, 1, with_table.encode(headers)))


def test_statuses_are_grpcs_own():
    assert grpc.StatusCode.UNKNOWN.value[0] == UNKNOWN
