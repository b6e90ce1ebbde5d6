"""Which HTTP status an error has, and the one error that is not the gateway's."""

from __future__ import annotations

from collections.abc import Mapping

from kedge.core.errors import Status

# Triton's map, with the statuses that it does not have put where HTTP has a word for them.
HTTP_STATUS: Mapping[int, int] = {
    Status.INVALID_ARGUMENT: 400,
    Status.UNAUTHENTICATED: 401,
    Status.PERMISSION_DENIED: 403,
    Status.NOT_FOUND: 404,
    Status.RESOURCE_EXHAUSTED: 429,
    Status.INTERNAL: 500,
    Status.UNIMPLEMENTED: 501,
    Status.UNAVAILABLE: 503,
    Status.DEADLINE_EXCEEDED: 504,
}
HTTP_STATUS_OTHER = 400


class HttpError(Exception):
    """An answer that is no success, with its HTTP status: what the gateway refused, or what has a
    meaning in HTTP only. The text goes to the client.
    """

    def __init__(self, http_status: int, message: str) -> None:
        super().__init__(message)
        self.http_status = http_status


def http_status_of(grpc_status: int) -> int:
    """The HTTP status that stands for a gRPC status number."""
    return HTTP_STATUS.get(grpc_status, HTTP_STATUS_OTHER)
