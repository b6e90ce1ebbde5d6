"""What every handler does: ask the gateway in the name of the client, for as long as it waits."""

from __future__ import annotations

import asyncio
from typing import TypeVar

from google.protobuf.message import Message
from starlette.requests import ClientDisconnect, Request

from kedge import proto
from kedge.control.http.bodies import Bodies
from kedge.control.http.gateway import Gateway
from kedge.control.http.limits import CALL_S_MAX

_Reply = TypeVar("_Reply", bound=Message)


class Caller:
    """Shared by all handlers of the process; `bodies` bounds what their requests bring."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self.bodies = Bodies()

    async def ask(
        self,
        request: Request,
        rpc: str,
        message: Message,
        reply: type[_Reply],
        timeout_s: float = CALL_S_MAX,
    ) -> _Reply:
        """The gateway's answer to `message`; the client's token goes with it.

        rpc: a method of the inference service by its name, any other by its path. A body must be
        read before. If the client disconnects, the call is cancelled and ClientDisconnect raised;
        HttpError as in `Gateway.call`.
        """
        path = rpc if rpc.startswith("/") else proto.INFERENCE_SERVICE + rpc
        token = request.headers.get("authorization")
        call = asyncio.ensure_future(self._gateway.call(path, message, reply, token, timeout_s))
        gone = asyncio.ensure_future(_disconnected(request))
        try:
            await asyncio.wait((call, gone), return_when=asyncio.FIRST_COMPLETED)
            if not call.done():
                raise ClientDisconnect
            return call.result()
        finally:
            call.cancel()
            gone.cancel()


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
