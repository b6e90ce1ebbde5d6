"""The methods that only grpcio can serve, on its own front and behind the native one."""

from __future__ import annotations

from kedge import proto
from kedge.core.settings import FrontSettings
from kedge.front.auth import OPEN
from kedge.front.exchange import Exchange, Slots
from kedge.front.gate import Context, Route, bidirectional, watch
from kedge.front.methods import Methods
from kedge.front.streams import Stream

WATCHES_MAX = 64
INFER_ROLES = frozenset({"infer"})
OPEN_ROLES = frozenset({OPEN})


def stream_routes(
    exchange: Exchange, settings: FrontSettings, methods: Methods, calls: Slots
) -> dict[str, Route]:
    """`ModelStreamInfer`, whose streams and messages take of `calls`, and the health's `Watch`."""

    async def serve_stream(context: Context) -> None:
        await Stream(exchange, calls, settings.stream_messages_max, context).serve()

    routes = {methods.stream: Route(INFER_ROLES, calls, bidirectional(serve_stream))}
    paths = list(methods.others)
    if proto.HEALTH_CHECK in paths:
        # Slots of their own: whoever needs no token must not take those of callers who do.
        watches = Slots("health watches", WATCHES_MAX)
        handler = watch(exchange, paths.index(proto.HEALTH_CHECK))
        routes[proto.HEALTH_WATCH] = Route(OPEN_ROLES, watches, handler)
    return routes


def message_options(settings: FrontSettings) -> tuple[tuple[str, int], ...]:
    """What every grpcio server here is told."""
    return (
        ("grpc.max_receive_message_length", settings.message_bytes_max),
        ("grpc.max_send_message_length", -1),
        # gRPC's default lets two servers share a port, each of which then gets half the calls.
        ("grpc.so_reuseport", 0),
    )
