"""The grpcio front: grpc.aio on a thread of its own. It does what the native front cannot, at
about twelve times the CPU per request; docs/fronts.md compares them.

Read `gate.py` for the way of a call, `streams.py` for that of a stream.
"""

from __future__ import annotations

import errno
import secrets
import socket
from collections.abc import Sequence
from functools import partial

import grpc
import grpc.aio

from kedge.core.errors import ServeError, Unavailable
from kedge.core.ports import Drain, LocalWay
from kedge.core.settings import STREAMS_PER_CONNECTION_MAX, CompressionLevel, FrontSettings
from kedge.front.address import grpc_target
from kedge.front.auth import OPEN, Access
from kedge.front.certificates import Certificates, load_certificates
from kedge.front.exchange import Exchange, Slots
from kedge.front.fallback import CLOSE_S_MAX, STOPPING
from kedge.front.gate import Context, Gate, Route, unary
from kedge.front.inbox import INFER, Inbox
from kedge.front.loop_thread import LoopThread
from kedge.front.methods import Methods
from kedge.front.stream_routes import INFER_ROLES, message_options, stream_routes

# Health has slots of its own: it must answer when all others are taken, and whoever needs no token
# must not take those of callers who do.
OPEN_CALLS_MAX = 128
# gRPC's own numbers, for the option `grpc.default_compression_level`.
LEVELS = {level: number for number, level in enumerate(CompressionLevel)}
LOCAL_PREFIX = "unix-abstract:kedge-"

Options = Sequence[tuple[str, int]]


class GrpcioFront:
    """Implements `core.ports.Front`.

    Raises OSError when the address cannot be listened on and ValueError for unusable certificates.
    port 0 binds any free one; `port` tells which.
    """

    def __init__(
        self, settings: FrontSettings, host: str, port: int, methods: Methods, access: Access
    ) -> None:
        certificates = load_certificates(settings)
        _check_free(host, port)
        self._settings = settings
        self._access = access
        self._inbox = Inbox(settings.waiting_bytes_max)
        self._thread = LoopThread("grpcio-front")
        self._is_closed = False
        # An abstract socket has no file, so that nothing stays behind; any user of the machine can
        # connect to one, so that it asks for a secret.
        name = secrets.token_hex(16)
        self.local = LocalWay(f"{LOCAL_PREFIX}{name}", secrets.token_urlsafe(32))
        try:
            self.port = self._thread.run(
                self._listen(grpc_target(host, port), methods, certificates)
            )
        except BaseException:
            self._thread.stop()
            raise

    async def _listen(
        self, target: str, methods: Methods, certificates: Certificates | None
    ) -> int:
        self._exchange = Exchange(self._thread.loop, self._inbox)
        routes = self._routes(methods)
        public = grpc.aio.server(options=_options(self._settings))
        public.add_generic_rpc_handlers((Gate(routes, self._access),))
        local = grpc.aio.server(options=message_options(self._settings))
        local.add_generic_rpc_handlers((Gate(routes, self._access, self.local.secret),))
        self._servers = (public, local)
        try:
            local.add_insecure_port(self.local.target)
            if certificates is None:
                return public.add_insecure_port(target)
            return public.add_secure_port(target, _credentials(certificates))
        except RuntimeError as error:
            raise OSError(errno.EADDRINUSE, str(error)) from None

    def _routes(self, methods: Methods) -> dict[str, Route]:
        exchange, settings = self._exchange, self._settings
        calls = Slots("calls", settings.calls_max)
        health = Slots("health calls", OPEN_CALLS_MAX)
        routes = stream_routes(exchange, settings, methods, calls)
        routes[methods.infer] = Route(INFER_ROLES, calls, unary(exchange, INFER))
        for index, (path, roles) in enumerate(methods.others.items()):
            check = None if self._access.needs_token else partial(self._refuse_remote, roles)
            slots = health if OPEN in roles else calls
            routes[path] = Route(roles, slots, unary(exchange, index, check))
        return routes

    def _refuse_remote(self, roles: frozenset[str], context: Context) -> ServeError | None:
        return self._access.refusal(roles, context.peer())

    def start(self) -> None:
        for server in self._servers:
            self._thread.run(server.start())

    def receive(self, events_max: int, timeout_ms: int) -> Drain | None:
        return self._inbox.take(events_max, timeout_ms)

    def respond(self, call_id: int, payload: bytes) -> bool:
        return self._exchange.settle(call_id, payload)

    def fail(self, call_id: int, error: ServeError) -> bool:
        return self._exchange.settle(call_id, error)

    def close(self) -> None:
        if self._is_closed:
            return
        self._is_closed = True
        self._inbox.close()
        self._thread.run(self._stop())
        self._thread.stop()

    async def _stop(self) -> None:
        self._exchange.end(Unavailable(STOPPING))
        for server in self._servers:
            await server.stop(CLOSE_S_MAX)


def _options(settings: FrontSettings) -> Options:
    options = [
        *message_options(settings),
        ("grpc.max_concurrent_streams", STREAMS_PER_CONNECTION_MAX),
        # Near that limit gRPC resets calls at random, counting ended ones that it has not cleaned
        # up: some of 200 at once from a good client failed. The limit itself stays.
        ("grpc.http.overload_protection", 0),
        ("grpc.keepalive_time_ms", settings.keepalive_ms),
        ("grpc.keepalive_timeout_ms", settings.keepalive_timeout_ms),
        # Without this one an unanswered ping counts only after a minute, whatever stands above.
        ("grpc.http2.ping_timeout_ms", settings.keepalive_timeout_ms),
        ("grpc.default_compression_level", LEVELS[settings.compression]),
    ]
    if settings.connection_age_ms_max:
        options.append(("grpc.max_connection_age_ms", settings.connection_age_ms_max))
    if settings.connection_age_grace_ms:
        options.append(("grpc.max_connection_age_grace_ms", settings.connection_age_grace_ms))
    return options


def _credentials(certificates: Certificates) -> grpc.ServerCredentials:
    return grpc.ssl_server_credentials(
        [(certificates.key, certificates.chain)],
        root_certificates=certificates.client_ca or None,
        require_client_auth=bool(certificates.client_ca),
    )


def _check_free(host: str, port: int) -> None:
    """Raises OSError with the kernel's reason; gRPC only tells that binding failed, and logs it."""
    if port == 0:
        return
    family, kind, protocol, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    with socket.socket(family, kind, protocol) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(address)
