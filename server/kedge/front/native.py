"""The native front: HTTP/2 and gRPC in Rust outside the GIL (`pygrpc-native`), raw bytes to Python.
 It has no TLS, client streams, connection age or response compression; docs/fronts.md lists what
each front does.
"""

from __future__ import annotations

from collections.abc import Mapping

from pygrpc_native import EVENT_CALL, NativeGrpcFront

from kedge.core.errors import ServeError
from kedge.core.ports import Call, Drain
from kedge.core.settings import STREAMS_PER_CONNECTION_MAX
from kedge.front.auth import Access

# A message may quote what the caller sent. It travels in a trailer, percent-encoded at up to three
# bytes for one, and clients drop calls with over 8 KiB of metadata.
MESSAGE_BYTES_MAX = 2_000


class NativeFront:
    """Implements `core.ports.Front`. infer_method: the path whose calls are delivered in columns;
    methods: every other path with the roles that may call it, in the order of `Call.method`.

    Raises OSError when the address is taken. port 0 binds any free one; `port` tells which.
    """

    def __init__(
        self,
        host: str,
        port: int,
        infer_method: str,
        methods: Mapping[str, frozenset[str]],
        access: Access,
    ) -> None:
        self._access = access
        self._infer_roles = frozenset({"infer"})
        self._checks_infer = access.needs_token
        self._roles = list(methods.values())
        # call_details: without it a unary call's cancel, deadline or disconnect is never reported.
        # client_key_metadata: one header for free in every event, where all details cost 2 us.
        self._native = NativeGrpcFront(
            f"{f'[{host}]' if ':' in host else host}:{port}",
            [(infer_method, False), *((path, False) for path in methods)],
            # One thread saturates at over 100,000 calls/s, a second one only adds hand-overs: on
            # two cores 15.1 against 17.5 us of CPU per call, and 82 against 90 us if it is alone.
            io_threads=1,
            call_details=True,
            client_key_metadata="authorization" if access.needs_token else None,
            max_concurrent_streams=STREAMS_PER_CONNECTION_MAX,
        )
        self.respond = self._native.respond

    @property
    def port(self) -> int:
        return self._native.bound_port

    def start(self) -> None:
        self._native.start()

    def receive(self, events_max: int, timeout_ms: int) -> Drain | None:
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
        return drain

    def _refused(self, call_id: int, needed: frozenset[str], caller: bytes | str | None) -> bool:
        error = self._access.refusal(needed, caller)
        if error is None:
            return False
        self.fail(call_id, error)
        return True

    def fail(self, call_id: int, error: ServeError) -> bool:
        message = str(error)
        text = message.encode(errors="replace")
        if len(text) > MESSAGE_BYTES_MAX:
            message = f"{text[:MESSAGE_BYTES_MAX].decode(errors='ignore')} …"
        return self._native.fail(call_id, int(error.status), message)

    def close(self) -> None:
        self._native.close()
