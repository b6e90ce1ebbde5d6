"""The unary RPCs besides inference, in and out as bytes; tritonclient's messages are the oracle."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.message import Message
from tritonclient.grpc import service_pb2 as pb

from kedge import __version__, proto
from kedge.control.rpc import ROLES_OF, ControlRpc
from kedge.core.errors import (
    Internal,
    InvalidRequest,
    LoadFailed,
    ServeError,
    Unimplemented,
    UnknownModel,
    UnparsableMessage,
)
from kedge.core.values import Catalog, IndexEntry, ModelRef, ServedVersion, VersionState
from kedge.models.repository import RepositoryModel
from support.fakes import DoublingExecutor
from support.repositories import CONFIG, write_model

OnDone = Callable[[ServeError | None], None]
SERVICE = "/inference.GRPCInferenceService/"
HEALTH_CHECK = "/grpc.health.v1.Health/Check"
METRICS = "/kedge.control.v1.Control/Metrics"
NOT_BUILT = [
    "SystemSharedMemoryStatus",
    "SystemSharedMemoryRegister",
    "SystemSharedMemoryUnregister",
    "CudaSharedMemoryStatus",
    "CudaSharedMemoryRegister",
    "CudaSharedMemoryUnregister",
    "TraceSetting",
    "LogSettings",
]
BUILT = ROLES_OF.keys() - {SERVICE + name for name in NOT_BUILT}


class FakeModelControl:
    """A registry that holds still: what it is asked to do waits in `pending` for the test."""

    def __init__(self) -> None:
        self.catalog = Catalog()
        self.down: set[ModelRef] = set()
        self.ready = True
        self.entries: Sequence[IndexEntry] = ()
        self.pending: list[tuple[str, Mapping[str, object] | None, OnDone]] = []

    def is_serving(self, ref: ModelRef) -> bool:
        return ref not in self.down

    def index(self) -> Sequence[IndexEntry]:
        return self.entries

    def load(self, name: str, parameters: Mapping[str, object], on_done: OnDone) -> None:
        self.pending.append((name, parameters, on_done))

    def unload(self, name: str, on_done: OnDone) -> None:
        self.pending.append((name, None, on_done))


class Desk:
    """A ControlRpc and everything around it that a test sets."""

    def __init__(self) -> None:
        self.control = FakeModelControl()
        self.is_draining = False
        self.process_counters: Callable[[], Mapping[str, object]] = dict
        self.rpc = ControlRpc(self.control, lambda: self.is_draining, self._count_process)

    def _count_process(self) -> Mapping[str, object]:
        return self.process_counters()

    def serve(self, root: Path, name: str, config: str, versions: Sequence[int]) -> None:
        """Put a model of a repository into the catalog, all its versions."""
        directory = write_model(root, name, config + "version_policy { all {} }", versions)
        served = {
            manifest.ref.version: ServedVersion(manifest, DoublingExecutor())
            for manifest in RepositoryModel(directory).manifests(None)
        }
        self.control.catalog = Catalog({**self.control.catalog.models, name: served})

    def start(self, path: str, payload: bytes) -> list[bytes | ServeError]:
        """The answers so far; a later one appears in the same list."""
        answers: list[bytes | ServeError] = []
        self.rpc.handle(list(ROLES_OF).index(path), payload, answers.append)
        return answers

    def ask(self, path: str, payload: bytes) -> bytes:
        (answer,) = self.start(path, payload)
        assert isinstance(answer, bytes), answer
        return answer

    def call(self, method: str, /, **fields: Any) -> Any:
        """The parsed answer of an inference service method."""
        request: Message = getattr(pb, f"{method}Request")(**fields)
        response: type[Message] = getattr(pb, f"{method}Response")
        return response.FromString(self.ask(SERVICE + method, request.SerializeToString()))

    def refusal(self, method: str, /, **fields: Any) -> ServeError:
        request: Message = getattr(pb, f"{method}Request")(**fields)
        (answer,) = self.start(SERVICE + method, request.SerializeToString())
        assert isinstance(answer, ServeError), answer
        return answer


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    """Serves `flights` 1, 3 and 10 with batches, `whole` 1 without, and `gone` no longer."""
    desk = Desk()
    desk.serve(tmp_path, "flights", CONFIG, [1, 3, 10])
    desk.serve(
        tmp_path,
        "whole",
        'input { name: "a" data_type: TYPE_STRING dims: [ -1, 2 ] }'
        'output { name: "b" data_type: TYPE_INT64 dims: [ 1 ] }',
        [1],
    )
    desk.control.catalog = Catalog({**desk.control.catalog.models, "gone": {}})
    return desk


# Health


@pytest.mark.parametrize(
    ("ready", "draining", "expected"),
    [(True, False, True), (False, False, False), (True, True, False), (False, True, False)],
)
def test_ready_means_that_all_models_are_and_nothing_drains(
    desk: Desk, ready: bool, draining: bool, expected: bool
) -> None:
    desk.control.ready, desk.is_draining = ready, draining
    assert desk.call("ServerReady").ready is expected
    # Field 1, varint: SERVING = 1, NOT_SERVING = 2, whatever the service name.
    status = b"\x08\x01" if expected else b"\x08\x02"
    assert desk.ask(HEALTH_CHECK, b"") == status
    assert desk.ask(HEALTH_CHECK, b"\x0a\x06nobody") == status
    assert desk.call("ServerLive").live


@pytest.mark.parametrize(
    ("name", "version", "ready"),
    [
        ("flights", "", True),
        ("flights", "3", True),
        ("flights", "4", False),
        ("flights", "0", False),
        ("nobody", "", False),
        ("", "", False),
        ("gone", "", False),
    ],
)
def test_a_model_is_ready_or_not_and_never_not_found(
    desk: Desk, name: str, version: str, ready: bool
) -> None:
    assert desk.call("ModelReady", name=name, version=version).ready is ready


@pytest.mark.parametrize("name", ["flights", "nobody"])
def test_readiness_of_a_version_that_is_no_number_is_invalid(desk: Desk, name: str) -> None:
    assert isinstance(desk.refusal("ModelReady", name=name, version="x"), InvalidRequest)


# Description


def test_the_server_says_that_it_is_triton_and_only_what_it_has(desk: Desk) -> None:
    metadata = desk.call("ServerMetadata")
    assert metadata.name == "triton"
    assert metadata.version == __version__
    assert "model_repository" in metadata.extensions
    assert not {"classification", "sequence", "system_shared_memory"} & {*metadata.extensions}


def test_metadata_shows_the_batch_dimension_and_all_versions(desk: Desk) -> None:
    metadata = desk.call("ModelMetadata", name="flights")
    assert metadata == pb.ModelMetadataResponse(
        name="flights",
        versions=["1", "3", "10"],
        platform="pytorch_libtorch",
        inputs=[{"name": "x", "datatype": "FP32", "shape": [-1, 4]}],
        outputs=[{"name": "y", "datatype": "FP32", "shape": [-1, 2]}],
    )


def test_metadata_of_one_version_lists_only_that(desk: Desk) -> None:
    assert desk.call("ModelMetadata", name="flights", version="3").versions == ["3"]


def test_metadata_of_a_model_without_batch_has_whole_shapes(desk: Desk) -> None:
    (tensor,) = desk.call("ModelMetadata", name="whole").inputs
    assert (tensor.name, tensor.datatype, [*tensor.shape]) == ("a", "BYTES", [-1, 2])


def test_the_configuration_is_the_completed_one(desk: Desk) -> None:
    config = desk.call("ModelConfig", name="flights", version="1").config
    assert config.name == "flights"
    assert config.max_batch_size == 8
    assert config.version_policy.HasField("all")
    assert config.default_model_filename == "model.pt"


@pytest.mark.parametrize("method", ["ModelMetadata", "ModelConfig"])
@pytest.mark.parametrize(
    ("name", "version", "kind", "text"),
    [
        ("nobody", "", UnknownModel, "Request for unknown model: 'nobody' is not found"),
        ("gone", "", UnknownModel, "Request for unknown model: 'gone' has no available versions"),
        ("flights", "2", UnknownModel, "Request for unknown model: 'flights' version 2 is not"),
        ("flights", "x", InvalidRequest, "failed to get model version from specified version"),
    ],
)
def test_what_is_not_served_is_told_as_triton_does(
    desk: Desk, method: str, name: str, version: str, kind: type[ServeError], text: str
) -> None:
    error = desk.refusal(method, name=name, version=version)
    assert isinstance(error, kind)
    assert str(error).startswith(text)


# Statistics


def test_statistics_are_those_of_the_version(desk: Desk) -> None:
    counted = desk.control.catalog.models["flights"][3].statistics
    counted.count_batch(
        requests=2,
        rows=5,
        total_ns=900,
        queue_ns=300,
        input_ns=10,
        infer_ns=20,
        output_ns=30,
        wall_ms=1_700_000_000_000,
    )
    counted.count_failure("BACKEND", requests=1, ns=50)
    (stats,) = desk.call("ModelStatistics", name="flights", version="3").model_stats
    assert stats == pb.ModelStatistics(
        name="flights",
        version="3",
        last_inference=1_700_000_000_000,
        inference_count=5,
        execution_count=1,
        inference_stats={
            "success": {"count": 2, "ns": 900},
            "fail": {"count": 1, "ns": 50},
            "queue": {"count": 2, "ns": 300},
            "compute_input": {"count": 2, "ns": 20},
            "compute_infer": {"count": 2, "ns": 40},
            "compute_output": {"count": 2, "ns": 60},
            "cache_hit": {},
            "cache_miss": {},
        },
        batch_stats=[
            {
                "batch_size": 5,
                "compute_input": {"count": 1, "ns": 10},
                "compute_infer": {"count": 1, "ns": 20},
                "compute_output": {"count": 1, "ns": 30},
            }
        ],
    )


@pytest.mark.parametrize(
    ("name", "version", "refs"),
    [
        ("", "", ["flights:1", "flights:3", "flights:10", "whole:1"]),
        ("flights", "", ["flights:1", "flights:3", "flights:10"]),
        ("flights", "10", ["flights:10"]),
    ],
)
def test_statistics_without_name_or_version_are_of_everything(
    desk: Desk, name: str, version: str, refs: list[str]
) -> None:
    found = desk.call("ModelStatistics", name=name, version=version).model_stats
    assert [f"{stats.name}:{stats.version}" for stats in found] == refs


@pytest.mark.parametrize(
    ("name", "version", "text"),
    [
        ("nobody", "", "requested model 'nobody' is not available"),
        ("gone", "", "requested model 'gone' is not available"),
        ("flights", "2", "requested model version is not available for model 'flights'"),
        ("", "x", "failed to get model version from specified version string 'x'"),
    ],
)
def test_statistics_of_what_is_not_served_are_an_invalid_argument(
    desk: Desk, name: str, version: str, text: str
) -> None:
    error = desk.refusal("ModelStatistics", name=name, version=version)
    assert isinstance(error, InvalidRequest)
    assert str(error).startswith(text)


def test_the_snapshot_has_every_counter_as_plain_json(desk: Desk) -> None:
    desk.process_counters = lambda: {"queue_bytes": 7}
    counted = desk.control.catalog.models["flights"][3].statistics
    counted.count_batch(
        requests=1, rows=4, total_ns=9, queue_ns=3, input_ns=1, infer_ns=2, output_ns=3, wall_ms=1
    )
    counted.count_refusal("queue_full")
    counted.requests_pending = 6
    # MetricsReply has one field: 1, bytes.
    snapshot = json.loads(proto.MetricsReply.FromString(desk.ask(METRICS, b"")).snapshot_json)
    assert snapshot["ready"] is True
    assert snapshot["draining"] is False
    assert snapshot["process"] == {"queue_bytes": 7}
    refs = [(model["name"], model["version"]) for model in snapshot["models"]]
    assert refs == [("flights", "1"), ("flights", "3"), ("flights", "10"), ("whole", "1")]
    statistics = snapshot["models"][1]["statistics"]
    assert statistics["success"] == {"count": 1, "ns": 9}
    assert statistics["batch_sizes"]["4"]["compute_infer"] == {"count": 1, "ns": 2}
    assert statistics["refused"] == {"queue_full": 1}
    assert statistics["requests_pending"] == 6


# Repository


def test_the_index_has_states_and_reasons_as_triton_writes_them(desk: Desk) -> None:
    desk.control.entries = [
        IndexEntry("a", "1", VersionState.READY),
        IndexEntry("a", "2", VersionState.UNAVAILABLE, "unloaded"),
        IndexEntry("never", "", None),
    ]
    assert desk.call("RepositoryIndex") == pb.RepositoryIndexResponse(
        models=[
            {"name": "a", "version": "1", "state": "READY"},
            {"name": "a", "version": "2", "state": "UNAVAILABLE", "reason": "unloaded"},
            {"name": "never"},
        ]
    )
    (ready,) = desk.call("RepositoryIndex", ready=True).models
    assert (ready.name, ready.version) == ("a", "1")


@pytest.mark.parametrize(
    "method", ["RepositoryIndex", "RepositoryModelLoad", "RepositoryModelUnload"]
)
def test_a_repository_cannot_be_named(desk: Desk, method: str) -> None:
    error = desk.refusal(method, repository_name="r")
    assert isinstance(error, Unimplemented)
    assert str(error) == "'repository_name' specification is not supported"
    assert desk.control.pending == []


def test_load_hands_its_parameters_over_and_answers_when_done(desk: Desk) -> None:
    request = pb.RepositoryModelLoadRequest(model_name="flights")
    request.parameters["config"].string_param = "{}"
    request.parameters["file:1/model.pt"].bytes_param = b"\0"
    request.parameters["number"].int64_param = 3
    request.parameters["flag"].bool_param = False
    request.parameters["nothing"].SetInParent()
    answers = desk.start(SERVICE + "RepositoryModelLoad", request.SerializeToString())
    assert answers == []
    ((name, parameters, on_done),) = desk.control.pending
    assert name == "flights"
    assert parameters == {
        "config": "{}",
        "file:1/model.pt": b"\0",
        "number": 3,
        "flag": False,
        "nothing": None,
    }
    on_done(None)
    assert answers == [b""]


def test_a_load_that_fails_answers_with_its_error(desk: Desk) -> None:
    answers = desk.start(SERVICE + "RepositoryModelLoad", b"")
    error = LoadFailed("load failed for model 'x'")
    desk.control.pending[0][2](error)
    assert answers == [error]


def test_unload_ignores_parameters_it_does_not_know(desk: Desk) -> None:
    request = pb.RepositoryModelUnloadRequest(model_name="flights")
    request.parameters["unload_dependents"].bool_param = True
    request.parameters["colour"].string_param = "red"
    answers = desk.start(SERVICE + "RepositoryModelUnload", request.SerializeToString())
    desk.control.pending[0][2](None)
    assert desk.control.pending[0][0] == "flights"
    assert answers == [b""]


def test_unload_dependents_must_be_a_bool(desk: Desk) -> None:
    parameters = {"unload_dependents": pb.ModelRepositoryParameter(int64_param=1)}
    error = desk.refusal("RepositoryModelUnload", model_name="flights", parameters=parameters)
    assert isinstance(error, InvalidRequest)
    assert str(error) == (
        "invalid value type for 'unload_dependents' parameter, expected bool_param."
    )


# Mistakes


@pytest.mark.parametrize(
    "path", [path for path in ROLES_OF if path[len(SERVICE) :] not in NOT_BUILT]
)
def test_bytes_that_are_no_message_are_internal(desk: Desk, path: str) -> None:
    (answer,) = desk.start(path, b"\xff\xff\xff")
    assert isinstance(answer, UnparsableMessage)
    assert path in str(answer)


@pytest.mark.parametrize("name", NOT_BUILT)
def test_what_is_not_built_yet_says_so(desk: Desk, name: str) -> None:
    (answer,) = desk.start(SERVICE + name, b"")
    assert isinstance(answer, Unimplemented)
    assert str(answer) == f"{name} is not in this version of Kedge"


def test_a_bug_is_internal_without_detail(desk: Desk) -> None:
    def fail() -> Mapping[str, object]:
        raise ZeroDivisionError("secret")

    desk.process_counters = fail
    (answer,) = desk.start(METRICS, b"")
    assert isinstance(answer, Internal)
    assert "secret" not in str(answer)


# Roles


def test_every_unary_method_of_the_protocol_has_its_roles() -> None:
    methods = {
        SERVICE + method.name
        for method in pb.DESCRIPTOR.services_by_name["GRPCInferenceService"].methods
        if method.name not in ("ModelInfer", "ModelStreamInfer")
    }
    assert ROLES_OF.keys() == methods | {HEALTH_CHECK, METRICS}


@pytest.mark.parametrize(
    ("roles", "names"),
    [
        ({"open"}, ["ServerLive", "ServerReady"]),
        ({"infer", "read"}, ["ModelReady", "ServerMetadata", "ModelMetadata", "ModelConfig"]),
        ({"read"}, ["ModelStatistics", "RepositoryIndex"]),
        (
            {"operate"},
            ["RepositoryModelLoad", "RepositoryModelUnload", "TraceSetting", "LogSettings"],
        ),
    ],
)
def test_each_method_needs_the_least_role(roles: set[str], names: list[str]) -> None:
    assert {name: ROLES_OF[SERVICE + name] for name in names} == dict.fromkeys(names, roles)


def test_probes_need_no_role_and_metrics_are_for_readers() -> None:
    assert ROLES_OF[HEALTH_CHECK] == {"open"}
    assert ROLES_OF[METRICS] == {"read"}
