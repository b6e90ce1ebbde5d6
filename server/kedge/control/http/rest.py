"""The routes of the KServe v2 REST protocol, each one gRPC call to the gateway, and /metrics.

Not here: the repository (`repository.py`), what an infer request looks like (`infer_request.py`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple

from google.protobuf.message import Message
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from kedge import proto
from kedge.control.http.caller import Caller
from kedge.control.http.infer_request import read_infer_request
from kedge.control.http.infer_response import to_json, write_infer_response
from kedge.control.http.plain import plain
from kedge.control.http.refusals import REFUSALS, error_response
from kedge.control.http.repository import Repository
from kedge.core.errors import InvalidRequest

Handler = Callable[[Request], Awaitable[Response]]
RenderMetrics = Callable[[bytes], str]

JSON_LENGTH_HEADER = "inference-header-content-length"
METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def rest_app(
    caller: Caller, render_metrics: RenderMetrics, control_from_loopback_only: bool
) -> Starlette:
    """The application of the HTTP port.

    render_metrics: from the gateway's counters (`control/snapshot.py`) to the Prometheus text.
    """
    described = [
        Route(path, _asking(caller, question))
        for question in QUESTIONS
        for path in _paths(question.path)
    ]
    infer = [
        Route(path, _inferring(caller), methods=["POST"])
        for path in _paths("/v2/models/{name}/infer")
    ]
    repository = Repository(caller, control_from_loopback_only).routes()
    return _application([*described, *infer, *repository, _metrics_route(caller, render_metrics)])


def metrics_app(caller: Caller, render_metrics: RenderMetrics) -> Starlette:
    """The application of the metrics port."""
    return _application([_metrics_route(caller, render_metrics)])


class Question(NamedTuple):
    """A GET request without a body. The path's {name} and {version} are fields of the message."""

    path: str
    rpc: str
    request: type[Message]
    reply: type[Message]
    write: Callable[[Any], Response]


def _json(value: object) -> Response:
    return Response(to_json(value), media_type="application/json")


def _yes(holds: bool, refusal: str) -> Response:
    # 400, not 503: so KServe's protocol and Triton have it; 503 is "nobody there to ask".
    return Response() if holds else error_response(400, refusal)


# In this order: the first match answers, as in Triton, where no model can be called "stats".
QUESTIONS = (
    Question(
        "/v2",
        "ServerMetadata",
        proto.ServerMetadataRequest,
        proto.ServerMetadataResponse,
        lambda answer: _json(plain(answer)),
    ),
    Question(
        "/v2/health/live",
        "ServerLive",
        proto.ServerLiveRequest,
        proto.ServerLiveResponse,
        lambda answer: _yes(answer.live, "the server is not live"),
    ),
    Question(
        "/v2/health/ready",
        "ServerReady",
        proto.ServerReadyRequest,
        proto.ServerReadyResponse,
        lambda answer: _yes(answer.ready, "the server is not ready"),
    ),
    Question(
        "/v2/models/stats",
        "ModelStatistics",
        proto.ModelStatisticsRequest,
        proto.ModelStatisticsResponse,
        lambda answer: _json(plain(answer)),
    ),
    Question(
        "/v2/models/{name}",
        "ModelMetadata",
        proto.ModelMetadataRequest,
        proto.ModelMetadataResponse,
        lambda answer: _json(plain(answer)),
    ),
    Question(
        "/v2/models/{name}/ready",
        "ModelReady",
        proto.ModelReadyRequest,
        proto.ModelReadyResponse,
        lambda answer: _yes(answer.ready, "Model version not ready"),
    ),
    Question(
        "/v2/models/{name}/config",
        "ModelConfig",
        proto.ModelConfigRequest,
        proto.ModelConfigResponse,
        lambda answer: _json(plain(answer.config)),
    ),
    Question(
        "/v2/models/{name}/stats",
        "ModelStatistics",
        proto.ModelStatisticsRequest,
        proto.ModelStatisticsResponse,
        lambda answer: _json(plain(answer)),
    ),
)


def _paths(path: str) -> Sequence[str]:
    """With and without a version, where there is a model."""
    model = "/v2/models/{name}"
    if not path.startswith(model):
        return [path]
    return [path, path.replace(model, model + "/versions/{version}")]


def _asking(caller: Caller, question: Question) -> Handler:
    async def answer(request: Request) -> Response:
        message = question.request(**request.path_params)
        return question.write(await caller.ask(request, question.rpc, message, question.reply))

    return answer


def _inferring(caller: Caller) -> Handler:
    async def infer(request: Request) -> Response:
        model, version = request.path_params["name"], request.path_params.get("version", "")
        async with caller.bodies.read(request) as body:
            call = read_infer_request(model, version, body, _json_bytes(request))
            reply = proto.ModelInferResponse
            response = await caller.ask(request, "ModelInfer", call.message, reply)
        body, json_bytes = write_infer_response(response, call)
        if json_bytes is None:
            return Response(body, media_type="application/json")
        headers = {JSON_LENGTH_HEADER: str(json_bytes)}
        return Response(body, media_type="application/octet-stream", headers=headers)

    return infer


def _json_bytes(request: Request) -> int | None:
    text = request.headers.get(JSON_LENGTH_HEADER)
    if text is None:
        return None
    # 9 digits are more than any body has; int() would take signs, blanks and underscores too.
    if not (text.isascii() and text.isdecimal() and len(text) <= 9):
        raise InvalidRequest(
            f"Inference-Header-Content-Length: expected a number, got '{text:.40}'"
        )
    return int(text)


def _metrics_route(caller: Caller, render_metrics: RenderMetrics) -> Route:
    async def metrics(request: Request) -> Response:
        message = proto.MetricsRequest()
        answer = await caller.ask(request, proto.CONTROL_METRICS, message, proto.MetricsReply)
        return Response(render_metrics(answer.snapshot_json), media_type=METRICS_TYPE)

    return Route("/metrics", metrics)


def _application(routes: Sequence[Route]) -> Starlette:
    app = Starlette(routes=routes, exception_handlers=REFUSALS)
    # A path with a slash at its end is another path, 404 as in Triton, and no redirect.
    app.router.redirect_slashes = False
    return app
