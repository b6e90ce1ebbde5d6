"""Every error that a caller can see, each with its gRPC status and a stable reason.
 Raised anywhere below the front; the front alone turns them into a status. An exception that is not
a `ServeError` is our bug: the caller gets INTERNAL without detail and the traceback is logged once.
"""

from __future__ import annotations

from enum import IntEnum
from typing import ClassVar


class Status(IntEnum):
    """gRPC status numbers (grpc/doc/statuscodes.md), so that the core needs no grpc import."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    UNAUTHENTICATED = 16


class ServeError(Exception):
    """Base of all refusals. `reason` is a metric label and never changes once published."""

    status: ClassVar[Status]
    reason: ClassVar[str]


class InvalidRequest(ServeError):
    """The request itself is wrong; sending it again cannot help."""

    status, reason = Status.INVALID_ARGUMENT, "invalid_request"


class UnparsableMessage(ServeError):
    """The bytes are no protobuf message of the method's request type."""

    status, reason = Status.INTERNAL, "unparsable_message"


class UnknownModel(ServeError):
    """No such model or version is loaded."""

    status, reason = Status.NOT_FOUND, "unknown_model"


class QueueFull(ServeError):
    """The queue's bound in requests, rows or bytes is reached. Triton's text: its clients match on
    it.
    """

    status, reason = Status.UNAVAILABLE, "queue_full"

    def __init__(self, detail: str) -> None:
        super().__init__(f"Exceeds maximum queue size: {detail}")


class QueueTimeout(ServeError):
    """The request waited longer than its queue timeout. Triton's text."""

    status, reason = Status.UNAVAILABLE, "queue_timeout"

    def __init__(self) -> None:
        super().__init__("Request timeout expired")


class ShuttingDown(ServeError):
    """The server drains: what it accepted is answered, what comes now is refused."""

    status, reason = Status.UNAVAILABLE, "shutting_down"

    def __init__(self) -> None:
        super().__init__(
            "Server is stopping, scheduler for model has stopped accepting new requests"
        )


class ModelFailed(ServeError):
    """The model raised, or its outputs break its declared schema."""

    status, reason = Status.INTERNAL, "model_failed"


class WorkerLost(ServeError):
    """The process that ran the batch ended: it crashed, was killed, or ran out of memory."""

    status, reason = Status.UNAVAILABLE, "worker_lost"


class ExecuteTimeout(ServeError):
    """The batch ran longer than `serving.execute_timeout`; its worker was killed."""

    status, reason = Status.UNAVAILABLE, "execute_timeout"


class LoadFailed(ServeError):
    """A model version could not be loaded."""

    status, reason = Status.INVALID_ARGUMENT, "load_failed"


class RepositoryFailed(ServeError):
    """The model repository has no such model, or its configuration cannot be read."""

    status, reason = Status.INTERNAL, "repository_failed"


class Unavailable(ServeError):
    """The server is set up not to do this, or cannot do it now."""

    status, reason = Status.UNAVAILABLE, "unavailable"


class Unimplemented(ServeError):
    """The protocol has it, this version of Kedge has not."""

    status, reason = Status.UNIMPLEMENTED, "unimplemented"


class Unauthenticated(ServeError):
    """A token is required and none, or an unknown one, was sent."""

    status, reason = Status.UNAUTHENTICATED, "unauthenticated"


class PermissionDenied(ServeError):
    """The caller is known, but its role does not allow the method."""

    status, reason = Status.PERMISSION_DENIED, "permission_denied"


class Internal(ServeError):
    """A bug of ours, told without detail."""

    status, reason = Status.INTERNAL, "internal"

    def __init__(self) -> None:
        super().__init__("internal error; the server's log has the traceback")


def error_from_reason(reason: str, message: str) -> ServeError:
    """The error that another process of the server described by its stable reason and text.

    The text is kept as it is, whatever the class makes of its own arguments.
    """
    kind = _BY_REASON.get(reason, Unavailable)
    error = kind.__new__(kind)
    Exception.__init__(error, message)
    return error


_BY_REASON = {error.reason: error for error in ServeError.__subclasses__()}
