"""The model repository over HTTP: index, load and unload."""

from __future__ import annotations

import base64
from collections.abc import Mapping

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from kedge import proto
from kedge.control.http.access import refuse_remote_control
from kedge.control.http.caller import Caller
from kedge.control.http.infer_response import to_json
from kedge.control.http.json_fields import checked, optional, parsed_object
from kedge.control.http.limits import LOAD_S_MAX
from kedge.control.http.plain import plain
from kedge.core.addressing import INT64_MAX
from kedge.core.errors import InvalidRequest


class Repository:
    """Handlers. control_from_loopback_only: load and unload answer this machine's programs only."""

    def __init__(self, caller: Caller, control_from_loopback_only: bool) -> None:
        self._caller = caller
        self._control_from_loopback_only = control_from_loopback_only

    def routes(self) -> list[Route]:
        """With and without the name of a repository; the gateway refuses one, as Triton does."""
        return [
            Route(f"/v2/repository{name}{path}", handler, methods=["POST"])
            for path, handler in (
                ("/index", self._index),
                ("/models/{model}/load", self._load),
                ("/models/{model}/unload", self._unload),
            )
            for name in ("", "/{repository}")
        ]

    async def _index(self, request: Request) -> Response:
        message = proto.RepositoryIndexRequest(repository_name=_repository(request))
        async with self._caller.bodies.read(request) as body:
            with parsed_object(body or b"{}") as document:
                message.ready = optional("request", document, "ready", False)
        reply = proto.RepositoryIndexResponse
        answer = await self._caller.ask(request, "RepositoryIndex", message, reply)
        # As Triton does, what is empty is left out: a model never loaded has only a name.
        entries = [
            {key: value for key, value in plain(entry).items() if value} for entry in answer.models
        ]
        return Response(to_json(entries), media_type="application/json")

    async def _load(self, request: Request) -> Response:
        self._refuse_remote(request)
        message = proto.RepositoryModelLoadRequest(
            repository_name=_repository(request), model_name=request.path_params["model"]
        )
        reply = proto.RepositoryModelLoadResponse
        async with self._caller.bodies.read(request) as body:
            _set_parameters(message.parameters, body)
            rpc = "RepositoryModelLoad"
            await self._caller.ask(request, rpc, message, reply, LOAD_S_MAX)
        return Response(media_type="application/json")

    async def _unload(self, request: Request) -> Response:
        self._refuse_remote(request)
        message = proto.RepositoryModelUnloadRequest(
            repository_name=_repository(request), model_name=request.path_params["model"]
        )
        reply = proto.RepositoryModelUnloadResponse
        async with self._caller.bodies.read(request) as body:
            _set_parameters(message.parameters, body)
        await self._caller.ask(request, "RepositoryModelUnload", message, reply)
        return Response(media_type="application/json")

    def _refuse_remote(self, request: Request) -> None:
        if self._control_from_loopback_only:
            peer = request.client.host if request.client else None
            refuse_remote_control(peer, request.headers)


def _repository(request: Request) -> str:
    return str(request.path_params.get("repository", ""))


def _set_parameters(target: Mapping[str, proto.ModelRepositoryParameter], body: bytes) -> None:
    """Which parameters there are is the gateway's to say; only files are base64 in JSON."""
    with parsed_object(body or b"{}") as document:
        parameters = optional("request", document, "parameters", dict[str, object]())
        for key, value in parameters.items():
            where = f"parameter '{checked('parameters', key, str)}'"
            _set_parameter(target[key], where, value, is_file=key.startswith("file:"))


def _set_parameter(
    target: proto.ModelRepositoryParameter, where: str, value: object, *, is_file: bool
) -> None:
    if isinstance(value, bool):
        target.bool_param = value
    elif isinstance(value, int) and -INT64_MAX <= value <= INT64_MAX:
        target.int64_param = value
    elif not is_file:
        target.string_param = checked(where, value, str)
    else:
        try:
            target.bytes_param = base64.b64decode(checked(where, value, str), validate=True)
        except ValueError as error:
            raise InvalidRequest(f"{where}: expected base64: {error}") from None
