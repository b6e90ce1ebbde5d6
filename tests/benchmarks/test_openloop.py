import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
import pytest
from _load import LoadFailed
from _openloop import (
    DEADLINE_EXCEEDED,
    GRACE_S,
    NEVER_SENT,
    OK,
    RESOURCE_EXHAUSTED,
    UNAVAILABLE,
    open_loop,
    poisson,
)
from _processes import free_ports
from _wire import METHOD_PATH, infer_request

MESSAGE = infer_request().SerializeToString()


@pytest.fixture
def serve():
    """Starts grpcio's own server with one handler of (bytes, context); returns its address."""
    servers = []

    def start(handler, **options):
        server = grpc.server(ThreadPoolExecutor(32), options=list(options.items()))
        _, service, method = METHOD_PATH.split("/")
        handlers = {method: grpc.unary_unary_rpc_method_handler(handler)}
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        servers.append(server)
        return f"127.0.0.1:{port}"

    yield start
    for server in servers:
        server.stop(None)


def test_arrivals_have_the_mean_rate_and_are_the_same_in_every_run():
    due_s = poisson(1000, 10)
    assert len(due_s) == 10_000
    assert due_s[-1] == pytest.approx(10, rel=0.05)
    assert np.all(np.diff(due_s) >= 0)
    assert np.array_equal(due_s, poisson(1000, 10))
    # Independent arrivals: the gaps spread as much as their mean.
    assert np.diff(due_s).std() == pytest.approx(0.001, rel=0.05)


def test_every_call_reaches_a_real_server_with_its_message_and_deadline(serve):
    seen = []

    def handler(request, context):
        seen.append((request, context.time_remaining()))
        return request

    outcome = open_loop(serve(handler), MESSAGE, poisson(500, 0.4), 5.0, connections=3)
    assert (outcome.status == OK).all()
    assert len(seen) == len(outcome.status) == 200
    assert {request for request, _ in seen} == {MESSAGE}
    assert all(4.0 < remaining <= 5.0 for _, remaining in seen)
    assert np.all(outcome.due_s <= outcome.sent_s)
    assert np.all(outcome.sent_s < outcome.done_s)


def test_statuses_are_those_that_the_server_gave(serve):
    codes = [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED, None]
    turn = iter(codes * 20)

    def handler(request, context):
        code = next(turn)
        if code is not None:
            context.abort(code, "the queue is full: ünlikely")
        return request

    outcome = open_loop(serve(handler), MESSAGE, np.arange(60) * 0.002, 5.0, connections=1)
    counts = {
        code: int((outcome.status == code).sum()) for code in (UNAVAILABLE, RESOURCE_EXHAUSTED, OK)
    }
    assert counts == {UNAVAILABLE: 20, RESOURCE_EXHAUSTED: 20, OK: 20}


def test_calls_leave_on_time_although_the_server_answers_none(serve):
    release = threading.Event()

    def handler(request, _context):
        release.wait(10)
        return request

    due_s = np.arange(100) * 0.002
    outcome = open_loop(serve(handler), MESSAGE, due_s, 0.4, connections=4)
    release.set()
    assert (outcome.status == DEADLINE_EXCEEDED).all()
    # No answer was needed for a call to leave: all left long before the first could end.
    assert outcome.sent_s.max() < 0.4
    assert np.median(outcome.sent_s - outcome.due_s) < 0.02
    assert np.all(outcome.done_s - outcome.due_s >= 0.39)
    assert np.all(outcome.done_s - outcome.due_s < 0.4 + GRACE_S + 0.3)


def test_calls_that_find_no_free_stream_before_their_deadline_are_never_sent(serve):
    release = threading.Event()

    def handler(request, _context):
        release.wait(10)
        return request

    address = serve(handler, **{"grpc.max_concurrent_streams": 2})
    outcome = open_loop(address, MESSAGE, np.zeros(10), 0.1, connections=1)
    release.set()
    assert list(outcome.status[:2]) == [DEADLINE_EXCEEDED] * 2
    assert (outcome.status[2:] == NEVER_SENT).all()
    assert np.all(outcome.done_s >= 0.1)


def test_call_that_had_to_wait_tells_the_server_what_is_left_of_its_time(serve):
    remaining_s = []

    def handler(request, context):
        remaining_s.append(context.time_remaining())
        threading.Event().wait(0.2)
        return request

    address = serve(handler, **{"grpc.max_concurrent_streams": 1})
    outcome = open_loop(address, MESSAGE, np.zeros(2), 5.0, connections=1)
    assert (outcome.status == OK).all()
    assert 4.0 < remaining_s[1] < remaining_s[0] - 0.1


def test_late_answer_counts_from_when_its_call_was_due_not_from_when_it_was_sent(serve):
    def handler(request, _context):
        threading.Event().wait(0.1)
        return request

    address = serve(handler, **{"grpc.max_concurrent_streams": 1})
    outcome = open_loop(address, MESSAGE, np.zeros(3), 5.0, connections=1)
    waited = np.sort(outcome.done_s - outcome.due_s)
    assert np.all(waited >= [0.1, 0.2, 0.3])


def test_server_that_is_not_there_fails_the_load():
    with pytest.raises(LoadFailed, match="open loop at 127"):
        open_loop(f"127.0.0.1:{free_ports(1)[0]}", MESSAGE, np.zeros(1), 1.0, connections=1)


def test_server_that_closes_the_connection_fails_the_load():
    async def close_at_once(_reader, writer):
        writer.close()

    ready, address = threading.Event(), []
    loop = asyncio.new_event_loop()

    def run():
        server = loop.run_until_complete(asyncio.start_server(close_at_once, "127.0.0.1", 0))
        address.append(server.sockets[0].getsockname()[1])
        ready.set()
        loop.run_forever()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    assert ready.wait(5)
    try:
        with pytest.raises(LoadFailed, match=r"closed the connection|reset"):
            open_loop(f"127.0.0.1:{address[0]}", MESSAGE, np.zeros(1), 1.0, connections=1)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(5)
