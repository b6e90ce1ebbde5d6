"""The streams of the native front, which has none: it forwards them to a grpcio server in this
process, over an abstract Unix socket.

Such a socket has no file that could stay behind. Any user of the machine can connect to it, and
finds the methods and the checks of tokens that the public port has.
"""

from __future__ import annotations

import secrets

import grpc.aio

from kedge.core.errors import Unavailable
from kedge.core.settings import FrontSettings
from kedge.front.auth import Access
from kedge.front.exchange import Answer, Exchange, Slots
from kedge.front.gate import Gate
from kedge.front.inbox import Inbox
from kedge.front.loop_thread import LoopThread
from kedge.front.methods import Methods
from kedge.front.stream_routes import message_options, stream_routes

# Call ids of streams; the native front counts its own from 1.
STREAM_IDS_FIRST = 1 << 62
# The native front's own words.
STOPPING = "gRPC server is shutting down"
# How long closing lets answers leave; they are in the sockets' buffers within milliseconds.
CLOSE_S_MAX = 1.0


class StreamServer:
    """Serves from construction until `close`. path: the socket, as the native front takes it.

    inbox: what streams bring, to be taken by whoever receives from the native front.
    """

    def __init__(self, settings: FrontSettings, methods: Methods, access: Access) -> None:
        name = f"kedge-streams-{secrets.token_hex(16)}"
        self.path = f"\0{name}"
        self.inbox = Inbox(settings.waiting_bytes_max)
        self._calls = Slots("calls", settings.calls_max)
        self._thread = LoopThread("grpcio-streams")
        self._is_closed = False
        self._thread.run(self._serve(settings, f"unix-abstract:{name}", methods, access))

    async def _serve(
        self, settings: FrontSettings, target: str, methods: Methods, access: Access
    ) -> None:
        self._exchange = Exchange(self._thread.loop, self.inbox, STREAM_IDS_FIRST)
        routes = stream_routes(self._exchange, settings, methods, self._calls)
        self._server = grpc.aio.server(options=message_options(settings))
        self._server.add_generic_rpc_handlers((Gate(routes, access),))
        self._server.add_insecure_port(target)
        await self._server.start()

    @property
    def streams(self) -> int:
        """Streams and their messages that are open; 0 when there is none."""
        return self._calls.calls

    def settle(self, call_id: int, answer: Answer) -> bool:
        return self._exchange.settle(call_id, answer)

    def close(self) -> None:
        if self._is_closed:
            return
        self._is_closed = True
        self.inbox.close()
        self._thread.run(self._stop())
        self._thread.stop()

    async def _stop(self) -> None:
        self._exchange.end(Unavailable(STOPPING))
        await self._server.stop(CLOSE_S_MAX)
