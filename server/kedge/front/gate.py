"""Which gRPC call goes where, and which is refused before its message is read.

Not here: what a stream is (`streams.py`), who may call what (`auth.py`).
"""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, NamedTuple

import grpc
import grpc.aio

from kedge.core.errors import QueueFull, ServeError, Unauthenticated
from kedge.core.ports import SECRET_METADATA
from kedge.front.auth import OPEN, Access
from kedge.front.exchange import Answer, Exchange, Slots
from kedge.front.refusals import text_of

# How often a watched health is asked for; load balancers look every 1 to 10 s themselves.
WATCH_S = 1.0
STATUS_OF = {code.value[0]: code for code in grpc.StatusCode}

Context = grpc.aio.ServicerContext[Any, Any]
Metadata = Iterable[tuple[str, str | bytes]]


class Route(NamedTuple):
    """One method: the roles of which one suffices, what bounds it, what answers it."""

    roles: frozenset[str]
    slots: Slots
    handler: grpc.RpcMethodHandler[Any, Any]


class Gate(grpc.GenericRpcHandler):
    """Lets calls of a listener through to their routes. secret: the metadata
    `SECRET_METADATA` without which nothing is answered; "" asks for none.

    The check of a token or secret and of the bound comes before gRPC reads the message, so that
    nobody without rights can make the process hold one.
    """

    def __init__(self, routes: Mapping[str, Route], access: Access, secret: str = "") -> None:
        self._routes = routes
        self._access = access
        self._secret = secret.encode()

    def service(self, call: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any] | None:
        route = self._routes.get(call.method)
        if route is None:
            return None
        refusal = self._refusal(route, call.invocation_metadata)
        if refusal is None:
            try:
                route.slots.take()
            except QueueFull as error:
                refusal = error
        if refusal is not None:
            return _refusing(refusal)
        # grpc.aio asks in the task that will answer the call, and which ends however the call ends.
        task = asyncio.current_task()
        assert task is not None
        task.add_done_callback(lambda _: route.slots.free())
        return route.handler

    def _refusal(self, route: Route, metadata: Metadata) -> ServeError | None:
        if self._secret and not hmac.compare_digest(
            _value(metadata, SECRET_METADATA), self._secret
        ):
            return Unauthenticated("this socket belongs to the server's own processes")
        if OPEN in route.roles or not self._access.needs_token:
            return None
        token = _value(metadata, "authorization")
        return self._access.refusal(route.roles, token or "")


def _value(metadata: Metadata, key: str) -> bytes:
    for name, value in metadata:
        if name == key:
            return value.encode() if isinstance(value, str) else value
    return b""


async def refuse(context: Context, error: ServeError) -> None:
    """End the call with the error's status; raises what grpc.aio ends handlers with."""
    await context.abort(STATUS_OF[int(error.status)], text_of(error))


def _refusing(error: ServeError) -> grpc.RpcMethodHandler[Any, Any]:
    async def handler(_messages: object, context: Context) -> None:
        await refuse(context, error)

    # A handler of a client stream begins before the first message is read; this one never reads.
    return grpc.stream_unary_rpc_method_handler(handler)


def unary(
    exchange: Exchange, method: int, check: Callable[[Context], ServeError | None] | None = None
) -> grpc.RpcMethodHandler[Any, Any]:
    """Bytes to the gateway, its answer back. check: a refusal that needs to know the peer."""

    async def handler(request: bytes, context: Context) -> bytes:
        answer: Answer | None = check(context) if check else None
        if answer is None:
            answer = await exchange.ask(method, request)
        if isinstance(answer, ServeError):
            await refuse(context, answer)
        return answer  # type: ignore[return-value]  # refuse raises

    return grpc.unary_unary_rpc_method_handler(handler)


def watch(exchange: Exchange, method: int) -> grpc.RpcMethodHandler[Any, Any]:
    """A stream of the answers of a unary method: the first one, then every different one."""

    async def handler(request: bytes, context: Context) -> None:
        sent: Answer | None = None
        while not exchange.ended.done():
            answer = await exchange.ask(method, request)
            if isinstance(answer, ServeError):
                await refuse(context, answer)
            elif answer != sent:
                await context.write(answer)
                sent = answer
            await asyncio.wait((exchange.ended,), timeout=WATCH_S)
        await refuse(context, exchange.ended.result())

    return grpc.unary_stream_rpc_method_handler(handler)


def bidirectional(
    serve: Callable[[Context], Awaitable[None]],
) -> grpc.RpcMethodHandler[Any, Any]:
    """A handler that reads from and writes to the call's context itself."""

    async def handler(_messages: object, context: Context) -> None:
        await serve(context)

    return grpc.stream_stream_rpc_method_handler(handler)
