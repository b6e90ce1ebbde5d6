"""The native front: HTTP/2 and gRPC in Rust outside the GIL (`pygrpc-native`), raw bytes to Python.
 It has no TLS, connection age or response compression, and streams only through grpcio behind it;
docs/fronts.md lists what each front does.
"""

from __future__ import annotations

from pygrpc_native import EVENT_CALL, NativeGrpcFront

from kedge.core.errors import ServeError
from kedge.core.ports import Call, Drain, LocalWay
from kedge.core.settings import STREAMS_PER_CONNECTION_MAX, FrontSettings
from kedge.front.address import grpc_target, reachable_target
from kedge.front.auth import Access
from kedge.front.fallback import STREAM_IDS_FIRST, StreamServer
from kedge.front.methods import Methods
from kedge.front.refusals import text_of

# How long a message of a stream may wait for the native library to stop waiting for a call. Idle
# with a stream open, that many wake-ups take 1 % of a core.
STREAM_WAIT_MS_MAX = 1


class NativeFront:
    """Implements `core.ports.Front`; streams are forwarded to `fallback.py`.

    Raises OSError when the address is taken. port 0 binds any free one; `port` tells which.
    """

    def __init__(
        self, settings: FrontSettings, host: str, port: int, methods: Methods, access: Access
    ) -> None:
        self._host = host
        self._access = access
        self._infer_roles = frozenset({"infer"})
        self._checks_infer = access.needs_token
        self._roles = list(methods.others.values())
        # call_details: without it a unary call's cancel, deadline or disconnect is never reported.
        # client_key_metadata: one header for free in every event, where all details cost 2 us.
        self._native = NativeGrpcFront(
            grpc_target(host, port),
            [(methods.infer, False), *((path, False) for path in methods.others)],
            # One thread saturates at over 100,000 calls/s, a second one only adds hand-overs: on
            # two cores 15.1 against 17.5 us of CPU per call, and 82 against 90 us if it is alone.
            io_threads=1,
            call_details=True,
            client_key_metadata="authorization" if access.needs_token else None,
            max_concurrent_streams=STREAMS_PER_CONNECTION_MAX,
            keepalive_time_ms=settings.keepalive_ms,
            keepalive_timeout_ms=settings.keepalive_timeout_ms,
            # As gRPC's own servers do: a client that has no calls is not pinged.
            keepalive_permit_without_calls=False,
        )
        self._respond = self._native.respond
        self._streams = StreamServer(settings, methods, access)
        self._native.set_fallback(self._streams.path)

    @property
    def port(self) -> int:
        return self._native.bound_port

    @property
    def local(self) -> LocalWay:
        return LocalWay(reachable_target(self._host, self.port), "")

    def start(self) -> None:
        self._native.start()

    def receive(self, events_max: int, timeout_ms: int) -> Drain | None:
        # The native library waits for its own events only, so that it must not wait long while a
        # stream may bring something. An idle server with no stream open is woken by nothing.
        if self._streams.inbox.events:
            timeout_ms = 0
        elif self._streams.streams:
            timeout_ms = min(timeout_ms, STREAM_WAIT_MS_MAX)
        events = self._native.recv_batch(events_max, timeout_ms)
        if events is None:
            return None
        drain = Drain([], [], [], [])
        infer_ids, infer_payloads, calls, cancelled = drain
        for kind, call_id, method, payload, caller in events:
            if kind != EVENT_CALL:
                cancelled.append(call_id)
            elif method == 0:
                if self._checks_infer and self._refused(call_id, self._infer_roles, caller):
                    continue
                infer_ids.append(call_id)
                infer_payloads.append(payload or b"")
            elif not self._refused(call_id, self._roles[method - 1], caller):
                calls.append(Call(call_id, method - 1, payload or b""))
        if self._streams.inbox.events:
            more = self._streams.inbox.take(events_max - len(events), 0)
            if more is not None:
                infer_ids += more.infer_ids
                infer_payloads += more.infer_payloads
                calls += more.calls
                cancelled += more.cancelled
        return drain

    def _refused(self, call_id: int, needed: frozenset[str], caller: bytes | str | None) -> bool:
        error = self._access.refusal(needed, caller)
        if error is None:
            return False
        self.fail(call_id, error)
        return True

    def respond(self, call_id: int, payload: bytes) -> bool:
        if call_id >= STREAM_IDS_FIRST:
            return self._streams.settle(call_id, payload)
        return self._respond(call_id, payload)

    def fail(self, call_id: int, error: ServeError) -> bool:
        if call_id >= STREAM_IDS_FIRST:
            return self._streams.settle(call_id, error)
        return self._native.fail(call_id, int(error.status), text_of(error))

    def close(self) -> None:
        self._streams.close()
        self._native.close()
