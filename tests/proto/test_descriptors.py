"""Our message definitions against tritonclient's, field by field, and against their sources."""

import ast
import runpy
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.descriptor import Descriptor, EnumDescriptor
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorSet
from tritonclient.grpc import model_config_pb2, service_pb2

import kedge.proto

SOURCES = Path(__file__).parents[2] / "proto"
FILES = {
    "inference": (kedge.proto.ModelInferRequest.DESCRIPTOR.file, service_pb2.DESCRIPTOR),
    "model_config": (kedge.proto.ModelConfig.DESCRIPTOR.file, model_config_pb2.DESCRIPTOR),
}


def committed() -> FileDescriptorSet:
    return FileDescriptorSet.FromString(files(kedge.proto).joinpath("kedge.binpb").read_bytes())


def field_facts(field: Any) -> dict[str, Any]:
    """Everything about a field that shows on the wire, in text format or in JSON."""
    target = field.message_type or field.enum_type
    return {
        "name": field.name,
        "json_name": field.json_name,
        "type": FieldDescriptorProto.Type.Name(field.type),
        "type_name": target.full_name if target else "",
        "repeated": field.is_repeated,
        "packed": field.is_packed,
        "presence": field.has_presence,
        "oneof": field.containing_oneof.name if field.containing_oneof else "",
    }


def message_facts(message: Descriptor) -> dict[str, Any]:
    return {
        "map_entry": message.GetOptions().map_entry,
        "fields": {field.number: field_facts(field) for field in message.fields},
        "messages": {nested.name: message_facts(nested) for nested in message.nested_types},
        "enums": {enum.name: enum_facts(enum) for enum in message.enum_types},
    }


def enum_facts(enum: EnumDescriptor) -> list[tuple[int, str]]:
    return sorted((value.number, value.name) for value in enum.values)


def file_facts(file: Any) -> dict[str, Any]:
    return {
        "package": file.package,
        "messages": {m.name: message_facts(m) for m in file.message_types_by_name.values()},
        "enums": {e.name: enum_facts(e) for e in file.enum_types_by_name.values()},
        "methods": {
            method.full_name: (
                method.input_type.full_name,
                method.output_type.full_name,
                method.client_streaming,
                method.server_streaming,
            )
            for service in file.services_by_name.values()
            for method in service.methods
        },
    }


def test_committed_descriptors_are_those_of_the_sources(tmp_path: Path) -> None:
    runpy.run_path(str(SOURCES / "compile.py"))["run_protoc"](tmp_path)
    fresh = FileDescriptorSet.FromString((tmp_path / "kedge.binpb").read_bytes())
    assert {file.name for file in fresh.file} == {path.name for path in SOURCES.glob("*.proto")}
    assert fresh == committed()


@pytest.mark.parametrize("name", FILES)
def test_every_message_field_enum_and_method_equals_tritonclient(name: str) -> None:
    ours, theirs = FILES[name]
    assert file_facts(ours) == file_facts(theirs)


@pytest.mark.parametrize(
    ("path", "client_streaming", "server_streaming"),
    [
        (kedge.proto.INFERENCE_SERVICE + "ModelInfer", False, False),
        (kedge.proto.INFERENCE_SERVICE + "ModelStreamInfer", True, True),
        (kedge.proto.HEALTH_CHECK, False, False),
        (kedge.proto.HEALTH_WATCH, False, True),
        (kedge.proto.CONTROL_METRICS, False, False),
    ],
)
def test_method_paths_name_methods_of_the_sources(
    path: str, client_streaming: bool, server_streaming: bool
) -> None:
    methods = {
        f"/{file.package}.{service.name}/{method.name}": method
        for file in committed().file
        for service in file.service
        for method in service.method
    }
    method = methods[path]
    assert method.client_streaming is client_streaming
    assert method.server_streaming is server_streaming


def stub_names(body: list[ast.stmt]) -> dict[str, Any]:
    """Classes of a stub, each with its own; everything else that has a type maps to None."""
    names: dict[str, Any] = {}
    for node in body:
        if isinstance(node, ast.ClassDef):
            names[node.name] = stub_names(node.body)
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names[node.target.id] = None
    return names


def assert_stub_has(message: Descriptor, stub: dict[str, Any]) -> None:
    # `global` is a keyword, which no stub can declare; protobuf users reach it by getattr.
    missing = {field.name for field in message.fields} - stub.keys() - {"global"}
    assert not missing, f"{message.full_name}: the stub lacks {missing}"
    assert {enum.name for enum in message.enum_types} <= stub.keys()
    for nested in message.nested_types:
        assert_stub_has(nested, stub[nested.name])


def test_type_stub_declares_every_name_that_the_module_has() -> None:
    stub = stub_names(ast.parse(files(kedge.proto).joinpath("_messages.pyi").read_text()).body)
    runtime = {name: value for name, value in vars(kedge.proto).items() if name in stub}
    assert len(runtime) == len(stub)
    assert {"ModelInferRequest", "ModelConfig", "DataType", "TYPE_FP32"} <= runtime.keys()
    for file in committed().file:
        for message in file.message_type:
            assert_stub_has(runtime[message.name].DESCRIPTOR, stub[message.name])
