"""How an exception in a handler becomes the body {"error": "..."} of an answer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from kedge.control.http.errors import HttpError, http_status_of
from kedge.control.http.infer_response import to_json
from kedge.control.http.limits import ERROR_CHARS_MAX
from kedge.core.errors import Internal, ServeError

# What nginx logs for a client that closed its connection; nobody reads the answer.
CLIENT_CLOSED_REQUEST = 499


async def _refuse(request: Request, error: Exception) -> Response:
    match error:
        case ClientDisconnect():
            return Response(status_code=CLIENT_CLOSED_REQUEST)
        case HttpError():
            return error_response(error.http_status, str(error))
        case ServeError():
            return error_response(http_status_of(error.status), str(error))
        case HTTPException():
            # Starlette's own: no such route (404), another method (405).
            return error_response(error.status_code, error.detail, error.headers)
        case _:
            # The traceback is logged by uvicorn, to which Starlette raises it again.
            return error_response(500, str(Internal()))


def error_response(
    http_status: int, message: str, headers: Mapping[str, str] | None = None
) -> Response:
    if len(message) > ERROR_CHARS_MAX:
        message = message[:ERROR_CHARS_MAX] + "…"
    body = to_json({"error": message})
    return Response(body, http_status, headers, media_type="application/json")


REFUSALS: Mapping[Any, Callable[[Request, Exception], Awaitable[Response]]] = dict.fromkeys(
    (ClientDisconnect, HttpError, ServeError, HTTPException, Exception), _refuse
)
