"""Calls to the gateway over one gRPC channel on loopback; every failure becomes an HttpError."""

from __future__ import annotations

from typing import Any, TypeVar

import grpc
import grpc.aio
from google.protobuf.message import Message

from kedge.control.http.errors import HttpError, http_status_of
from kedge.core.errors import InvalidRequest
from kedge.core.ports import SECRET_METADATA

_Reply = TypeVar("_Reply", bound=Message)

CHANNEL_OPTIONS = (
    # Bodies are bounded where they are read; what the gateway answers, it has accepted to answer.
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    # The gateway is on this machine: a proxy of the environment must not see its calls.
    ("grpc.enable_http_proxy", 0),
    # While the gateway starts, gRPC's own back-off would grow to two minutes of 503.
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 500),
)


class Gateway:
    """The gateway at `address`, a gRPC target on this machine. Made inside the event loop; connects
    when called. secret: what the address asks for, "" for nothing.
    """

    def __init__(self, address: str, secret: str = "") -> None:
        self._secret = ((SECRET_METADATA, secret),) if secret else ()
        self._channel = grpc.aio.insecure_channel(address, options=CHANNEL_OPTIONS)
        self._methods: dict[str, object] = {}

    async def call(
        self,
        path: str,
        request: Message,
        reply: type[_Reply],
        authorization: str | None,
        timeout_s: float,
    ) -> _Reply:
        """Cancelled together with its task. Raises HttpError with the gateway's text; 503 while
        there is no gateway.
        """
        method: Any = self._methods.get(path)
        if method is None:
            method = self._methods[path] = self._channel.unary_unary(
                path,
                request_serializer=type(request).SerializeToString,
                response_deserializer=reply.FromString,
            )
        try:
            answer: _Reply = await method(
                request, timeout=timeout_s, metadata=(*self._secret, *_metadata(authorization))
            )
        except grpc.aio.AioRpcError as error:
            status = http_status_of(error.code().value[0])
            raise HttpError(status, error.details() or error.code().name) from None
        return answer

    async def close(self) -> None:
        await self._channel.close()


def _metadata(authorization: str | None) -> tuple[tuple[str, str], ...]:
    if authorization is None:
        return ()
    if not (authorization.isascii() and authorization.isprintable()):
        raise InvalidRequest("the header Authorization has characters that no token has")
    return (("authorization", authorization),)
