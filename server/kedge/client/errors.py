"""The one exception of the client, and how gRPC's become it."""

from __future__ import annotations

import grpc

from kedge.core.errors import Status


class KedgeError(Exception):
    """A call failed. status: the gRPC status, INVALID_ARGUMENT also for what the client itself
    refused to send; message: the server's text, or the client's.
    """

    def __init__(self, status: Status, message: str) -> None:
        super().__init__(f"{status.name}: {message}")
        self.status = status
        self.message = message


def from_rpc(error: grpc.RpcError) -> KedgeError:
    """A failed call's status and text; statuses that no Kedge server sends become UNKNOWN."""
    # Every error that a call raises is also a grpc.Call; the class hierarchy does not say so.
    call: grpc.Call = error  # type: ignore[assignment]
    number = call.code().value[0]
    status = Status(number) if number in Status._value2member_map_ else Status.UNKNOWN
    return KedgeError(status, call.details() or "no details")


def refused(message: str) -> KedgeError:
    """What the client does not send, because the server would refuse it."""
    return KedgeError(Status.INVALID_ARGUMENT, message)
