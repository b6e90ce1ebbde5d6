"""Every unary RPC that is no inference: who may call it, and how it is answered.

Bytes in, bytes or a ServeError out. Not here: what the answers contain (`answers.py`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from google.protobuf.message import DecodeError, Message

from kedge import proto
from kedge.control import answers
from kedge.control.snapshot import snapshot_json
from kedge.core.addressing import find_version
from kedge.core.errors import (
    Internal,
    InvalidRequest,
    ServeError,
    Unimplemented,
    UnknownModel,
    UnparsableMessage,
)
from kedge.core.ports import ModelControl

log = logging.getLogger("kedge.control")

Answer = Callable[[bytes | ServeError], None]
OnDone = Callable[[ServeError | None], None]
# What a handler returns when its answer comes later: started with where to report the end.
Later = Callable[[OnDone], None]

# A role has its own rights and those of no other, except `operate`, which has all (front/auth.py).
OPEN = frozenset({"open"})
DESCRIBE = frozenset({"infer", "read"})
INFER = frozenset({"infer"})
READ = frozenset({"read"})
OPERATE = frozenset({"operate"})


class ControlRpc:
    """Answers the methods of `ROLES_OF`.

    Called under the lock of whoever writes the statistics, so that a reader sees no half batch.
    process_counters: JSON values about the process as a whole, for the metrics.
    """

    def __init__(
        self,
        control: ModelControl,
        is_draining: Callable[[], bool],
        process_counters: Callable[[], Mapping[str, object]],
    ) -> None:
        self._control = control
        self._is_draining = is_draining
        self._process_counters = process_counters

    def handle(self, method: int, payload: bytes, answer: Answer) -> None:
        """Answer one call. method: index in `ROLES_OF`. `answer` is called once, possibly later and
        from another thread; nothing is raised.
        """
        called = _METHODS[method]
        try:
            result = called.handler(self, _parse(called, payload))
        except ServeError as error:
            answer(error)
        except Exception:
            log.exception("control.failed %s", called.path)
            answer(Internal())
        else:
            if isinstance(result, Message):
                answer(result.SerializeToString())
            else:
                # Only loads and unloads answer later, and their answers are empty messages.
                result(lambda error: answer(b"" if error is None else error))

    @property
    def _is_ready(self) -> bool:
        return self._control.ready and not self._is_draining()

    # Health

    def _server_live(self, request: proto.ServerLiveRequest) -> Message:
        return proto.ServerLiveResponse(live=True)

    def _server_ready(self, request: proto.ServerReadyRequest) -> Message:
        return proto.ServerReadyResponse(ready=self._is_ready)

    def _model_ready(self, request: proto.ModelReadyRequest) -> Message:
        try:
            served = find_version(self._control.catalog, request.name, request.version)
        except UnknownModel:
            return proto.ModelReadyResponse(ready=False)
        return proto.ModelReadyResponse(ready=self._control.is_serving(served.ref))

    def _health_check(self, request: proto.HealthCheckRequest) -> Message:
        status = proto.HealthCheckResponse.SERVING
        if not self._is_ready:
            status = proto.HealthCheckResponse.NOT_SERVING
        return proto.HealthCheckResponse(status=status)

    # Description

    def _server_metadata(self, request: proto.ServerMetadataRequest) -> Message:
        return answers.server_metadata()

    def _model_metadata(self, request: proto.ModelMetadataRequest) -> Message:
        return answers.model_metadata(self._control.catalog, request.name, request.version)

    def _model_config(self, request: proto.ModelConfigRequest) -> Message:
        return answers.model_config(self._control.catalog, request.name, request.version)

    def _model_statistics(self, request: proto.ModelStatisticsRequest) -> Message:
        return answers.model_statistics(self._control.catalog, request.name, request.version)

    def _metrics(self, request: proto.MetricsRequest) -> Message:
        snapshot = snapshot_json(
            self._control.catalog,
            ready=self._is_ready,
            draining=self._is_draining(),
            process=self._process_counters(),
        )
        return proto.MetricsReply(snapshot_json=snapshot)

    # Repository

    def _repository_index(self, request: proto.RepositoryIndexRequest) -> Message:
        _refuse_repository_name(request.repository_name)
        return answers.repository_index(self._control.index(), ready_only=request.ready)

    def _repository_load(self, request: proto.RepositoryModelLoadRequest) -> Later:
        _refuse_repository_name(request.repository_name)
        parameters = {key: _value(value) for key, value in request.parameters.items()}
        return lambda on_done: self._control.load(request.model_name, parameters, on_done)

    def _repository_unload(self, request: proto.RepositoryModelUnloadRequest) -> Later:
        _refuse_repository_name(request.repository_name)
        # No model depends on another yet, so that the value makes no difference.
        dependents = request.parameters.get("unload_dependents")
        if dependents is not None and not isinstance(_value(dependents), bool):
            raise InvalidRequest(
                "invalid value type for 'unload_dependents' parameter, expected bool_param."
            )
        return lambda on_done: self._control.unload(request.model_name, on_done)


class _Method(NamedTuple):
    path: str
    request: type[Message] | None
    roles: frozenset[str]
    handler: Callable[[ControlRpc, Any], Message | Later]


def _parse(called: _Method, payload: bytes) -> Message | None:
    if called.request is None:
        return None
    try:
        return called.request.FromString(payload)
    except DecodeError:
        raise UnparsableMessage(
            f"{called.path}: the message is no {called.request.DESCRIPTOR.full_name}"
        ) from None


def _refuse_repository_name(name: str) -> None:
    if name:
        raise Unimplemented("'repository_name' specification is not supported")


def _value(parameter: proto.ModelRepositoryParameter) -> object:
    choice = parameter.WhichOneof("parameter_choice")
    return None if choice is None else getattr(parameter, choice)


def _not_in_this_version(name: str, roles: frozenset[str]) -> _Method:
    def refuse(control: ControlRpc, request: None) -> Message:
        raise Unimplemented(f"{name} is not in this version of Kedge")

    return _Method(proto.INFERENCE_SERVICE + name, None, roles, refuse)


def _inference(
    name: str,
    request: type[Message],
    roles: frozenset[str],
    handler: Callable[[ControlRpc, Any], Message | Later],
) -> _Method:
    return _Method(proto.INFERENCE_SERVICE + name, request, roles, handler)


_RPC = ControlRpc
_METHODS = (
    _Method(proto.HEALTH_CHECK, proto.HealthCheckRequest, OPEN, _RPC._health_check),
    _Method(proto.CONTROL_METRICS, proto.MetricsRequest, READ, _RPC._metrics),
    _inference("ServerLive", proto.ServerLiveRequest, OPEN, _RPC._server_live),
    _inference("ServerReady", proto.ServerReadyRequest, OPEN, _RPC._server_ready),
    _inference("ModelReady", proto.ModelReadyRequest, DESCRIBE, _RPC._model_ready),
    _inference("ServerMetadata", proto.ServerMetadataRequest, DESCRIBE, _RPC._server_metadata),
    _inference("ModelMetadata", proto.ModelMetadataRequest, DESCRIBE, _RPC._model_metadata),
    _inference("ModelConfig", proto.ModelConfigRequest, DESCRIBE, _RPC._model_config),
    _inference("ModelStatistics", proto.ModelStatisticsRequest, READ, _RPC._model_statistics),
    _inference("RepositoryIndex", proto.RepositoryIndexRequest, READ, _RPC._repository_index),
    _inference(
        "RepositoryModelLoad", proto.RepositoryModelLoadRequest, OPERATE, _RPC._repository_load
    ),
    _inference(
        "RepositoryModelUnload",
        proto.RepositoryModelUnloadRequest,
        OPERATE,
        _RPC._repository_unload,
    ),
    _not_in_this_version("SystemSharedMemoryStatus", INFER),
    _not_in_this_version("SystemSharedMemoryRegister", INFER),
    _not_in_this_version("SystemSharedMemoryUnregister", INFER),
    _not_in_this_version("CudaSharedMemoryStatus", INFER),
    _not_in_this_version("CudaSharedMemoryRegister", INFER),
    _not_in_this_version("CudaSharedMemoryUnregister", INFER),
    _not_in_this_version("TraceSetting", OPERATE),
    _not_in_this_version("LogSettings", OPERATE),
)
# Methods whose answers have the counters of the gateway in them, by index.
COUNTED_METHODS = frozenset(
    index
    for index, method in enumerate(_METHODS)
    if method.handler in (_RPC._model_statistics, _RPC._metrics)
)
# Paths with the roles of which one suffices, in the order of the index that `handle` takes.
ROLES_OF: Mapping[str, frozenset[str]] = {method.path: method.roles for method in _METHODS}
